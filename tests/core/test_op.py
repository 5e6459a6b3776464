"""Defining ops: several outputs, rules for several inputs, what definitions may not do."""

# ruff: noqa: PLW0108  a table of calls reads best if all are written alike

import copy
import pickle

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml._core.composed import composite, fused
from helixml._core.op import REGISTRY, primitive
from helixml.errors import BackendError, DTypeError, NotDifferentiableError
from helixml.testing import check_gradients

Array = object  # its name, in an annotation, marks the inputs of a primitive


@pytest.fixture(autouse=True)
def forget_new_ops():
    known = set(REGISTRY)
    yield
    for name in set(REGISTRY) - known:
        del REGISTRY[name]


@pytest.fixture
def waves():
    """An op with two outputs whose rule reads both."""

    @primitive(name="waves", dtype="float")
    def waves(B, x: "Array"):
        return B.sin(x), B.cos(x)

    @waves.vjp("x")
    def _(g, outs):
        sine, cosine = outs
        return g[0] * cosine - g[1] * sine

    return waves


def test_several_outputs_have_one_node(waves):
    x = hx.tensor([0.3, 1.2], requires_grad=True)
    s, c = waves(x)
    assert s._node is c._node
    (s * 2 + c * c).sum().backward()
    sine, cosine = np.sin(x.numpy()), np.cos(x.numpy())
    assert np.allclose(x.grad.numpy(), 2 * cosine - 2 * cosine * sine)


def test_an_unused_output_counts_as_zero(waves):
    x = hx.tensor([0.3, 1.2], requires_grad=True)
    _, c = waves(x)
    c.sum().backward()
    assert np.allclose(x.grad.numpy(), -np.sin(x.numpy()))


def test_several_outputs_are_differentiable_twice(waves):
    check_gradients(waves, [0.3, 1.2], orders=3)
    check_gradients(lambda x: waves(x)[1], [0.3, 1.2], orders=2)


def test_gradients_of_interior_outputs(waves):
    x = hx.tensor([0.3], requires_grad=True)
    s, c = waves(x)
    gs, gc = hx.autograd.gradients((s * c).sum(), (s, c))
    assert np.allclose([gs.item(), gc.item()], [c.item(), s.item()])


def test_an_output_that_is_an_integer_has_no_gradient():
    @primitive(name="parts")
    def parts(B, x: "Array"):
        whole = B.floor(x)
        return B.subtract(x, whole), B.astype(whole, hx.int64)

    parts.vjp("x")(lambda g: g[0])
    x = hx.tensor([1.25, 2.5], requires_grad=True)
    fraction, whole = parts(x)
    assert fraction.requires_grad
    assert not whole.requires_grad
    (fraction * whole).sum().backward()
    assert x.grad.tolist() == [1.0, 2.0]


def test_one_rule_for_several_inputs_is_run_once():
    runs = []

    @primitive(name="product")
    def product(B, x: "Array", y: "Array", power: int = 1):
        return B.multiply(x, y)

    @product.vjp("x", "y")
    def _(g, x, y, needs, power):
        runs.append(needs)
        return g * y, g * x

    x, y = (hx.tensor([v], requires_grad=True) for v in (2.0, 3.0))
    product(x, y).sum().backward()
    assert runs == [(True, True)]
    assert (x.grad.item(), y.grad.item()) == (3.0, 2.0)
    product(x.detach(), y, power=2).sum().backward()
    assert runs == [(True, True), (False, True)]


def test_rules_read_shapes_and_dtypes():
    seen = []

    @primitive(name="shown", dtype="float")
    def shown(B, x: "Array"):
        return B.exp(x)

    @shown.vjp("x")
    def _(g, out, x_shape, x_dtype):
        seen.append((x_shape, x_dtype))
        return g * out

    x = hx.ones((2, 3), dtype="float64")
    x.requires_grad = True
    shown(x).sum().backward()
    assert seen == [((2, 3), np.float64)]


def test_rules_get_only_what_they_name():
    @primitive(name="lean")
    def lean(B, x: "Array", y: "Array"):
        return B.multiply(x, y)

    lean.vjp("x")(lambda g, y: g * y)
    lean.vjp("y")(lambda g, x: g * x)
    x, y = hx.ones((3,)), hx.ones((3,))
    x.requires_grad = True
    saved = lean(x, y)._node.saved
    assert [s.array is y._array for s in saved] == [True]


