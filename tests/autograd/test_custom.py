"""custom_vjp and numpy_op: rules are used, kept values are few, second order works or says no."""

import numpy as np
import pytest

import helixml as hx
from helixml.autograd import custom_vjp, gradients, numpy_op
from helixml.errors import (
    DTypeError,
    GraphFreedError,
    InplaceError,
    NotDifferentiableError,
    ShapeError,
)
from helixml.testing import check_gradients


def make_product():
    """x * y^power with rules of its own."""

    @custom_vjp
    def product(x, y, power=1):
        """Multiply."""
        return x * y**power

    @product.vjp("x")
    def _(g, y, power):
        return g * y**power

    @product.vjp("y")
    def _(g, x, y, power):
        return g * x * power * y ** (power - 1)

    return product


def make_sine():
    @numpy_op
    def sine(x):
        return np.sin(x)

    @sine.vjp("x")
    def _(g, x):
        return g * np.cos(x)

    return sine


def test_the_rule_is_used_and_not_the_functions_own_derivative():
    @custom_vjp
    def clipped(x):
        return x * x

    clipped.vjp("x")(lambda g: g * 100.0)
    assert hx.grad(lambda x: clipped(x).sum())([1.0, 2.0]).tolist() == [100.0, 100.0]


def test_derivatives_of_a_rule_in_ops_to_third_order():
    product = make_product()
    check_gradients(lambda x, y: product(x, y, power=3), [0.5, 1.5], [1.2, -0.7], orders=3)


def test_broadcast_inputs_and_other_dtypes_are_fitted():
    product = make_product()
    x = hx.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    y = hx.tensor([[2.0], [4.0]], dtype="float64", requires_grad=True)
    product(x, y).sum().backward()
    assert (x.grad.tolist(), x.grad.dtype) == ([[6.0, 6.0, 6.0]], np.float32)
    assert (y.grad.tolist(), y.grad.dtype) == ([[6.0], [6.0]], np.float64)


def test_the_result_is_one_node_that_keeps_what_its_rules_read():
    product = make_product()
    x, y = hx.tensor([1.0], requires_grad=True), hx.tensor([3.0])
    z = product(x, y)
    assert z._node.op.name == "product"
    assert len(z._node.saved) == 2  # y and power
    assert product.__doc__ == "Multiply."
    assert repr(product) == "<custom_vjp product>"
    with hx.no_grad():
        assert not product(x, y).requires_grad


def test_a_rule_that_reads_the_output():
    @custom_vjp
    def exponential(x):
        return hx.exp(x)

    exponential.vjp("x")(lambda g, out: g * out)
    check_gradients(exponential, [0.3, -1.0], orders=3)


def test_several_outputs_and_one_rule_for_several_inputs():
    @custom_vjp
    def both(x, y):
        return x + y, x * y

    @both.vjp("x", "y")
    def _(g, x, y):
        return g[0] + g[1] * y, g[0] + g[1] * x

    check_gradients(both, [0.3, 2.0], [1.1, 0.4], orders=2)
    check_gradients(lambda x, y: both(x, y)[1], [0.3, 2.0], [1.1, 0.4], orders=2)
    x = hx.tensor(2.0, requires_grad=True)
    both(x, 3.0)[0].backward()
    assert x.grad.item() == 1.0


def test_a_function_that_returns_its_input():
    @custom_vjp
    def reversal(x):
        return x

    reversal.vjp("x")(lambda g: -g)
    x = hx.tensor(2.0, requires_grad=True)
    y = reversal(x)
    y.backward()
    assert (y.item(), x.grad.item(), x.is_leaf) == (2.0, -1.0, True)


def test_functions_of_integers_and_integer_results():
    @custom_vjp
    def pick(x, i):
        return x[i], i

    pick.vjp("x")(lambda g, x_shape, i: hx.zeros(x_shape).at[i].set(g[0]))
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    y, i = pick(x, hx.tensor(1))
    y.backward()
    assert x.grad.tolist() == [0.0, 1.0]
    assert not i.requires_grad


