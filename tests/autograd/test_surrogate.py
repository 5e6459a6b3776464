"""straight_through: values of one function, gradients of another."""

import numpy as np
import pytest

import helixml as hx
from helixml.autograd import straight_through
from helixml.errors import ShapeError


def test_values_are_exact_and_gradients_pass():
    x = hx.tensor([1e-9, 0.7, -3.4], dtype="float64", requires_grad=True)
    y = straight_through(hx.round)(x)
    (y * hx.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert y.tolist() == [0.0, 1.0, -3.0]
    assert x.grad.tolist() == [1.0, 2.0, 3.0]


def test_the_gradient_is_the_surrogates_in_every_order():
    step = straight_through(lambda x: x > 0, hx.tanh)
    x = 0.3
    t = np.tanh(np.float32(x))
    assert step(hx.tensor([-1.0, 2.0])).tolist() == [0.0, 1.0]
    assert np.isclose(hx.grad(step)(x).item(), 1 - t**2)
    assert np.isclose(hx.grad(hx.grad(step))(x).item(), -2 * t * (1 - t**2))


def test_parameters_of_the_surrogate_learn():
    w = hx.tensor(2.0, requires_grad=True)
    straight_through(hx.sign, lambda x: w * x)(hx.tensor(3.0)).backward()
    assert w.grad.item() == 3.0


def test_samples_take_further_arguments():
    def sample(p, *, rng):
        return rng.uniform(p.shape) < p

    p = hx.tensor(np.full(1000, 0.25), dtype="float32", requires_grad=True)
    y = straight_through(sample)(p, rng=hx.random.Rng(0))
    assert set(y.tolist()) == {0.0, 1.0}
    assert 0.2 < y.mean().item() < 0.3
    y.sum().backward()
    assert p.grad.tolist() == [1.0] * 1000


def test_other_shapes_say_so():
    with pytest.raises(ShapeError, match=r"returned shape \(\), its surrogate \(2,\)"):
        straight_through(lambda x: x.sum())(hx.ones(2))
