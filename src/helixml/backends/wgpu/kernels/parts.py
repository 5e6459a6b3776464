"""Sums of partial results, in a fixed order; the kernel is parts.wgsl."""

from __future__ import annotations

from math import prod

from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.rows import Family

__all__ = ["Parts"]

_RUN = 32  # as in parts.wgsl


class Parts(Family):
    """Sums along an axis."""

    file = "parts.wgsl"

    def total(self, parts: WgpuArray, axis: int) -> WgpuArray:
        """Return the sum of a dense array along ``axis``, which is not empty."""
        shape = (*parts.shape[:axis], *parts.shape[axis + 1 :])
        outer, count, inner = prod(shape[:axis]), parts.shape[axis], prod(shape[axis:])
        while True:
            runs = -(-count // _RUN)
            total = self.runtime.empty(shape if runs == 1 else (outer, runs, inner), parts.dtype)
            sizes = {"outer": outer, "count": count, "inner": inner}
            self.each("sum_runs", [parts, total], sizes, total.size, trips=_RUN)
            if runs == 1:
                return total
            parts, count = total, runs
