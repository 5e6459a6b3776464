"""Distributions over classes: softmax, its logarithm, and the loss of scores against classes.

Fused, as those of `helixml.ops.fused`: each body is the definition. Other losses are in `loss`.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.capturing import uncaptured
from helixml._core.composed import fused
from helixml._core.samples import Failure, blank, integers, sample, values
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, IndexingError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.elementwise import divide, exp, where
from helixml.ops.indexing import take_along_axis
from helixml.ops.logic import NO_ORDER, equal
from helixml.ops.movement import as_float, expand_dims, reshape


def _softmax_oracle(x, axis=-1):
    return np.exp(x - np.logaddexp.reduce(x, axis=axis, keepdims=True))


@fused(real_only=NO_ORDER, oracle=_softmax_oracle)
def softmax(x: Tensor, axis: int = -1):
    """Return exp(x) / sum(exp(x)) along an axis, shifted by the maximum so that nothing overflows.

    Parameters
    ----------
    x : Tensor with at least one axis.
    axis : int.

    Returns
    -------
    Tensor, same shape, a float dtype; sums to 1 along ``axis``.
    """
    x = as_float(x)
    if not x.size:  # there is no maximum
        shapes.normalize_axis("softmax", axis, x.ndim)
        return exp(x)
    top = reduction.max(x, axis=axis, keepdims=True).detach()
    e = exp(x - top)
    return divide(e, reduction.sum(e, axis=axis, keepdims=True))


@softmax.flops
def _(x, axis):
    """Count maximum, differences, exponentials, sum and quotients."""
    return 5 * x.size - 2 * (x.size // max(1, x.shape[axis]))


def _softmax_flops_vjp(x, axis):
    """Count y (g - sum(g y)); and as much, g - e^y sum(g), for the logarithm."""
    return 4 * x.size - x.size // max(1, x.shape[axis])


softmax.flops_vjp(_softmax_flops_vjp)


@softmax.samples
def _():
    yield sample((3, 4))
    yield sample((2, 3, 4), axis=1)
    yield sample((2, 0))


def _log_softmax_oracle(x, axis=-1):
    return x - np.logaddexp.reduce(x, axis=axis, keepdims=True)


@fused(real_only=NO_ORDER, oracle=_log_softmax_oracle)
def log_softmax(x: Tensor, axis: int = -1):
    """Return x - logsumexp(x) along an axis: the logarithm of `softmax`.

    Parameters
    ----------
    x : Tensor with at least one axis.
    axis : int.

    Returns
    -------
    Tensor, same shape, a float dtype.
    """
    axis = shapes.normalize_axis("log_softmax", axis, x.ndim)
    if not x.size:  # there is no maximum
        return exp(x)
    return x - reduction.logsumexp(x, axis=axis, keepdims=True)


@log_softmax.flops
def _(x, axis):
    """Count maximum, differences, exponentials, sum, logarithm and differences."""
    return 5 * x.size - x.size // max(1, x.shape[axis])


log_softmax.flops_vjp(_softmax_flops_vjp)


@log_softmax.samples
def _():
    yield sample((3, 4))
    yield sample((3, 4), axis=0)
    yield sample(values(1000.0, 0.0, -1000.0))
    yield sample((2, 0), axis=0)
    yield sample((2, 0))


def _cross_entropy_oracle(logits, target, ignore_index=None, label_smoothing=0.0, reduction="mean"):
    v = logits.shape[-1]
    flat, goals = logits.reshape(-1, v), target.reshape(-1)
    losses = np.zeros(goals.size)
    used = np.ones(goals.size, bool)
    for i, goal in enumerate(goals):
        if ignore_index is not None and goal == ignore_index:
            used[i] = False
            continue
        logp = flat[i] - np.logaddexp.reduce(flat[i])
        q = np.full(v, label_smoothing / v)
        q[goal] += 1 - label_smoothing
        losses[i] = -(q * logp).sum()
    if reduction == "none":
        return losses.reshape(target.shape)
    return losses.sum() if reduction == "sum" else losses.sum() / max(used.sum(), 1)


@fused(integers=("target",), oracle=_cross_entropy_oracle)
def cross_entropy(
    logits: Tensor,
    target: Tensor,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    reduction: Literal["mean", "sum", "none"] = "mean",
):
    """Return the cross entropy of class indices under softmax(logits), in nats.

    Parameters
    ----------
    logits : Tensor, (..., v), float.
    target : Tensor, (...), integer, values in [0, v) or ``ignore_index``.
    ignore_index : positions with this target count for nothing.
    label_smoothing : share of the target spread evenly over all classes, in [0, 1].
    reduction : "mean" over the positions that count (0 if there are none), "sum", or "none".

    Returns
    -------
    Tensor, scalar, or (...) for "none".

    Raises
    ------
    ShapeError : shapes do not match. IndexingError : a target is no class.
    DTypeError : targets are not integers. ValueRangeError : an option has no meaning.

    References
    ----------
    Szegedy et al. 2016, "Rethinking the inception architecture", section 7 (label smoothing).
    """
    _need_classes(logits, target, ignore_index, label_smoothing, reduction)
    goals = target.astype(dtypes.int64)
    counts = None
    if ignore_index is not None:
        counts = goals != ignore_index
        goals = where(counts, goals, 0)
    logp = log_softmax(logits)
    losses = reshape(take_along_axis(logp, expand_dims(goals, -1)), goals.shape)
    if label_smoothing:
        even = _mean_last(logp)
        losses = losses * (1 - label_smoothing) + even * label_smoothing
    losses = -losses
    if counts is not None:
        losses = where(counts, losses, 0)
    if reduction == "none":
        return losses
    total = _sum_all(losses)
    if reduction == "sum":
        return total
    if counts is None:
        return total / max(losses.size, 1)
    return total / _at_least_one(_sum_all(counts.astype(logits.dtype)))


def _mean_last(x):
    return reduction.mean(x, axis=-1)


def _sum_all(x):
    return reduction.sum(x)


def _at_least_one(count):
    return where(equal(count, 0), 1, count)


cross_entropy.options["kinds"] = "f"


@cross_entropy.check
def _(logits, target, ignore_index, label_smoothing, reduction):
    if logits.ndim == 0 or logits.shape[:-1] != target.shape:
        raise ShapeError(
            f"cross_entropy: logits are {logits.shape}, targets {target.shape}; targets must be "
            f"{logits.shape[:-1]}: one class index for each row of logits."
        )
    if dtypes.kind(target.dtype) not in "ui":
        raise DTypeError(
            f"cross_entropy: targets must be integers, not {target.dtype}. "
            "Hint: class indices, not one-hot rows."
        )
    dtypes.check_floating("cross_entropy", "logits", logits.dtype)
    if reduction not in ("mean", "sum", "none"):
        raise ValueRangeError(
            f"cross_entropy: reduction={reduction!r}. Hint: 'mean', 'sum' or 'none'."
        )
    if not 0 <= label_smoothing <= 1:
        raise ValueRangeError(f"cross_entropy: label_smoothing={label_smoothing} is not in [0, 1].")


@partial(uncaptured, changes=False)
def _need_classes(logits, target, ignore_index, label_smoothing, reduction):
    error = cross_entropy.explain(logits, target, ignore_index, label_smoothing, reduction)
    if error:
        raise error


@cross_entropy.diagnose
def _(logits, target, ignore_index, label_smoothing, reduction):
    """Return the error for a target that is no class."""
    host = target._backend.to_numpy(target._array)
    v = logits.shape[-1]
    bad = (host < 0) | (host >= v)
    if ignore_index is not None:
        bad &= host != ignore_index
    if not bad.any():
        return None
    return IndexingError(
        f"cross_entropy: target {host[bad].flat[0]} is no class; logits have {v} classes."
    )


@cross_entropy.flops
def _(logits, target, ignore_index, label_smoothing, reduction):
    """Count log(sum(exp(x - max))) - (x_target - max) of each row, and what the options add."""
    v, rows = logits.shape[-1], target.size
    ignores = ignore_index is not None
    each = 4 * v + 1 + (v + 4 if label_smoothing else 0) + 2 * ignores
    if reduction == "none" or rows == 0:
        return rows * each
    mean = reduction == "mean"
    return rows * each + (rows - 1) * (1 + (mean and ignores)) + mean


@cross_entropy.flops_vjp
def _(logits, target, ignore_index, label_smoothing):
    """Count (e^(x - logsumexp) - target) g; the target is 1 in one place, and smoothed in all."""
    each = 3 * logits.shape[-1] + 1 + (logits.shape[-1] if label_smoothing else 0)
    return target.size * (each + (ignore_index is not None))


@cross_entropy.samples
def _():
    yield sample((3, 5), integers(3, high=5))
    yield sample((2, 3, 5), integers(2, 3, high=5), label_smoothing=0.1)
    yield sample((4, 5), integers(4, high=5), ignore_index=2, reduction="sum")
    yield sample((4, 5), integers(4, high=5), ignore_index=2)
    yield sample((4, 5), integers(4, low=1, high=4), ignore_index=2, label_smoothing=0.2)
    yield sample((4, 3), integers(4, high=3), reduction="none")
    yield sample((4, 3), integers(4, low=1, high=2), ignore_index=1)


@cross_entropy.errors
def _():
    x = blank(2, 3)
    two = np.array([0, 1])
    yield Failure(lambda: cross_entropy(x, np.array([0])), ShapeError, r"targets must be \(2,\)")
    yield Failure(
        lambda: cross_entropy(x, np.array([0, 3])), IndexingError, r"target 3 is no class"
    )
    yield Failure(lambda: cross_entropy(x, np.array([0.0, 1.0])), DTypeError, r"must be integers")
    yield Failure(
        lambda: cross_entropy(x, two, reduction="max"), ValueRangeError, r"reduction='max'"
    )
    yield Failure(
        lambda: cross_entropy(x, two, label_smoothing=2.0), ValueRangeError, r"not in \[0, 1\]"
    )
