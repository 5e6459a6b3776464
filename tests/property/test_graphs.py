"""Large random graphs: 5 to 40 ops, values used again and again, against the same in NumPy.

Derivatives come from the NumPy program too, by a step in the imaginary direction: f(x + i h d) has
the imaginary part h f'(x) d, and nothing cancels, so that h can be 1e-30 (Squire & Trapp 1998).
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import helixml as hx

N = 3
STEP = 1e-30
CHOICE = np.array([[True, False, True], [False, True, True], [True, True, False]])
ORDER = np.array([2, 0, 2, 1])
ALONG = np.array([[0, 2, 1], [1, 1, 0], [2, 0, 0]])


def np_softmax(x):
    e = np.exp(x - x.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def np_logsumexp(x, axis):
    top = x.real.max(axis=axis, keepdims=True)
    return np.log(np.exp(x - top).sum(axis=axis, keepdims=True)) + top


def np_layer_norm(x):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 0.1)


def np_replaced(x):
    x = x.copy()
    x[1:, 0] = x[0, 1:] * 2
    return x


def hx_replaced(x):
    y = x * 1.0
    y[1:, 0] = x[0, 1:] * 2
    return y


def np_added(x):
    x = x.copy()
    np.add.at(x, ORDER, x[[0, 1, 2, 0]] / 3)
    return x


def np_scan(x):
    h, out = 0, []
    for t in range(N):
        h = np.tanh(x[:, t]) * h + x[:, t]
        out.append(h)
    return np.stack(out, axis=1)


ONES = hx.ones((N,), dtype="float64")
# name -> (function of tensors, the same in NumPy, analytic); values stay moderate
UNARY = {
    "sin": (hx.sin, np.sin),
    "cos": (hx.cos, np.cos),
    "tanh": (hx.tanh, np.tanh),
    "atan": (hx.atan, np.arctan),
    "asinh": (hx.asinh, np.arcsinh),
    "exp": (lambda x: hx.exp(hx.tanh(x)), lambda x: np.exp(np.tanh(x))),
    "expm1": (lambda x: hx.expm1(hx.sin(x)), lambda x: np.expm1(np.sin(x))),
    "log1p": (lambda x: hx.log1p(x * x), lambda x: np.log1p(x * x)),
    "log": (lambda x: hx.log(x * x + 1), lambda x: np.log(x * x + 1)),
    "sqrt": (lambda x: hx.sqrt(x * x + 0.5), lambda x: np.sqrt(x * x + 0.5)),
    "pow": (lambda x: (hx.tanh(x) + 2) ** 1.5, lambda x: (np.tanh(x) + 2) ** 1.5),
    "sigmoid": (hx.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "silu": (hx.silu, lambda x: x / (1 + np.exp(-x))),
    "softplus": (hx.softplus, lambda x: np.log1p(np.exp(x))),
    "square": (lambda x: hx.square(hx.sin(x)), lambda x: np.sin(x) ** 2),
    "reciprocal": (lambda x: hx.reciprocal(x * x + 1), lambda x: 1 / (x * x + 1)),
    "negative": (hx.negative, np.negative),
    "flip": (lambda x: hx.flip(x, axis=1), lambda x: np.flip(x, axis=1)),
    "roll": (lambda x: hx.roll(x, 2, axis=0), lambda x: np.roll(x, 2, axis=0)),
    "transpose": (lambda x: x.mT, np.transpose),
    "tril": (hx.tril, np.tril),
    "triu": (lambda x: hx.triu(x, k=1), lambda x: np.triu(x, k=1)),
    "row": (lambda x: x[1], lambda x: x[1]),
    "column": (lambda x: x[:, ::-1][:, :1], lambda x: x[:, ::-1][:, :1]),
    "entry": (lambda x: x[2, 0], lambda x: x[2, 0]),
    "masked": (lambda x: x[CHOICE][:3], lambda x: x[CHOICE][:3]),
    "taken": (lambda x: hx.take(x, ORDER, axis=0)[1:], lambda x: np.take(x, ORDER, axis=0)[1:]),
    "along": (
        lambda x: hx.take_along_axis(x, hx.tensor(ALONG), axis=1),
        lambda x: np.take_along_axis(x, ALONG, axis=1),
    ),
    "replaced": (hx_replaced, np_replaced),
    "added": (lambda x: x.at[ORDER].add(x[[0, 1, 2, 0]] / 3), np_added),
    "total": (lambda x: x.sum(axis=0) / 2, lambda x: x.sum(axis=0) / 2),
    "mean": (lambda x: x.mean(axis=1, keepdims=True), lambda x: x.mean(axis=1, keepdims=True)),
    "product": (lambda x: hx.prod(hx.tanh(x), axis=1), lambda x: np.prod(np.tanh(x), axis=1)),
    "variance": (
        lambda x: hx.var(hx.tanh(x), axis=0, correction=1),
        lambda x: ((np.tanh(x) - np.tanh(x).mean(0)) ** 2).sum(0) / (N - 1),
    ),
    "logsumexp": (
        lambda x: hx.logsumexp(x, axis=1, keepdims=True),
        lambda x: np_logsumexp(x, 1),
    ),
    "running": (lambda x: hx.cumulative_sum(x, axis=0) / 3, lambda x: np.cumsum(x, 0) / 3),
    "running product": (
        lambda x: hx.cumulative_prod(hx.cos(x), axis=1),
        lambda x: np.cumprod(np.cos(x), axis=1),
    ),
    "differences": (lambda x: hx.diff(x, axis=0)[:1], lambda x: np.diff(x, axis=0)[:1]),
    "scan": (lambda x: hx.linear_scan(hx.tanh(x), x, axis=1) / 2, lambda x: np_scan(x) / 2),
    "softmax": (hx.softmax, np_softmax),
    "log_softmax": (hx.log_softmax, lambda x: x - np_logsumexp(x, -1)),
    "layer_norm": (lambda x: hx.layer_norm(x, ONES, eps=0.1), np_layer_norm),
    "rms_norm": (
        lambda x: hx.rms_norm(x, ONES, eps=0.1),
        lambda x: x / np.sqrt((x**2).mean(axis=-1, keepdims=True) + 0.1),
    ),
    "repeat": (lambda x: hx.repeat(x, 2, axis=0)[1:4], lambda x: np.repeat(x, 2, axis=0)[1:4]),
    "tile": (lambda x: hx.tile(x, (2, 1))[2:5], lambda x: np.tile(x, (2, 1))[2:5]),
    "reshape": (
        lambda x: x.reshape(-1)[::-1].reshape(3, 3),
        lambda x: x.ravel()[::-1].reshape(3, 3),
    ),
}
BINARY = {
    "add": (lambda x, y: 0.7 * (x + y), lambda x, y: 0.7 * (x + y)),
    "subtract": (lambda x, y: 0.7 * (x - y), lambda x, y: 0.7 * (x - y)),
    "multiply": (lambda x, y: hx.tanh(x) * y, lambda x, y: np.tanh(x) * y),
    "divide": (lambda x, y: x / (y * y + 1), lambda x, y: x / (y * y + 1)),
    "matmul": (lambda x, y: hx.sin(x) @ y / 3, lambda x, y: np.sin(x) @ y / 3),
    "vecdot": (
        lambda x, y: hx.vecdot(hx.sin(x), y) / 3,
        lambda x, y: (np.sin(x) * y).sum(axis=-1) / 3,
    ),
    "linear": (
        lambda x, y: hx.linear(hx.cos(x), y, y[0]) / 3,
        lambda x, y: (np.cos(x) @ y.T + y[0]) / 3,
    ),
    "logaddexp": (hx.logaddexp, lambda x, y: y + np.log1p(np.exp(x - y))),
    "where": (
        lambda x, y: hx.where(hx.tensor(CHOICE), x, y),
        lambda x, y: np.where(CHOICE, x, y),
    ),
    "concat": (
        lambda x, y: hx.concat([x, y], axis=1)[:, 1:4],
        lambda x, y: np.concatenate([x, y], axis=1)[:, 1:4],
    ),
    "stack": (lambda x, y: hx.stack([x, y])[:, 1].sum(axis=0), lambda x, y: x[1] + y[1]),
    "broadcast": (lambda x, y: x[:, :1] * hx.sin(y[0]), lambda x, y: x[:, :1] * np.sin(y[0])),
}


@st.composite
def programs(draw):
    """Draw 5 to 40 steps; each takes earlier values by number, mostly late ones."""
    steps = []
    for number in range(draw(st.integers(5, 40))):
        earlier = st.integers(0, 1 + number) | st.integers(max(0, number - 3), 1 + number)
        name = draw(st.sampled_from((*UNARY, *BINARY, *BINARY)))
        count = 1 if name in UNARY else 2
        steps.append((name, *[draw(earlier) for _ in range(count)]))
    return steps


def run(program, x, y, which):
    """Return the last value plus a tenth of all others: every value plays a part."""
    values = [x, y]
    zeros = np.zeros((N, N))
    total = x * 0.1
    for name, *arguments in program:
        table = UNARY if len(arguments) == 1 else BINARY
        values.append(table[name][which](*[values[i] for i in arguments]) + zeros)
        total = total + values[-1] * 0.1
    return total + values[-1]


POINTS = st.integers(0, 10**6).map(lambda seed: np.random.default_rng(seed).normal(size=(5, N, N)))


def check(program, points):
    x, y, along_x, along_y, weights = points
    a, b = (hx.tensor(p, requires_grad=True) for p in (x, y))
    out = run(program, a, b, 0)
    expected = run(program, x, y, 1)
    scale = 1 + np.abs(expected).max()
    assert np.abs(out.numpy() - expected).max() <= 1e-9 * scale
    (out * weights).sum().backward()
    found = float((a.grad.numpy() * along_x).sum())
    found += 0.0 if b.grad is None else float((b.grad.numpy() * along_y).sum())
    moved = run(program, x + 1j * STEP * along_x, y + 1j * STEP * along_y, 1)
    derivative = (moved.imag * weights).sum() / STEP
    size = np.abs(moved.imag / STEP * weights).sum()  # of the terms, which may cancel
    assert abs(found - derivative) <= 1e-8 * (1 + size)


@settings(max_examples=50)
@given(programs(), POINTS)
def test_graphs(program, points):
    check(program, points)


@pytest.mark.slow
@settings(max_examples=1000)
@given(programs(), POINTS)
def test_a_thousand_graphs(program, points):
    check(program, points)
