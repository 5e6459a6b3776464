"""Products with stored matrices and a step of Mamba, against loops in float64."""

import ml_dtypes
import numpy as np
import pytest

from helixml.backends.cuda.kernels.mamba_step import MambaStep, takes_few_sequences
from helixml.backends.cuda.kernels.stored_linear import FEW, StoredLinear, takes_few

from .conftest import close, random, wide


def matrix(shape, kind, dtype, seed=0):
    """Return a matrix of the dtype, of bfloat16 or of int8, and the scales of integers."""
    if kind == "int8":
        rng = np.random.default_rng(seed)
        whole = rng.integers(-128, 128, shape).astype(np.int8)
        return whole, (random(shape[:1], dtype, seed + 1, 0.1, 1) / 512).astype(dtype)
    return random(shape, ml_dtypes.bfloat16 if kind == "bfloat16" else dtype, seed), None


def product(x, weight, scale, bias=None):
    y = x @ (weight if scale is None else weight * scale[:, None]).T
    return y if bias is None else y + bias


def on_device(cp, *hosts):
    return [None if x is None else cp.asarray(x) for x in hosts]


@pytest.mark.parametrize("kind", ["same", "bfloat16", "int8"])
@pytest.mark.parametrize("width", [7, 64, 1040])
def test_products_in_any_order_of_threads(cp, dtype, order, kind, width):
    if kind == "bfloat16" and dtype == np.float16:
        pytest.skip("its result is wider")
    x, bias = random((3, width), dtype), random((9,), dtype, 1)
    weight, scale = matrix((9, width), kind, dtype, 2)
    ((y,), _) = StoredLinear(cp).forward(*on_device(cp, x, weight, scale, bias))
    assert y.dtype == dtype
    close(y, product(*wide(x, weight, scale, bias)), width)


@pytest.mark.parametrize("shape", [(40,), (1, 40), (2, 3, 40), (FEW, 40)], ids=str)
def test_numbers_of_vectors(cp, shape):
    x, (weight, scale) = random(shape, "float32"), matrix((5, 40), "int8", "float32")
    ((y,), _) = StoredLinear(cp).forward(*on_device(cp, x, weight, scale))
    close(y, product(*wide(x, weight, scale)), 40)


def test_what_is_left_to_the_definition():
    x, weight = np.zeros((FEW, 4), "float16"), np.zeros((5, 4), "float16")
    assert takes_few([x, weight, None, None], {})
    assert not takes_few([np.zeros((FEW + 1, 4), "float16"), weight, None, None], {})
    assert not takes_few([x, weight.astype("float32"), None, None], {})
    assert not takes_few([x, weight.astype(ml_dtypes.bfloat16), None, None], {})
    assert not takes_few([x[:0], weight, None, None], {})


def silu(x):
    return x / (1 + np.exp(-x))


def step(x, past, state, matrices, scales, conv_weight, A_log, D, biases):
    """Return y and the next states, a sequence and a channel at a time."""
    in_proj, x_proj, dt_proj, out_proj = (
        m if s is None else m * s[:, None] for m, s in zip(matrices, scales, strict=True)
    )
    in_bias, conv_bias, dt_bias, out_bias = (0.0 if x is None else x for x in biases)
    d, n = A_log.shape
    rank = dt_proj.shape[1]
    y, later, h = np.zeros((len(x), len(out_proj))), past.copy(), state.copy()
    for i in range(len(x)):
        inner = in_proj @ x[i] + in_bias
        seen = np.concatenate([past[i], inner[:d, None]], axis=1)
        u = silu((seen * conv_weight).sum(1) + conv_bias)
        later[i] = seen[:, 1:]
        dt, B, C = np.split(x_proj @ u, [rank, rank + n])
        delta = np.logaddexp(0, dt_proj @ dt + dt_bias)
        for c in range(d):
            h[i, c] = np.exp(-delta[c] * np.exp(A_log[c])) * h[i, c] + delta[c] * B * u[c]
        y[i] = out_proj @ ((h[i] @ C + D * u) * silu(inner[d:])) + out_bias
    return y, later, h


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("same", (2, 8, 5, 3, 4, 2)),
        ("bfloat16", (1, 16, 8, 40, 1, 8)),
        ("int8", (3, 32, 6, 16, 4, 16)),
    ],
)
def test_a_step_of_mamba_in_any_order_of_threads(cp, dtype, order, kind, sizes):
    if kind == "bfloat16" and dtype == np.float16:
        pytest.skip("its result is wider")
    b, m, d, n, taps, rank = sizes
    shapes = (2 * d, m), (rank + 2 * n, d), (d, rank), (m, d)
    pairs = [matrix(shape, kind, dtype, 10 * i) for i, shape in enumerate(shapes)]
    matrices = [
        (pair[0] if kind == "int8" else (pair[0] / 2).astype(pair[0].dtype)) for pair in pairs
    ]
    scales = [pair[1] for pair in pairs]
    x, past, state = (random(s, dtype, 50) for s in ((b, m), (b, d, taps - 1), (b, d, n)))
    conv_weight, D = random((d, taps), dtype, 51), random((d,), dtype, 52)
    A_log = random((d, n), dtype, 53, -1, 1)
    biases = [random((rows,), dtype, 54) if kind != "int8" else None for rows in (2 * d, d, d, m)]
    goals = step(
        *wide(x, past, state),
        wide(*matrices),
        wide(*scales),
        *wide(conv_weight, A_log, D),
        wide(*biases),
    )
    hosts = [x, past, state, matrices[0], conv_weight, *matrices[1:3], A_log, D, matrices[3]]
    outputs, _ = MambaStep(cp).forward(*on_device(cp, *hosts, *biases, *scales))
    for found, goal in zip(outputs, goals, strict=True):
        assert found.dtype == dtype
        if dtype in (np.float32, np.float64):
            close(found, goal, 64 * m * d)
        else:  # what is between the products is rounded, too
            np.testing.assert_allclose(
                found.get().astype(float), goal, rtol=0, atol=0.05 * np.abs(goal).max(initial=1)
            )


def test_steps_of_many_sequences_are_left_to_the_definition():
    whole = [np.zeros((2, 2), "float32")] * 18
    assert takes_few_sequences(whole, {})
    assert not takes_few_sequences([np.zeros((FEW + 1, 2), "float32"), *whole[1:]], {})
