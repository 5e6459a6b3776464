"""How close is close enough: one bound, from the dtype, the length of sums and the condition.

Errors are measured relative to the largest value of an array, so that an entry which cancels to
nearly nothing is not asked to be more precise than its neighbours allow. Knows NumPy arrays only.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from helixml import dtypes
from helixml.dtypes import DType

__all__ = ["assert_close", "condition_of", "tolerance"]

Array = np.ndarray[Any, Any]

# An op of the library is a few correctly rounded operations deep; its float64 oracle is another
# few, which count where both are float64.
_ROUNDINGS = 16
# Beyond this a sample is at the edge of a jump, and a comparison there says nothing.
_WORST_CONDITION = 100.0


def tolerance(dtype: DType, length: int = 1, condition: float = 1.0) -> float:
    """Return the largest accepted error relative to the largest value.

    Parameters
    ----------
    dtype : of the result.
    length : number of terms that were added up; their roundings grow like its square root.
    condition : by how much relative errors of the inputs are magnified.
    """
    if dtype not in dtypes.DIFFERENTIABLE:
        return 0.0
    growth = math.sqrt(max(length, 1)) + min(condition, _WORST_CONDITION)
    return _ROUNDINGS * epsilon(dtype) * growth


def epsilon(dtype: DType) -> float:
    """Return the distance from 1 to the next number in a float ``dtype``, or a complex one."""
    eps = ml_dtypes.finfo(dtypes.real_of(dtype)).eps  # type: ignore[no-untyped-call]
    return float(eps)


def condition_of(function: Callable[..., list[Array]], arrays: list[Any], seed: int = 0) -> float:
    """Return by how much small relative changes of the float ``arrays`` change the results.

    ``function`` takes the arrays and returns a list of arrays. A result whose shape changes too, as
    that of distinct values does, says nothing.
    """
    step = 1e-7
    rng = np.random.default_rng(seed)
    moved = [
        np.asarray(x * (1 + step * rng.choice([-1.0, 1.0], np.shape(x)))) if _is_float(x) else x
        for x in arrays
    ]
    worst = 1.0
    for before, after in zip(function(*arrays), function(*moved), strict=True):
        if not _is_float(before) or before.size == 0 or before.shape != after.shape:
            continue
        finite = np.isfinite(before) & np.isfinite(after)
        largest = np.max(np.abs(before), where=finite, initial=0.0)
        change = np.max(np.abs(after - before), where=finite, initial=0.0)
        if largest > 0:
            worst = max(worst, float(change / largest / step))
    return worst


def _is_float(x: Any) -> bool:
    return isinstance(x, (np.ndarray, np.inexact)) and x.dtype in (np.float64, np.complex128)


def assert_close(actual: Array, expected: Array, bound: float, what: str = "value") -> None:
    """Raise AssertionError unless ``actual`` is within ``bound`` times the largest of ``expected``.

    Infinities and nans must stand in the same places. ``expected`` has the exact values, in
    float64 or the integers' own dtype, or in complex128: then parts are compared.
    """
    if actual.shape != expected.shape:
        raise AssertionError(f"{what}: shape {actual.shape}, expected {expected.shape}")
    if actual.dtype.kind == "c" or expected.dtype.kind == "c":
        got, want = (np.stack([x.real, x.imag], axis=-1) for x in (actual, expected))
        assert_close(got, want, bound, what)
        return
    if actual.size == 0:
        return
    if "c" in (actual.dtype.kind, expected.dtype.kind):
        actual, expected = (np.stack([x.real, x.imag]) for x in (actual, expected))
    if actual.dtype.kind in "biu" and expected.dtype.kind in "biu":
        if not np.array_equal(actual, expected):
            raise AssertionError(f"{what}: {_short(actual)}, expected {_short(expected)}")
        return
    got = actual.astype(np.float64)
    want = expected.astype(np.float64)
    finite = np.isfinite(want)
    if not np.array_equal(got[~finite], want[~finite], equal_nan=True):
        raise AssertionError(f"{what}: {_short(got)}, expected {_short(want)}")
    if not np.isfinite(got[finite]).all():
        raise AssertionError(f"{what}: not finite: {_short(got)}, expected {_short(want)}")
    largest = float(np.max(np.abs(want[finite]), initial=0.0))
    error = float(np.max(np.abs(got[finite] - want[finite]), initial=0.0))
    if error > bound * largest:
        ratio = error / largest if largest else math.inf
        raise AssertionError(
            f"{what}: error {ratio:.2e} of the largest value, {bound:.2e} allowed: "
            f"{_short(got)}, expected {_short(want)}"
        )


def _short(x: Array) -> str:
    return np.array2string(x, precision=6, threshold=12, edgeitems=3).replace("\n", "")
