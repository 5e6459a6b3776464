"""Tensors are values: no two are observably aliased, whatever is shared inside."""

import numpy as np
import pytest

import helixml as hx
from helixml.errors import InplaceError, ShapeError

pytestmark = pytest.mark.usefixtures("plain_settings")

VIEWS = {
    "reshape": lambda x: x.reshape(3, 2),
    "permute_dims": lambda x: x.permute_dims(1, 0),
    "T": lambda x: x.T,
    "part": lambda x: x[0],
    "part backward": lambda x: x[:, ::-1],
    "broadcast_to": lambda x: hx.broadcast_to(x, (2, 2, 3)),
    "flip": lambda x: hx.flip(x, axis=0),
    "detach": lambda x: x.detach(),
    "astype of its own dtype": lambda x: x.astype("float32"),
    "squeeze": lambda x: hx.squeeze(hx.expand_dims(x, 0)),
    "positive": lambda x: +x,
    "to": lambda x: x.to("cpu"),
}


def two_by_three():
    return hx.tensor([[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]])


def same_object(name):
    return name in ("positive", "to")


@pytest.mark.parametrize("name", VIEWS)
def test_writing_the_base_leaves_views_alone(name):
    x = two_by_three()
    view = VIEWS[name](x)
    before = view.tolist()
    x.assign_(9.0)
    assert (view.tolist() == before) != same_object(name)


@pytest.mark.parametrize("name", VIEWS)
def test_writing_a_view_leaves_the_base_alone(name):
    x = two_by_three()
    before = x.tolist()
    VIEWS[name](x).assign_(9.0)
    assert (x.tolist() == before) != same_object(name)


@pytest.mark.parametrize("name", VIEWS)
def test_setting_items_of_the_base_leaves_views_alone(name):
    x = two_by_three()
    view = VIEWS[name](x)
    before = view.tolist()
    x[0] = 9.0
    assert (view.tolist() == before) != same_object(name)


def test_views_of_views_keep_their_values():
    x = two_by_three()
    a = x.T
    b = a.reshape(6)
    c = b[1:]
    b.assign_(0.0)
    assert c.tolist() == [3.0, 1.0, 4.0, 2.0, 5.0]
    assert a.tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert x.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_a_second_write_is_not_seen_either():
    x = two_by_three()
    view = x.reshape(6)
    x.assign_(1.0)
    x.assign_(2.0)
    view.assign_(3.0)
    assert x.tolist() == [[2.0] * 3] * 2
    assert view.tolist() == [3.0] * 6


def test_plus_equals_makes_a_new_tensor():
    x = hx.tensor([1.0, 2.0])
    other = x
    x += 1
    assert other.tolist() == [1.0, 2.0]
    assert x.tolist() == [2.0, 3.0]


def test_plus_equals_on_a_leaf_gives_a_non_leaf():
    x = leaf = hx.tensor([1.0, 2.0], requires_grad=True)
    x += 1
    assert leaf.is_leaf
    assert not x.is_leaf
    x.sum().backward()
    assert leaf.grad.tolist() == [1.0, 1.0]


def test_setitem_is_seen_through_every_name_of_the_object():
    x = hx.tensor([1.0, 2.0])
    other = x
    x[0] = 5.0
    assert other.tolist() == [5.0, 2.0]


def test_setitem_on_a_leaf_that_requires_grad_raises():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(InplaceError, match=r"setitem: this leaf.*x\.at\[i\]\.set\(v\)"):
        x[0] = 5.0
    with hx.no_grad():
        x[0] = 5.0
    assert x.tolist() == [5.0, 2.0]
    assert x.requires_grad
    assert x.is_leaf


