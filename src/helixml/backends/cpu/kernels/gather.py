"""Rows of a table taken by index, and added at indices, on raw arrays; the kernel is gather.c.

`take` and `scatter_add` are the backend's functions of these names, for arrays of float32 and
float64. They belong to no fused op; where they return None, the call is NumPy's.
"""

from __future__ import annotations

import math

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, contiguous, rows, share

ELEMENTS_IN_ITEM = 1 << 14  # of a gather
SHORTEST_ROW = 64  # bytes; NumPy takes shorter ones as fast


def take(x: Array, indices: Array, *, axis: int) -> Array | None:
    """Return the rows of x at the indices, or None where NumPy does it as well.

    Parameters
    ----------
    x : (n, ...), float32 or float64, any strides.
    indices : integers in [-n, n), any shape.

    Raises
    ------
    IndexError : an index is out of range.
    """
    width = math.prod(x.shape[1:])
    if axis != 0 or indices.size * width * x.itemsize < _kernels.SMALLEST_BLOCK:
        return None
    if width * x.itemsize < SHORTEST_ROW or not np.can_cast(indices.dtype, np.int64):
        return None
    taken: Array = empty((indices.size, width), x.dtype)
    rows_in_item = max(1, ELEMENTS_IN_ITEM // width)
    gather = _kernels.Gather(_flat(indices), rows(x.reshape(-1, width)), taken, rows_in_item)
    share(gather.run, -(-indices.size // rows_in_item), taken.size)
    return taken.reshape(indices.shape + x.shape[1:])


def scatter_add(x: Array, indices: Array, *, axis: int, size: int) -> Array | None:
    """Return zeros with ``size`` entries along ``axis``, and the entries of x added at indices.

    Parameters
    ----------
    x : float32 or float64, any strides; its axes from ``axis`` on begin with those of indices.
    indices : integers in [-size, size).

    Returns
    -------
    Array. Entries are added one by one in the order of the indices. None: the call is NumPy's.

    Raises
    ------
    IndexError : an index is out of range.
    """
    if not np.can_cast(indices.dtype, np.int64):
        return None
    rank = indices.ndim
    others = (*range(axis), *range(axis + rank, x.ndim))
    moved = x.transpose((*range(axis, axis + rank), *others))
    rest = moved.shape[rank:]
    width = math.prod(rest)
    summed: Array = empty((size, width), x.dtype)
    summed.fill(0)
    if x.size:
        added = rows(moved.reshape(indices.size, width))
        gather = _kernels.Gather(_flat(indices), summed, added, 1)
        share(gather.backward, -(-width // _kernels.SCATTER_COLUMNS), x.size)
    result: Array = np.moveaxis(summed.reshape(size, *rest), 0, axis)
    return result


def _flat(indices: Array) -> Array:
    """Return the indices as a vector of int64."""
    return contiguous(indices.astype(np.int64, copy=False)).reshape(-1)
