"""fixed_point and root: solutions and their derivatives against closed formulas."""

import numpy as np
import pytest

import helixml as hx
from helixml.autograd import fixed_point, hessian, jacobian, root
from helixml.errors import ConvergenceError, GraphError, ShapeError, ValueRangeError
from helixml.testing import check_gradients


def heron(x, a):
    return 0.5 * (x + a / x)


def test_square_root_and_three_derivatives():
    f = lambda a: fixed_point(heron, 1.0, a)  # noqa: E731
    a = 3.0
    expected = [a**0.5, 0.5 * a**-0.5, -0.25 * a**-1.5, 0.375 * a**-2.5]
    for value in expected:
        assert np.isclose(f(hx.tensor(a, dtype="float64")).item(), value, rtol=1e-12)
        f = hx.grad(f)


def test_the_result_is_one_node():
    a = hx.tensor(3.0, requires_grad=True)
    x = fixed_point(heron, 1.0, a)
    assert x._node.op.name == "fixed_point"
    assert x._node.parents == (a,)
    assert fixed_point(heron, 1.0, 4.0).item() == 2.0
    with hx.no_grad():
        assert not fixed_point(heron, 1.0, a).requires_grad


def test_an_affine_fixed_point_of_structures():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 4)) / 8, rng.normal(size=4)
    f = lambda x, p: p["a"] @ x + p["b"]  # noqa: E731
    x = fixed_point(f, np.zeros(4), {"a": a, "b": b})
    inverse = np.linalg.inv(np.eye(4) - a)
    assert np.allclose(x.numpy(), inverse @ b, rtol=1e-13)
    found = jacobian(lambda p: fixed_point(f, np.zeros(4), p))({"a": a, "b": b})
    assert np.allclose(found["b"].numpy(), inverse, rtol=1e-12)
    expected = np.einsum("ij,k->ijk", inverse, inverse @ b)
    assert np.allclose(found["a"].numpy(), expected, rtol=1e-12)


def test_a_network_as_fixed_point_against_difference_quotients():
    rng = np.random.default_rng(1)
    w, v = rng.normal(size=(3, 3)) / 6, rng.normal(size=3)
    f = lambda x, w, v: hx.tanh(w @ x + v)  # noqa: E731
    check_gradients(lambda w, v: fixed_point(f, np.zeros(3), w, v, tol=1e-15), w, v, orders=2)


def test_roots_of_a_system_against_difference_quotients():
    def f(x, p):
        return hx.stack([x[0] ** 2 + x[1] ** 2 - p[0], x[0] * x[1] - p[1]])

    x = root(f, np.array([2.0, 0.5]), np.array([5.0, 2.0]))
    assert np.allclose(x.numpy(), [2.0, 1.0], rtol=1e-14)
    check_gradients(lambda p: root(f, np.array([2.0, 0.5]), p), np.array([5.0, 2.0]), orders=2)


def test_cube_root_has_its_second_derivative():
    f = lambda a: root(lambda x, a: x**3 - a, 1.0, a)  # noqa: E731
    found = hessian(f)(hx.tensor(8.0, dtype="float64"))
    assert np.isclose(found.item(), -2 / 9 * 8.0 ** (-5 / 3), rtol=1e-12)


def test_a_root_far_from_the_start_needs_damped_steps():
    x = root(lambda x, a: hx.tanh(x - a), 2.0, 0.0)
    assert abs(x.item()) < 1e-6


def test_shapes_and_dtypes_stay():
    a = hx.tensor([[1.0, 4.0], [9.0, 16.0]], dtype="float32", requires_grad=True)
    x = fixed_point(heron, hx.ones((2, 2)), a)
    x.sum().backward()
    assert (x.dtype, a.grad.dtype) == (np.float32, np.float32)
    assert np.allclose(a.grad.numpy(), 0.5 / x.numpy(), rtol=1e-5)
    y = root(lambda x, a: x * x - a, hx.ones((2, 2)), a)
    assert np.allclose(y.numpy(), x.numpy(), rtol=1e-6)


def test_what_has_no_solution_says_so():
    with pytest.raises(ConvergenceError, match="fixed_point: after 7 steps the last is"):
        fixed_point(lambda x: -x, 1.0, max_steps=7)
    with pytest.raises(ConvergenceError, match=r"fixed_point: step \d+ is inf"):
        fixed_point(lambda x: x * x, 3.0)
    with pytest.raises(ConvergenceError, match=r"root: the Jacobian, \(1, 1\), is singular"):
        root(lambda x: x * 0.0 + 1.0, 1.0)
    with pytest.raises(ShapeError, match=r"returned shape \(\) for an x of \(2,\)"):
        root(lambda x: x.sum(), [1.0, 2.0])
    with pytest.raises(ValueRangeError, match="max_steps=0"):
        fixed_point(lambda x: x, 1.0, max_steps=0)


def test_forgotten_parameters_are_noticed():
    a = hx.tensor(3.0, requires_grad=True)
    with pytest.raises(GraphError, match="reads tensors that require gradients beside"):
        fixed_point(lambda x: heron(x, a), 1.0)
    assert fixed_point(lambda x: heron(x, a.detach()), 1.0).is_leaf
