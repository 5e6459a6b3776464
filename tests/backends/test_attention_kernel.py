"""The kernel of attention against scores written out, in NumPy's float64."""

from __future__ import annotations

import numpy as np
import pytest

import helixml as hx
from helixml.backends.cpu import kernels
from helixml.backends.dispatch import Kernel, KernelTable

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

TABLE = KernelTable(Kernel(*entry) for entry in kernels.KERNELS)
pytestmark = pytest.mark.usefixtures("instruction_set")

# Queries, keys; below, at and beyond the sizes of panels, runs and items.
LENGTHS = [(4, 1), (5, 9), (31, 33), (96, 97), (192, 192), (200, 400), (389, 97)]
WIDTHS = [(1, 1), (5, 17), (64, 32)]
BANDS = [
    {},
    {"causal": True},
    {"causal": True, "offset": 70},
    {"window": 1, "offset": 2},
    {"window": 50},
    {"causal": True, "window": 13, "offset": 30},
    {"causal": True, "window": 3, "offset": 10**12},  # nobody sees a key
]


def reference(q, k, v, g, causal=False, window=None, scale=None, offset=0):
    """Return y and the gradients of q, k and v, each head of keys repeated for its queries."""
    q, k, v, g = (x.astype(np.float64) for x in (q, k, v, g))
    shape = k.shape
    group = q.shape[1] // shape[1]
    k, v = k.repeat(group, axis=1), v.repeat(group, axis=1)
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    distance = offset + np.arange(q.shape[2])[:, None] - np.arange(k.shape[2])
    seen = np.ones(distance.shape, bool)
    if causal:
        seen &= distance >= 0
    if window is not None:
        seen &= abs(distance) < window
    scores = np.where(seen, scale * q @ k.mT, -np.inf)
    top = scores.max(axis=-1, keepdims=True)
    e = np.exp(scores - np.where(seen.any(axis=-1, keepdims=True), top, 0))
    P = e / np.where(seen.any(axis=-1, keepdims=True), e.sum(axis=-1, keepdims=True), 1)
    y = P @ v
    slopes = P * (g @ v.mT - (g * y).sum(axis=-1, keepdims=True))
    grouped = (*shape[:2], group, *shape[2:3])
    dk = (scale * slopes.mT @ q).reshape(*grouped, -1).sum(axis=2)
    dv = (P.mT @ g).reshape(*grouped, -1).sum(axis=2)
    return y, scale * slopes @ k, dk, dv


def run(q, k, v, g, **attributes):
    """Return the kernel's output and gradients; it must leave what it is given."""
    inputs = [q, k, v, None, None]
    before = [x.copy() for x in (q, k, v, g)]
    (y,), residuals = TABLE["attention"].function(*inputs, **attributes)
    needs = [True, True, True, False, False]
    found = TABLE["attention_vjp"].function((g,), needs, inputs, residuals, **attributes)
    for x, old in zip((q, k, v, g), before, strict=True):
        np.testing.assert_array_equal(x, old)
    assert found[3] is found[4] is None
    return [y, *found[:3]]


def draw(rng, shapes, dtype="float64"):
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def shapes_of(batch, heads, groups, l, m, d, e):
    return (batch, heads, l, d), (batch, groups, m, d), (batch, groups, m, e), (batch, heads, l, e)


