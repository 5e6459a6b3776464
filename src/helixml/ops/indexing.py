"""Indexing: parts of a tensor, and putting parts back.

Basic indexes (integers, slices, ``None``, ``...``) are the primitive `part`, whose adjoint `place`
writes into zeros. Indexes with arrays are worked out on positions: the same index applied to
``arange(size)`` gives the flat positions, and `take` fetches them; its adjoint is `scatter_add`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core import cost
from helixml._core.op import composite, primitive
from helixml._core.samples import Failure, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, IndexingError, ShapeError
from helixml.ops.movement import broadcast_to, reshape

Array = Any


def _zeros(*shape):
    from helixml.ops.creation import zeros

    return zeros(shape)


# Basic indexes


def _part_oracle(x, index):
    return x[index]


@primitive(view=True, oracle=_part_oracle)
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
    x = _zeros(3, 4)
    yield Failure(
        lambda: x[3], IndexingError, r"shape \(3, 4\) does not take \[3\]: index 3 is out"
    )
    yield Failure(lambda: x[0, 0, 0], IndexingError, r"too many indices")
    yield Failure(lambda: x["a"], IndexingError, r"'a' cannot index")
    yield Failure(lambda: x[_zeros(3)], IndexingError, r"a tensor of float32 cannot index")
    yield Failure(lambda: x[[0, 5]], IndexingError, r"index 5 is out of bounds")


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
    Gradient: `scatter_add` of g. An embedding is ``take(weight, ids)``.
    """
    return B.take(x, indices, axis=axis)


_FEW = 32


def _check_indices(op, indices, n):
    if dtypes.kind(indices.dtype) not in "ui":
        raise DTypeError(
            f"{op}: indices must be integers, not {indices.dtype}. Hint: astype('int64')."
        )
    if indices.size:
        host = indices._backend.to_numpy(indices._array)
        if host.size <= _FEW:  # Python is done before NumPy begins
            found = host.ravel().tolist()
            low, high = min(found), max(found)
        else:
            low, high = int(host.min()), int(host.max())
        if low < -n or high >= n:
            raise IndexingError(
                f"{op}: index {low if low < -n else high} is out of range for an axis of {n}."
            )


@take.prepare
def _(x, indices, axis):
    axis = shapes.normalize_axis("take", 0 if axis is None else axis, x.ndim)
    _check_indices("take", indices, x.shape[axis])
    return {"axis": axis}


take.vjp("x")(
    lambda g, indices, x_shape, axis: scatter_add(g, indices, axis=axis, size=x_shape[axis])
)
take.flops(cost.free)
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
    x = _zeros(3, 4)
    yield Failure(lambda: take(x, np.array([3])), IndexingError, r"index 3 is out of range for an")
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
def scatter_add(B, x: Array, indices: Array, axis: int, size: int):
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


@scatter_add.prepare
def _(x, indices, axis, size):
    _check_indices("scatter_add", indices, size)
    if x.shape[axis : axis + indices.ndim] != indices.shape:
        raise ShapeError(
            f"scatter_add: x is {x.shape}, which has not the shape {indices.shape} of the indices "
            f"at axis {axis}."
        )
    return {"axis": int(axis), "size": int(size)}


scatter_add.vjp("x")(lambda g, indices, axis: take(g, indices, axis=axis))
scatter_add.flops(lambda x: x.size)  # an addition each


@scatter_add.samples
def _():
    yield sample((5, 4), integers(5, high=3), axis=0, size=3)
    yield sample((3, 2, 2), integers(2, 2, high=4), axis=1, size=4)
    yield sample((0, 4), integers(0, high=3), axis=0, size=3)


