"""Choosing: where values are, one of several by condition, and all ways to combine them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, booleans, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.arrangement import meshgrid
from helixml.ops.elementwise import where
from helixml.ops.indexing import take
from helixml.ops.movement import reshape, stack


@composite(oracle=np.argwhere)
def argwhere(x: Tensor) -> Tensor:
    """Return the positions of the values that are not 0, one a row, in row-major order.

    Parameters
    ----------
    x : Tensor, any shape; nan is not 0.

    Returns
    -------
    Tensor, (n, number of axes), int64. Carries no gradient.

    Notes
    -----
    How many there are depends on the values, which are looked at in host memory. `nonzero` has the
    same positions, one axis a Tensor.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.argwhere(hx.tensor([[0.0, 2.0], [3.0, 0.0]]))
    tensor([[0, 1],
            [1, 0]])
    """
    found = np.argwhere(x._backend.to_numpy(x._array))
    return as_tensor("argwhere", found.astype(np.int64), x)


@composite(oracle=np.flatnonzero)
def flatnonzero(x: Tensor) -> Tensor:
    """Return the positions in the flat tensor of the values that are not 0.

    Parameters
    ----------
    x : Tensor, any shape; nan is not 0.

    Returns
    -------
    Tensor, (n,), int64. Carries no gradient.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.flatnonzero(hx.tensor([[0.0, 2.0], [3.0, 0.0]]))
    tensor([1, 2])
    """
    found = np.flatnonzero(x._backend.to_numpy(x._array))
    return as_tensor("flatnonzero", found.astype(np.int64), x)


for _op in (argwhere, flatnonzero):

    @_op.samples
    def _():
        yield sample(integers(3, 4), value_only=True)
        yield sample(values(0.0, 1.0, -0.0, np.nan), value_only=True)
        yield sample(booleans(2, 3))
        yield sample((0, 2))
        yield sample(())


def _several(op: str, given: Any, what: str) -> list:
    if (
        isinstance(given, Tensor)
        or not hasattr(given, "__iter__")
        or isinstance(given, (str, dict))
    ):
        raise DTypeError(f"{op}: {what} are a sequence of tensors, not {type(given).__name__}.")
    items = list(given)
    like = next((item for item in items if isinstance(item, Tensor)), None)
    return [as_tensor(op, item, like) for item in items]


def _select_oracle(conditions, choices, default=0):
    return np.select(conditions, choices, default)


@composite(oracle=_select_oracle)
def select(conditions: Sequence[Tensor], choices: Sequence[Tensor], default: float = 0) -> Tensor:
    """Choose elementwise by the first condition that holds.

    Parameters
    ----------
    conditions : sequence of Tensors, bool.
    choices : as many Tensors or scalars; all of them and the conditions broadcast.
    default : Tensor or scalar, for where no condition holds.

    Returns
    -------
    Tensor of the broadcast shape and the dtype that the choices and the default promote to.

    Raises
    ------
    ShapeError : there are none, or not as many choices as conditions, or shapes do not broadcast.
    DTypeError : a condition is not bool.

    Notes
    -----
    Gradient: g where chosen, exactly 0 elsewhere.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([-2.0, 0.5, 3.0])
    >>> hx.select([x < 0, x > 1], [-x, x * 10.0], x)
    tensor([ 2. ,  0.5, 30. ])
    """
    tests = _several("select", conditions, "conditions")
    values = _several("select", choices, "choices")
    if len(tests) != len(values) or not tests:
        raise ShapeError(f"select: {len(tests)} conditions for {len(values)} choices.")
    for number, test in enumerate(tests):
        if test.dtype != dtypes.bool_:
            raise DTypeError(f"select: condition {number} is {test.dtype}. Hint: x > 0, x != 0.")
    common = dtypes.result_type(*(v.dtype for v in values), _scalar_type(default))
    result: Any = default
    for test, value in zip(reversed(tests), reversed(values), strict=True):
        result = where(test, value.astype(common), result)
    return result


def _scalar_type(default):
    """Return what a default promotes as."""
    for kind in (bool, int, float, complex):
        if isinstance(default, kind):
            return kind
    return as_tensor("select", default).dtype


@select.samples
def _():
    yield sample([booleans(3, 4), booleans(3, 4)], [floats(3, 4), floats(3, 4)])
    yield sample([booleans(4), booleans(3, 1)], [floats(3, 4), floats(4)], default=2)
    yield sample([booleans(0, 2)], [floats(2)])


@select.errors
def _():
    x = blank(2)
    yield Failure(lambda: select([x > 0], []), ShapeError, r"1 conditions for 0 choices")
    yield Failure(lambda: select([x], [x]), DTypeError, r"condition 0 is float32")
    yield Failure(lambda: select(x > 0, [x]), DTypeError, r"conditions are a sequence of tensors")
    yield Failure(lambda: select([x > 0], [blank(3)]), ShapeError, r"do not broadcast")


# Combinations


def _product_oracle(arrays):
    common = np.result_type(*arrays)
    rows = [list(row) for row in itertools.product(*arrays)]
    return np.array(rows, common).reshape(-1, len(arrays))


@composite(oracle=_product_oracle)
def cartesian_prod(arrays: Sequence[Tensor]) -> Tensor:
    """Return all ways to take one value of each of some vectors.

    Parameters
    ----------
    arrays : sequence of k Tensors with one axis each.

    Returns
    -------
    Tensor, (the product of their sizes, k), one a row; the last one's values change fastest.

    Raises
    ------
    ShapeError : there is none, or one is no vector.

    Notes
    -----
    Gradient: g, added where each value came from.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.cartesian_prod([hx.tensor([1, 2]), hx.tensor([3, 4])])
    tensor([[1, 3],
            [1, 4],
            [2, 3],
            [2, 4]])
    """
    tensors = _several("cartesian_prod", arrays, "arrays")
    if not tensors:
        raise ShapeError("cartesian_prod: needs at least one vector.")
    for number, line in enumerate(tensors):
        if line.ndim != 1:
            raise ShapeError(f"cartesian_prod: array {number} has shape {line.shape}, no vector.")
    common = dtypes.result_type(*(line.dtype for line in tensors))
    grids = meshgrid(*(line.astype(common) for line in tensors), indexing="ij")
    return reshape(stack(grids, axis=-1), (math.prod(grids[0].shape), len(tensors)))


@cartesian_prod.samples
def _():
    yield sample([floats(2), floats(3)])
    yield sample([floats(2), floats(1), floats(2)])
    yield sample([floats(3)])
    yield sample([floats(0), floats(3)])


@cartesian_prod.errors
def _():
    x = blank(2)
    yield Failure(lambda: cartesian_prod([]), ShapeError, r"needs at least one vector")
    yield Failure(lambda: cartesian_prod([x, blank()]), ShapeError, r"array 1 has shape \(\)")
    yield Failure(lambda: cartesian_prod(x), DTypeError, r"arrays are a sequence of tensors")


_MOST = 2**31  # entries: more than memory holds


def _combinations_oracle(x, r=2, with_replacement=False):
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    rows = [list(row) for row in choose(x.tolist(), r)]
    return np.array(rows, x.dtype).reshape(len(rows), r)


@composite(oracle=_combinations_oracle)
def combinations(x: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """Return all ways to take r values of a vector, in its order.

    Parameters
    ----------
    x : Tensor, (n,).
    r : int, how many.
    with_replacement : a value may be taken several times.

    Returns
    -------
    Tensor, (n over r, r), one a row.

    Raises
    ------
    ShapeError : ``x`` is no vector. ValueRangeError : ``r`` is negative, or there are too many.

    Notes
    -----
    Gradient: g, added where each value came from.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.combinations(hx.tensor([1, 2, 3]))
    tensor([[1, 2],
            [1, 3],
            [2, 3]])
    """
    if x.ndim != 1:
        raise ShapeError(f"combinations: takes a vector, the shape is {x.shape}.")
    size, count = x.shape[0], dtypes.as_integer("combinations", "r", r)
    if count < 0:
        raise ValueRangeError(f"combinations: r={count} is negative.")
    if count > _MOST:
        raise ValueRangeError(f"combinations: r={count} is too large.")
    rows = math.comb(size, count)
    choose = itertools.combinations(range(size), count)
    if with_replacement:
        rows = math.comb(size + count - 1, count) if size or count == 0 else 0
        choose = itertools.combinations_with_replacement(range(size), count)  # type: ignore[assignment]
    if rows * max(count, 1) > _MOST:
        raise ValueRangeError(f"combinations: {rows} rows of {count} are too many.")
    flat = np.fromiter(itertools.chain.from_iterable(choose), np.int64, rows * count)
    return take(x, as_tensor("combinations", flat.reshape(rows, count), x), axis=0)


@combinations.samples
def _():
    yield sample((4,))
    yield sample((4,), r=3)
    yield sample((3,), with_replacement=True)
    yield sample((2,), r=3)
    yield sample((2,), r=0)
    yield sample((0,), r=1, with_replacement=True)


@combinations.errors
def _():
    yield Failure(lambda: combinations(blank(2, 2)), ShapeError, r"takes a vector, .* \(2, 2\)")
    yield Failure(lambda: combinations(blank(2), -1), ValueRangeError, r"r=-1 is negative")
    yield Failure(lambda: combinations(blank(99), 50), ValueRangeError, r"rows of 50 are too many")
