"""Reductions over segments: entries along an axis with one id are reduced to one entry.

What `helixml.sum` and its like do to whole axes, these do to the groups that ``segment_ids`` names:
nodes of graphs, sequences packed into one, classes. Ids need not be sorted. How a segment without
entries comes out is each op's own: the value that changes nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, Input, blank, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, IndexingError, ShapeError, ValueRangeError
from helixml.ops.elementwise import divide, where
from helixml.ops.indexing import take, take_adjoint
from helixml.ops.logic import NO_ORDER, equal
from helixml.ops.movement import as_float, cast
from helixml.ops.scan import linear_scan

Array = Any


def _prepared(op, x, segment_ids, num_segments, axis):
    """Return (number of segments, axis from the front), once the ids are found to fit."""
    if x.dtype == dtypes.bool_:
        raise DTypeError(f"{op}: takes numbers, not truth values. Hint: astype('int64').")
    axis = shapes.normalize_axis(op, axis, x.ndim)
    if not isinstance(segment_ids, Tensor) or segment_ids.shape != (x.shape[axis],):
        found = getattr(segment_ids, "shape", ())
        raise ShapeError(
            f"{op}: segment_ids have shape {found}, axis {axis} of shape {x.shape} needs "
            f"({x.shape[axis]},)."
        )
    if dtypes.kind(segment_ids.dtype) not in "ui":
        raise DTypeError(f"{op}: segment_ids must be integers, not {segment_ids.dtype}.")
    host = segment_ids._backend.to_numpy(segment_ids._array)
    low, high = (int(host.min()), int(host.max())) if host.size else (0, -1)
    count = high + 1 if num_segments is None else dtypes.as_integer(
        op, "num_segments", num_segments
    )  # fmt: skip
    if count < 0:
        raise ValueRangeError(f"{op}: num_segments={count} is negative.")
    if low < 0 or high >= count:
        raise IndexingError(
            f"{op}: segment id {low if low < 0 else high} is out of range for {count} segments."
        )
    return count, axis


def _document(what, empty, gradient):
    return f"""Return the {what} of the entries of each segment along an axis.

    Parameters
    ----------
    x : Tensor with at least one axis, numbers.
    segment_ids : Tensor, (n,), integers in [0, num_segments): the segment of each of the n entries
        along ``axis``, in any order.
    num_segments : how many there are; the largest id + 1 if left out.
    axis : int.

    Returns
    -------
    Tensor, the shape of ``x`` with ``num_segments`` in place of n. A segment without entries
    gives {empty}.

    Raises
    ------
    ShapeError : there are not n ids. IndexingError : an id is out of range. DTypeError : ids are no
    integers, or ``x`` holds truth values. ValueRangeError : ``num_segments`` is negative.

    Notes
    -----
    Gradient: {gradient}
    """


def _by_loop(x, segment_ids, num_segments, axis, empty, reduce):
    """Return ``reduce`` of each segment, by masks: the oracles' common part."""
    count = num_segments
    if count is None:
        count = int(segment_ids.max()) + 1 if segment_ids.size else 0
    rows = np.moveaxis(x, axis, 0)
    result = np.full((count, *rows.shape[1:]), empty, rows.dtype)
    for k in range(count):
        mine = rows[segment_ids == k]
        if len(mine):
            result[k] = reduce(mine)
    return np.moveaxis(result, 0, axis)


def _sum_oracle(x, segment_ids, num_segments=None, axis=0):
    return _by_loop(x, segment_ids, num_segments, axis, 0, lambda rows: rows.sum(0))


@composite(oracle=_sum_oracle)
def segment_sum(
    x: Tensor, segment_ids: Tensor, num_segments: int | None = None, axis: int = 0
) -> Tensor:
    """Return the sum of the entries of each segment along an axis.

    Parameters
    ----------
    x : Tensor with at least one axis, numbers.
    segment_ids : Tensor, (n,), integers in [0, num_segments): the segment of each of the n entries
        along ``axis``, in any order.
    num_segments : how many there are; the largest id + 1 if left out.
    axis : int.

    Returns
    -------
    Tensor, the shape of ``x`` with ``num_segments`` in place of n. A segment without entries
    gives 0.

    Raises
    ------
    ShapeError : there are not n ids. IndexingError : an id is out of range. DTypeError : ids are no
    integers, or ``x`` holds truth values. ValueRangeError : ``num_segments`` is negative.

    Notes
    -----
    Gradient: g of its segment for each entry.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.segment_sum(hx.tensor([1.0, 2.0, 4.0]), hx.tensor([1, 1, 0]))
    tensor([4., 3.])
    """
    count, axis = _prepared("segment_sum", x, segment_ids, num_segments, axis)
    return take_adjoint(x, segment_ids, axis=axis, size=count)


def _mean_oracle(x, segment_ids, num_segments=None, axis=0):
    wide = x if x.dtype.kind in "fc" else x.astype(np.float64)
    nan = complex(np.nan, np.nan) if x.dtype.kind == "c" else np.nan
    return _by_loop(wide, segment_ids, num_segments, axis, nan, lambda rows: rows.mean(0))


