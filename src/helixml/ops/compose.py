"""Compositions: functions that people expect, written in other ops, with no rules of their own."""

from __future__ import annotations

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, integers, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, IndexingError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.elementwise import maximum, minimum
from helixml.ops.logic import NO_ORDER, equal, logical_or
from helixml.ops.numbers import positive


def _clip_oracle(x, min=None, max=None):
    return np.clip(x, min, max)


@composite(real_only=NO_ORDER, oracle=_clip_oracle)
def clip(x: Tensor, min: float | None = None, max: float | None = None):
    """Bound values to [min, max]. The gradient is 0 outside and halved exactly on a bound.

    Parameters
    ----------
    x : Tensor, any shape.
    min, max : scalar or Tensor that broadcasts; None leaves that side open.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    if min is None and max is None:
        return positive(x)
    if min is not None:
        x = maximum(x, min)
    if max is not None:
        x = minimum(x, max)
    return x


@clip.samples
def _():
    yield sample((3, 4), min=-1.0, max=0.5)
    yield sample((3,), min=0.3)
    yield sample((3,), kinds="uif")


def _one_hot_oracle(indices, size):
    return np.eye(size)[indices]


@composite(oracle=_one_hot_oracle)
def one_hot(indices: Tensor, size: int):
    """Return vectors of 0 with a single 1 at each index.

    Parameters
    ----------
    indices : Tensor of an integer dtype, any shape, values in [0, size).
    size : int.

    Returns
    -------
    Tensor, shape ``(*indices.shape, size)``, float32.
    """
    from helixml.ops.creation import arange

    if size < 1:
        raise ValueRangeError(f"one_hot: size={size}, must be at least 1.")
    if dtypes.kind(indices.dtype) not in "ui":
        raise DTypeError(f"one_hot: indices must be integers, not {indices.dtype}.")
    wrong = logical_or(indices < 0, indices >= size)
    if reduction.any(wrong):
        first = indices[wrong][0].item()
        raise IndexingError(f"one_hot: index {first} is out of range for {size} classes.")
    line = arange(size, dtype=dtypes.int64, device=indices.device)
    spread = indices.astype(dtypes.int64).reshape(*indices.shape, 1)
    return equal(spread, line).astype(dtypes.default_float)


one_hot.samples(lambda: (sample(integers(3, 2, high=4), size=4), sample(integers(high=3), size=3)))


@one_hot.errors
def _():
    index = np.array([0, 3])
    yield Failure(lambda: one_hot(index, 0), ValueRangeError, r"size=0, must be at least 1")
    yield Failure(lambda: one_hot(index, 3), IndexingError, r"index 3 is out of range for 3 class")
    yield Failure(lambda: one_hot(index * 0.5, 3), DTypeError, r"must be integers, not float64")
