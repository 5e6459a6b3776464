"""Losses with a margin: of labels 1 and -1, of pairs, triplets and rankings.

Their shapes are as strict as those in `helixml.ops.loss`, and 16-bit floats are computed in float32
as there.
"""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, Input, integers, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, IndexingError, ShapeError, ValueRangeError
from helixml.ops import reduction as reductions
from helixml.ops.activation import relu, softplus
from helixml.ops.creation import arange
from helixml.ops.elementwise import abs, minimum, pow, sqrt, square, where
from helixml.ops.indexing import take_along_axis
from helixml.ops.logic import logical_and, logical_not, logical_or
from helixml.ops.loss import (
    Reduction,
    check_reduction,
    operands,
    reduced,
    refuse_where,
    summarise,
)
from helixml.ops.movement import astype, expand_dims
from helixml.ops.running import cumulative_sum


def _labels(op, x, target, shape):
    """Return labels 1 and -1, of the given shape, in the dtype of ``x``, which holds them."""
    if target.shape != shape:
        same = f"reshape(target, {shape})" if target.size == x.size else f"labels of shape {shape}"
        raise ShapeError(
            f"{op}: x is {x.shape}, target is {target.shape}; it must be {shape}, nothing is "
            f"broadcast. Hint: {same}."
        )
    if dtypes.kind(target.dtype) not in "if":
        raise DTypeError(f"{op}: target must be signed, not {target.dtype}.")
    good = logical_or(target == 1, target == -1)
    refuse_where(op, logical_not(good), target, "targets must be 1 or -1")
    return astype(target, x.dtype)


def _signs(*shape):
    """Describe labels 1 and -1."""
    count = int(np.prod(shape))
    return Input("int", shape, values=tuple([1.0, -1.0, -1.0][i % 3] for i in range(count)))


def _label_errors(op, count):
    """Give the wrong calls of a loss of ``count`` float operands and labels."""
    x, line = [np.zeros((3, 2))] * count, np.ones(3)
    good = line if op.name.startswith("cosine") else np.ones((3, 2))
    yield Failure(lambda: op(*x, line[:2]), ShapeError, r"x is \(3, 2\), target is \(2,\); it must")
    yield Failure(lambda: op(*x, good / 2), ValueRangeError, r"targets must be 1 or -1, found 0.5")
    yield Failure(lambda: op(*x, good == 1), DTypeError, r"target must be signed, not bool")
    yield Failure(lambda: op(*x, good, reduction="max"), ValueRangeError, r"reduction='max'")
    integers = [np.zeros((3, 2), int)] * count
    yield Failure(lambda: op(*integers, good), DTypeError, r"x must be a float, not int64")


def _hinge_oracle(x, target, margin=1.0, reduction="mean"):
    return summarise(np.where(target == 1, x, np.maximum(margin - x, 0)), reduction)


@composite(oracle=_hinge_oracle)
def hinge_embedding_loss(
    x: Tensor, target: Tensor, *, margin: float = 1.0, reduction: Reduction = "mean"
):
    """Return x where the target is 1, and max(0, margin - x) where it is -1.

    Parameters
    ----------
    x : Tensor, float, most often a distance.
    target : Tensor, shape of ``x``, signed, each 1 or -1.
    margin : number.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for targets other than 1 and -1.

    References
    ----------
    Hadsell et al. 2006, "Dimensionality reduction by learning an invariant mapping", eq. 4, there
    with squares.
    """
    check_reduction("hinge_embedding_loss", reduction)
    (x,), dtype = operands("hinge_embedding_loss", ("x", x))
    target = _labels("hinge_embedding_loss", x, target, x.shape)
    return reduced(where(target == 1, x, relu(margin - x)), reduction, dtype)


def _soft_margin_oracle(x, target, reduction="mean"):
    return summarise(np.logaddexp(0.0, -target * x), reduction)


