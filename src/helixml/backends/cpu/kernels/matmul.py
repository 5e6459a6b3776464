"""Matrix products on raw arrays; the kernel is gemm.c.

`matmul` takes what `np.matmul` takes and leaves to it what is small or not float32 or float64.
Here vectors become matrices, stacks of matrices are taken apart, and a product is cut into
items that threads share. Which function does the work, and how it is cut, depends on dtypes,
shapes and strides only; and, where the processor has AMX, on the precision that is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml import config
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array

# In multiplications; less is left to NumPy. Its BLAS wakes threads of its own from 2**18, and from
# about 2**13 if there is one row or column; they would spin on and slow ours down.
SMALL = 1 << 18
SMALL_WITH_VECTOR = 1 << 13

SHARED_WORK = 1 << 21  # multiplications from which on waking a thread pays
SHARED_PACKING = 1 << 18  # entries, likewise

# A product is cut into at least ITEMS items, so that threads end together, of whole units:
# rows few enough for their part of A to stay in an L2 cache of 512 KiB, but not fewer, and no
# fewer columns, than packing A is worth.
ITEMS = 8
MOST_ROW_UNITS, FEW_ROW_UNITS, FEW_COLUMN_UNITS = 8, 2, 4

FEW_ROWS = 8  # up to which packing b costs more than it saves
MOST_PACKED = 1 << 21  # bytes of B that are packed before they are used: in a cache till then


def matmul(x: Array, y: Array, *, of_bfloat16: bool = False) -> Array:
    """Return x @ y, with the shapes and broadcasting of `np.matmul`, in C order.

    Parameters
    ----------
    x : (..., m, k) or (k,), any dtype and strides.
    y : (..., k, n) or (k,).
    of_bfloat16 : whether bfloat16 can hold every element of both.
    """
    if x.ndim == y.ndim == 2 and _is_small(len(x), x.shape[1], y.shape[1]):
        return np.matmul(x, y)
    if x.dtype != y.dtype or not (_is_suited(x) and _is_suited(y)):
        return np.matmul(x, y)
    a = x if x.ndim > 1 else x[None]  # (..., m, k)
    b = y if y.ndim > 1 else y[:, None]  # (..., k, n)
    steps, columns = b.shape[-2:]
    if a.shape[-1] != steps:
        return np.matmul(x, y)  # raises
    rows = a.shape[-2] if b.ndim > 2 else a.size // max(steps, 1)
    if _is_small(rows, steps, columns):
        return np.matmul(x, y)
    if b.ndim > 2:
        return np.matmul(x, y) if min(rows, columns) == 1 else _stack_of_products(a, b)
    c = empty((rows, columns), a.dtype)
    multiply(a.reshape(rows, steps), b, c, of_bfloat16=of_bfloat16)
    return c.reshape(x.shape[:-1] + y.shape[1:])


def is_large(x: Array, y: Array) -> bool:
    """Say whether x @ y, for a matrix y and like dtypes, is not left to NumPy."""
    rows = x.size // max(len(y), 1)
    return min(rows, y.shape[1]) > 1 and rows * y.size >= SMALL and _is_suited(x) and _is_suited(y)


def _is_small(rows: int, steps: int, columns: int) -> bool:
    has_vector = rows == 1 or columns == 1
    return rows * steps * columns < (SMALL_WITH_VECTOR if has_vector else SMALL)


def _is_suited(x: Array) -> bool:
    return (
        x.dtype.char in "fd"
        and x.ndim > 0
        and x.dtype.isnative
        and x.flags.aligned
        and (x.flags.c_contiguous or all(stride % x.itemsize == 0 for stride in x.strides))
    )


def _stack_of_products(a: Array, b: Array) -> Array:
    """Return a @ b, (..., m, n), where a and b are at least 2-d and broadcast."""
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, stack + a.shape[-2:])
    b = np.broadcast_to(b, stack + b.shape[-2:])
    c = empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    count = math.prod(stack)
    flat = c.reshape(count, *c.shape[-2:])
    if count >= ITEMS and b.shape[-1] * b.shape[-2] * b.itemsize <= MOST_PACKED:
        # Each product then keeps to one thread.
        first = (0,) * len(stack)
        row_items = math.ceil(a.shape[-2] / (MOST_ROW_UNITS * _kernels.GEMM_ROWS))
        gemm = _kernels.Gemm(a[first], b[first], None, flat[0], row_items=row_items)
        work = c.size * a.shape[-1]
        grain = count if work < SHARED_WORK else 1
        gemm.multiply_stack(_offsets(a), _offsets(b), count, grain)
        return c
    places = np.ndindex(stack)
    for i, place in enumerate(places):
        multiply(a[place], b[place], flat[i])
    return c


def _offsets(x: Array) -> NDArray[np.int64]:
    """Return how many bytes each matrix of a stack lies behind the first."""
    offsets = np.zeros(x.shape[:-2], np.int64)
    sizes: tuple[int, ...] = offsets.shape
    for axis, size in enumerate(sizes):
        steps = np.arange(size) * x.strides[axis]
        offsets += steps.reshape([-1 if i == axis else 1 for i in range(offsets.ndim)])
    return offsets


def multiply(
    a: Array,
    b: Array,
    c: Array,
    *,
    bias: Array | None = None,
    activation: str | None = None,
    before: Array | None = None,
    of_bfloat16: bool = False,
) -> None:
    """Write activation(a @ b + bias) to c, a (m, k), b (k, n), c (m, n) in C order.

    Parameters
    ----------
    bias : (n,), contiguous, or None.
    activation : None, "gelu", "relu" or "silu".
    before : like c, where a @ b + bias is written as well; or None.
    of_bfloat16 : whether bfloat16 can hold every element of a and b.
    """
    (rows, steps), columns = a.shape, b.shape[1]
    finishes = bias is not None or activation is not None
    if columns == 1 and not finishes:
        a, b, c, rows, columns = b.T, a.T, c.T, 1, rows
    if rows <= FEW_ROWS:
        _multiply_few_rows(a, b, c, bias, activation, before)
        return

    row_units = math.ceil(rows / _kernels.GEMM_ROWS)
    column_units = math.ceil(columns / _kernels.GEMM_COLUMNS)
    row_items = min(ITEMS, math.ceil(row_units / FEW_ROW_UNITS))
    row_items = max(row_items, math.ceil(row_units / MOST_ROW_UNITS))
    column_items = min(math.ceil(ITEMS / row_items), math.ceil(column_units / FEW_COLUMN_UNITS))

    width = column_units * _kernels.GEMM_COLUMNS
    runs = max(1, MOST_PACKED // (_kernels.GEMM_DEPTH * width * c.itemsize))
    depth = min(steps, runs * _kernels.GEMM_DEPTH)
    tiles = _kernels.HAS_AMX and c.itemsize == 4 and (of_bfloat16 or config.is_precision_high())
    unit = _kernels.GEMM_STEPS  # in which tiles are packed
    packed = empty((math.ceil(depth / unit) * unit * width,), c.dtype)
    for start in range(0, steps, depth):
        here = slice(start, start + depth)
        left, right = a[:, here], b[here]
        gemm = _kernels.Gemm(left, right, packed, c, start > 0, row_items, column_items)
        if tiles:
            gemm.use_tiles(not of_bfloat16)
        if finishes and start + depth >= steps:
            gemm.finish(activation, bias, before)
        _share(gemm.pack, math.ceil(len(right) / _kernels.GEMM_STEPS), right.size, SHARED_PACKING)
        _share(gemm.run, row_items * column_items, rows * right.size, SHARED_WORK)


def _multiply_few_rows(
    a: Array, b: Array, c: Array, bias: Array | None, activation: str | None, before: Array | None
) -> None:
    """Write activation(a @ b + bias) to c as `multiply` does, without packing b."""
    if b.itemsize not in b.strides:
        b = np.ascontiguousarray(b)
    if b.strides[0] == b.itemsize:
        a = np.ascontiguousarray(a)
    gemm = _kernels.Gemm(a, b, None, c)
    if bias is not None or activation is not None:
        gemm.finish(activation, bias, before)
    items = math.ceil(c.shape[1] / _kernels.GEMM_FEW_COLUMNS)
    _share(gemm.multiply_few_rows, items, len(a) * b.size, SHARED_WORK)


def _share(run: Callable[[int, int], None], items: int, work: int, worth_sharing: int) -> None:
    """Call run(items, grain) so that threads share the items if that is worth it."""
    run(items, items if work < worth_sharing else 1)