@composite(oracle=_mean_oracle)
def segment_mean(
    x: Tensor, segment_ids: Tensor, num_segments: int | None = None, axis: int = 0
) -> Tensor:
    """Return the mean of the entries of each segment along an axis.

    Parameters
    ----------
    x : Tensor with at least one axis, numbers.
    segment_ids : Tensor, (n,), integers in [0, num_segments): the segment of each of the n entries
        along ``axis``, in any order.
    num_segments : how many there are; the largest id + 1 if left out.
    axis : int.

    Returns
    -------
    Tensor, the shape of ``x`` with ``num_segments`` in place of n. A segment without entries
    gives nan, as 0 / 0 does.

    Raises
    ------
    ShapeError : there are not n ids. IndexingError : an id is out of range. DTypeError : ids are no
    integers, or ``x`` holds truth values. ValueRangeError : ``num_segments`` is negative.

    Notes
    -----
    Gradient: g of its segment, divided by the segment's size.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.segment_mean(hx.tensor([1.0, 2.0, 4.0]), hx.tensor([1, 1, 0]))
    tensor([4. , 1.5])
    """
    count, axis = _prepared("segment_mean", x, segment_ids, num_segments, axis)
    x = as_float(x)
    host = segment_ids._backend.to_numpy(segment_ids._array)
    sizes = np.bincount(host.astype(np.int64), minlength=count)
    sizes = sizes.reshape(-1, *(1,) * (x.ndim - axis - 1)).astype(x.dtype)
    total = take_adjoint(x, segment_ids, axis=axis, size=count)
    return divide(total, as_tensor("segment_mean", sizes, x))


def _prod_oracle(x, segment_ids, num_segments=None, axis=0):
    return _by_loop(x, segment_ids, num_segments, axis, 1, lambda rows: rows.prod(0))


@composite(oracle=_prod_oracle)
def segment_prod(
    x: Tensor, segment_ids: Tensor, num_segments: int | None = None, axis: int = 0
) -> Tensor:
    """Return the product of the entries of each segment along an axis.

    Parameters
    ----------
    x : Tensor with at least one axis, numbers.
    segment_ids : Tensor, (n,), integers in [0, num_segments): the segment of each of the n entries
        along ``axis``, in any order.
    num_segments : how many there are; the largest id + 1 if left out.
    axis : int.

    Returns
    -------
    Tensor, the shape of ``x`` with ``num_segments`` in place of n. A segment without entries
    gives 1.

    Raises
    ------
    ShapeError : there are not n ids. IndexingError : an id is out of range. DTypeError : ids are no
    integers, or ``x`` holds truth values. ValueRangeError : ``num_segments`` is negative.

    Notes
    -----
    Gradient: g times the product of the segment's other entries; zeros are fine.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.segment_prod(hx.tensor([1.0, 2.0, 4.0]), hx.tensor([1, 1, 0]))
    tensor([4., 2.])
    """
    count, axis = _prepared("segment_prod", x, segment_ids, num_segments, axis)
    if x.size == 0 or count == 0:  # every segment is empty
        return take_adjoint(x, segment_ids, axis=axis, size=count) + 1
    host = segment_ids._backend.to_numpy(segment_ids._array).astype(np.int64)
    order = np.argsort(host, kind="stable")
    ids = host[order]
    starts = np.concatenate([[True], ids[1:] != ids[:-1]])
    line = (-1, *(1,) * (x.ndim - axis - 1))
    rows = take(x, as_tensor("segment_prod", order, x), axis=axis)
    start = as_tensor("segment_prod", starts.reshape(line), x)
    # h_t = x_t h_(t-1), and x_t where a segment begins: nothing is divided, so zeros are fine.
    running = linear_scan(where(start, 0, rows), where(start, rows, 0), axis=axis)
    last = np.searchsorted(ids, np.arange(count), side="right") - 1
    present = np.isin(np.arange(count), ids)
    found = take(running, as_tensor("segment_prod", np.maximum(last, 0), x), axis=axis)
    return where(as_tensor("segment_prod", present.reshape(line), x), found, 1)


