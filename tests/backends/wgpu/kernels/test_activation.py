"""Activations and gates against NumPy and SciPy in float64; the functions they are made of."""

import numpy as np
import pytest
from scipy import special

from helixml.backends.wgpu.kernels.activation import Activation, product

from .conftest import close, get, put, random, strided, wide


def logistic(x):
    return special.expit(x)


def density(x):
    return np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi)


VALUES = {
    "silu": lambda x: x * logistic(x),
    "gelu": lambda x: x * special.ndtr(x),
    "softplus": lambda x: np.logaddexp(0, x),
}
SLOPES = {
    "silu": lambda x: logistic(x) * (1 + x * (1 - logistic(x))),
    "gelu": lambda x: special.ndtr(x) + x * density(x),
    "softplus": logistic,
}


@pytest.mark.parametrize("size", [1, 31, 1000])
@pytest.mark.parametrize("name", VALUES)
def test_activations_and_their_gradients(runtime, threads, name, size):
    x, g = random(size, 1, -6, 6), random(size, 2)
    forward, backward = Activation(runtime, threads).activation(name)
    (y,), residuals = forward(*put(runtime, x))
    (dx,) = backward(put(runtime, g), [True], put(runtime, x), residuals)
    close(runtime, y, VALUES[name](*wide(x)))
    close(runtime, dx, wide(g)[0] * SLOPES[name](*wide(x)))


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_gates_and_their_gradients(runtime, threads, name):
    x, gate, g = random((7, 13), 1), random((7, 13), 2, -6, 6), random((7, 13), 3)
    forward, backward = Activation(runtime, threads).gate(name)
    inputs = [strided(runtime, x), *put(runtime, gate)]
    (y,), residuals = forward(*inputs)
    dx, dgate = backward(put(runtime, g), [True, True], inputs, residuals)
    x, gate, g = wide(x, gate, g)
    close(runtime, y, x * VALUES[name](gate))
    close(runtime, dx, g * VALUES[name](gate))
    close(runtime, dgate, g * x * SLOPES[name](gate))


@pytest.mark.parametrize("name", VALUES)
def test_what_is_not_finite(runtime, name):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1e38, -1e38], np.float32)
    forward, _ = Activation(runtime).activation(name)
    (y,), _ = forward(*put(runtime, x))
    with np.errstate(invalid="ignore", over="ignore"):
        goal = VALUES[name](x.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(get(runtime, y), goal)


def test_nothing_has_no_activation(runtime):
    forward, backward = Activation(runtime).activation("silu")
    empty = random((0, 3))
    (y,), _ = forward(*put(runtime, empty))
    (dx,) = backward(put(runtime, empty), [True], put(runtime, empty), ())
    assert y.shape == dx.shape == (0, 3)


def test_small_values_keep_their_digits(runtime):
    x = -np.geomspace(1e-3, 80, 300).astype(np.float32)
    forward, _ = Activation(runtime).activation("softplus")
    (y,), _ = forward(*put(runtime, x))
    np.testing.assert_allclose(get(runtime, y), np.log1p(np.exp(*wide(x))), rtol=6e-7)


@pytest.mark.parametrize("name", ["chain", "quotient"])
def test_products_of_the_chain_rule_are_zero_where_only_the_derivative_is_singular(runtime, name):
    edges = np.array([0.0, -0.0, 0.5, -2.0, np.inf, -np.inf, np.nan], np.float32)
    x, y = edges[:, None], edges[None, :]
    ((found,), _) = product(runtime, name)(*put(runtime, x, y))
    with np.errstate(all="ignore"):
        goal = x * y if name == "chain" else x / y
        singular = ~np.isfinite(y) if name == "chain" else ~(np.abs(y) > 0)
    np.testing.assert_array_equal(get(runtime, found), np.where((x == 0) & singular, 0, goal))
