"""Arithmetic of two arrays and sums along axes: every way of walking them."""

import math

import ml_dtypes
import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.cuda.kernels.binary import walk

from .conftest import close, random, wide

SPREAD = [
    ((3, 8), (3, 8)),
    ((5, 7), ()),
    ((), (4, 8)),
    ((3, 4, 8), (8,)),
    ((3, 4, 8), (1, 4, 8)),
    ((3, 4, 8), (3, 1, 1)),
    ((3, 1, 16), (3, 5, 16)),  # left to CuPy
    ((6, 1), (1, 8)),
    ((2, 7), (7,)),
    ((0, 3), (3,)),
    ((1, 1, 2, 4), (1, 2, 4)),
]


@pytest.mark.parametrize("name", ["add", "subtract", "multiply", "divide"])
@pytest.mark.parametrize("shapes", SPREAD, ids=str)
def test_arithmetic_of_arrays_that_spread(cp, backend, dtype, name, shapes):
    x, y = random(shapes[0], dtype, 0), random(shapes[1], dtype, 1, 0.5, 2.0)
    found = getattr(backend, name)(cp.asarray(x), cp.asarray(y))
    assert found.dtype == dtype
    close(found, getattr(np, name)(*wide(x, y)))


@pytest.mark.parametrize("name", ["chain", "quotient"])
@pytest.mark.parametrize("spread", ["each", "middle", "strided"])
def test_products_of_the_chain_rule_are_zero_where_only_the_derivative_is_singular(
    cp, backend, dtype, name, spread
):
    edges = np.array([0.0, -0.0, 0.5, -2.0, np.inf, -np.inf, np.nan])
    x, y = (a.astype(dtype) for a in np.meshgrid(edges, edges))
    left, right = cp.asarray(x), cp.asarray(y)
    if spread == "middle":
        x, y = x[:, None, :], y[None, :, :1]
        left, right = left[:, None, :], right[None, :, :1]
    if spread == "strided":
        x, y, left, right = x.T, y.T, left.T, right.T
    (found,), _ = backend.kernels[name].function(left, right)
    with np.errstate(all="ignore"):
        wide_x, wide_y = wide(x, y)
        goal = wide_x * wide_y if name == "chain" else wide_x / wide_y
        singular = ~np.isfinite(wide_y) if name == "chain" else ~(np.abs(wide_y) > 0)
    goal = np.where((wide_x == 0) & singular, 0, goal)
    np.testing.assert_array_equal(found.get().astype(np.float64), goal)


SPECIAL = [0.0, 0.5, 1.0, 2.0, 3.0, 7.25, math.inf]
SPECIAL = [*SPECIAL, *[-x for x in SPECIAL], math.nan]


def floored(x, y):
    """Divide as Python does, which knows no division by 0."""
    if y == 0 or math.isinf(x) or math.isnan(x + y):
        quotient = math.nan if y else float(np.float64(x) / np.float64(y))
        return quotient, math.nan
    return x // y, x % y


@pytest.mark.parametrize("spread", ["each", "single", "middle", "strided"])
@pytest.mark.parametrize("name", ["floor_divide", "remainder"])
def test_division_with_a_remainder_is_pythons(cp, backend, dtype, name, spread):
    x, y = (a.astype(dtype) for a in np.meshgrid(SPECIAL, SPECIAL))
    if spread == "single":
        y = y[3, 0]
    if spread == "middle":
        x, y = x[:, None, :], y[None, :, :1]
    given = cp.asarray(x), cp.asarray(np.atleast_1d(y))
    if spread == "strided":
        x, y, given = x.T, y.T, (given[0].T, given[1].T)
    found = getattr(backend, name)(*given)
    assert found.dtype == dtype
    which = ["floor_divide", "remainder"].index(name)
    left, right = np.broadcast_arrays(*(a.astype(float) for a in (x, y)))
    with np.errstate(all="ignore"):
        goal = np.vectorize(lambda a, b: floored(a, b)[which], otypes=[float])(left, right)
    host = found.get().astype(float)
    np.testing.assert_array_equal(host, goal.reshape(host.shape))
    sure = host == 0
    np.testing.assert_array_equal(
        np.signbit(host[sure]), np.signbit(goal.reshape(host.shape)[sure])
    )


