"""What CuPy computes otherwise than NumPy, where a backend could believe that both are the same.

A zero of the host fills an array with zero bytes: -0.0 becomes 0.0. Floats are divided with a
remainder by the quotient rounded down, whatever that is; no 16-bit float follows an infinity;
integers have negative powers, rounded to 0; expm1 of complex numbers is exp minus 1; the inverse
and the determinant of a matrix come from the factors of the transposed one; there are no 8-bit
floats.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # arguments and results of NumPy's functions

import ml_dtypes
import numpy as np

from helixml.testing.cuemu.cupy_stand_in.names import DTYPES

__all__ = ["DIFFERENT", "check_dtype", "filling"]

_HELD = {np.dtype(name) for name in (*DTYPES, ml_dtypes.bfloat16)}
_FLOATS = {np.dtype(name) for name in ("float16", "float32", "float64", ml_dtypes.bfloat16)}


def filling(value: Any, target: np.ndarray) -> Any:
    """Return what ``target`` is filled with where a number of the host is asked for."""
    is_zero = not isinstance(value, np.ndarray) and value == 0 and target.flags.c_contiguous
    return 0 if is_zero else value


def check_dtype(dtype: np.dtype) -> None:
    """Raise ValueError for what arrays of the device cannot hold."""
    if dtype not in _HELD:
        raise ValueError(f"Unsupported dtype {dtype}")


def _of_floats(function: Callable[..., Any], theirs: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of NumPy that computes as CuPy does where its result is a float."""

    def computed(x: Any, y: Any, **keywords: Any) -> Any:
        result = function(x, y, **keywords)
        dtype = result.dtype if isinstance(result, (np.ndarray, np.generic)) else result[0].dtype
        if dtype not in _FLOATS:
            return result
        return theirs(np.asarray(x, dtype), np.asarray(y, dtype))

    return computed


def _floor_divide(x: np.ndarray, y: np.ndarray) -> Any:
    return np.floor(_through_float(np.divide, x, y)).astype(x.dtype)


def _remainder(x: np.ndarray, y: np.ndarray) -> Any:
    return (x - _floor_divide(x, y) * y).astype(x.dtype)


def _divmod(x: np.ndarray, y: np.ndarray) -> Any:
    return _floor_divide(x, y), _remainder(x, y)


def _nextafter(x: np.ndarray, y: np.ndarray) -> Any:
    found = np.nextafter(x, y)
    return np.where(np.isinf(x), np.float16(np.nan), found) if x.dtype == np.float16 else found


def _through_float(function: Callable[..., Any], x: np.ndarray, y: np.ndarray) -> Any:
    """Compute 16-bit floats in single precision."""
    if x.dtype.itemsize > 2:
        return function(x, y)
    return function(x.astype(np.float32), y.astype(np.float32))


def _expm1(x: Any, **keywords: Any) -> Any:
    return np.exp(x) - 1 if np.iscomplexobj(x) else np.expm1(x, **keywords)


def _power(x: Any, y: Any, **keywords: Any) -> Any:
    try:
        return np.power(x, y, **keywords)
    except ValueError:  # of integers, negative ones among them
        found = np.power(x, np.abs(y))
        return np.where(np.less(y, 0) & (np.abs(x) != 1), np.zeros_like(found), found)


def _inv(x: np.ndarray) -> Any:
    return np.swapaxes(np.linalg.inv(np.swapaxes(x, -1, -2)), -1, -2).copy()


def _slogdet(x: np.ndarray) -> Any:
    return tuple(np.linalg.slogdet(np.swapaxes(x, -1, -2)))


def _det(x: np.ndarray) -> Any:
    sign, magnitude = _slogdet(x)
    return sign * np.exp(magnitude)


DIFFERENT: dict[str, Callable[..., Any]] = {
    "floor_divide": _of_floats(np.floor_divide, _floor_divide),
    "remainder": _of_floats(np.remainder, _remainder),
    "divmod": _of_floats(np.divmod, _divmod),
    "nextafter": _of_floats(np.nextafter, _nextafter),
    "expm1": _expm1,
    "power": _power,
    "inv": _inv,
    "det": _det,
    "slogdet": _slogdet,
}
for _name, _theirs in DIFFERENT.items():
    _theirs.__name__ = _name
