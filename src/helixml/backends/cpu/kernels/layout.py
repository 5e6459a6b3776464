"""What the kernels' Python files share: contiguous rows, and items of work shared by threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixml.backends.cpu.threads import parallel_for

Array = NDArray[Any]  # float32 or float64, all of one call alike

SMALL = 1 << 15  # units of work below which waking a thread costs more than it saves
MOST_CHUNKS = 64  # handed to threads one by one: enough to even out their speeds


def rows(x: Array) -> Array:
    """Return x, or a copy of it, aligned and with its last axis contiguous."""
    if x.flags.aligned and (x.shape[-1] <= 1 or x.strides[-1] == x.itemsize):
        return x
    return np.ascontiguousarray(x)


def share(run: Callable[[int, int], object], items: int, work: int) -> None:
    """Call run(first, last) on ranges that together cover range(items), on several threads."""
    if work < SMALL or items <= 1:
        run(0, items)
        return
    chunks = min(items, MOST_CHUNKS)
    parallel_for(lambda i: run(i * items // chunks, (i + 1) * items // chunks), chunks)
