"""How rows are shared out among the threads of a device; see rows.cuh."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import prod
from typing import Any

from helixml.backends.cuda.launch import WARP

__all__ = ["Array", "Plan", "aligned", "dense", "plan"]

Array = Any  # an array of CuPy

_PACK_BYTES = 16  # that a thread moves at once
_KEPT_BYTES = 64  # of a row that a thread keeps in registers, at most
_SINGLES = 8  # entries that it keeps where it reads them one by one
_TEAMS_OF_WARPS = 4  # in a block
_FEW = 4  # items that each lane of a warp may have before a block takes the row
_BLOCK = 256  # threads that a row gets before each of them keeps more than it must
_LARGEST = 512  # block, so that each thread has 128 registers
_LARGEST_WITHOUT = 1024  # where nothing is kept


@dataclass(frozen=True)
class Plan:
    """Threads of a block, teams (warps or blocks) in it, and what the source leaves open."""

    block: int
    teams: int
    constants: tuple[tuple[str, int], ...]
    is_kept: bool  # a row, in registers

    def grid(self, rows: int) -> int:
        """Return the number of blocks that give each row a team of its own."""
        return -(-rows // self.teams)


def plan(columns: int, itemsize: int, *arrays: Array | None) -> Plan:
    """Return how rows of ``columns`` entries are walked; ``arrays`` are all that is touched.

    A row of a few items for each lane is a warp's, a longer one a block's. Rows that do not fit
    into registers are read anew in each pass.
    """
    return _plan(columns, itemsize, aligned(*arrays))


@cache
def _plan(columns: int, itemsize: int, is_aligned: bool) -> Plan:
    width = _PACK_BYTES // itemsize
    if columns % width or not is_aligned:
        width = 1
    items = -(-columns // width)
    most = _SINGLES if width == 1 else _KEPT_BYTES // max(itemsize, 4) // width
    if items <= WARP * min(most, _FEW):
        each = _power(-(-items // WARP))
        return _made(WARP * _TEAMS_OF_WARPS, _TEAMS_OF_WARPS, width, each)
    each = min(most, _power(-(-items // _BLOCK)))
    threads = -(-items // each)
    if threads > _LARGEST:
        return _made(_LARGEST_WITHOUT, 1, width, 0)
    return _made(-(-threads // WARP) * WARP, 1, width, each)


def _made(block: int, teams: int, width: int, items: int) -> Plan:
    constants = ("WIDTH", width), ("ITEMS", items), ("TEAM_IS_WARP", int(teams > 1))
    return Plan(block, teams, constants, items > 0)


def _power(n: int) -> int:
    """Return the smallest power of two that is not below ``n``."""
    return 1 << (n - 1).bit_length() if n > 1 else 1


def aligned(*arrays: Array | None) -> bool:
    """Say whether all arrays begin where 16 bytes can be moved at once."""
    return all(x is None or x.data.ptr % _PACK_BYTES == 0 for x in arrays)


def dense(cp: Any, x: Array) -> Array:
    """Return ``x``, or a copy with its entries one behind the other; None stays."""
    if x is None or x.flags.c_contiguous:
        return x
    return cp.ascontiguousarray(x)


def count_rows(x: Array) -> int:
    """Return the number of rows along the last axis."""
    return prod(x.shape[:-1])
