"""Products of stacks of matrices; see matmul.wgsl.

float32 in tiles, complex64 as four real products of the parts, which are views, integers entry by
entry.
"""

from __future__ import annotations

from functools import cache
from math import prod

from helixml import dtypes
from helixml.backends.wgpu.arrays import DTYPES, WgpuArray, collapsed, contiguous_strides
from helixml.backends.wgpu.kernels.copies import RANK, dense, wrapped
from helixml.backends.wgpu.kernels.maps import (
    binary,
    broadcast,
    expression,
    includes,
    map_views,
    stretched,
)
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime
from helixml.dtypes import DType
from helixml.errors import DTypeError

__all__ = ["matmul", "part"]

_GROUP = 256
_TILE = 64
_STACK = 32768  # products in one dispatch
_LONGEST = 32768  # terms that one invocation adds up in one dispatch
_DEPTH = 16


def matmul(runtime: Runtime, x: WgpuArray, y: WgpuArray) -> WgpuArray:
    """Return the matrix product, as NumPy has it; leading axes broadcast."""
    if x.dtype == dtypes.bool_:
        raise DTypeError("matmul: takes no booleans on WebGPU. Hint: cast with astype('int32').")
    row, column = len(x.shape) == 1, len(y.shape) == 1
    if row or column:
        x = x.view((1, *x.shape), (0, *x.strides)) if row else x
        y = y.view((*y.shape, 1), (*y.strides, 0)) if column else y
        made = matmul(runtime, x, y)
        kept = [n for n, gone in zip(made.shape[-2:], (row, column), strict=True) if not gone]
        shape = (*made.shape[:-2], *kept)
        return made.view(shape, contiguous_strides(shape))
    stack = broadcast("matmul", x.shape[:-2], y.shape[:-2])
    x = x.view((*stack, *x.shape[-2:]), stretched(x, (*stack, *x.shape[-2:])))
    y = y.view((*stack, *y.shape[-2:]), stretched(y, (*stack, *y.shape[-2:])))
    if x.dtype == dtypes.complex64:
        return _of_parts(runtime, x, y)
    k = x.shape[-1]
    if k > _LONGEST:  # the sum of two shorter products
        a, b = (_cut(x, -1, 0, _LONGEST), _cut(y, -2, 0, _LONGEST))
        c, d = (_cut(x, -1, _LONGEST, k), _cut(y, -2, _LONGEST, k))
        return binary(runtime, "add", matmul(runtime, a, b), matmul(runtime, c, d))
    made = runtime.empty((*stack, x.shape[-2], y.shape[-1]), x.dtype)
    if not made.size:
        return made
    if x.dtype == dtypes.float32:
        _tiles(runtime, x, y, made)
    else:
        _entries(runtime, x, y, made)
    return made


def part(x: WgpuArray, which: int) -> WgpuArray:
    """Return the real parts of complex numbers, or the imaginary ones, as a view."""
    strides = tuple(2 * step for step in x.strides)
    return WgpuArray(x.storage, x.shape, dtypes.float32, strides, 2 * x.offset + which)


def _of_parts(runtime: Runtime, x: WgpuArray, y: WgpuArray) -> WgpuArray:
    """Return (a + ib)(c + id) = (ac - bd) + i (ad + bc)."""
    a, b, c, d = part(x, 0), part(x, 1), part(y, 0), part(y, 1)
    real = binary(runtime, "subtract", matmul(runtime, a, c), matmul(runtime, b, d))
    imaginary = binary(runtime, "add", matmul(runtime, a, d), matmul(runtime, b, c))
    pair = "vec2<f32>(x, y)"
    return map_views(runtime, pair, [real, imaginary], real.shape, dtypes.complex64)


def _cut(x: WgpuArray, axis: int, first: int, last: int) -> WgpuArray:
    shape = list(x.shape)
    shape[axis] = last - first
    return x.view(shape, x.strides, x.offset + first * x.strides[axis])


def _tiles(runtime: Runtime, x: WgpuArray, y: WgpuArray, made: WgpuArray) -> None:
    """Launch the product of floats on views."""
    sizes, (x_steps, y_steps) = collapsed(made.shape[:-2], x.strides[:-2], y.strides[:-2])
    if len(sizes) > RANK:
        x, y = dense(runtime, x), dense(runtime, y)
        sizes, (x_steps, y_steps) = collapsed(made.shape[:-2], x.strides[:-2], y.strides[:-2])
    m, k, n = x.shape[-2], x.shape[-1], y.shape[-1]
    count = prod(sizes)
    for first in range(0, count, _STACK):
        Program.of(runtime, "matmul.wgsl").launch(
            "tiles",
            [x.storage, y.storage, made],
            {
                "m": m,
                "n": n,
                "k": k,
                "first": first,
                "a_start": x.offset,
                "b_start": y.offset,
                **dict(zip(("a_row", "a_column"), wrapped(x.strides[-2:]), strict=True)),
                **dict(zip(("b_row", "b_column"), wrapped(y.strides[-2:]), strict=True)),
                "rank": len(sizes),
                "gap": 0,
                "shape": sizes,
                "a_steps": wrapped(x_steps),
                "b_steps": wrapped(y_steps),
            },
            groups=(-(-n // _TILE), -(-m // _TILE), min(_STACK, count - first)),
            trips=len(sizes) + -(-k // _DEPTH) * (1 + _DEPTH),
            head="alias T = f32;",
        )


def _entries(runtime: Runtime, x: WgpuArray, y: WgpuArray, made: WgpuArray) -> None:
    """Launch the product of integers, on dense matrices."""
    x, y = dense(runtime, x), dense(runtime, y)
    Program.of(runtime, "matmul_integers.wgsl").launch(
        "entries",
        [x, y, made],
        {"size": made.size, "m": x.shape[-2], "n": y.shape[-1], "k": x.shape[-1]},
        groups=-(-made.size // _GROUP),
        trips=x.shape[-1],
        head=_head(x.dtype),
    )


@cache
def _head(dtype: DType) -> str:
    """Return what matmul_integers.wgsl leaves to be said."""
    add, multiply = expression("add", 2, dtype), expression("multiply", 2, dtype)
    return (
        f"{includes(add + multiply)}alias T = {DTYPES[dtype][1]};\n"
        f"fn add(x: T, y: T) -> T {{ return {add}; }}\n"
        f"fn multiply(x: T, y: T) -> T {{ return {multiply}; }}\n"
    )
