"""The graph: how it is walked, freed and guarded."""

import gc
import inspect
import sys
import weakref

import numpy as np
import pytest

import helixml as hx
from helixml.errors import (
    GraphError,
    GraphFreedError,
    InplaceError,
    NotDifferentiableError,
    ShapeError,
)


def leaf(*values):
    return hx.tensor(list(values), requires_grad=True)


def test_second_backward_says_graph_freed():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GraphFreedError, match=r"already walked backward.*retain_graph=True"):
        y.backward()


def test_second_backward_through_ops_that_save_nothing_says_graph_freed():
    x = leaf(1.0, 2.0)
    y = (x + 1).sum()
    y.backward()
    with pytest.raises(GraphFreedError):
        y.backward()


def test_a_freed_part_of_a_graph_is_named_by_a_later_walk():
    x = leaf(1.0, 2.0)
    shared = hx.exp(x)
    shared.sum().backward()
    with pytest.raises(GraphFreedError, match="exp"):
        (shared * 2).sum().backward()


def test_retained_graph_can_be_walked_again():
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4.0, 8.0]


def test_create_graph_keeps_the_graph():
    x = leaf(3.0)
    y = (x * x * x).sum()
    y.backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    x.grad = None
    first.sum().backward()
    assert x.grad.tolist() == [18.0]


def test_write_to_a_saved_value_names_op_shape_and_line():
    w = hx.tensor([1.0, 2.0])
    x = leaf(3.0, 4.0)
    y = (x * w).sum()
    line = inspect.currentframe().f_lineno + 1
    w.assign_(0.0)
    with pytest.raises(InplaceError) as caught:
        y.backward()
    text = str(caught.value)
    assert text.startswith("multiply: its backward pass reads 'y', shape (2,)")
    assert f"assign_ at {__file__}:{line}" in text
    assert "version 0 -> 1" in text
    assert "Hint" in text


def test_write_after_backward_is_fine():
    w = hx.tensor([1.0, 2.0])
    x = leaf(3.0, 4.0)
    (x * w).sum().backward()
    w.assign_(0.0)
    assert x.grad.tolist() == [1.0, 2.0]


def test_write_to_a_value_that_no_rule_reads_is_fine():
    w = hx.tensor([1.0, 2.0])
    x = leaf(3.0, 4.0)
    y = (x + w).sum()
    w.assign_(0.0)
    y.backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_write_through_a_view_is_noticed_only_where_it_is_seen():
    w = hx.tensor([[1.0, 2.0]])
    flat = w.reshape(2)
    x = leaf(3.0, 4.0)
    y = (x * w).sum()
    flat.assign_(0.0)  # w keeps its values: no two tensors are aliased
    assert w.tolist() == [[1.0, 2.0]]
    try:
        y.backward()
    except InplaceError:
        return  # what was saved is that array, so refusing is right as well
    assert x.grad.tolist() == [1.0, 2.0]


def test_parameter_update_between_forward_and_backward_is_noticed():
    w = leaf(1.0, 2.0)
    y = (w * w).sum()
    with hx.no_grad():
        w.assign_(w - 1.0)
    with pytest.raises(InplaceError, match="multiply"):
        y.backward()


def chain(length):
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y + 1.0
    return x, y


def long_chain(length):
    limit = sys.getrecursionlimit()
    x, y = chain(length)
    y.sum().backward()
    assert x.grad.tolist() == [1.0]
    assert y.tolist() == [1.0 + length]
    assert sys.getrecursionlimit() == limit
    ref = weakref.ref(y)
    del y
    assert ref() is None


def test_a_chain_of_a_hundred_thousand_ops_works_and_is_freed():
    long_chain(100_000)


def test_a_chain_that_was_never_walked_is_freed_without_recursion():
    _, y = chain(100_000)
    node = weakref.ref(y)
    del y
    assert node() is None


@pytest.mark.slow
def test_a_chain_of_a_million_ops_works_and_is_freed():
    long_chain(1_000_000)


def test_a_wide_graph_visits_each_node_once():
    x = leaf(1.0)
    y = x
    for _ in range(60):  # 2^60 paths
        y = y + y
    y.sum().backward()
    assert x.grad.tolist() == [2.0**60]


