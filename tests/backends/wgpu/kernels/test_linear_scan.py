"""The linear recurrence against a loop over time, in double precision."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.linear_scan import LinearScan

from .conftest import get, put, random, strided


def loop(a, b, initial, reverse):
    a, b = np.broadcast_arrays(a.astype(np.complex128), b.astype(np.complex128))
    h, state = np.empty_like(b), initial
    steps = range(b.shape[-1])
    for t in reversed(steps) if reverse else steps:
        state = b[..., t] if state is None else a[..., t] * state + b[..., t]
        h[..., t] = state
    return h


def numbers(shape, dtype, seed, low=-1.0, high=1.0):
    real = random(shape, seed, low, high)
    return real if dtype == "float32" else (real + 1j * random(shape, seed + 50, low, high)) * 0.7


def check(runtime, hosts, reverse=False, threads=256, chunk=None, lay=put):
    arrays = [None if x is None else lay(runtime, x.astype(hosts[1].dtype)) for x in hosts]
    arrays = [x[0] if isinstance(x, list) else x for x in arrays]
    h = LinearScan(runtime, threads, chunk)(*arrays, reverse=reverse)
    goal = loop(*hosts, reverse)
    found = get(runtime, h)
    assert found.dtype == hosts[1].dtype
    np.testing.assert_allclose(found, goal, rtol=0, atol=4e-6 * max(1, np.abs(goal).max()))


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("starts", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, None])
def test_states(runtime, threads, dtype, reverse, starts, chunk):
    a, b = (numbers((3, 5, 37), dtype, seed) for seed in (1, 2))
    initial = numbers((3, 5), dtype, 3) if starts else None
    check(runtime, (a, b, initial), reverse, threads, chunk)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("starts", [False, True])
def test_views_with_channels_side_by_side(runtime, reverse, starts):
    a, b = (numbers((2, 6, 33), "float32", seed) for seed in (1, 2))
    initial = numbers((2, 6), "float32", 3) if starts else None
    check(runtime, (a, b, initial), reverse, chunk=8, lay=strided)


@pytest.mark.parametrize("shape", [(37,), (1, 37), (4, 1), (3, 4, 1), (1,)])
def test_broadcasting(runtime, shape):
    a, b = numbers(shape, "float32", 1), numbers((3, 4, 37), "float32", 2)
    check(runtime, (a, b, numbers((3, 4), "float32", 3)), chunk=5)


def test_a_long_line_is_cut(runtime):
    """Mesa's device leaves a loop silently after 65,535 iterations."""
    a, b = numbers((70_000,), "float32", 1, 0.5, 0.9), numbers((70_000,), "float32", 2)
    check(runtime, (a, b, None))


def test_of_nothing_comes_nothing(runtime):
    a = np.full((2, 40), 3e38, np.float32)
    h = LinearScan(runtime, chunk=8)(
        *put(runtime, a, np.zeros((2, 40), np.float32), None), reverse=False
    )
    assert (get(runtime, h) == 0).all()


def test_other_numbers_are_left(runtime):
    scan = LinearScan(runtime)
    whole, empty = put(runtime, np.ones(3, np.int32), np.ones((2, 0), np.float32))
    assert scan(whole, whole, None, reverse=False) is None
    assert scan(empty, empty, None, reverse=False) is None
