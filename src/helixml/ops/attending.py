"""Attention: weighted means of values, the weights a softmax of products of queries and keys.

A fused op, as those of `fused`: the body is the definition. Projections, rotations of positions and
caches are layers, in `helixml.nn`.
"""

from __future__ import annotations

import math

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import fused
from helixml._core.samples import Failure, blank, booleans, floats, matrix, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.categorical import softmax
from helixml.ops.creation import arange
from helixml.ops.elementwise import where
from helixml.ops.logic import logical_and
from helixml.ops.movement import expand_dims, reshape


def _attention_oracle(
    q, k, v, mask=None, factors=None, causal=False, window=None, scale=None, offset=0
):
    rank = max(q.ndim, k.ndim)
    q, k, v = (x.reshape((1,) * (3 - x.ndim) + x.shape) for x in (q, k, v))
    (h, l, d), (g, m, _) = q.shape[-3:], k.shape[-3:]
    scale = 1 / np.sqrt(d) if scale is None else scale
    full = (*np.broadcast_shapes(q.shape[:-3], k.shape[:-3]), max(h, g), l)
    bias = np.zeros(m) if mask is None else mask
    bias = np.where(bias, 0.0, -np.inf) if bias.dtype == bool else bias
    bias = np.broadcast_to(bias, (*full, m))
    factors = np.broadcast_to(1.0 if factors is None else factors, (*full, m))
    q = np.broadcast_to(q, (*full, d))
    k, v = (np.broadcast_to(x, (*full[:-2], *x.shape[-3:])) for x in (k, v))
    y = np.zeros((*full, v.shape[-1]))
    for *place, head, i in np.ndindex(full):
        keys = (*place, head * g // full[-2])
        weights = np.zeros(m)
        for j in range(m):
            distance = offset + i - j
            hidden = (causal and distance < 0) or (window is not None and abs(distance) >= window)
            if not hidden:
                score = scale * (q[(*place, head, i)] @ k[(*keys, j)])
                weights[j] = np.exp(score + bias[(*place, head, i, j)])
        if weights.any():
            y[(*place, head, i)] = weights * factors[(*place, head, i)] @ v[keys] / weights.sum()
    return y if rank > 2 else y[0]


@fused(oracle=_attention_oracle)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    causal: bool = False,
    mask: Tensor | None = None,
    window: int | None = None,
    scale: float | None = None,
    offset: int = 0,
    factors: Tensor | None = None,
):
    """Return means of values, weighted by how well keys fit queries.

    y = (softmax(scale q k^T + mask) * factors) v

    Parameters
    ----------
    q : Tensor, (..., h, l, d), float: l queries of h heads; (l, d) is one head.
    k : Tensor, (..., g, m, d): m keys. Where g is less than h and divides it, groups of h / g heads
        share keys and values.
    v : Tensor, (..., g, m, e): the values of these keys.
    causal : whether a query sees only keys up to its own position.
    mask : Tensor that broadcasts to (..., h, l, m): bool, true where a query may see a key; or
        float, added to the scores (a bias; -inf hides a key).
    window : int, or None: a query sees only keys at a distance below this many steps.
    scale : float; 1 / sqrt(d) if None.
    offset : int, at least 0: the position of the first query; keys are at 0 to m - 1. With a cache
        of earlier keys it is m - l.
    factors : Tensor that broadcasts to (..., h, l, m), float: of the weights, for dropout.

    Returns
    -------
    Tensor, (..., h, l, e). A query that may see no key gets 0. 16-bit floats are computed in
    float32.

    Raises
    ------
    ShapeError : shapes do not match. DTypeError : an operand is no float, or the mask is of
    integers. ValueRangeError : window is below 1 or offset negative.

    Notes
    -----
    Gradient, with P the weights: dv = P^T g, dP = g v^T, the scores' dS = P (dP - sum(dP P)), and
    dq = scale dS k, dk = scale dS^T q. Memory for all h l m
    weights is needed only with a mask or factors, for fewer than 4 queries, and where there is no
    kernel.

    References
    ----------
    Vaswani et al. 2017, "Attention is all you need", eq. 1. Ainslie et al. 2023, "GQA: training
    generalized multi-query transformer models", section 2.2 (groups of heads).

    Examples
    --------
    >>> import helixml as hx
    >>> q = k = hx.zeros((3, 2))
    >>> hx.attention(q, k, hx.tensor([[1.0], [3.0], [8.0]]), causal=True)
    tensor([[1.],
            [2.],
            [4.]])
    """
    *_, l, d = q.shape
    m = k.shape[-2]
    h, g = _heads(q), _heads(k)

    def laid(x, *rows):  # the queries of a group of heads in one matrix, or those of each head
        return reshape(x, (*x.shape[:-3], *rows, x.shape[-1])) if h > g else x

    together = g, h // max(g, 1) * l
    scale = 1 / math.sqrt(d) if scale is None else scale
    scores = laid(laid(q * scale, *together) @ k.mT, h, l)  # (..., h, l, m)
    allowed = _allowed(l, m, causal, window, offset, q.device)
    if mask is not None:
        if dtypes.is_floating(mask.dtype):
            scores = scores + mask
            mask = mask > -math.inf
        allowed = mask if allowed is None else logical_and(allowed, mask)
    if allowed is not None:  # not -inf: softmax of a row of these alone would be nan
        scores = where(allowed, scores, float(np.finfo(scores.dtype).min))
    weights = softmax(scores, axis=-1)
    if factors is not None:
        weights = weights * factors
    y = laid(laid(weights, *together) @ v, h, l)
    if allowed is not None:
        y = where(reduction.any(allowed, axis=-1, keepdims=True), y, 0)
    return y


