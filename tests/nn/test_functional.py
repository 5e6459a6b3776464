"""functional_call: a module with other parameters, and untouched."""

import threading

import numpy as np
import pytest

import helixml as hx
from helixml.errors import CheckpointError, DTypeError, ShapeError
from helixml.nn import Linear, Module, Parameter, Sequential, functional_call


class Tied(Module):
    """One weight under two names, in two modules."""

    def __init__(self):
        self.first = Linear(2, 2, bias=False, rng=hx.random.Rng(0))
        self.second = Linear(2, 2, bias=False, rng=hx.random.Rng(1))
        self.second.weight = self.first.weight
        self.again = self.first

    def forward(self, x):
        return self.again(self.second(self.first(x)))


class Failing(Module):
    def __init__(self):
        self.weight = Parameter([1.0])

    def forward(self, x):
        self.seen = x
        raise ZeroDivisionError


def network():
    rng = hx.random.Rng(0)
    return Sequential(Linear(3, 4, rng=rng), hx.tanh, Linear(4, 1, rng=rng))


def formula(p, x):
    h = np.tanh(x @ p["0.weight"].T + p["0.bias"])
    return h @ p["2.weight"].T + p["2.bias"]


def test_values_are_those_of_the_given_parameters():
    rng = np.random.default_rng(0)
    model, x = network(), rng.normal(size=(5, 3))
    p = {name: rng.normal(size=t.shape) for name, t in model.named_parameters()}
    assert np.allclose(functional_call(model, p, hx.tensor(x)).numpy(), formula(p, x), rtol=1e-14)


def test_gradients_reach_the_given_parameters_only():
    rng = np.random.default_rng(0)
    model, x = network(), hx.tensor(rng.normal(size=(5, 3)))
    p = {name: rng.normal(size=t.shape) for name, t in model.named_parameters()}
    found = hx.grad(lambda p: functional_call(model, p, x).sum())(p)
    h = 1e-6
    for name, gradient in found.items():
        direction = rng.normal(size=gradient.shape)
        plus = formula({**p, name: p[name] + h * direction}, x.numpy()).sum()
        minus = formula({**p, name: p[name] - h * direction}, x.numpy()).sum()
        assert np.isclose((gradient.numpy() * direction).sum(), (plus - minus) / (2 * h), rtol=1e-7)
    assert all(q.grad is None for q in model.parameters())


def test_what_is_not_named_stays():
    model = network()
    x = hx.ones((2, 3))
    before = model(x).numpy()
    moved = functional_call(model, {"2.bias": model.state_dict()["2.bias"] + 1.0}, x)
    assert np.allclose(moved.numpy(), before + 1.0, rtol=1e-6)
    assert np.array_equal(functional_call(model, {}, x).numpy(), before)


def test_a_shared_parameter_is_replaced_everywhere():
    model = Tied()
    assert [name for name, _ in model.named_parameters()] == ["first.weight"]
    y = functional_call(model, {"first.weight": 2 * hx.eye(2)}, hx.tensor([[1.0, 3.0]]))
    assert y.tolist() == [[8.0, 24.0]]


def test_the_module_is_as_before_even_after_an_exception():
    model = Failing()
    weight, held = model.weight, dict(vars(model))
    with pytest.raises(ZeroDivisionError) as caught:
        functional_call(model, {"weight": hx.tensor([2.0])}, hx.ones(2))
    assert vars(model) == held
    assert model.weight is weight
    assert "Failing" in caught.value.__notes__[0]


def test_threads_do_not_see_each_others_parameters():
    model, x = Linear(1, 1, bias=False, rng=hx.random.Rng(0)), hx.ones((1, 1))
    wrong = []

    def use(value):
        for _ in range(200):
            got = functional_call(model, {"weight": hx.full((1, 1), value)}, x).item()
            if got != value:
                wrong.append(got)

    threads = [threading.Thread(target=use, args=(float(k),)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_second_derivatives_in_the_parameters():
    model = Linear(2, 1, bias=False, rng=hx.random.Rng(0))
    x = hx.tensor([3.0, 5.0])
    f = lambda p: (functional_call(model, p, x) ** 2).sum()  # noqa: E731
    found = hx.autograd.hessian(f)({"weight": hx.tensor([[1.0, 2.0]])})
    assert found["weight"]["weight"].reshape(2, 2).tolist() == [[18.0, 30.0], [30.0, 50.0]]


def test_wrong_parameters_say_so():
    model = network()
    with pytest.raises(CheckpointError, match=r"Sequential has no 1.weight. Hint: it has 0.weight"):
        functional_call(model, {"1.weight": hx.ones(1)}, hx.ones(3))
    with pytest.raises(ShapeError, match=r"0.bias is \(3,\), the module's is \(4,\)"):
        functional_call(model, {"0.bias": hx.ones(3)}, hx.ones(3))
    with pytest.raises(DTypeError, match="function is no Module"):
        functional_call(lambda x: x, {}, hx.ones(3))
