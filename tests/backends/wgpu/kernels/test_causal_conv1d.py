"""The causal convolution against loops over taps in float64."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.causal_conv1d import CausalConv1d

from .conftest import close, put, random, strided, wide


def goals(x, weight, bias, past, g, silu):
    """Return y and the gradients of x, weight, bias and past."""
    (b, d, l), k = x.shape, weight.shape[1]
    whole = np.concatenate([np.zeros((b, d, k - 1)) if past is None else past, x], axis=2)
    p = np.zeros(x.shape) if bias is None else np.broadcast_to(bias[:, None], x.shape).copy()
    for j in range(k):
        p += weight[:, j, None] * whole[:, :, j : j + l]
    s = 1 / (1 + np.exp(-p))
    gp = g * (s * (1 + p * (1 - s)) if silu else 1)
    gwhole, gweight = np.zeros_like(whole), np.zeros_like(weight)
    for j in range(k):
        gwhole[:, :, j : j + l] += weight[:, j, None] * gp
        gweight[:, j] = (gp * whole[:, :, j : j + l]).sum((0, 2))
    return (
        p * s if silu else p,
        gwhole[:, :, k - 1 :],
        gweight,
        gp.sum((0, 2)),
        gwhole[:, :, : k - 1],
    )


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 37), (1, 5, 2), (2, 40, 65)])
@pytest.mark.parametrize("taps", [1, 4])
@pytest.mark.parametrize("activation", [None, "silu"])
@pytest.mark.parametrize("lay", ["dense", "strided"])
def test_convolution_and_its_gradients(runtime, threads, shape, taps, activation, lay):
    b, d, l = shape
    whole = lay == "dense"
    x, weight, g = random(shape, 1), random((d, taps), 2), random(shape, 3)
    bias = random((d,), 4) if whole else None
    past = random((b, d, taps - 1), 5) if whole else None
    conv = CausalConv1d(runtime, threads)
    place = strided if lay == "strided" else lambda runtime, host: put(runtime, host)[0]
    inputs = [place(runtime, x), *put(runtime, weight, bias, past)]
    (y,), residuals = conv.forward(*inputs, activation=activation)
    needs = [array is not None for array in inputs]
    found = conv.backward([place(runtime, g)], needs, inputs, residuals, activation=activation)
    expected = goals(*wide(x, weight, bias, past, g), activation == "silu")
    close(runtime, y, expected[0], taps)
    for gradient, goal, need in zip(found, expected[1:], needs, strict=True):
        assert (gradient is not None) == need
        if need:
            close(runtime, gradient, goal, b * l)


def test_only_what_is_needed(runtime):
    inputs = put(runtime, random((1, 2, 5), 1), random((2, 3), 2), random((2,), 3), None)
    (g,) = put(runtime, random((1, 2, 5), 4))
    found = CausalConv1d(runtime).backward([g], [False, True, False, False], inputs, ())
    assert [gradient is not None for gradient in found] == [False, True, False, False]
