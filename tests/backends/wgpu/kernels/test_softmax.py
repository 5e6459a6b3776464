"""Softmax and its logarithm against NumPy in float64."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.rows import MOST_COLUMNS
from helixml.backends.wgpu.kernels.softmax import Softmax, takes_axis

from .conftest import close, get, put, random, strided, wide


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def goals(name, x, g):
    """Return y and the gradient of x, along the last axis."""
    y = softmax(x)
    if name == "softmax":
        return y, y * (g - (g * y).sum(-1, keepdims=True))
    return np.log(y), g - y * g.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (70, 9), (3, 1000)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_rows_and_their_gradients(runtime, threads, name, shape):
    x, g = random(shape, 1, -9, 9), random(shape, 2)
    kernel = Softmax(runtime, name, threads)
    inputs = put(runtime, x)
    (y,), residuals = kernel.forward(*inputs)
    (dx,) = kernel.backward(put(runtime, g), [True], inputs, residuals)
    for found, goal in zip((y, dx), goals(name, *wide(x, g)), strict=True):
        close(runtime, found, goal, shape[-1])


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_any_axis_of_a_view(runtime, name, axis):
    x, g = random((4, 5, 6), 1), random((4, 5, 6), 2)
    kernel = Softmax(runtime, name)
    inputs = [strided(runtime, x)]
    (y,), residuals = kernel.forward(*inputs, axis=axis)
    (dx,) = kernel.backward([strided(runtime, g)], [True], inputs, residuals, axis=axis)
    moved = [np.moveaxis(a, axis, -1) for a in wide(x, g)]
    for found, goal in zip((y, dx), goals(name, *moved), strict=True):
        close(runtime, found, np.moveaxis(goal, -1, axis), 6)


def test_rows_without_a_number(runtime):
    x = np.array([[1, np.nan, 2], [np.inf, 1, 2], [-np.inf, 0, 0], [1e30, -1e30, 0]], np.float32)
    (y,), _ = Softmax(runtime, "softmax").forward(*put(runtime, x))
    goal = np.array([[np.nan] * 3, [np.nan] * 3, [0, 0.5, 0.5], [1, 0, 0]], np.float32)
    np.testing.assert_array_equal(get(runtime, y), goal)


def test_no_rows(runtime):
    kernel = Softmax(runtime, "softmax")
    inputs = put(runtime, random((0, 4)))
    (y,), residuals = kernel.forward(*inputs)
    (dx,) = kernel.backward(inputs, [True], inputs, residuals)
    assert y.shape == dx.shape == (0, 4)


def test_a_row_of_as_many_entries_as_are_taken(runtime):
    x = random((2, MOST_COLUMNS), 1, -9, 9)
    (y,), _ = Softmax(runtime, "softmax").forward(*put(runtime, x))
    np.testing.assert_allclose(get(runtime, y), softmax(*wide(x)), rtol=5e-6)
    assert not takes_axis([x[:, :-1].repeat(2, axis=1)], {})