@composite(oracle=_soft_margin_oracle)
def soft_margin_loss(x: Tensor, target: Tensor, *, reduction: Reduction = "mean"):
    """Return log(1 + e^(-target x)).

    Parameters
    ----------
    x : Tensor, float.
    target : Tensor, shape of ``x``, signed, each 1 or -1.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for targets other than 1 and -1.
    """
    check_reduction("soft_margin_loss", reduction)
    (x,), dtype = operands("soft_margin_loss", ("x", x))
    target = _labels("soft_margin_loss", x, target, x.shape)
    return reduced(softplus(-target * x), reduction, dtype)


for _op in (hinge_embedding_loss, soft_margin_loss):

    @_op.samples
    def _():
        yield sample((3, 4), _signs(3, 4))
        yield sample((3,), _signs(3), reduction="none")
        yield sample((), _signs(), reduction="sum")

    @_op.errors
    def _(op=_op):
        yield from _label_errors(op, 1)


def _ranking_oracle(x, y, target, margin=0.0, reduction="mean"):
    return summarise(np.maximum(-target * (x - y) + margin, 0), reduction)


@composite(oracle=_ranking_oracle)
def margin_ranking_loss(
    x: Tensor, y: Tensor, target: Tensor, *, margin: float = 0.0, reduction: Reduction = "mean"
):
    """Return max(0, margin - target (x - y)): a target of 1 wants x above y, -1 below.

    Parameters
    ----------
    x, y : Tensor, one shape, float.
    target : Tensor, that shape, signed, each 1 or -1.
    margin : number, the distance wanted.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or of that shape for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for targets other than 1 and -1.
    """
    op = "margin_ranking_loss"
    check_reduction(op, reduction)
    (x, y), dtype = operands(op, ("x", x), ("y", y))
    target = _labels(op, x, target, x.shape)
    return reduced(relu(margin - target * (x - y)), reduction, dtype)


@margin_ranking_loss.samples
def _():
    yield sample((3, 4), (3, 4), _signs(3, 4))
    yield sample((3,), (3,), _signs(3), margin=0.5, reduction="none")
    yield sample((), (), _signs(), reduction="sum")


@margin_ranking_loss.errors
def _():
    column, line = np.zeros((3, 1)), np.ones(3)
    op = margin_ranking_loss
    yield Failure(lambda: op(column, line, line), ShapeError, r"x is \(3, 1\), y is \(3,\)")
    yield from _label_errors(op, 2)


def _distance_oracle(x, y, order, eps):
    return (np.abs(x - y + eps) ** order).sum(axis=-1) ** (1 / order)


def _triplet_oracle(
    anchor, positive, negative, margin=1.0, order=2.0, eps=1e-6, swap=False, reduction="mean"
):
    near = _distance_oracle(anchor, positive, order, eps)
    far = _distance_oracle(anchor, negative, order, eps)
    if swap:
        far = np.minimum(far, _distance_oracle(positive, negative, order, eps))
    return summarise(np.maximum(near - far + margin, 0), reduction)


def _distance(x, y, order, eps):
    """Return the distances of rows in the norm of the given order."""
    d = x - y + eps
    if order == 2:
        return sqrt(reductions.sum(square(d), axis=-1))
    if order == 1:
        return reductions.sum(abs(d), axis=-1)
    return pow(reductions.sum(pow(abs(d), order), axis=-1), 1 / order)


@composite(oracle=_triplet_oracle)
def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    margin: float = 1.0,
    order: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: Reduction = "mean",
):
    """Return max(0, |anchor - positive| - |anchor - negative| + margin).

    Parameters
    ----------
    anchor, positive, negative : Tensor, (..., d), one shape, float.
    margin : number above 0.
    order : number, 1 or more: the norm's.
    eps : number, added to each difference, which keeps the derivative of a distance of 0 finite.
    swap : use |positive - negative| for the second distance where that is smaller.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or (...) for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, for margin <= 0 and order < 1.

    References
    ----------
    Balntas et al. 2016, "Learning local feature descriptors with triplets and shallow
    convolutional neural networks", eq. 3 and section 3.2 (swap).
    """
    op = "triplet_margin_loss"
    check_reduction(op, reduction)
    if not margin > 0 or not order >= 1:
        raise ValueRangeError(f"{op}: margin={margin} must be above 0, order={order} at least 1.")
    named = (("anchor", anchor), ("positive", positive), ("negative", negative))
    (anchor, positive, negative), dtype = operands(op, *named, alike=3)
    if anchor.ndim == 0:
        raise ShapeError(f"{op}: needs vectors along the last axis, the shape is ().")
    far = _distance(anchor, negative, order, eps)
    if swap:
        far = minimum(far, _distance(positive, negative, order, eps))
    near = _distance(anchor, positive, order, eps)
    return reduced(relu(near - far + margin), reduction, dtype)


