"""Linear maps, with matrices as they are stored too, and a mixer's step, against NumPy."""

import numpy as np
import pytest
from scipy import special

from helixml.backends.wgpu.kernels.linear import Linear
from helixml.backends.wgpu.kernels.mamba_step import MambaStep, takes_few_sequences
from helixml.backends.wgpu.kernels.stored_linear import StoredLinear, takes_few

from .conftest import close, put, random, strided, wide

VALUES = {
    None: lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "gelu": lambda x: x * special.ndtr(x),
    "silu": lambda x: x * special.expit(x),
}
SLOPES = {
    None: np.ones_like,
    "relu": lambda x: (x > 0).astype(float),
    "gelu": lambda x: special.ndtr(x) + x * np.exp(-0.5 * x * x) / np.sqrt(2 * np.pi),
    "silu": lambda x: special.expit(x) * (1 + x * (1 - special.expit(x))),
}


@pytest.mark.parametrize("activation", VALUES)
@pytest.mark.parametrize("with_bias", [False, True])
def test_linear_and_its_gradient(runtime, threads, activation, with_bias):
    x, weight, g = random((2, 9, 7), 1), random((5, 7), 2), random((2, 9, 5), 3)
    bias = random((5,), 4) if with_bias else None
    linear = Linear(runtime, threads)
    inputs = [strided(runtime, x), *put(runtime, weight, bias)]
    (y,), residuals = linear.forward(*inputs, activation=activation)
    needs = [True, True, with_bias]
    pulls = [strided(runtime, g)]
    found = linear.backward(pulls, needs, inputs, residuals, activation=activation)
    x, weight, g = wide(x, weight, g)
    before = x @ weight.T + (0 if bias is None else bias)
    g = g * SLOPES[activation](before)
    close(runtime, y, VALUES[activation](before), 7)
    close(runtime, found[0], g @ weight, 5)
    close(runtime, found[1], np.einsum("bln,bld->nd", g, x), 18)
    assert (found[2] is not None) == with_bias
    if with_bias:
        close(runtime, found[2], g.sum((0, 1)), 18)


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("shape", [(3,), (1, 3), (4, 300)])
def test_stored_matrices(runtime, threads, dtype, shape):
    d, n = shape[-1], 37
    x, weight = random(shape, 1), (random((n, d), 2) * 60).astype(dtype)
    scale, bias = random((n,), 3), random((n,), 4)
    inputs = put(runtime, x, weight, scale, bias)
    assert takes_few(inputs, {})
    (y,), _ = StoredLinear(runtime, threads).forward(*inputs)
    x, weight, scale, bias = wide(x, weight, scale, bias)
    close(runtime, y, x @ (weight * scale[:, None]).T + bias, d)


def test_many_vectors_are_left_to_products(runtime):
    x, weight = put(runtime, random((17, 3)), random((2, 3)))
    assert not takes_few([x, weight, None, None], {})


@pytest.mark.parametrize("dtype", ["float32", "int8"])
@pytest.mark.parametrize("taps", [1, 4])
def test_a_step_of_a_mixer(runtime, threads, dtype, taps):
    b, m, d, n, rank = 3, 8, 20, 5, 2

    def matrix(rows, columns, seed):
        full = random((rows, columns), seed, -1, 1)
        return full if dtype == "float32" else np.round(full * 100).astype(dtype)

    x, past, state = random((b, m), 1), random((b, d, taps - 1), 2), random((b, d, n), 3)
    matrices = [
        matrix(2 * d, m, 4),
        matrix(rank + 2 * n, d, 5),
        matrix(d, rank, 6),
        matrix(m, d, 7),
    ]
    biases = [random((size,), 8 + i) for i, size in enumerate((2 * d, d, d, m))]
    conv, A_log, D = random((d, taps), 12), random((d, n), 13, -1, 1), random((d,), 14)
    scales = [None] * 4
    if dtype == "int8":
        scales = [random(w.shape[:1], 15 + i, 0.005, 0.01) for i, w in enumerate(matrices)]
    in_proj, x_proj, dt_proj, out_proj = matrices
    hosts = [x, past, state, in_proj, conv, x_proj, dt_proj, A_log, D, out_proj, *biases, *scales]
    inputs = put(runtime, *hosts)
    assert takes_few_sequences(inputs, {})
    (y, later, following), _ = MambaStep(runtime, threads).forward(*inputs)

    x, past, state, conv, A_log, D = wide(x, past, state, conv, A_log, D)
    full = [
        w.astype(np.float64) * (1 if s is None else s.astype(np.float64)[:, None])
        for w, s in zip(matrices, scales, strict=True)
    ]
    both = x @ full[0].T + biases[0]
    u, z = both[:, :d], both[:, d:]
    window = np.concatenate([past, u[:, :, None]], axis=2)
    u = VALUES["silu"]((window * conv).sum(2) + biases[1])
    dt, B, C = np.split(u @ full[1].T, [rank, rank + n], axis=1)
    delta = np.logaddexp(0, dt @ full[2].T + biases[2])
    h = np.exp(-delta[:, :, None] * np.exp(A_log)) * state
    h = h + (delta * u)[:, :, None] * B[:, None]
    mixed = ((h * C[:, None]).sum(2) + D * u) * VALUES["silu"](z)
    close(runtime, later, window[:, :, 1:])
    close(runtime, following, h, d)
    close(runtime, y, mixed @ full[3].T + biases[3], d)
