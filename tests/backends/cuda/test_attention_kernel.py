"""Attention in tiles against scores written out, in NumPy's float64."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels.attention import Attention, takes_heads

from .conftest import close, random, wide

BANDS = [
    {},
    {"causal": True},
    {"causal": True, "offset": 40},
    {"window": 1, "offset": 2},
    {"window": 30},
    {"causal": True, "window": 13, "offset": 20},
    {"causal": True, "window": 3, "offset": 10**12},  # nobody sees a key
]


def written_out(q, k, v, g, causal=False, window=None, scale=None, offset=0):
    """Return y and the gradients of q, k and v, each head of keys repeated for its queries."""
    b, groups = k.shape[:2]
    share = q.shape[1] // groups
    k, v = k.repeat(share, axis=1), v.repeat(share, axis=1)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    distance = offset + np.arange(q.shape[2])[:, None] - np.arange(k.shape[2])
    seen = np.ones(distance.shape, bool)
    if causal:
        seen &= distance >= 0
    if window is not None:
        seen &= abs(distance) < window
    scores = np.where(seen, scale * q @ k.swapaxes(-1, -2), -np.inf)
    any_seen = seen.any(axis=-1, keepdims=True)
    e = np.exp(scores - np.where(any_seen, scores.max(axis=-1, keepdims=True), 0))
    P = e / np.where(any_seen, e.sum(axis=-1, keepdims=True), 1)
    y = P @ v
    slopes = P * (g @ v.swapaxes(-1, -2) - (g * y).sum(axis=-1, keepdims=True))
    gk, gv = scale * slopes.swapaxes(-1, -2) @ q, P.swapaxes(-1, -2) @ g
    gk, gv = (x.reshape(b, groups, share, *x.shape[2:]).sum(axis=2) for x in (gk, gv))
    return y, scale * slopes @ k, gk, gv


def arrays(b, heads, groups, l, m, d, e, dtype="float64"):
    shapes = (b, heads, l, d), (b, groups, m, d), (b, groups, m, e), (b, heads, l, e)
    return [random(shape, dtype, i) for i, shape in enumerate(shapes)]


def run(cp, q, k, v, g, **attributes):
    """Return the output and the gradients of q, k and v."""
    q, k, v, g = (cp.asarray(x) for x in (q, k, v, g))
    attention = Attention(cp)
    (y,), residuals = attention.forward(q, k, v, **attributes)
    inputs, needs = [q, k, v, None, None], [True, True, True, False, False]
    found = attention.backward((g,), needs, inputs, residuals, **attributes)
    assert found[3] is found[4] is None
    return [y, *found[:3]]


def check(cp, hosts, **attributes):
    found, goals = run(cp, *hosts, **attributes), written_out(*wide(*hosts), **attributes)
    for x, goal in zip(found, goals, strict=True):
        close(x, goal, 16 * hosts[1].shape[2])


def by_steps(cp, x):
    """Return (b, h, l, d) as a view of (b, l, h, d)."""
    return cp.asarray(np.ascontiguousarray(x.swapaxes(-3, -2))).swapaxes(-3, -2)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("lay_cotangent", [by_steps, lambda cp, x: cp.asarray(x)])
def test_heads_that_lie_side_by_side_are_read_as_they_are(cp, order, groups, lay_cotangent):
    hosts = arrays(2, 3, groups, 21, 37, 6, 5)
    band = {"causal": True, "offset": 16}
    q, k, v = (by_steps(cp, x) for x in hosts[:3])
    attention = Attention(cp)
    (y,), residuals = attention.forward(q, k, v, **band)
    inputs, needs = [q, k, v, None, None], [True, True, True, False, False]
    found = attention.backward((lay_cotangent(cp, hosts[3]),), needs, inputs, residuals, **band)
    for x, goal in zip((y, *found[:3]), written_out(*hosts, **band), strict=True):
        assert x.swapaxes(-3, -2).flags.c_contiguous
        close(x, goal, 16 * 37)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("lay", [by_steps, lambda cp, x: cp.asarray(x)])
def test_what_is_added_is_added_once(cp, dtype, lay, alone):
    hosts = arrays(1, 2, 2, 21, 21, 4, 5, dtype)
    y, total, _ = Attention(cp).run(*(lay(cp, x) for x in hosts), causal=True, alone=alone)
    goal, *_ = written_out(*wide(*hosts), causal=True)
    close(total, goal + wide(hosts[3])[0], 16 * 21)
    assert (y is not None) == alone
    if alone:
        close(y, goal, 16 * 21)


@pytest.mark.parametrize("band", [{}, {"causal": True, "window": 9, "offset": 3}], ids=str)
def test_outputs_and_gradients_in_any_order_of_threads(cp, dtype, order, band):
    check(cp, arrays(1, 2, 1, 21, 37, 6, 5, dtype), **band)


@pytest.mark.parametrize("band", BANDS, ids=str)
@pytest.mark.parametrize("lengths", [(4, 1), (5, 9), (31, 66), (70, 33)], ids=str)
def test_bands_and_lengths(cp, lengths, band):
    check(cp, arrays(1, 2, 2, *lengths, 6, 5), **band)


@pytest.mark.parametrize("heads", [(1, 1), (4, 2), (3, 1)], ids=str)
def test_heads_share_keys(cp, heads):
    check(cp, arrays(2, *heads, 20, 30, 6, 5), causal=True, scale=0.3, offset=10)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("widths", [(1, 1), (33, 17), (64, 64), (130, 20)], ids=str)
def test_widths(cp, widths, dtype):
    check(cp, arrays(1, 1, 1, 20, 34, *widths, dtype), causal=True, offset=14)


def test_any_rank(cp):
    hosts = arrays(1, 1, 1, 9, 12, 4, 5)
    for found, goal in zip(
        run(cp, *(x[0, 0] for x in hosts), causal=True),
        written_out(*hosts, causal=True),
        strict=True,
    ):
        close(found, goal[0, 0], 12)


def test_infinite_and_nan_scores(cp):
    q, k, v, _ = arrays(1, 1, 1, 8, 120, 2, 3)
    k[..., 0] = abs(k[..., 0])
    q[0, 0, 1, 0] = -np.inf  # all its scores are -inf
    q[0, 0, 2, 0] = np.inf
    q[0, 0, 3, 1] = np.nan
    y = Attention(cp).forward(*(cp.asarray(x) for x in (q, k, v)))[0][0].get()[0, 0]
    fine = [0, 4, 5, 6, 7]
    goal = written_out(q[:, :, fine], k, v, np.zeros((1, 1, 5, 3)))[0][0, 0]
    np.testing.assert_allclose(y[fine], goal, rtol=1e-12)
    assert np.isnan(y[1:4]).all()


def test_a_hidden_key_may_hold_anything(cp):
    hosts = arrays(1, 1, 1, 40, 40, 4, 4)
    before = [x.get() for x in run(cp, *hosts, causal=True)]
    _, k, v, g = hosts
    k[:, :, 25:] = v[:, :, 25:] = np.nan
    g[:, :, 25:] = 0
    after = run(cp, *hosts, causal=True)[0].get()
    np.testing.assert_array_equal(before[0][:, :, :25], after[:, :, :25])


def test_what_is_left_to_the_definition():
    q, k, v, _ = arrays(1, 4, 2, 8, 9, 4, 4)
    assert takes_heads([q, k, v, None, None], {})
    assert not takes_heads([q, k, v, np.ones((8, 9)), None], {})
    assert not takes_heads([q[:, :, :3], k, v, None, None], {})
    assert not takes_heads([q[:, :3], k, v, None, None], {})
    wide = np.zeros((1, 1, 8, 4000))
    assert not takes_heads([wide, wide, wide, None, None], {})
