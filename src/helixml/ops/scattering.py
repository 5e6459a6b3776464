"""Scattering: values put along an axis where indices say, the counterparts of `take_along_axis`.

All are updates as those of ``x.at``, with an index made of the positions along the other axes.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from helixml import shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, Input, blank, floats, integers, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, IndexingError, ShapeError, ValueRangeError
from helixml.ops.indexing import check_indices
from helixml.ops.updates_at import replaced, updated

Reduce = Literal["add", "multiply", "divide", "power", "max", "min"] | None


def _index(op: str, x: Tensor, indices: Tensor, axis: int) -> tuple[Any, ...]:
    """Return the index of the places that ``indices`` name along ``axis``."""
    axis = shapes.normalize_axis(op, axis, x.ndim)
    agree = indices.ndim == x.ndim and all(
        n in (1, m)
        for a, (m, n) in enumerate(zip(x.shape, indices.shape, strict=True))
        if a != axis
    )
    if not agree:
        raise ShapeError(
            f"{op}: x is {x.shape}, indices are {indices.shape}; they must agree beyond axis "
            f"{axis}, or the indices have size 1 there."
        )
    check_indices(op, indices, x.shape[axis], axis)
    lines = []
    for a, n in enumerate(x.shape):
        shape = [1] * x.ndim
        shape[a] = n
        lines.append(np.arange(n).reshape(shape))
    lines[axis] = indices._backend.to_numpy(indices._array)
    return tuple(lines)


def _scatter_oracle(x, indices, values, axis=-1, *, reduce=None):
    result = x.copy()
    shape = list(x.shape)
    shape[axis] = indices.shape[axis]
    values = np.broadcast_to(values, shape)
    indices = np.broadcast_to(indices, shape)
    name = {"max": "maximum", "min": "minimum"}.get(reduce, reduce)
    for place in np.ndindex(*shape):
        target = list(place)
        target[axis] = int(indices[place])
        old, new = result[tuple(target)], values[place]
        result[tuple(target)] = new if name is None else getattr(np, name)(old, new)
    return result


@composite(oracle=_scatter_oracle)
def scatter(
    x: Tensor, indices: Tensor, values: Tensor, axis: int = -1, *, reduce: Reduce = None
) -> Tensor:
    """Return ``x`` with values combined into it along an axis, one at each index.

    For axis 1 of a matrix, entry ``[i, indices[i, j]]`` is combined with ``values[i, j]``.

    Parameters
    ----------
    x : Tensor with at least one axis.
    indices : Tensor of an integer dtype, the rank of ``x``, in [-n, n); sizes equal or 1 in all
        axes but ``axis``.
    values : Tensor or scalar that broadcasts to the shape of ``indices`` with the other sizes of
        ``x``.
    axis : int, of size n.
    reduce : None, to put the values there (the last one holds), or how they are combined with what
        is there: "add", "multiply", "divide", "power", "max" or "min", as ``x.at`` does.

    Returns
    -------
    Tensor, shape and dtype of ``x``.

    Raises
    ------
    ShapeError : shapes do not fit. IndexingError : an index is out of range. DTypeError : indices
    are no integers, or values of a kind that does not fit. ValueRangeError : another ``reduce``.

    Notes
    -----
    Gradient: that of the combination, in ``x`` and in the values; 0 for what was overwritten.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 2.0, 3.0])
    >>> hx.scatter(x, hx.tensor([0, 0, 2]), hx.tensor([5.0, 7.0, 1.0]), reduce="max")
    tensor([7., 2., 3.])
    """
    index = _index("scatter", x, indices, axis)
    return replaced(x, index, values) if reduce is None else updated(x, index, values, reduce)


@scatter.samples
def _():
    twice = Input("int", (2, 3), values=(0, 0, 1, 3, 1, 3))
    for reduce in (None, "add", "multiply", "max", "min"):
        yield sample((2, 4), twice, (2, 3), axis=1, reduce=reduce, kinds="f")
    for reduce in (None, "add", "multiply"):
        yield sample((2, 4), twice, (2, 3), axis=1, reduce=reduce, kinds="c")
    yield sample((2, 4), integers(1, 4, high=2), (4,), axis=0, kinds="f")
    yield sample((2, 4), integers(1, 3, high=4), 2.0, reduce="add", kinds="f")
    away = floats(2, 3, low=0.5)
    yield sample((2, 4), twice, away, reduce="divide", kinds="f")
    yield sample(floats(2, 4, low=0.5), twice, floats(2, 3), reduce="power", kinds="f")
    yield sample((0, 4), integers(0, 2), (0, 2), kinds="f")
    yield sample(integers(2, 4), twice, integers(2, 3), reduce="add")


@scatter.errors
def _():
    x, index = blank(2, 3), np.array([[0], [2]])
    yield Failure(lambda: scatter(x, index[0], 1.0), ShapeError, r"they must agree beyond axis 1")
    yield Failure(
        lambda: scatter(x, index + 1, 1.0), IndexingError, r"3 is out of range for axis 1"
    )
    yield Failure(lambda: scatter(x, index * 0.5, 1.0), DTypeError, r"must be integers")
    yield Failure(lambda: scatter(x, index, blank(2, 2)), ShapeError, r"\(2, 2\) does not fit")
    yield Failure(lambda: scatter(x, index, 1.0, reduce="up"), ValueRangeError, r"how='up'")
    yield Failure(lambda: scatter(x, index, 1.0, 2), ShapeError, r"axis 2 is out of range")


@composite(oracle=_scatter_oracle)
def put_along_axis(x: Tensor, indices: Tensor, values: Tensor, axis: int = -1) -> Tensor:
    """Return ``x`` with values put along an axis, one at each index: `scatter` without ``reduce``.

    Parameters
    ----------
    x : Tensor with at least one axis.
    indices : Tensor of an integer dtype, the rank of ``x``, in [-n, n).
    values : Tensor or scalar that broadcasts to the shape of ``indices``.
    axis : int, of size n.

    Returns
    -------
    Tensor, shape and dtype of ``x``; where an index is named twice, the last value holds.

    Raises
    ------
    ShapeError : shapes do not fit. IndexingError : an index is out of range.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.put_along_axis(hx.zeros((2, 2)), hx.tensor([[1], [0]]), 5.0)
    tensor([[0., 5.],
            [5., 0.]])
    """
    return replaced(x, _index("put_along_axis", x, indices, axis), values)


def _add_oracle(x, indices, values, axis=-1):
    return _scatter_oracle(x, indices, values, axis, reduce="add")


@composite(oracle=_add_oracle)
def scatter_add(x: Tensor, indices: Tensor, values: Tensor, axis: int = -1) -> Tensor:
    """Return ``x`` with values added along an axis, one at each index; those of one place add up.

    Parameters
    ----------
    x : Tensor with at least one axis.
    indices : Tensor of an integer dtype, the rank of ``x``, in [-n, n).
    values : Tensor or scalar that broadcasts to the shape of ``indices``.
    axis : int, of size n.

    Returns
    -------
    Tensor, shape and dtype of ``x``. The order of addition follows from positions alone: the same
    bits every time.

    Raises
    ------
    ShapeError : shapes do not fit. IndexingError : an index is out of range.

    Notes
    -----
    Gradient: g for ``x``, and `take_along_axis` of g for the values. To add whole rows, write
    ``x.at[ids].add(rows)``, or `segment_sum`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.scatter_add(hx.zeros((3,)), hx.tensor([0, 2, 0]), hx.tensor([1.0, 2.0, 3.0]))
    tensor([4., 0., 2.])
    """
    return updated(x, _index("scatter_add", x, indices, axis), values, "add")


for _op in (scatter, put_along_axis, scatter_add):
    _op.options["exact_dtype"] = False  # that of x, as in the oracle

for _op in (put_along_axis, scatter_add):

    @_op.samples
    def _():
        twice = Input("int", (2, 3), values=(0, 0, 1, 3, 1, -1))
        for kinds in ("f", "c"):
            yield sample((2, 4), twice, (2, 3), axis=1, kinds=kinds)
        yield sample((2, 4), integers(1, 4, high=2), (4,), axis=0, kinds="f")
        yield sample((4,), integers(3, high=4), 2.0, kinds="f")
        yield sample(integers(2, 4), twice, integers(2, 3))

    def _errors(op):
        def errors():
            x, index = blank(2, 3), np.array([[0], [3]])
            yield Failure(lambda: op(x, index, 1.0), IndexingError, r"3 is out of range for axis 1")
            yield Failure(lambda: op(x, index[0], 1.0), ShapeError, r"must agree beyond axis 1")

        return errors

    _op.errors(_errors(_op))
