"""What the kernels for sequences share: sums of partial results, arrays as kernels want them."""

from __future__ import annotations

from math import prod
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import WARP, Program
from helixml.dtypes import DType

__all__ = ["Array", "Parts", "has_time", "laid", "power_of_two", "rows_of", "wide"]

Array = Any  # an array of CuPy's, or of what stands in for it

_BLOCK = 256
_MOST_BLOCKS = 1 << 14


class Parts:
    """Sums of partial results, in a fixed order; the kernel is parts.cu."""

    def __init__(self, cp: Any) -> None:
        self._cp = cp
        self._program = Program(cp, "parts.cu")

    def total(self, parts: Array, axis: int, dtype: DType) -> Array:
        """Return the sum along ``axis``, in ``dtype``, of what kernels added up for it."""
        shape = (*parts.shape[:axis], *parts.shape[axis + 1 :])
        total = self._cp.empty(shape, dtype)
        self._program.launch(
            "sum_parts",
            [parts, total, parts.shape[axis], prod(parts.shape[axis + 1 :]), total.size],
            dtype=dtype,
            grid=min(-(-total.size // WARP), _MOST_BLOCKS),
            block=_BLOCK,
        )
        return total


def has_time(x: Array) -> bool:
    """Say whether (b, d, l) lies with time contiguous, or has to be copied anyway."""
    return _pitch(x.transpose(0, 2, 1)) is None


def laid(cp: Any, x: Array, time: bool) -> Array:
    """Return (b, d, l), or else as (b, l, d), C-contiguous; None stays."""
    if x is None:
        return None
    return dense(cp, x if time else x.transpose(0, 2, 1))


def rows_of(cp: Any, x: Array, time: bool) -> tuple[Array, int]:
    """Return (b, d, l), or else (b, l, d), as rows in one axis, and how far they lie apart.

    Rows may be parts of longer ones, as those of a split projection are: they are not copied.
    """
    if x is None:
        return None, 0
    if not time:
        x = x.transpose(0, 2, 1)
    pitch = _pitch(x)
    if pitch is None:
        x, pitch = dense(cp, x), x.shape[-1]
    count, columns = prod(x.shape[:-1]), x.shape[-1]
    span = (count - 1) * pitch + columns if x.size else 0
    return cp.lib.stride_tricks.as_strided(x, (span,), (x.itemsize,)), pitch


def _pitch(x: Array) -> int | None:
    """Return how many entries rows of (b, rows, columns) lie apart; None if they are no rows."""
    (batches, rows, columns), (by_batch, by_row, by_column) = x.shape, x.strides
    if rows == 1:
        by_row = by_batch if batches > 1 else columns * x.itemsize
    regular = batches == 1 or by_batch == rows * by_row
    if not regular or by_row < columns * x.itemsize or by_row % x.itemsize:
        return None
    return by_row // x.itemsize if columns == 1 or by_column == x.itemsize else None


def power_of_two(n: int) -> int:
    """Return the least power of two that is at least ``n``.

    >>> [power_of_two(n) for n in (1, 5, 16)]
    [1, 8, 16]
    """
    return 1 << max(0, n - 1).bit_length()


def wide(cp: Any, x: Array) -> Array:
    """Return ``x`` contiguous, in what kernels compute in; None stays."""
    if x is None:
        return None
    return dense(cp, x.astype(dtypes.accumulation(x.dtype), copy=False))
