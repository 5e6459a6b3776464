"""Shapes: broadcasting, axes and reshaping as arithmetic on tuples of integers.

Pure functions; the first argument of those that can fail is the op's name, for the message.
Knows nothing of arrays or tensors.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod
from typing import TypeAlias

from helixml.errors import DTypeError, ShapeError

Shape: TypeAlias = tuple[int, ...]
Axis: TypeAlias = int | Sequence[int] | None


def size(shape: Shape) -> int:
    """Return how many elements ``shape`` holds."""
    return prod(shape)


def _are_sizes(items: Shape) -> bool:
    """Say whether a tuple is a shape as it stands, as it nearly always is."""
    return set(map(type, items)) <= {int} and min(items, default=0) >= 0


def as_shape(op: str, shape: int | Iterable[int]) -> Shape:
    """Return ``shape`` as a tuple of non-negative integers."""
    if type(shape) is tuple and _are_sizes(shape):
        return shape
    items = (shape,) if hasattr(shape, "__index__") else shape
    try:
        if isinstance(shape, (bytes, bytearray, set, frozenset, dict)):
            raise TypeError  # integers, but no sizes in an order
        result = tuple(int(n.__index__()) for n in items)
    except (AttributeError, TypeError):
        raise DTypeError(
            f"{op}: a shape is a tuple of integers, not {shape!r}. Hint: write (2, 3)."
        ) from None
    if any(n < 0 for n in result):
        raise ShapeError(f"{op}: sizes cannot be negative: {result}.")
    return result


def broadcast(op: str, *shapes: Shape) -> Shape:
    """Return the shape that ``shapes`` broadcast to, by NumPy's rule.

    >>> broadcast("add", (3, 1), (4,))
    (3, 4)
    """
    rank = max(map(len, shapes), default=0)
    result = []
    for axis in range(-rank, 0):
        sizes = {shape[axis] for shape in shapes if -axis <= len(shape)} - {1}
        if len(sizes) > 1:
            raise ShapeError(
                f"{op}: shapes {' and '.join(map(str, shapes))} do not broadcast: "
                f"axis {axis} has sizes {' and '.join(map(str, sorted(sizes)))}. "
                "Hint: sizes must be equal or 1, counted from the last axis."
            )
        result.append(sizes.pop() if sizes else 1)
    return tuple(result)


def normalize_axis(op: str, axis: int, rank: int) -> int:
    """Return ``axis`` counted from the front, checked against ``rank``."""
    if type(axis) is int and -rank <= axis < rank:
        return axis if axis >= 0 else axis + rank
    try:
        index = axis.__index__()
    except (AttributeError, TypeError):
        raise DTypeError(f"{op}: an axis is an integer, not {axis!r}.") from None
    if not -rank <= index < rank:
        raise ShapeError(
            f"{op}: axis {index} is out of range for {rank} dimension{'s' * (rank != 1)}. "
            + (
                f"Hint: it must lie in [{-rank}, {rank})."
                if rank
                else "Hint: a scalar has no axes."
            )
        )
    return index % rank


def normalize_axes(op: str, axis: Axis, rank: int) -> tuple[int, ...]:
    """Return the sorted axes that ``axis`` means: ``None`` is all of them; repeats are an error."""
    if axis is None:
        return tuple(range(rank))
    if type(axis) is int:
        return (normalize_axis(op, axis, rank),)
    try:
        items = (axis,) if hasattr(axis, "__index__") else tuple(axis)
    except TypeError:
        raise DTypeError(f"{op}: an axis is an integer, not {axis!r}.") from None
    axes = sorted(normalize_axis(op, a, rank) for a in items)  # type: ignore[arg-type]
    if len(set(axes)) != len(axes):
        raise ShapeError(f"{op}: axes {tuple(items)} repeat an axis.")
    return tuple(axes)


def reduced(shape: Shape, axes: tuple[int, ...], keepdims: bool) -> Shape:
    """Return the shape left after reducing ``axes`` of ``shape``."""
    if keepdims:
        return tuple(1 if axis in axes else n for axis, n in enumerate(shape))
    return tuple(n for axis, n in enumerate(shape) if axis not in axes)


def resolve_reshape(op: str, old: Shape, new: int | Iterable[int]) -> Shape:
    """Return ``new`` with its one ``-1`` filled in, checked to hold as much as ``old``."""
    if type(new) is tuple and _are_sizes(new) and prod(new) == prod(old):
        return new
    try:
        items = (new,) if hasattr(new, "__index__") else tuple(new)
        target = tuple(int(n.__index__()) for n in items)
    except (AttributeError, TypeError):
        raise DTypeError(f"{op}: a shape is a tuple of integers, not {new!r}.") from None
    unknown = [axis for axis, n in enumerate(target) if n == -1]
    total = size(old)
    if len(unknown) > 1 or any(n < -1 for n in target):
        raise ShapeError(f"{op}: {target} may hold one -1 and no other negative size.")
    if unknown:
        known = prod(n for n in target if n != -1)
        if known == 0 or total % known:
            raise ShapeError(
                f"{op}: {old} has {total} elements, which {target} cannot divide evenly."
            )
        target = tuple(total // known if n == -1 else n for n in target)
    if size(target) != total:
        raise ShapeError(
            f"{op}: {old} has {total} elements, {target} has {size(target)}. "
            "Hint: one size may be -1."
        )
    return target


def sum_axes(shape: Shape, target: Shape) -> tuple[tuple[int, ...], Shape]:
    """Return the axes over which a value of ``shape`` is summed to undo a broadcast of ``target``.

    The second item is the shape after that sum with the summed axes kept.
    """
    lead = len(shape) - len(target)
    axes = (
        *range(lead),
        *(lead + i for i, n in enumerate(target) if n == 1 and shape[lead + i] != 1),
    )
    return axes, reduced(shape, axes, keepdims=True)
