"""Sums along axes that lie together, on the device; see sums.cu."""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels.rows import Array, aligned
from helixml.backends.cuda.launch import WARP, Program, multiprocessors, stride_blocks

_BLOCK = 256
_LINES = 8  # as in sums.cu
_BLOCKS = 4  # that each multiprocessor should have
_LEAST = 64  # rows or packs of a chunk
_SHORT = 32  # packs of a row that is a warp's
_GRID = 65535  # blocks along the second and third axis of a grid


def functions(cp: Any) -> dict[str, Callable[..., Any]]:
    """Return functions of a backend by the protocol's names."""
    return {"sum": Sums(cp).sum}


class Sums:
    """The kernels of sums.cu."""

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "sums.cu")

    def sum(self, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array | None:
        """Return the sum of a dense array along neighbouring axes; None for any other.

        16-bit floats add up in float32; the order depends on the shape and the device.
        """
        axes = sorted(axis)
        if (
            x.dtype not in dtypes.FLOATS
            or not x.size
            or not x.flags.c_contiguous
            or axes[-1] - axes[0] != len(axes) - 1
        ):
            return None
        outer, inner = prod(x.shape[: axes[0]]), prod(x.shape[axes[-1] + 1 :])
        if keepdims:
            shape = tuple(1 if a in axis else n for a, n in enumerate(x.shape))
        else:
            shape = x.shape[: axes[0]] + x.shape[axes[-1] + 1 :]
        if outer > _GRID and inner > 1:
            return None
        y = self._cp.empty(shape, x.dtype)
        count = x.size // (outer * inner)
        if inner == 1:
            self._rows(x, y, outer, count)
        else:
            self._columns(x, y, outer, count, inner)
        return y

    def _rows(self, x: Array, y: Array, rows: int, count: int) -> None:
        width = self._width(x, count)
        is_warp = count <= _SHORT * WARP * width and rows >= _BLOCK
        splits = 1 if is_warp else self._splits(rows, -(-count // width), _LEAST * WARP)
        chunk = -(-count // (splits * width)) * width
        splits = -(-count // chunk)
        grid = (-(-rows * WARP // _BLOCK) if is_warp else rows, splits)
        parts = self._room(rows * splits, x) if splits > 1 else None
        self._run("sum_rows", [x, parts, y, rows, count, chunk], x, grid, width, is_warp)
        if parts is not None:
            self._add_up(parts, y, rows, splits, 1)

    def _columns(self, x: Array, y: Array, outer: int, count: int, inner: int) -> None:
        width = self._width(x, inner)
        tiles = -(-inner // (WARP * width))
        splits = self._splits(tiles * outer, count, _LEAST)
        chunk = -(-count // splits)
        splits = -(-count // chunk)
        parts = self._room(outer * splits * inner, x) if splits > 1 else None
        grid = (tiles, splits, outer)
        self._run("sum_columns", [x, parts, y, count, inner, chunk], x, grid, width, False)
        if parts is not None:
            self._add_up(parts, y, outer, splits, inner)

    def _width(self, x: Array, count: int) -> int:
        """Return how many entries are read at once."""
        width = 16 // int(x.dtype.itemsize)
        return width if count % width == 0 and aligned(x) else 1

    def _splits(self, blocks: int, count: int, least: int) -> int:
        """Return in how many chunks each sum is split, so that the device has enough blocks."""
        wanted = -(-_BLOCKS * multiprocessors(self._cp) // blocks)
        return max(1, min(wanted, count // least, _GRID))

    def _room(self, count: int, x: Array) -> Array:
        return self._cp.empty((count,), dtypes.accumulation(x.dtype))

    def _run(
        self,
        name: str,
        arguments: list[Any],
        x: Array,
        grid: tuple[int, ...],
        width: int,
        is_warp: bool,
    ) -> None:
        constants = {"PACKED": int(width > 1), "TEAM_IS_WARP": int(is_warp)}
        self._program.launch(
            name, arguments, dtype=x.dtype, grid=grid, block=_BLOCK, constants=constants
        )

    def _add_up(self, parts: Array, y: Array, outer: int, splits: int, inner: int) -> None:
        self._program.launch(
            "sum_parts",
            [parts, y, outer, splits, inner],
            dtype=y.dtype,
            grid=stride_blocks(self._cp, outer * inner, _BLOCK),
            block=_BLOCK,
            constants={"PACKED": 0, "TEAM_IS_WARP": 0},
        )
