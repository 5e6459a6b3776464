"""Derivatives through fused ops: kernel or definition, first and second order."""

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.backends import registry

TABLE = registry.default().kernels


def scan_inputs(dtype="float64"):
    rng = np.random.default_rng(3)
    b, d, n, length = 2, 3, 2, 5
    shapes = {
        "u": (b, d, length),
        "delta": (b, d, length),
        "A": (d, n),
        "B": (b, n, length),
        "C": (b, n, length),
        "D": (d,),
        "z": (b, d, length),
        "delta_bias": (d,),
        "initial_state": (b, d, n),
    }
    arrays = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    arrays["A"] = -np.abs(arrays["A"])
    return {name: hx.tensor(a, dtype=dtype, requires_grad=True) for name, a in arrays.items()}


def scan_loss(tensors):
    y, state = hx.selective_scan(**tensors, delta_softplus=True, return_last_state=True)
    return (y * y).sum() + hx.sin(state).sum()


def second_order(tensors):
    names = list(tensors)
    first = hx.autograd.gradients(scan_loss(tensors), tuple(tensors.values()), create_graph=True)
    total = sum(((g * g).sum() for g in first), start=hx.tensor(0.0))
    second = hx.autograd.gradients(total, tuple(tensors.values()))
    return dict(zip(names, first, strict=True)), dict(zip(names, second, strict=True))


def test_second_order_through_the_scan_kernel_equals_the_definitions():
    with_kernel = second_order(scan_inputs())
    with TABLE.without(*list(TABLE)):
        by_definition = second_order(scan_inputs())
    for got, expected in zip(with_kernel, by_definition, strict=True):
        for name, value in expected.items():
            scale = np.abs(value.numpy()).max()
            assert np.abs(got[name].numpy() - value.numpy()).max() <= 1e-12 * scale, name


def test_a_fused_op_with_a_kernel_is_one_node():
    if not TABLE or not config.get().kernels:
        pytest.skip("no kernels in this configuration")
    tensors = scan_inputs("float32")
    y = hx.selective_scan(**tensors)
    assert y._node.op.name == "selective_scan"
    assert set(y._node.parents) == set(tensors.values())


def test_only_the_last_state_is_used():
    tensors = scan_inputs()
    _, state = hx.selective_scan(**tensors, delta_softplus=True, return_last_state=True)
    state.sum().backward()
    kernel = {name: t.grad.numpy() for name, t in tensors.items() if t.grad is not None}
    with TABLE.without(*list(TABLE)):
        tensors = scan_inputs()
        _, state = hx.selective_scan(**tensors, delta_softplus=True, return_last_state=True)
        state.sum().backward()
    for name, t in tensors.items():
        expected = np.zeros(t.shape) if t.grad is None else t.grad.numpy()
        got = kernel.get(name, np.zeros(t.shape))
        assert np.allclose(got, expected, rtol=0, atol=1e-12), name


def test_only_the_outputs_are_used():
    tensors = scan_inputs()
    y, _ = hx.selective_scan(**tensors, delta_softplus=True, return_last_state=True)
    y.sum().backward()
    with_state = {name: t.grad.numpy() for name, t in tensors.items()}
    tensors = scan_inputs()
    hx.selective_scan(**tensors, delta_softplus=True).sum().backward()
    for name, t in tensors.items():
        assert np.allclose(with_state[name], t.grad.numpy(), rtol=1e-12, atol=1e-13), name


def test_the_same_tensor_as_two_inputs_of_a_fused_op():
    rng = np.random.default_rng(1)
    x = hx.tensor(rng.normal(size=(2, 2, 3)), requires_grad=True)
    delta = hx.tensor(rng.uniform(0.1, 0.9, size=(2, 2, 3)))
    decay = hx.tensor(-rng.uniform(0.1, 0.9, size=(2, 2)))

    def loss(b, c):
        return (hx.selective_scan(x, delta, decay, b, c) * x).sum()

    loss(x, x).backward()
    together = x.grad.numpy()
    x.grad = None
    b, c = x.detach(), x.detach()
    b.requires_grad = c.requires_grad = True
    loss(b, c).backward()
    assert np.allclose(together, (x.grad + b.grad + c.grad).numpy(), rtol=1e-12)


def test_the_same_tensor_twice_to_second_order():
    x = hx.tensor([[1.0, 2.0, 3.0]], dtype="float64", requires_grad=True)

    def penalty():
        w = x.reshape(3)
        y = (hx.rms_norm(x, w) ** 2).sum()
        g = hx.autograd.gradients(y, x, create_graph=True)
        return hx.autograd.gradients((g * g).sum(), x).numpy()

    with_kernel = penalty()
    with TABLE.without(*list(TABLE)):
        assert np.allclose(with_kernel, penalty(), rtol=1e-11)


def test_an_input_computed_from_another_is_not_counted_twice():
    x = hx.tensor([[1.0, 2.0, 3.0]], dtype="float64", requires_grad=True)

    def gradient():
        w = (x * 2.0).reshape(3)
        return hx.autograd.gradients((hx.rms_norm(x, w) ** 2).sum(), x, create_graph=True).numpy()

    def plain():
        scale = 1 / hx.sqrt((x * x).mean() + 1e-6)
        return hx.autograd.gradients(((x * scale * (x * 2.0)) ** 2).sum(), x).numpy()

    assert np.allclose(gradient(), plain(), rtol=1e-12)


def test_frozen_inputs_of_a_fused_op_get_nothing():
    tensors = scan_inputs()
    for name, t in tensors.items():
        t.requires_grad = name == "A"
    scan_loss(tensors).backward()
    assert [name for name, t in tensors.items() if t.grad is not None] == ["A"]


def test_nothing_is_recorded_without_gradients():
    tensors = {name: t.detach() for name, t in scan_inputs().items()}
    assert scan_loss(tensors).is_leaf


def test_arrays_and_lists_are_taken_as_inputs():
    x = np.ones((2, 3), np.float32)
    y = hx.rms_norm(x, [1.0, 1.0, 1.0])
    assert y.shape == (2, 3)


def test_gradients_keep_the_dtype_of_mixed_inputs():
    x = hx.tensor([[1.0, 2.0]], dtype="float32", requires_grad=True)
    w = hx.tensor([1.0, 2.0], dtype="float64", requires_grad=True)
    hx.rms_norm(x, w).sum().backward()
    assert (x.grad.dtype, w.grad.dtype) == (np.float32, np.float64)


@pytest.mark.parametrize("name", sorted({n.removesuffix("_vjp") for n in TABLE}))
def test_any_kernel_may_be_removed(name):
    """What the harness does for each op, here for a model of several."""

    def loss(x, w, v):
        h = hx.rms_norm(x, w)
        h = hx.causal_conv1d(h.mT, v, activation="silu").mT
        return hx.cross_entropy(h, hx.tensor([[0, 2], [1, 0]]))

    def gradients():
        rng = np.random.default_rng(0)
        x, w, v = (
            hx.tensor(rng.normal(size=s), requires_grad=True) for s in ((2, 2, 3), (3,), (3, 2))
        )
        value = loss(x, w, v)
        return [value.numpy(), *(g.numpy() for g in hx.autograd.gradients(value, (x, w, v)))]

    expected = gradients()
    for removed in ((name,), (name + "_vjp",), (name, name + "_vjp")):
        with TABLE.without(*removed):
            for got, want in zip(gradients(), expected, strict=True):
                assert np.allclose(got, want, rtol=1e-11, atol=1e-14)
