"""jacobian and hessian against closed formulas."""

import numpy as np
import pytest

import helixml as hx
from helixml.autograd import hessian, jacobian
from helixml.errors import GraphError, NotDifferentiableError, ValueRangeError


def point(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.mark.parametrize("chunk", [None, 1, 2, 4, 100])
def test_jacobian_of_a_linear_map(chunk):
    a, x = point(4, 3), point(3, seed=1)
    found = jacobian(lambda x: hx.tensor(a) @ x, chunk=chunk)(x)
    assert np.array_equal(found.numpy(), a)
    assert not found.requires_grad


def test_axes_of_outputs_come_before_axes_of_inputs():
    x = point(2, 3)
    found = jacobian(lambda x: hx.sin(x).T)(x).numpy()
    assert found.shape == (3, 2, 2, 3)
    expected = np.einsum("ij,ik,jl->jikl", np.cos(x), np.eye(2), np.eye(3))
    assert np.allclose(found, expected, rtol=1e-15)


def test_several_arguments_and_outputs():
    def f(x, y):
        return {"p": x * y, "q": x.sum()}

    x, y = hx.tensor([2.0, 3.0]), hx.tensor([5.0, 7.0])
    found = jacobian(f, argnums=(0, 1))(x, y)
    assert found["p"][0].tolist() == [[5.0, 0.0], [0.0, 7.0]]
    assert found["p"][1].tolist() == [[2.0, 0.0], [0.0, 3.0]]
    assert found["q"][0].tolist() == [1.0, 1.0]
    assert found["q"][1].tolist() == [0.0, 0.0]
    assert jacobian(f, argnums=-1)(x, y)["q"].shape == (2,)


def test_empty_outputs_and_inputs():
    assert jacobian(lambda x: x[:0])(hx.ones(3)).shape == (0, 3)
    assert jacobian(lambda x: hx.ones(2) * x.sum())(hx.ones((0, 3))).shape == (2, 0, 3)
    assert jacobian(lambda x: hx.ones(2))(hx.ones(3)).tolist() == [[0.0] * 3] * 2


@pytest.mark.parametrize("chunk", [None, 2])
def test_a_jacobian_can_be_differentiated(chunk):
    x = point(3)
    trace = lambda x: (jacobian(hx.sin, chunk=chunk)(x) * hx.eye(3)).sum()  # noqa: E731
    assert np.allclose(hx.grad(trace)(x).numpy(), -np.sin(x), rtol=1e-14)


def test_hessian_of_a_quadratic_form():
    a, x = point(4, 4), point(4, seed=1)
    found = hessian(lambda x: x @ hx.tensor(a) @ x)(x)
    assert np.allclose(found.numpy(), a + a.T, rtol=1e-15)


def test_hessian_has_blocks_for_several_arguments():
    def f(x, y):
        return (x * x * y).sum()

    x, y = hx.tensor([2.0, 3.0]), hx.tensor([5.0, 7.0])
    (xx, xy), (yx, yy) = hessian(f, argnums=(0, 1), chunk=1)(x, y)
    assert xx.tolist() == [[10.0, 0.0], [0.0, 14.0]]
    assert xy.tolist() == yx.tolist() == [[4.0, 0.0], [0.0, 6.0]]
    assert yy.tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_hessian_of_a_structure_and_a_fused_op():
    p = {"x": point(3), "b": point(3, seed=1)}

    def f(p):  # logsumexp(x + b): the Hessian is diag(s) - s s^T in each block
        return -hx.log_softmax(p["x"] + p["b"])[0] + p["x"][0] + p["b"][0]

    e = np.exp(p["x"] + p["b"])
    s = e / e.sum()
    found = hessian(f)(p)
    for first in p:
        for second in p:
            block = found[first][second].numpy()
            assert np.allclose(block, np.diag(s) - np.outer(s, s), rtol=1e-13, atol=1e-15)


def test_what_cannot_be_asked_says_so():
    with pytest.raises(ValueRangeError, match="jacobian: chunk=0 must be 1 or more rows"):
        jacobian(hx.sin, chunk=0)
    with pytest.raises(NotDifferentiableError, match="bool"):
        jacobian(lambda x: x > 0)(hx.tensor([1.0]))
    with pytest.raises(GraphError, match="must return a scalar"):
        hessian(hx.sin)(hx.tensor([1.0, 2.0]))
