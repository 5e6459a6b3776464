"""Order statistics: the largest, the middle and the k-th values along axes.

All sort, and take from what is sorted, so each gradient goes to where its value came from. nan
counts as larger than every number.
"""

from __future__ import annotations

import math
import warnings
from typing import Any, Literal, NamedTuple

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, NotDifferentiableError, ShapeError, ValueRangeError
from helixml.ops.arrangement import moveaxis
from helixml.ops.cumulative import cumulative_max
from helixml.ops.elementwise import where
from helixml.ops.indexing import argsort, take_along_axis
from helixml.ops.logic import NO_ORDER, equal, isnan
from helixml.ops.movement import as_float, broadcast_to, concat, permute_dims, reshape
from helixml.ops.reduction import argmax
from helixml.ops.sorting import sort
from helixml.shapes import Axis

Method = Literal["linear", "lower", "higher", "midpoint", "nearest"]
_METHODS = ("linear", "lower", "higher", "midpoint", "nearest")


class TopK(NamedTuple):
    """What `topk` gives."""

    values: Tensor
    indices: Tensor


class KthValue(NamedTuple):
    """What `kthvalue` gives."""

    values: Tensor
    indices: Tensor


def _topk_oracle(x, k, axis=-1, *, largest=True, sorted=True):
    rows = np.moveaxis(x, axis, -1)
    order = np.zeros((*rows.shape[:-1], k), np.int64)
    for place in np.ndindex(rows.shape[:-1]):
        keys = [(math.isnan(v), 0.0 if math.isnan(v) else float(v)) for v in rows[place]]
        if largest:
            keys = [(-nan, -v) for nan, v in keys]
        order[place] = np.array(_in_order(keys)[:k], np.int64)
    order = np.moveaxis(order, -1, axis)
    return np.take_along_axis(x, order, axis), order


def _in_order(keys):
    """Return the positions that sort ``keys``."""
    return sorted(range(len(keys)), key=keys.__getitem__)


@composite(real_only=NO_ORDER, oracle=_topk_oracle)
def topk(x: Tensor, k: int, axis: int = -1, *, largest: bool = True, sorted: bool = True) -> TopK:
    """Return the k largest (or smallest) values along an axis, and where they are.

    Parameters
    ----------
    x : Tensor with at least one axis.
    k : int, at most the size of ``axis``.
    axis : int.
    largest : the largest, largest first; otherwise the smallest, smallest first.
    sorted : taken for PyTorch's sake: the values come in order in any case.

    Returns
    -------
    values : Tensor, the shape of ``x`` with k along ``axis``, and its dtype.
    indices : Tensor, int64, of the same shape. Of equal values the first comes first.

    Raises
    ------
    ValueRangeError : ``k`` is negative, or there are fewer values. ShapeError : no such axis.

    Notes
    -----
    Gradient: g of the values, each back where it came from. nan counts as the largest.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.topk(hx.tensor([1.0, 3.0, 2.0]), 2)
    TopK(values=tensor([3., 2.]), indices=tensor([1, 2]))
    """
    axis = shapes.normalize_axis("topk", axis, x.ndim)
    k = dtypes.as_integer("topk", "k", k)
    if not 0 <= k <= x.shape[axis]:
        raise ValueRangeError(
            f"topk: k={k} is not in [0, {x.shape[axis]}], axis {axis} of shape {x.shape}."
        )
    order = argsort(x, axis=axis, descending=bool(largest))
    indices = order[(*(slice(None),) * axis, slice(0, k))]
    return TopK(take_along_axis(x, indices, axis=axis), indices)


@topk.samples
def _():
    yield sample(floats(3, 4, distinct=True), k=2, kinds="uifc")
    yield sample(floats(3, 4, distinct=True), k=3, axis=0, largest=False, kinds="uifc")
    yield sample(floats(2, 3, 2, distinct=True), k=3, axis=-2, sorted=False, kinds="uifc")
    yield sample(floats(3, distinct=True), k=0, kinds="uifc")
    yield sample(values(1.0, np.nan, 2.0, np.inf, 2.0), k=4, kinds="uifc", value_only=True)