def _heads(x):
    return x.shape[-3] if x.ndim > 2 else 1


def _allowed(l, m, causal, window, offset, device):
    """Return which keys each query sees by position, (l, m) bool; None if each sees all."""
    causal = causal and offset < m - 1
    first, last = offset, offset + l - 1
    near = window is None or (last < window and m - 1 - first < window)
    if near and not causal:
        return None
    # how far each key lies before each query
    distance = expand_dims(arange(offset, offset + l, device=device), 1) - arange(m, device=device)
    sees = distance >= 0 if causal else None
    if not near:
        close = logical_and(distance < window, distance > -window)
        sees = close if sees is None else logical_and(sees, close)
    return sees


attention.options["kinds"] = "f"


@attention.check
def _(q, k, v, mask, factors, causal, window, scale, offset):
    for name, x in (("q", q), ("k", k), ("v", v)):
        dtypes.check_floating("attention", name, x.dtype)
    dtypes.as_flag("attention", "causal", causal)
    h, g = _heads(q), _heads(k)
    fits = min(q.ndim, k.ndim, v.ndim) > 1 and (h == g or min(h, g) == 1 or (g and h % g == 0))
    if not fits or q.shape[-1] != k.shape[-1] or k.shape[:-1] != v.shape[:-1] or not q.shape[-1]:
        raise ShapeError(
            f"attention: q is {q.shape}, k is {k.shape}, v is {v.shape}; they must be "
            "(..., h, l, d), (..., g, m, d) and (..., g, m, e) where g divides h."
        )
    batch = shapes.broadcast("attention", q.shape[:-3], k.shape[:-3])
    full = (*batch, *([max(h, g)] if q.ndim > 2 or k.ndim > 2 else []), q.shape[-2], k.shape[-2])
    if mask is not None and mask.dtype != dtypes.bool_ and not dtypes.is_floating(mask.dtype):
        raise DTypeError(
            f"attention: mask must be bool or float, not {mask.dtype}. Hint: mask != 0."
        )
    if factors is not None:
        dtypes.check_floating("attention", "factors", factors.dtype)
    for name, x in (("mask", mask), ("factors", factors)):
        ends = zip(reversed(x.shape if x is not None else ()), reversed(full), strict=False)
        if x is not None and (x.ndim > len(full) or any(a not in (1, b) for a, b in ends)):
            raise ShapeError(f"attention: {name} is {x.shape}, it must broadcast to {full}.")
    if window is not None and dtypes.as_integer("attention", "window", window) < 1:
        raise ValueRangeError(f"attention: window={window}, must be at least 1.")
    if dtypes.as_integer("attention", "offset", offset) < 0:
        raise ValueRangeError(
            f"attention: offset={offset} is negative. Hint: it is m - l where keys are kept."
        )


def _pairs(k, out):
    """Return how many pairs of a query and a key there are, in all heads."""
    return out.size // max(1, out.shape[-1]) * k.shape[-2]


