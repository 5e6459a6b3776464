"""What does the engine add to an op on eight numbers?"""

from __future__ import annotations

import statistics
import timeit
from collections.abc import Callable

import numpy as np

import helixml as hx


def run(*, quick: bool = False) -> dict[str, float]:
    """Return microseconds of ``np.add`` and ratios of recorded and unrecorded ops to it.

    Rounds are interleaved; each takes the best of a few short loops, which sees past other
    processes, and the medians of the rounds' ratios are reported.
    """
    x, y = np.ones(8, np.float32), np.ones(8, np.float32)
    a, b = hx.tensor(x, requires_grad=True), hx.tensor(y, requires_grad=True)
    add = np.add

    def unrecorded() -> object:
        with hx.no_grad():
            return [a + b for _ in range(100)]

    base, recorded, plain, product, loose = [], [], [], [], []
    for _ in range(3 if quick else 9):
        floor = _best(lambda: None)
        base.append(_best(lambda: add(x, y)) - floor)
        recorded.append((_best(lambda: a + b) - floor) / base[-1])
        product.append((_best(lambda: a * b) - floor) / base[-1])
        plain.append((_best(unrecorded, 20) / 100) / base[-1])
        loose.append((_best(lambda: a * 2.0) - floor) / base[-1])
    return {
        "np.add, microseconds": statistics.median(base),
        "recorded a + b / np.add": statistics.median(recorded),
        "recorded a * b / np.add": statistics.median(product),
        "recorded a * 2.0 / np.add": statistics.median(loose),
        "a + b under no_grad / np.add": statistics.median(plain),
    }


def _best(call: Callable[[], object], number: int = 1000) -> float:
    return min(timeit.repeat(call, number=number, repeat=50)) / number * 1e6
