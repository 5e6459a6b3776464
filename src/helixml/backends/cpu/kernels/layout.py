"""What the kernels' Python files share: new arrays, contiguous rows, items of work for threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from helixml.backends.cpu.kernels._kernels import empty

Array = NDArray[Any]  # float32 or float64, all of one call alike

SMALL = 1 << 15  # units of work below which waking a thread costs more than it saves
MOST_RANGES = 64  # handed to threads one by one: enough to even out their speeds


def rows(x: Array) -> Array:
    """Return x, or a copy of it, aligned and with its last axis contiguous."""
    if x.flags.aligned and (x.shape[-1] <= 1 or x.strides[-1] == x.itemsize):
        return x
    return _copied(x)


def contiguous(x: Array) -> Array:
    """Return x, or a copy of it, aligned and in C order."""
    return x if x.flags.c_contiguous and x.flags.aligned else _copied(x)


def _copied(x: Array) -> Array:
    dense: Array = empty(x.shape, x.dtype)
    np.copyto(dense, x)
    return dense


def zeros(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    """Return zeros: large ones in memory that was used before, whose pages are there already."""
    array: Array = empty(shape, dtype)
    array.fill(0)
    return array


def sum_of_parts(parts: Array) -> Array:
    """Return the sum of the parts along the first axis, in order; a single part is itself."""
    if len(parts) == 1:
        return parts[0]
    result: Array = empty(parts.shape[1:], parts.dtype)
    np.add.reduce(parts, axis=0, out=result)
    return result


def table(x: Array) -> Array:
    """Return x as (rows, d), the last axis contiguous; a number as (1, 1)."""
    return rows(x.reshape(math.prod(x.shape[:-1]), x.shape[-1] if x.ndim else 1))


def share(run: Callable[[int, int], object], items: int, work: int) -> None:
    """Call run(items, grain) so that several threads share the items if the work is worth it."""
    if items > 0:
        run(items, items if work < SMALL else -(-items // MOST_RANGES))
