"""Functions of single numbers: float32 to a few units, integers exactly, nan by its bits."""

import numpy as np
import pytest
from scipy import special

from helixml import dtypes
from helixml.errors import DTypeError

NAMES = {
    **{"asin": "arcsin", "acos": "arccos", "atan": "arctan", "asinh": "arcsinh", "abs": "abs"},
    **{"acosh": "arccosh", "atanh": "arctanh", "atan2": "arctan2", "pow": "power"},
    **{"bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift"},
}
SPECIAL = np.array(
    [0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan, 0.5, 2.0, -3.0, 1e30, -1e-30, 88.7, -103.9],
    np.float32,
)


def goal_of(name):
    if name == "sigmoid":
        return special.expit
    return special.erf if name == "erf" else getattr(np, NAMES.get(name, name))


def floats(host):
    """Return numbers of every size, some near 1, and angles far out."""
    spread = host.normal(size=3000) * 10.0 ** host.uniform(-6, 6, 3000)
    near = 1 + host.normal(size=1000) * 1e-3
    return np.concatenate([SPECIAL, spread, near, host.uniform(-90, 90, 2000)]).astype(np.float32)


def units(found, goal):
    """Return the largest distance in units in the last place; infinities and nan must be equal.

    Devices may take numbers below the normal ones for 0.
    """
    rounded = goal.astype(np.float32)
    finite = np.isfinite(rounded)
    np.testing.assert_array_equal(found[~finite], rounded[~finite])
    tiny = np.finfo(np.float32).tiny
    counted = finite & ~((found == 0) & (np.abs(rounded) <= tiny))
    size = np.maximum(np.abs(rounded[counted]), tiny)
    return np.max(np.abs(found[counted] - goal[counted]) / np.spacing(size))


@pytest.mark.parametrize(
    "name",
    [
        *("exp", "expm1", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "asin"),
        *("acos", "atan", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "erf"),
    ],
)
def test_functions_of_floats_are_within_five_units(backend, host, name):
    x = floats(host)
    found = backend.to_numpy(getattr(backend, name)(backend.asarray(x)))
    assert units(found, goal_of(name)(x.astype(np.float64))) < 5


@pytest.mark.parametrize("name", ["divide", "pow", "atan2", "hypot"])
def test_functions_of_two_floats_are_within_five_units(backend, host, name):
    x = floats(host)
    x, y = np.meshgrid(np.concatenate([SPECIAL, x[14:3000:60]]), np.concatenate([SPECIAL, x[::97]]))
    found = backend.to_numpy(getattr(backend, name)(backend.asarray(x), backend.asarray(y)))
    assert units(found, goal_of(name)(x.astype(np.float64), y.astype(np.float64))) < 5


@pytest.mark.parametrize("name", ["maximum", "minimum", "remainder", "copysign", "nextafter"])
def test_choices_and_rests_of_floats_are_numpys(backend, host, name):
    x, y = np.meshgrid(floats(host)[:400], floats(host)[::29])
    found = backend.to_numpy(getattr(backend, name)(backend.asarray(x), backend.asarray(y)))
    np.testing.assert_array_equal(found, goal_of(name)(x, y))


def test_quotients_rounded_down_are_numpys_up_to_the_units_of_a_division(backend, host):
    x, y = np.meshgrid(floats(host)[:400], floats(host)[::29])
    found = backend.to_numpy(backend.floor_divide(backend.asarray(x), backend.asarray(y)))
    goal = np.floor_divide(x, y)
    whole = ~(np.abs(goal) < 2**24)  # above, a quotient has no fraction, and WGSL's may be 2.5 off
    np.testing.assert_array_equal(found[~whole], goal[~whole])
    assert units(found[whole], goal[whole].astype(np.float64)) <= 3


