"""adamw_, sgd_ and their forms for many: what in-place ops write, and what they leave alone.

Their values in every dtype and layout are checked by the harness, against their oracles.
"""

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.backends import registry
from helixml.backends.dispatch import Kernel
from helixml.errors import InplaceError
from helixml.ops import adamw_, adamw_many_, sgd_, sgd_many_

ADAM = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.01, "step": 1}


def state(*shape):
    return hx.ones(shape), hx.full(shape, 0.5), hx.zeros(shape), hx.zeros(shape)


@pytest.mark.usefixtures("written_in_place")
def test_the_parameter_keeps_its_array_and_identity():
    w, g, m, v = state(2, 3)
    arrays = [t._array for t in (w, m, v)]
    assert adamw_(w, g, m, v, **ADAM) is None
    assert all(t._array is a for t, a in zip((w, m, v), arrays, strict=True))
    assert (w.numpy() != 1).all()
    assert (g.numpy() == 0.5).all()


def test_other_tensors_that_look_at_the_parameter_keep_their_values():
    w, g, m, v = state(4)
    view, copy = w.reshape(2, 2), w.detach()
    adamw_(w, g, m, v, **ADAM)
    assert view.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert copy.tolist() == [1.0] * 4
    assert w.tolist() != copy.tolist()


def test_a_leaf_that_requires_a_gradient_is_written_without_recording_only():
    w, g, m, v = state(3)
    w.requires_grad = True
    with pytest.raises(InplaceError, match=r"adamw_: this leaf.*no_grad"):
        adamw_(w, g, m, v, **ADAM)
    assert m.tolist() == [0.0] * 3  # nothing was written before that was noticed
    with hx.no_grad():
        adamw_(w, g, m, v, **ADAM)
    assert w.requires_grad
    assert w.is_leaf


def test_computed_tensors_are_not_written():
    w, g, _, _ = state(3)
    w.requires_grad = True
    with pytest.raises(InplaceError, match="computed by multiply"):
        sgd_(w * 2, g, None, lr=0.1, momentum=0.0, nesterov=False, weight_decay=0.0)


def test_an_update_between_forward_and_backward_is_noticed():
    w, g, m, v = state(3)
    w.requires_grad = True
    y = (w * w).sum()
    with hx.no_grad():
        adamw_(w, g, m, v, **ADAM)
    with pytest.raises(
        InplaceError, match=r"multiply: .*overwritten in place by (adamw_|assign_) at .*py:\d+"
    ):
        y.backward()


@pytest.mark.parametrize("shape", [(3,), (2, 3), ()])
def test_gradients_that_are_broadcast_views(shape):
    w = hx.ones(shape)
    w.requires_grad = True
    (w * 1.0).sum().backward()
    _, _, m, v = state(*shape)
    with hx.no_grad():
        adamw_(w, w.grad, m, v, **ADAM)
    assert np.allclose(w.numpy(), 1 - 0.1 - 0.001)


def test_parameters_that_share_a_numpy_array_leave_it_alone():
    a = np.ones(3, np.float32)
    w = hx.asarray(a)
    _, g, m, v = state(3)
    adamw_(w, g, m, v, **ADAM)
    assert (a == 1).all()
    assert (w.numpy() != 1).all()


def test_parameters_that_are_broadcast_views_get_memory_of_their_own():
    w = hx.broadcast_to(hx.tensor(1.0), (3,))
    _, g, m, v = state(3)
    adamw_(w, g, m, v, **ADAM)
    assert np.allclose(w.numpy(), 1 - 0.1 - 0.001)


def test_two_steps_agree_with_the_formula():
    w, g, m, v = (hx.tensor(x, dtype="float64") for x in ([1.0], [0.5], [0.0], [0.0]))
    for step in (1, 2):
        adamw_(w, g, m, v, **{**ADAM, "step": step, "weight_decay": 0.0})
    # with a constant gradient both bias-corrected moments are those of the gradient itself
    assert np.allclose(w.numpy(), 1 - 2 * 0.1, atol=1e-8)


def test_momentum_without_nesterov_and_with():
    for nesterov, expected in ((False, 1 - 0.1 - 0.19), (True, 1 - 0.19 - 0.271)):
        w, g, u = (hx.tensor([x], dtype="float64") for x in (1.0, 1.0, 0.0))
        for _ in range(2):
            sgd_(w, g, u, lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=0.0)
        assert np.allclose(w.numpy(), expected), nesterov


def several(seed):
    rng = np.random.default_rng(seed)
    return [hx.tensor(rng.random(shape), dtype="float32") for shape in ((3, 4), (), (5,), (0, 2))]


@pytest.mark.parametrize("kernels", [True, False])
def test_one_step_for_many_has_the_bits_of_one_for_each(kernels):
    together, apart = ([several(seed) for seed in range(4)] for _ in range(2))
    with config.using(kernels=kernels):
        adamw_many_(*together, **ADAM)
        for one in zip(*apart, strict=True):
            adamw_(*one, **ADAM)
        momentum = {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}
        sgd_many_(*together[:3], **momentum)
        for one in zip(*apart[:3], strict=True):
            sgd_(*one, **momentum)
    for got, expected in zip(together, apart, strict=True):
        assert [x.numpy().tobytes() for x in got] == [x.numpy().tobytes() for x in expected]


def test_many_of_different_dtypes():
    x, y = hx.ones((2,), "float32"), hx.ones((2,), "float64")
    sgd_many_([x, y], [x * 1, y * 1], [None] * 2, 0.5, 0.0, False, 0.0)
    assert x.tolist() == y.tolist() == [0.5, 0.5]


def test_of_many_none_is_written_if_one_may_not_be():
    w, g, m, v = zip(state(3), state(3), strict=True)
    w[1].requires_grad = True
    with pytest.raises(InplaceError, match=r"adamw_many_: this leaf.*no_grad"):
        adamw_many_(w, g, m, v, **ADAM)
    assert w[0].tolist() == [1.0] * 3
    assert m[0].tolist() == [0.0] * 3


def test_many_may_be_none():
    assert adamw_many_([], [], [], [], **ADAM) is None


@pytest.mark.usefixtures("on_the_cpu")
def test_a_kernel_gets_the_sequences(monkeypatch):
    calls = []

    def kernel(*inputs, **attributes):
        calls.append((inputs, attributes))

    table = registry.get("cpu").kernels
    entry = Kernel("sgd_many_", kernel, ("float32",))
    monkeypatch.setitem(table._kernels, "sgd_many_", entry)
    settings = {"lr": 0.5, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    params, grads = several(0), several(1)
    with config.using(kernels=True):
        sgd_many_(params, grads, [None] * 4, **settings)
    ((arrays, attributes),) = calls
    assert attributes == settings
    assert [len(sequence) for sequence in arrays] == [4, 4, 4]
    assert all(a is t._array for a, t in zip(arrays[0], params, strict=True))
    assert all(a is t._array for a, t in zip(arrays[1], grads, strict=True))
    assert list(arrays[2]) == [None] * 4
