"""Sums over leading axes on raw arrays: gradients of what was broadcast over rows; see sum.c.

`sum` is the backend's function of that name, for arrays of float32 and float64. It belongs to no
fused op; where it returns None, the call is NumPy's.
"""

from __future__ import annotations

import math

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels.layout import SMALL, Array, rows, share, sum_of_parts, zeros

# Rows are summed in at most so many parts, then the parts.
MOST_PARTS = 32
FEWEST_ROWS = 32


def sum(x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array | None:
    """Return the sum over the axes; None if they are not the first ones, or there is little to do.

    Parameters
    ----------
    x : float32 or float64, any strides.
    axis : from 0 on.
    """
    count = len(axis)
    summed, kept = x.shape[:count], x.shape[count:]
    if axis != tuple(range(count)) or not x.flags.c_contiguous or x.size < SMALL:
        return None
    if math.prod(summed) < 2 * FEWEST_ROWS or math.prod(kept) == 1:
        return None
    total = sum_of_rows(x.reshape(math.prod(summed), -1))
    return total.reshape((1,) * count + kept if keepdims else kept)


def sum_of_rows(x: Array) -> Array:
    """Return the sum of (n, d) over its rows, any strides; it has the dtype of x."""
    x = rows(x)
    in_item = max(FEWEST_ROWS, -(-len(x) // MOST_PARTS))
    parts = zeros((max(1, -(-len(x) // in_item)), x.shape[1]), x.dtype)
    call = _kernels.Sum(in_item, x, parts)
    share(call.run, -(-len(x) // in_item), x.size)
    return sum_of_parts(parts)
