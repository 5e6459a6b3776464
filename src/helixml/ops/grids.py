"""Grids of numbers and positions: made of sizes, not of tensors; so plain functions, as `arange`.

`unravel_index` and `ravel_multi_index`, which turn positions into others, are ops.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, Input, integers, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.device import Device
from helixml.dtypes import DTypeLike
from helixml.errors import DTypeError, IndexingError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.creation import asarray
from helixml.ops.elementwise import floor_divide, remainder
from helixml.ops.movement import cast

DeviceLike = str | Device | None


def _placed(values: Any, dtype: DTypeLike, device: DeviceLike) -> Tensor:
    """Return NumPy values as a tensor, in the default float if no dtype is given."""
    kind = dtypes.default_float if dtype is None else dtypes.parse(dtype)
    return asarray(np.asarray(values).astype(kind), device=device)


def _ends(op: str, start: Any, stop: Any, num: Any) -> tuple[float, float, int]:
    dtypes.as_number(op, "start", start)
    dtypes.as_number(op, "stop", stop)
    count = dtypes.as_integer(op, "num", num)
    if count < 0:
        raise ValueRangeError(f"{op}: num={count} is negative.")
    return float(start), float(stop), count


def logspace(
    start: float,
    stop: float,
    num: int = 50,
    base: float = 10.0,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
    *,
    endpoint: bool = True,
) -> Tensor:
    """Make ``num`` powers of ``base`` whose exponents are evenly spaced from ``start`` to ``stop``.

    Parameters
    ----------
    start, stop : numbers, the first and the last exponent.
    num : int, how many.
    base : number above 0.
    dtype : the default float if left out.
    device : where to put them.
    endpoint : if false, the last exponent is left out.

    Returns
    -------
    Tensor, (num,).

    Raises
    ------
    ValueRangeError : ``num`` is negative, or ``base`` is not positive.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.logspace(0, 2, 3)
    tensor([  1.,  10., 100.])
    """
    first, last, count = _ends("logspace", start, stop, num)
    if not dtypes.as_number("logspace", "base", base) > 0:
        raise ValueRangeError(f"logspace: base={base} is not positive.")
    values = np.logspace(first, last, count, endpoint=bool(endpoint), base=float(base))
    return _placed(values, dtype, device)


def geomspace(
    start: float,
    stop: float,
    num: int = 50,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
    *,
    endpoint: bool = True,
) -> Tensor:
    """Make ``num`` values from ``start`` to ``stop``, each the same multiple of the one before.

    Parameters
    ----------
    start, stop : numbers of one sign, not 0.
    num : int, how many.
    dtype : the default float if left out.
    device : where to put them.
    endpoint : if false, ``stop`` is left out.

    Returns
    -------
    Tensor, (num,).

    Raises
    ------
    ValueRangeError : ``num`` is negative, or the ends are 0 or of different signs.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.geomspace(1, 8, 4)
    tensor([1., 2., 4., 8.])
    """
    first, last, count = _ends("geomspace", start, stop, num)
    if not first * last > 0:
        raise ValueRangeError(
            f"geomspace: start={start}, stop={stop} must be of one sign, and not 0."
        )
    return _placed(np.geomspace(first, last, count, endpoint=bool(endpoint)), dtype, device)


def tri(
    rows: int,
    columns: int | None = None,
    k: int = 0,
    dtype: DTypeLike = None,
    device: DeviceLike = None,
) -> Tensor:
    """Make a matrix with ones on and below diagonal ``k``, and zeros above.

    Parameters
    ----------
    rows, columns : int, its sizes; square if ``columns`` is left out.
    k : int, which diagonal; 0 is the main one, above is positive.
    dtype : the default float if left out.
    device : where to put it.

    Returns
    -------
    Tensor, (rows, columns).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.tri(2, 3)
    tensor([[1., 0., 0.],
            [1., 1., 0.]])
    """
    m, n = shapes.as_shape("tri", (rows, rows if columns is None else columns))
    return _placed(np.tri(m, n, dtypes.as_integer("tri", "k", k), np.bool_), dtype, device)


def _triangle_positions(op, rows, k, columns, device, function):
    m, n = shapes.as_shape(op, (rows, rows if columns is None else columns))
    found = function(m, dtypes.as_integer(op, "k", k), n)
    first, second = (asarray(line.astype(np.int64), device=device) for line in found)
    return first, second


def tril_indices(
    rows: int, k: int = 0, columns: int | None = None, device: DeviceLike = None
) -> tuple[Tensor, Tensor]:
    """Return the positions on and below diagonal ``k`` of a matrix, in row-major order.

    Parameters
    ----------
    rows, columns : int, the sizes of the matrix; square if ``columns`` is left out.
    k : int, which diagonal.
    device : where to put them.

    Returns
    -------
    Two Tensors, int64, of rows and columns: ``x[tril_indices(n)]`` is the triangle.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.tril_indices(2)
    (tensor([0, 1, 1]), tensor([0, 0, 1]))
    """
    return _triangle_positions("tril_indices", rows, k, columns, device, np.tril_indices)


def triu_indices(
    rows: int, k: int = 0, columns: int | None = None, device: DeviceLike = None
) -> tuple[Tensor, Tensor]:
    """Return the positions on and above diagonal ``k`` of a matrix, in row-major order.

    Parameters
    ----------
    rows, columns : int, the sizes of the matrix; square if ``columns`` is left out.
    k : int, which diagonal.
    device : where to put them.

    Returns
    -------
    Two Tensors, int64, of rows and columns: ``x[triu_indices(n)]`` is the triangle.
    """
    return _triangle_positions("triu_indices", rows, k, columns, device, np.triu_indices)


# Positions


def _whole(op: str, x: Tensor) -> Tensor:
    if dtypes.kind(x.dtype) not in "ui":
        raise DTypeError(f"{op}: positions must be integers, not {x.dtype}.")
    return cast(x, dtypes.int64)


def _unravel_oracle(indices, shape):
    return np.unravel_index(indices, shape)


@composite(oracle=_unravel_oracle)
def unravel_index(indices: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, ...]:
    """Return the positions along each axis of positions in a flat tensor, in row-major order.

    Parameters
    ----------
    indices : Tensor, any shape, integers in [0, n).
    shape : tuple of int, the shape of a tensor of n entries.

    Returns
    -------
    Tuple of Tensors, int64, one for each axis, in the shape of ``indices``.

    Raises
    ------
    IndexingError : a position is out of range. DTypeError : one is no integer.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.unravel_index(hx.tensor([5, 0]), (2, 3))
    (tensor([1, 0]), tensor([2, 0]))
    """
    sizes = shapes.as_shape("unravel_index", shape)
    rest = _whole("unravel_index", indices)
    count = math.prod(sizes)
    if rest.size and (int(rest.min()) < 0 or int(rest.max()) >= count):
        wrong = int(rest.min()) if int(rest.min()) < 0 else int(rest.max())
        raise IndexingError(
            f"unravel_index: position {wrong} is out of range for shape {sizes} with {count} "
            "entries."
        )
    found = []
    for size in reversed(sizes):
        found.append(remainder(rest, max(size, 1)))
        rest = floor_divide(rest, max(size, 1))
    return tuple(reversed(found))


@unravel_index.samples
def _():
    yield sample(integers(3, 4, high=24), shape=(2, 3, 4))
    yield sample(integers(high=5), shape=(5,))
    yield sample(integers(0), shape=(2, 3))


@unravel_index.errors
def _():
    yield Failure(
        lambda: unravel_index(np.array([6]), (2, 3)), IndexingError, r"position 6 .*\(2, 3\) with 6"
    )
    yield Failure(lambda: unravel_index(np.array([-1]), (2,)), IndexingError, r"position -1 is out")
    yield Failure(lambda: unravel_index(np.array([0.5]), (2,)), DTypeError, r"must be integers")


def _ravel_oracle(positions, shape):
    return np.asarray(np.ravel_multi_index(tuple(positions), shape))


@composite(oracle=_ravel_oracle)
def ravel_multi_index(positions: Any, shape: tuple[int, ...]) -> Tensor:
    """Return positions in a flat tensor, in row-major order: the inverse of `unravel_index`.

    Parameters
    ----------
    positions : sequence of Tensors of integers, one for each axis, that broadcast.
    shape : tuple of int, the shape of the tensor.

    Returns
    -------
    Tensor, int64, of the broadcast shape.

    Raises
    ------
    ShapeError : there are not as many as axes. IndexingError : a position is out of range.
    DTypeError : one is no integer.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.ravel_multi_index((hx.tensor([1, 0]), hx.tensor([2, 0])), (2, 3))
    tensor([5, 0])
    """
    sizes = shapes.as_shape("ravel_multi_index", shape)
    if not isinstance(positions, (tuple, list)):
        raise DTypeError(
            f"ravel_multi_index: positions are a sequence of tensors, not "
            f"{type(positions).__name__}."
        )
    like = next((p for p in positions if isinstance(p, Tensor)), None)
    lines = [as_tensor("ravel_multi_index", np.asarray(p) if isinstance(p, int) else p, like)
             for p in positions]  # fmt: skip
    if len(lines) != len(sizes) or not lines:
        raise ShapeError(f"ravel_multi_index: {len(lines)} positions for shape {sizes}.")
    total: Any = 0
    for axis, (line, size) in enumerate(zip(lines, sizes, strict=True)):
        whole = _whole("ravel_multi_index", line)
        wrong = (whole < 0) | (whole >= size)
        if reduction.any(wrong):
            raise IndexingError(
                f"ravel_multi_index: position {whole[wrong][0].item()} is out of range for axis "
                f"{axis} with size {size}."
            )
        total = total * size + whole
    return total


@ravel_multi_index.samples
def _():
    yield sample([integers(3, 4, high=2), integers(4, high=3)], shape=(2, 3))
    yield sample([integers(3, high=5)], shape=(5,))
    yield sample([Input("int", (), values=(1,)), integers(2, high=3)], shape=(2, 3))


@ravel_multi_index.errors
def _():
    x = np.array([0, 2])
    yield Failure(
        lambda: ravel_multi_index((x, x), (3, 2)), IndexingError, r"2 is out of range for axis 1"
    )
    yield Failure(lambda: ravel_multi_index((x,), (3, 2)), ShapeError, r"1 positions for shape")
    yield Failure(lambda: ravel_multi_index(x, (3,)), DTypeError, r"a sequence of tensors")
    yield Failure(lambda: ravel_multi_index((x * 0.5,), (3,)), DTypeError, r"must be integers")
