"""Random expression graphs: values against NumPy, gradients against difference quotients."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import helixml as hx
from helixml.testing import check_gradients

# name -> (function of tensors, the same in NumPy); all smooth, with values that stay moderate
UNARY = {
    "sin": (hx.sin, np.sin),
    "tanh": (hx.tanh, np.tanh),
    "sigmoid": (hx.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "softplus": (hx.softplus, lambda x: np.log1p(np.exp(x))),
    "square": (lambda x: hx.square(hx.tanh(x)), lambda x: np.tanh(x) ** 2),
    "log": (lambda x: hx.log(x * x + 1), lambda x: np.log(x * x + 1)),
    "sqrt": (lambda x: hx.sqrt(x * x + 0.5), lambda x: np.sqrt(x * x + 0.5)),
    "flip": (hx.flip, np.flip),
    "transpose": (lambda x: x.T, np.transpose),
    "row": (lambda x: x[1], lambda x: x[1]),
    "column": (lambda x: x[:, ::-1][:, :1], lambda x: x[:, ::-1][:, :1]),
    "total": (lambda x: x.sum(axis=0), lambda x: x.sum(axis=0)),
    "mean": (lambda x: x.mean(axis=1, keepdims=True), lambda x: x.mean(axis=1, keepdims=True)),
    "running": (lambda x: hx.cumulative_sum(x, axis=0) / 3, lambda x: np.cumsum(x, 0) / 3),
    "softmax": (
        hx.softmax,
        lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    ),
}
BINARY = {
    "add": (lambda x, y: x + y, lambda x, y: x + y),
    "subtract": (lambda x, y: x - y, lambda x, y: x - y),
    "multiply": (lambda x, y: hx.tanh(x) * y, lambda x, y: np.tanh(x) * y),
    "divide": (lambda x, y: x / (y * y + 1), lambda x, y: x / (y * y + 1)),
    "matmul": (lambda x, y: x @ y / 3, lambda x, y: x @ y / 3),
    "where": (
        lambda x, y: hx.where(hx.tensor([True, False, True]), x, y),
        lambda x, y: np.where([True, False, True], x, y),
    ),
}


@st.composite
def programs(draw):
    """Draw a list of steps; each takes earlier values by number."""
    steps = []
    for number in range(draw(st.integers(1, 6))):
        earlier = st.integers(0, 1 + number)
        if draw(st.booleans()):
            steps.append((draw(st.sampled_from(sorted(UNARY))), draw(earlier)))
        else:
            steps.append((draw(st.sampled_from(sorted(BINARY))), draw(earlier), draw(earlier)))
    return steps


def run(program, x, y, which):
    """Return the last value, each step brought back to (3, 3) so that all combine."""
    values = [x, y]
    for name, *arguments in program:
        table = UNARY if len(arguments) == 1 else BINARY
        result = table[name][which](*[values[i] for i in arguments])
        values.append(result + np.zeros((3, 3)))
    return values[-1]


POINTS = st.integers(0, 50).map(lambda seed: np.random.default_rng(seed).normal(size=(2, 3, 3)))


@given(programs(), POINTS)
def test_values(program, points):
    expected = run(program, *points, 1)
    got = run(program, *[hx.tensor(p) for p in points], 0)
    assert np.allclose(got.numpy(), expected, rtol=1e-12, atol=1e-13)


@settings(max_examples=25)
@given(programs(), POINTS)
def test_gradients_to_second_order(program, points):
    check_gradients(lambda x, y: run(program, x, y, 0), *points, orders=2)


@given(programs(), POINTS)
def test_backward_agrees_with_gradients(program, points):
    x, y = (hx.tensor(p, requires_grad=True) for p in points)
    run(program, x, y, 0).sum().backward()
    again = hx.autograd.gradients(run(program, x, y, 0).sum(), (x, y))
    for leaf, g in zip((x, y), again, strict=True):
        got = np.zeros((3, 3)) if leaf.grad is None else leaf.grad.numpy()
        assert got.tobytes() == g.numpy().tobytes() or np.array_equal(got, g.numpy())
