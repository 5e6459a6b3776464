"""Losses: how far predictions are from their targets, as a mean, a sum or entry by entry.

All are composites of ops with rules. Their operands must have the shapes that the text names:
(n, 1) against (n,) would broadcast to n^2 _pairs, and is refused. 16-bit floats are computed in
float32 and the result is cast back, so that no square and no sum overflows that the result would
hold. Gradients flow into targets too, where these are floats.

`cross_entropy`, which backends compute in one pass, is in `helixml.ops.categorical`.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.capturing import uncaptured
from helixml._core.composed import composite
from helixml._core.samples import Failure, Input, floats, integers, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, IndexingError, ShapeError, ValueRangeError
from helixml.ops import reduction as reductions
from helixml.ops.activation import softplus
from helixml.ops.creation import ones_like
from helixml.ops.elementwise import abs, exp, log, log1p, maximum, square, where
from helixml.ops.indexing import take, take_along_axis
from helixml.ops.logic import logical_or
from helixml.ops.movement import astype, expand_dims, reshape

Reduction = Literal["mean", "sum", "none"]

# Shared parts


def operands(op, *named, alike=2):
    """Return the operands in the dtype to compute in, and that of the result.

    They come as (name, tensor or None), must be floats, and the first ``alike`` of one shape.
    """
    given = [(name, tensor) for name, tensor in named if tensor is not None]
    for name, tensor in given:
        if not dtypes.is_floating(tensor.dtype):
            raise DTypeError(
                f"{op}: {name} must be a float, not {tensor.dtype}. Hint: astype('float32')."
            )
    first = named[0][1]
    for name, tensor in named[1:alike]:
        if tensor.shape != first.shape:
            same = tensor.size == first.size
            way = "reshape" if same else "if that is what is meant, broadcast_to"
            raise ShapeError(
                f"{op}: {named[0][0]} is {first.shape}, {name} is {tensor.shape}; they must have "
                f"one shape, nothing is broadcast. Hint: {way}({name}, {first.shape})."
            )
    dtype = dtypes.result_type(*[tensor for _, tensor in given])
    wide = dtypes.accumulation(dtype)
    made = [tensor if tensor is None else astype(tensor, wide) for _, tensor in named]
    return made, dtype


def reduced(losses, reduction, dtype, count=None):
    """Return losses, their sum or their mean, which is the sum over ``count`` if that is given."""
    if reduction == "none":
        result = losses
    elif reduction == "sum" or count is not None:
        result = reductions.sum(losses)
        if reduction != "sum":
            result = result / count
    else:
        result = reductions.mean(losses)
    return result if result.dtype == dtype else astype(result, dtype)


def check_reduction(op, reduction, *further):
    """Raise ValueRangeError unless the reduction is a known one."""
    known = ("mean", "sum", "none", *further)
    if reduction not in known:
        raise ValueRangeError(
            f"{op}: reduction={reduction!r:.80}. Hint: {', '.join(map(repr, known))}."
        )


def _check_weight(op, name, weight, x):
    """Raise unless a weight is None or broadcasts to the shape of ``x``, and not beyond it."""
    if weight is None:
        return
    if weight.ndim > x.ndim or shapes.broadcast(op, weight.shape, x.shape) != x.shape:
        raise ShapeError(f"{op}: {name} {weight.shape} does not broadcast to {x.shape}.")


@partial(uncaptured, changes=False)
def refuse_where(op, wrong, values, what):
    """Raise ValueRangeError with the first of ``values`` for which ``wrong`` holds."""
    if reductions.any(wrong):
        first = values.detach()[wrong][0].item()
        raise ValueRangeError(f"{op}: {what}, found {first}.")


def summarise(losses, reduction):
    """Do for the oracles what `reduced` does."""
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.mean()


# Differences


def _mse_oracle(x, target, reduction="mean"):
    return summarise((x - target) ** 2, reduction)


@composite(oracle=_mse_oracle)
def mse_loss(x: Tensor, target: Tensor, *, reduction: Reduction = "mean"):
    """Return the squared differences (x - target)^2.

    Parameters
    ----------
    x, target : Tensor, one shape, float.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError : the shapes differ. DTypeError : an operand is no float.
    ValueRangeError : there is no such reduction.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.mse_loss(hx.tensor([1.0, 2.0]), hx.tensor([1.0, 4.0]))
    tensor(2.)
    """
    check_reduction("mse_loss", reduction)
    (x, target), dtype = operands("mse_loss", ("x", x), ("target", target))
    return reduced(square(x - target), reduction, dtype)


def _l1_oracle(x, target, reduction="mean"):
    return summarise(np.abs(x - target), reduction)


@composite(oracle=_l1_oracle)
def l1_loss(x: Tensor, target: Tensor, *, reduction: Reduction = "mean"):
    """Return the absolute differences |x - target|; the gradient where they are 0 is 0.

    Parameters
    ----------
    x, target : Tensor, one shape, float.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`.
    """
    check_reduction("l1_loss", reduction)
    (x, target), dtype = operands("l1_loss", ("x", x), ("target", target))
    return reduced(abs(x - target), reduction, dtype)


def _huber_oracle(x, target, delta=1.0, reduction="mean"):
    d = np.abs(x - target)
    return summarise(np.where(d < delta, d * d / 2, delta * (d - delta / 2)), reduction)


@composite(oracle=_huber_oracle)
def huber_loss(x: Tensor, target: Tensor, *, delta: float = 1.0, reduction: Reduction = "mean"):
    """Return d^2 / 2 for differences d below ``delta``, and delta (|d| - delta / 2) beyond.

    Parameters
    ----------
    x, target : Tensor, one shape, float.
    delta : number above 0, where the square becomes a line.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for delta <= 0.

    References
    ----------
    Huber 1964, "Robust estimation of a location parameter", eq. 1.3.
    """
    check_reduction("huber_loss", reduction)
    if not delta > 0:
        raise ValueRangeError(f"huber_loss: delta={delta} must be above 0.")
    (x, target), dtype = operands("huber_loss", ("x", x), ("target", target))
    d = abs(x - target)
    losses = where(d < delta, 0.5 * square(d), delta * (d - 0.5 * delta))
    return reduced(losses, reduction, dtype)


def _smooth_l1_oracle(x, target, beta=1.0, reduction="mean"):
    d = np.abs(x - target)
    return summarise(np.where(d < beta, d * d / (2 * (beta or 1)), d - beta / 2), reduction)


@composite(oracle=_smooth_l1_oracle)
def smooth_l1_loss(x: Tensor, target: Tensor, *, beta: float = 1.0, reduction: Reduction = "mean"):
    """Return d^2 / (2 beta) for differences d below ``beta``, and |d| - beta / 2 beyond.

    The Huber loss with delta = beta, divided by beta; `l1_loss` for beta = 0.

    Parameters
    ----------
    x, target : Tensor, one shape, float.
    beta : number, 0 or more.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for beta < 0.

    References
    ----------
    Girshick 2015, "Fast R-CNN", eq. 3 (there with beta = 1).
    """
    check_reduction("smooth_l1_loss", reduction)
    if not beta >= 0:
        raise ValueRangeError(f"smooth_l1_loss: beta={beta} must be 0 or more.")
    (x, target), dtype = operands("smooth_l1_loss", ("x", x), ("target", target))
    d = abs(x - target)
    losses = where(d < beta, square(d) / (2 * beta), d - 0.5 * beta) if beta else d
    return reduced(losses, reduction, dtype)


def _pairs(**attributes):
    yield sample((3, 4), (3, 4), **attributes)
    yield sample((3,), (3,), reduction="sum", **attributes)
    yield sample((2, 3), (2, 3), reduction="none", **attributes)
    yield sample((), (), **attributes)
    yield sample((0, 3), (0, 3), reduction="sum", **attributes)


def _loss_errors(op):
    column, line = np.zeros((3, 1)), np.zeros(3)
    x, y = op.inputs[:2]
    shape = rf"{x} is \(3, 1\), {y} is \(3,\); they must have one shape"
    yield Failure(lambda: op(column, line), ShapeError, shape + r".*reshape\(\w+, \(3, 1\)\)")
    yield Failure(lambda: op(np.zeros(3, int), line), DTypeError, rf"{x} must be a float, not int")
    yield Failure(lambda: op(line, line, reduction="max"), ValueRangeError, r"reduction='max'")


for _op in (mse_loss, l1_loss):
    _op.samples(_pairs)
    _op.errors(lambda op=_op: _loss_errors(op))

for _op, _name in ((huber_loss, "delta"), (smooth_l1_loss, "beta")):

    @_op.samples
    def _(name=_name):
        yield from _pairs()
        yield from _pairs(**{name: 0.5})

    @_op.errors
    def _(op=_op, name=_name):
        yield from _loss_errors(op)
        wrong = {name: -1.0}
        call = lambda: op(np.zeros(2), np.zeros(2), **wrong)  # noqa: E731
        yield Failure(call, ValueRangeError, rf"{name}=-1.0 must be")


# Probabilities


def _bounded_log(x):
    """Return max(log(x), -100), also at 0, where no infinity is made."""
    outside = x <= 0
    return where(outside, -100.0, maximum(log(where(outside, 1, x)), -100.0))


def _bounded_log1m(x):
    """Return max(log(1 - x), -100), also at 1."""
    outside = x >= 1
    return where(outside, -100.0, maximum(log1p(where(outside, 0, -x)), -100.0))


def _bce_oracle(x, target, weight=1.0, reduction="mean"):
    with np.errstate(all="ignore"):
        yes, no = np.maximum(np.log(x), -100), np.maximum(np.log1p(-x), -100)
    return summarise(-weight * (target * yes + (1 - target) * no), reduction)


@composite(oracle=_bce_oracle)
def binary_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: Reduction = "mean"
):
    """Return -(target log x + (1 - target) log(1 - x)), each logarithm at least -100.

    From logits, `binary_cross_entropy_with_logits` is more accurate and has gradients everywhere:
    here the gradient of a logarithm that was bounded is 0.

    Parameters
    ----------
    x : Tensor, float, probabilities in [0, 1].
    target : Tensor, shape of ``x``, float, in [0, 1].
    weight : Tensor that broadcasts to that shape, or None.
    reduction : "mean" (over all entries, whatever their weights), "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for x outside [0, 1].
    """
    check_reduction("binary_cross_entropy", reduction)
    named = (("x", x), ("target", target), ("weight", weight))
    (x, target, weight), dtype = operands("binary_cross_entropy", *named)
    _check_weight("binary_cross_entropy", "weight", weight, x)
    what = "x must be in [0, 1]"
    outside = logical_or(x < 0, x > 1)
    if reductions.any(outside):
        what += " (Hint: for logits there is binary_cross_entropy_with_logits)"
        refuse_where("binary_cross_entropy", outside, x, what)
    losses = -(target * _bounded_log(x) + (1 - target) * _bounded_log1m(x))
    if weight is not None:
        losses = losses * weight
    return reduced(losses, reduction, dtype)


def _shares(*shape):
    return floats(*shape, low=0.1, high=0.9)


@binary_cross_entropy.samples
def _():
    yield sample(_shares(3, 4), _shares(3, 4))
    yield sample(_shares(3, 4), _shares(3, 4), _shares(4), reduction="sum")
    yield sample(_shares(3), _shares(3), reduction="none")
    yield sample(_shares(), _shares())
    ends = Input("float", (4,), values=(0.0, 0.0, 1.0, 1.0))
    sides = Input("float", (4,), values=(0.0, 1.0, 0.0, 1.0))
    yield sample(ends, sides, reduction="none", value_only=True)


@binary_cross_entropy.errors
def _():
    op, half = binary_cross_entropy, np.full(3, 0.5)
    yield from _loss_errors(op)
    yield Failure(lambda: op(half * 3, half), ValueRangeError, r"with_logits\), found 1.5")
    yield Failure(lambda: op(half, half, np.ones((2, 3))), ShapeError, r"weight \(2, 3\) does not")


def _logits_oracle(x, target, weight=1.0, positive_weight=1.0, reduction="mean"):
    p = target * positive_weight * np.logaddexp(0, -x) + (1 - target) * np.logaddexp(0, x)
    return summarise(weight * p, reduction)


@composite(oracle=_logits_oracle)
def binary_cross_entropy_with_logits(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    positive_weight: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
):
    """Return target softplus(-x) + (1 - target) softplus(x): the loss of sigmoid(x).

    Parameters
    ----------
    x : Tensor, float, logits.
    target : Tensor, shape of ``x``, float, in [0, 1].
    weight : Tensor that broadcasts to that shape, or None: weights of entries.
    positive_weight : Tensor that broadcasts to that shape, or None: weights of the first term.
    reduction : "mean" (over all entries, whatever their weights), "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`.

    Notes
    -----
    Both terms are positive for targets in [0, 1], so that nothing cancels.

    Examples
    --------
    >>> import helixml as hx
    >>> x, target = hx.tensor([-90.0, 90.0]), hx.tensor([1.0, 1.0])
    >>> hx.binary_cross_entropy_with_logits(x, target)
    tensor(45.)
    """
    op = "binary_cross_entropy_with_logits"
    check_reduction(op, reduction)
    weights = (("weight", weight), ("positive_weight", positive_weight))
    for name, value in weights:
        _check_weight(op, name, value, x)
    named = (("x", x), ("target", target), *weights)
    (x, target, weight, positive_weight), dtype = operands(op, *named)
    positive = target * softplus(-x)
    if positive_weight is not None:
        positive = positive * positive_weight
    losses = positive + (1 - target) * softplus(x)
    if weight is not None:
        losses = losses * weight
    return reduced(losses, reduction, dtype)


@binary_cross_entropy_with_logits.samples
def _():
    yield sample((3, 4), _shares(3, 4))
    yield sample((3, 4), _shares(3, 4), _shares(3, 1), _shares(4))
    yield sample((3,), _shares(3), reduction="none")
    yield sample((), _shares(), reduction="sum")
    far = Input("float", (4,), values=(-90.0, 90.0, -12.0, 12.0))
    yield sample(far, _shares(4), reduction="none", value_only=True)


@binary_cross_entropy_with_logits.errors
def _():
    op, x = binary_cross_entropy_with_logits, np.zeros(3)
    yield from _loss_errors(op)
    yield Failure(lambda: op(x, x, None, np.ones((3, 3))), ShapeError, r"positive_weight \(3, 3\)")
    yield Failure(lambda: op(x, x, np.ones(3, int)), DTypeError, r"weight must be a float, not int")


def _kl_oracle(x, target, log_target=False, reduction="mean"):
    if log_target:
        losses = np.exp(target) * (target - x)
    else:
        losses = target * (np.log(np.where(target > 0, target, 1)) - x)
    return losses.sum() / len(losses) if reduction == "batchmean" else summarise(losses, reduction)


@composite(oracle=_kl_oracle)
def kl_div(
    x: Tensor,
    target: Tensor,
    *,
    log_target: bool = False,
    reduction: Literal["mean", "batchmean", "sum", "none"] = "mean",
):
    """Return target (log target - x): the divergence of e^x from the target distribution.

    Parameters
    ----------
    x : Tensor, float, logarithms of probabilities.
    target : Tensor, shape of ``x``, float, probabilities; a target of 0 counts 0.
    log_target : whether ``target`` has logarithms too.
    reduction : "mean" over all entries, "batchmean" over the first axis (which gives the
        divergence as it is defined), "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`; "batchmean" needs an axis.

    References
    ----------
    Kullback & Leibler 1951, "On information and sufficiency", eq. 2.4.
    """
    check_reduction("kl_div", reduction, "batchmean")
    (x, target), dtype = operands("kl_div", ("x", x), ("target", target))
    if log_target:
        losses = exp(target) * (target - x)
    else:
        losses = target * (log(where(target == 0, 1, target)) - x)
    if reduction == "batchmean":
        if x.ndim == 0 or x.shape[0] == 0:
            raise ShapeError(f"kl_div: 'batchmean' needs rows along the first axis of {x.shape}.")
        return reduced(losses, reduction, dtype, x.shape[0])
    return reduced(losses, reduction, dtype)


@kl_div.samples
def _():
    yield sample((3, 4), _shares(3, 4))
    yield sample((3, 4), (3, 4), log_target=True, reduction="batchmean")
    yield sample((3,), _shares(3), reduction="none")
    yield sample((), _shares(), reduction="sum")
    zeros = Input("float", (3,), values=(0.0, 1.0, 0.5))
    yield sample((3,), zeros, reduction="sum", value_only=True)


@kl_div.errors
def _():
    yield from _loss_errors(kl_div)
    x = np.zeros(())
    call = lambda: kl_div(x, x, reduction="batchmean")  # noqa: E731
    yield Failure(call, ShapeError, r"needs rows along the first axis of \(\)")


def _nll_oracle(x, target, weight=None, ignore_index=None, reduction="mean"):
    rows, goals = x.reshape(-1, x.shape[-1]), target.reshape(-1)
    weight = np.ones(x.shape[-1]) if weight is None else weight
    kept = [goal != ignore_index for goal in goals]
    share = np.array([weight[g] if k else 0 for g, k in zip(goals, kept, strict=True)], x.dtype)
    losses = np.array([-r[g] if k else 0 for r, g, k in zip(rows, goals, kept, strict=True)])
    losses = share * losses
    if reduction == "mean":
        return losses.sum() / share.sum()
    return losses.sum() if reduction == "sum" else losses.reshape(target.shape)


@composite(oracle=_nll_oracle)
def nll_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: Reduction = "mean",
):
    """Return -x at the target's class, times the class's weight.

    Parameters
    ----------
    x : Tensor, (..., c), float, logarithms of probabilities: classes are along the last axis.
    target : Tensor, (...), integer, values in [0, c) or ``ignore_index``.
    weight : Tensor, (c,), float, or None.
    ignore_index : positions with this target count for nothing.
    reduction : "mean" (the sum over the weights that count: nan if there are none), "sum", "none".

    Returns
    -------
    Tensor, scalar, or (...) for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `cross_entropy`. IndexingError : no such class.
    """
    check_reduction("nll_loss", reduction)
    if x.ndim == 0 or x.shape[:-1] != target.shape:
        raise ShapeError(
            f"nll_loss: x is {x.shape}, target is {target.shape}; it must be {x.shape[:-1]}: "
            "one class for each row. Hint: classes are along the last axis; see moveaxis."
        )
    if dtypes.kind(target.dtype) not in "ui":
        raise DTypeError(f"nll_loss: target must be integers, not {target.dtype}.")
    (x, weight), dtype = operands("nll_loss", ("x", x), ("weight", weight), alike=1)
    classes = x.shape[-1]
    goals = astype(target, dtypes.int64)
    counts = None
    if ignore_index is not None:
        counts = goals != ignore_index
        goals = where(counts, goals, 0)
    wrong = logical_or(goals < 0, goals >= classes)
    if reductions.any(wrong):
        first = goals[wrong][0].item()
        raise IndexingError(f"nll_loss: target {first} is no class; x has {classes} classes.")
    losses = -reshape(take_along_axis(x, expand_dims(goals, -1)), goals.shape)
    if weight is None and counts is None:
        return reduced(losses, reduction, dtype)
    share = ones_like(losses)
    if weight is not None:
        if weight.shape != (classes,):
            raise ShapeError(f"nll_loss: weight is {weight.shape}, x has {classes} classes.")
        share = take(weight, goals)
        losses = share * losses
    if counts is not None:  # not by a product: what is ignored may be infinite
        share, losses = where(counts, share, 0), where(counts, losses, 0)
    count = reductions.sum(share) if reduction == "mean" else None
    return reduced(losses, reduction, dtype, count)


@nll_loss.samples
def _():
    yield sample((3, 5), integers(3, high=5))
    yield sample((2, 3, 5), integers(2, 3, high=5), _shares(5))
    yield sample((4, 5), integers(4, high=5), _shares(5), ignore_index=2, reduction="sum")
    yield sample((4, 3), integers(4, high=3), ignore_index=1, reduction="none")
    yield sample((3,), integers(high=3))


@nll_loss.errors
def _():
    x, two = np.zeros((2, 3)), np.array([0, 1])
    yield Failure(lambda: nll_loss(x, two[:1]), ShapeError, r"target is \(1,\); it must be \(2,\)")
    yield Failure(lambda: nll_loss(x, two + 2), IndexingError, r"target 3 is no class; x has 3")
    yield Failure(lambda: nll_loss(x, two * 0.5), DTypeError, r"must be integers, not float64")
    yield Failure(
        lambda: nll_loss(x, two, two / 2), ShapeError, r"weight is \(2,\), x has 3 classes"
    )
    yield Failure(lambda: nll_loss(x, two, reduction=""), ValueRangeError, r"reduction=''")


def _poisson_oracle(x, target, log_input=True, full=False, eps=1e-8, reduction="mean"):
    losses = np.exp(x) - target * x if log_input else x - target * np.log(x + eps)
    if full:
        safe = np.where(target > 1, target, 1)
        stirling = safe * np.log(safe) - safe + 0.5 * np.log(2 * np.pi * safe)
        losses = losses + np.where(target > 1, stirling, 0)
    return summarise(losses, reduction)


@composite(oracle=_poisson_oracle)
def poisson_nll_loss(
    x: Tensor,
    target: Tensor,
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
):
    """Return the negative log-likelihood of counts under a Poisson distribution.

    e^x - target x where ``x`` is the logarithm of the rate, x - target log(x + eps) where it is the
    rate itself, both without log(target!) unless ``full``.

    Parameters
    ----------
    x, target : Tensor, one shape, float.
    log_input : whether ``x`` is the logarithm of the rate.
    full : add Stirling's approximation of log(target!) where the target is above 1.
    eps : number above 0, added to a rate before its logarithm is taken.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for eps <= 0.
    """
    op = "poisson_nll_loss"
    check_reduction(op, reduction)
    if not eps > 0:
        raise ValueRangeError(f"{op}: eps={eps} must be above 0.")
    (x, target), dtype = operands(op, ("x", x), ("target", target))
    losses = exp(x) - target * x if log_input else x - target * log(x + eps)
    if full:
        large = target > 1
        safe = where(large, target, 1)
        stirling = safe * log(safe) - safe + 0.5 * log(2 * math.pi * safe)
        losses = losses + where(large, stirling, 0)
    return reduced(losses, reduction, dtype)


@poisson_nll_loss.samples
def _():
    rates = floats(3, 4, low=0.2, high=3.0)
    yield sample((3, 4), rates)
    yield sample(rates, rates, log_input=False, full=True)
    yield sample((3,), floats(3, low=0.2, high=0.9), full=True, reduction="none")
    yield sample((), _shares(), reduction="sum")


@poisson_nll_loss.errors
def _():
    yield from _loss_errors(poisson_nll_loss)
    x = np.zeros(2)
    yield Failure(lambda: poisson_nll_loss(x, x, eps=0), ValueRangeError, r"eps=0 must be above 0")


def _gaussian_oracle(x, target, variance, full=False, eps=1e-6, reduction="mean"):
    if variance.ndim < x.ndim:
        variance = variance[..., None]
    v = np.maximum(variance, eps)
    losses = 0.5 * (np.log(v) + (x - target) ** 2 / v + (np.log(2 * np.pi) if full else 0))
    return summarise(losses, reduction)


@composite(oracle=_gaussian_oracle)
def gaussian_nll_loss(
    x: Tensor,
    target: Tensor,
    variance: Tensor,
    *,
    full: bool = False,
    eps: float = 1e-6,
    reduction: Reduction = "mean",
):
    """Return (log v + (x - target)^2 / v) / 2 with v = max(variance, eps).

    Parameters
    ----------
    x, target : Tensor, one shape, float: mean and observation.
    variance : Tensor, float, not negative, of that shape, or of that shape with 1 in place of the
        last axis or without the last axis.
    full : add log(2 pi) / 2.
    eps : number above 0, the least variance; below it the gradient of ``variance`` is 0.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, for eps <= 0 and a variance below 0.

    References
    ----------
    Nix & Weigend 1994, "Estimating the mean and variance of the target probability distribution",
    eq. 3.
    """
    op = "gaussian_nll_loss"
    check_reduction(op, reduction)
    if not eps > 0:
        raise ValueRangeError(f"{op}: eps={eps} must be above 0.")
    named = (("x", x), ("target", target), ("variance", variance))
    (x, target, variance), dtype = operands(op, *named)
    if x.ndim and variance.shape == x.shape[:-1]:
        variance = expand_dims(variance, -1)
    if variance.shape != x.shape and variance.shape != (*x.shape[:-1], 1):
        raise ShapeError(
            f"{op}: variance is {variance.shape}; it must be {x.shape}, {(*x.shape[:-1], 1)} or "
            f"{x.shape[:-1]}."
        )
    refuse_where(op, variance < 0, variance, "variance must not be negative")
    v = maximum(variance, eps)
    losses = 0.5 * (log(v) + square(x - target) / v)
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced(losses, reduction, dtype)


@gaussian_nll_loss.samples
def _():
    yield sample((3, 4), (3, 4), _shares(3, 4))
    yield sample((3, 4), (3, 4), _shares(3, 1), full=True)
    yield sample((3, 4), (3, 4), _shares(3), reduction="none")
    yield sample((), (), _shares(), reduction="sum")


@gaussian_nll_loss.errors
def _():
    op, x = gaussian_nll_loss, np.zeros((2, 3))
    yield Failure(lambda: op(x, x[0], x), ShapeError, r"x is \(2, 3\), target is \(3,\); they must")
    yield Failure(lambda: op(x, x, x[0]), ShapeError, r"variance is \(3,\); it must be \(2, 3\)")
    yield Failure(lambda: op(x, x, x - 1), ValueRangeError, r"not be negative, found -1.0")
    yield Failure(lambda: op(x, x, x, eps=0), ValueRangeError, r"eps=0 must be above 0")
    yield Failure(lambda: op(x, x, x, reduction=1), ValueRangeError, r"reduction=1")


for _op in (
    *(mse_loss, l1_loss, huber_loss, smooth_l1_loss, binary_cross_entropy, kl_div, nll_loss),
    *(binary_cross_entropy_with_logits, poisson_nll_loss, gaussian_nll_loss),
):
    _op.options["kinds"] = "f"
