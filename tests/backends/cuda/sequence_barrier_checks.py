"""Launches of the kernels for sequences that have barriers, small, with loops that go round twice.

Run by test_sequence_barriers.py under sanitizers; each check is a function of its own.
"""

import numpy as np

from helixml.backends.cuda.kernels import linear_scan, selective_scan
from helixml.backends.cuda.kernels.attention import Attention
from helixml.backends.cuda.kernels.causal_conv1d import CausalConv1d
from helixml.backends.cuda.kernels.fft_conv import FFTConv
from helixml.testing import cuemu


def made(cp, *shape, seed=0):
    return cp.asarray(np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32))


def finite(*found):
    assert all(np.isfinite(x.get()).all() for x in found if x is not None)


def check_selective_scan():
    selective_scan._FEWEST_TILES = 2
    cp = cuemu.cupy()
    scan = selective_scan.SelectiveScan(cp)
    sequences = [made(cp, 1, 5, 70, seed=i) for i in range(4)]
    u, delta, z, g = (x.transpose(0, 2, 1).copy().transpose(0, 2, 1) for x in sequences)
    A, B = -abs(made(cp, 5, 8)), made(cp, 1, 8, 70)
    inputs = [u, delta, A, B, B, made(cp, 5), z, made(cp, 5), made(cp, 1, 5, 8)]
    outputs, residuals = scan.forward(*inputs, delta_softplus=True, recorded=True)
    finite(*outputs)
    finite(*scan.backward((g,), [True] * 9, inputs, residuals, delta_softplus=True))


def check_causal_conv1d():
    cp = cuemu.cupy()
    inputs = [made(cp, 1, 2, 300), made(cp, 2, 4), made(cp, 2), made(cp, 1, 2, 3)]
    conv = CausalConv1d(cp)
    finite(*conv.backward((inputs[0],), [True] * 4, inputs, (), activation="silu"))


def check_linear_scan():
    cp = cuemu.cupy()
    linear_scan._FEWEST_STEPS = {True: 600, False: 64}
    x = made(cp, 2, 1300)
    finite(linear_scan.LinearScan(cp)(x, x, None, reverse=True))


def check_attention():
    cp = cuemu.cupy()
    q, k, v = made(cp, 1, 2, 20, 5), made(cp, 1, 1, 70, 5), made(cp, 1, 1, 70, 4)
    attention = Attention(cp)
    (y,), residuals = attention.forward(q, k, v, causal=True, offset=50)
    inputs, needs = [q, k, v, None, None], [True] * 3 + [False] * 2
    found = attention.backward((y,), needs, inputs, residuals, causal=True, offset=50)
    finite(y, *found)


def check_fft_conv():
    cp = cuemu.cupy()
    u = made(cp, 3, 2, 300)
    inputs = [u, made(cp, 2, 200), made(cp, 2), u]
    finite(*FFTConv(cp).backward((u,), [True] * 4, inputs, ()))
