"""Attention on raw arrays; the kernel is attention.c, for (batch, heads, rows, width)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, rows, share

FEW_QUERIES = 4  # below, products of a few rows beat whole panels
LONGEST = 1 << 29  # positions count in 32 bits


def takes_heads(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is neither mask nor factors, and heads of queries come in groups."""
    q, k, v, mask, factors = inputs
    return (
        mask is None
        and factors is None
        and q.shape[:-3] == k.shape[:-3]
        and _heads(q) % max(1, _heads(k)) == 0
        and FEW_QUERIES <= q.shape[-2] < LONGEST
        and 0 < k.shape[-2] < LONGEST
        and q.size > 0
        and v.size > 0
    )


def attention(
    q: Array,
    k: Array,
    v: Array,
    mask: None = None,
    factors: None = None,
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    offset: int = 0,
) -> tuple[tuple[Array], tuple[Array, Array]]:
    """Return means of values, as `helixml.attention` explains them.

    Parameters
    ----------
    q : (..., h, l, d), k : (..., g, m, d), v : (..., g, m, e); float32 or float64, any strides.

    Returns
    -------
    outputs : y (..., h, l, e).
    residuals : y again; the logarithms of the sums that weights were divided by, (b, h, l).
    """
    shape = (*q.shape[:-1], v.shape[-1])
    q, k, v = _laid(q), _laid(k), _laid(v)
    b, h, l, _ = q.shape
    y = _like(q, v.shape[-1])
    log_sums = empty((b, h, l), q.dtype)
    band = _band(q, k, causal, window, offset)
    call = _kernels.Attention(*band, _scale(q, scale), q, k, v, y, log_sums)
    share(call.run, b * h * _runs(l), q.size * k.shape[2])
    y = y.reshape(shape)
    return (y,), (y, log_sums)


def attention_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
    *,
    causal: bool = False,
    window: int | None = None,
    scale: float | None = None,
    offset: int = 0,
) -> tuple[Array | None, ...]:
    """Return the gradients of q, k and v."""
    q, k, v, *_ = inputs
    (g,) = cotangents
    assert g is not None and q is not None and k is not None and v is not None
    shapes = q.shape, k.shape, v.shape
    y, log_sums = residuals
    q, k, v, y, g = _laid(q), _laid(k), _laid(v), _laid(y), _laid(g)
    b, h, l, d = q.shape
    dq, dk, dv = _like(q, d), _like(k, d), _like(v, v.shape[-1])
    means = empty((b, h, l), q.dtype)
    band = _band(q, k, causal, window, offset)
    call = _kernels.Attention(*band, _scale(q, scale), q, k, v, y, log_sums)
    call.set_gradients(g, dq, dk, dv, means)
    work = q.size * k.shape[2]
    share(call.pull_queries, b * h * _runs(l), work)
    if needs[1] or needs[2]:
        share(call.pull_keys, b * k.shape[1] * _runs(k.shape[2]), work)
    found = zip((dq, dk, dv), shapes, needs, strict=False)
    return *(x.reshape(shape) if need else None for x, shape, need in found), None, None


def _heads(x: Array) -> int:
    return x.shape[-3] if x.ndim > 2 else 1


def _laid(x: Array) -> Array:
    """Return x as (b, heads, rows, width), the last axis contiguous."""
    if x.ndim != 4:
        x = x.reshape(math.prod(x.shape[:-3]), *((1,) * (3 - x.ndim)), *x.shape[-3:])
    return rows(x)


def _like(x: Array, width: int) -> Array:
    """Return a new array (b, heads, rows, width) whose heads lie in memory as those of x."""
    b, heads, l, _ = x.shape
    if x.strides[1] < x.strides[2]:
        return np.swapaxes(empty((b, l, heads, width), x.dtype), 1, 2)
    array: Array = empty((b, heads, l, width), x.dtype)
    return array


def _band(q: Array, k: Array, causal: bool, window: int | None, offset: int) -> tuple[int, int]:
    """Return the first and the last key that a query at 0 sees, wherever keys begin and end."""
    far = q.shape[2] + k.shape[2]
    first = -far if window is None else offset - window + 1
    last = offset if causal else far if window is None else offset + window - 1
    return max(-far, min(first, far)), max(-far, min(last, far))


def _scale(q: Array, scale: float | None) -> float:
    return 1 / math.sqrt(q.shape[-1]) if scale is None else scale


def _runs(length: int) -> int:
    """Return how many items a head's rows make."""
    return -(-length // _kernels.ATTENTION_ROWS)
