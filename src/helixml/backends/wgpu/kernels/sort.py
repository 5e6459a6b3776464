"""The order that sorts lines, and where values belong in a sorted line; see sort.wgsl."""

from __future__ import annotations

from helixml import dtypes
from helixml.backends.wgpu.arrays import DTYPES, WgpuArray
from helixml.backends.wgpu.kernels.copies import dense
from helixml.backends.wgpu.kernels.maps import CLASSES, includes
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime
from helixml.dtypes import DType
from helixml.errors import DTypeError

__all__ = ["argsort", "searchsorted"]

_GROUP = 256

# Whether x is before y; every nan is behind all numbers.
_BEFORE = {
    "f": "x < y || (is_nan(y) && !is_nan(x))",
    **dict.fromkeys("iu", "x < y"),
    "s": "wide_less_s(x, y)",
    "w": "wide_less_u(x, y)",
}


def argsort(runtime: Runtime, x: WgpuArray, axis: int, *, entries: int | None = None) -> WgpuArray:
    """Return the order that sorts ``x`` along an axis, as int64; equals keep theirs.

    With ``entries`` negative numbers are indices from the end of so many.
    """
    length = x.shape[axis]
    rank = len(x.shape)
    last = [a for a in range(rank) if a != axis] + [axis]
    lines = x.view([x.shape[a] for a in last], [x.strides[a] for a in last])
    keys = dense(runtime, lines)
    order = runtime.empty(keys.shape, dtypes.int64)
    if order.size:
        head = _head(x.dtype, entries is not None)
        run = 1
        while run < length or run == 1:
            merged = runtime.empty(keys.shape, dtypes.int64)
            Program.of(runtime, "sort.wgsl").launch(
                "merge",
                [keys.storage, order.storage, merged.storage],
                {"size": keys.size, "length": length, "run": run, "entries": entries or 0},
                groups=-(-keys.size // _GROUP),
                trips=33,
                head=head,
            )
            order, run = merged, 2 * run
    back = [last.index(a) for a in range(rank)]
    return order.view([order.shape[a] for a in back], [order.strides[a] for a in back])


def searchsorted(runtime: Runtime, x: WgpuArray, values: WgpuArray, side: str) -> WgpuArray:
    """Return where values belong in a sorted line, before or behind their equals, as int64."""
    made = runtime.empty(values.shape, dtypes.int64)
    if made.size:
        x, values = dense(runtime, x), dense(runtime, values)
        Program.of(runtime, "sort.wgsl").launch(
            "search",
            [x.storage, values.storage, made.storage],
            {"size": values.size, "entries": x.size},
            groups=-(-values.size // _GROUP),
            trips=33,
            constants={"RIGHT": int(side == "right")},
            head=_head(x.dtype, False),
        )
    return made


def _head(dtype: DType, from_end: bool) -> str:
    """Return what sort.wgsl leaves to be said."""
    kind = CLASSES[dtype]
    before = _BEFORE.get(kind)
    if before is None:
        raise DTypeError(f"argsort: takes no {dtype} on WebGPU. Hint: sort parts one by one.")
    body = "return keys[place];"
    if from_end and kind in "is":  # what is negative counts from the end
        moved = {
            "i": "key + i32(p.entries)",
            "s": "wide_add(key, Wide(p.entries, 0u))",
        }[kind]
        test = {"i": "key < 0", "s": "wide_is_negative(key)"}[kind]
        body = f"let key = keys[place]; if {test} {{ return {moved}; }} return key;"
    return "\n".join(
        [
            includes(f"{before} {body}"),
            f"alias X = {DTYPES[dtype][1]};",
            f"fn before(x: X, y: X) -> bool {{ return {before}; }}",
            f"fn key_at(place: u32) -> X {{ {body} }}",
        ]
    )
