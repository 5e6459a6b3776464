"""What does the engine add to an op on eight numbers?"""

from __future__ import annotations

import timeit
from collections.abc import Callable

import numpy as np

import helixml as hx
from bench.turns import Figure


def run(*, quick: bool = False) -> list[Figure]:
    """Compare recorded and unrecorded ops with ``np.add``.

    Rounds are interleaved; each takes the best of a few short loops, which sees past other
    processes.
    """
    x, y = np.ones(8, np.float32), np.ones(8, np.float32)
    a, b = hx.tensor(x, requires_grad=True), hx.tensor(y, requires_grad=True)
    add = np.add

    def unrecorded() -> object:
        with hx.no_grad():
            return [a + b for _ in range(100)]

    base: list[float] = []
    ours: dict[str, list[float]] = {}
    for _ in range(3 if quick else 9):
        floor = _best(lambda: None)
        base.append(_best(lambda: add(x, y)) - floor)
        for what, microseconds in (
            ("a + b of 8 numbers, recorded", _best(lambda: a + b) - floor),
            ("a * b of 8 numbers, recorded", _best(lambda: a * b) - floor),
            ("a * 2.0 of 8 numbers, recorded", _best(lambda: a * 2.0) - floor),
            ("a + b of 8 numbers, under no_grad", _best(unrecorded, 20) / 100),
        ):
            ours.setdefault(what, []).append(microseconds)
    return [
        Figure.of_rounds(what, "np.add", times, base, unit="us") for what, times in ours.items()
    ]


def _best(call: Callable[[], object], number: int = 1000) -> float:
    return min(timeit.repeat(call, number=number, repeat=50)) / number * 1e6
