"""`assert_close`: compare tensors, arrays and structures of them in tests of your own."""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.tensor import Tensor
from helixml.autograd.structures import flatten_argument
from helixml.errors import ValueRangeError

__all__ = ["assert_close"]

# By the item size of real floats: some twenty roundings of the values, relative and absolute.
_DEFAULTS = {"bfloat16": (1.6e-2, 1e-5), "float16": (1e-3, 1e-5), "float32": (1.3e-6, 1e-5)}
_DOUBLE = (1e-7, 1e-7)


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_dtype: bool = True,
) -> None:
    """Raise AssertionError unless |actual - expected| <= atol + rtol |expected| everywhere.

    Parameters
    ----------
    actual, expected : Tensors, NumPy arrays or numbers; or tuples, lists and dicts of them, of one
        structure. A Tensor may be compared with an array. Infinities must be equal.
    rtol, atol : give both or neither. Left out, they are those of the narrower dtype: float32
        (1.3e-6, 1e-5), float64 (1e-7, 1e-7), float16 (1e-3, 1e-5), bfloat16 (1.6e-2, 1e-5);
        integers and truth values must be equal.
    equal_nan : nan equals nan.
    check_dtype : dtypes must be equal too; of Python numbers they are not looked at.

    Raises
    ------
    AssertionError : they differ; the message says where, in how many entries, and the worst.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.testing.assert_close(hx.tensor([1.0, 2.0]), hx.tensor([1.0, 2.0000001]))
    """
    if (rtol is None) != (atol is None):
        raise ValueRangeError(f"assert_close: rtol={rtol} and atol={atol}. Hint: both, or neither.")
    found, form = flatten_argument(actual)
    wanted, other = flatten_argument(expected)
    if form != other:
        raise AssertionError(f"assert_close: the structures differ: {form} and {other}")
    for number, (x, y) in enumerate(zip(found, wanted, strict=True)):
        where = f"leaf {number}: " if len(found) > 1 else ""
        _compare(where, x, y, rtol, atol, equal_nan, check_dtype)


def _compare(
    where: str,
    actual: Any,
    expected: Any,
    rtol: float | None,
    atol: float | None,
    equal_nan: bool,
    check_dtype: bool,
) -> None:
    x, y = _array(actual), _array(expected)
    if x.shape != y.shape:
        raise AssertionError(f"assert_close: {where}the shapes differ: {x.shape} and {y.shape}")
    typed = hasattr(actual, "dtype") and hasattr(expected, "dtype")
    if check_dtype and typed and x.dtype != y.dtype:
        raise AssertionError(
            f"assert_close: {where}the dtypes differ: {x.dtype} and {y.dtype}. "
            "Hint: check_dtype=False."
        )
    if rtol is None or atol is None:
        bounds = [_default(z.dtype) for z, given in ((x, actual), (y, expected)) if _counts(given)]
        rtol, atol = max(bounds or [_DOUBLE])
    wide = np.complex128 if "c" in (x.dtype.kind, y.dtype.kind) else np.float64
    if rtol == atol == 0 and x.dtype.kind in "biu" and y.dtype.kind in "biu":
        wrong = np.asarray(x != y)
        distance = np.abs(x.astype(np.float64) - y.astype(np.float64))
    else:
        x, y = x.astype(wide), y.astype(wide)
        with np.errstate(invalid="ignore", over="ignore"):
            distance = np.abs(x - y)
            close = (x == y) | (np.isfinite(y) & (distance <= atol + rtol * np.abs(y)))
        if equal_nan:
            close |= np.isnan(x) & np.isnan(y)
        wrong = ~close
    if not wrong.any():
        return
    worst = np.unravel_index(
        int(np.argmax(np.where(wrong, np.nan_to_num(distance, nan=np.inf), -1.0))), x.shape
    )
    place = tuple(int(i) for i in worst)
    raise AssertionError(
        f"assert_close: {where}{int(wrong.sum())} of {wrong.size} entries differ; the worst, at "
        f"{place}, is {x[place]} and not {y[place]}: {distance[place]:.3g} apart, with "
        f"rtol={rtol} and atol={atol}"
    )


def _array(value: Any) -> np.ndarray[Any, Any]:
    return value.numpy() if isinstance(value, Tensor) else np.asarray(value)


def _counts(value: Any) -> bool:
    """Say whether the dtype of a value says how exact it is: that of a Python float does not."""
    return hasattr(value, "dtype") or isinstance(value, (bool, int))


def _default(dtype: Any) -> tuple[float, float]:
    if dtype not in dtypes.DIFFERENTIABLE:
        return 0.0, 0.0
    name = {"complex64": "float32"}.get(dtype.name, dtype.name)
    return _DEFAULTS.get(name, _DOUBLE)
