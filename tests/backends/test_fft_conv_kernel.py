"""The kernel of long convolutions against sums written out, in NumPy's float64."""

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

# Steps and taps: around powers of two, at and beyond the shortest line and what the cache holds.
LENGTHS = [
    (1, 1), (2, 1), (16, 16), (33, 20), (64, 64), (65, 65), (128, 100), (255, 255), (256, 256),
    (257, 1), (511, 300), (513, 513), (1024, 1024), (1025, 77), (2048, 2047), (4097, 4097),
]  # fmt: skip


def reference(u, k, bias, gate, g):
    """Return y and the gradients of u, k, bias and gate; absent operands count as 0 and 1."""
    u, k, g = (x.astype(np.float64) for x in (u, k, g))
    b, d, l = u.shape
    taps = np.broadcast_to(k.reshape(k.shape[-2:]), (d, k.shape[-1]))
    m = taps.shape[1]
    bias = np.zeros(d) if bias is None else bias.astype(np.float64)
    gate = np.ones(u.shape) if gate is None else gate.astype(np.float64)
    p, gp = np.empty(u.shape), g * gate
    du, dk = np.empty(u.shape), np.zeros((d, m))
    for i, c in np.ndindex(b, d):
        p[i, c] = np.convolve(u[i, c], taps[c])[:l] + bias[c] * u[i, c]
        du[i, c] = np.convolve(gp[i, c], taps[c, ::-1])[m - 1 : m - 1 + l] + bias[c] * gp[i, c]
        dk[c] += np.convolve(gp[i, c], u[i, c, ::-1])[l - 1 : l - 1 + m]
    dbias = (gp * u).sum(axis=(0, 2))
    dk = dk.sum(axis=0) if k.shape[-2] < d else dk
    return p * gate, du, dk.reshape(k.shape), dbias, g * p


def run(u, k, bias, gate, g, needs=None):
    """Return the kernel's output and gradients; it must leave what it is given."""
    inputs = [u, k, bias, gate]
    needs = [x is not None for x in inputs] if needs is None else needs
    before = [None if x is None else x.copy() for x in (*inputs, g)]
    (y,), residuals = TABLE["fft_conv"].function(*inputs)
    found = TABLE["fft_conv_vjp"].function((g,), needs, inputs, residuals)
    for x, old in zip((*inputs, g), before, strict=True):
        if x is not None:
            np.testing.assert_array_equal(x, old)
    assert [x is not None for x in found] == list(needs)
    return [y, *found]


def draw(rng, shapes, dtype="float64"):
    return [None if shape is None else rng.standard_normal(shape).astype(dtype) for shape in shapes]


def shapes_of(b, d, l, m, *, shared=False, bias=True, gate=True):
    filters, whole = (1 if shared else d, m), (b, d, l)
    return whole, filters, (d,) if bias else None, whole if gate else None, whole


def assert_close(found, wanted, dtype):
    """Errors of transforms: half eps at random, several times in each of some twenty levels."""
    sizes = [float(np.abs(exact).max()) for exact in wanted]
    sizes[3] = max(sizes[2:4])  # the bias is one of a sequence of taps
    for x, exact, size in zip(found, wanted, sizes, strict=True):
        if x is not None:
            assert x.shape == exact.shape
            assert x.dtype == dtype
            assert float(np.abs(x - exact).max()) <= 12 * float(np.finfo(dtype).eps) * size


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_lengths(rng, lengths, dtype):
    arrays = draw(rng, shapes_of(2, 2, *lengths), dtype)
    assert_close(run(*arrays), reference(*arrays), dtype)


