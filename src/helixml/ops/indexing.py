"""Indexing: parts of a tensor, and the adjoints that put parts back.

Basic indexes (integers, slices, ``None``, ``...``) are the primitive `part`, whose adjoint `place`
writes into zeros. Indexes with arrays are positions along one axis: `indices` works them out, and
`take` fetches them; its adjoint is `take_adjoint`. ``x[i] = v`` and ``x.at`` are in `updates_at`.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core import cost
from helixml._core.capturing import uncaptured
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, IndexingError, ShapeError
from helixml.ops.indices import Selection, plain, refused, select
from helixml.ops.movement import permute_dims, reshape

Array = Any


# Basic indexes


def _part_oracle(x, index):
    return x[index]


@primitive(view=True, oracle=_part_oracle, direct="getitem")
def part(B, x: Array, index: tuple[Any, ...]):
    """Return ``x[index]`` for a basic index: integers, slices, None and an ellipsis.

    Parameters
    ----------
    x : Tensor.
    index : tuple.

    Returns
    -------
    Tensor.
    """
    return B.getitem(x, index)


part.vjp("x")(lambda g, x_shape, index: place(g, x_shape, index))


@part.errors
def _():
    x = blank(3, 4)
    yield Failure(
        lambda: x[3], IndexingError, r"shape \(3, 4\) does not take \[3\]: index 3 is out"
    )
    yield Failure(lambda: x[0, 0, 0], IndexingError, r"too many indices")
    yield Failure(lambda: x["a"], IndexingError, r"'a' cannot index")
    yield Failure(lambda: x[blank(3)], IndexingError, r"a tensor of float32 cannot index")
    yield Failure(lambda: x[:, [0, 5]], IndexingError, r"5 is out of bounds for axis 1 with size 4")
    yield Failure(lambda: x[-4], IndexingError, r"-4 is out of bounds for axis 0 with size 3")
    yield Failure(lambda: x[10**30], IndexingError, r"is out of bounds for axis 0")
    yield Failure(lambda: x[np.array([0.5])], IndexingError, r"an array of float64 cannot index")
    yield Failure(
        lambda: x[np.ones((3, 3), bool)], IndexingError, r"mask of shape \(3, 3\) stands for .*4\)"
    )
    yield Failure(
        lambda: x[[0, 1], [0, 1, 2]], IndexingError, r"shapes \(2,\) and \(3,\) do not broadcast"
    )
    yield Failure(lambda: x[..., ...], IndexingError, r"more than one ellipsis")
    yield Failure(lambda: x[::0], IndexingError, r"slice|step|range")
    yield Failure(lambda: x["a":], IndexingError, r"in axis 0")


@part.samples
def _():
    yield sample((3, 4), index=(1,))
    yield sample((3, 4), index=(slice(None), slice(1, 3)))
    yield sample((3, 4), index=(slice(None, None, -1), None, 2))
    yield sample((2, 3, 4), index=(..., slice(0, 4, 2)))
    yield sample((3, 4), index=(slice(2, 2),))


def _place_oracle(x, shape, index):
    result = np.zeros(shape, x.dtype)
    result[index] = x
    return result


@primitive(oracle=_place_oracle)
def place(B, x: Array, shape: tuple[int, ...], index: tuple[Any, ...]):
    """Return zeros of ``shape`` with ``x`` written at the basic ``index``: the adjoint of `part`.

    Parameters
    ----------
    x : Tensor in the shape that ``index`` selects.
    shape : tuple of int.
    index : tuple.

    Returns
    -------
    Tensor.
    """
    return B.place(x, shape, index)


place.vjp("x")(lambda g, index: part(g, index))
place.flops(cost.free)


@place.samples
def _():
    yield sample((2, 4), shape=(3, 4), index=(slice(0, 3, 2),))
    yield sample((), shape=(3,), index=(1,))


# Along an axis


def _take_oracle(x, indices, axis=0):
    return np.take(x, indices, axis=axis)


@primitive(promotes=("x",), oracle=_take_oracle)
def take(B, x: Array, indices: Array, axis: int | None = None):
    """Fetch entries along an axis; ``indices`` takes the axis's place in the shape.

    Parameters
    ----------
    x : Tensor.
    indices : Tensor of an integer dtype, any shape, values in [-n, n).
    axis : int; the first axis if left out.

    Returns
    -------
    Tensor of shape ``x.shape[:axis] + indices.shape + x.shape[axis + 1:]``.

    Raises
    ------
    IndexingError : an index is out of range. DTypeError : indices are not integers.

    Notes
    -----
    Gradient: `take_adjoint` of g. An embedding is ``take(weight, ids)``.
    """
    return B.take(x, indices, axis=axis)


_FEW = 32


def _check_integers(op, indices):
    if dtypes.kind(indices.dtype) not in "ui":
        raise DTypeError(
            f"{op}: indices must be integers, not {indices.dtype}. Hint: astype('int64')."
        )


@partial(uncaptured, changes=False)
def check_indices(op, indices, n, axis):
    """Raise unless ``indices`` are integers in [-n, n)."""
    _check_integers(op, indices)
    if indices.size:
        host = indices._backend.to_numpy(indices._array)
        if host.size <= _FEW:  # Python is done before NumPy begins
            found = host.ravel().tolist()
            low, high = min(found), max(found)
        else:
            low, high = int(host.min()), int(host.max())
        if low < -n or high >= n:
            raise IndexingError(
                f"{op}: index {low if low < -n else high} is out of range for axis {axis} "
                f"with size {n}."
            )


@take.prepare
def _(x, indices, axis):
    _check_integers("take", indices)
    return {"axis": shapes.normalize_axis("take", 0 if axis is None else axis, x.ndim)}


@take.diagnose
def _(x, indices, axis):
    try:
        check_indices("take", indices, x.shape[axis], axis)
    except IndexingError as error:
        return error
    return None


take.vjp("x")(
    lambda g, indices, x_shape, axis: take_adjoint(g, indices, axis=axis, size=x_shape[axis])
)
take.flops(cost.free)
take.options["moves"] = True  # entries of any dtype, without looking at them
take.traffic(lambda indices, out: indices.nbytes + 2 * out.nbytes)  # not all of x


@take.samples
def _():
    yield sample((3, 4), integers(5, high=3), axis=0)
    yield sample((3, 4), integers(2, 2, low=-4, high=4), axis=1)
    yield sample((3, 4), integers(0, high=3), axis=0)
    yield sample((3, 4), integers(high=3), axis=-1)
    yield sample((3, 4), integers(2, high=3))


@take.errors
def _():
    x = blank(3, 4)
    yield Failure(
        lambda: take(x, np.array([3])), IndexingError, r"3 is out of range for axis 0 with"
    )
    yield Failure(lambda: take(x, np.array([-4])), IndexingError, r"index -4 is out of range")
    yield Failure(lambda: take(x, np.array([0.5])), DTypeError, r"must be integers, not float64")


def _scatter_oracle(x, indices, axis, size):
    rank = indices.ndim
    result = np.zeros((*x.shape[:axis], size, *x.shape[axis + rank :]), x.dtype)
    for position in np.ndindex(indices.shape):
        left = (slice(None),) * axis
        result[(*left, int(indices[position]))] += x[(*left, *position)]
    return result


@primitive(promotes=("x",), oracle=_scatter_oracle)
def take_adjoint(B, x: Array, indices: Array, axis: int, size: int):
    """Add entries into zeros along an axis: the adjoint of `take`.

    Parameters
    ----------
    x : Tensor whose axes from ``axis`` on begin with the shape of ``indices``.
    indices : Tensor of an integer dtype, values in [-size, size).
    axis : int, not negative.
    size : int, how many entries the result has along ``axis``.

    Returns
    -------
    Tensor. The order of addition follows from positions alone: the same bits every time.

    Notes
    -----
    Gradient: `take` of g.
    """
    return B.scatter_add(x, indices, axis=axis, size=size)


@take_adjoint.prepare
def _(x, indices, axis, size):
    check_indices("take_adjoint", indices, size, axis)
    if x.shape[axis : axis + indices.ndim] != indices.shape:
        raise ShapeError(
            f"take_adjoint: x is {x.shape}, which has not the shape {indices.shape} of the indices "
            f"at axis {axis}."
        )
    return {"axis": int(axis), "size": int(size)}


take_adjoint.vjp("x")(lambda g, indices, axis: take(g, indices, axis=axis))
take_adjoint.flops(lambda x: x.size)  # an addition each


@take_adjoint.samples
def _():
    yield sample((5, 4), integers(5, high=3), axis=0, size=3)
    yield sample((3, 2, 2), integers(2, 2, high=4), axis=1, size=4)
    yield sample((0, 4), integers(0, high=3), axis=0, size=3)


@take_adjoint.errors
def _():
    x = blank(2, 3)
    yield Failure(
        lambda: take_adjoint(x, np.array([0, 2]), axis=0, size=2), IndexingError, r"index 2 is out"
    )
    yield Failure(
        lambda: take_adjoint(x, np.array([0]), axis=0, size=2), ShapeError, r"has not the shape"
    )


@primitive(promotes=("x",), oracle=np.take_along_axis)
def take_along_axis(B, x: Array, indices: Array, axis: int = -1):
    """Fetch one entry along an axis for each position, as ``x[i, indices[i, j]]`` does for axis 1.

    Parameters
    ----------
    x : Tensor.
    indices : Tensor of an integer dtype, the rank of ``x``, equal sizes in all other axes.
    axis : int.

    Returns
    -------
    Tensor of the shape of ``indices``.

    Raises
    ------
    ShapeError : ranks or other sizes differ. IndexingError : an index is out of range.
    """
    return B.take_along_axis(x, indices, axis=axis)


@take_along_axis.prepare
def _(x, indices, axis):
    axis = shapes.normalize_axis("take_along_axis", axis, x.ndim)
    if indices.ndim != x.ndim or any(
        m != n for a, (m, n) in enumerate(zip(x.shape, indices.shape, strict=True)) if a != axis
    ):
        raise ShapeError(
            f"take_along_axis: x is {x.shape}, indices are {indices.shape}; "
            f"they must agree beyond axis {axis}."
        )
    check_indices("take_along_axis", indices, x.shape[axis], axis)
    return {"axis": axis}


take_along_axis.vjp("x")(
    lambda g, indices, x_shape, axis: take_along_axis_adjoint(
        g, indices, axis=axis, size=x_shape[axis]
    )
)
take_along_axis.flops(cost.free)
take_along_axis.traffic(lambda indices, out: indices.nbytes + 2 * out.nbytes)  # not all of x


@take_along_axis.samples
def _():
    yield sample((3, 4), integers(3, 2, high=4), axis=1)
    yield sample((3, 4), integers(1, 4, high=3), axis=0)


@take_along_axis.errors
def _():
    x = blank(3, 4)
    yield Failure(
        lambda: take_along_axis(x, np.array([0])), ShapeError, r"they must agree beyond axis 1"
    )
    yield Failure(
        lambda: take_along_axis(x, np.full((3, 1), 4)), IndexingError, r"index 4 is out of range"
    )


def _scatter_along_oracle(x, indices, axis, size):
    shape = list(x.shape)
    shape[axis] = size
    result = np.zeros(shape, x.dtype)
    for position in np.ndindex(indices.shape):
        target = list(position)
        target[axis] = int(indices[position])
        result[tuple(target)] += x[position]
    return result


@primitive(promotes=("x",), oracle=_scatter_along_oracle)
def take_along_axis_adjoint(B, x: Array, indices: Array, axis: int, size: int):
    """Add entries into zeros, each at its index along ``axis``: the adjoint of `take_along_axis`.

    Parameters
    ----------
    x : Tensor of the shape of ``indices``.
    indices : Tensor of an integer dtype.
    axis : int, not negative.
    size : int, the result's size along ``axis``.

    Returns
    -------
    Tensor.
    """
    return B.scatter_add_along_axis(x, indices, axis=axis, size=size)


@take_along_axis_adjoint.prepare
def _(x, indices, axis, size):
    _check_integers("take_along_axis_adjoint", indices)
    return {"axis": axis, "size": size}


@take_along_axis_adjoint.errors
def _():
    call = lambda: take_along_axis_adjoint(blank(2), np.ones(2), axis=0, size=2)  # noqa: E731
    yield Failure(call, DTypeError, r"must be integers, not float64")


take_along_axis_adjoint.vjp("x")(lambda g, indices, axis: take_along_axis(g, indices, axis=axis))
take_along_axis_adjoint.flops(lambda x: x.size)  # an addition each


@take_along_axis_adjoint.samples
def _():
    yield sample((3, 2), integers(3, 2, high=4), axis=1, size=4)


def _argsort_oracle(x, axis=-1, descending=False, stable=True):
    return np.argsort(-x if descending else x, axis=axis, kind="stable")


@primitive(real_only="argsort(abs(x))", oracle=_argsort_oracle)
def argsort(B, x: Array, axis: int = -1, descending: bool = False, *, stable: bool = True):
    """Return the positions that sort an axis; equal entries keep their order.

    Parameters
    ----------
    x : Tensor with at least one axis.
    axis : int.
    descending : largest first.
    stable : taken for the array API's sake: the order of equal entries is kept in any case.

    Returns
    -------
    Tensor, same shape, int64. Carries no gradient.
    """
    if descending:  # reversed before and after, so that ties keep their order
        order = B.argsort(B.flip(x, axis=(axis,)), axis=axis)
        last = B.full((), x.shape[axis] - 1, dtype=dtypes.int64)
        return B.subtract(last, B.flip(B.astype(order, dtypes.int64), axis=(axis,)))
    return B.astype(B.argsort(x, axis=axis), dtypes.int64)


argsort.prepare(
    lambda x, axis, descending, stable: {
        "axis": shapes.normalize_axis("argsort", axis, x.ndim),
        "descending": bool(descending),
    }
)


@argsort.errors
def _():
    yield Failure(lambda: argsort(blank(2), axis=1), ShapeError, r"axis 1 is out of range")


@argsort.flops
def _(x, axis):
    """Count n log2(n) comparisons, rounded up, for n values: what sorting them takes at least."""
    n = x.shape[axis]
    return x.size * max(0, n - 1).bit_length()


@argsort.samples
def _():
    yield sample((3, 4), axis=1)
    yield sample(integers(3, 4), axis=0, descending=True)
    yield sample(integers(7), descending=False)
    yield sample(values(2.0, np.nan, 1.0, np.inf, 0.0))


# x[index]


def getitem(x: Tensor, index: Any) -> Tensor:
    """Return ``x[index]``, by NumPy's rules: basic, boolean and integer-array indexes.

    Parameters
    ----------
    x : Tensor.
    index : integers, slices, None, ``...``, and arrays, lists or Tensors of integers or booleans,
        alone or in a tuple, in any mixture.

    Returns
    -------
    Tensor. Arrays broadcast, and their axes stand where the first of them stood; at the front if a
    slice, None or ``...`` stands between them.

    Raises
    ------
    IndexingError : an index is out of bounds, or of a kind that cannot index.

    Notes
    -----
    Gradient: g added where each entry came from, as often as it was taken.
    """
    items, arrays = plain(index)
    if arrays:
        return fetched(x, select(x.shape, items))
    try:
        result: Tensor = part(x, items)
    except Exception as error:
        select(x.shape, items)  # says what is wrong
        raise refused(x.shape, items, str(error.__cause__ or error)) from error
    return result


def fetched(x: Tensor, selection: Selection) -> Tensor:
    """Return the entries of ``x`` that are selected."""
    if selection.positions is None or not selection.is_whole:
        x = part(x, selection.basic)
    if selection.positions is None:
        return x
    x = take(reshape(x, selection.line), as_tensor("index", selection.positions, x), selection.axis)
    return permute_dims(x, selection.order) if selection.to_front else x


def spread_out(x: Tensor, selection: Selection) -> Tensor:
    """Return zeros with ``x`` added where it is selected: the adjoint of `fetched`."""
    if selection.to_front:
        order = selection.order
        x = permute_dims(x, tuple(order.index(a) for a in range(len(order))))
    if selection.positions is not None:
        spots = as_tensor("index", selection.positions, x)
        x = take_adjoint(x, spots, axis=selection.axis, size=selection.count)
        x = reshape(x, selection.rows)
        if selection.is_whole:
            return x
    return place(x, selection.shape, selection.basic)
