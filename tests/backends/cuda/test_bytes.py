"""Bytes that kernels move, counted by the emulator, against the fewest that there are.

The fewest are those of each input read once and of each output written once; at most 15 % more are
moved. What some kernels move beside them is said in the table with its formula, and is little on a
GPU, where it does not come from memory: neighbouring threads read the same numbers at once, and
blocks read again what others have just read, from a cache. Left out is a convolution with time
contiguous, which no layer asks for: each of its threads reads all taps' steps, TAPS times as much.
"""

import shutil
from dataclasses import dataclass

import numpy as np
import pytest

import helixml as hx
from helixml.backends import registry
from helixml.backends.cuda.backend import CudaBackend
from helixml.device import Device
from helixml.testing import cuemu

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not shutil.which("g++"), reason="the emulator needs g++"),
]
MOST = 1.15
FLOAT, LONG = 4, 8  # bytes
ROWS, COLUMNS = 256, 512
X = FLOAT * ROWS * COLUMNS
PER_ROW, PER_COLUMN = FLOAT * ROWS, FLOAT * COLUMNS
B, L, D, N, TAPS = 8, 256, 128, 16, 4
SEQUENCE, SELECTED = FLOAT * B * L * D, FLOAT * B * L * N
STATES = SEQUENCE  # before each tile of 16 steps, 16 a channel
A = FLOAT * D * N
CHUNKS = B * L // 32  # that threads of a convolution walk, each for itself
CHANNELS = D // 32  # blocks of channels, each of which reads B and C
TEAMS = 8 * 4  # that sum the gradient of a weight: the stand-in has 4 multiprocessors


@dataclass(frozen=True)
class Call:
    """A call with tensors of shapes.

    Attributes
    ----------
    fewest : bytes of inputs and outputs, by kernel.
    beside : what else is moved, and why.
    """

    function: object
    shapes: tuple
    fewest: dict
    beside: dict = None


def call(function, *shapes, beside=None, **fewest):
    return Call(function, shapes, fewest, beside or {})


def detached(function):
    return lambda *xs: function(*(x.detach() for x in xs))


def adamw(p, g, m, v):
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.0}
    hx.adamw_many_([p], [g], [m], [v], **options, step=1)
    return p