def test_names_are_unique_and_inputs_known():
    with pytest.raises(BackendError, match="'add' is defined twice"):
        primitive(lambda B, x: x, name="add")

    @primitive(name="single")
    def single(B, x: "Array"):
        return x

    with pytest.raises(NotDifferentiableError, match="single: the rule for"):
        single.vjp("z")(lambda g: g)
    with pytest.raises(NotDifferentiableError, match="single: the rule for"):
        single.vjp()(lambda g: g)


def test_a_forward_rule_that_breaks_is_the_backends_error():
    @primitive(name="broken")
    def broken(B, x: "Array"):
        raise RuntimeError("out of order")

    with pytest.raises(BackendError, match=r"broken: failed for \(2,\) float32: out of order"):
        broken(hx.ones((2,)))


def test_kinds_and_representation():
    assert repr(hx.exp) == "<primitive op exp>"
    assert repr(hx.var) == "<composite op var>"
    assert repr(hx.softmax) == "<fused op softmax>"
    assert hx.exp.__name__ == "exp"
    assert "exponential" in hx.exp.__doc__


def test_signatures_are_those_that_callers_see():
    import inspect

    assert list(inspect.signature(hx.sum).parameters) == ["x", "axis", "keepdims", "dtype"]
    assert list(inspect.signature(hx.mean).parameters) == ["x", "axis", "keepdims"]


@pytest.mark.parametrize(
    "call",
    [
        lambda: hx.sum(hx.ones((2,)), 0, False, 1),
        lambda: hx.sum(hx.ones((2,)), x=hx.ones((2,))),
        lambda: hx.sum(),
        lambda: hx.sum(axis=0),
        lambda: hx.mean(hx.ones((2,)), 0, False, 1),
        lambda: hx.mean(),
        lambda: hx.softmax(hx.ones((2,)), 0, 1),
        lambda: hx.softmax(hx.ones((2,)), x=hx.ones((2,))),
    ],
)
def test_arguments_that_do_not_fit_the_signature_are_refused(call):
    with pytest.raises(DTypeError, match=r"^(sum|mean|softmax): .*Hint: (sum|mean|softmax)\(x"):
        call()


def test_arrays_are_taken_by_name_too():
    a = np.array([[1.0, 2.0]], np.float32)
    assert hx.mean(x=a).item() == 1.5
    assert hx.sum(x=a).item() == 3.0
    assert hx.rms_norm(x=a, weight=[1.0, 1.0]).shape == (1, 2)
    scanned = hx.linear_scan(a, hx.ones((1, 2)), initial_state=np.ones(1, np.float32))
    assert scanned.tolist() == [[2.0, 5.0]]


def test_composite_and_fused_ops_take_options_of_their_definition():
    @composite(name="doubled")
    def doubled(x: "hx.Tensor", times: int = 2):
        return x * times

    @fused(name="squared")
    def squared(x: "hx.Tensor", shift: float = 0.0):
        return x * x + shift

    x = hx.tensor([3.0], requires_grad=True)
    assert doubled(x, times=3).tolist() == [9.0]
    assert squared(x, shift=1.0).tolist() == [10.0]
    check_gradients(lambda t: squared(doubled(t)), [1.0, 2.0], orders=2)


@pytest.mark.parametrize("op", list(REGISTRY.values()), ids=list(REGISTRY))
def test_an_op_is_pickled_and_copied_by_name(op):
    assert pickle.loads(pickle.dumps(op)) is op
    assert copy.deepcopy(op) is op


def test_an_op_of_an_unknown_name_does_not_unpickle(waves):
    pickled = pickle.dumps(waves)
    del REGISTRY["waves"]
    with pytest.raises(BackendError, match=r"none named 'waves'.*import what defines it"):
        pickle.loads(pickled)


@pytest.mark.parametrize("kernels", [True, False])
def test_a_fused_op_of_sequences_has_the_gradients_of_its_definition(kernels):
    x, y = hx.tensor([3.0], requires_grad=True), hx.tensor(4.0, requires_grad=True)
    with config.using(kernels=kernels):
        norm = hx.ops.norm_many([x, y, x])
        assert norm.item() == pytest.approx(34**0.5)
        (norm * norm).backward()
        assert x.grad.tolist() == pytest.approx([12.0])
        assert y.grad.item() == pytest.approx(8.0)
