"""Sums of floats whose error does not grow with the number of terms.

NumPy adds up pairwise along an axis that is contiguous in memory. Along any other it adds one term
after the other, so that the last of many vanish beside the total. Here such an axis is first cut
into runs. Nothing else is known here but NumPy; the backend and the kernels' wrappers use it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["add_up"]

Array = np.ndarray[Any, Any]

RUN = 64  # terms that are added one after the other
FEW = 2 * RUN  # terms or runs that are not worth a cut


def add_up(x: Array, axis: tuple[int, ...], *, keepdims: bool = False) -> Array:
    """Return the sum over axes, in the dtype of ``x``.

    Parameters
    ----------
    x : any shape and strides, float or complex.
    axis : from 0 on.
    """
    dense = x.size <= FEW or (x.flags.forc and len(axis) == x.ndim)  # one axis to NumPy
    if not dense:
        outer = [i for i in axis if abs(x.strides[i]) > x.itemsize]
        while outer and math.prod(x.shape[i] for i in outer) > FEW:
            longest = max(outer, key=lambda i: x.shape[i])
            if x.shape[longest] <= RUN:
                outer.remove(longest)
            x = _by_runs(x, longest)
    # This is np.sum without its detours.
    total: Array = np.add.reduce(x, axis=axis, keepdims=keepdims)  # type: ignore[call-overload]
    return total


def _by_runs(x: Array, axis: int) -> Array:
    """Return the sums of the runs along an axis, the last of which may be shorter."""
    before = (slice(None),) * axis
    runs, rest = divmod(x.shape[axis], RUN)
    whole = x[*before, : runs * RUN].reshape(*x.shape[:axis], runs, RUN, *x.shape[axis + 1 :])
    parts = [whole.sum(axis=axis + 1)]
    if rest:
        parts.append(x[*before, runs * RUN :].sum(axis=axis, keepdims=True))
    return np.concatenate(parts, axis=axis) if len(parts) > 1 else parts[0]
