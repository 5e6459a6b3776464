"""Rows taken by index and added at indices, bit for bit as NumPy and a plain loop do it."""

from __future__ import annotations

import numpy as np
import pytest

import helixml as hx
from helixml.backends import registry
from helixml.backends.cpu import kernels

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels import _kernels, gather

DTYPES = ["float32", "float64"]

pytestmark = pytest.mark.usefixtures("instruction_set")


TABLES = [(5, 3), (7, 64), (300, 33), (40, 17, 5), (1, 200), (600, 256), (50,), (3, 1)]


def table(rng, shape, dtype):
    return rng.standard_normal(shape).astype(dtype)


def summed_in_a_loop(x, indices, size):
    result = np.zeros((size, *x.shape[indices.ndim :]), x.dtype)
    for i in np.ndindex(indices.shape):
        result[indices[i]] += x[i]
    return result


@pytest.fixture
def any_size(monkeypatch):
    """Take rows by the kernel however few and short they are."""
    monkeypatch.setattr(_kernels, "SMALLEST_BLOCK", 0)
    monkeypatch.setattr(gather, "SHORTEST_ROW", 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", TABLES)
def test_rows_are_those_that_numpy_takes(of_any_number_of_threads, any_size, rng, shape, dtype):
    x = table(rng, shape, dtype)
    for indices in (
        rng.integers(-shape[0], shape[0], (6, 7)),
        rng.integers(0, shape[0], 501).astype("u1"),
        np.array(shape[0] - 1),
        rng.integers(0, shape[0], (9, 8))[::2, ::-3],
    ):
        found = of_any_number_of_threads(lambda i=indices: gather.take(x, i, axis=0))
        np.testing.assert_array_equal(found, np.take(x, indices, axis=0))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", TABLES)
def test_rows_are_added_in_the_order_of_the_indices(of_any_number_of_threads, rng, shape, dtype):
    size, rest = shape[0], shape[1:]
    for indices in (
        rng.integers(-size, size, (6, 7)),
        np.minimum(rng.zipf(1.5, 2001) - 1, size - 1),
        np.array(size - 1, "u4"),
        rng.integers(0, size, (9, 8))[::2, ::-3],
    ):
        x = table(rng, indices.shape + rest, dtype)
        found = of_any_number_of_threads(
            lambda x=x, i=indices: gather.scatter_add(x, i, axis=0, size=size)
        )
        np.testing.assert_array_equal(found, summed_in_a_loop(x, indices, size))
        assert found.flags.writeable


def test_sums_are_near_those_in_float64(rng):
    x, indices = table(rng, (5000, 19), "float32"), rng.integers(0, 3, 5000)
    found = gather.scatter_add(x, indices, axis=0, size=3)
    exact = summed_in_a_loop(x.astype("f8"), indices, 3)
    # Errors of n additions grow like sqrt(n) eps times the largest partial sum.
    assert np.abs(found - exact).max() < 40 * 1.2e-7 * np.abs(exact).max()


def test_any_strides_and_axes(any_size, rng):
    x = rng.standard_normal((8, 10, 12))
    indices = np.array([[3, -1], [0, 3]])
    for view in (x[::2, ::-1, ::3], x.T, x[:, 0, :], np.broadcast_to(x[0, :, 0], (4, 10))):
        np.testing.assert_array_equal(gather.take(view, indices, axis=0), view[indices])
    for axis, view in enumerate((rng.standard_normal((2, 2, 5)).T.swapaxes(0, 2), x[:2, :2, ::5])):
        found = gather.scatter_add(view, indices, axis=0, size=4)
        np.testing.assert_array_equal(found, summed_in_a_loop(view, indices, 4), str(axis))
    middle = rng.standard_normal((5, 2, 2, 3))
    found = gather.scatter_add(middle, indices, axis=1, size=4)
    wanted = summed_in_a_loop(np.moveaxis(middle, 0, 2), indices, 4)
    np.testing.assert_array_equal(found, np.moveaxis(wanted, 1, 0))


def test_nothing_taken_and_nothing_added(rng):
    found = gather.scatter_add(np.zeros((0, 4)), np.zeros(0, int), axis=0, size=3)
    assert (found == np.zeros((3, 4))).all()
    assert gather.scatter_add(np.zeros((2, 0)), np.array([0, 1]), axis=0, size=3).shape == (3, 0)
    assert gather.scatter_add(np.zeros((0, 4)), np.zeros(0, int), axis=0, size=0).shape == (0, 4)
    assert registry.get("cpu").take(np.zeros((3, 4)), np.zeros(0, int), axis=0).shape == (0, 4)


@pytest.mark.parametrize("bad", [-4, 3, 2**40, -(2**63)])
def test_an_index_out_of_range_is_never_followed(any_size, bad):
    indices = np.array([0, bad, 1])
    with pytest.raises(IndexError, match="out of range"):
        gather.take(np.ones((3, 5)), indices, axis=0)
    with pytest.raises(IndexError, match="out of range"):
        gather.scatter_add(np.ones((3, 5)), indices, axis=0, size=3)


def test_what_is_left_to_numpy():
    x = np.ones((1000, 100))
    assert gather.take(x, np.zeros((1000,), int), axis=0) is not None
    assert gather.take(x, np.zeros((1000,), int), axis=1) is None
    assert gather.take(x, np.zeros((2,), int), axis=0) is None
    assert gather.take(x, np.zeros((1000,), "u8"), axis=0) is None
    assert gather.scatter_add(x, np.zeros((1000,), "u8"), axis=0, size=2) is None


def test_infinities_and_denormals_stay_in_their_rows():
    x = np.array([[np.inf], [1e-320], [np.nan], [1e-320]])
    found = gather.scatter_add(x, np.array([0, 1, 2, 1]), axis=0, size=4)
    np.testing.assert_array_equal(found, [[np.inf], [2e-320], [np.nan], [0]])


def test_an_embedding_and_its_gradient(three_threads, rng):
    weight = hx.tensor(rng.standard_normal((256, 64)), dtype="float32", requires_grad=True)
    ids = rng.integers(0, 256, (8, 100))
    rows = hx.take(weight, hx.tensor(ids), axis=0)
    rows.backward(hx.ones_like(rows))
    np.testing.assert_array_equal(rows.numpy(), weight.numpy()[ids])
    counts = np.bincount(ids.reshape(-1), minlength=256)
    np.testing.assert_array_equal(weight.grad.numpy(), np.repeat(counts[:, None], 64, axis=1))
