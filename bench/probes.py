"""What can this machine do right now, in NumPy? Every other figure is read against these."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

from bench.turns import Figure

SIZE = 1024


def run(*, quick: bool = False) -> list[Figure]:
    """Add 16 MiB to 16 MiB, and multiply matrices."""
    x = np.ones(1 << 22, np.float32)
    w = np.ones((SIZE, SIZE), np.float32)
    repeats = 5 if quick else 25
    add = _median(lambda: x + x, repeats)
    product = _median(lambda: w @ w, repeats)
    return [
        Figure("NumPy a + b, 16 MiB", add * 1e3),
        Figure(f"NumPy sgemm, {SIZE}^3", 2 * SIZE**3 / product / 1e9, unit="GFLOP/s"),
    ]


def _median(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])
