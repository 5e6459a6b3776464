"""Entries taken along an axis, and rows added up by target; see gather.wgsl.

Whoever calls this has checked that indices are in range.
"""

from __future__ import annotations

from math import prod

from helixml.backends.wgpu.arrays import DTYPES, WgpuArray
from helixml.backends.wgpu.kernels.copies import dense
from helixml.backends.wgpu.kernels.maps import expression, includes
from helixml.backends.wgpu.kernels.sort import argsort
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["scatter_add", "take"]

_GROUP = 256
_PIECE = 32768  # rows that one invocation may add up in one dispatch


def take(runtime: Runtime, x: WgpuArray, indices: WgpuArray, axis: int) -> WgpuArray:
    """Return the entries of ``x`` along ``axis`` at ``indices``, integers of any shape."""
    made = runtime.empty((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
    if not made.size:
        return made
    x, indices = dense(runtime, x), dense(runtime, indices)
    Program.of(runtime, "gather.wgsl").launch(
        "take",
        [x.storage, indices.storage, made.storage],
        {
            "size": made.size,
            "count": indices.size,
            "entries": x.shape[axis],
            "inner": prod(x.shape[axis + 1 :]),
            "first": 0,
            "last": 0,
        },
        groups=-(-made.size // _GROUP),
        constants={"WIDTH": indices.words},
        head=_head(x),
    )
    return made


def scatter_add(runtime: Runtime, rows: WgpuArray, targets: WgpuArray, size: int) -> WgpuArray:
    """Return zeros with each row added at its target, in the order of the rows.

    Parameters
    ----------
    rows : (count, width). targets : (count,), integers in [-size, size).

    Returns
    -------
    (size, width), of the dtype of ``rows``.
    """
    count, width = rows.shape
    made = runtime.empty((size, width), rows.dtype)
    if not made.size:
        return made
    rows, targets = dense(runtime, rows), dense(runtime, targets)
    order = argsort(runtime, targets, 0, entries=size)
    for first in range(0, max(count, 1), _PIECE):
        Program.of(runtime, "gather.wgsl").launch(
            "scatter",
            [rows.storage, targets.storage, made.storage, order.storage],
            {
                "size": made.size,
                "count": count,
                "entries": size,
                "inner": width,
                "first": first,
                "last": min(first + _PIECE, count),
            },
            groups=-(-made.size // _GROUP),
            trips=_PIECE + 64,
            constants={"WIDTH": targets.words},
            head=_head(rows),
        )
    return made


def _head(x: WgpuArray) -> str:
    kind = DTYPES[x.dtype][1]
    add = expression("add", 2, x.dtype)
    return (
        f"{includes(add)}alias X = {kind};\nfn zero() -> X {{ return X(); }}\n"
        f"fn add(x: X, y: X) -> X {{ return {add}; }}\n"
    )