@attention.flops
def _(q, k, v, mask, factors, out):
    """Count scaled queries, scores, mask, softmax and means; hidden pairs as any other."""
    pairs, d, e = _pairs(k, out), q.shape[-1], v.shape[-1]
    soft = 5 * pairs - 2 * (pairs // max(1, k.shape[-2]))
    return q.size + (2 * d + 2 * e + (mask is not None) + (factors is not None)) * pairs + soft


@attention.flops_vjp
def _(q, k, v, factors, out, needs):
    """Count dv = P^T g; for the others dP, dS and a product each."""
    pairs, d, e = _pairs(k, out), q.shape[-1], v.shape[-1]
    scores = needs["q"] or needs["k"] or needs["mask"]
    total = (2 * e * pairs + 4 * pairs - pairs // max(1, k.shape[-2])) if scores else 0
    total += needs["q"] * (2 * d * pairs + q.size) + needs["k"] * 2 * d * pairs
    # with factors F: P F for dv, and dP F
    both = (needs["v"] + bool(scores)) * pairs if factors is not None else 0
    return total + needs["v"] * 2 * e * pairs + needs["factors"] * (2 * e + 1) * pairs + both


@attention.samples
def _():
    inf = math.inf
    yield sample((2, 4, 3), (2, 4, 3), (2, 4, 3), causal=True)
    yield sample((2, 3, 4), (2, 5, 4), (2, 5, 3))
    yield sample((4, 2), (4, 2), (4, 1), causal=True, window=2, scale=0.7)
    yield sample((5, 2), (5, 2), (5, 2), window=3)
    yield sample((1, 4, 2, 3), (1, 2, 3, 3), (1, 2, 3, 2), causal=True, offset=1, orders=1)
    yield sample((2, 4, 2, 3), (2, 2, 3, 3), (2, 2, 3, 2), mask=floats(4, 1, 3), orders=1)
    yield sample((2, 3, 4), (2, 5, 4), (2, 5, 3), mask=booleans(2, 3, 5))
    yield sample(
        (2, 3),
        (3, 3),
        (3, 2),
        mask=matrix([[0.0, -inf, 1.0], [-inf] * 3]),
        orders=1,
        value_only=True,
    )
    yield sample((3, 2, 2), (2, 3, 4, 2), (2, 3, 4, 2), causal=True, offset=2, orders=1)
    yield sample((2, 3, 2), (1, 4, 2), (1, 4, 2), causal=True, orders=1)
    yield sample((1, 3, 2), (2, 4, 2), (2, 4, 2), causal=True, orders=1)
    yield sample((3, 2), (2, 4, 2), (2, 4, 2), orders=1)
    yield sample((2, 3, 2), (4, 2), (4, 2), mask=booleans(2, 3, 4), orders=1)
    yield sample((3, 2), (2, 2), (2, 2), window=1, offset=1)
    yield sample((4, 2, 3), (2, 2, 3), (2, 2, 2), causal=True, factors=floats(4, 2, 2), orders=1)
    yield sample((2, 0, 3), (2, 4, 3), (2, 4, 3), causal=True)
    yield sample((4, 0, 3), (2, 4, 3), (2, 4, 3), causal=True)
    yield sample((2, 3, 3), (2, 0, 3), (2, 0, 3))
    yield sample((0, 3, 3), (0, 2, 3), (0, 2, 3), mask=booleans(3, 2))


@attention.errors
def _():
    q, k, v = blank(4, 3, 5), blank(2, 6, 5), blank(2, 6, 7)
    for call, error, pattern in (
        (lambda: attention(q, blank(3, 6, 5), blank(3, 6, 5)), ShapeError, r"k is \(3, 6, 5\)"),
        (lambda: attention(q, blank(2, 6, 4), v), ShapeError, r"k is \(2, 6, 4\), v is"),
        (lambda: attention(q, k, blank(2, 5, 7)), ShapeError, r"v is \(2, 5, 7\); they must be"),
        (lambda: attention(blank(5), k, v), ShapeError, r"q is \(5,\), k is"),
        (lambda: attention(q[..., :0], k[..., :0], v), ShapeError, r"q is \(4, 3, 0\)"),
        (lambda: attention(blank(2, 1, 2, 5), blank(3, 1, 2, 5), blank(3, 1, 2, 5)), ShapeError,
         r"attention: .*\(2,\).*\(3,\)"),
        (lambda: attention(q, k, v, mask=blank(3, 5)), ShapeError,
         r"mask is \(3, 5\), it must broadcast to \(4, 3, 6\)"),
        (lambda: attention(q, k, v, mask=blank(1, 1, 3, 6)), ShapeError, r"mask is \(1, 1, 3, 6\)"),
        (lambda: attention(q, k, v, mask=np.ones((3, 6), int)), DTypeError,
         r"mask must be bool or float, not int64\. Hint"),
        (
            lambda: attention(q, k, v, factors=blank(6, 3)),
            ShapeError,
            r"factors is \(6, 3\), it must broadcast to \(4, 3, 6\)",
        ),
        (lambda: attention(q, k, np.ones((2, 6, 7), int)), DTypeError, r"v must be a float"),
        (lambda: attention(q, k, v, blank(3, 6)), DTypeError, r"causal"),
        (lambda: attention(q, k, v, window=0), ValueRangeError, r"window=0, must be at least 1"),
        (lambda: attention(q, k, v, window=1.5), DTypeError, r"window"),
        (lambda: attention(q, k, v, causal=True, offset=-1), ValueRangeError, r"offset=-1 is neg"),
    ):  # fmt: skip
        yield Failure(call, error, pattern)