def assert_close(found, wanted, dtype):
    for x, exact in zip(found, wanted, strict=True):
        assert x.shape == exact.shape
        assert x.dtype == dtype
        bound = 40 * float(np.finfo(dtype).eps) * max(float(np.abs(exact).max()), 3)
        assert float(np.abs(x - exact).max()) <= bound


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("band", BANDS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_bands_and_lengths(rng, lengths, band, dtype):
    arrays = draw(rng, shapes_of(1, 2, 2, *lengths, 6, 5), dtype)
    assert_close(run(*arrays, **band), reference(*arrays, **band), dtype)


@pytest.mark.parametrize("heads", [(1, 1), (4, 2), (3, 1)])
@pytest.mark.parametrize("widths", WIDTHS, ids=str)
def test_widths_and_heads(rng, widths, heads):
    arrays = draw(rng, shapes_of(2, *heads, 100, 130, *widths))
    wanted = reference(*arrays, causal=True, scale=0.3, offset=30)
    assert_close(run(*arrays, causal=True, scale=0.3, offset=30), wanted, "float64")


def test_any_layout(rng):
    arrays = draw(rng, shapes_of(2, 2, 2, 40, 50, 3, 4))
    wanted = run(*arrays, causal=True, offset=10)
    swapped = [np.ascontiguousarray(x.swapaxes(1, 2)).swapaxes(1, 2) for x in arrays]
    backward = [np.repeat(x, 2, axis=-1)[:, ::-1, ::-1, ::-2][:, ::-1, ::-1, ::-1] for x in arrays]
    for other in (swapped, backward):
        for x, exact in zip(run(*other, causal=True, offset=10), wanted, strict=True):
            np.testing.assert_array_equal(x, exact)
    y = run(*swapped, causal=True, offset=10)[0]
    assert y.swapaxes(1, 2).flags.c_contiguous  # so that heads are joined without a copy


@pytest.mark.parametrize("leading", [(), (3,), (2, 1, 3)])
def test_any_rank(rng, leading):
    shapes = [(*leading, *shape[2:]) for shape in shapes_of(1, 1, 1, 9, 12, 4, 5)]
    arrays = draw(rng, shapes)
    heads = leading[-1] if leading else 1
    flat = [x.reshape(-1, heads, *x.shape[-2:]) for x in arrays]
    found = run(*arrays, causal=True)
    for x, exact in zip(found, reference(*flat, causal=True), strict=True):
        np.testing.assert_allclose(x.reshape(exact.shape), exact, rtol=0, atol=1e-13)
    assert [x.shape for x in found] == [shapes[3], *shapes[:3]]


def test_scores_far_apart(rng):
    q, k, v, g = draw(rng, shapes_of(1, 1, 1, 120, 250, 8, 8))
    for factor in (1e-3, 30.0, 3000.0):
        found, wanted = run(factor * q, k, v, g), reference(factor * q, k, v, g)
        for x, exact in zip(found, wanted, strict=True):
            assert abs(x - exact).max() <= 1e-12 * max(factor, 1) * max(abs(exact).max(), 1)


def test_infinite_and_nan_scores(rng):
    q, k, v, g = draw(rng, shapes_of(1, 1, 1, 8, 120, 2, 3))
    k[..., 0] = abs(k[..., 0])
    q[0, 0, 1, 0] = -np.inf  # all its scores are -inf
    q[0, 0, 2, 0] = np.inf
    q[0, 0, 3, 1] = np.nan
    y = TABLE["attention"].function(q, k, v, None, None)[0][0][0, 0]
    assert np.isnan(y[1:4]).all()
    fine = [0, 4, 5, 6, 7]
    wanted = reference(q[:, :, fine], k, v, g[:, :, fine])[0][0, 0]
    np.testing.assert_allclose(y[fine], wanted, rtol=1e-12)


def test_a_hidden_key_may_hold_anything(rng):
    q, k, v, g = draw(rng, shapes_of(1, 1, 1, 300, 300, 4, 4))
    wanted = run(q, k, v, g, causal=True)[0]
    k[:, :, 250:] = np.nan
    np.testing.assert_array_equal(run(q, k, v, g, causal=True)[0][:, :, :250], wanted[:, :, :250])


def test_bits_do_not_depend_on_threads(rng):
    arrays = draw(rng, shapes_of(1, 2, 1, 700, 800, 16, 16), "float32")
    before = hx.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            hx.set_num_threads(threads)
            found.append(run(*arrays, causal=True, offset=100))
    finally:
        hx.set_num_threads(before)
    for other in found[1:]:
        for x, y in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(x, y)


def test_memory_grows_with_the_length_and_not_its_square():
    l = 8192
    q = hx.tensor(np.ones((1, 1, l, 8), "float32"), requires_grad=True)
    hx.cpu.empty_cache()
    with hx.profiler.profile() as p:
        y = hx.attention(q, q, q, causal=True)
        y.sum().backward()
    assert y.shape == q.shape
    assert p.peak_memory < 64 * q.nbytes
    assert 64 * q.nbytes < l * l