def test_angles_are_reduced_by_all_digits_of_pi(backend):
    x = np.array([1e5, 3e7, 1e10, 1.7e20, 3.4e38, 710.0, 8191.9995, -1e22], np.float32)
    for name in ("sin", "cos"):
        found = backend.to_numpy(getattr(backend, name)(backend.asarray(x)))
        np.testing.assert_allclose(found, goal_of(name)(x.astype(np.float64)), rtol=0, atol=1.2e-7)


def test_nan_is_found_where_wgsl_would_not_find_it(backend):
    # max(nan, 0) is 0 on Mesa.
    x = backend.asarray(np.array([np.nan, 1.0, np.inf, -np.inf], np.float32))
    zero = backend.zeros((), dtype=dtypes.float32)
    assert backend.to_numpy(backend.maximum(x, zero)).tolist()[1:] == [1.0, np.inf, 0.0]
    for found in (backend.maximum(x, zero), backend.minimum(zero, x), backend.tanh(x)):
        assert np.isnan(backend.to_numpy(found)[0])
    assert backend.to_numpy(backend.isnan(x)).tolist() == [True, False, False, False]
    assert backend.to_numpy(backend.isinf(x)).tolist() == [False, False, True, True]
    assert backend.to_numpy(backend.equal(x, x)).tolist() == [False, True, True, True]
    assert backend.to_numpy(backend.not_equal(x, x)).tolist() == [True, False, False, False]
    for name in ("max", "min"):
        found = getattr(backend, name)(x, axis=(0,), keepdims=False)
        assert np.isnan(backend.to_numpy(found))
    assert int(backend.to_numpy(backend.argmax(x, axis=0, keepdims=False))) == 0
    assert backend.to_numpy(backend.argsort(x, axis=0)).tolist() == [3, 1, 2, 0]


# Integers of 64 bits are two words


def wide(host, count=600):
    """Return integers of every size, and the edges of words."""
    edges = [0, 1, -1, 2**31, -(2**31), 2**32, 2**32 - 1, -(2**32), 2**63 - 1, -(2**63), 65535, 10]
    sizes = host.integers(0, 63, count)
    values = [int(host.integers(-(2**62), 2**62)) >> int(n) for n in sizes]
    return [*edges, *values]


def wrapped(value, dtype):
    """Return a Python integer as 64 bits hold it."""
    value %= 2**64
    return value - 2**64 if dtype == np.int64 and value >= 2**63 else value


OPERATIONS = {
    "add": lambda x, y: x + y,
    "subtract": lambda x, y: x - y,
    "multiply": lambda x, y: x * y,
    "floor_divide": lambda x, y: x // y if y else 0,
    "remainder": lambda x, y: x % y if y else 0,
    "maximum": max,
    "minimum": min,
    "less": lambda x, y: x < y,
    "less_equal": lambda x, y: x <= y,
    "greater": lambda x, y: x > y,
    "greater_equal": lambda x, y: x >= y,
    "equal": lambda x, y: x == y,
    "not_equal": lambda x, y: x != y,
    "bitwise_and": lambda x, y: x & y,
    "bitwise_or": lambda x, y: x | y,
    "bitwise_xor": lambda x, y: x ^ y,
}


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
@pytest.mark.parametrize("name", OPERATIONS)
def test_64_bits_are_pythons_integers(backend, host, name, dtype):
    x = [wrapped(v, dtype) for v in wide(host)]
    y = [wrapped(v, dtype) for v in wide(host)[::-1]]
    x, y = [*x, *x[:12], *[x[0]] * 12], [*y, *x[:12], *x[:12]]
    made = [backend.asarray(np.array(v, dtype)) for v in (x, y)]
    found = backend.to_numpy(getattr(backend, name)(*made)).tolist()
    operation = OPERATIONS[name]
    goal = [operation(a, b) for a, b in zip(x, y, strict=True)]
    assert found == [g if isinstance(g, bool) else wrapped(g, dtype) for g in goal]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_64_bits_are_shifted(backend, host, dtype):
    x = np.array([wrapped(v, dtype) for v in wide(host)], dtype)
    n = host.integers(0, 63, x.size).astype(dtype)
    for name in ("bitwise_left_shift", "bitwise_right_shift"):
        found = getattr(backend, name)(backend.asarray(x), backend.asarray(n))
        np.testing.assert_array_equal(backend.to_numpy(found), goal_of(name)(x, n))


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_64_bits_become_floats_and_come_back(backend, host, dtype):
    x = np.array([wrapped(v, dtype) for v in wide(host)], dtype)
    found = backend.to_numpy(backend.astype(backend.asarray(x), dtypes.float32))
    np.testing.assert_array_equal(found, x.astype(np.float32))
    y = found[np.abs(found) < 2.0**62]
    found = backend.to_numpy(backend.astype(backend.asarray(y), np.dtype(dtype)))
    if dtype == np.uint64:
        assert found[y >= 0].tolist() == [int(v) for v in y[y >= 0]]
    else:
        assert found.tolist() == [int(v) for v in y]


