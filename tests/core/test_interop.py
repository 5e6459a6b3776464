"""Tensors among NumPy arrays, in pickles and copies, and on screen."""

import copy
import operator
import pickle

import numpy as np
import pytest

import helixml as hx
from helixml.errors import DTypeError, ShapeError

pytestmark = pytest.mark.usefixtures("plain_settings")


def test_numpy_functions_of_tensors_are_recorded():
    x = hx.tensor([1.0, 4.0], requires_grad=True)
    y = np.sqrt(x)
    assert isinstance(y, hx.Tensor)
    y.sum().backward()
    assert x.grad.tolist() == [0.5, 0.25]


@pytest.mark.parametrize(
    ("function", "op"),
    [
        (np.absolute, "abs"),
        (np.true_divide, "divide"),
        (np.power, "pow"),
        (np.rint, "round"),
        (np.mod, "remainder"),
        (np.matmul, "matmul"),
        (np.arctan2, "atan2"),
        (np.add, "add"),
    ],
)
def test_numpy_names_find_their_ops(function, op):
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    arguments = (x, x)[: function.nin]
    y = function(*arguments)
    assert y._node.op.name == op
    assert np.allclose(y.numpy(), function(*[np.array([1.0, 2.0])] * function.nin))


@pytest.mark.parametrize(
    "operation",
    [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow, operator.matmul],
)
def test_an_array_on_the_left_makes_a_tensor(operation):
    a = np.array([1.0, 2.0], np.float32)
    x = hx.tensor([3.0, 4.0], requires_grad=True)
    y = operation(a, x)
    assert isinstance(y, hx.Tensor)
    assert y.requires_grad
    assert np.allclose(y.numpy(), operation(a, np.array([3.0, 4.0])))


def test_asarray_of_a_tensor_is_a_read_only_view():
    x = hx.tensor([1.0, 2.0])
    a = np.asarray(x)
    assert np.shares_memory(a, x.numpy())
    assert not a.flags.writeable
    assert np.array(x).flags.writeable
    assert np.asarray(x, dtype=np.float64).dtype == np.float64


def test_bfloat16_goes_to_numpy_and_back():
    x = hx.tensor([1.5, 2.5], dtype="bfloat16")
    assert hx.tensor(x.numpy()).dtype == hx.bfloat16
    assert x.tolist() == [1.5, 2.5]


def test_foreign_byte_order_and_lists_of_tensors():
    assert hx.tensor(np.array([1.0, 2.0], ">f8")).tolist() == [1.0, 2.0]
    x = hx.tensor([hx.tensor(1.0), hx.tensor(2.0)])
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("bad", ["abc", [1, "a"], object(), {"a": 1}, None, [None]])
def test_what_is_no_number_is_refused(bad):
    with pytest.raises(DTypeError, match=r"tensor: cannot make a tensor of"):
        hx.tensor(bad)


def test_ragged_lists_are_refused():
    with pytest.raises(ShapeError, match=r"tensor: the nested lists do not form an array"):
        hx.tensor([[1, 2], [3]])


def round_trips():
    return [
        lambda x: pickle.loads(pickle.dumps(x)),
        copy.deepcopy,
        copy.copy,
    ]


@pytest.mark.parametrize("trip", round_trips(), ids=["pickle", "deepcopy", "copy"])
def test_copies_are_leaves_with_the_values(trip):
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    other = trip(x)
    assert other is not x
    assert other.is_leaf
    assert other.requires_grad
    assert other.tolist() == [1.0, 2.0]
    with hx.no_grad():
        other.assign_(0.0)
    assert x.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("trip", round_trips(), ids=["pickle", "deepcopy", "copy"])
def test_copies_of_computed_tensors_leave_the_graph(trip):
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    other = trip(x * 2)
    assert other.is_leaf
    assert other.tolist() == [2.0, 4.0]


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "bfloat16", "float64", "complex64"])
def test_pickles_keep_the_dtype(dtype):
    x = hx.ones((2, 0, 3), dtype=dtype)
    other = pickle.loads(pickle.dumps(x))
    assert (other.shape, other.dtype) == (x.shape, x.dtype)


def test_deepcopy_of_a_structure_keeps_identities():
    x = hx.tensor([1.0])
    first, second = copy.deepcopy([x, x])
    assert first is second


def test_python_scalars():
    assert float(hx.tensor(2.5)) == 2.5
    assert int(hx.tensor(3)) == 3
    assert complex(hx.tensor(2.0)) == 2
    assert bool(hx.tensor([1.0]))
    assert hx.tensor([[5]]).item() == 5
    assert [10, 20, 30][hx.tensor(1)] == 20
    with pytest.raises(ShapeError, match=r"item: needs exactly one element.*\(2,\)"):
        hx.tensor([1, 2]).item()
    with pytest.raises(DTypeError, match=r"only a scalar of an integer dtype can index"):
        [1, 2][hx.tensor(1.0)]


def test_length_and_iteration():
    x = hx.tensor([[1, 2], [3, 4]])
    assert len(x) == 2
    assert [row.tolist() for row in x] == [[1, 2], [3, 4]]
    _, b = x
    assert b.tolist() == [3, 4]
    assert 3 in [v.item() for v in x.reshape(-1)]
    with pytest.raises(DTypeError, match="a scalar tensor has no length"):
        len(hx.tensor(1))
    with pytest.raises(DTypeError, match="no axis to go along"):
        iter(hx.tensor(1))


def test_iteration_is_differentiable():
    x = hx.tensor([2.0, 3.0], requires_grad=True)
    a, b = x
    (a * b).backward()
    assert x.grad.tolist() == [3.0, 2.0]


def test_representation():
    assert repr(hx.tensor([1.0, 2.0])) == "tensor([1., 2.])"
    assert repr(hx.tensor([1, 2])) == "tensor([1, 2])"
    assert repr(hx.tensor([1, 2], dtype="int8")) == "tensor([1, 2], dtype=int8)"
    assert repr(hx.tensor([1.5], dtype="bfloat16")) == "tensor([1.5], dtype=bfloat16)"
    x = hx.tensor([1.0], requires_grad=True)
    assert repr(x) == "tensor([1.], requires_grad=True)"
    assert repr(x * 2) == "tensor([2.], grad_fn=multiply)"
    assert repr(hx.zeros((0, 3))) == "tensor([], shape=(0, 3))"
    assert "shape=(2000,)" in repr(hx.zeros((2000,)))
    assert f"{hx.tensor(1.23456):.2f}" == "1.23"
    assert f"{hx.tensor([1.0])}" == "tensor([1.])"


def test_attributes():
    x = hx.zeros((2, 3), dtype="float64")
    assert (x.shape, x.ndim, x.size, x.nbytes, str(x.device)) == ((2, 3), 2, 6, 48, "cpu")
    assert all(type(n) is int for n in x.shape)
    with pytest.raises(AttributeError):
        x.surprise = 1