@topk.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: topk(x, 4), ValueRangeError, r"k=4 is not in \[0, 3\]")
    yield Failure(lambda: topk(x, -1), ValueRangeError, r"k=-1 is not in")
    yield Failure(lambda: topk(x, 1.5), DTypeError, r"k must be an integer, not 1\.5")
    yield Failure(lambda: topk(x, 1, axis=2), ShapeError, r"axis 2 is out of range")


def _kth_oracle(x, k, axis=-1, keepdims=False):
    order = np.take(np.argsort(x, axis=axis, kind="stable"), [k - 1], axis=axis)
    found = np.take_along_axis(x, order, axis)
    return (found, order) if keepdims else (found.squeeze(axis), order.squeeze(axis))


@composite(real_only=NO_ORDER, oracle=_kth_oracle)
def kthvalue(x: Tensor, k: int, axis: int = -1, keepdims: bool = False) -> KthValue:
    """Return the k-th smallest value along an axis, and where it is.

    Parameters
    ----------
    x : Tensor with at least one axis.
    k : int from 1 to the size of ``axis``.
    axis : int.
    keepdims : keep the axis with size 1.

    Returns
    -------
    values : Tensor, the dtype of ``x``.
    indices : Tensor, int64, of the same shape.

    Raises
    ------
    ValueRangeError : there is no k-th value. ShapeError : there is no such axis.

    Notes
    -----
    Gradient: g, back where the value came from. nan counts as the largest.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.kthvalue(hx.tensor([1.0, 3.0, 2.0]), 2)
    KthValue(values=tensor(2.), indices=tensor(2))
    """
    axis = shapes.normalize_axis("kthvalue", axis, x.ndim)
    k = dtypes.as_integer("kthvalue", "k", k)
    if not 1 <= k <= x.shape[axis]:
        raise ValueRangeError(
            f"kthvalue: k={k} is not in [1, {x.shape[axis]}], axis {axis} of shape {x.shape}."
        )
    indices = argsort(x, axis=axis)[(*(slice(None),) * axis, slice(k - 1, k))]
    found = take_along_axis(x, indices, axis=axis)
    if keepdims:
        return KthValue(found, indices)
    shape = shapes.reduced(x.shape, (axis,), keepdims=False)
    return KthValue(reshape(found, shape), reshape(indices, shape))


@kthvalue.samples
def _():
    yield sample(floats(3, 4, distinct=True), k=2, kinds="uifc")
    yield sample(floats(3, 4, distinct=True), k=3, axis=0, keepdims=True, kinds="uifc")


@kthvalue.errors
def _():
    yield Failure(lambda: kthvalue(blank(3), 0), ValueRangeError, r"k=0 is not in \[1, 3\]")
    yield Failure(lambda: kthvalue(blank(), 1), ShapeError, r"a scalar has no axes")


class Mode(NamedTuple):
    """What `mode` gives."""

    values: Tensor
    counts: Tensor


def _mode_oracle(x, axis=-1, keepdims=False):
    rows = np.moveaxis(x, axis, -1)
    found = np.zeros(rows.shape[:-1], x.dtype)
    counts = np.zeros(rows.shape[:-1], np.int64)
    for place in np.ndindex(found.shape):
        distinct, often = np.unique(rows[place], return_counts=True)
        found[place], counts[place] = distinct[often.argmax()], often.max()
    if keepdims:
        return np.expand_dims(found, axis), np.expand_dims(counts, axis)
    return found, counts


