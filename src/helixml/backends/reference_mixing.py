"""Reference kernels of sums of exponentials, and of a scan and attention side by side.

The former go term by term and step by step, as slow and obvious as `reference`, whose conventions
they share; the latter put together the reference kernels of their parts, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helixml.backends.reference import (
    Array,
    Forward,
    Optional,
    cotangent,
    rms_norm,
    rms_norm_vjp,
    selective_scan,
    selective_scan_vjp,
    wanted,
    wide,
    zeros,
)
from helixml.backends.reference_attention import attention, attention_vjp

# Sums of exponentials, y_t = Re sum_n w_n e^(s_n t)


def number(pairs: Array, index: tuple[int, ...]) -> complex:
    """Return the complex number of a pair."""
    return complex(float(pairs[(*index, 0)]), float(pairs[(*index, 1)]))


def exponential_sum(weights: Array, exponents: Array, *, length: int) -> Forward:
    """Return y; no residual."""
    y = np.zeros((*weights.shape[:-2], length))
    for index in np.ndindex(weights.shape[:-1]):
        w, s = number(weights, index), number(exponents, index[-2:])
        for t in range(length):
            y[(*index[:-1], t)] += (w * np.exp(s * t)).real
    return (y.astype(weights.dtype),), ()


def exponential_sum_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    length: int,
) -> tuple[Optional, ...]:
    """Return the gradients of both: dy_t/dw = e^(s t), dy_t/ds = t w e^(s t), conjugated."""
    weights, exponents = inputs
    assert weights is not None and exponents is not None
    g = cotangent(cotangents[0], (*weights.shape[:-2], length))
    gw, gs = zeros(weights), zeros(exponents)
    for index in np.ndindex(weights.shape[:-1]):
        w, s = number(weights, index), number(exponents, index[-2:])
        for t in range(length):
            pulled = float(g[(*index[:-1], t)]) * np.exp(s * t)
            gw[index] += pulled.real, -pulled.imag
            gs[index[-2:]] += (t * w * pulled).real, -(t * w * pulled).imag
    return wanted([gw, gs], needs, inputs)


# A scan and attention


def by_heads(x: Array, width: int) -> Array:
    """Return (b, h, l, width) of (b, l, h width)."""
    b, length, channels = x.shape
    return x.reshape(b, length, channels // width, width).swapaxes(1, 2)


def side_by_side(x: Array) -> Array:
    """Undo `by_heads`."""
    b, heads, length, width = x.shape
    return x.swapaxes(1, 2).reshape(b, length, heads * width)


def ends(e: int, n: int, keys: int) -> list[int]:
    """Return where u, delta, B, C, q and k end among the rows; v is the rest."""
    found: list[int] = np.cumsum([e, e, n, n, e, keys]).tolist()
    return found


def scan_attention(
    x: Array,
    norm_weight: Array,
    in_weight: Array,
    A: Array,
    out_weight: Array,
    D: Optional,
    delta_bias: Optional,
    *,
    heads: int,
    key_heads: int | None,
    window: int | None,
    eps: float,
) -> Forward:
    """Return y; residuals are what the parts kept, and what they gave."""
    (e, n), width = A.shape, A.shape[0] // heads
    (normal,), kept = rms_norm(wide(x), wide(norm_weight), None, eps=eps)
    rows = normal @ wide(in_weight).T
    cuts = ends(e, n, (key_heads or heads) * width)
    u, delta, B, C, q, k, v = np.split(rows, cuts, axis=2)
    u, delta, B, C = (part.swapaxes(1, 2) for part in (u, delta, B, C))
    (scanned,), states = selective_scan(
        u, delta, wide(A), B, C, D, None, delta_bias, None,
        delta_softplus=True, return_last_state=False,
    )  # fmt: skip
    band: dict[str, Any] = {"causal": True, "window": window, "scale": None, "offset": 0}
    q, k, v = (by_heads(part, width) for part in (q, k, v))
    (seen,), weights = attention(q, k, v, None, None, **band)
    total = scanned.swapaxes(1, 2) + side_by_side(seen)
    y = total @ wide(out_weight).T
    return (y.astype(x.dtype),), (*kept, normal, u, delta, B, C, *states, q, k, v, *weights, total)


def scan_attention_vjp(
    cotangents: Sequence[Optional],
    needs: Sequence[bool],
    inputs: Sequence[Optional],
    residuals: Sequence[Array],
    *,
    heads: int,
    key_heads: int | None,
    window: int | None,
    eps: float,
) -> tuple[Optional, ...]:
    """Return the gradients of all seven: the sum's goes to both, their parts' come together."""
    x, norm_weight, in_weight, A, out_weight, D, delta_bias = inputs
    kept, normal, u, delta, B, C, states, q, k, v, weights, total = residuals
    assert x is not None and norm_weight is not None and in_weight is not None
    assert A is not None and out_weight is not None
    g = cotangent(cotangents[0], (*x.shape[:2], len(out_weight)))
    g_total = g @ wide(out_weight)
    scan_inputs = [u, delta, wide(A), B, C, D, None, delta_bias, None]
    there = [each is not None for each in scan_inputs]
    gu, gdelta, gA, gB, gC, gD, _, gbias, _ = selective_scan_vjp(
        (g_total.swapaxes(1, 2),), there, scan_inputs, (states,),
        delta_softplus=True, return_last_state=False,
    )  # fmt: skip
    band: dict[str, Any] = {"causal": True, "window": window, "scale": None, "offset": 0}
    pulled = attention_vjp(
        (by_heads(g_total, A.shape[0] // heads),),
        [True] * 3 + [False] * 2,
        [q, k, v, None, None],
        (weights,),
        **band,
    )
    of_scan = [part.swapaxes(1, 2) for part in (gu, gdelta, gB, gC) if part is not None]
    of_attention = [side_by_side(part) for part in pulled[:3] if part is not None]
    g_rows = np.concatenate([*of_scan, *of_attention], axis=2)
    gx, gnorm, _ = rms_norm_vjp(
        (g_rows @ wide(in_weight),),
        [True, True, False],
        [wide(x), wide(norm_weight), None],
        (kept,),
        eps=eps,
    )
    gin = np.einsum("blr,bld->rd", g_rows, normal)
    gout = np.einsum("blo,ble->oe", g, total)
    return wanted([gx, gnorm, gin, gA, gout, gD, gbias], needs, inputs)


KERNELS: tuple[Callable[..., Any], ...] = (
    exponential_sum,
    exponential_sum_vjp,
    scan_attention,
    scan_attention_vjp,
)
