"""What a stand-in counts, and its memory: one record a stand-in, known to all its arrays."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING

from helixml.testing.cuemu.cupy_stand_in.memory_pool import MemoryPool

if TYPE_CHECKING:
    from helixml.testing.cuemu.cupy_stand_in.streams import Queues

__all__ = ["Record"]


class Record:
    """Counts of a stand-in; `reset` sets them to nothing.

    Attributes
    ----------
    launches : of kernels that were given as source, by name.
    library_launches : of CuPy's own kernels, fills, copies and products of matrices, by function;
        one a call, where a GPU takes several for some, as for sorts.
    bytes_read, bytes_written : of global memory, by kernels' names; under `cuemu.counting` only.
    synchronizations : waits of the host for the device, by what caused them: "get", "item", ...
    copies : bytes "to device" and "to host".
    device_allocations : of memory that the pool did not have.
    peak_bytes : the most that arrays held.
    pool : the memory pool that arrays come from by default.
    queues : the streams.
    """

    def __init__(self) -> None:
        self.launches: Counter[str] = Counter()
        self.library_launches: Counter[str] = Counter()
        self.bytes_read: Counter[str] = Counter()
        self.bytes_written: Counter[str] = Counter()
        self.synchronizations: Counter[str] = Counter()
        self.copies: Counter[str] = Counter()
        self.device_allocations = self.peak_bytes = 0
        self.pool = MemoryPool(self)
        self._of_thread = threading.local()
        self.queues: Queues

    @property
    def giving(self) -> MemoryPool:
        """The pool that arrays of this thread come from now."""
        pool: MemoryPool = getattr(self._of_thread, "pool", self.pool)
        return pool

    @giving.setter
    def giving(self, pool: MemoryPool) -> None:
        self._of_thread.pool = pool

    def reset(self) -> None:
        """Forget the counts; memory in use stays in use."""
        for counts in (
            *(self.launches, self.library_launches, self.bytes_read, self.bytes_written),
            *(self.synchronizations, self.copies),
        ):
            counts.clear()
        self.device_allocations, self.peak_bytes = 0, self.pool.used_bytes()
