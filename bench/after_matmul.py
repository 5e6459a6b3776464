"""Does a kernel that follows a matrix product wait for the product's threads?"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import helixml as hx
from bench.turns import QUICK_ROUNDS, ROUNDS, Figure


def run(*, quick: bool = False) -> list[Figure]:
    """Time a product, an rms_norm of its size, and one after the other, by turns."""
    size, repeats = (128, 20) if quick else (512, 100)
    rng = np.random.default_rng(0)
    x, w = (hx.tensor(rng.standard_normal((size, size), np.float32)) for _ in range(2))
    weight = hx.ones((size,))
    pair, alone = [], []
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        pair.append(_median(lambda: hx.rms_norm(x @ w, weight), repeats))
        product = _median(lambda: x @ w, repeats)
        alone.append(product + _median(lambda: hx.rms_norm(x, weight), repeats))
    what = f"matmul {size}^3, then rms_norm"
    return [Figure.of_rounds(what, "both alone", pair, alone)]


def _median(call: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times[3:]) * 1e3
