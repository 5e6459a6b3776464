"""Joining and cutting by rows, columns and layers, under NumPy's names: `concat` and `split`."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from helixml import shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.movement import concat, reshape, split

# One more axis


def _atleast(rank, where, oracle):
    name = f"atleast_{rank}d"

    def forward(x: Tensor) -> Tensor:
        return reshape(x, x.shape if x.ndim >= rank else where[x.ndim](x.shape))

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Return a tensor with at least {rank} axes, where new ones have size 1.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor of the same values; new axes stand in front, but the third of three stands last.
    """
    op = composite(forward, oracle=oracle)

    @op.samples
    def _():
        for shape in ((), (3,), (2, 3), (2, 3, 4), (1, 2, 3, 4)):
            yield sample(shape)

    return op


atleast_1d = _atleast(1, {0: lambda s: (1,)}, np.atleast_1d)
atleast_2d = _atleast(2, {0: lambda s: (1, 1), 1: lambda s: (1, *s)}, np.atleast_2d)
atleast_3d = _atleast(
    3,
    {0: lambda s: (1, 1, 1), 1: lambda s: (1, *s, 1), 2: lambda s: (*s, 1)},
    np.atleast_3d,
)

# Joining


def _joined(name, what, axis, prepare, oracle, shapes_of_samples):
    def forward(arrays: Sequence[Tensor]) -> Tensor:
        if isinstance(arrays, Tensor) or not hasattr(arrays, "__iter__"):
            raise DTypeError(
                f"{name}: takes a sequence of tensors, not {type(arrays).__name__}. "
                f"Hint: {name}([x, y])."
            )
        given = list(arrays)
        like = next((a for a in given if isinstance(a, Tensor)), None)
        tensors = [prepare(as_tensor(name, a, like)) for a in given]
        if not tensors:
            raise ShapeError(f"{name}: needs at least one tensor.")
        return concat(tensors, axis=0 if tensors[0].ndim == 1 else axis)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Join tensors {what}.

    Parameters
    ----------
    arrays : sequence of Tensors, equal in all other axes.

    Returns
    -------
    Tensor.

    Raises
    ------
    ShapeError : there is no tensor, or their shapes do not fit.

    Notes
    -----
    Gradient: the pieces of g.
    """
    op = composite(forward, oracle=oracle)

    @op.samples
    def _():
        for first, second in shapes_of_samples:
            yield sample([floats(*first), floats(*second)])
        yield sample([floats(2), floats(2), integers(2)])

    @op.errors
    def _():
        x = blank(2, 3, 4)
        yield Failure(lambda: op([]), ShapeError, r"needs at least one tensor")
        yield Failure(lambda: op([x, blank(3, 4, 5)]), ShapeError, r"\(3, 4, 5\)")
        yield Failure(lambda: op(x), DTypeError, r"takes a sequence of tensors, not Tensor")

    return op


def _column(x):
    return reshape(x, (-1, 1)) if x.ndim == 1 else atleast_2d(x).mT if x.ndim == 0 else x


hstack = _joined(
    "hstack", "side by side: along axis 1, vectors along axis 0", 1, atleast_1d, np.hstack,
    [((2, 1), (2, 3)), ((2,), (3,)), ((), ()), ((2, 1, 2), (2, 3, 2))],
)  # fmt: skip
vstack = _joined(
    "vstack", "one below the other: along axis 0, vectors as rows", 0, atleast_2d, np.vstack,
    [((1, 3), (2, 3)), ((3,), (2, 3)), ((), ()), ((1, 2, 3), (2, 2, 3))],
)  # fmt: skip
dstack = _joined(
    "dstack", "one behind the other: along axis 2", 2, atleast_3d, np.dstack,
    [((2, 3), (2, 3)), ((3,), (3,)), ((), ()), ((2, 3, 1), (2, 3, 4))],
)  # fmt: skip
column_stack = _joined(
    "column_stack", "side by side, vectors as columns", 1, _column, np.column_stack,
    [((3,), (3, 2)), ((3,), (3,)), ((), ()), ((2, 1), (2, 2))],
)  # fmt: skip

# Cutting


def _parts(op: str, sections: Any, size: int) -> tuple[int, ...]:
    """Return the sizes of the pieces: about equal ones, or those between the given places."""
    if hasattr(sections, "__index__"):
        count = int(sections.__index__())
        if count < 1:
            raise ValueRangeError(f"{op}: sections={count}, must be at least 1.")
        if count > max(size, 1) * 1024:
            raise ValueRangeError(f"{op}: {count} sections of an axis of size {size}.")
        short, longer = divmod(size, count)
        return tuple([short + 1] * longer + [short] * (count - longer))
    try:
        places = [int(place.__index__()) for place in sections]
    except (AttributeError, TypeError):
        raise DTypeError(
            f"{op}: sections must be an integer or a sequence of integers, not {sections!r:.80}."
        ) from None
    ends = [place + size if place < 0 else place for place in places]
    ends = [0, *(min(max(end, 0), size) for end in ends), size]
    if ends != sorted(ends):
        raise ValueRangeError(f"{op}: the places {places} to cut at do not ascend.")
    return tuple(b - a for a, b in pairwise(ends))


def _array_split_oracle(x, sections, axis=0):
    return np.array_split(x, sections, axis=axis)


@composite(oracle=_array_split_oracle)
def array_split(x: Tensor, sections: Any, axis: int = 0) -> tuple[Tensor, ...]:
    """Cut a tensor along an axis into a number of pieces, or at given places.

    Parameters
    ----------
    x : Tensor with at least one axis.
    sections : how many pieces, of which the first are longer by 1 where they do not come out even;
        or the places to cut at, ascending (negative ones count from the end).
    axis : int.

    Returns
    -------
    Tuple of Tensors.

    Raises
    ------
    ValueRangeError : no pieces, or places that do not ascend. ShapeError : there is no such axis.

    Notes
    -----
    Gradient: those of the pieces, joined. `split` takes the sizes of the pieces.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.array_split(hx.tensor([1.0, 2.0, 3.0]), 2)
    (tensor([1., 2.]), tensor([3.]))
    """
    axis = shapes.normalize_axis("array_split", axis, x.ndim)
    return split(x, _parts("array_split", sections, x.shape[axis]), axis=axis)


@array_split.samples
def _():
    yield sample((5, 2), sections=3)
    yield sample((2, 5), sections=[1, 3], axis=-1)
    yield sample((2, 5), sections=[2, 2, -1, 9], axis=1)
    yield sample((2,), sections=4)


@array_split.errors
def _():
    x = blank(4)
    yield Failure(lambda: array_split(x, 0), ValueRangeError, r"sections=0, must be at least 1")
    yield Failure(lambda: array_split(x, [3, 1]), ValueRangeError, r"\[3, 1\] .* do not ascend")
    yield Failure(lambda: array_split(x, "ab"), DTypeError, r"sequence of integers, not 'ab'")
    yield Failure(lambda: array_split(x, 2, axis=1), ShapeError, r"axis 1 is out of range")


def _cut(name, rank, axis, what, oracle):
    def forward(x: Tensor, sections: Any) -> tuple[Tensor, ...]:
        if x.ndim < rank:
            raise ShapeError(f"{name}: needs at least {rank} axes, the shape is {x.shape}.")
        place = axis if x.ndim > 1 else 0
        sizes = _parts(name, sections, x.shape[place])
        if hasattr(sections, "__index__") and len(set(sizes)) > 1:
            raise ShapeError(
                f"{name}: axis {place} of shape {x.shape} does not divide into {sections} equal "
                "pieces. Hint: array_split takes unequal ones."
            )
        return split(x, sizes, axis=place)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Cut a tensor {what}.

    Parameters
    ----------
    x : Tensor with at least {rank} {"axis" if rank == 1 else "axes"}.
    sections : how many equal pieces, or the places to cut at, ascending.

    Returns
    -------
    Tuple of Tensors.

    Raises
    ------
    ShapeError : there are too few axes, or equal pieces do not come out even. ValueRangeError : no
    pieces, or places that do not ascend.
    """
    op = composite(forward, oracle=lambda x, sections: oracle(x, sections))

    @op.samples
    def _():
        yield sample((2, 4, 6), sections=2)
        yield sample((4, 4, 4), sections=[1, 3])
        if rank < 3:
            yield sample((4, 2), sections=2)
        if rank < 2:
            yield sample((4,), sections=2)

    @op.errors
    def _():
        yield Failure(lambda: op(blank(3, 3, 3), 2), ShapeError, r"does not divide into 2 equal")
        yield Failure(lambda: op(blank(), 1), ShapeError, r"needs at least \d ax.s, the shape is")

    return op


hsplit = _cut("hsplit", 1, 1, "along axis 1, a vector along axis 0", np.hsplit)
vsplit = _cut("vsplit", 2, 0, "along axis 0", np.vsplit)
dsplit = _cut("dsplit", 3, 2, "along axis 2", np.dsplit)
