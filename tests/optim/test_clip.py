"""Clipping by norm: the value, the effect, and gradients that are missing, zero or not finite."""

import math

import numpy as np
import pytest

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.nn import Parameter
from helixml.optim import clip_grad_norm, clip_grad_value


def parameters(*gradients):
    found = []
    for gradient in gradients:
        parameter = Parameter(np.zeros(np.shape(gradient or 0.0), np.float32))
        parameter.grad = None if gradient is None else hx.tensor(gradient, dtype="float32")
        found.append(parameter)
    return found


def norm_of(params):
    total = sum(float((p.grad.numpy().astype(np.float64) ** 2).sum()) for p in params)
    return math.sqrt(total)


def gradients(params):
    return [None if p.grad is None else p.grad.tolist() for p in params]


def test_the_norm_is_that_of_all_gradients_together():
    params = parameters([[3.0, 0.0]], 4.0, None)
    norm = clip_grad_norm(params, 100.0)
    assert norm.item() == 5.0
    assert norm.shape == ()
    assert not norm.requires_grad
    assert gradients(params) == [[[3.0, 0.0]], 4.0, None]  # below the bound: not touched


def test_above_the_bound_the_direction_stays():
    params = parameters([[3.0, 0.0]], 4.0, None)
    assert clip_grad_norm(params, 1.0).item() == 5.0
    assert np.allclose(params[0].grad.numpy(), [[0.6, 0.0]], rtol=1e-6)
    assert np.isclose(params[1].grad.item(), 0.8, rtol=1e-6)
    assert params[2].grad is None


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1.0, 1e6, 1e15])
def test_the_bound_is_reached_whatever_the_scale(scale):
    params = parameters([3.0 * scale, 1.0 * scale], [-2.0 * scale])
    clip_grad_norm(params, 0.5 * scale)
    found = [v / scale for p in params for v in p.grad.tolist()]
    assert math.isclose(math.hypot(*found), 0.5, rel_tol=1e-5)


def test_a_norm_at_the_bound_changes_nothing():
    params = parameters([3.0, 4.0])
    clip_grad_norm(params, 5.0)
    assert gradients(params) == [[3.0, 4.0]]


def test_no_bound():
    params = parameters([3.0, 4.0])
    assert clip_grad_norm(params, math.inf).item() == 5.0
    assert gradients(params) == [[3.0, 4.0]]


def test_zero_gradients():
    params = parameters([0.0, 0.0], 0.0)
    assert clip_grad_norm(params, 1.0).item() == 0.0
    assert gradients(params) == [[0.0, 0.0], 0.0]


@pytest.mark.parametrize("params", [[], parameters(None, None)])
def test_no_gradients(params):
    assert clip_grad_norm(params, 1.0).item() == 0.0


@pytest.mark.parametrize("bad", [math.inf, -math.inf, math.nan])
def test_a_norm_that_is_not_finite_is_told_and_hides_nothing(bad):
    params = parameters([1.0, bad], [2.0])
    norm = clip_grad_norm(params, 1.0).item()
    assert not math.isfinite(norm)
    assert str(gradients(params)) == str([[1.0, bad], [2.0]])


def test_a_norm_beyond_float32_does_not_become_a_zero_gradient():
    params = parameters([3e38, 3e38])
    assert clip_grad_norm(params, 1.0).item() == math.inf
    assert params[0].grad.tolist() == [np.float32(3e38)] * 2


def test_squares_beyond_float32_do_not_become_a_zero_gradient():
    params = parameters([1e25])
    norm = clip_grad_norm(params, 1.0).item()  # by the definition inf, by a kernel exact
    found = params[0].grad.item()
    assert found == np.float32(1e25) if norm == math.inf else math.isclose(found, 1, rel_tol=1e-6)


def test_a_gradient_of_two_parameters_is_scaled_once():
    params = parameters([3.0, 4.0], [0.0, 0.0])
    params[1].grad = params[0].grad
    clip_grad_norm(params, math.sqrt(0.5))
    assert np.allclose(params[0].grad.numpy(), [0.3, 0.4], rtol=1e-6)