def test_sums_and_powers_of_64_bits(backend):
    x = np.array([2**62, 2**62, 2**62, 5, -7], np.int64)
    made = backend.asarray(x)
    total = backend.sum(made, axis=(0,), keepdims=False)
    assert int(backend.to_numpy(total)) == wrapped(3 * 2**62 - 2, np.int64)
    running = backend.to_numpy(backend.cumulative_sum(made, axis=0))
    np.testing.assert_array_equal(running, np.cumsum(x))
    three = backend.full((), 3, dtype=dtypes.int64)
    found = backend.to_numpy(backend.pow(made, three)).tolist()
    assert found == [wrapped(int(v) ** 3, np.int64) for v in x]
    product = backend.prod(made, axis=(0,), keepdims=False)
    assert int(backend.to_numpy(product)) == wrapped(2**186 * -35, np.int64)


@pytest.mark.parametrize("dtype", ["int8", "int16", "uint8", "uint16", "int32", "uint32"])
def test_narrow_integers_wrap_around(backend, host, dtype):
    limits = np.iinfo(dtype)
    x = host.integers(limits.min, limits.max, 500, dtype=dtype, endpoint=True)
    y = x[::-1].copy()
    for name in ("add", "subtract", "multiply", "floor_divide", "remainder", "bitwise_xor"):
        found = getattr(backend, name)(backend.asarray(x), backend.asarray(y))
        np.testing.assert_array_equal(backend.to_numpy(found), goal_of(name)(x, y), name)


# What is not served


@pytest.mark.parametrize("dtype", [dtypes.float64, dtypes.float16, dtypes.bfloat16])
def test_dtypes_that_webgpu_lacks_are_refused(backend, dtype):
    message = rf"device 'wgpu': has no {dtype}; it has bool, .*float32, complex64.*astype"
    with pytest.raises(DTypeError, match=message):
        backend.zeros((2,), dtype=dtype)
    with pytest.raises(DTypeError, match=message):
        backend.astype(backend.zeros((2,), dtype=dtypes.float32), dtype)
    with pytest.raises(DTypeError, match=message):
        backend.asarray(np.zeros(3).astype(dtype))


def test_functions_say_which_dtypes_they_do_not_take(backend):
    truth = backend.zeros((2,), dtype=dtypes.bool_)
    with pytest.raises(DTypeError, match=r"subtract: takes no booleans .*int8"):
        backend.subtract(truth, truth)
    with pytest.raises(DTypeError, match=r"matmul: takes no booleans .*int32"):
        backend.matmul(truth, truth)
    both = backend.zeros((2,), dtype=dtypes.complex64)
    for name, arguments, options in (
        ("floor", (both,), {}),
        ("max", (both,), {"axis": (0,), "keepdims": False}),
        ("argmax", (both,), {"axis": 0, "keepdims": False}),
        ("argsort", (both,), {"axis": 0}),
    ):
        with pytest.raises(DTypeError, match=f"{name}: takes no complex64 .*Hint"):
            getattr(backend, name)(*arguments, **options)
