"""Cross entropy of class indices on raw arrays; the kernel is loss.c."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
import helixml.backends.cpu.kernels._small as _small
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, contiguous, share, table
from helixml.backends.cpu.kernels.update import scale_many_
from helixml.backends.dispatch import Prepared


def cross_entropy(
    logits: Array,
    target: Array,
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
    recorded: bool = False,
) -> tuple[tuple[Array], tuple[Array | Prepared, ...]]:
    """Return -log softmax(logits)[target], with smoothed targets, reduced.

    Parameters
    ----------
    logits : (..., v), float32 or float64, any strides.
    target : (...), integer, in [0, v) or ``ignore_index``.
    reduction : "mean" over what is not ignored (0 if nothing is left), "sum" or "none".

    Returns
    -------
    outputs : the loss, () or (...); sums are accumulated in float64.
    residuals : each row's largest logit and sum of exp(logit - largest), (rows,). If ``recorded``,
        and the reduction leaves a number, also the gradient of the logits, which costs little while
        a row's exponentials are in the cache.

    Raises
    ------
    IndexError
        If a target is no class.
    """
    if ignore_index is None and reduction != "none":
        few = _small.cross_entropy(logits, target, label_smoothing, reduction == "mean")
        if few is not None:
            return few[:1], few[1:]
    count = logits.size // logits.shape[-1] if logits.size else 0
    losses, top, sums = (empty((count,), logits.dtype) for _ in range(3))
    loss = _loss(logits, target, ignore_index, label_smoothing, losses, top, sums)
    counted = _counted(target, ignore_index) if reduction == "mean" else 1
    residuals: tuple[Array | Prepared, ...] = top, sums
    if recorded and reduction != "none":
        dlogits = empty(logits.shape, logits.dtype)
        loss.set_gradients(np.full(count, 1 / counted, logits.dtype), table(dlogits))
        residuals = top, sums, Prepared(dlogits)
    share(loss.run, count, logits.size)
    if reduction == "none":
        return (losses.reshape(target.shape),), residuals
    total = losses.sum(dtype=np.float64) / counted
    return (np.asarray(total, logits.dtype),), residuals


def cross_entropy_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Any],  # arrays, and perhaps a Prepared
    *,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> tuple[Array | None, ...]:
    """Return the gradient of the logits (the target has none)."""
    logits, target = inputs
    (g,) = cotangents
    top, sums, *prepared = residuals
    assert logits is not None and target is not None and g is not None
    if not needs[0]:
        return None, None
    ready: Array | None = prepared[0].take() if prepared else None
    if ready is not None:
        if g != 1:
            scale_many_([ready], factor=float(g))
        return ready, None
    if ignore_index is None and reduction != "none":
        few: Array | None = _small.cross_entropy_vjp(
            g, logits, target, label_smoothing, reduction == "mean", top, sums
        )
        if few is not None:
            return few, None
    if reduction == "mean":
        g = np.asarray(g / _counted(target, ignore_index), logits.dtype)
    g_rows = contiguous(np.broadcast_to(g, target.shape)).reshape(-1)
    dlogits = empty(logits.shape, logits.dtype)
    loss = _loss(logits, target, ignore_index, label_smoothing, None, top, sums)
    loss.set_gradients(g_rows, table(dlogits))
    share(loss.backward, g_rows.size, logits.size)
    return dlogits, None


def _counted(target: Array, ignore_index: int | None) -> int:
    """Return the number of targets that count, at least 1."""
    ignored = 0 if ignore_index is None else np.count_nonzero(target == ignore_index)
    return max(1, target.size - int(ignored))


def _loss(
    logits: Array,
    target: Array,
    ignore_index: int | None,
    label_smoothing: float,
    losses: Array | None,
    top: Array,
    sums: Array,
) -> _kernels.Loss:
    """Describe a cross entropy to the kernel, copying what is not laid out as it wants."""
    return _kernels.Loss(
        ignore_index,
        label_smoothing,
        table(logits),
        contiguous(target.astype(np.int64, copy=False)).reshape(-1),
        losses,
        top,
        sums,
    )
