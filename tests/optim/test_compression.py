"""Compressed gradients: what a message holds, and that error feedback loses nothing."""

import math

import numpy as np
import pytest

import helixml as hx
from helixml.errors import CheckpointError, ShapeError, ValueRangeError
from helixml.nn import Parameter
from helixml.optim import SGD, EightBit, TopK


@pytest.fixture
def rng():
    return np.random.default_rng(1)


def parameter(*shape):
    return Parameter(np.zeros(shape, np.float32))


def random_gradients(rng, *shapes):
    return [rng.standard_normal(shape).astype(np.float32) for shape in shapes]


COMPRESSORS = [lambda params: TopK(params, share=0.1), EightBit]


def test_top_k_keeps_what_is_largest(rng):
    w = parameter(6, 7)
    (g,) = random_gradients(rng, (6, 7))
    w.grad = hx.tensor(g)
    compressor = TopK([w], share=0.2)
    count = math.ceil(0.2 * 42)
    assert compressor.step() == count * 8
    kept = np.argsort(-np.abs(g.ravel()))[:count]
    wanted = np.zeros(42, np.float32)
    wanted[kept] = g.ravel()[kept]
    np.testing.assert_array_equal(w.grad.numpy(), wanted.reshape(6, 7))


def test_eight_bits_err_by_half_a_step(rng):
    w = parameter(50, 3)
    (g,) = random_gradients(rng, (50, 3))
    w.grad = hx.tensor(g)
    assert EightBit([w]).step() == 150 + 4
    step = np.abs(g).max() / 127
    assert np.abs(w.grad.numpy() - g).max() <= step / 2 * (1 + 1e-5)


@pytest.mark.parametrize("make", COMPRESSORS)
def test_messages_and_what_is_owed_add_up_to_the_gradients(make, rng):
    w, b = parameter(20, 10), parameter(10)
    compressor = make([w, b])
    sent = [np.zeros((20, 10)), np.zeros(10)]
    total = [np.zeros((20, 10)), np.zeros(10)]
    for _ in range(30):
        for k, g in enumerate(random_gradients(rng, (20, 10), (10,))):
            total[k] += g
            (w, b)[k].grad = hx.tensor(g)
        compressor.step()
        for k, p in enumerate((w, b)):
            sent[k] += p.grad.numpy()
    for k, owed in compressor.state_dict().items():
        np.testing.assert_allclose(sent[int(k)] + owed.numpy(), total[int(k)], atol=1e-4)


def descend(compressor_of, steps=1500):
    """Return the loss of least squares after as many steps."""
    rng = np.random.default_rng(0)
    x = hx.tensor(rng.standard_normal((64, 40)).astype(np.float32))
    target = x @ hx.tensor(rng.standard_normal((40, 1)).astype(np.float32))
    w = parameter(40, 1)
    optimizer = SGD([w], lr=0.02)
    compressor = compressor_of([w])
    for _ in range(steps):
        loss = hx.mean(hx.square(x @ w - target))
        optimizer.zero_grad()
        loss.backward()
        if compressor is not None:
            compressor.step()
        optimizer.step()
    return loss.item()


def test_error_feedback_reaches_the_minimum_with_a_tenth_of_the_entries():
    whole = descend(lambda params: None)
    fed_back = descend(lambda params: TopK(params, share=0.1))

    class Forgetful(TopK):
        def compress(self):
            messages = super().compress()
            self._owed = [None] * len(self.params)
            return messages

    assert fed_back < 0.01
    assert whole < 0.01
    assert fed_back < descend(lambda params: Forgetful(params, share=0.1))


@pytest.mark.parametrize("make", COMPRESSORS)
def test_a_restored_compressor_goes_on_with_the_same_bits(make, rng):
    w, other = parameter(30), parameter(30)
    first, second = make([w]), make([other])
    gradients = random_gradients(rng, (30,), (30,))
    w.grad = hx.tensor(gradients[0])
    first.step()
    second.load_state_dict(first.state_dict())
    for p, compressor in ((w, first), (other, second)):
        p.grad = hx.tensor(gradients[1])
        compressor.step()
    np.testing.assert_array_equal(w.grad.numpy(), other.grad.numpy())


@pytest.mark.parametrize("make", COMPRESSORS)
def test_zeros_missing_gradients_and_empty_parameters(make):
    w, missing, empty = parameter(3), parameter(2), parameter(0)
    w.grad, empty.grad = hx.zeros((3,)), hx.zeros((0,))
    make([w, missing, empty]).step()
    assert w.grad.tolist() == [0, 0, 0]
    assert missing.grad is None
    assert empty.grad.shape == (0,)


@pytest.mark.parametrize("make", COMPRESSORS)
def test_a_gradient_that_is_not_finite_is_refused_and_nothing_is_owed(make):
    w, v = parameter(2), parameter(2)
    w.grad, v.grad = hx.tensor([1.0, 0.3]), hx.tensor([1.0, math.nan])
    compressor = make([w, v])
    with pytest.raises(ValueRangeError, match=r"parameter 1, shape \(2,\), holds inf or nan"):
        compressor.step()
    assert compressor.state_dict() == {}


def test_mistakes_are_explained():
    w = parameter(2)
    with pytest.raises(ValueRangeError, match=r"share=0 must be in \(0, 1\]"):
        TopK([w], share=0)
    with pytest.raises(ShapeError, match="2 messages for 1 parameters"):
        TopK([w]).restore([None, None])
    with pytest.raises(CheckpointError, match=r"parameter 0 is \(2,\), the state is \(3,\)"):
        TopK([w]).load_state_dict({"0": hx.zeros((3,))})
    with pytest.raises(CheckpointError, match=r"of parameter '4', here are 1"):
        TopK([w]).load_state_dict({"4": hx.zeros((3,))})
