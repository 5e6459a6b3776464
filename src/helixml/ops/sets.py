"""Sets: the distinct values of a tensor, in ascending order.

How many there are depends on the values, which are looked at in host memory. Every nan counts as a
value of its own. Values carry a gradient, which goes to where each was first found; positions and
counts carry none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, booleans, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import ShapeError
from helixml.ops.indexing import take
from helixml.ops.movement import reshape


class UniqueAll(NamedTuple):
    """What `unique_all` gives."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCounts(NamedTuple):
    """What `unique_counts` gives."""

    values: Tensor
    counts: Tensor


class UniqueInverse(NamedTuple):
    """What `unique_inverse` gives."""

    values: Tensor
    inverse_indices: Tensor


def _all_oracle(x):
    found, first, inverse, counts = np.unique(x, True, True, True, equal_nan=False)
    return found, first, inverse.reshape(x.shape), counts


@composite(oracle=_all_oracle)
def unique_all(x: Tensor) -> UniqueAll:
    """Return the distinct values, where each is first, which each entry is, and how many there are.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    values : Tensor, (n,), ascending.
    indices : Tensor, (n,), int64, positions in the flat ``x``.
    inverse_indices : Tensor in the shape of ``x``, int64: ``values[inverse_indices]`` is ``x``.
    counts : Tensor, (n,), int64.

    Examples
    --------
    >>> import helixml as hx
    >>> found = hx.unique_all(hx.tensor([3.0, 1.0, 3.0]))
    >>> found.values, found.indices, found.inverse_indices, found.counts
    (tensor([1., 3.]), tensor([1, 0]), tensor([1, 0, 1]), tensor([1, 2]))
    """
    flat = reshape(x, (-1,)) if x.ndim != 1 else x
    host = x._backend.to_numpy(flat._array)
    if host.dtype == dtypes.bfloat16:
        host = host.astype(np.float32)  # NumPy does not sort a nan of this dtype to the end
    found = np.unique(host, True, True, True, equal_nan=False)
    positions = [as_tensor("unique_all", part.astype(np.int64), x) for part in found[1:]]
    first, inverse, counts = positions
    return UniqueAll(take(flat, first, axis=0), first, reshape(inverse, x.shape), counts)


def _counts_oracle(x):
    return _all_oracle(x)[0], _all_oracle(x)[3]


@composite(oracle=_counts_oracle)
def unique_counts(x: Tensor) -> UniqueCounts:
    """Return the distinct values and how often each occurs.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    values : Tensor, (n,), ascending.
    counts : Tensor, (n,), int64.
    """
    found = unique_all(x)
    return UniqueCounts(found.values, found.counts)


def _inverse_oracle(x):
    return _all_oracle(x)[0], _all_oracle(x)[2]


@composite(oracle=_inverse_oracle)
def unique_inverse(x: Tensor) -> UniqueInverse:
    """Return the distinct values and which of them each entry is.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    values : Tensor, (n,), ascending.
    inverse_indices : Tensor in the shape of ``x``, int64: ``values[inverse_indices]`` is ``x``.
    """
    found = unique_all(x)
    return UniqueInverse(found.values, found.inverse_indices)


def _values_oracle(x):
    return _all_oracle(x)[0]


@composite(oracle=_values_oracle)
def unique_values(x: Tensor) -> Tensor:
    """Return the distinct values.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, (n,), ascending.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.unique_values(hx.tensor([3, 1, 3]))
    tensor([1, 3])
    """
    return unique_all(x).values


for _op in (unique_all, unique_counts, unique_inverse, unique_values):

    @_op.samples
    def _():
        yield sample(floats(3, 4, distinct=True))
        yield sample(values(2.0, 1.0, 2.0, 0.0), value_only=True)
        yield sample(values(2.0, np.nan, 2.0, np.nan), value_only=True)
        yield sample(integers(3, 4))
        yield sample(booleans(5))
        yield sample(())
        yield sample((0, 3))


# As NumPy has it


def _unique_oracle(
    x, *, return_index=False, return_inverse=False, return_counts=False, axis=None, equal_nan=True
):
    found = np.unique(
        x, return_index, return_inverse, return_counts, axis=axis, equal_nan=equal_nan
    )
    if not isinstance(found, tuple):
        return found
    shape = (-1,) if axis is not None else x.shape
    return tuple(
        part.reshape(shape) if return_inverse and i == 1 + return_index else part
        for i, part in enumerate(found)
    )


@composite(oracle=_unique_oracle)
def unique(
    x: Tensor,
    *,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    axis: int | None = None,
    equal_nan: bool = True,
) -> Tensor | tuple[Tensor, ...]:
    """Return the distinct values, or the distinct parts along an axis, in ascending order.

    Parameters
    ----------
    x : Tensor, any shape.
    return_index : also return where each is first.
    return_inverse : also return which of them each entry (or part) is.
    return_counts : also return how many there are.
    axis : int, along which the parts stand, ordered by their first differing value; None for the
        values of the flat tensor.
    equal_nan : all nan count as one value; without ``axis`` only.

    Returns
    -------
    Tensor, or a tuple of what was asked for in the order of the parameters; all but the values
    int64. The inverse has the shape of ``x``, or that of one axis.

    Raises
    ------
    ShapeError : there is no such axis.

    Notes
    -----
    Gradient: g, back to where each was first. `unique_all` and its like are the array API's.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.unique(hx.tensor([3.0, 1.0, 3.0]), return_counts=True)
    (tensor([1., 3.]), tensor([1, 2]))
    >>> hx.unique(hx.tensor([[1, 2], [0, 5], [1, 2]]), axis=0)
    tensor([[0, 5],
            [1, 2]])
    """
    if axis is not None:
        axis = shapes.normalize_axis("unique", axis, x.ndim)
    rows = reshape(x, (-1,)) if axis is None else x
    host = x._backend.to_numpy(rows._array)
    if host.dtype == dtypes.bfloat16:
        host = host.astype(np.float32)
    found = np.unique(host, True, True, True, axis=axis, equal_nan=bool(equal_nan))
    first, inverse, counts = (
        as_tensor("unique", part.astype(np.int64).reshape(-1), x) for part in found[1:]
    )
    wanted = [take(rows, first, axis=axis or 0)]
    if return_index:
        wanted.append(first)
    if return_inverse:
        wanted.append(inverse if axis is not None else reshape(inverse, x.shape))
    if return_counts:
        wanted.append(counts)
    return wanted[0] if len(wanted) == 1 else tuple(wanted)


@unique.samples
def _():
    every = {"return_index": True, "return_inverse": True, "return_counts": True}
    yield sample(floats(3, 4, distinct=True))
    yield sample(values(2.0, 1.0, 2.0, np.nan, np.nan), value_only=True, **every)
    yield sample(values(2.0, np.nan, np.nan), value_only=True, equal_nan=False, **every)
    yield sample(integers(3, 4), return_inverse=True)
    yield sample(integers(6, 2, high=2), axis=0, **every)
    yield sample(integers(2, 6, high=2), axis=-1, return_counts=True)
    yield sample(booleans(5), return_index=True)
    yield sample((0, 3), **every)
    yield sample(())


unique.errors(
    lambda: (Failure(lambda: unique(blank(2), axis=1), ShapeError, r"axis 1 is out of range"),)
)
