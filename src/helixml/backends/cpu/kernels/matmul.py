"""Matrix products on raw arrays; the kernel is gemm.c.

`matmul` takes what `np.matmul` takes and leaves to it what is small or not float32 or float64.
Here vectors become matrices, stacks of matrices are taken apart, and a product is cut into
items that threads share. Which function does the work, and how it is cut, depends on dtypes, shapes
and strides only.
"""

from __future__ import annotations

import math

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels.layout import Array
from helixml.backends.cpu.threads import parallel_for

# In multiplications. NumPy's BLAS wakes no threads of its own below these sizes: threads that
# would go on spinning, and slow ours down.
SMALL = 1 << 17
SMALL_WITH_VECTOR = 1 << 13

SHARED_WORK = 1 << 21  # multiplications that are worth waking a thread
SHARED_PACKING = 1 << 18  # entries, likewise

# Items: few enough rows to pack A into half of an L2 cache of 512 KiB; then about so many, so
# that threads end together.
MOST_ROWS, FEWEST_ROWS = 96, 24
FEWEST_COLUMNS = 128
ITEMS = 16


def matmul(x: Array, y: Array) -> Array:
    """Return x @ y, with the shapes and broadcasting of `np.matmul`, in C order.

    Parameters
    ----------
    x : (..., m, k) or (k,), any dtypes and strides.
    y : (..., k, n) or (k,).
    """
    if not (_is_suited(x) and _is_suited(y)) or x.dtype != y.dtype:
        return np.matmul(x, y)
    a = x if x.ndim > 1 else x[None]  # (..., m, k)
    b = y if y.ndim > 1 else y[:, None]  # (..., k, n)
    rows, steps, columns = *a.shape[-2:], b.shape[-1]
    small = SMALL if min(rows, columns) > 1 else SMALL_WITH_VECTOR
    if b.shape[-2] != steps or rows * steps * columns < small:
        return np.matmul(x, y)
    if b.ndim == 2:
        c = np.empty((*a.shape[:-1], columns), a.dtype)
        _multiply(a.reshape(-1, steps), b, c.reshape(-1, columns))
    else:
        c = _stack_of_products(a, b)
    if x.ndim == 1:
        c = c[..., 0, :]
    return c if y.ndim > 1 else c[..., 0]


def _is_suited(x: Array) -> bool:
    return (
        x.dtype.char in "fd"
        and x.ndim > 0
        and x.flags.aligned
        and x.dtype.isnative
        and all(stride % x.itemsize == 0 for stride in x.strides)
    )


def _stack_of_products(a: Array, b: Array) -> Array:
    """Return a @ b, (..., m, n), where both are at least 2-d; stacks broadcast."""
    stack = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a = np.broadcast_to(a, stack + a.shape[-2:])
    b = np.broadcast_to(b, stack + b.shape[-2:])
    c = np.empty((*stack, a.shape[-2], b.shape[-1]), a.dtype)
    places = list(np.ndindex(stack))

    def one(i: int) -> None:
        _multiply(a[places[i]], b[places[i]], c[places[i]])

    if len(places) >= ITEMS:
        parallel_for(one, len(places))
    else:
        for i in range(len(places)):
            one(i)
    return c


def _multiply(a: Array, b: Array, c: Array) -> None:
    """Write a @ b to c, a (m, k), b (k, n), c (m, n) in C order."""
    (rows, steps), columns = a.shape, b.shape[1]
    if rows < columns and b.strides[0] == b.itemsize:  # b is not packed if it is on the left
        product = np.empty((columns, rows), c.dtype)
        _multiply(b.T, a.T, product)
        c[...] = product.T
        return
    width = _round_up(columns, _kernels.GEMM_COLUMNS)
    packed = np.empty(steps * width, a.dtype)
    item_rows = min(max(_round_up(rows // ITEMS, _kernels.GEMM_ROWS), FEWEST_ROWS), MOST_ROWS)
    row_items = math.ceil(rows / item_rows)
    column_items = min(math.ceil(ITEMS / row_items), math.ceil(columns / FEWEST_COLUMNS))
    item_columns = _round_up(math.ceil(columns / column_items), _kernels.GEMM_COLUMNS)
    column_items = math.ceil(columns / item_columns)
    gemm = _kernels.Gemm(a, b, packed, c, item_rows, item_columns)
    packs = math.ceil(steps / _kernels.GEMM_STEPS)
    if packed.size < SHARED_PACKING:
        gemm.pack(0, packs)
    else:
        parallel_for(lambda i: gemm.pack(i, i + 1), packs)
    if rows * steps * columns < SHARED_WORK:
        gemm.multiply(0, row_items * column_items)
    else:
        parallel_for(lambda i: gemm.multiply(i, i + 1), row_items * column_items)


def _round_up(size: int, unit: int) -> int:
    return math.ceil(size / unit) * unit
