"""Windows of any size, step and dilation: adjoints, and convolutions against SciPy's."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage, signal

import helixml as hx

few = st.integers(1, 3)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def inner(x, y):
    return float((x.numpy() * y.numpy()).sum())


@settings(max_examples=80, deadline=None)
@given(few, st.integers(1, 4), few, few, st.integers(0, 3), st.integers(0, 2), st.integers(0, 99))
def test_fold_is_the_adjoint_of_unfold(count, size, step, dilation, more, axis, seed):
    length = (count - 1) * step + dilation * (size - 1) + 1 + min(more, step - 1)
    shape = [2, 3]
    shape.insert(axis, length)
    x = hx.tensor(normal(seed, *shape))
    windows = hx.unfold(x, size, step, axis, dilation)
    assert windows.shape == (*shape[:axis], count, *shape[axis + 1 :], size)
    y = hx.tensor(normal(seed + 1, *windows.shape))
    back = hx.fold(y, length, step, axis, dilation)
    np.testing.assert_allclose(inner(windows, y), inner(x, back), atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(few, few, few, few, st.integers(0, 2), st.integers(0, 2), few, st.integers(0, 99))
def test_a_transposed_convolution_is_the_adjoint(k, step, dilation, n, border, more, groups, seed):
    settings = {"stride": step, "padding": border, "dilation": dilation, "groups": groups}
    span = dilation * (k - 1) + 1
    sizes = [(n - 1) * step + span - 2 * border + min(more, step - 1), span + 2]
    if sizes[0] < 1:
        return
    x = hx.tensor(normal(seed, 2, 2 * groups, *sizes))
    weight = hx.tensor(normal(seed + 1, 3 * groups, 2, k, k))
    y = hx.conv2d(x, weight, **settings)
    g = hx.tensor(normal(seed + 2, *y.shape))
    extra = [
        size + 2 * border - span - (out - 1) * step
        for size, out in zip(sizes, y.shape[2:], strict=True)
    ]
    back = hx.conv_transpose2d(g, weight, **settings, output_padding=extra)
    assert back.shape == x.shape
    np.testing.assert_allclose(inner(y, g), inner(x, back), atol=1e-10)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.integers(0, 3), st.integers(0, 3), few)
def test_a_convolution_is_scipys_correlation(height, width, more, further, channels):
    x = normal(0, 1, channels, height + more, width + further)
    weight = normal(1, 1, channels, height, width)
    wanted = sum(signal.correlate(a, b, "valid") for a, b in zip(x[0], weight[0], strict=True))
    found = hx.conv2d(hx.tensor(x), hx.tensor(weight)).numpy()[0, 0]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.sampled_from([1, 3, 5]), st.integers(5, 8), st.integers(0, 99))
def test_pools_with_step_one_are_scipys_filters(size, n, seed):
    x = normal(seed, n, n + 1)
    edge = size // 2
    largest = hx.max_pool2d(hx.tensor(x), size, stride=1, padding=edge).numpy()
    wanted = ndimage.maximum_filter(x, size, mode="constant", cval=-np.inf)
    np.testing.assert_array_equal(largest, wanted)
    mean = hx.avg_pool2d(hx.tensor(x), size, stride=1, padding=edge).numpy()
    wanted = ndimage.uniform_filter(x, size, mode="constant")
    np.testing.assert_allclose(mean, wanted, atol=1e-12)