def test_others_that_look_at_a_gradient_keep_their_values():
    params = parameters([3.0, 4.0])
    view = params[0].grad.reshape(1, 2)
    clip_grad_norm(params, 1.0)
    assert view.tolist() == [[3.0, 4.0]]


def test_a_recorded_gradient_is_replaced():
    w = Parameter(np.array([3.0, 4.0], np.float32))
    (w * w).sum().backward(create_graph=True)
    recorded = w.grad
    clip_grad_norm([w], 1.0)
    assert np.allclose(w.grad.numpy(), [0.6, 0.8], rtol=1e-6)
    w.grad = None
    (recorded * recorded).sum().backward()
    assert np.allclose(w.grad.numpy(), [24.0, 32.0])


def test_parameters_from_a_generator():
    params = parameters([3.0, 4.0])
    assert clip_grad_norm(iter(params), 1.0).item() == 5.0
    assert math.isclose(norm_of(params), 1.0, rel_tol=1e-5)


def test_gradients_of_two_dtypes():
    params = parameters([3.0])
    params.append(Parameter(hx.tensor([0.0], dtype="float64")))
    params[1].grad = hx.tensor([4.0], dtype="float64")
    assert clip_grad_norm(params, 2.5).item() == 5.0
    assert [str(p.grad.dtype) for p in params] == ["float32", "float64"]
    assert np.allclose([p.grad.item() for p in params], [1.5, 2.0])


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_without_meaning(bound):
    with pytest.raises(ValueRangeError, match=rf"clip_grad_norm: max_norm={bound} must be above 0"):
        clip_grad_norm(parameters([1.0]), bound)


# Other norms, and single elements


@pytest.mark.parametrize(("order", "norm"), [(1, 7.0), (2, 5.0), (math.inf, 4.0)])
def test_norms(order, norm):
    params = parameters([[3.0, 0.0]], -4.0, None, [])
    assert clip_grad_norm(params, 100.0, order=order).item() == norm
    assert clip_grad_norm(params, norm / 2, order=order).item() == norm
    assert gradients(params) == [[[1.5, 0.0]], -2.0, None, []]


@pytest.mark.parametrize("order", [1, 2, math.inf])
def test_norms_that_are_not_finite_or_empty(order):
    for value in (math.inf, math.nan):
        params = parameters([value, 2.0])
        assert not math.isfinite(clip_grad_norm(params, 1.0, order=order).item())
        assert params[0].grad.tolist()[1] == 2.0
    assert clip_grad_norm(parameters(None), 1.0, order=order).item() == 0.0
    assert clip_grad_norm(parameters([]), 1.0, order=order).item() == 0.0


def test_unknown_norms_say_so():
    with pytest.raises(ValueRangeError, match="order=3 must be 1, 2 or inf"):
        clip_grad_norm([], 1.0, order=3)


def test_values_are_clipped_one_by_one():
    params = parameters([[3.0, -0.5]], -4.0, None, [math.nan, math.inf])
    grad = params[0].grad
    clip_grad_value(params, 1.5)
    assert params[0].grad is grad
    assert gradients(params)[:3] == [[[1.5, -0.5]], -1.5, None]
    assert np.array_equal(params[3].grad.numpy(), [math.nan, 1.5], equal_nan=True)
    with pytest.raises(ValueRangeError, match="max_value=0 must be above 0"):
        clip_grad_value(params, 0)


def test_recorded_gradients_are_replaced_when_values_are_clipped():
    w = Parameter(np.array([2.0, 0.1], np.float32))
    (w * w).sum().backward(create_graph=True)
    before = w.grad
    clip_grad_value([w], 1.0)
    assert before.tolist() == pytest.approx([4.0, 0.2])
    assert w.grad.tolist() == pytest.approx([1.0, 0.2])
