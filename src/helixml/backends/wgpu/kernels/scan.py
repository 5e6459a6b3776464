"""Running sums along an axis; see scan.wgsl. Recurrences with factors are `linear_scan`'s."""

from __future__ import annotations

from math import prod

from helixml import dtypes
from helixml.backends.wgpu.arrays import DTYPES, WgpuArray
from helixml.backends.wgpu.kernels.copies import copy_into, dense
from helixml.backends.wgpu.kernels.maps import binary, conversion, expression, includes
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime
from helixml.dtypes import DType

__all__ = ["cumulative_sum"]

_GROUP = 256
_LONGEST = 1 << 20  # elements of a line in one dispatch


def cumulative_sum(runtime: Runtime, x: WgpuArray, axis: int) -> WgpuArray:
    """Return running sums along an axis; booleans and integers add up in 64 bits."""
    order = [a for a in range(len(x.shape)) if a != axis] + [axis]
    lines = x.view([x.shape[a] for a in order], [x.strides[a] for a in order])
    made = _summed(runtime, lines, dtypes.summed(x.dtype))
    back = [order.index(a) for a in range(len(order))]
    return made.view([made.shape[a] for a in back], [made.strides[a] for a in back])


def _summed(runtime: Runtime, lines: WgpuArray, dtype: DType) -> WgpuArray:
    """Return running sums of lines; those of long ones piece by piece."""
    length = lines.shape[-1]
    made = runtime.empty(lines.shape, dtype)
    if length <= _LONGEST:
        count = prod(lines.shape[:-1])
        Program.of(runtime, "scan.wgsl").launch(
            "running",
            [dense(runtime, lines), made],
            {"lines": count, "length": length},
            groups=count if length else 0,
            trips=9 * -(-length // _GROUP),
            head=_head(lines.dtype, dtype),
        )
        return made
    carried = None
    for first in range(0, length, _LONGEST):
        last = min(first + _LONGEST, length)
        sums = _summed(runtime, _part(lines, first, last), dtype)
        if carried is not None:
            sums = binary(runtime, "add", sums, carried)
        carried = _part(sums, last - first - 1, last - first)
        copy_into(runtime, _part(made, first, last), sums)
    return made


def _part(x: WgpuArray, first: int, last: int) -> WgpuArray:
    """Return a part of lines, along the last axis."""
    return x.view((*x.shape[:-1], last - first), x.strides, x.offset + first * x.strides[-1])


def _head(source: DType, dtype: DType) -> str:
    """Return what scan.wgsl leaves to be said."""
    loaded, add = conversion(source, dtype), expression("add", 2, dtype)
    return "\n".join(
        [
            includes(f"{loaded} {add}"),
            f"alias X = {DTYPES[source][1]};",
            f"alias T = {DTYPES[dtype][1]};",
            f"fn loaded(x: X) -> T {{ return {loaded}; }}",
            f"fn add(x: T, y: T) -> T {{ return {add}; }}",
        ]
    )