@scatter_add.errors
def _():
    x = _zeros(2, 3)
    yield Failure(
        lambda: scatter_add(x, np.array([0, 2]), axis=0, size=2), IndexingError, r"index 2 is out"
    )
    yield Failure(
        lambda: scatter_add(x, np.array([0]), axis=0, size=2), ShapeError, r"has not the shape"
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
    _check_indices("take_along_axis", indices, x.shape[axis])
    return {"axis": axis}


take_along_axis.vjp("x")(
    lambda g, indices, x_shape, axis: scatter_add_along_axis(
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
    x = _zeros(3, 4)
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
def scatter_add_along_axis(B, x: Array, indices: Array, axis: int, size: int):
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


scatter_add_along_axis.vjp("x")(lambda g, indices, axis: take_along_axis(g, indices, axis=axis))
scatter_add_along_axis.flops(lambda x: x.size)  # an addition each


@scatter_add_along_axis.samples
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
    yield Failure(lambda: argsort(_zeros(2), axis=1), ShapeError, r"axis 1 is out of range")


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


# x[index], x[index] = v, x.at[index]


def _clean(index):
    """Return (index as a tuple of plain things, whether an array or list is among them)."""
    items = index if isinstance(index, tuple) else (index,)
    arrays = False
    cleaned = []
    for item in items:
        if isinstance(item, Tensor):
            kind = dtypes.kind(item.dtype)
            if kind not in "bui":
                raise IndexingError(
                    f"index: a tensor of {item.dtype} cannot index. Hint: integers or booleans."
                )
            host = item._backend.to_numpy(item._array)
            if item.ndim == 0 and kind != "b":
                cleaned.append(int(host))
                continue
            cleaned.append(host)
            arrays = True
        elif isinstance(item, (list, np.ndarray)):
            try:
                array = np.asarray(item)
            except ValueError as error:
                raise IndexingError(f"index: {item!r:.80} is no array: {error}") from error
            empty_list = isinstance(item, list) and array.size == 0  # NumPy makes it float64
            cleaned.append(array.astype(np.int64) if empty_list else array)
            arrays = True
        elif isinstance(item, (bool, np.bool_)):
            cleaned.append(np.asarray(item))
            arrays = True
        elif item is None or item is Ellipsis or isinstance(item, slice):
            cleaned.append(item)
        elif hasattr(item, "__index__"):
            cleaned.append(item.__index__())
        else:
            raise IndexingError(
                f"index: {item!r} cannot index. Hint: integers, slices, None, ... or arrays."
            )
    return tuple(cleaned), arrays


def _refused(x, index, error):
    return IndexingError(f"index: shape {x.shape} does not take {_show(index)}: {error}.")


def _show(index):
    shown = [f"array{i.shape}" if isinstance(i, np.ndarray) else repr(i) for i in index]
    return "[" + ", ".join(shown).replace("Ellipsis", "...") + "]"


def _positions(x, index):
    """Return the flat positions that ``index`` selects, in its shape."""
    try:
        return np.arange(x.size, dtype=np.int64).reshape(x.shape)[index]
    except (IndexError, ValueError, TypeError) as error:
        raise _refused(x, index, error) from error


def getitem(x: Tensor, index: Any) -> Tensor:
    """Return ``x[index]``, by NumPy's rules: basic, boolean and integer-array indexes."""
    plain, arrays = _clean(index)
    if not arrays:
        try:
            return part(x, plain)
        except Exception as error:
            raise _refused(x, plain, error.__cause__ or error) from error
    found = _positions(x, plain)
    flat = take(reshape(x, (-1,)), as_tensor("index", found.reshape(-1), x), axis=0)
    return reshape(flat, found.shape)


def _keep_last(found):
    """Return the positions written, each once, and which value is written there last."""
    flat = found.reshape(-1)
    unique, from_the_end = np.unique(flat[::-1], return_index=True)
    return unique, flat.size - 1 - from_the_end


def _replaced_oracle(x, value, index):
    result = x.copy()
    result[index] = value
    return result


@composite(oracle=_replaced_oracle)
def replaced(x: Tensor, index: Any, value: Tensor):
    """Return ``x`` with ``value`` in place of ``x[index]``; differentiable in both.

    Parameters
    ----------
    x : Tensor.
    index : as in ``x[index]``; where a position is named twice, the last value holds.
    value : Tensor or scalar that broadcasts to the shape of ``x[index]``.

    Returns
    -------
    Tensor, shape and dtype of ``x``.
    """
    plain, _ = _clean(index)
    found = _positions(x, plain)
    value = as_tensor("setitem", value, x)
    dtypes.check_cast("setitem", value.dtype, x.dtype)
    value = value.astype(x.dtype)
    try:
        value = broadcast_to(value, found.shape)
    except ShapeError:
        raise ShapeError(
            f"setitem: a value of shape {value.shape} does not fit x{_show(plain)}, "
            f"which has shape {found.shape}."
        ) from None
    from helixml.ops.elementwise import where

    unique, last = _keep_last(found)
    mask = np.zeros(x.size, bool)
    mask[unique] = True
    chosen = take(reshape(value, (-1,)), as_tensor("setitem", last, x), axis=0)
    spots = as_tensor("setitem", unique, x)
    written = scatter_add(chosen, spots, axis=0, size=x.size)
    flat = where(as_tensor("setitem", mask, x), written, reshape(x, (-1,)))
    return reshape(flat, x.shape)


@replaced.samples
def _():
    for kinds in ("buif", "c"):  # not both: a complex value does not fit real numbers
        yield sample((3, 4), kinds=kinds, value=floats(4), index=1)
        yield sample((3, 4), kinds=kinds, value=floats(3, 2), index=(slice(None), [1, 3]))
        slices = (slice(None, None, -2), slice(1, 3))
        yield sample((3, 4), kinds=kinds, value=floats(), index=slices)
        yield sample((3, 4), kinds=kinds, value=floats(4, 4), index=([0, 2, 0, 1],))
        yield sample((0, 4), kinds=kinds, value=floats(1, 4), index=slice(None))


@replaced.errors
def _():
    x = _zeros(3, 4)
    yield Failure(lambda: replaced(x, 3, 1.0), IndexingError, r"shape \(3, 4\) does not take \[3\]")
    yield Failure(lambda: replaced(x, 0, _zeros(3)), ShapeError, r"\(3,\) does not fit x\[0\]")
    yield Failure(lambda: replaced(x, 0.5, 1.0), IndexingError, r"0\.5 cannot index")
    yield Failure(lambda: replaced(x, 0, 1j), DTypeError, r"setitem: complex64 to float32 would")


def setitem(x: Tensor, index: Any, value: Any) -> None:
    """Give the object ``x`` a new array (and node) with ``value`` at ``index``."""
    x._become(replaced(x, index, value))


class At:
    """``x.at[index]``: updates of a part that return a new tensor."""

    def __init__(self, x: Tensor) -> None:
        self._x = x

    def __getitem__(self, index: Any) -> Part:
        return Part(self._x, index)


class Part:
    """A part of a tensor, to be set or added to."""

    def __init__(self, x: Tensor, index: Any) -> None:
        self._x = x
        self._index = index

    def set(self, value: Any) -> Tensor:
        """Return the tensor with ``value`` here."""
        result: Tensor = replaced(self._x, self._index, value)
        return result

    def add(self, value: Any) -> Tensor:
        """Return the tensor with ``value`` added here; positions named twice add up."""
        x = self._x
        plain, _ = _clean(self._index)
        found = _positions(x, plain)
        value = as_tensor("at.add", value, x)
        dtypes.check_cast("at.add", value.dtype, x.dtype)
        value = value.astype(x.dtype)
        flat = reshape(broadcast_to(value, found.shape), (-1,))
        spots = as_tensor("at.add", found.reshape(-1), x)
        total: Tensor = x + reshape(scatter_add(flat, spots, axis=0, size=x.size), x.shape)
        return total
