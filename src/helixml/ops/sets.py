"""Sets: the distinct values of a tensor, in ascending order.

How many there are depends on the values, which are looked at in host memory. Every nan counts as a
value of its own. Values carry a gradient, which goes to where each was first found; positions and
counts carry none.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from helixml import dtypes
from helixml._core.op import composite
from helixml._core.samples import booleans, floats, integers, sample, values
from helixml._core.tensor import Tensor, as_tensor
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
