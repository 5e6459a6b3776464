"""CuPy's memory pool: what arrays give back is kept and used again, cut to size and joined anew.

Sizes are whole units. An array gets the smallest free piece of its stream that is large enough, the
rest of which stays free; neighbours that are both free become one piece. Only what no piece is
large enough for is asked of the device: that is what `MemoryPool.record` counts, for on a GPU it
takes as long as many kernels, and may wait for them. No values are kept here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from helixml.testing.cuemu.cupy_stand_in.record import Record

__all__ = ["TOTAL", "MemoryPool", "Piece"]

TOTAL = 8 << 30  # bytes of the device's memory
UNIT = 512  # bytes that sizes are rounded up to


@dataclass(eq=False, slots=True)
class Piece:
    """A part of what the device gave, with its neighbours in that."""

    bytes: int
    stream: int
    pool: MemoryPool
    is_free: bool = False
    before: Piece | None = None
    behind: Piece | None = None

    def split(self, nbytes: int) -> Piece | None:
        """Keep ``nbytes``; return the rest, if there is one."""
        if nbytes == self.bytes:
            return None
        rest = Piece(self.bytes - nbytes, self.stream, self.pool, before=self, behind=self.behind)
        if rest.behind is not None:
            rest.behind.before = rest
        self.bytes, self.behind = nbytes, rest
        return rest

    def join(self, other: Piece) -> None:
        """Take the neighbour behind in."""
        self.bytes, self.behind = self.bytes + other.bytes, other.behind
        if self.behind is not None:
            self.behind.before = self


class MemoryPool:
    """The pool of a stand-in; its public methods are those of `cupy.cuda.MemoryPool`."""

    __slots__ = ("_free", "_limit", "_record", "_total", "_used")  # CuPy's takes no weak references

    def __init__(self, record: Record) -> None:
        self._record = record
        self._free: list[Piece] = []
        self._used = self._total = self._limit = 0

    def malloc(self, size: int) -> Any:
        """Name the pool, for `cupy.cuda.using_allocator`: arrays alone take memory here."""
        raise NotImplementedError("the stand-in's pool gives memory to arrays alone")

    def _take(self, nbytes: int, stream: int, refuse: Callable[[str], Exception]) -> Piece:
        """Return a piece for an array; raise what ``refuse`` makes if the limit is reached."""
        wanted = -(-nbytes // UNIT) * UNIT
        fitting = [p for p in self._free if p.stream == stream and p.bytes >= wanted]
        if fitting:
            piece = min(fitting, key=lambda p: p.bytes)
            self._free.remove(piece)
            piece.is_free = False
            self._keep(piece.split(wanted))
        else:
            if self._limit and self._total + wanted > self._limit:
                raise refuse(
                    f"Out of memory allocating {wanted:,} bytes (allocated so far: "
                    f"{self._total:,} bytes, limit set to: {self._limit:,} bytes)."
                )
            self._total += wanted
            self._record.device_allocations += 1
            piece = Piece(wanted, stream, self)
        self._used += wanted
        self._record.peak_bytes = max(self._record.peak_bytes, self._used)
        return piece

    def _give_back(self, piece: Piece) -> None:
        """Take a piece back, and join it with neighbours that are free."""
        self._used -= piece.bytes
        if piece.behind is not None and piece.behind.is_free:
            self._free.remove(piece.behind)
            piece.join(piece.behind)
        if piece.before is not None and piece.before.is_free:
            self._free.remove(piece.before)
            piece.before.join(piece)
            piece = piece.before
        self._keep(piece)

    def _keep(self, piece: Piece | None) -> None:
        if piece is not None:
            piece.is_free = True
            self._free.append(piece)

    def used_bytes(self) -> int:
        """Bytes that arrays hold."""
        return self._used

    def total_bytes(self) -> int:
        """Bytes that the pool has taken from the device: it gives back only when told."""
        return self._total

    def free_bytes(self) -> int:
        """Bytes that the pool keeps for later."""
        return sum(piece.bytes for piece in self._free)

    def n_free_blocks(self) -> int:
        """Pieces that the pool keeps for later."""
        return len(self._free)

    def free_all_blocks(self, stream: Any = None) -> None:
        """Give what is free as a whole back to the device: of a stream, or of all."""
        whole = [
            piece
            for piece in self._free
            if piece.before is None
            and piece.behind is None
            and (stream is None or piece.stream == stream.ptr)
        ]
        for piece in whole:
            self._free.remove(piece)
            self._total -= piece.bytes

    def set_limit(self, size: int | None = None, fraction: float | None = None) -> None:
        """Limit what the pool may take, in bytes or as a part of the device's; 0: no limit."""
        if size is not None and fraction is not None:
            raise ValueError("size and fraction cannot be specified at the same time")
        self._limit = int(fraction * TOTAL) if fraction is not None else size or 0

    def get_limit(self) -> int:
        """Return the limit, 0 for none."""
        return self._limit
