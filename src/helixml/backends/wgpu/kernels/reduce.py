"""Sums, products, extremes and truth along axes, and where an extreme stands; see reduce.wgsl.

Sums of many elements are formed part by part, in an order that follows from shapes only.
"""

from __future__ import annotations

from functools import cache
from math import prod

from helixml import dtypes
from helixml.backends.wgpu.arrays import DTYPES, WgpuArray, collapsed
from helixml.backends.wgpu.kernels.copies import RANK, dense, wrapped
from helixml.backends.wgpu.kernels.maps import CLASSES, conversion, includes
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime
from helixml.dtypes import DType
from helixml.errors import DTypeError

__all__ = ["argreduce", "reduce"]

_GROUP = 256
_ROW_PART = 16384  # elements that one workgroup joins
_COLUMN_PART = 512  # elements that one invocation joins

# For each class of dtypes how two values of `A` are joined, and what changes nothing.
_JOINS: dict[str, dict[str, tuple[str, str]]] = {
    "sum": {
        **{"f": ("x + y", "0.0"), "c": ("x + y", "Complex(0.0, 0.0)")},
        **dict.fromkeys("sw", ("wide_add(x, y)", "Wide(0u, 0u)")),
    },
    "prod": {
        **{"f": ("x * y", "1.0"), "c": ("c_multiply(x, y)", "Complex(1.0, 0.0)")},
        **dict.fromkeys("sw", ("wide_multiply(x, y)", "Wide(1u, 0u)")),
    },
    "max": {
        "f": ("larger(x, y)", "-infinity()"),
        **{"i": ("max(x, y)", "bitcast<i32>(0x80000000u)"), "u": ("max(x, y)", "0u")},
        "s": ("wide_select(x, y, wide_less_s(x, y))", "Wide(0u, 0x80000000u)"),
        "w": ("wide_select(x, y, wide_less_u(x, y))", "Wide(0u, 0u)"),
    },
    "min": {
        "f": ("smaller(x, y)", "infinity()"),
        **{"i": ("min(x, y)", "0x7fffffffi"), "u": ("min(x, y)", "0xffffffffu")},
        "s": ("wide_select(y, x, wide_less_s(x, y))", "Wide(0xffffffffu, 0x7fffffffu)"),
        "w": ("wide_select(y, x, wide_less_u(x, y))", "Wide(0xffffffffu, 0xffffffffu)"),
    },
    "any": {"u": ("x | y", "0u")},
    "all": {"u": ("x & y", "1u")},
}