@composite(real_only=NO_ORDER, oracle=_mode_oracle)
def mode(x: Tensor, axis: int = -1, keepdims: bool = False) -> Mode:
    """Return the most common value along an axis, and how often it occurs.

    Parameters
    ----------
    x : Tensor with at least one axis, not empty along ``axis``.
    axis : int.
    keepdims : keep the axis with size 1.

    Returns
    -------
    values : Tensor, the dtype of ``x``; the smallest of several. Every nan is a value of its own.
    counts : Tensor, int64, of the same shape. Carries no gradient.

    Raises
    ------
    ShapeError : the axis is empty, or there is none.

    Notes
    -----
    Gradient: g, back to one entry of the value.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.mode(hx.tensor([3, 1, 3, 2]))
    Mode(values=tensor(3), counts=tensor(2))
    """
    from helixml.ops.creation import arange

    axis = shapes.normalize_axis("mode", axis, x.ndim)
    n = x.shape[axis]
    if n == 0:
        raise ShapeError(f"mode: axis {axis} of shape {x.shape} is empty.")
    rows = sort(moveaxis(x, axis, -1))
    place = broadcast_to(arange(n, dtype=dtypes.int64, device=x.device), rows.shape)
    starts = concat([place[..., :1], where(rows[..., 1:] == rows[..., :-1], 0, place[..., 1:])], -1)
    length = place - cumulative_max(starts, axis=-1) + 1  # of the run of equal values so far
    best = argmax(length, axis=-1, keepdims=True)
    found, counts = (take_along_axis(y, best, axis=-1) for y in (rows, length))
    if keepdims:
        return Mode(moveaxis(found, -1, axis), moveaxis(counts, -1, axis))
    return Mode(found[..., 0], counts[..., 0])


@mode.samples
def _():
    yield sample(values(2.0, 1.0, 2.0, 1.0, 0.0, 5.0), kinds="uifc", value_only=True)
    yield sample(floats(3, 4, distinct=True), axis=0, keepdims=True, kinds="uifc")
    yield sample(integers(3, 9), axis=-1)
    yield sample(integers(9, 3), axis=0)
    yield sample((1,), kinds="uifc")


@mode.errors
def _():
    yield Failure(lambda: mode(blank(2, 0)), ShapeError, r"axis 1 of shape \(2, 0\) is empty")
    yield Failure(lambda: mode(blank(2), 1), ShapeError, r"axis 1 is out of range")


# Quantiles


def _probabilities(op: str, q: Any) -> Any:
    """Return ``q`` as a NumPy array of float64 with at most one axis, values in [0, 1]."""
    if isinstance(q, Tensor):
        if q.requires_grad:
            raise NotDifferentiableError(
                f"{op}: has no derivative with respect to 'q'. Hint: q.detach()."
            )
        q = q.numpy()
    try:
        host = np.asarray(q)
    except (TypeError, ValueError):
        host = np.asarray("")
    if host.dtype not in dtypes.FLOATS and host.dtype.kind not in "iu":
        raise DTypeError(f"{op}: q must be numbers, not {q!r:.80}.")
    host = host.astype(np.float64)
    if host.ndim > 1:
        raise ShapeError(f"{op}: q must have at most one axis, its shape is {host.shape}.")
    if not ((host >= 0) & (host <= 1)).all():
        raise ValueRangeError(f"{op}: q={q!r:.80} is not in [0, 1].")
    return host


def _neighbours(place: Any, method: str) -> tuple[Any, Any, Any]:
    """Return which sorted values lie below and above each place, and the weight of the latter."""
    low, high = np.floor(place), np.ceil(place)
    if method == "lower":
        high = low
    elif method == "higher":
        low = high
    elif method == "nearest":
        low = high = np.rint(place)
    weight = place - low
    if method == "midpoint":
        weight = np.where(low == high, 0.0, 0.5)
    return low.astype(np.int64), high.astype(np.int64), weight


