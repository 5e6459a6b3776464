"""How many bytes does a recorded op leave behind, and do long chains work?"""

from __future__ import annotations

import time

import helixml as hx
from bench.memory import resident
from bench.turns import Figure


def run(*, quick: bool = False) -> list[Figure]:
    """Build, differentiate and free a chain of 10^6 additions (10^5 if quick)."""
    count = 10**5 if quick else 10**6
    x = hx.tensor(1.0, requires_grad=True)
    before = resident()
    start = time.perf_counter()
    y = x
    for _ in range(count):
        y = y + x
    forward = (time.perf_counter() - start) / count * 1e6
    held = resident() - before
    start = time.perf_counter()
    y.backward()
    backward = (time.perf_counter() - start) / count * 1e6
    assert x.grad is not None and x.grad.item() == count + 1
    what = f"chain of {count:,} additions, an op"
    return [
        Figure(f"{what}: memory", held / count, unit="bytes"),
        Figure.of_rounds(f"{what}: backward", "its forward", [backward], [forward], unit="us"),
    ]
