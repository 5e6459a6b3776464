"""Hooks on gradients, retain_grad, hooks on saved values."""

import gc
import threading

import numpy as np
import pytest

import helixml as hx
from helixml._core import tape
from helixml.autograd import gradients, saved_hooks
from helixml.errors import DTypeError, GraphError, InplaceError, ShapeError


def leaf(*values, dtype="float64"):
    return hx.tensor(list(values), dtype=dtype, requires_grad=True)


# Hooks on gradients


def test_a_hook_sees_the_sum_over_all_uses_once():
    seen = []
    x = leaf(1.0, 2.0)
    y = x * 3.0
    y.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: seen.append(g.tolist()))
    (y * y + 5.0 * y + x).sum().backward()
    assert seen == [[11.0, 17.0], [34.0, 52.0]]
    assert x.grad.tolist() == [34.0, 52.0]


def test_what_a_hook_returns_goes_on():
    x = leaf(1.0)
    y = x * 3.0
    y.register_hook(lambda g: g * 10.0)
    y.register_hook(lambda g: g + 1.0)
    x.register_hook(lambda g: -g)
    (2.0 * y).sum().backward()
    assert x.grad.tolist() == [-63.0]
    assert gradients((2.0 * x * 1.0).sum(), x).tolist() == [-2.0]


def test_hooks_count_when_registered_after_the_uses():
    x = leaf(1.0)
    y = x * 3.0
    z = (y * y).sum()
    y.register_hook(lambda g: 0.0 * g)
    z.backward()
    assert x.grad.tolist() == [0.0]


def test_a_removed_hook_is_gone():
    x = leaf(1.0)
    for t in (x, x * 2.0):
        handle = t.register_hook(lambda g: g * 0.0)
        handle.remove()
        handle.remove()
        x.grad = None
        (t * 1.0).sum().backward()
        assert x.grad.item() in (1.0, 2.0)


def test_a_hook_that_removes_itself_while_running():
    x = leaf(1.0)
    handle = x.register_hook(lambda g: handle.remove())
    (x * 1.0).sum().backward()
    (x * 1.0).sum().backward()
    assert x.grad.item() == 2.0


def test_hooks_of_one_output_of_several():
    x = leaf(1.0, 2.0, 3.0)
    first, second = hx.split(x, [1, 2])
    second.register_hook(lambda g: g * 7.0)
    (first.sum() + second.sum()).backward()
    assert x.grad.tolist() == [1.0, 7.0, 7.0]


def test_hooks_can_be_differentiated():
    x = leaf(2.0)
    y = x * x
    handle = y.register_hook(lambda g: g * y)
    (g,) = gradients(y.sum(), (x,), create_graph=True)  # 2 x * x^2
    handle.remove()
    assert gradients(g.sum(), x).item() == 6 * 2.0**2


def test_hooks_of_leaves_go_with_them():
    before = len(tape.leaf_hooks)
    x = leaf(1.0)
    x.register_hook(lambda g: g)
    assert len(tape.leaf_hooks) == before + 1
    del x
    gc.collect()
    assert len(tape.leaf_hooks) == before


def test_wrong_hooks_say_so():
    with pytest.raises(GraphError, match="register_hook: this tensor"):
        hx.ones(2).register_hook(print)
    for result, error, text in (
        (1.0, DTypeError, "returned float, not a Tensor"),
        (hx.ones(3, dtype="float64"), ShapeError, r"shape \(3,\), the gradient has \(1,\)"),
        (hx.ones(1), DTypeError, "returned float32, the gradient is float64"),
    ):
        x = leaf(1.0)
        x.register_hook(lambda g, result=result: result)
        with pytest.raises(error, match=text):
            (x * 2.0).sum().backward()


# retain_grad


def test_a_computed_tensor_can_keep_its_gradient():
    x = leaf(1.0, 2.0)
    y = x * x
    y.retain_grad()
    y.retain_grad()
    z = (3.0 * y).sum()
    z.backward(retain_graph=True)
    z.backward()
    assert y.grad.tolist() == [6.0, 6.0]
    assert not y.grad.requires_grad


def test_what_is_kept_is_what_hooks_have_made():
    x = leaf(1.0)
    y = x * x
    y.retain_grad()
    y.register_hook(lambda g: g * 5.0)
    y.sum().backward()
    assert y.grad.tolist() == [5.0]


def test_functions_that_return_gradients_touch_no_grad():
    x = leaf(1.0)
    y = x * x
    y.retain_grad()
    gradients(y.sum(), x)
    assert y.grad is None
    kept = []

    def f(v):
        w = v * v
        w.retain_grad()
        kept.append(w)
        return w.sum()

    hx.grad(f)(x)
    assert kept[0].grad is None