def test_division_with_a_remainder_of_any_floats(cp, backend, dtype):
    x, y = random((64, 5), dtype, 0, -40, 40), random((5,), dtype, 1, 0.3, 4.0)
    goal = np.floor_divide(*wide(x, y)), np.remainder(*wide(x, y))
    found = [
        getattr(backend, n)(cp.asarray(x), cp.asarray(y)) for n in ("floor_divide", "remainder")
    ]
    np.testing.assert_array_equal(found[0].get().astype(float), goal[0].astype(dtype).astype(float))
    close(found[1], goal[1])


def test_division_of_other_dtypes_is_cupys(cp, backend):
    x, y = cp.asarray(np.array([7, -7, 7], np.int32)), cp.asarray(np.array([2, 2, 0], np.int32))
    assert backend.floor_divide(x, y).get().tolist() == [3, -4, 0]
    assert backend.remainder(x, y).get().tolist() == [1, 1, 0]
    halves = cp.asarray(np.array([2.5, -2.5, 1.0], np.float32))
    assert backend.remainder(halves, cp.asarray(np.array([2.0]))).get().tolist() == [0.5, 1.5, 1.0]
    whole = backend.remainder(halves, cp.asarray(np.array([2])))
    assert (whole.dtype, whole.get().tolist()) == (np.float32, [0.5, 1.5, 1.0])


def stepped(x, y):
    """Return the number after x towards y, from a list of all that there are of 16 bits."""
    dtype = x.dtype
    every = np.arange(1 << 16, dtype=np.uint16).view(dtype)
    every = np.unique(every[~np.isnan(every.astype(float))].astype(float))
    if np.isnan(float(x) + float(y)) and (np.isnan(float(x)) or np.isnan(float(y))):
        return math.nan
    at = np.searchsorted(every, float(x))
    return float(every[at + int(np.sign(float(y) - float(x)) if x != y else 0)])


@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16], ids=str)
def test_neighbours_are_those_of_a_list_of_all_numbers(cp, backend, dtype):
    most, least = (
        float(ml_dtypes.finfo(dtype).max),
        float(ml_dtypes.finfo(dtype).smallest_subnormal),
    )
    edges = [*SPECIAL, most, -most, least, -least]
    x, y = (a.astype(dtype) for a in np.meshgrid(edges, edges))
    found = backend.nextafter(cp.asarray(x), cp.asarray(y)).get()
    assert found.dtype == dtype
    goal = [stepped(a, b) for a, b in zip(x.ravel(), y.ravel(), strict=True)]
    np.testing.assert_array_equal(found.astype(float).ravel(), goal)


@pytest.mark.parametrize("dtype", [dtypes.float32, dtypes.float64], ids=str)
def test_neighbours_are_the_hosts(cp, backend, dtype):
    edges = [*SPECIAL, *np.array([np.finfo(dtype).max, np.finfo(dtype).smallest_subnormal], dtype)]
    x, y = (a.astype(dtype) for a in np.meshgrid(edges, edges))
    found = backend.nextafter(cp.asarray(x), cp.asarray(y)).get()
    np.testing.assert_array_equal(found, np.nextafter(x, y))
    zeros = (x == 0) & (y == 0)
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(y[zeros]))


@pytest.mark.parametrize("dtype", [*dtypes.FLOATS, dtypes.complex64], ids=str)
def test_zeros_keep_their_sign(backend, dtype):
    zero = np.array(-0.0 if dtype in dtypes.FLOATS else complex(0.0, -0.0), dtype)
    goal = zero.tobytes()
    for made in (
        backend.full((), zero[()], dtype=dtype),
        backend.full((3, 2), zero[()], dtype=dtype)[1:2, 1:],
        backend.full((1,), zero[()], dtype=dtype),
        backend.asarray(zero),
        backend.asarray(zero[()]),
        backend.ensure(zero[()]),
    ):
        assert made.dtype == dtype
        assert made.get().tobytes() == goal
    assert backend.full((0, 2), zero[()], dtype=dtype).shape == (0, 2)
    assert backend.full((2,), 0.0, dtype=dtype).get().tobytes() == bytes(2 * dtype.itemsize)
    assert np.signbit(backend.full((2,), -0.0, dtype=dtypes.float32).get()).all()