def test_setitem_is_differentiable_in_both():
    x = hx.tensor([1.0, 2.0, 3.0], requires_grad=True)
    v = hx.tensor(10.0, requires_grad=True)
    y = x * 1
    y[1] = v
    (y * hx.tensor([1.0, 2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [1.0, 0.0, 3.0]
    assert v.grad.item() == 2.0


def test_setitem_of_a_plain_tensor_makes_it_depend_on_the_value():
    x = hx.zeros((3,))
    v = hx.tensor(10.0, requires_grad=True)
    x[1] = v * 2
    assert x.requires_grad
    x.sum().backward()
    assert v.grad.item() == 2.0


def test_setitem_of_itself():
    x = hx.tensor([1.0, 2.0, 3.0, 4.0])
    x[1:] = x[:-1]
    assert x.tolist() == [1.0, 1.0, 2.0, 3.0]


def test_setitem_keeps_the_dtype():
    x = hx.tensor([1, 2])
    x[0] = 2.7
    assert x.dtype == np.int64
    assert x.tolist() == [2, 2]


def test_setitem_after_use_leaves_gradients_of_the_use_right():
    w = hx.tensor([2.0, 3.0])
    x = hx.tensor([1.0, 1.0], requires_grad=True)
    y = (x * w).sum()
    w[0] = 100.0
    y.backward()
    assert x.grad.tolist() == [2.0, 3.0]


def test_at_set_and_at_add_leave_the_tensor_alone():
    x = hx.tensor([1.0, 2.0, 3.0])
    assert x.at[0].set(9.0).tolist() == [9.0, 2.0, 3.0]
    assert x.at[[0, 0, 2]].add(1.0).tolist() == [3.0, 2.0, 4.0]
    assert x.tolist() == [1.0, 2.0, 3.0]


def test_at_add_is_differentiable_in_both():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    v = hx.tensor([5.0, 7.0], requires_grad=True)
    (x.at[[1, 1]].add(v) * hx.tensor([2.0, 3.0])).sum().backward()
    assert x.grad.tolist() == [2.0, 3.0]
    assert v.grad.tolist() == [3.0, 3.0]


def test_assign_writes_in_place_and_returns_the_tensor():
    x = hx.tensor([1.0, 2.0])
    array = x._array
    assert x.assign_([3.0, 4.0]) is x
    assert x._array is array
    assert x.tolist() == [3.0, 4.0]


def test_assign_broadcasts_and_casts():
    x = hx.zeros((2, 2), dtype="int32")
    x.assign_(hx.tensor([1.9, 2.9]))
    assert x.dtype == np.int32
    assert x.tolist() == [[1, 2], [1, 2]]
    with pytest.raises(ShapeError, match=r"shape \(3,\) does not fit \(2, 2\)"):
        x.assign_(hx.zeros((3,)))


def test_assign_of_an_overlapping_view():
    x = hx.tensor([1.0, 2.0, 3.0])
    x.assign_(hx.flip(x))
    assert x.tolist() == [3.0, 2.0, 1.0]
    x.assign_(x)
    assert x.tolist() == [3.0, 2.0, 1.0]


def test_assign_is_for_leaves():
    x = hx.tensor([1.0], requires_grad=True)
    with pytest.raises(InplaceError, match=r"requires a gradient.*no_grad"):
        x.assign_(0.0)
    with pytest.raises(InplaceError, match=r"computed by multiply.*detach"):
        (x * 2).assign_(0.0)
    with hx.no_grad():
        x.assign_(0.0)
    assert x.tolist() == [0.0]


def test_tensor_copies():
    a = np.array([1.0, 2.0], np.float32)
    x = hx.tensor(a)
    a[0] = 9.0
    assert x.tolist() == [1.0, 2.0]


def test_asarray_shares_until_the_first_write():
    a = np.array([1.0, 2.0], np.float32)
    x = hx.asarray(a)
    a[0] = 9.0
    assert x.tolist() == [9.0, 2.0]
    x.assign_(0.0)
    assert a.tolist() == [9.0, 2.0]
    assert x.tolist() == [0.0, 0.0]
    x.assign_(1.0)
    assert x.tolist() == [1.0, 1.0]


def test_views_of_shared_memory_do_not_write_it():
    a = np.array([1.0, 2.0, 3.0, 4.0], np.float32)
    view = hx.asarray(a).reshape(2, 2)
    view.assign_(0.0)
    assert a.tolist() == [1.0, 2.0, 3.0, 4.0]


def test_asarray_of_a_tensor_is_that_tensor():
    x = hx.tensor([1.0])
    assert hx.asarray(x) is x
    assert hx.asarray(x, dtype="float64").dtype == np.float64


def test_numpy_is_a_read_only_view():
    x = hx.tensor([1.0, 2.0])
    array = x.numpy()
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 5.0
    x.assign_(7.0)
    assert array.tolist() == [7.0, 7.0]  # it looks at the tensor's own memory


def test_numpy_copy_is_the_callers_own():
    x = hx.tensor([1.0, 2.0])
    array = x.numpy(copy=True)
    array[0] = 5.0
    assert x.tolist() == [1.0, 2.0]


def test_saved_values_survive_the_write_of_a_view_of_them():
    x = hx.tensor([1.0, 2.0], requires_grad=True)
    w = hx.tensor([3.0, 4.0])
    y = (x * w).sum()
    view = w.reshape(2, 1)
    view.assign_(0.0)
    assert w.tolist() == [3.0, 4.0]
    y2 = (x * w).sum()
    y2.backward()
    assert x.grad.tolist() == [3.0, 4.0]
    assert y.item() == 11.0


def test_truth_and_comparison():
    x = hx.tensor([1.0, 2.0])
    assert (x == x).tolist() == [True, True]
    assert len({x, x}) == 1
    with pytest.raises(ShapeError, match=r"truth of 2 elements.*hx\.any"):
        bool(x == x)