def sgd(p, g, v):
    options = {"lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0}
    hx.sgd_many_([p], [g], [v], **options)
    return p


def classes(x, reduction):
    target = hx.tensor(np.arange(ROWS) % COLUMNS, device=x.device)
    return hx.cross_entropy(x, target, reduction=reduction)


def taken(x):
    return hx.take(x, hx.tensor(np.arange(2 * ROWS) % ROWS, device=x.device), axis=0)


def conv(x, weight, bias):
    return hx.causal_conv1d(x.mT, weight, bias, "silu")


def scan(u, delta, rates, selects, shows, skip, gate):
    return hx.selective_scan(
        u.mT, delta.mT, -hx.abs(rates), selects.mT, shows.mT, skip, gate.mT, None, True
    )


MATRIX = (ROWS, COLUMNS)
LINES = (B, L, D)
CASES = {
    "sigmoid": call(detached(hx.sigmoid), MATRIX, sigmoid=2 * X),
    "silu": call(hx.silu, MATRIX, silu=2 * X, silu_vjp=3 * X),
    "gelu": call(hx.gelu, MATRIX, gelu=2 * X, gelu_vjp=3 * X),
    "softplus": call(hx.softplus, MATRIX, softplus=2 * X, softplus_vjp=3 * X),
    "silu_gate": call(hx.silu_gate, MATRIX, MATRIX, silu_gate=3 * X, silu_gate_vjp=5 * X),
    "gelu_gate": call(hx.gelu_gate, MATRIX, MATRIX, gelu_gate=3 * X, gelu_gate_vjp=5 * X),
    "add": call(detached(hx.add), MATRIX, MATRIX, add=3 * X),
    "softmax": call(hx.softmax, MATRIX, softmax=2 * X, softmax_vjp=3 * X),
    "log_softmax": call(hx.log_softmax, MATRIX, log_softmax=2 * X, log_softmax_vjp=3 * X),
    "rms_norm": call(
        hx.rms_norm,
        *(MATRIX, (COLUMNS,)),
        rms_norm=2 * X + PER_COLUMN + PER_ROW,
        rms_norm_vjp=3 * X + PER_COLUMN + PER_ROW + TEAMS * PER_COLUMN,
        beside={"rms_norm": (X, "the weight, by each row"), "rms_norm_vjp": (X, "the weight")},
    ),
    "layer_norm": call(
        hx.layer_norm,
        *(MATRIX, (COLUMNS,), (COLUMNS,)),
        layer_norm=2 * X + 2 * PER_COLUMN + 2 * PER_ROW,
        layer_norm_vjp=3 * X + PER_COLUMN + 2 * PER_ROW + 2 * TEAMS * PER_COLUMN,
        beside={
            "layer_norm": (2 * X, "weight and bias, by each row"),
            "layer_norm_vjp": (X, "the weight"),
        },
    ),
    "cross_entropy": call(
        lambda x: classes(x, "mean"),
        MATRIX,
        cross_entropy=2 * X + 3 * PER_ROW + LONG * ROWS,
        scale_prepared=2 * X,
    ),
    "cross_entropy of rows": call(
        lambda x: classes(x, "none"),
        MATRIX,
        cross_entropy=X + 3 * PER_ROW + LONG * ROWS,
        cross_entropy_vjp=2 * X + 3 * PER_ROW + LONG * ROWS,
        beside={"cross_entropy_vjp": (32 * 20 * ROWS, "what belongs to a row, by all of a warp")},
    ),
    "adamw": call(detached(adamw), *(MATRIX,) * 4, adamw=7 * X),
    "sgd": call(detached(sgd), *(MATRIX,) * 3, sgd_momentum=5 * X),
    "take": call(detached(taken), MATRIX, take=4 * X + 2 * LONG * ROWS),
    "concat": call(lambda x, y: hx.concat([x, y], axis=1), MATRIX, MATRIX, concat=4 * X),
    "sum over rows": call(detached(lambda x: x.sum(axis=0)), MATRIX, sum_columns=X + PER_COLUMN),
    "sum over columns": call(detached(lambda x: x.sum(axis=1)), MATRIX, sum_rows=X + PER_ROW),
    "causal_conv1d": call(
        conv,
        *(LINES, (D, TAPS), (D,)),
        conv=2 * SEQUENCE + FLOAT * D * (TAPS + 1),
        conv_vjp=3 * SEQUENCE + FLOAT * D * (TAPS + 1) + CHUNKS * FLOAT * D * (TAPS + 1),
        beside={
            "conv": (CHUNKS * FLOAT * D * 2 * TAPS, "steps before a chunk, and its taps"),
            "conv_vjp": (CHUNKS * FLOAT * D * 4 * TAPS, "steps around a chunk, and its taps"),
        },
    ),
    "linear_scan over rows": call(
        detached(hx.linear_scan), *((128, 512),) * 2, scan=FLOAT * 128 * (3 * 512 - 1)
    ),
    "linear_scan over columns": call(
        detached(lambda a, b: hx.linear_scan(a.mT, b.mT)),
        *((1024, 32, 64),) * 2,
        scan=FLOAT * 1024 * 64 * (3 * 32 - 1),
    ),
    "selective_scan": call(
        scan,
        *(LINES, LINES, (D, N), (B, L, N), (B, L, N), (D,), LINES),
        scan=4 * SEQUENCE + 2 * SELECTED + A + STATES,
        scan_vjp=7 * SEQUENCE + 2 * SELECTED + A + STATES + 2 * CHANNELS * SELECTED,
        beside={
            "scan": (2 * CHANNELS * SELECTED, "B and C, by each block of channels"),
            "scan_vjp": (2 * CHANNELS * SELECTED, "B and C, by each block of channels"),
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_kernels_move_few_bytes_more_than_they_must(name):
    given = CASES[name]
    cp = cuemu.cupy()
    registry.register("cuda", lambda: CudaBackend(cp, Device("cuda")))
    try:
        rng = np.random.default_rng(0)

        def made(shape):
            return hx.tensor(rng.uniform(-1, 1, shape).astype(np.float32), device="cuda")

        xs = [made(shape) for shape in given.shapes]
        for x in xs:
            x.requires_grad = True
        with cuemu.counting():
            y = given.function(*xs)
            if y.requires_grad:
                hx.autograd.gradients(y, xs, cotangents=[made(y.shape)])
    finally:
        registry.unregister("cuda")
    counts = cp.cuemu
    for kernel, fewest in given.fewest.items():
        beside, _ = given.beside.get(kernel, (0, ""))
        moved = (counts.bytes_read[kernel] + counts.bytes_written[kernel]) / counts.launches[kernel]
        assert fewest <= moved <= MOST * (fewest + beside), (kernel, moved / fewest)
