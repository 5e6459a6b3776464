"""Root-mean-square normalisation on raw arrays; the kernel is norm.c."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, rows, share

# The gradient of the weight is summed over rows in at most so many parts, then over the parts.
MOST_PARTS = 16
FEWEST_ROWS = 16


def rms_norm(
    x: Array, weight: Array, residual: Array | None = None, *, eps: float = 1e-6
) -> tuple[tuple[Array, ...], tuple[Array]]:
    """Return s / sqrt(mean(s**2) + eps) * weight over the last axis, where s = x + residual.

    Parameters
    ----------
    x, residual : (..., d), float32 or float64, any strides; the residual may be None.
    weight : (d,).

    Returns
    -------
    outputs : y (..., d); with a residual also s (..., d).
    residuals : 1 / sqrt(mean(s**2) + eps), (rows,).
    """
    y = empty(x.shape, x.dtype)
    total = None if residual is None else empty(x.shape, x.dtype)
    scale = empty((x.size // x.shape[-1],), x.dtype)
    norm, items = _norm(x, weight, residual, eps, y, total, scale)
    share(norm.forward, items, x.size)
    return ((y,) if total is None else (y, total)), (scale,)


def rms_norm_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    eps: float = 1e-6,
) -> tuple[Array | None, ...]:
    """Return the gradients of x, weight and residual, None where not needed.

    Parameters
    ----------
    cotangents : of y and, with a residual, of s; either may be None.
    """
    x, weight, residual = inputs
    assert x is not None and weight is not None
    (scale,) = residuals
    norm, items = _norm(x, weight, residual, eps, None, None, scale)
    g, g_total = cotangents[0], cotangents[1] if residual is not None else None
    if g is None:
        g = np.broadcast_to(np.zeros(x.shape[-1], x.dtype), x.shape)
    dx = empty(x.shape, x.dtype)
    dweight = np.zeros((items, x.shape[-1]), x.dtype)
    norm.set_gradients(_table(g), None if g_total is None else _table(g_total), _table(dx), dweight)
    share(norm.backward, items, x.size)
    return (
        dx if needs[0] else None,
        dweight.sum(axis=0) if needs[1] else None,
        # Each input gets memory of its own: gradients may be added to in place.
        (dx.copy() if needs[0] else dx) if needs[2] and residual is not None else None,
    )


def _table(x: Array) -> Array:
    """Return x as (rows, d) with contiguous rows."""
    return rows(x.reshape(-1, x.shape[-1]))


def _norm(
    x: Array,
    weight: Array,
    residual: Array | None,
    eps: float,
    y: Array | None,
    total: Array | None,
    scale: Array,
) -> tuple[_kernels.Norm, int]:
    """Describe a normalisation to the kernel; return it and its number of items."""
    rows_in_item = max(FEWEST_ROWS, -(-scale.size // MOST_PARTS))
    norm = _kernels.Norm(
        rows_in_item,
        eps,
        _table(x),
        None if residual is None else _table(residual),
        np.ascontiguousarray(weight),
        None if y is None else _table(y),
        None if total is None else _table(total),
        scale,
    )
    return norm, -(-scale.size // rows_in_item)
