"""Arrangement: axes moved, shapes matched, values repeated. Linear ops, most made of `movement`'s.

`broadcast_arrays` and `meshgrid` take any number of tensors as arguments of their own, as the array
API standard has it, and are plain functions.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from helixml import shapes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.indexing import take
from helixml.ops.movement import broadcast_to, expand_dims, permute_dims, reshape, stack

Array = Any


@composite(oracle=np.moveaxis)
def moveaxis(
    x: Tensor, source: int | tuple[int, ...], destination: int | tuple[int, ...]
) -> Tensor:
    """Move axes to other positions; the others keep their order.

    Parameters
    ----------
    x : Tensor, any shape.
    source : int or tuple of int, axes of ``x``.
    destination : as many positions in the result, in the same order.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : an axis is out of range or named twice, or the numbers of axes differ.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.moveaxis(hx.zeros((2, 3, 4)), 0, -1).shape
    (3, 4, 2)
    """
    pairs = []
    for axes in (source, destination):
        shapes.normalize_axes("moveaxis", axes, x.ndim)  # repeats
        items = axes if isinstance(axes, (tuple, list)) else (axes,)
        pairs.append([shapes.normalize_axis("moveaxis", a, x.ndim) for a in items])
    taken, given = pairs
    if len(taken) != len(given):
        raise ShapeError(
            f"moveaxis: {len(taken)} axes {source} have {len(given)} destinations {destination}."
        )
    order = [a for a in range(x.ndim) if a not in taken]
    for position, axis in sorted(zip(given, taken, strict=True)):
        order.insert(position, axis)
    return permute_dims(x, tuple(order))


@moveaxis.samples
def _():
    yield sample((2, 3, 4), source=0, destination=-1)
    yield sample((2, 3, 4, 1), source=(0, 2), destination=(-1, 0))
    yield sample((), source=(), destination=())


@moveaxis.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: moveaxis(x, 2, 0), ShapeError, r"axis 2 is out of range")
    yield Failure(lambda: moveaxis(x, (0, 0), (0, 1)), ShapeError, r"repeat an axis")
    yield Failure(lambda: moveaxis(x, (0, 1), 0), ShapeError, r"2 axes \(0, 1\) have 1 destinat")


def _unstack_oracle(x, axis=0):
    return tuple(np.moveaxis(x, axis, 0))


@primitive(view=True, oracle=_unstack_oracle)
def unstack(B, x: Array, axis: int = 0):
    """Cut a tensor along an axis into its entries, which lack that axis: the inverse of `stack`.

    Parameters
    ----------
    x : Tensor with at least one axis.
    axis : int.

    Returns
    -------
    Tuple of Tensors.

    Notes
    -----
    Gradient: those of the entries, stacked.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.unstack(hx.tensor([1.0, 2.0]))
    (tensor(1.), tensor(2.))
    """
    before = (slice(None),) * axis
    return tuple([B.getitem(x, (*before, i)) for i in range(x.shape[axis])])


unstack.prepare(lambda x, axis: {"axis": shapes.normalize_axis("unstack", axis, x.ndim)})


@unstack.vjp("x")
def _(g, axis):
    return stack(g if isinstance(g, tuple) else (g,), axis=axis)


unstack.samples(lambda: (sample((2, 3), axis=1), sample((3,)), sample((0, 2)), sample((1, 2))))
unstack.errors(
    lambda: (Failure(lambda: unstack(blank(2), axis=1), ShapeError, r"axis 1 is out of range"),)
)


def _repeat_oracle(x, repeats, axis=None):
    return np.repeat(x, repeats, axis)


@composite(oracle=_repeat_oracle)
def repeat(x: Tensor, repeats: Any, axis: int | None = None) -> Tensor:
    """Repeat each entry along an axis, one after the other.

    Parameters
    ----------
    x : Tensor.
    repeats : how often: an int, or one for each entry (list, array or Tensor of integers).
    axis : int; None repeats the entries of the flat tensor.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : as many numbers as entries are needed. ValueRangeError : a number is negative.
    DTypeError : a number is no integer.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.repeat(hx.tensor([1.0, 2.0]), 2)
    tensor([1., 1., 2., 2.])
    """
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    axis = shapes.normalize_axis("repeat", axis, x.ndim)
    size = x.shape[axis]
    host = np.asarray(repeats.numpy() if isinstance(repeats, Tensor) else repeats)
    if host.dtype.kind not in "iu" and host.size:
        raise DTypeError(f"repeat: repeats must be integers, not {host.dtype}.")
    if host.size and host.min() < 0:
        raise ValueRangeError(f"repeat: repeats={host.min()} is negative.")
    if host.size == 1 and host.ndim < 2:
        count = int(host.reshape(())[()])
        apart = expand_dims(x, axis + 1)
        head, tail = x.shape[: axis + 1], x.shape[axis + 1 :]
        repeated = broadcast_to(apart, (*head, count, *tail))
        return reshape(repeated, (*x.shape[:axis], size * count, *tail))
    if host.shape != (size,):
        raise ShapeError(
            f"repeat: repeats has shape {host.shape}, axis {axis} of shape {x.shape} needs "
            f"({size},) or one number."
        )
    positions = np.repeat(np.arange(size), host.astype(np.int64))
    return take(x, as_tensor("repeat", positions, x), axis=axis)


@repeat.samples
def _():
    yield sample((2, 3), repeats=2, axis=1)
    yield sample((2, 3), repeats=3)
    yield sample((2, 3), repeats=[2, 0, 1], axis=-1)
    yield sample((2, 3), repeats=[2], axis=0)
    yield sample((2, 0), repeats=2, axis=0)
    yield sample((3,), repeats=0)


@repeat.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: repeat(x, -1), ValueRangeError, r"repeats=-1 is negative")
    yield Failure(lambda: repeat(x, 0.5), DTypeError, r"must be integers, not float64")
    yield Failure(lambda: repeat(x, [1, 2], axis=1), ShapeError, r"needs \(3,\) or one number")
    yield Failure(lambda: repeat(x, 2, axis=2), ShapeError, r"axis 2 is out of range")


def _tile_oracle(x, repetitions):
    return np.tile(x, repetitions)


@composite(oracle=_tile_oracle)
def tile(x: Tensor, repetitions: int | tuple[int, ...]) -> Tensor:
    """Repeat a whole tensor along its axes.

    Parameters
    ----------
    x : Tensor.
    repetitions : for each axis how often; counted from the last axis, with 1 for what is left out.
        More numbers than axes make new axes in front.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : a number is negative.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.tile(hx.tensor([1.0, 2.0]), (2, 2))
    tensor([[1., 2., 1., 2.],
            [1., 2., 1., 2.]])
    """
    counts = shapes.as_shape("tile", repetitions)
    rank = max(x.ndim, len(counts))
    sizes = (*(1,) * (rank - x.ndim), *x.shape)
    counts = (*(1,) * (rank - len(counts)), *counts)
    apart = tuple(n for size in sizes for n in (1, size))
    spread = tuple(n for pair in zip(counts, sizes, strict=True) for n in pair)
    whole = broadcast_to(reshape(x, apart), spread)
    return reshape(whole, tuple(c * n for c, n in zip(counts, sizes, strict=True)))


@tile.samples
def _():
    yield sample((2, 3), repetitions=(2, 1))
    yield sample((2, 3), repetitions=(2,))
    yield sample((3,), repetitions=(2, 1, 2))
    yield sample((), repetitions=(3,))
    yield sample((2, 3), repetitions=(0, 1))
    yield sample((2,), repetitions=())


tile.errors(
    lambda: (Failure(lambda: tile(blank(2), (-1,)), ShapeError, r"sizes cannot be negative"),)
)


# Of any number of tensors


def _tensors(op, arrays):
    like = next((a for a in arrays if isinstance(a, Tensor)), None)
    return [as_tensor(op, a, like) for a in arrays]


def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """Return the tensors in the shape that they all broadcast to.

    Parameters
    ----------
    arrays : Tensors or array-likes, shapes that broadcast.

    Returns
    -------
    List of Tensors, each with its own dtype.

    Raises
    ------
    ShapeError : the shapes do not broadcast.

    Examples
    --------
    >>> import helixml as hx
    >>> [x.shape for x in hx.broadcast_arrays(hx.zeros((3, 1)), hx.zeros((4,)))]
    [(3, 4), (3, 4)]
    """
    tensors = _tensors("broadcast_arrays", arrays)
    shape = shapes.broadcast("broadcast_arrays", *(t.shape for t in tensors))
    return [broadcast_to(t, shape) for t in tensors]


def meshgrid(*arrays: Any, indexing: Literal["xy", "ij"] = "xy") -> list[Tensor]:
    """Return the coordinates of all points of a grid.

    Parameters
    ----------
    arrays : Tensors or array-likes with one axis each, the coordinates along each axis of the grid.
    indexing : "ij", the grid's axes are in the order of ``arrays``; "xy", the first two exchanged,
        as columns and rows of a picture.

    Returns
    -------
    List of Tensors in the shape of the grid, one for each of ``arrays``.

    Raises
    ------
    ShapeError : an array has not just one axis. ValueRangeError : another ``indexing``.

    Examples
    --------
    >>> import helixml as hx
    >>> x, y = hx.meshgrid(hx.arange(3), hx.arange(2))
    >>> x.shape, y[:, 0]
    ((2, 3), tensor([0, 1]))
    """
    if not isinstance(indexing, str) or indexing not in ("xy", "ij"):
        raise ValueRangeError(f"meshgrid: indexing={indexing!r:.80}. Hint: 'xy' or 'ij'.")
    tensors = _tensors("meshgrid", arrays)
    places = list(range(len(tensors)))
    if indexing == "xy" and len(tensors) > 1:
        places[:2] = [1, 0]
    lines = []
    for number, (line, place) in enumerate(zip(tensors, places, strict=True)):
        if line.ndim != 1:
            raise ShapeError(f"meshgrid: array {number} has shape {line.shape}, not one axis.")
        lines.append(reshape(line, tuple(-1 if p == place else 1 for p in range(len(places)))))
    shape = shapes.broadcast("meshgrid", *(t.shape for t in lines))
    return [broadcast_to(t, shape) for t in lines]
