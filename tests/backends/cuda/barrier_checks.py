"""Launches of every kernel with barriers, small, with loops that go round twice.

Run by test_barriers.py under sanitizers, and without each barrier in turn; each check is a function
of its own, and asserts its result against NumPy's.
"""

import numpy as np

from helixml.backends.cuda.backend import CudaBackend
from helixml.backends.cuda.kernels.summing import Sums
from helixml.backends.cuda.launch import Program
from helixml.device import Device
from helixml.dtypes import float32
from helixml.testing import cuemu

ROWS, COLUMNS = 10, 520  # more rows than blocks walk at once; a block of more than one warp a row


def made(*shape, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, shape).astype(np.float32)


def same(found, goal):
    np.testing.assert_allclose(found.get(), goal, rtol=2e-4, atol=2e-4)


def backend():
    return CudaBackend(cuemu.cupy(), Device("cuda"))


def check_softmax():
    b, x = backend(), made(3, COLUMNS)
    (y,), _ = b.kernels["softmax"].function(b.asarray(x))
    e = np.exp(x)
    same(y, e / e.sum(-1, keepdims=True))


def check_norm_and_its_gradient():
    b, x, g, w = backend(), made(ROWS, COLUMNS), made(ROWS, COLUMNS, seed=1), made(COLUMNS, seed=2)
    inputs = b.asarray(x), b.asarray(w), None
    (y,), kept = b.kernels["rms_norm"].function(*inputs)
    scale = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
    same(y, x * scale * w)
    pull = b.kernels["rms_norm_vjp"].function
    _, dw, _ = pull((b.asarray(g),), (True, True, False), inputs, kept)
    same(dw, (g * x * scale).sum(0))


def check_cross_entropy():
    b, x, target = backend(), made(3, COLUMNS), np.array([1, 400, 7])
    options = {"label_smoothing": 0.1, "ignore_index": 7}
    (loss,), _ = b.kernels["cross_entropy"].function(b.asarray(x), b.asarray(target), **options)
    logp = x - np.log(np.exp(x).sum(-1, keepdims=True))
    losses = -0.9 * logp[[0, 1], [1, 400]] - 0.1 * logp[:2].mean(-1)
    same(loss, losses.mean())


def check_sums():
    b = backend()
    sums, x = Sums(b._cp), made(300, 40)
    same(sums.sum(b.asarray(x), axis=(0,), keepdims=False), x.sum(0))
    x = made(2, 9_000)
    same(sums.sum(b.asarray(x), axis=(1,), keepdims=False), x.sum(1))


def check_column_sums():
    b, x = backend(), made(70, 40)
    y = b.zeros((40,), dtype=float32)
    arguments = [b.asarray(x), y, *x.shape]
    Program(b._cp, "column_sums.cu").launch(
        "column_sums", arguments, dtype=float32, grid=2, block=1024
    )
    same(y, x.sum(0))


def check_norm_of_many():
    b, xs = backend(), [made(40_000), made(3)]
    (norm,), _ = b.kernels["norm_many"].function([b.asarray(x) for x in xs])
    same(norm, np.sqrt(sum((x.astype(np.float64) ** 2).sum() for x in xs)))


def check_scattering():
    b, x, at = backend(), made(70, 40), np.arange(70) % 7 // 2
    goal = np.zeros((5, 40))
    np.add.at(goal, at, x)
    same(b.scatter_add(b.asarray(x), b.asarray(at), axis=0, size=5), goal)
