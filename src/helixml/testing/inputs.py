"""From samples to NumPy arrays: random values in every dtype, and odd memory layouts.

Knows samples and NumPy, nothing of tensors.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.samples import Input, Sample
from helixml.dtypes import DType

__all__ = ["LAYOUTS", "materialize", "normal", "replace_arrays", "widened"]

Array = np.ndarray[Any, Any]

# Random floats keep this distance from its multiples, where samples put bounds, kinks and steps
# (0, 0.5, 1, ...), so that a difference quotient does not straddle one.
_GRID = 0.05
_MARGIN = 0.2  # of the grid


def materialize(
    sample: Sample, dtype: DType, rng: np.random.Generator
) -> tuple[list[Any], dict[str, Any]] | None:
    """Return the arguments of one call, arrays in place of `Input`; None if the dtype has no such.

    Float inputs get ``dtype``, whichever it is, complex too; integer inputs get it if it is an
    integer dtype, and int64 otherwise; boolean inputs stay boolean.
    """
    try:
        args = [_fill(item, dtype, rng) for item in sample.inputs]
        kwargs = {key: _fill(item, dtype, rng) for key, item in sample.attributes.items()}
    except _NoSuchValuesError:
        return None
    return args, kwargs


class _NoSuchValuesError(Exception):
    """The dtype holds no values of the wanted kind."""


def _fill(item: Any, dtype: DType, rng: np.random.Generator) -> Any:
    if isinstance(item, list):
        return [_fill(part, dtype, rng) for part in item]
    if not isinstance(item, Input):
        return item
    if item.kind == "bool":
        return np.asarray(rng.random(item.shape) < 0.5)
    target = dtype
    if item.kind == "int" and dtypes.kind(dtype) not in "iu":
        target = dtypes.int64
    if item.values is not None:
        return _exactly(np.array(item.values).reshape(item.shape), target)
    if dtypes.kind(target) == "c":
        imaginary = _floats(Input("float", item.shape, -1.0, 1.0), rng)
        return np.asarray(_floats(item, rng) + 1j * imaginary, target)
    if dtypes.is_floating(target):
        return _floats(item, rng).astype(target)
    return _integers(item, target, rng)


def _exactly(values: Array, dtype: DType) -> Array:
    if values.dtype.kind == "c" or dtypes.kind(dtype) == "c":
        if dtypes.kind(dtype) != "c" or not np.isfinite(values).all():
            raise _NoSuchValuesError  # nobody agrees what a function of inf + 0i is
        return values.astype(dtype)
    if dtypes.is_floating(dtype):
        with np.errstate(all="ignore"):
            return values.astype(dtype)
    low, high = _range(dtype)
    if not np.isfinite(values).all() or (values % 1).any():
        raise _NoSuchValuesError
    if values.size and (values.min() < low or values.max() > high):
        raise _NoSuchValuesError
    return values.astype(dtype)


def _floats(item: Input, rng: np.random.Generator) -> Array:
    count = int(np.prod(item.shape, dtype=np.int64))
    if item.distinct:
        even = np.linspace(item.low, item.high, count + 2)[1:-1]
        return np.asarray(rng.permutation(even).reshape(item.shape))
    raw = rng.uniform(item.low, item.high, item.shape)
    cell = np.floor(raw / _GRID)
    place = _MARGIN + (1 - 2 * _MARGIN) * rng.random(item.shape)
    kept = (cell + place) * _GRID
    return np.asarray(np.where((kept >= item.low) & (kept < item.high), kept, raw))


def _integers(item: Input, dtype: DType, rng: np.random.Generator) -> Array:
    least, most = _range(dtype)
    low = max(int(np.ceil(item.low)), least)
    high = min(int(np.ceil(item.high)) - 1, most)
    if high < low:
        raise _NoSuchValuesError
    return np.asarray(rng.integers(low, high, item.shape, endpoint=True)).astype(dtype)


def _range(dtype: DType) -> tuple[int, int]:
    if dtype == dtypes.bool_:
        return 0, 1
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def widened(x: Array) -> Array:
    """Return numbers in float64, or in complex128 if they are complex."""
    return x.astype(np.complex128 if x.dtype.kind == "c" else np.float64)


def normal(rng: np.random.Generator, shape: tuple[int, ...], dtype: DType) -> Array:
    """Return random numbers in float64; in complex128, along both axes, for a complex dtype."""
    parts = [rng.normal(size=shape) for _ in range(2 if dtypes.kind(dtype) == "c" else 1)]
    return np.asarray(parts[0] if len(parts) == 1 else parts[0] + 1j * parts[1])


def replace_arrays(value: Any, function: Callable[[Array], Any]) -> Any:
    """Return ``value`` (an array, a list of arrays, anything else) with arrays replaced."""
    if isinstance(value, list):
        return [replace_arrays(item, function) for item in value]
    return function(value) if isinstance(value, np.ndarray) else value


def _strided(x: Array) -> Array:
    """Return ``x`` as every second element of a larger array, along each axis."""
    spaced = np.full(tuple(2 * n + 1 for n in x.shape), 77).astype(x.dtype)
    odd: Any = (..., *(slice(1, 2 * n + 1, 2) for n in x.shape))
    view: Array = spaced[odd]
    view[...] = x
    return view


def _reversed(x: Array) -> Array:
    """Return ``x`` with negative strides along each axis."""
    backward: Any = (..., *(slice(None, None, -1),) * x.ndim)
    turned: Array = x[backward].copy()[backward]
    return turned


def _transposed(x: Array) -> Array:
    """Return ``x`` with its first axis the contiguous one."""
    return x.T.copy().T


def _unaligned(x: Array) -> Array:
    """Return ``x`` at an odd address."""
    room = np.zeros(x.nbytes + 1, np.uint8)
    view = room[1:].view(x.dtype).reshape(x.shape)
    view[...] = x
    return view


def _read_only(x: Array) -> Array:
    """Return ``x`` in memory that nobody may write."""
    copied = x.copy()
    copied.flags.writeable = False
    return copied


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "strided": _strided,
    "reversed": _reversed,
    "transposed": _transposed,
    "unaligned": _unaligned,
    "read-only": _read_only,
}
