"""How work is shared out among the invocations of a device; see rows.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.copies import dense
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["MOST_COLUMNS", "THREADS", "Family", "count_rows", "power_of_two"]

THREADS = 256  # of a workgroup
MOST_COLUMNS = 1 << 18  # of a row, which a team of THREADS walks at most four times
_EACH = 4  # entries of a row that a thread has before the row gets more threads


def power_of_two(n: int) -> int:
    """Return the least power of two that is at least ``n``.

    >>> [power_of_two(n) for n in (0, 1, 5, 16)]
    [1, 1, 8, 16]
    """
    return 1 << max(0, n - 1).bit_length()


def count_rows(x: WgpuArray) -> int:
    """Return the number of rows along the last axis."""
    return prod(x.shape[:-1])


class Family:
    """The kernels of one file, with what their launchers share.

    Parameters
    ----------
    runtime : the device.
    threads : of a workgroup, a power of two.
    """

    file: str

    def __init__(self, runtime: Runtime, threads: int = THREADS) -> None:
        self.runtime = runtime
        self.threads = threads

    def dense(self, x: WgpuArray | None) -> Any:  # Any: None for None
        """Return ``x``, or a copy without gaps; None stays."""
        return None if x is None else dense(self.runtime, x)

    def empty_like(self, x: WgpuArray) -> WgpuArray:
        """Return room for an array of the shape and dtype of ``x``."""
        return self.runtime.empty(x.shape, x.dtype)

    def each(
        self,
        entry: str,
        buffers: Sequence[Any],
        uniforms: Mapping[str, Any],
        count: int,
        *,
        trips: int = 0,
        constants: Mapping[str, float] | None = None,
        head: str = "",
    ) -> None:
        """Launch a kernel with one invocation for each of ``count`` items."""
        Program.of(self.runtime, self.file).launch(
            entry,
            buffers,
            uniforms,
            groups=-(-count // self.threads),
            trips=trips,
            constants={"THREADS": self.threads, **(constants or {})},
            head=head,
        )

    def rows(
        self,
        entry: str,
        buffers: Sequence[Any],
        uniforms: Mapping[str, Any],
        *,
        passes: int,
        constants: Mapping[str, float] | None = None,
        head: str = "",
    ) -> None:
        """Launch a kernel with a team for each row, which it walks in passes."""
        rows, columns = uniforms["rows"], uniforms["columns"]
        lanes = min(self.threads, power_of_two(-(-columns // _EACH)))
        Program.of(self.runtime, self.file).launch(
            entry,
            buffers,
            uniforms,
            groups=-(-rows // (self.threads // lanes)),
            trips=passes * (-(-columns // lanes) + lanes.bit_length()),
            constants={"THREADS": self.threads, "LANES": lanes, **(constants or {})},
            head=head,
        )