@pytest.mark.parametrize("gate", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("sizes", [(1, 1), (3, 1), (1, 5), (5, 17), (34, 2)], ids=str)
def test_batches_channels_and_optional_operands(rng, sizes, bias, gate):
    for shared in (False, True):
        arrays = draw(rng, shapes_of(*sizes, 300, 300, shared=shared, bias=bias, gate=gate))
        assert_close(run(*arrays), reference(*arrays), "float64")


def test_filters_with_an_axis_for_the_batch(rng):
    u, k, bias, gate, g = draw(rng, shapes_of(2, 3, 40, 40))
    assert_close(run(u, k[None], bias, gate, g), reference(u, k[None], bias, gate, g), "float64")


@pytest.mark.parametrize("wanted", range(4))
def test_one_gradient_alone(rng, wanted):
    arrays = draw(rng, shapes_of(3, 2, 600, 500))
    needs = [i == wanted for i in range(4)]
    found = run(*arrays, needs=needs)
    np.testing.assert_array_equal(found[1 + wanted], run(*arrays)[1 + wanted])


def test_any_layout(rng):
    arrays = draw(rng, shapes_of(2, 3, 300, 290))
    wanted = run(*arrays)
    by_time = [np.asfortranarray(x) for x in arrays]
    backward = [np.ascontiguousarray(x[..., ::-1])[..., ::-1] for x in arrays]
    every_other = [np.repeat(x, 2, axis=0)[::2] for x in arrays]
    for other in (by_time, backward, every_other):
        for x, exact in zip(run(*other), wanted, strict=True):
            np.testing.assert_array_equal(x, exact)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_is_not_finite_fills_its_own_sequence(rng, dtype, value):
    u, k, bias, gate, g = draw(rng, shapes_of(2, 3, 300, 300), dtype)
    k[...] = 0
    k[:, 0] = 1
    fine = run(u, k, bias, gate, g)
    u[0, 1, 200] = value
    y, du, dk, dbias, dgate = run(u, k, bias, gate, g)
    hit = np.zeros((2, 3), bool)
    hit[0, 1] = True
    for x, before in ((y, fine[0]), (dgate, fine[4])):
        assert np.isnan(x[hit]).all()
        np.testing.assert_array_equal(x[~hit], before[~hit])
    np.testing.assert_array_equal(du, fine[1])
    for x, before in ((dk, fine[2]), (dbias, fine[3])):
        assert np.isnan(x[1]).all()
        np.testing.assert_array_equal(x[[0, 2]], before[[0, 2]])


def test_a_filter_that_is_not_finite_fills_its_own_channel(rng):
    arrays = draw(rng, shapes_of(2, 3, 300, 300))
    fine = run(*arrays)
    arrays[1][2, 7] = np.inf
    found = run(*arrays)
    for i in (0, 1, 4):
        assert np.isnan(found[i][:, 2]).all()
        np.testing.assert_array_equal(found[i][:, :2], fine[i][:, :2])


def test_the_bound_of_float32_holds_at_great_lengths(rng):
    l = 1 << 17
    u, k = draw(rng, [(1, 1, l), (1, l)], "float32")
    (y,), _ = TABLE["fft_conv"].function(u, k)
    spectrum = np.fft.rfft(u.astype("float64"), 2 * l) * np.fft.rfft(k.astype("float64"), 2 * l)
    exact = np.fft.irfft(spectrum)[..., :l]
    assert np.abs(y - exact).max() < 5e-7 * np.abs(exact).max()


@pytest.mark.parametrize("sizes", [(2, 40), (9, 1)])
def test_bits_do_not_depend_on_threads(rng, sizes):
    arrays = draw(rng, shapes_of(*sizes, 1500, 1500), "float32")
    before = hx.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            hx.set_num_threads(threads)
            found.append(run(*arrays))
    finally:
        hx.set_num_threads(before)
    for other in found[1:]:
        for x, y in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(x, y)


def test_what_it_leaves_to_the_definition():
    when = TABLE["fft_conv"].when
    assert when([np.zeros((1, 1, 1)), np.zeros((1, 1)), None, None], {})
    assert not when([np.zeros((0, 2, 3)), np.zeros((2, 3)), None, None], {})
    long = np.broadcast_to(np.float32(0), (1, 1, (1 << 24) + 1))
    assert not when([long, np.zeros((1, 1), "float32"), None, None], {})
