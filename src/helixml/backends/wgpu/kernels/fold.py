"""Windows added up where they came from; see fold.wgsl."""

from __future__ import annotations

from math import prod

from helixml.backends.wgpu.arrays import DTYPES, WgpuArray
from helixml.backends.wgpu.kernels.copies import dense
from helixml.backends.wgpu.kernels.maps import expression, includes
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["fold"]

_GROUP = 256


def fold(
    runtime: Runtime, x: WgpuArray, length: int, step: int, axis: int, dilation: int
) -> WgpuArray:
    """Return windows added up in zeros, ``length`` along ``axis``; entries are the last axis."""
    made = runtime.empty((*x.shape[:axis], length, *x.shape[axis + 1 : -1]), x.dtype)
    add = expression("add", 2, x.dtype)
    Program.of(runtime, "fold.wgsl").launch(
        "fold",
        [dense(runtime, x), made],
        {
            "size": made.size,
            "length": length,
            "windows": x.shape[axis],
            "inner": prod(x.shape[axis + 1 : -1]),
            "window": x.shape[-1],
            "step": step,
            "dilation": dilation,
        },
        groups=-(-made.size // _GROUP),
        trips=x.shape[-1],
        head=f"{includes(add)}alias X = {DTYPES[x.dtype][1]};\n"
        f"fn add(x: X, y: X) -> X {{ return {add}; }}",
    )
    return made