def test_arithmetic_of_views_and_other_dtypes(cp, backend):
    x = cp.asarray(random((6, 8), np.float32))
    assert np.array_equal(backend.add(x.T, x.T).get(), 2 * x.get().T)
    assert np.array_equal(backend.multiply(x[:, 1:], x[:, 1:]).get(), x.get()[:, 1:] ** 2)
    assert np.array_equal(backend.add(x[1:, :], x[0]).get(), x.get()[1:] + x.get()[0])
    ones = cp.asarray(np.ones(3, np.int32))
    assert backend.add(ones, ones).get().tolist() == [2, 2, 2]


def test_what_lies_in_the_middle_of_a_shape_is_not_walked(cp):
    x = cp.asarray(np.zeros((3, 1, 5), np.float32))
    assert walk(x, (3, 4, 5)) is None
    assert walk(cp.ascontiguousarray(x[:, :, 0]), (3, 4)) is not None
    assert walk(cp.asarray(np.zeros((1, 4, 1), np.float32)), (2, 4, 5)) is None


SUMS = [
    ((7,), (0,)),
    ((3, 5), (1,)),
    ((300, 12), (1,)),
    ((2, 20_000), (1,)),
    ((3, 9_001), (0, 1)),
    ((5, 3), (0,)),
    ((700, 40), (0,)),
    ((129, 33), (0,)),
    ((2, 70, 8), (1,)),
    ((2, 3, 4, 5), (1, 2)),
    ((2, 3, 4), (0, 2)),  # left to CuPy
    ((0, 3), (0,)),
]


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize(("shape", "axis"), SUMS, ids=str)
def test_sums_along_axes(cp, backend, dtype, shape, axis, keepdims):
    x = random(shape, dtype)
    found = backend.sum(cp.asarray(x), axis=axis, keepdims=keepdims)
    assert found.dtype == dtype
    close(found, wide(x)[0].sum(axis, keepdims=keepdims), np.prod([shape[a] for a in axis]))


@pytest.mark.parametrize(("shape", "axis"), [((700, 40), (0,)), ((2, 5_000), (1,))], ids=str)
def test_sums_in_any_order_of_threads(cp, backend, order, shape, axis):
    x = random(shape, np.float32)
    found = backend.sum(cp.asarray(x), axis=axis, keepdims=False)
    close(found, wide(x)[0].sum(axis), shape[axis[0]])


def test_16_bit_sums_are_formed_in_float32(cp, backend):
    x = np.ones((4096, 2), np.float16)
    assert backend.sum(cp.asarray(x), axis=(0,), keepdims=False).get().tolist() == [4096, 4096]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 3, 4), (0, 3, 4)], ids=str)
def test_a_stack_times_a_matrix_is_one_product(cp, backend, dtype, shape):
    x, w = random(shape, dtype), random((5, 4), dtype, 1)
    given = cp.asarray(x), cp.asarray(w)
    found = backend.matmul(given[0], given[1].T)
    if hasattr(cp, "cuemu") and x.size:
        assert cp.cuemu.library_launches == {"matmul": 1}
    assert found.dtype == dtype
    close(found, np.matmul(*wide(x, w.T)), 4)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_arrays_that_are_joined(cp, backend, dtype, axis, count):
    arrays = [random([3 if a != axis else n for a in range(3)], dtype, n) for n in range(count)]
    given = [cp.asarray(x) for x in arrays]
    goal = np.concatenate(arrays, axis)
    assert np.array_equal(backend.concat(given, axis=axis).get(), goal)
    strided = [x.transpose(2, 1, 0) for x in given]
    found = backend.concat(strided, axis=2 - axis)
    assert np.array_equal(found.get(), goal.transpose(2, 1, 0))
