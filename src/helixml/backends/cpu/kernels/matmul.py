"""Matrix products on raw arrays; the kernel is gemm.c.

`matmul` takes what `np.matmul` takes and leaves to it what is small or not float32 or float64.
Here vectors become matrices, stacks of matrices are taken apart, and a product is cut into
items that threads share. Which function does the work, and how it is cut, depends on dtypes, shapes
and strides only.
"""

from __future__ import annotations

import math
from collections.abc import Callable

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

# Items of at least ITEMS, so that threads end together, in units of GEMM_ROWS and GEMM_COLUMNS:
# few enough rows for A to be packed into an L2 cache, not too few for what packing costs.
ITEMS = 8
MOST_ROWS, FEW_ROWS, FEW_COLUMNS = 8, 2, 4

MOST_PACKED = 1 << 21  # bytes of B packed before they are used, to find them in a cache


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
    row_units = math.ceil(rows / _kernels.GEMM_ROWS)
    column_units = math.ceil(columns / _kernels.GEMM_COLUMNS)
    row_items = max(math.ceil(row_units / MOST_ROWS), min(ITEMS, math.ceil(row_units / FEW_ROWS)))
    column_items = min(math.ceil(ITEMS / row_items), math.ceil(column_units / FEW_COLUMNS))

    width = column_units * _kernels.GEMM_COLUMNS
    depth = max(MOST_PACKED // (width * c.itemsize) // _kernels.GEMM_DEPTH, 1) * _kernels.GEMM_DEPTH
    packed = np.empty(min(steps, depth) * width, c.dtype)
    for start in range(0, steps, depth):
        part = slice(start, min(start + depth, steps))
        gemm = _kernels.Gemm(a[:, part], b[part], packed, c, start > 0, row_items, column_items)
        packs = math.ceil((part.stop - start) / _kernels.GEMM_STEPS)
        _share(gemm.pack, packs, columns * (part.stop - start) >= SHARED_PACKING)
        _share(gemm.multiply, row_items * column_items, rows * columns * (part.stop - start) >= SHARED_WORK)


def _share(run: Callable[[int, int], None], items: int, worth: bool) -> None:
    """Call run(first, last) for all items: at once, or on several threads if it is worth it."""
    if worth:
        parallel_for(lambda i: run(i, i + 1), items)
    else:
        run(0, items)
