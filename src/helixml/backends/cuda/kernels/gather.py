"""Entries taken along an axis, arrays joined, rows added up by target, on the device; gather.cu."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels.rows import Array, aligned, dense
from helixml.backends.cuda.launch import WARP, Program, stride_blocks

_BLOCK = 256
_SEGMENT = 16  # as in gather.cu
_JOINED = 4  # arrays, at most, in a launch


def functions(cp: Any) -> dict[str, Callable[..., Any]]:
    """Return functions of a backend by the protocol's names."""
    gather = Gather(cp)
    return {"take": gather.take, "concat": gather.concat, "scatter_add": gather.scatter_add}


class Gather:
    """The kernels of gather.cu."""

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "gather.cu")

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        """Return the entries of ``x`` along ``axis`` at ``indices``, which are in range.

        Parameters
        ----------
        x : any shape and dtype.
        indices : integers, any shape.
        """
        cp = self._cp
        x = dense(cp, x)
        outer, inner = prod(x.shape[:axis]), prod(x.shape[axis + 1 :])
        y = cp.empty((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
        width = inner * x.dtype.itemsize
        unit = _unit(width, x.data.ptr)
        units = width // unit
        lanes = min(WARP, 1 << max(0, units - 1).bit_length())
        rows = outer * indices.size
        self._program.launch(
            "take",
            [
                x,
                dense(cp, _as_int64(indices)),
                y,
                outer,
                x.shape[axis],
                indices.size,
                units,
            ],
            dtype=dtypes.float32,
            grid=stride_blocks(cp, rows * lanes, _BLOCK) if width else 0,
            block=_BLOCK,
            constants={"UNIT": unit, "LANES": lanes, "WIDTH": 1},
        )
        return y

    def concat(self, arrays: Sequence[Array], *, axis: int) -> Array | None:
        """Return a few dense arrays of one dtype one behind the other; None for any others."""
        first = arrays[0]
        dense_ones = all(x.dtype == first.dtype and x.flags.c_contiguous for x in arrays)
        if not dense_ones or not 1 < len(arrays) <= _JOINED:
            return None
        shape, outer = list(first.shape), prod(first.shape[:axis])
        shape[axis] = sum(x.shape[axis] for x in arrays)
        y = self._cp.empty(tuple(shape), first.dtype)
        if not y.size:
            return y
        widths = [x.nbytes // outer for x in arrays]
        unit = _unit(*widths, *(x.data.ptr for x in arrays))
        spare = _JOINED - len(arrays)
        self._program.launch(
            "concat",
            [*arrays, *[None] * spare, y, outer, *(w // unit for w in widths), *[0] * spare],
            dtype=dtypes.float32,
            grid=stride_blocks(self._cp, y.nbytes // unit, _BLOCK),
            block=_BLOCK,
            constants={"UNIT": unit, "LANES": 1, "WIDTH": 1},
        )
        return y

    def scatter_add(
        self, rows: Array, targets: Array, size: int, *, from_end: bool = True
    ) -> Array:
        """Return zeros with each row added at its target, in the order of the rows.

        Parameters
        ----------
        rows : (count, width), dense, floats or complex.
        targets : (count,), integers in [-size, size).
        from_end : whether some of them may be negative.
        """
        cp = self._cp
        count, width = rows.shape
        sums = cp.zeros((size, width), rows.dtype)
        if not rows.size:
            return sums
        targets = _as_int64(targets)
        if from_end:
            targets = cp.where(targets < 0, targets + size, targets)
        order = cp.argsort(targets, kind="stable")
        real = dtypes.real_of(rows.dtype)
        rows, result = rows.view(real), sums.view(real)
        width = rows.shape[1]
        targets = cp.take(targets, order)
        segments = -(-count // _SEGMENT)
        edges = cp.empty((segments, 2, width), dtypes.accumulation(real))
        entries = 16 // real.itemsize
        step = entries if width % entries == 0 and aligned(rows, result) else 1
        columns = -(-width // step)
        block = min(_BLOCK, -(-columns // WARP) * WARP)
        constants = {"UNIT": 1, "LANES": 1, "WIDTH": step}
        self._program.launch(
            "scatter_add",
            [rows, targets, order, result, edges, count, width, size],
            dtype=real,
            grid=(segments, -(-columns // block)),
            block=block,
            constants=constants,
        )
        block = min(_BLOCK, -(-width // WARP) * WARP)
        self._program.launch(
            "scatter_edges",
            [targets, edges, result, count, width, size],
            dtype=real,
            grid=(segments, -(-width // block)),
            block=block,
            constants=constants,
        )
        return sums


def _unit(*numbers: int) -> int:
    """Return the most bytes that can be moved at once, given addresses and sizes in bytes."""
    return next(u for u in (16, 8, 4, 2, 1) if all(n % u == 0 for n in numbers))


def _as_int64(x: Array) -> Array:
    return x if x.dtype == dtypes.int64 else x.astype(dtypes.int64)
