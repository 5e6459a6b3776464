"""Does a training step in its steady state still take memory from the system?"""

from __future__ import annotations

import resource
import statistics

import numpy as np

from bench.ours.transformer import training_step
from bench.turns import Figure

WARM_UP = 5


def run(*, quick: bool = False) -> list[Figure]:
    """Count the minor page faults of training steps after the first few."""
    sizes, steps = (((1, 128),), 5) if quick else (((4, 512), (2, 2048)), 15)
    found = []
    for batch, length in sizes:
        step, _ = training_step(np.random.default_rng(0).integers(256, size=(batch, length + 1)))
        counts = []
        for _ in range(WARM_UP + steps):
            before = _faults()
            step()
            counts.append(_faults() - before)
        steady = counts[WARM_UP:]
        what = f"training step, {batch} x {length} bytes"
        found += [
            Figure(f"{what}, median", statistics.median(steady), unit="page faults"),
            Figure(f"{what}, worst", max(steady), unit="page faults"),
        ]
    return found


def _faults() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