def _quantile(op: str, x: Tensor, q: Any, axis: Axis, keepdims: bool, method: str, skip: bool):
    """Return quantiles; ``skip`` leaves nan out, otherwise it wins."""
    if method not in _METHODS:
        raise ValueRangeError(f"{op}: method={method!r:.80}. Hint: one of {', '.join(_METHODS)}.")
    wanted = _probabilities(op, q)
    axes = shapes.normalize_axes(op, axis, x.ndim)
    others = tuple(a for a in range(x.ndim) if a not in axes)
    x = as_float(x)
    n = math.prod(x.shape[a] for a in axes)
    if n == 0:
        raise ShapeError(f"{op}: has no value over an empty axis of shape {x.shape}.")
    kept = tuple(x.shape[a] for a in others)
    rows = sort(reshape(permute_dims(x, (*others, *axes)), (*kept, n)))
    if skip:
        host = np.isnan(rows._backend.to_numpy(rows._array).astype(np.float64))
        count = n - host.sum(axis=-1, keepdims=True)
    else:
        count = np.full((*kept, 1), n)
    place = np.maximum(count - 1, 0) * wanted.reshape(-1)  # (*kept, number of q)
    low, high, weight = _neighbours(place, method)
    below = take_along_axis(rows, as_tensor(op, low, x), axis=-1)
    above = take_along_axis(rows, as_tensor(op, high, x), axis=-1)
    part = as_tensor(op, np.asarray(weight).astype(x.dtype), x)
    # Equal neighbours may be infinite, and their difference nan.
    result = where(equal(below, above), below, below + part * (above - below))
    if not skip:
        last = rows[..., -1:]
        result = where(isnan(last), last, result)
    result = permute_dims(result, (len(kept), *range(len(kept))))
    return reshape(result, (*wanted.shape, *shapes.reduced(x.shape, axes, bool(keepdims))))


def _of_floats(function):
    def oracle(x, *args, **kwargs):
        with warnings.catch_warnings():  # of nothing but nan
            warnings.simplefilter("ignore", RuntimeWarning)
            return function(x if x.dtype.kind == "f" else x.astype(np.float64), *args, **kwargs)

    return oracle


def _quantile_document(what: str, name: str, nan: str) -> str:
    return f"""Return quantiles over axes{what}: values below which a part q of all values lies.

    Parameters
    ----------
    x : Tensor, not empty over ``axis``; integers become the default float.
    q : number, or several (list, array or Tensor with one axis), in [0, 1].
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.
    method : what stands between the sorted values at q (n - 1): "linear" interpolation, the "lower"
        or the "higher" neighbour, their "midpoint", or the "nearest" (of two the even one).

    Returns
    -------
    Tensor, a float dtype; with one axis more in front where ``q`` has one. {nan}

    Raises
    ------
    ValueRangeError : q is not in [0, 1], or another ``method``. ShapeError : an axis is empty, out
    of range or named twice, or q has several axes. NotDifferentiableError : q requires a gradient.

    Notes
    -----
    Gradient: g, in parts where the two neighbours came from; all of it at the first if they are
    equal.

    References
    ----------
    Hyndman and Fan 1996, "Sample quantiles in statistical packages": "linear" is definition 7.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.{name}(hx.tensor([1.0, 2.0, 4.0]), [0.25, 1.0])
    tensor([1.5, 4. ])
    """


@composite(real_only=NO_ORDER, oracle=_of_floats(np.quantile))
def quantile(
    x: Tensor, q: Any, axis: Axis = None, keepdims: bool = False, *, method: Method = "linear"
) -> Tensor:
    """Return quantiles over axes."""
    return _quantile("quantile", x, q, axis, keepdims, method, skip=False)


@composite(real_only=NO_ORDER, oracle=_of_floats(np.nanquantile))
def nanquantile(
    x: Tensor, q: Any, axis: Axis = None, keepdims: bool = False, *, method: Method = "linear"
) -> Tensor:
    """Return quantiles over axes of the values that are not nan."""
    return _quantile("nanquantile", x, q, axis, keepdims, method, skip=True)


