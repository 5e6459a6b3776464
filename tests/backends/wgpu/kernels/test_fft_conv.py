"""The long convolution against loops over filters in float64."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.fft_conv import FFTConv

from .conftest import close, put, random, strided, wide


def goals(u, k, bias, gate, g):
    """Return y and the gradients of u, k, bias and gate."""
    (_, d, l), m = u.shape, k.shape[-1]
    filters = np.broadcast_to(k.reshape(k.shape[-2:]), (d, m))
    p = np.zeros_like(u) if bias is None else bias[:, None] * u
    gp = g if gate is None else g * gate
    gu = np.zeros_like(u) if bias is None else bias[:, None] * gp
    gk = np.zeros((d, m))
    for j in range(min(l, m)):
        p[:, :, j:] += filters[:, j, None] * u[:, :, : l - j]
        gu[:, :, : l - j] += filters[:, j, None] * gp[:, :, j:]
        gk[:, j] = (gp[:, :, j:] * u[:, :, : l - j]).sum((0, 2))
    if k.shape[-2] < d:
        gk = gk.sum(0, keepdims=True)
    y = p if gate is None else p * gate
    return y, gu, gk.reshape(k.shape), (gp * u).sum((0, 2)), g * p


@pytest.mark.parametrize(
    "sizes", [(1, 1, 1, (1, 1)), (3, 4, 37, (4, 37)), (2, 3, 20, (1, 3, 50)), (2, 5, 33, (1, 7))]
)
@pytest.mark.parametrize("with_all", [False, True])
@pytest.mark.parametrize("lay", ["dense", "strided"])
def test_convolution_and_its_gradients(runtime, threads, sizes, with_all, lay):
    b, d, l, filters = sizes
    u, k, g = random((b, d, l), 1), random(filters, 2), random((b, d, l), 3)
    bias = random((d,), 4) if with_all else None
    gate = random((b, d, l), 5) if with_all else None
    place = strided if lay == "strided" else lambda runtime, host: put(runtime, host)[0]
    inputs = [None if x is None else place(runtime, x) for x in (u, k, bias, gate)]
    conv = FFTConv(runtime, threads)
    (y,), residuals = conv.forward(*inputs)
    needs = [x is not None for x in inputs]
    found = conv.backward([place(runtime, g)], needs, inputs, residuals)
    assert [x is not None for x in found] == needs
    expected = goals(*wide(u, k, bias, gate, g))
    close(runtime, y, expected[0], l)
    for gradient, goal, need in zip(found, expected[1:], needs, strict=True):
        if need:
            close(runtime, gradient, goal, b * l)


def test_only_what_is_needed(runtime):
    u, k, gate, g = put(runtime, *(random(s, 1) for s in [(1, 2, 9), (2, 9), (1, 2, 9), (1, 2, 9)]))
    for position in range(4):
        needs = [n == position for n in range(4)]
        found = FFTConv(runtime).backward([g], needs, [u, k, None, gate], ())
        assert [x is not None for x in found] == [n and position != 2 for n in needs]


def test_long_sequences(runtime):
    u, k = random((1, 1, 3000), 1), random((1, 3000), 2) / 50
    (y,), _ = FFTConv(runtime).forward(*put(runtime, u, k))
    close(runtime, y, np.convolve(*wide(u[0, 0], k[0]))[None, None, :3000], 3000)
