"""Attention and its gradient against whole matrices of weights in float64."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.attention import Attention, takes_heads

from .conftest import close, get, put, random, strided, wide


def goals(q, k, v, g, causal=False, window=None, scale=None, offset=0):
    """Return y and the gradients of q, k and v, for (b, heads, length, width)."""
    heads, (l, d), m = q.shape[1] // k.shape[1], q.shape[-2:], k.shape[-2]
    scale = d**-0.5 if scale is None else scale
    K, V = k.repeat(heads, axis=1), v.repeat(heads, axis=1)
    at, to = np.arange(l)[:, None] + offset, np.arange(m)
    seen = np.ones((l, m), bool)
    if causal:
        seen &= to <= at
    if window is not None:
        seen &= abs(at - to) < window
    s = np.where(seen, scale * q @ K.swapaxes(-1, -2), -np.inf)
    top = np.where(seen.any(1, keepdims=True), s.max(-1, keepdims=True), 0)
    e = np.exp(s - top)
    P = e / np.maximum(e.sum(-1, keepdims=True), 1e-300)
    y = P @ V
    dP = g @ V.swapaxes(-1, -2)
    dS = P * (dP - (dP * P).sum(-1, keepdims=True))
    shared = (k.shape[0], k.shape[1], heads)
    gk = (scale * dS.swapaxes(-1, -2) @ q).reshape(*shared, m, d).sum(2)
    gv = (P.swapaxes(-1, -2) @ g).reshape(*shared, m, -1).sum(2)
    return y, scale * dS @ K, gk, gv


def check(runtime, b, heads, groups, l, m, d, e, threads=64, lay=put, **how):
    q, k = random((b, heads, l, d), 1), random((b, groups, m, d), 2)
    v, g = random((b, groups, m, e), 3), random((b, heads, l, e), 4)
    inputs = [lay(runtime, x) for x in (q, k, v)]
    inputs = [x[0] if isinstance(x, list) else x for x in inputs]
    assert takes_heads([*inputs, None, None], how)
    attention = Attention(runtime, threads)
    (y,), residuals = attention.forward(*inputs, **how)
    pulls = put(runtime, g)
    found = attention.backward(pulls, [True] * 3, [*inputs, None, None], residuals, **how)
    assert found[3:] == (None, None)
    for array, goal in zip((y, *found[:3]), goals(*wide(q, k, v, g), **how), strict=True):
        close(runtime, array, goal, m + d)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 4, 1, 1, 5), (2, 2, 2, 37, 37, 8, 12)])
def test_attention_and_its_gradient(runtime, threads, causal, sizes):
    check(runtime, *sizes, threads=threads, causal=causal)


@pytest.mark.parametrize("width", [64, 128, 256])
def test_wide_heads(runtime, width):
    check(runtime, 1, 1, 1, 9, 21, width, width // 2, causal=True, offset=12)


def test_groups_of_heads(runtime):
    check(runtime, 2, 6, 2, 19, 23, 8, 4, lay=strided)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [1, 5, 40])
def test_windows(runtime, causal, window):
    check(runtime, 1, 2, 1, 33, 33, 4, 4, causal=causal, window=window)


def test_more_queries_than_keys_and_a_scale(runtime):
    check(runtime, 1, 1, 1, 40, 5, 4, 4, scale=0.2, causal=True)


def test_who_sees_nothing_gets_zeros(runtime):
    q, k = put(runtime, random((1, 1, 20, 4), 1), random((1, 1, 3, 4), 2))
    attention = Attention(runtime)
    (y,), residuals = attention.forward(q, k, k, window=2)
    assert (get(runtime, y)[0, 0, 4:] == 0).all()
    (gq, *_) = attention.backward([y], [True, False, False], [q, k, k], residuals, window=2)
    assert (get(runtime, gq)[0, 0, 4:] == 0).all()


def test_what_is_not_seen_may_be_no_number(runtime):
    q, k, v = random((1, 1, 8, 4), 1), random((1, 1, 8, 4), 2), random((1, 1, 8, 4), 3)
    k[..., 5:, :] = v[..., 5:, :] = np.nan
    attention, inputs = Attention(runtime), put(runtime, q, k, v)
    (y,), _ = attention.forward(*inputs, causal=True)
    assert np.isfinite(get(runtime, y)[0, 0, :5]).all()
    assert np.isnan(get(runtime, y)[0, 0, 5:]).all()


def test_what_is_left_to_the_definition(runtime):
    q, long = put(runtime, *(np.zeros((1, n, 4), np.float32) for n in (8, 1 << 18)))
    assert takes_heads([q, q, q, None, None], {})
    assert not takes_heads([q, q, q, q, None], {})
    assert not takes_heads([q, long, long, None, None], {})
