"""gradient_flow: which parameters vanish or explode, and where."""

import math

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.autograd import gradient_flow
from helixml.errors import GraphError, ValueRangeError


def chain(factors, x=1.0):
    """x times each factor; the gradient at factor k is the product of all others."""
    ws = {f"w{k}": hx.tensor(f, dtype="float64", requires_grad=True) for k, f in enumerate(factors)}
    y = hx.tensor(x, dtype="float64")
    for w in ws.values():
        y = y * w
    return y, ws


def test_norms_are_those_of_the_gradients():
    rng = np.random.default_rng(0)
    w = hx.tensor(rng.normal(size=(3, 4)), requires_grad=True)
    x = rng.normal(size=(2, 3))
    flow = gradient_flow((hx.tensor(x) @ w).sum(), {"w": w})
    expected = np.linalg.norm(x.T @ np.ones((2, 4)))
    assert math.isclose(flow.parameters[0].norm, expected, rel_tol=1e-14)
    assert flow.parameters[0].shape == (3, 4)
    assert [f.name for f in flow.path] == ["sum", "matmul"]
    assert math.isclose(flow.path[1].norm, math.sqrt(8), rel_tol=1e-14)
    assert w.grad is None


def test_vanishing_and_exploding_parameters_and_their_places():
    y, ws = chain([2.0, 3.0, 1e-4, 1e-4])
    flow = gradient_flow(y, ws)
    assert flow.named("vanishing") == ["w0", "w1"]
    assert flow.named("fine") == ["w2", "w3"]
    place = flow.first("vanishing")
    assert (place.name, place.norm) == ("multiply", pytest.approx(1e-8))
    assert flow.first("exploding") is None
    assert "vanishing from multiply (): 1e-08" in str(flow)
    y, ws = chain([1.0, 1e2, 1e2])
    assert gradient_flow(y, ws).named("exploding") == ["w0"]
    assert gradient_flow(y, ws, exploding=1e5).named("exploding") == []
    assert gradient_flow(y, ws, vanishing=150.0).named("vanishing") == ["w1", "w2"]


def test_what_is_not_finite_and_what_is_unused():
    y, ws = chain([1.0, math.inf])
    unused = hx.tensor(1.0, requires_grad=True)
    flow = gradient_flow(y, {**ws, "other": unused})
    assert flow.named("not finite") == ["w0"]
    assert flow.named("unused") == ["other"]
    assert flow.first("not finite").name == "multiply"


def test_a_gradient_of_zero_vanishes():
    w = hx.tensor([-1.0, -2.0], requires_grad=True)
    assert gradient_flow(hx.relu(w).sum(), {"w": w}).named("vanishing") == ["w"]


def test_the_graph_stays_and_no_hook_is_left():
    y, ws = chain([2.0, 3.0])
    gradient_flow(y, ws)
    first = len(gradient_flow(y, ws).path)
    assert first == 2
    assert not y._node.hooks
    y.backward()
    assert ws["w0"].grad.item() == 3.0


def test_a_module_and_its_lines():
    rng = hx.random.Rng(0)
    layers = [hx.nn.Linear(4, 4, rng=rng) for _ in range(3)]
    model = hx.nn.Sequential(layers[0], hx.tanh, layers[1], hx.tanh, layers[2])
    with config.using(debug=True):
        loss = model(hx.ones((2, 4))).mean()
    flow = gradient_flow(loss, model.named_parameters())
    assert [f.name for f in flow.parameters] == [n for n, _ in model.named_parameters()]
    assert all(f.state == "fine" for f in flow.parameters)
    assert all(f.line and ".py:" in f.line for f in flow.path)


def test_what_cannot_be_analysed_says_so():
    y, ws = chain([1.0])
    with pytest.raises(ValueRangeError, match="vanishing=5 must lie between 0 and exploding=2"):
        gradient_flow(y, ws, vanishing=5, exploding=2)
    with pytest.raises(GraphError, match="was not computed from what requires gradients"):
        gradient_flow(hx.ones(()), ws)
    with pytest.raises(GraphError, match="does not require a gradient"):
        gradient_flow(y, {"c": hx.ones(())})
