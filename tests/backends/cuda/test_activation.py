"""Activations, gates, and the backend's functions of single numbers."""

from math import erf, exp, log1p, pi, sqrt

import numpy as np
import pytest

from .conftest import close, random, wide

SIZES = [1, 37, 1024]


def logistic(x):
    return 1 / (1 + exp(-x)) if x > 0 else exp(x) / (1 + exp(x))


def normal(x):
    return (1 + erf(x / sqrt(2))) / 2


# Values and slopes, number by number
FUNCTIONS = {
    "silu": (lambda x: x * logistic(x), lambda x: logistic(x) * (1 + x * logistic(-x))),
    "gelu": (lambda x: x * normal(x), lambda x: normal(x) + x * exp(-x * x / 2) / sqrt(2 * pi)),
    "softplus": (lambda x: max(x, 0) + log1p(exp(-abs(x))), logistic),
}


def each(function, x):
    return np.array([function(float(v)) for v in x.reshape(-1)]).reshape(x.shape)


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_activations_and_their_gradients(cp, backend, dtype, name, size):
    x, g = random((size,), dtype, low=-8, high=8), random((size,), dtype, 1)
    value, slope = FUNCTIONS[name]
    (y,), kept = backend.kernels[name].function(cp.asarray(x))
    (dx,) = backend.kernels[f"{name}_vjp"].function(
        (cp.asarray(g),), (True,), (cp.asarray(x),), kept
    )
    close(y, each(value, x))
    close(dx, wide(g)[0] * each(slope, x))


@pytest.mark.parametrize("name", ["silu", "gelu"])
@pytest.mark.parametrize("size", SIZES)
def test_gates_and_their_gradients(cp, backend, dtype, name, size):
    x, gate, g = (random((size,), dtype, seed, -4, 4) for seed in range(3))
    value, slope = FUNCTIONS[name]
    inputs = cp.asarray(x), cp.asarray(gate)
    (y,), kept = backend.kernels[f"{name}_gate"].function(*inputs)
    backward = backend.kernels[f"{name}_gate_vjp"].function
    dx, dgate = backward((cp.asarray(g),), (True, True), inputs, kept)
    hx, hg = wide(x, g)
    close(y, hx * each(value, gate))
    close(dx, hg * each(value, gate))
    close(dgate, hg * hx * each(slope, gate))


def test_activations_far_out(cp, backend):
    x = np.array([-np.inf, -200.0, -0.0, 200.0, np.inf, np.nan], np.float32)
    with np.errstate(all="ignore"):
        found = {
            name: backend.kernels[name].function(cp.asarray(x))[0][0].get() for name in FUNCTIONS
        }
    assert found["softplus"][:5].tolist() == [0.0, 0.0, np.float32(np.log(2)), 200.0, np.inf]
    assert found["silu"][1:5].tolist() == [0.0, 0.0, 200.0, np.inf]
    assert found["gelu"][1:5].tolist() == [0.0, 0.0, 200.0, np.inf]
    assert all(np.isnan(values[5]) for values in found.values())


def test_what_is_not_dense_is_copied(cp, backend):
    host = random((6, 8), np.float32)
    (y,), _ = backend.kernels["silu"].function(cp.asarray(host)[:, 1:7:2].T)
    close(y, each(FUNCTIONS["silu"][0], host[:, 1:7:2].T))


def test_sigmoid_and_erf(cp, backend, dtype):
    x = random((45,), dtype, low=-5, high=5)
    close(backend.sigmoid(cp.asarray(x)), each(logistic, x))
    close(backend.erf(cp.asarray(x)), each(erf, x))