def test_dropping_the_loss_frees_the_graph():
    gc.disable()
    try:
        x = leaf(1.0, 2.0)
        hidden = hx.exp(x)
        y = (hidden * hidden).sum()
        refs = [weakref.ref(hidden), weakref.ref(y)]
        del hidden, y
        assert [ref() for ref in refs] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["exp", "sqrt", "sigmoid", "tanh"])
def test_an_op_that_saves_its_own_output_makes_no_cycle(name):
    gc.disable()
    try:
        y = getattr(hx, name)(leaf(1.0, 2.0))
        ref = weakref.ref(y)
        node = y._node
        del y
        assert ref() is None
        assert gc.get_referrers(node) == [] or sys.getrefcount(node) <= 3
    finally:
        gc.enable()


def test_memory_of_intermediate_values_goes_with_backward():
    x = leaf(1.0, 2.0)
    y = hx.exp(x).sum()
    node = y._node.parents[0]
    assert node.saved
    y.backward()
    assert not node.saved


def test_grads_of_different_leaves_are_objects_of_their_own():
    x, y = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x + y).sum().backward()
    assert x.grad is not y.grad
    x.grad.assign_(0.0)
    assert y.grad.tolist() == [1.0, 1.0]


def test_the_starting_gradient_is_not_handed_out():
    x = leaf(1.0, 2.0)
    start = hx.tensor([1.0, 1.0])
    (x + 0.0).backward(start)
    assert x.grad is not start
    x.grad.assign_(5.0)
    assert start.tolist() == [1.0, 1.0]


def test_gradients_accumulate_into_a_new_object():
    x = leaf(1.0, 2.0)
    (x * 2).sum().backward()
    first = x.grad
    (x * 3).sum().backward()
    assert x.grad.tolist() == [5.0, 5.0]
    assert first.tolist() == [2.0, 2.0]


def test_gradients_are_outside_the_graph():
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    assert not x.grad.requires_grad
    assert x.grad.is_leaf


def test_backward_of_a_leaf_gives_ones():
    x = hx.tensor(2.0, requires_grad=True)
    x.backward()
    assert x.grad.item() == 1.0


def test_backward_of_a_non_scalar_needs_a_gradient():
    x = leaf(1.0, 2.0)
    with pytest.raises(GraphError, match=r"shape \(2,\) needs a starting gradient.*y\.sum\(\)"):
        (x * 2).backward()
    with pytest.raises(ShapeError, match=r"the gradient is \(3,\), the tensor is \(2,\)"):
        (x * 2).backward(hx.ones((3,)))


def test_backward_without_a_graph_says_why():
    with pytest.raises(GraphError, match="requires_grad=True"):
        hx.tensor(1.0).backward()


def test_interior_tensors_have_no_grad():
    x = leaf(1.0, 2.0)
    y = x * 2
    y.sum().backward()
    assert y.grad is None


def test_gradients_of_interior_tensors():
    x = leaf(1.0, 2.0)
    y = x * 2
    z = (y * y).sum()
    gx, gy = hx.autograd.gradients(z, [x, y])
    assert gy.tolist() == [4.0, 8.0]
    assert gx.tolist() == [8.0, 16.0]
    assert x.grad is None


def test_gradients_where_one_x_is_computed_from_another():
    x = leaf(2.0)
    y = x * 3
    z = (x * y).sum()
    gx, gy = hx.autograd.gradients(z, (x, y))
    assert (gx.tolist(), gy.tolist()) == ([12.0], [2.0])


def test_gradient_with_respect_to_y_itself():
    x = leaf(2.0)
    y = (x * 3).sum()
    assert hx.autograd.gradients(y, y).item() == 1.0


def test_gradients_of_several_ys_add_up():
    x = leaf(2.0)
    g = hx.autograd.gradients([(x * x).sum(), (x * 5).sum()], x)
    assert g.tolist() == [9.0]


def test_gradients_without_connection_are_zeros():
    x, other = leaf(1.0, 2.0), leaf(3.0)
    assert hx.autograd.gradients((x * x).sum(), other).tolist() == [0.0]


def test_gradients_walk_only_what_leads_to_xs():
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    hidden = hx.exp(w)
    y = (x * hidden).sum()
    hx.autograd.gradients(y, x)
    assert hidden._node.saved  # exp(w) was not walked, so nothing of it was dropped