quantile.__doc__ = _quantile_document("", "quantile", "nan if a value is nan.")
nanquantile.__doc__ = _quantile_document(
    " of the values that are not nan", "nanquantile", "nan if all values are nan."
)


@composite(real_only=NO_ORDER, oracle=_of_floats(np.median))
def median(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the median over axes: the middle value, or the mean of the two in the middle.

    Parameters
    ----------
    x : Tensor, not empty over ``axis``; integers become the default float.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor, a float dtype; nan if a value is nan.

    Raises
    ------
    ShapeError : an axis is empty, out of range or named twice.

    Notes
    -----
    Gradient: g where the middle value came from, or half of it for each of two.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.median(hx.tensor([3.0, 1.0, 2.0, 10.0]))
    tensor(2.5)
    """
    return _quantile("median", x, 0.5, axis, keepdims, "linear", skip=False)


@composite(real_only=NO_ORDER, oracle=_of_floats(np.nanmedian))
def nanmedian(x: Tensor, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """Return the median over axes of the values that are not nan; see `median`.

    Parameters
    ----------
    x : Tensor, not empty over ``axis``; integers become the default float.
    axis : None, int or tuple of int.
    keepdims : keep the reduced axes with size 1.

    Returns
    -------
    Tensor, a float dtype; nan if all values are nan.

    Raises
    ------
    ShapeError : an axis is empty, out of range or named twice.
    """
    return _quantile("nanmedian", x, 0.5, axis, keepdims, "linear", skip=True)


def _middle_samples(more):
    def samples():
        yield sample(floats(3, 4, distinct=True), **more)
        yield sample(floats(3, 4, distinct=True), axis=0, **more)
        yield sample(floats(2, 3, 4, distinct=True), axis=(0, -1), keepdims=True, **more)
        yield sample((), **more)
        yield sample(integers(5, high=99), axis=-1, **more)
        yield sample(values(1.0, np.nan, 2.0, 5.0), axis=0, value_only=True, **more)
        yield sample(values(np.nan, np.nan), axis=0, value_only=True, **more)
        if not more:  # NumPy's quantiles of infinities are nan
            yield sample(values(np.inf, 1.0, np.inf, np.inf), axis=0, value_only=True)

    return samples


for _op in (median, nanmedian):
    _op.samples(_middle_samples({}))

for _op in (quantile, nanquantile):

    @_op.samples
    def _():
        yield from _middle_samples({"q": 0.3})()
        line = floats(6, 2, distinct=True)
        for method in _METHODS:
            yield sample(line, q=[0.0, 0.33, 0.5, 1.0], axis=0, method=method)
        yield sample(line, q=[], axis=0)


def _bad_axes(op, *q):
    def errors():
        x = blank(2, 3)
        yield Failure(lambda: op(x, *q, axis=2), ShapeError, r"axis 2 is out of range")
        yield Failure(lambda: op(blank(2, 0), *q, axis=1), ShapeError, r"over an empty axis")
        if q:
            yield Failure(lambda: op(x, 1.5), ValueRangeError, r"q=1\.5 is not in \[0, 1\]")
            yield Failure(lambda: op(x, np.nan), ValueRangeError, r"q=nan is not in \[0, 1\]")
            yield Failure(lambda: op(x, "a"), DTypeError, r"q must be numbers, not 'a'")
            yield Failure(lambda: op(x, [[0.5]]), ShapeError, r"at most one axis.* \(1, 1\)")
            yield Failure(
                lambda: op(x, 0.5, method="up"), ValueRangeError, r"method='up'\. Hint: one of lin"
            )
            line = blank(2)
            line.requires_grad = True
            yield Failure(lambda: op(x, line), NotDifferentiableError, r"no derivative .* 'q'")

    return errors


for _op in (median, nanmedian):
    _op.errors(_bad_axes(_op))
for _op in (quantile, nanquantile):
    _op.errors(_bad_axes(_op, 0.5))
