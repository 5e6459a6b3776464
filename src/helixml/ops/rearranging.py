"""Turning, flipping and folding: arrangements that are one or two of `movement`'s."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError
from helixml.ops.movement import flip, permute_dims, reshape


def _swapaxes_oracle(x, axis1, axis2):
    return np.swapaxes(x, axis1, axis2)


@composite(oracle=_swapaxes_oracle)
def swapaxes(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """Exchange two axes.

    Parameters
    ----------
    x : Tensor.
    axis1, axis2 : int.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : there is no such axis.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.swapaxes(hx.zeros((2, 3, 4)), 0, -1).shape
    (4, 3, 2)
    """
    first = shapes.normalize_axis("swapaxes", axis1, x.ndim)
    second = shapes.normalize_axis("swapaxes", axis2, x.ndim)
    order = list(range(x.ndim))
    order[first], order[second] = second, first
    return permute_dims(x, tuple(order))


swapaxes.samples(lambda: (sample((2, 3, 4), axis1=0, axis2=-1), sample((2, 3), axis1=1, axis2=1)))
swapaxes.errors(
    lambda: (Failure(lambda: swapaxes(blank(2), 0, 1), ShapeError, r"axis 1 is out of range"),)
)


def _rot90_oracle(x, k=1, axes=(0, 1)):
    return np.rot90(x, k, axes)


@composite(oracle=_rot90_oracle)
def rot90(x: Tensor, k: int = 1, axes: tuple[int, ...] = (0, 1)) -> Tensor:
    """Turn by right angles, in the plane of two axes.

    Parameters
    ----------
    x : Tensor with at least two axes.
    k : int, how many right angles, from the first axis of ``axes`` towards the second.
    axes : two axes.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : ``axes`` are not two different axes of ``x``.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.rot90(hx.tensor([[1, 2], [3, 4]]))
    tensor([[2, 4],
            [1, 3]])
    """
    turns = dtypes.as_integer("rot90", "k", k) % 4
    if not isinstance(axes, (tuple, list)):
        raise DTypeError(f"rot90: axes must be two axes, not {axes!r:.80}.")
    plane = [shapes.normalize_axis("rot90", a, x.ndim) for a in axes]
    if len(plane) != 2 or plane[0] == plane[1]:
        raise ShapeError(f"rot90: axes={tuple(axes)} are not two different axes.")
    first, second = plane
    if turns == 2:
        return flip(x, axis=(first, second))
    if turns == 1:
        return swapaxes(flip(x, axis=second), first, second)
    if turns == 3:
        return flip(swapaxes(x, first, second), axis=second)
    return reshape(x, x.shape)


@rot90.samples
def _():
    for k in (0, 1, 2, 3, -1):
        yield sample((2, 3), k=k)
    yield sample((2, 3, 4), axes=(2, 0))


@rot90.errors
def _():
    yield Failure(lambda: rot90(blank(2)), ShapeError, r"axis 1 is out of range")
    yield Failure(lambda: rot90(blank(2, 2), axes=(0, 0)), ShapeError, r"not two different axes")


def _flipped(name, axis, what, oracle):
    def forward(x: Tensor) -> Tensor:
        if x.ndim <= axis:
            raise ShapeError(f"{name}: needs more than {axis} axes, the shape is {x.shape}.")
        return flip(x, axis=axis)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Reverse the order along axis {axis}: {what}.

    Parameters
    ----------
    x : Tensor with more than {axis} axes.

    Returns
    -------
    Tensor, same shape.

    Raises
    ------
    ShapeError : there is no axis {axis}.
    """
    op = composite(forward, oracle=oracle)
    op.samples(lambda: (sample((2, 3)), sample((2, 3, 4))))
    op.errors(lambda: (Failure(lambda: op(blank()), ShapeError, r"needs more than \d axes"),))
    return op


fliplr = _flipped("fliplr", 1, "left becomes right", np.fliplr)
flipud = _flipped("flipud", 0, "up becomes down", np.flipud)


@composite(oracle=np.ravel)
def ravel(x: Tensor) -> Tensor:
    """Return the values along one axis, in row-major order.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, (n,).
    """
    return reshape(x, (-1,))


ravel.samples(lambda: (sample((2, 3)), sample(()), sample((0, 3))))


def _flatten_oracle(x, start_axis=0, end_axis=-1):
    shape = x.shape or (1,)
    first, last = start_axis % len(shape), end_axis % len(shape)
    middle = int(np.prod(shape[first : last + 1]))
    return x.reshape(*shape[:first], middle, *shape[last + 1 :])


@composite(oracle=_flatten_oracle)
def flatten(x: Tensor, start_axis: int = 0, end_axis: int = -1) -> Tensor:
    """Make one axis of several neighbours.

    Parameters
    ----------
    x : Tensor; a scalar becomes a vector of one entry.
    start_axis, end_axis : int, the first and the last of them.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : there is no such axis, or the last stands before the first.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.flatten(hx.zeros((2, 3, 4)), 1).shape
    (2, 12)
    """
    shape = x.shape or (1,)
    first = shapes.normalize_axis("flatten", start_axis, len(shape))
    last = shapes.normalize_axis("flatten", end_axis, len(shape))
    if last < first:
        raise ShapeError(f"flatten: axis {end_axis} stands before axis {start_axis} in {shape}.")
    return reshape(x, (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :]))


@flatten.samples
def _():
    yield sample((2, 3, 4))
    yield sample((2, 3, 4), start_axis=1)
    yield sample((2, 3, 4), start_axis=-3, end_axis=1)
    yield sample(())
    yield sample((2, 0, 3), start_axis=1, end_axis=1)


@flatten.errors
def _():
    yield Failure(lambda: flatten(blank(2, 3), 1, 0), ShapeError, r"axis 0 stands before axis 1")
    yield Failure(lambda: flatten(blank(2, 3), 2), ShapeError, r"axis 2 is out of range")


def _unflatten_oracle(x, axis, sizes):
    return x.reshape(*x.shape[:axis], *sizes, *x.shape[axis + 1 :])


@composite(oracle=_unflatten_oracle)
def unflatten(x: Tensor, axis: int, sizes: Any) -> Tensor:
    """Make several axes of one: the inverse of `flatten`.

    Parameters
    ----------
    x : Tensor.
    axis : int.
    sizes : tuple of int whose product is the size of ``axis``; one may be -1.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : there is no such axis, or the sizes do not multiply to its size.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.unflatten(hx.zeros((2, 12)), 1, (3, -1)).shape
    (2, 3, 4)
    """
    axis = shapes.normalize_axis("unflatten", axis, x.ndim)
    inner = shapes.resolve_reshape("unflatten", (x.shape[axis],), sizes)
    return reshape(x, (*x.shape[:axis], *inner, *x.shape[axis + 1 :]))


@unflatten.samples
def _():
    yield sample((2, 6), axis=1, sizes=(2, 3))
    yield sample((4, 3), axis=0, sizes=(2, 2))
    yield sample((2, 1), axis=1, sizes=())


@unflatten.errors
def _():
    x = blank(2, 6)
    yield Failure(lambda: unflatten(x, 1, (4, -1)), ShapeError, r"cannot divide evenly")
    yield Failure(lambda: unflatten(x, 2, (2,)), ShapeError, r"axis 2 is out of range")
