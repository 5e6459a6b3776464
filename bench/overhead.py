"""Recorded ops on 8 x 8 numbers, and the step of a small network: how fast beside PyTorch?

There is next to nothing to compute: what is measured is what a call costs.
"""

from __future__ import annotations

import numpy as np

from bench.turns import Case, normal

PEER = "PyTorch"
CALLS = 1000  # a round's call is a loop of these, so that milliseconds read as microseconds
STEPS_BEFORE = 3  # of a captured step: then it is replayed
UNARY = ("exp", "tanh", "sqrt", "softmax", "sum", "mean", "cast", "reshape", "permute_dims")
INDEXED = ("getitem", "take", "broadcast_to")
BINARY = ("add", "mul", "div", "matmul", "maximum", "concat", "stack", "where")


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; quick ones are those of one operand."""
    names = UNARY if quick else UNARY + INDEXED + BINARY
    operands = {name: 2 if name in BINARY else 1 for name in names}
    found = [
        Case(f"{name} of 8 x 8, recorded, {CALLS} calls", name, _positive((8, 8), count))
        for name, count in operands.items()
    ]
    sizes = ((32, 64), (64, 64), (64,), (10, 64), (10,))
    what = "MLP 64-64-10, batch 32: a step of training"
    steps = [Case(what, "mlp", normal(*sizes))]
    steps.append(Case(f"{what}, captured", "mlp_captured", normal(*sizes)))
    return [*found, *steps]


def _positive(shape: tuple[int, ...], count: int):
    return lambda rng: [rng.random(shape, np.float32) + 0.5 for _ in range(count)]