@triplet_margin_loss.samples
def _():
    yield sample((3, 4), (3, 4), (3, 4))
    yield sample((2, 3, 4), (2, 3, 4), (2, 3, 4), margin=2.0, swap=True, reduction="none")
    yield sample((3, 4), (3, 4), (3, 4), order=1.0, reduction="sum")
    yield sample((3, 4), (3, 4), (3, 4), order=3.0, margin=0.5)
    yield sample((4,), (4,), (4,))


@triplet_margin_loss.errors
def _():
    op, x = triplet_margin_loss, np.zeros((3, 2))
    yield Failure(lambda: op(x, x[0], x), ShapeError, r"anchor is \(3, 2\), positive is \(2,\)")
    yield Failure(lambda: op(x, x, x, order=0.5), ValueRangeError, r"order=0.5 at least 1")
    yield Failure(lambda: op(x[0, 0], x[0, 0], x[0, 0]), ShapeError, r"the shape is \(\)")
    yield Failure(lambda: op(x, x, x, reduction="all"), ValueRangeError, r"reduction='all'")


def _cosine_oracle(x, y, target, margin=0.0, reduction="mean"):
    tiny = 1e-12
    norms = (x * x).sum(-1) + tiny, (y * y).sum(-1) + tiny
    cosine = (x * y).sum(-1) / np.sqrt(norms[0] * norms[1])
    return summarise(np.where(target == 1, 1 - cosine, np.maximum(cosine - margin, 0)), reduction)


@composite(oracle=_cosine_oracle)
def cosine_embedding_loss(
    x: Tensor, y: Tensor, target: Tensor, *, margin: float = 0.0, reduction: Reduction = "mean"
):
    """Return 1 - cos(x, y) where the target is 1, and max(0, cos(x, y) - margin) where it is -1.

    Parameters
    ----------
    x, y : Tensor, (..., d), one shape, float.
    target : Tensor, (...), signed, each 1 or -1.
    margin : number in [-1, 1].
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or (...) for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`, and for targets other than 1 and -1.

    Notes
    -----
    1e-12 is added to the squared lengths, so that the cosine with a vector of zeros is 0.
    """
    op = "cosine_embedding_loss"
    check_reduction(op, reduction)
    (x, y), dtype = operands(op, ("x", x), ("y", y))
    if x.ndim == 0:
        raise ShapeError(f"{op}: needs vectors along the last axis, the shape is ().")
    target = _labels(op, x, target, x.shape[:-1])
    lengths = [sqrt(reductions.sum(square(v), axis=-1) + 1e-12) for v in (x, y)]
    cosine = reductions.sum(x * y, axis=-1) / (lengths[0] * lengths[1])
    losses = where(target == 1, 1 - cosine, relu(cosine - margin))
    return reduced(losses, reduction, dtype)


@cosine_embedding_loss.samples
def _():
    yield sample((3, 4), (3, 4), _signs(3))
    yield sample((2, 3, 4), (2, 3, 4), _signs(2, 3), margin=0.2, reduction="none")
    yield sample((4,), (4,), _signs(), reduction="sum")


@cosine_embedding_loss.errors
def _():
    op, x = cosine_embedding_loss, np.zeros((3, 2))
    yield Failure(lambda: op(x, x[0], x[:, 0]), ShapeError, r"x is \(3, 2\), y is \(2,\)")
    yield Failure(lambda: op(x[0, 0], x[0, 0], 1), ShapeError, r"the shape is \(\)")
    yield from _label_errors(op, 2)


