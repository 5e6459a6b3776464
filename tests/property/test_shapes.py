"""Arithmetic on shapes against NumPy's."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import helixml as hx
from helixml import shapes
from helixml.errors import ShapeError

SHAPES = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)


@given(st.lists(SHAPES, min_size=1, max_size=3))
def test_broadcast(several):
    try:
        expected = np.broadcast_shapes(*several)
    except ValueError:
        expected = None
    try:
        found = shapes.broadcast("test", *several)
    except ShapeError:
        found = None
    assert found == expected


@given(SHAPES, st.data())
def test_reductions_have_numpys_shapes(shape, data):
    axes = data.draw(st.lists(st.integers(0, max(len(shape) - 1, 0)), unique=True))
    axis = tuple(a for a in axes if a < len(shape))
    keepdims = data.draw(st.booleans())
    expected = np.zeros(shape).sum(axis=axis, keepdims=keepdims).shape
    assert hx.zeros(shape).sum(axis=axis, keepdims=keepdims).shape == expected


@given(hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=3))
def test_gradients_of_broadcast_operands_have_the_operands_shapes(case):
    x, y = (hx.ones(s, dtype="float64") for s in case.input_shapes)
    x.requires_grad = y.requires_grad = True
    out = x * y
    assert out.shape == case.result_shape
    out.sum().backward()
    for leaf in (x, y):
        assert leaf.grad.shape == leaf.shape
        assert (leaf.grad.numpy() * max(leaf.size, 1) == out.size).all()


@given(SHAPES, st.data())
def test_reshape_infers_one_size(shape, data):
    size = int(np.prod(shape))
    target = list(data.draw(hnp.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=4)))
    target[data.draw(st.integers(0, len(target) - 1))] = -1
    try:
        expected = np.zeros(shape).reshape(target).shape
    except ValueError:
        expected = None
    try:
        found = hx.zeros(shape).reshape(*target).shape
    except ShapeError:
        found = None
    assert found == expected, size
