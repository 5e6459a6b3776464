"""Calibration, the error that it promises, and training with it."""

import numpy as np
import pytest

import helixml as hx
from helixml import nn, optim, quantization
from helixml.errors import DTypeError, ShapeError, ValueRangeError

METHODS = [quantization.min_max, quantization.percentile, quantization.least_squares]


def skewed(*shape, seed=0):
    """Return values on both sides of 0, many small and few large."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=shape) ** 3 + 0.3).astype(np.float32)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_the_round_trip_error_is_at_most_half_a_step(axis, symmetric, dtype):
    x = skewed(5, 40)
    scale, zero_point = quantization.min_max(x, axis=axis, symmetric=symmetric, dtype=dtype)
    q = hx.quantize(x, scale, zero_point, axis=axis, dtype=dtype)
    y = hx.dequantize(q, scale, zero_point, axis=axis)
    step = scale.numpy() if axis is None else np.expand_dims(scale.numpy(), 1 - axis)
    # beside half a step, what is rounded in forming the quotient and the product
    assert (np.abs(y.numpy() - x) <= 0.5 * step + 4e-7 * np.abs(x).max()).all()
    assert q.dtype == hx.dtypes.parse(dtype)
    zero = hx.dequantize(
        hx.quantize(np.zeros((5, 40), np.float32), scale, zero_point, axis=axis, dtype=dtype),
        scale,
        zero_point,
        axis=axis,
    )
    assert (zero.numpy() == 0).all()


@pytest.mark.parametrize("symmetric", [False, True])
def test_percentiles_cut_outliers_and_all_of_them_is_the_range(symmetric):
    x = np.append(np.linspace(-1, 1, 999), 1000.0).astype(np.float32)
    whole = quantization.percentile(x, 100, symmetric=symmetric)
    np.testing.assert_array_equal(
        whole[0].numpy(), quantization.min_max(x, symmetric=symmetric)[0].numpy()
    )
    cut = quantization.percentile(x, 99.0, symmetric=symmetric)
    assert cut[0].item() < 0.01 < whole[0].item()
    expected = np.percentile(x.astype(np.float64), [1, 99])
    span = 2 * np.abs(expected).max() / 254 if symmetric else (expected[1] - expected[0]) / 255
    np.testing.assert_allclose(cut[0].numpy(), span, rtol=1e-5)


def error_of(x, pair, axis=None):
    y = hx.fake_quantize(x, *pair, axis=axis).numpy()
    return ((y - x).astype(np.float64) ** 2).sum()


@pytest.mark.parametrize("axis", [None, 0])
def test_least_squares_is_no_worse_than_the_range(axis):
    x = skewed(4, 500)
    best = error_of(x, quantization.least_squares(x, axis=axis), axis)
    assert best <= error_of(x, quantization.min_max(x, axis=axis), axis)


@pytest.mark.parametrize("method", METHODS)
def test_zeros_and_sides_of_zero(method):
    for values in (np.zeros(3), [1.0, 2.0], [-3.0, -2.0]):
        x = np.array(values, np.float32)
        scale, zero_point = method(x)
        assert error_of(x, (scale, zero_point)) <= x.size * (scale.item() / 2) ** 2 + 1e-12


@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_calibrated(method):
    with pytest.raises(ShapeError, match=r"no values in shape \(0,\)"):
        method(np.zeros(0))
    with pytest.raises(ValueRangeError, match="has inf or nan"):
        method(np.array([1.0, np.nan]))
    with pytest.raises(DTypeError, match="must be a float, not int64"):
        method(np.array([1, 2]))


def test_options_out_of_range():
    with pytest.raises(ValueRangeError, match="share=50"):
        quantization.percentile(np.ones(2), 50)
    with pytest.raises(ValueRangeError, match="steps=0"):
        quantization.least_squares(np.ones(2), steps=0)
    with pytest.raises(ValueRangeError, match="momentum=0"):
        quantization.FakeQuantize(0)


def test_the_gradient_passes_through_and_stops_at_the_bounds():
    x = hx.tensor([-100.0, -64.2, -64.3, 0.3, 63.7, 63.8, 100.0], requires_grad=True)
    hx.fake_quantize(x, 0.5).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1, 0, 1, 1, 0, 0])


def test_the_gradient_of_the_scale_is_that_of_a_learned_step():
    x = np.array([0.6, -1.3, 90.0, -90.0], np.float32)
    scale = hx.tensor(0.5, requires_grad=True)
    (hx.fake_quantize(x, scale) * hx.tensor([1.0, 2.0, 3.0, 5.0])).sum().backward()
    u = x[:2].astype(np.float64) / 0.5
    inside = np.rint(u) - u
    expected = inside[0] + 2 * inside[1] + 3 * 127 - 5 * 128
    np.testing.assert_allclose(scale.grad.item(), expected, rtol=1e-6)


def task(seed, count=400):
    """Return points of two classes: inside and outside of a circle."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (count, 2)).astype(np.float32)
    return x, ((x**2).sum(axis=1) > 0.6).astype(np.int64)


def fitted(model, steps):
    """Train on the task."""
    x, y = task(0)
    optimizer = optim.AdamW(model.parameters(), lr=0.02, weight_decay=0.0)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        hx.cross_entropy(model(hx.asarray(x)), y).backward()
        optimizer.step()
    return model.eval()


def accuracy(model):
    """Return the share of right answers on fresh points."""
    x, y = task(1)
    return float((hx.argmax(model(hx.asarray(x)), axis=-1).numpy() == y).mean())


def test_training_with_quantisation_keeps_the_accuracy_of_a_small_network():
    rng = hx.random.Rng(0)
    model = nn.Sequential(nn.Linear(2, 24, rng=rng), hx.relu, nn.Linear(24, 2, rng=rng))
    plain = accuracy(fitted(model, 150))
    parameters = list(model.parameters())
    aware = quantization.quantize_aware(model)
    assert [id(p) for p in aware.parameters()] == [id(p) for p in parameters]
    trained = accuracy(fitted(aware, 30))
    assert plain > 0.93
    assert trained > plain - 0.03
    x = hx.asarray(task(1)[0])
    before = aware(x).numpy()
    stored = quantization.convert(aware)
    np.testing.assert_allclose(stored(x).numpy(), before, rtol=1e-5, atol=1e-5)
    assert [p for p in stored.named_parameters()] == []
    kept = dict(stored.named_buffers())["0.weight"]
    assert (kept.dtype, kept.nbytes) == (hx.int8, 48)


def test_a_shared_layer_stays_shared():
    layer = nn.Linear(2, 2, rng=hx.random.Rng(0))
    model = quantization.quantize_aware(nn.Sequential(layer, layer))
    assert model[0] is model[1]
    assert isinstance(model[0], quantization.AwareLinear)
    alone = quantization.quantize_aware(layer)
    assert isinstance(alone, quantization.AwareLinear)


def test_evaluation_leaves_the_range_as_it_is():
    layer = quantization.FakeQuantize()
    x = hx.tensor([-1.0, 3.0])
    np.testing.assert_array_equal(layer.eval()(x).numpy(), x.numpy())
    layer.train()(x)
    low, high = layer.low.item(), layer.high.item()
    layer.eval()(x * 10)
    assert (layer.low.item(), layer.high.item()) == (low, high) == (-1.0, 3.0)
    layer.train()(x * 2)
    np.testing.assert_allclose([layer.low.item(), layer.high.item()], [-1.1, 3.3], rtol=1e-6)
