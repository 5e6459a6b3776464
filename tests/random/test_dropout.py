"""Dropout: the mask follows from key and counter, and the gradient draws the same one."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.ops import dropout


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("shape", [(3, 5), (), (0, 4), (17,)])
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropped_positions_are_those_of_philox(philox, dtype, shape, p):
    x = hx.ones(shape, dtype=dtype)
    rng = hx.random.Rng(21)
    rng.bits((9,))
    y = dropout(x, p, rng=rng)
    assert (y.shape, y.dtype) == (x.shape, x.dtype)
    size = x.size
    words = np.array(philox.words((21, 0), 3, size), np.float64).reshape(shape)
    kept = words >= p * 2.0**32
    expected = np.where(kept, 1 / (1 - p), 0.0)
    eps = {"float16": 1e-3, "bfloat16": 8e-3, "float32": 1e-6, "float64": 1e-15}[dtype]
    assert np.allclose(y.numpy().astype(np.float64), expected, rtol=eps, atol=0)
    assert rng.state["counter"] == 3 + -(-size // 4)


def test_gradient_has_the_same_mask():
    x = hx.ones((1000,), dtype="float64")
    x.requires_grad = True
    y = dropout(x, 0.3, rng=hx.random.Rng(4))
    y.sum().backward()
    assert (x.grad.numpy() == y.numpy()).all()


def test_second_derivative_has_the_same_mask():
    x = hx.ones((50,), dtype="float64")
    x.requires_grad = True
    y = dropout(x, 0.3, rng=hx.random.Rng(4))
    g = hx.autograd.gradients((y * y * y).sum(), x, create_graph=True)
    h = hx.autograd.gradients(g.sum(), x)
    assert np.allclose(h.numpy(), 6 * y.numpy() ** 3)


def test_no_mask_is_kept():
    x = hx.ones((1000,))
    x.requires_grad = True
    assert dropout(x, 0.3, rng=hx.random.Rng(4))._node.saved == ()


def test_share_and_mean():
    y = dropout(hx.ones((100_000,)), 0.25, rng=hx.random.Rng(8)).numpy()
    assert abs((y == 0).mean() - 0.25) < 0.006
    assert abs(y.mean() - 1) < 0.01


def test_without_training_or_probability_nothing_happens():
    x = hx.ones((3,))
    rng = hx.random.Rng(1)
    assert dropout(x, 0.5, rng=rng, training=False) is x
    assert dropout(x, 0.0, rng=rng) is x
    assert rng.state["counter"] == 0


def test_infinite_and_nan_entries_can_be_dropped():
    x = hx.full((64,), float("nan"))
    y = dropout(x, 0.5, rng=hx.random.Rng(1)).numpy()
    assert (y[~np.isnan(y)] == 0).all()
    assert 0 < np.isnan(y).sum() < 64


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_bad_probabilities_are_refused(p):
    with pytest.raises(ValueRangeError, match=r"dropout: p=.* must be in \[0, 1\)"):
        dropout(hx.ones((3,)), p)


def test_the_default_stream_is_used():
    default = hx.random.default_rng()
    before = default.state
    try:
        hx.random.seed(3)
        first = dropout(hx.ones((40,)), 0.5).tolist()
        assert dropout(hx.ones((40,)), 0.5).tolist() != first
        assert dropout(hx.ones((40,)), 0.5, rng=hx.random.Rng(3)).tolist() == first
    finally:
        default.load_state(before)
