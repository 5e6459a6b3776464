"""What a stand-in counts, and its memory: one record a stand-in, known to all its arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from helixml.testing.cuemu.cupy_stand_in.streams import Queues

__all__ = ["Record"]

UNIT = 512  # bytes that the pool rounds allocations up to


class Record:
    """Counts of a stand-in; `reset` sets them to nothing.

    Attributes
    ----------
    launches : of kernels, by name.
    bytes_read, bytes_written : of global memory, by kernels' names; under `cuemu.counting` only.
    synchronizations : waits of the host for the device, by what caused them: "get", "item", ...
    copies : bytes "to device" and "to host".
    used_bytes, peak_bytes, total_bytes : of the memory pool.
    queues : the streams.
    """

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.bytes_read: Counter[str] = Counter()
        self.bytes_written: Counter[str] = Counter()
        self.synchronizations: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.used_bytes = self.peak_bytes = self.total_bytes = 0
        self.limit = 0
        self.queues: Queues

    def reset(self) -> None:
        """Forget the counts; memory in use stays in use."""
        for counts in (self.launches, self.bytes_read, self.bytes_written, self.copies):
            counts.clear()
        self.synchronizations.clear()
        self.peak_bytes = self.used_bytes

    def allocate(self, nbytes: int, refuse: Callable[[str], Exception]) -> int:
        """Count an allocation; return what it takes of the pool."""
        taken = -(-nbytes // UNIT) * UNIT
        if self.limit and self.used_bytes + taken > self.limit:
            raise refuse(
                f"Out of memory allocating {taken:,} bytes (allocated so far: "
                f"{self.used_bytes:,} bytes, limit set to: {self.limit:,} bytes)."
            )
        self.used_bytes += taken
        self.peak_bytes = max(self.peak_bytes, self.used_bytes)
        self.total_bytes = max(self.total_bytes, self.used_bytes)
        return taken

    def free(self, taken: int) -> None:
        """Count that an allocation went back to the pool, which keeps it."""
        self.used_bytes -= taken
