"""What one device did in its own way: errors, powers, and which memory counts as new."""

import numpy as np
import pytest

import helixml as hx
from helixml import hardware
from helixml.errors import (
    BackendError,
    DeviceMemoryError,
    DTypeError,
    ShapeError,
    SingularMatrixError,
    ValueRangeError,
)
from serving import serving

pytestmark = pytest.mark.usefixtures("plain_settings")
HUGE = (2**20, 2**30)  # 4 PiB of float32, more than there is anywhere
ENDLESS = (2**40, 2**30)  # more than 64 bits count


@pytest.fixture(params=["cpu", "torch", "jax"])
def device(request):
    with serving(request.param):
        yield request.param


@pytest.fixture(params=["cpu", "torch", "cuda"])
def with_views(request):
    """Devices whose arrays can be views of others."""
    with serving(request.param):
        yield request.param


# Memory


def test_the_kept_values_of_every_library_have_dtypes(device):
    x = hx.tensor([1.0], requires_grad=True, device=device)
    (entry,) = hx.explain_memory((x**2).sum()).entries
    assert (entry.dtype, entry.bytes, entry.leaf) == (hx.float32, 4, True)


def test_a_view_is_no_new_memory(with_views):
    x = hx.tensor(np.ones((2, 3, 4), np.float32), device=with_views)
    with hx.profiler.profile() as p, hardware.allocations(with_views) as found:
        y = x.mT
        z = y[1:]
    assert p.bytes == 0
    assert p.peak_memory == x.nbytes
    assert (found.bytes, found.arrays) == (0, 0)
    with hardware.allocations(with_views) as found:
        w = z + 1
    assert (found.bytes, found.arrays, found.held) == (48, 1, w.nbytes)
    del w
    assert found.held == 0


def test_a_view_keeps_its_array_on_every_device(with_views):
    w = hx.tensor([2.0], requires_grad=True, device=with_views)
    x = hx.tensor(np.ones(100, np.float32), device=with_views)
    loss = (x[:1] * w).sum() + (x[1:2] * w).sum()
    entries = hx.explain_memory(loss).entries
    assert [entry.bytes for entry in entries] == [400, 0]


@pytest.mark.skipif(hx.config.get().pure, reason="HELIXML_PURE is set: the CPU has no kernels")
def test_what_a_kernel_keeps_is_held_on_every_device():
    held = set()
    for name in ("cpu", "cuda"):
        with serving(name) as device:
            x = hx.tensor(np.ones((64, 128), np.float32), device=device, requires_grad=True)
            t = hx.tensor(np.zeros(64, np.int64), device=device)
            with hx.profiler.profile() as p:
                loss = hx.cross_entropy(x, t)
            held.add(p.live_memory)
            assert p.live_memory > x.nbytes + t.nbytes + loss.nbytes
    assert len(held) == 1


def test_a_graph_knows_views_of_every_device(with_views):
    x = hx.tensor(np.ones((2, 3), np.float32), device=with_views)
    graph = hardware.record(lambda x: x.mT + 1, x)
    assert [operation.is_view for operation in graph.operations] == [True, False]


def test_the_reference_does_not_tell_of_the_cpu_s_memory():
    use = hardware.memory("reference")
    assert (use.in_use, use.peak) == (None, None)
    with hardware.allocations("reference") as found:
        hx.ones((256, 256), device="reference")
    assert found.in_use == {}


# Errors


@pytest.mark.parametrize("make", [hx.zeros, hx.ones], ids=["zeros", "ones"])
def test_an_array_that_fits_nowhere_is_an_error_of_ours(device, make):
    error = ShapeError if device == "cpu" else DeviceMemoryError
    with pytest.raises(error, match=r"too large|not enough memory"):
        make(HUGE, device=device)


def test_an_op_whose_result_fits_nowhere_says_so(device):
    x = hx.ones((1,), device=device)
    with pytest.raises(DeviceMemoryError, match="not enough memory"):
        hx.broadcast_to(x, HUGE) + 1


@pytest.mark.parametrize("size", [2**40, 10**30])
def test_a_size_beyond_64_bits_is_refused(device, size):
    for make in (hx.ones, hx.zeros):
        with pytest.raises(ShapeError, match="is too large"):
            make((size, size), device=device)
    with pytest.raises(ShapeError, match=r"full: .* is too large"):
        hx.full((size, size), 2.0, device=device)
    with pytest.raises(ShapeError, match=r"eye: .* is too large"):
        hx.eye(size, device=device)
    with pytest.raises(ShapeError, match=r"arange: .* is too long"):
        hx.arange(1e30, device=device)
    with pytest.raises(BackendError, match=r"broadcast_to: .*(too (big|large)|dimension exceeded)"):
        hx.broadcast_to(hx.ones((1,), device=device), (size, size))


def test_a_value_that_does_not_fit_is_still_one(device):
    with pytest.raises(DTypeError, match="does not fit"):
        hx.full((3,), 10**30, dtype="int64", device=device)


# Powers


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_a_complex_number_to_the_power_0_is_1(device, dtype):
    x = hx.tensor([0, 2j, np.nan, np.inf], dtype=dtype, device=device)
    np.testing.assert_array_equal((x**0).numpy(), 1)
    np.testing.assert_array_equal((x ** hx.zeros((2, 1), dtype, device)).numpy(), np.ones((2, 4)))


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_an_integer_to_a_negative_power_is_refused(device, dtype):
    x = hx.tensor([2, 1], dtype=dtype, device=device)
    for y in (-1, hx.tensor([3, -1], dtype=dtype, device=device)):
        with pytest.raises(ValueRangeError, match="to a negative power"):
            x**y
    assert (x ** hx.tensor([3, 0], dtype=dtype, device=device)).tolist() == [8, 1]


def test_wide_unsigned_integers_have_powers(device):
    x = hx.tensor([2**63, 3], dtype="uint64", device=device)
    assert (x ** hx.tensor([1, 2], dtype="uint64", device=device)).tolist() == [2**63, 9]


# Triangles


@pytest.mark.parametrize("shape", [(2, 2), (5, 2, 2)])
def test_a_zero_on_the_diagonal_is_refused(device, shape):
    x = np.broadcast_to(np.array([[1.0, 0.0], [1.0, 0.0]]), shape)
    x, y = hx.tensor(x, device=device), hx.ones((2, 1), "float64", device)
    with pytest.raises(SingularMatrixError, match="a 0 on its diagonal"):
        hx.linalg.triangular_solve(x, y)
    found = hx.linalg.triangular_solve(x, y, unit_diagonal=True)
    np.testing.assert_array_equal(found.numpy()[..., 0], np.broadcast_to([1, 0], shape[:-1]))
