"""The linear recurrence against a loop over time in 64 bits."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels import linear_scan

SHAPES = [((2, 3, 40), (2, 3, 40)), ((3, 1), (2, 3, 70)), ((600,), (2, 600)), ((5,), (5,))]
TOLERANCE = {"float32": 1e-6, "float64": 4e-15, "complex64": 2e-6, "complex128": 4e-15}


def loop(a, b, initial, reverse):
    """Return all states, and sums of absolute values, by which errors are measured."""
    wide = np.result_type(a, b, np.float64)
    a, b = np.broadcast_arrays(a.astype(wide), b.astype(wide))
    h = size = np.zeros(b.shape[:-1], wide) if initial is None else initial.astype(wide)
    states, sizes = np.empty(b.shape, wide), np.empty(b.shape)
    for t in range(b.shape[-1])[:: -1 if reverse else 1]:
        h = a[..., t] * h + b[..., t]
        size = np.abs(a[..., t]) * np.abs(size) + np.abs(b[..., t])
        states[..., t], sizes[..., t] = h, size
    return states, sizes


def numbers(shape, dtype, seed, scale=1.0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-scale, scale, shape)
    if np.dtype(dtype).kind == "c":
        x = 0.7 * (x + 1j * rng.uniform(-scale, scale, shape))
    return np.asarray(x, dtype)


def check(cp, a, b, initial, reverse, tolerance):
    arrays = [None if x is None else cp.asarray(x) for x in (a, b, initial)]
    found = linear_scan.LinearScan(cp)(*arrays, reverse=reverse)
    goal, sizes = loop(a, b, initial, reverse)
    assert found.dtype == b.dtype
    assert found.shape == goal.shape
    assert (np.abs(found.get() - goal) <= goal.shape[-1] * tolerance * sizes).all()
    return found


@pytest.fixture(params=["whole", "segments"])
def cut(request, monkeypatch):
    """Scan lines whole, or in segments."""
    few = request.param == "segments"
    monkeypatch.setattr(linear_scan, "_THREADS_WANTED", 1 << 16 if few else 1)
    monkeypatch.setattr(linear_scan, "_FEWEST_STEPS", {True: 90, False: 7})


def both(shapes, dtype):
    return [numbers(shape, dtype, i, 0.9 + 0.3 * i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_states_are_those_of_the_loop_in_any_order_of_threads(cp, order, cut, dtype):
    a, b = both(SHAPES[0], dtype)
    initial = numbers(b.shape[:-1], dtype, 5)
    check(cp, a, b, initial, False, TOLERANCE[dtype])
    check(cp, a, np.asfortranarray(b), initial, True, TOLERANCE[dtype])


@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("shapes", SHAPES, ids=str)
@pytest.mark.parametrize("reverse", [False, True])
def test_shapes_broadcast(cp, cut, shapes, starts, reverse):
    a, b = both(shapes, "float64")
    initial = numbers(np.broadcast_shapes(*shapes)[:-1], "float64", 5) if starts else None
    check(cp, a, b, initial, reverse, TOLERANCE["float64"])
    check(cp, a, np.asfortranarray(b), initial, reverse, TOLERANCE["float64"])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_sums_of_16_bit_floats_are_wide(cp, dtype):
    import ml_dtypes

    dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    ones = np.ones((2, 300), dtype)
    found = linear_scan.LinearScan(cp)(cp.asarray(ones), cp.asarray(ones), None, reverse=False)
    np.testing.assert_array_equal(
        found.get().astype("f4"), np.arange(1, 301).astype(dtype).astype("f4") * np.ones((2, 1))
    )


def test_results_lie_as_b_does(cp):
    b = cp.asarray(np.ones((2, 9, 5), "float32")).transpose(0, 2, 1)
    found = linear_scan.LinearScan(cp)(b, b, None, reverse=False)
    assert found.transpose(0, 2, 1).flags.c_contiguous


def test_nothing_times_infinity_is_nothing(cp):
    a = np.full((1, 600), 1e30, "float32")
    b = np.zeros((1, 600), "float32")
    found = linear_scan.LinearScan(cp)(cp.asarray(a), cp.asarray(b), None, reverse=False)
    assert not found.get().any()


def test_the_future_never_leaks(cp):
    a, b = numbers((2, 700), "float64", 0), numbers((2, 700), "float64", 1)
    scan = linear_scan.LinearScan(cp)
    before = scan(cp.asarray(a), cp.asarray(b), None, reverse=False).get()
    a[:, 300:] = b[:, 300:] = np.nan
    after = scan(cp.asarray(a), cp.asarray(b), None, reverse=False).get()
    np.testing.assert_array_equal(before[:, :300], after[:, :300])
    assert np.isnan(after[:, 300:]).all()


def test_calls_that_are_left_to_others(cp):
    scan = linear_scan.LinearScan(cp)
    x, whole = cp.asarray(np.ones(3, "float32")), cp.asarray(np.ones(3, "int64"))
    assert scan(x, cp.asarray(np.ones(3)), None, reverse=False) is None
    assert scan(whole, whole, None, reverse=False) is None
    assert scan(x[:0], x[:0], None, reverse=False) is None
