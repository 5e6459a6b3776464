"""Normalisation by root mean square, or by mean and variance, on raw arrays; see norm.c."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import (
    Array,
    contiguous,
    share,
    sum_of_parts,
    table,
    zeros,
)

# The gradient of the weight is summed over rows in at most so many parts, then over the parts.
MOST_PARTS = 16
FEWEST_ROWS = 16


def rms_norm(
    x: Array, weight: Array, residual: Array | None = None, *, eps: float = 1e-6
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Return s / sqrt(mean(s**2) + eps) * weight over the last axis, where s = x + residual.

    Parameters
    ----------
    x, residual : (..., d), float32 or float64, any strides; the residual may be None.
    weight : (d,).

    Returns
    -------
    outputs : y (..., d); with a residual also s (..., d).
    residuals : 1 / sqrt(mean(s**2) + eps), (rows,); s again.
    """
    outputs, scale = _forward(x, weight, None, residual, eps, None)
    return outputs, (scale, *outputs[1:])


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
    scale, *total = residuals
    dx, dweight, _ = _backward(cotangents, total[0] if total else x, weight, None, scale, eps)
    return (
        dx if needs[0] else None,
        sum_of_parts(dweight) if needs[1] else None,
        dx if needs[2] and residual is not None else None,
    )


def layer_norm(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    residual: Array | None = None,
    *,
    eps: float = 1e-5,
) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Return (s - mean(s)) / sqrt(var(s) + eps) * weight + bias over the last axis.

    Parameters
    ----------
    x, residual : (..., d), float32 or float64, any strides; s is their sum, or x alone.
    weight, bias : (d,); the bias may be None.

    Returns
    -------
    outputs : y (..., d); with a residual also s (..., d).
    residuals : mean(s) and 1 / sqrt(var(s) + eps), (rows,); s again.
    """
    mean = empty((x.size // x.shape[-1],), x.dtype)
    outputs, scale = _forward(x, weight, bias, residual, eps, mean)
    return outputs, (mean, scale, *outputs[1:])


def layer_norm_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    eps: float = 1e-5,
) -> tuple[Array | None, ...]:
    """Return the gradients of x, weight, bias and residual, None where not needed.

    Parameters
    ----------
    cotangents : of y and, with a residual, of s; either may be None.
    """
    x, weight, bias, residual = inputs
    mean, scale, *total = residuals
    dx, dweight, dbias = _backward(cotangents, total[0] if total else x, weight, mean, scale, eps)
    return (
        dx if needs[0] else None,
        sum_of_parts(dweight) if needs[1] else None,
        sum_of_parts(dbias) if needs[2] and bias is not None else None,
        dx if needs[3] and residual is not None else None,
    )


def _rows_in_item(count: int) -> int:
    return max(FEWEST_ROWS, -(-count // MOST_PARTS))


def _forward(
    x: Array,
    weight: Array,
    bias: Array | None,
    residual: Array | None,
    eps: float,
    mean: Array | None,
) -> tuple[tuple[Array, ...], Array]:
    """Write the means, where there is an array for them; return the outputs and the scales."""
    scale = empty((x.size // x.shape[-1],), x.dtype)
    y = empty(x.shape, x.dtype)
    total = None if residual is None else empty(x.shape, x.dtype)
    in_item = _rows_in_item(scale.size)
    norm = _kernels.Norm(in_item, eps, table(x), contiguous(weight), mean, scale)
    norm.set_outputs(
        None if bias is None else contiguous(bias),
        None if residual is None else table(residual),
        None if total is None else table(total),
        table(y),
    )
    share(norm.run, -(-scale.size // in_item), x.size)
    return (y,) if total is None else (y, total), scale


def _backward(
    cotangents: Sequence[Array | None],
    s: Array | None,
    weight: Array | None,
    mean: Array | None,
    scale: Array,
    eps: float,
) -> tuple[Array, Array, Array]:
    """Return the gradient of s and, item by item, those of weight and bias."""
    assert s is not None and weight is not None
    g, g_total = (*cotangents, None)[:2]
    if g is None:
        g = np.broadcast_to(np.zeros(s.shape[-1], s.dtype), s.shape)
    in_item = _rows_in_item(scale.size)
    items = -(-scale.size // in_item)
    dx = empty(s.shape, s.dtype)
    dweight, dbias = (zeros((items, s.shape[-1]), s.dtype) for _ in range(2))
    norm = _kernels.Norm(in_item, eps, table(s), contiguous(weight), mean, scale)
    norm.set_gradients(
        table(g),
        None if g_total is None else table(g_total),
        table(dx),
        dweight,
        None if mean is None else dbias,
    )
    share(norm.backward, items, s.size)
    return dx, dweight, dbias