def reduce(
    runtime: Runtime, name: str, x: WgpuArray, axis: tuple[int, ...], keepdims: bool, dtype: DType
) -> WgpuArray:
    """Return elements joined along axes, one at least, in ``dtype``.

    Parameters
    ----------
    name : "sum", "prod", "max", "min", "any" or "all".
    """
    rank = len(x.shape)
    kept = [a for a in range(rank) if a not in axis]
    shape = tuple(1 if a in axis else n for a, n in enumerate(x.shape))
    if not keepdims:
        shape = tuple(x.shape[a] for a in kept)
    made = runtime.empty(shape, dtype)
    if not made.size:
        return made
    outer, (outer_steps,) = collapsed(
        tuple(x.shape[a] for a in kept), tuple(x.strides[a] for a in kept)
    )
    inner, (inner_steps,) = collapsed(
        tuple(x.shape[a] for a in axis), tuple(x.strides[a] for a in axis)
    )
    if len(outer) > RANK or len(inner) > RANK:
        moved = x.view([x.shape[a] for a in (*kept, *axis)], [x.strides[a] for a in (*kept, *axis)])
        whole = dense(runtime, moved).view((made.size, prod(inner)), (prod(inner), 1))
        return reduce(runtime, name, whole, (1,), False, dtype).view(shape, made.strides)
    count, entries = made.size, prod(inner)
    # Neighbouring results in neighbouring elements: better one invocation each.
    by_columns = count >= 64 and (abs(outer_steps[-1]) < abs(inner_steps[-1]) or entries <= 32)
    part = min(entries, _COLUMN_PART if by_columns else _ROW_PART)
    parts = -(-entries // part) if entries else 1
    partial = made if parts == 1 else runtime.empty((count, parts), dtype)
    Program.of(runtime, "reduce.wgsl").launch(
        "columns" if by_columns else "rows",
        [x.storage, partial.storage],
        {
            "outer": count,
            "outer_rank": len(outer),
            "inner": entries,
            "inner_rank": len(inner),
            "part": part,
            "parts": parts,
            "start": x.offset,
            "outer_shape": outer,
            "outer_steps": wrapped(outer_steps),
            "inner_shape": inner,
            "inner_steps": wrapped(inner_steps),
        },
        groups=-(-count * parts // _GROUP) if by_columns else count * parts,
        trips=len(outer)
        + (part if by_columns else -(-part // _GROUP)) * (1 + (len(inner) > 1) * len(inner))
        + 8,
        head=_head(name, x.dtype, dtype),
    )
    if parts == 1:
        return made
    return reduce(runtime, name, partial, (1,), False, dtype).view(shape, made.strides)


@cache
def _head(name: str, source: DType, dtype: DType) -> str:
    """Return what reduce.wgsl leaves to be said."""
    found = _JOINS[name].get(CLASSES[dtype])
    if found is None:
        raise DTypeError(f"{name}: takes no {source} on WebGPU. Hint: cast with astype().")
    join, identity = found
    load = conversion(source, dtype)
    kind = DTYPES[dtype][1]
    return "\n".join(
        [
            includes(f"{load} {join} {identity}"),
            f"alias X = {DTYPES[source][1]};",
            f"alias A = {kind};",
            f"alias R = {kind};",
            f"fn load(x: X) -> A {{ return {load}; }}",
            f"fn join(x: A, y: A) -> A {{ return {join}; }}",
            f"fn identity() -> A {{ return {identity}; }}",
            "fn store(x: A) -> R { return x; }",
        ]
    )


# Whether x stands before y where the largest, or the smallest, is looked for.
_BEFORE: dict[str, dict[str, str]] = {
    "argmax": {
        "f": "x > y || (is_nan(x) && !is_nan(y))",
        **dict.fromkeys("iu", "x > y"),
        **{"s": "wide_less_s(y, x)", "w": "wide_less_u(y, x)"},
    },
    "argmin": {
        "f": "x < y || (is_nan(x) && !is_nan(y))",
        **dict.fromkeys("iu", "x < y"),
        **{"s": "wide_less_s(x, y)", "w": "wide_less_u(x, y)"},
    },
}


def argreduce(runtime: Runtime, name: str, x: WgpuArray, axis: int, keepdims: bool) -> WgpuArray:
    """Return where along an axis the first largest or smallest value stands; a nan is either."""
    entries = x.shape[axis]
    shape = (*x.shape[:axis], *([1] if keepdims else []), *x.shape[axis + 1 :])
    made = runtime.empty(shape, dtypes.int64)
    if not made.size:
        return made
    before = _BEFORE[name].get(CLASSES[x.dtype])
    if before is None:
        raise DTypeError(f"{name}: takes no {x.dtype} on WebGPU. Hint: real(x) or abs(x).")
    x = dense(runtime, x)
    inner = prod(x.shape[axis + 1 :])
    kind = DTYPES[x.dtype][1]
    Program.of(runtime, "argreduce.wgsl").launch(
        "argreduce",
        [x, made],
        {"count": made.size, "entries": entries, "inner": inner},
        groups=made.size,
        trips=-(-entries // _GROUP) + 8,
        head=f"{includes(before)}alias X = {kind};\n"
        f"fn before(x: X, y: X) -> bool {{ return {before}; }}",
    )
    return made