def test_gradients_of_a_frozen_x_says_so():
    x = leaf(1.0)
    with pytest.raises(GraphError, match=r"x number 1 \(shape \(2,\)\) does not require"):
        hx.autograd.gradients((x * 2).sum(), [x, hx.zeros((2,))])


def test_a_tensor_used_twice_by_one_op():
    x = leaf(3.0)
    (x * x).sum().backward()
    assert x.grad.tolist() == [6.0]
    y = leaf(2.0, 3.0)
    hx.concat([y, y, y]).sum().backward()
    assert y.grad.tolist() == [3.0, 3.0]


def test_requires_grad_only_for_floats():
    with pytest.raises(NotDifferentiableError, match=r"int64 has no gradient.*astype"):
        hx.tensor([1, 2], requires_grad=True)
    x = hx.tensor([True])
    with pytest.raises(NotDifferentiableError, match="bool"):
        x.requires_grad = True


def test_requires_grad_of_a_computed_tensor_cannot_be_switched_off():
    y = leaf(1.0) * 2
    with pytest.raises(GraphError, match=r"cannot be switched off.*detach"):
        y.requires_grad = False
    y.requires_grad = True
    assert not y.is_leaf


def test_requires_grad_of_a_leaf_can_be_switched():
    x = hx.tensor([1.0])
    assert not x.requires_grad
    x.requires_grad = True
    assert (x * 2).requires_grad
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_results_require_grad_if_an_operand_does():
    x, y = leaf(1.0), hx.tensor([2.0])
    assert (x + y).requires_grad
    assert not (y + y).requires_grad
    assert not (x > y).requires_grad
    assert not x.astype("int64").requires_grad
    assert not x.detach().requires_grad


def test_gradient_has_the_dtype_of_its_leaf():
    x = hx.tensor([1.0], dtype="float16", requires_grad=True)
    y = hx.tensor([2.0], dtype="float64")
    (x * y).sum().backward()
    assert x.grad.dtype == np.float16


def test_a_list_of_tensors_does_not_lose_gradients_silently():
    x = hx.tensor(2.0, requires_grad=True)
    with pytest.raises(GraphError, match=r"would lose these\. Hint: hx\.stack"):
        hx.tensor([x, x * 2])
    with hx.no_grad():
        assert hx.tensor([x, x * 2]).tolist() == [2.0, 4.0]
    hx.stack([x, x * 2]).sum().backward()
    assert x.grad.item() == 3.0


def test_a_training_loop_leaves_nothing_behind():
    w = hx.ones((4, 3))
    w.requires_grad = True
    m, v = hx.zeros((4, 3)), hx.zeros((4, 3))
    x = hx.ones((5, 4))

    def step(number):
        h = hx.rms_norm(x @ w, hx.ones((3,)))
        loss = hx.cross_entropy(h, hx.zeros((5,), dtype="int64")) + (w * w).sum()
        loss.backward()
        with hx.no_grad():
            hx.ops.adamw_(
                w,
                w.grad,
                m,
                v,
                lr=0.1,
                beta1=0.9,
                beta2=0.9,
                eps=1e-8,
                weight_decay=0.0,
                step=number,
            )
        w.grad = None

    def living():
        names = ("Tensor", "Node", "Saved", "Cell")
        return sum(type(thing).__name__ in names for thing in gc.get_objects())

    step(1)
    gc.collect()
    gc.disable()
    try:
        before = living()
        for number in range(2, 60):
            step(number)
        assert living() <= before + 2
        assert len(w._cell.viewers) <= w._cell.limit
    finally:
        gc.enable()


def test_rule_that_is_missing_raises():
    from helixml._core.op import REGISTRY, primitive

    def ruleless(B, x: "Array"):  # noqa: F821
        return B.negative(x)

    op = primitive(ruleless)
    try:
        y = op(leaf(1.0)).sum()
        with pytest.raises(NotDifferentiableError, match=r"ruleless: has no derivative.*'x'"):
            y.backward()
    finally:
        del REGISTRY["ruleless"]


def test_a_rule_may_read_only_what_it_is_offered():
    from helixml._core.op import REGISTRY, primitive

    def curious(B, x: "Array"):  # noqa: F821
        return x

    op = primitive(curious)
    try:
        with pytest.raises(NotDifferentiableError, match=r"reads \['neighbour'\]"):
            op.vjp("x")(lambda g, neighbour: g)
    finally:
        del REGISTRY["curious"]
