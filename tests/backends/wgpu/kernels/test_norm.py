"""Normalisation of rows against NumPy in float64, gradients by the formula of each."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.norm import Norm

from .conftest import close, put, random, strided, wide


def goals(x, weight, bias, residual, g, g_total, eps, centred):
    """Return y and s, and the gradients of s, weight and bias, from the Jacobian of each row."""
    s = x if residual is None else x + residual
    d = s.shape[-1]
    ds = np.zeros_like(s) if g_total is None else g_total.copy()
    normal = np.zeros_like(s)
    for row in np.ndindex(s.shape[:-1]):
        c = s[row] - s[row].mean() * centred
        scale = 1 / np.sqrt((c * c).mean() + eps)
        normal[row] = c * scale
        jacobian = np.eye(d) * scale - np.outer(c, c) * scale**3 / d
        if centred:
            jacobian = (np.eye(d) - 1 / d) @ jacobian
        ds[row] += jacobian @ (g[row] * weight)
    axes = tuple(range(s.ndim - 1))
    y = normal * weight + (0 if bias is None else bias)
    return y, s, ds, (g * normal).sum(axes), g.sum(axes)


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (70, 33), (2, 3, 300)])
@pytest.mark.parametrize("with_residual", [False, True])
def test_rms_norm_and_its_gradient(runtime, threads, shape, with_residual):
    x, g, g_total = random(shape, 1), random(shape, 2), random(shape, 3)
    weight = random(shape[-1:], 4)
    residual = random(shape, 5) if with_residual else None
    norm = Norm(runtime, threads)
    inputs = put(runtime, x, weight, residual)
    outputs, residuals = norm.rms_norm(*inputs, eps=1e-3)
    pulls = put(runtime, g, g_total)[: len(outputs)]
    found = norm.rms_norm_vjp(pulls, [True] * 3, inputs, residuals, eps=1e-3)
    pulled = g_total if with_residual else None
    y, s, ds, dweight, _ = goals(*wide(x, weight, None, residual, g, pulled), 1e-3, False)
    terms = max(shape)
    close(runtime, outputs[0], y, terms)
    close(runtime, found[0], ds, terms)
    close(runtime, found[1], dweight, terms)
    assert len(outputs) == 1 + with_residual
    if with_residual:
        close(runtime, outputs[1], s)
        close(runtime, found[2], ds, terms)
    else:
        assert found[2] is None


@pytest.mark.parametrize("shape", [(1, 2), (3, 8), (70, 33)])
@pytest.mark.parametrize("with_all", [False, True])
def test_layer_norm_and_its_gradient(runtime, threads, shape, with_all):
    x, g, g_total = random(shape, 1), random(shape, 2), random(shape, 3)
    weight, bias = random(shape[-1:], 4), random(shape[-1:], 6) if with_all else None
    residual = random(shape, 5) if with_all else None
    norm = Norm(runtime, threads)
    inputs = put(runtime, x, weight, bias, residual)
    outputs, residuals = norm.layer_norm(*inputs, eps=1e-3)
    pulls = put(runtime, g, g_total)[: len(outputs)]
    found = norm.layer_norm_vjp(pulls, [True] * 4, inputs, residuals, eps=1e-3)
    pulled = g_total if with_all else None
    y, s, ds, dweight, dbias = goals(*wide(x, weight, bias, residual, g, pulled), 1e-3, True)
    close(runtime, outputs[0], y, max(shape))
    close(runtime, found[0], ds, max(shape))
    close(runtime, found[1], dweight, max(shape))
    if with_all:
        close(runtime, outputs[1], s)
        close(runtime, found[2], dbias, max(shape))
        close(runtime, found[3], ds, max(shape))
    else:
        assert found[2] is None and found[3] is None


def test_views_and_a_cotangent_of_the_sum_alone(runtime):
    x, residual, g_total = random((5, 7), 1), random((5, 7), 2), random((5, 7), 3)
    (weight,) = put(runtime, random((7,), 4))
    norm = Norm(runtime)
    inputs = [strided(runtime, x), weight, strided(runtime, residual)]
    outputs, residuals = norm.rms_norm(*inputs)
    found = norm.rms_norm_vjp((None, strided(runtime, g_total)), [True] * 3, inputs, residuals)
    close(runtime, outputs[1], wide(x)[0] + residual)
    close(runtime, found[0], g_total)
    close(runtime, found[1], np.zeros(7))


def test_no_rows_give_a_gradient_of_zeros(runtime):
    x, weight = put(runtime, random((0, 5)), random((5,)))
    norm = Norm(runtime)
    outputs, residuals = norm.rms_norm(x, weight)
    dx, dweight, _ = norm.rms_norm_vjp(outputs, [True] * 3, [x, weight, None], residuals)
    assert dx.shape == (0, 5)
    close(runtime, dweight, np.zeros(5))