def test_retain_grad_of_leaves_and_constants():
    x = leaf(1.0)
    x.retain_grad()
    (x * 1.0).sum().backward()
    assert x.grad.item() == 1.0
    with pytest.raises(GraphError, match="retain_grad: this tensor"):
        hx.ones(1).retain_grad()


def test_kept_gradients_can_be_differentiated():
    x = leaf(2.0)
    y = x * x
    y.retain_grad()
    (y * y).sum().backward(create_graph=True)
    assert gradients(y.grad.sum(), x).item() == 2 * 2 * 2.0  # d(2 x^2)/dx


# Hooks on saved values


def network(x, w):
    h = hx.rms_norm(hx.tanh(x @ w), hx.ones(4, dtype="float64"))
    h = hx.softmax(h @ w.mT) * hx.exp(h)
    return hx.concat([h, hx.split(h, [1, 3], axis=-1)[0]], axis=-1).sum()


def network_leaves():
    rng = np.random.default_rng(0)
    return tuple(hx.tensor(rng.normal(size=(4, 4)), requires_grad=True) for _ in range(2))


def test_every_value_goes_through_the_hooks():
    x, w = network_leaves()
    expected = [g.numpy() for g in gradients(network(x, w), (x, w))]
    counts = [0, 0]

    def pack(t):
        assert not hx.is_recording()
        counts[0] += 1
        return t.numpy(copy=True)

    def unpack(a):
        assert not hx.is_recording()
        counts[1] += 1
        return hx.tensor(a)

    with saved_hooks(pack, unpack):
        y = network(x, w)
    found = gradients(y, (x, w))
    assert counts[0] >= 8
    assert 0 < counts[1] <= counts[0]
    for got, want in zip(found, expected, strict=True):
        assert np.array_equal(got.numpy(), want)
    with saved_hooks(hx.zeros_like, lambda t: t):  # they are not only looked at
        y = network(x, w)
    assert not np.allclose(gradients(y, x).numpy(), expected[0])


def test_second_order_through_packed_values():
    x, w = network_leaves()

    def second():
        first = gradients(network(x, w), (x, w), create_graph=True)
        return [g.numpy() for g in gradients(sum((g * g).sum() for g in first), (x, w))]

    expected = second()
    with saved_hooks(lambda t: t.numpy(copy=True), hx.tensor):
        found = second()
    for got, want in zip(found, expected, strict=True):
        assert np.allclose(got, want, rtol=1e-12, atol=1e-14)


def test_halves():
    x = leaf(0.1, 2.0, dtype="float32")
    with saved_hooks(lambda t: t.astype("float16"), lambda t: t.astype("float32")):
        y = hx.exp(x).sum()
    y.backward()
    assert np.array_equal(x.grad.numpy(), np.exp(x.numpy()).astype(np.float16).astype(np.float32))


def test_leaves_that_require_gradients_are_not_packed():
    packed = []
    x = leaf(1.0, 2.0)
    with saved_hooks(packed.append, lambda _: None):
        x * x
    assert not packed
    with saved_hooks(lambda t: packed.append(t.tolist()), lambda _: None):
        x * hx.tensor([3.0, 4.0])
    assert packed == [[3.0, 4.0]]


def test_the_innermost_block_counts_and_threads_have_their_own():
    x = leaf(1.0)
    c = hx.tensor([3.0])
    seen = []
    outer = saved_hooks(lambda t: seen.append("outer"), lambda _: c)
    inner = saved_hooks(lambda t: seen.append("inner"), lambda _: c)
    with outer:
        x * c
        with inner, inner:
            x * c
        thread = threading.Thread(target=lambda: x * c)
        thread.start()
        thread.join()
        x * c
    x * c
    assert seen == ["outer", "inner", "outer"]


def test_an_overwritten_value_is_noticed_though_it_was_packed():
    x, c = leaf(1.0), hx.tensor([3.0], dtype="float64")
    with saved_hooks(lambda t: t.numpy(copy=True), hx.tensor):
        y = (x * c).sum()
    c.assign_(4.0)
    with pytest.raises(InplaceError, match=r"multiply: its backward pass reads 'y', shape \(1,\)"):
        y.backward()


@pytest.mark.parametrize(
    ("unpacked", "error", "text"),
    [
        (1.0, DTypeError, "unpack returned float, not a Tensor, for 'y' of multiply"),
        (hx.ones(3), ShapeError, r"returned shape \(3,\) for 'y' of multiply, which had \(1,\)"),
        (hx.ones(1), DTypeError, r"float32 on (\w+) for 'y' of multiply, which was float64 on \1"),
    ],
)
def test_wrong_unpacking_says_so(unpacked, error, text):
    x, c = leaf(1.0), hx.tensor([3.0], dtype="float64")
    with saved_hooks(lambda t: None, lambda _: unpacked):
        y = (x * c).sum()
    with pytest.raises(error, match=text):
        y.backward()
