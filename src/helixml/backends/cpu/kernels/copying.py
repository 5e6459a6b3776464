"""Large copies on raw arrays: shared by the threads, into memory that is used again; see copy.c.

`copy`, `concat` and `place` are the backend's functions of these names, for arrays of float32 and
float64. They belong to no fused op; where they return None, the call is NumPy's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import EllipsisType

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, share, zeros


def copy(x: Array) -> Array | None:
    """Return a copy in C order; None if it is small."""
    if x.nbytes < _kernels.SMALLEST_BLOCK:
        return None
    result: Array = empty(x.shape, x.dtype)
    if x.flags.carray:
        _copy_rows(x.reshape(1, -1), result.reshape(1, -1))
    else:
        np.copyto(result, x)
    return result


def concat(arrays: Sequence[Array], *, axis: int) -> Array | None:
    """Return the arrays behind each other; None if that is small, or shapes or dtypes differ.

    Parameters
    ----------
    arrays : at least one, any strides.
    axis : from 0 on.
    """
    if sum([x.nbytes for x in arrays]) < _kernels.SMALLEST_BLOCK:
        return None
    first = arrays[0]
    shape = list(first.shape)
    rest = shape[:axis] + shape[axis + 1 :]
    for x in arrays:
        if x.dtype != first.dtype or list(x.shape[:axis] + x.shape[axis + 1 :]) != rest:
            return None
    shape[axis] = sum(x.shape[axis] for x in arrays)
    result: Array = empty(tuple(shape), first.dtype)
    start = 0
    before = math.prod(shape[:axis])
    table = result.reshape(before, -1)
    for x in arrays:
        end = start + x.size // before
        part = _as_rows(x, before)
        if part is None:
            table[:, start:end].reshape(x.shape)[...] = x
        else:
            _copy_rows(part, table[:, start:end])
        start = end
    return result


def place(
    x: Array, shape: tuple[int, ...], index: tuple[int | slice | EllipsisType | None, ...]
) -> Array | None:
    """Return zeros of a shape with x written at the basic index; None if that is small."""
    if math.prod(shape) * x.itemsize < _kernels.SMALLEST_BLOCK:
        return None
    result = zeros(shape, x.dtype)
    result[index] = x
    return result


def _as_rows(x: Array, count: int) -> Array | None:
    """Return x as (count, d) with contiguous rows, None if that would take a copy."""
    if not x.flags.aligned:
        return None
    try:
        table = x.reshape(count, -1, copy=False)
    except ValueError:
        return None
    return table if table.shape[1] <= 1 or table.strides[1] == x.itemsize else None


def _copy_rows(x: Array, to: Array) -> None:
    """Copy (n, d) to (n, d), both with contiguous rows."""
    call = _kernels.Copy(x, to)
    share(call.run, call.items, x.size)