def _extreme(name, summary, empty, function):
    def oracle(x, segment_ids, num_segments=None, axis=0):
        least = _identity(name, x.dtype)
        reduce = np.max if name == "segment_max" else np.min
        return _by_loop(
            x, segment_ids, num_segments, axis, least, lambda rows: reduce(rows, axis=0)
        )

    def forward(
        B, x: Array, segment_ids: Array, num_segments: int | None = None, axis: int = 0
    ) -> Array:
        """Sort the entries by segment, and form running extremes within each, by doubling.

        After k rounds each entry holds the extreme of the last 2^k of its segment (Hillis and
        Steele 1986), so the last entry of each segment has that of all.
        """
        n = x.shape[axis]
        head = (slice(None),) * axis
        line = (-1, *(1,) * (len(x.shape) - axis - 1))
        best = B.full((), _identity(name, B.dtype_of(x)), dtype=B.dtype_of(x))
        shape = (*x.shape[:axis], num_segments, *x.shape[axis + 1 :])
        if n == 0 or num_segments == 0:
            return B.broadcast_to(best, shape)
        order = B.argsort(segment_ids, axis=0)
        ids = B.take(segment_ids, order, axis=0)
        rows = B.take(x, order, axis=axis)
        distance = 1
        while distance < n:
            same = B.equal(
                B.getitem(ids, (slice(distance, None),)), B.getitem(ids, (slice(0, n - distance),))
            )
            if not bool(B.to_numpy(B.ensure(B.any(same, axis=(0,), keepdims=False)))):
                break
            ahead = B.getitem(rows, (*head, slice(distance, None)))
            behind = B.getitem(rows, (*head, slice(0, n - distance)))
            better = B.where(B.reshape(same, line), getattr(B, function)(ahead, behind), ahead)
            rows = B.concat([B.getitem(rows, (*head, slice(0, distance))), better], axis=axis)
            distance *= 2
        wanted = B.arange(0, num_segments, 1, dtype=dtypes.int64)
        ids = B.astype(ids, dtypes.int64)
        end = B.ensure(B.searchsorted(ids, wanted, side="right"))
        start = B.ensure(B.searchsorted(ids, wanted, side="left"))
        one = B.full((), 1, dtype=dtypes.int64)
        last = B.subtract(B.maximum(B.astype(end, dtypes.int64), one), one)
        present = B.reshape(B.not_equal(end, start), line)
        return B.where(present, B.take(rows, last, axis=axis), best)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = _document(
        summary,
        empty,
        "g where the value was found, shared equally between ties. nan wins.",
    )
    op = primitive(forward, promotes=("x",), real_only=NO_ORDER, oracle=oracle)

    @op.prepare
    def _(x, segment_ids, num_segments, axis):
        count, axis = _prepared(name, x, segment_ids, num_segments, axis)
        return {"num_segments": count, "axis": axis}

    @op.vjp("x")
    def _(g, x, segment_ids, out, num_segments, axis):
        found = cast(equal(x, take(out, segment_ids, axis=axis)), g.dtype)
        ties = take_adjoint(found, segment_ids, axis=axis, size=num_segments)
        share = g / where(equal(ties, 0), 1, ties)
        return take(share, segment_ids, axis=axis) * found

    op.flops(lambda x: x.size)
    return op


def _identity(name, dtype):
    """Return what is never chosen by the op ``name``."""
    if dtypes.kind(dtype) in "ui":
        limits = np.iinfo(dtype)
        return int(limits.min if name == "segment_max" else limits.max)
    return -np.inf if name == "segment_max" else np.inf


segment_max = _extreme(
    "segment_max", "largest", "-inf, or the least integer of its dtype", "maximum"
)
segment_min = _extreme(
    "segment_min", "smallest", "inf, or the largest integer of its dtype", "minimum"
)

for _op in (segment_sum, segment_mean, segment_prod, segment_max, segment_min):

    @_op.samples
    def _():
        spread = floats(5, 2, distinct=True)
        ids = Input("int", (5,), values=(1, 0, 1, 1, 2))
        yield sample(spread, ids, kinds="uifc")
        yield sample(spread, ids, num_segments=3, kinds="uifc")
        deep = floats(2, 4, 3, distinct=True)
        yield sample(deep, Input("int", (4,), values=(1, 1, 0, 1)), axis=-2, kinds="uifc")
        yield sample(floats(0, 2), integers(0), kinds="uifc")
        yield sample(floats(3), Input("int", (3,), values=(0, 0, 0)), kinds="uifc")
        # Empty segments: what stands there need not be finite.
        yield sample(spread, integers(5), num_segments=5, kinds="fc", value_only=True)
        yield sample(floats(0, 2), integers(0), num_segments=2, kinds="fc", value_only=True)
        odd = values(1.0, np.nan, -np.inf, 0.0)
        ids = Input("int", (4,), values=(0, 0, 2, 2))
        yield sample(odd, ids, kinds="fc", value_only=True)

    def _errors(op):
        def errors():
            x = blank(3, 2)
            ids = np.array([0, 1, 2])
            yield Failure(lambda: op(x, ids[:2]), ShapeError, r"\(2,\), axis 0 .* needs \(3,\)")
            yield Failure(lambda: op(x, ids, 2), IndexingError, r"segment id 2 is out of range")
            yield Failure(lambda: op(x, ids - 1), IndexingError, r"segment id -1 is out of range")
            yield Failure(lambda: op(x, ids * 0.5), DTypeError, r"must be integers, not float64")
            yield Failure(lambda: op(x > 0, ids), DTypeError, r"not truth values")
            yield Failure(lambda: op(x, ids, -1), ValueRangeError, r"num_segments=-1 is negative")

        return errors

    _op.errors(_errors(_op))