def test_guards_of_the_tape_hold():
    product = make_product()
    x, y = hx.tensor([1.0], requires_grad=True), hx.tensor([3.0])
    z = product(x, y)
    y.assign_(5.0)
    with pytest.raises(InplaceError, match="product: its backward pass reads 'y'"):
        z.backward()
    z = product(x, y)
    z.backward()
    with pytest.raises(GraphFreedError, match="product"):
        z.backward()


def test_wrong_rules_say_so():
    f = custom_vjp(lambda x, y: x * y)
    x = hx.tensor(1.0, requires_grad=True)
    with pytest.raises(NotDifferentiableError, match="no rule for the gradient of 'x'"):
        f(x, 2.0).backward()
    with pytest.raises(NotDifferentiableError, match=r"reads \['z'\]; it may read"):
        f.vjp("x")(lambda g, z: g)
    with pytest.raises(NotDifferentiableError, match=r"answer for \['x', 'y'\]"):
        f.vjp("w")(lambda g: g)
    f.vjp("x")(lambda g: 1.0)
    with pytest.raises(DTypeError, match="rule for 'x' returned float, not a Tensor"):
        f(x, 2.0).backward()
    f.vjp("x")(lambda g: hx.ones(3))
    with pytest.raises(ShapeError):
        f(hx.ones(2) * x, 2.0).sum().backward()
    f.vjp("x", "y")(lambda g: g)
    with pytest.raises(DTypeError, match="must return a tuple of 2"):
        f(x, 2.0).backward()
    with pytest.raises(DTypeError, match="returned float, not a Tensor"):
        custom_vjp(lambda x: 1.0)(x)
    with pytest.raises(DTypeError, match="takes any number of arguments"):
        custom_vjp(lambda *xs: xs[0])


def test_numpy_functions_have_gradients():
    sine = make_sine()
    check_gradients(sine, [0.3, 2.0])
    x = hx.tensor([0.5], requires_grad=True)
    y = sine(x)
    y.backward()
    assert y.dtype == np.float32
    assert np.allclose(x.grad.numpy(), np.cos(0.5))
    assert not sine([0.5]).requires_grad


def test_a_numpy_function_of_several_arrays_and_outputs():
    @numpy_op
    def parts(x, y, axis=0):
        return x.sum(axis), x * y

    @parts.vjp("x", "y")
    def _(g, x, y, axis):
        return np.expand_dims(g[0], axis) + g[1] * y, g[1] * x

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    check_gradients(lambda x, y: parts(x, y, axis=1), x, y)


def test_the_second_derivative_of_numpy_code_says_no():
    sine = make_sine()
    x = hx.tensor([0.5], requires_grad=True)
    (g,) = gradients(sine(x).sum(), (x,), create_graph=True)  # this alone is fine
    with pytest.raises(NotDifferentiableError, match="sine: its gradient is computed by NumPy"):
        gradients(g.sum(), x)
    with pytest.raises(NotDifferentiableError, match="custom_vjp takes a rule written in ops"):
        hx.grad(hx.grad(lambda x: sine(x).sum()))([0.5])
    w = hx.tensor(2.0, requires_grad=True)  # through the cotangent
    (g,) = gradients((w * sine(x)).sum(), (x,), create_graph=True)
    with pytest.raises(NotDifferentiableError, match="sine"):
        gradients(g.sum(), w)


def test_numpy_code_cannot_write_its_inputs_and_must_return_arrays():
    def spoil(x):
        x[...] = 0.0
        return x

    with pytest.raises(ValueError, match="read-only"):
        numpy_op(spoil)(hx.ones(2))
    with pytest.raises(DTypeError, match="returned str, not an array"):
        numpy_op(lambda x: "text")(hx.ones(2))


def test_numpy_code_serves_other_devices(other_device):
    sine = make_sine()
    x = hx.tensor([0.5], device=other_device, requires_grad=True)
    y = sine(x)
    y.sum().backward()
    assert str(y.device) == str(x.grad.device) == str(x.device)
