"""Probes: short measurements of what a device does, by ops that anybody could call.

Each takes the best of some repetitions, for whatever disturbs a measurement makes it longer. Sizes
grow until a call takes long enough to be timed, so that slow devices are asked for little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import helixml as hx
from helixml.backends import registry
from helixml.errors import BackendError, DTypeError

__all__ = ["bandwidth", "latency", "peak_rate", "seconds"]

LONG_ENOUGH: Final = 2e-3  # seconds of a call that a clock sees well
BUDGET: Final = 0.06  # seconds that the repetitions of one size may take together
_LARGEST: Final = 256 << 20  # bytes of an array, which only fast devices are asked for


def seconds(
    call: Callable[[], Any], device: str, *, budget: float = BUDGET, least: int = 3
) -> float:
    """Return the least time of a call, its results computed and not only asked for.

    Parameters
    ----------
    call : takes nothing; what it returns is dropped.
    device : where it computes.
    budget : seconds that all repetitions may take together; there are at least ``least``.
    """
    backend = registry.get(device)
    best = float("inf")
    end = time.perf_counter() + budget
    count = 0
    first = time.perf_counter()
    call()  # what is loaded, compiled or allocated once
    backend.synchronize()
    if time.perf_counter() - first > 10 * budget:
        least = 1  # a slow device is asked for little
    loops = 1
    while count < least or time.perf_counter() < end:
        start = time.perf_counter()
        for _ in range(loops):
            call()
        backend.synchronize()
        took = time.perf_counter() - start
        best = min(best, took / loops)
        if took < 2e-5:  # the clock's own time would count
            loops *= 4
        count += 1
        if count >= 10_000:
            break
    return best


def latency(device: str) -> float:
    """Return the seconds of a sum of two arrays of 8 numbers."""
    with hx.no_grad():
        a, b = (hx.ones((8,), device=device) for _ in range(2))
        return seconds(lambda: a + b, device, budget=0.02)


def bandwidth(device: str) -> float:
    """Return the bytes that are read and written in a second, by sums of long arrays."""
    with hx.no_grad():
        n = 1 << 16
        while True:
            a, b = (hx.ones((n,), device=device) for _ in range(2))
            took = seconds(lambda: a + b, device, budget=0.01)  # noqa: B023  called at once
            if took > LONG_ENOUGH * 4 or 4 * n >= _LARGEST:
                break
            n *= 4
        return 3 * a.nbytes / seconds(lambda: a + b, device)


def peak_rate(device: str, dtype: str) -> float | None:
    """Return the FLOPs in a second of products of square matrices; None if it has no such numbers.

    Sizes double until a product takes `LONG_ENOUGH`; the best of all sizes counts.
    """
    best = 0.0
    with hx.no_grad():
        n = 32
        while n <= 8192:
            try:
                a, b = (hx.ones((n, n), dtype=dtype, device=device) for _ in range(2))
            except (DTypeError, BackendError):  # the device has no numbers of that kind
                return None
            took = seconds(lambda: a @ b, device, budget=BUDGET / 4)  # noqa: B023  called at once
            best = max(best, 2 * n**3 / took)
            if took > 4 * LONG_ENOUGH:
                break
            n *= 2
    return best