def _multilabel_oracle(x, target, reduction="mean"):
    losses = []
    for row, labels in zip(
        x.reshape(-1, x.shape[-1]), target.reshape(-1, x.shape[-1]), strict=True
    ):
        chosen = []
        for label in labels:
            if label < 0:
                break
            chosen.append(label)
        others = [i for i in range(len(row)) if i not in chosen]
        terms = [max(0.0, 1 - (row[j] - row[i])) for j in chosen for i in others]
        losses.append(sum(terms) / len(row))
    return summarise(np.array(losses).reshape(x.shape[:-1]), reduction)


@composite(oracle=_multilabel_oracle)
def multilabel_margin_loss(x: Tensor, target: Tensor, *, reduction: Reduction = "mean"):
    """Return the sum of max(0, 1 - (x_j - x_i)) / c over labels j and all other classes i.

    Parameters
    ----------
    x : Tensor, (..., c), float.
    target : Tensor, (..., c), signed integer: classes, ended by the first -1; what follows it
        counts for nothing.
    reduction : "mean", "sum" or "none".

    Returns
    -------
    Tensor, scalar, or (...) for "none".

    Raises
    ------
    ShapeError, DTypeError, ValueRangeError : as `mse_loss`. IndexingError : no such class.

    Notes
    -----
    Takes memory for c^2 pairs a row.
    """
    op = "multilabel_margin_loss"
    check_reduction(op, reduction)
    if x.ndim == 0 or target.shape != x.shape or x.shape[-1] == 0:
        raise ShapeError(
            f"{op}: x is {x.shape}, target is {target.shape}; they must have one shape with "
            "classes along the last axis. Hint: fill short lists of labels up with -1."
        )
    if dtypes.kind(target.dtype) != "i":
        raise DTypeError(f"{op}: target must be signed integers, not {target.dtype}.")
    (x,), dtype = operands(op, ("x", x))
    classes = x.shape[-1]
    target = astype(target, dtypes.int64)
    wrong = logical_or(target < -1, target >= classes)
    if reductions.any(wrong):
        first = target[wrong][0].item()
        raise IndexingError(f"{op}: target {first} is no class; x has {classes} classes.")
    ended = cumulative_sum(astype(target < 0, dtypes.int64), axis=-1) > 0
    labels = where(ended, 0, target)
    line = arange(classes, dtype=dtypes.int64, device=x.device)
    same = logical_and(expand_dims(labels, -1) == line, expand_dims(logical_not(ended), -1))
    others = logical_not(reductions.any(same, axis=-2, keepdims=True))  # (..., 1, c)
    pairs = logical_and(expand_dims(logical_not(ended), -1), others)  # (..., c labels, c classes)
    chosen = expand_dims(take_along_axis(x, labels), -1)
    terms = where(pairs, relu(1 - (chosen - expand_dims(x, -2))), 0)
    return reduced(reductions.sum(terms, axis=(-2, -1)) / classes, reduction, dtype)


@multilabel_margin_loss.samples
def _():
    labels = Input("int", (3, 4), values=(0, 2, -1, 1, -1, 0, 1, 2, 3, -1, -1, -1))
    yield sample((3, 4), labels)
    yield sample((2, 2, 3), integers(2, 2, 3, low=0, high=3), reduction="none")
    yield sample((2,), Input("int", (2,), values=(1, -1)), reduction="sum")


@multilabel_margin_loss.errors
def _():
    op, x = multilabel_margin_loss, np.zeros((2, 3))
    goals = np.zeros((2, 3), int)
    yield Failure(lambda: op(x, goals[0]), ShapeError, r"target is \(3,\); they must have one")
    yield Failure(lambda: op(x, goals + 3), IndexingError, r"target 3 is no class; x has 3")
    yield Failure(lambda: op(x, x), DTypeError, r"must be signed integers, not float64")
    yield Failure(lambda: op(goals, goals), DTypeError, r"x must be a float, not int64")
    yield Failure(lambda: op(x, goals, reduction=0), ValueRangeError, r"reduction=0")


for _op in (
    *(hinge_embedding_loss, soft_margin_loss, margin_ranking_loss, triplet_margin_loss),
    *(cosine_embedding_loss, multilabel_margin_loss),
):
    _op.options["kinds"] = "f"
