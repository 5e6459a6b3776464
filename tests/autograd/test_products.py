"""vjp, jvp, hvp: against closed formulas, difference quotients, and each other for every op."""

import numpy as np
import pytest

import helixml as hx
from helixml import config, dtypes
from helixml._core.op import REGISTRY
from helixml.autograd import hvp, jvp, vjp
from helixml.backends import registry
from helixml.errors import DTypeError, GraphError, NotDifferentiableError, ShapeError
from helixml.testing.calls import Setting, differentiable_calls
from helixml.testing.checks import function_of
from helixml.testing.inputs import normal

hx.ops.load_all()
OPS = [
    op for op in REGISTRY.values() if op.make_samples is not None and not getattr(op, "writes", ())
]


def point(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


# vjp


def test_vjp_of_a_matrix_product():
    a, b, c = point(2, 3), point(3, 4, seed=1), point(2, 4, seed=2)
    y, pull = vjp(lambda x, w: x @ w, a, b)
    ga, gb = pull(c)
    assert np.allclose(y.numpy(), a @ b)
    assert np.allclose(ga.numpy(), c @ b.T)
    assert np.allclose(gb.numpy(), a.T @ c)
    assert not y.requires_grad
    assert not ga.requires_grad


def test_a_pullback_can_be_called_again():
    _, pull = vjp(hx.sin, hx.tensor([0.3, 0.4], dtype="float64"))
    once, twice = pull([1.0, 2.0]), pull([2.0, 4.0])
    assert np.allclose(once.numpy(), [1.0, 2.0] * np.cos([0.3, 0.4]), rtol=1e-15)
    assert np.array_equal(2 * once.numpy(), twice.numpy())


def test_scalars_need_no_cotangent():
    assert vjp(lambda x: (x * x).sum(), hx.tensor([3.0]))[1]().tolist() == [6.0]
    with pytest.raises(GraphError, match="needs a starting gradient"):
        vjp(lambda x: x * x, hx.tensor([3.0, 1.0]))[1]()


def test_structured_outputs_and_cotangents():
    def f(p):
        return {"s": p[0] * p[1], "t": (p[0],)}

    y, pull = vjp(f, (hx.tensor(3.0), hx.tensor(5.0)))
    assert y["s"].item() == 15.0
    left, right = pull({"s": 1.0, "t": (10.0,)})
    assert (left.item(), right.item()) == (15.0, 3.0)
    left, right = pull({"s": None, "t": (10.0,)})
    assert (left.item(), right.item()) == (10.0, 0.0)


def test_what_does_not_depend_on_an_input_has_zero_gradient():
    assert vjp(lambda x: hx.tensor([1.0]), hx.tensor([2.0, 3.0]))[1]([5.0]).tolist() == [0.0, 0.0]
    assert vjp(lambda x: x > 0, hx.tensor([2.0]))[1](None).tolist() == [0.0]


def test_pullbacks_are_differentiable_functions():
    def outer(x):  # x^2 pulled back along x: 2 x * x
        return vjp(lambda v: v * v, x)[1](x)

    assert hx.grad(outer)(hx.tensor(3.0)).item() == 12.0
    _, pull = vjp(lambda v: v * v, hx.tensor(3.0))
    assert hx.grad(pull)(hx.tensor(1.0)).item() == 6.0  # linear in the cotangent


def test_outputs_belong_to_the_outer_level():
    w = hx.tensor(2.0, requires_grad=True)
    y, pull = vjp(lambda x: x * w * w, hx.tensor(5.0))
    y.backward(retain_graph=True)
    assert w.grad.item() == 20.0
    assert hx.autograd.gradients(pull(1.0), w).item() == 4.0


def test_a_pullback_leads_to_its_cotangents_and_not_to_its_own_inputs():
    _, pull = vjp(lambda x: x * x * x, hx.tensor(2.0))
    c = hx.tensor(5.0, requires_grad=True)
    g = pull(c)
    assert g.requires_grad
    g.backward()
    assert c.grad.item() == 12.0
    y, again = vjp(lambda y: 1.0 * vjp(lambda x: x * x, hx.tensor(3.0))[1](y), hx.tensor(1.0))
    assert not y.requires_grad
    assert not again(1.0).requires_grad


def test_wrong_cotangents_and_results_say_so():
    _, pull = vjp(lambda x: x * x, hx.tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"vjp: cotangent number 0 is \(3,\), its value is \(2,\)"):
        pull([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="structure"):
        vjp(lambda x: (x, x), hx.tensor(1.0))[1](1.0)
    with pytest.raises(DTypeError, match="vjp: the function returned int, not a Tensor"):
        vjp(lambda x: (x, 1), hx.tensor(1.0))
    with pytest.raises(NotDifferentiableError, match="int64"):
        vjp(lambda x: x, hx.tensor([1]))


# jvp


def test_jvp_against_difference_quotients():
    x, w, tx, tw = (point(3, 3, seed=s) for s in range(4))

    def f(x, w):
        return hx.tanh(x @ w), hx.exp(x).sum(axis=0)

    h = 1e-5
    _, found = jvp(f, (x, w), (tx, tw))
    plus = f(hx.tensor(x + h * tx), hx.tensor(w + h * tw))
    minus = f(hx.tensor(x - h * tx), hx.tensor(w - h * tw))
    for t, p, m in zip(found, plus, minus, strict=True):
        quotient = (p.numpy() - m.numpy()) / (2 * h)
        assert np.allclose(t.numpy(), quotient, rtol=1e-8, atol=1e-8)  # h^2 and eps / h


def test_jvp_of_one_input_and_in_structures():
    y, t = jvp(lambda x: x * x * x, hx.tensor(2.0), 1.0)
    assert (y.item(), t.item()) == (8.0, 12.0)
    p = {"x": np.array(2.0), "y": np.array(3.0)}
    _, t = jvp(lambda p: {"z": p["x"] * p["y"]}, (p,), ({"x": 1.0, "y": None},))
    assert t["z"].item() == 3.0


def test_jvp_where_nothing_moves():
    f = lambda x: (hx.tensor([7.0]), x > 0, x)  # noqa: E731
    _, (constant, truth, same) = jvp(f, hx.tensor([2.0]), [5.0])
    assert (constant.tolist(), truth.tolist(), same.tolist()) == ([0.0], [False], [5.0])
    assert jvp(hx.sin, (hx.tensor([2.0]),), (None,))[1].tolist() == [0.0]


def test_jvp_of_a_singular_derivative_is_not_made_zero():
    assert jvp(hx.sqrt, hx.tensor(0.0), 1.0)[1].item() == np.inf
    guarded = lambda x: hx.where(x > 0, hx.sqrt(x), 0.0)  # noqa: E731
    assert jvp(guarded, hx.tensor([0.0, 4.0]), [1.0, 1.0])[1].tolist() == [0.0, 0.25]


def test_derivatives_of_jvp():
    x = hx.tensor(0.7, dtype="float64")
    push = lambda v: jvp(hx.sin, v, hx.tensor(1.0, dtype="float64"))[1]  # noqa: E731
    assert np.isclose(hx.grad(push)(x).item(), -np.sin(0.7), rtol=1e-14)
    assert np.isclose(jvp(push, x, 1.0)[1].item(), -np.sin(0.7), rtol=1e-14)
    assert np.isclose(jvp(hx.grad(hx.sin), x, 1.0)[1].item(), -np.sin(0.7), rtol=1e-14)
    along = lambda t: jvp(hx.sin, x, t)[1]  # noqa: E731
    assert np.isclose(hx.grad(along)(x).item(), np.cos(0.7), rtol=1e-14)


def test_jvp_records_nothing_without_need():
    y, t = jvp(lambda x: x * x, hx.tensor([2.0]), [1.0])
    assert not y.requires_grad
    assert not t.requires_grad
    with hx.no_grad():
        assert jvp(hx.exp, hx.tensor(0.0), 1.0)[1].item() == 1.0


def test_wrong_tangents_say_so():
    with pytest.raises(ShapeError, match=r"jvp: tangent number 0 is \(1,\)"):
        jvp(hx.sin, hx.tensor([1.0, 2.0]), [1.0])
    with pytest.raises(ShapeError, match="jvp: tangents have the structure"):
        jvp(hx.sin, (hx.tensor(1.0),), (1.0, 2.0))


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.name)
def test_both_products_agree_for_every_op(op):
    """<c, J t> = <J^T c, t>, in float64 and complex128, with its bound from the terms of both sums.

    The product of complex numbers is the real part of conj(c) J t.
    """
    setting = Setting(config.get().device, registry.default().dtypes)
    for what, call, sample in differentiable_calls(op, setting, dtypes.float64, dtypes.complex128):
        if sample.orders < 2:
            continue
        places = call.float_places
        inputs = [call.arrays[i] for i in places]
        rng = np.random.default_rng(1)
        tangents = [normal(rng, a.shape, a.dtype) for a in inputs]
        f = function_of(call)
        outputs, moved = jvp(lambda *xs, f=f: tuple(f(*xs)), tuple(inputs), tuple(tangents))
        cotangents = [
            normal(rng, y.shape, y.dtype) if y.dtype in dtypes.DIFFERENTIABLE else None
            for y in outputs
        ]
        _, pull = vjp(lambda *xs, f=f: tuple(f(*xs)), *inputs)
        pulled = pull(tuple(cotangents))
        pulled = pulled if isinstance(pulled, tuple) else (pulled,)
        pairs = zip(cotangents, moved, strict=True)
        left = [(c.conj() * t.numpy()).real for c, t in pairs if c is not None]
        right = [(g.numpy().conj() * t).real for g, t in zip(pulled, tangents, strict=True)]
        size = sum(np.abs(term).sum() for term in (*left, *right))
        difference = sum(t.sum() for t in left) - sum(t.sum() for t in right)
        length = max([a.size for a in inputs], default=1)
        assert abs(difference) <= 64 * (1 + length) * 2.0**-52 * max(size, 1.0), what


# hvp


def test_hvp_of_a_quadratic():
    a, x, v = point(4, 4), point(4, seed=1), point(4, seed=2)
    found = hvp(lambda x: x @ hx.tensor(a) @ x, hx.tensor(x), v)
    assert np.allclose(found.numpy(), (a + a.T) @ v, rtol=1e-14)


def test_hvp_has_mixed_derivatives():
    f = lambda x, y: x * x * y  # noqa: E731
    first, second = hvp(f, (hx.tensor(3.0), hx.tensor(5.0)), (1.0, 10.0))
    assert (first.item(), second.item()) == (2 * 5 + 2 * 3 * 10, 2 * 3)
    (only,) = hvp(lambda p: p["x"] ** 3, ({"x": hx.tensor(2.0)},), ({"x": 1.0},))
    assert only["x"].item() == 12.0


def test_hvp_of_a_fused_op():
    x, v = point(2, 5), point(2, 5, seed=1)
    f = lambda x: (hx.softmax(x) ** 2).sum()  # noqa: E731
    h = 1e-5
    quotient = (hx.grad(f)(x + h * v).numpy() - hx.grad(f)(x - h * v).numpy()) / (2 * h)
    assert np.allclose(hvp(f, hx.tensor(x), v).numpy(), quotient, rtol=1e-8, atol=1e-9)


def test_hvp_wants_a_scalar():
    with pytest.raises(GraphError, match="must return a scalar"):
        hvp(lambda x: x * x, hx.tensor([1.0, 2.0]), [1.0, 1.0])
