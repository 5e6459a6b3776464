"""The functions of ``cupy`` that make arrays: from the host's, and from nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any  # shapes, dtypes and values, as NumPy takes them

import numpy as np

from helixml.testing.cuemu.cupy_stand_in.arrays import Array, Order
from helixml.testing.cuemu.cupy_stand_in.calculation import calculate
from helixml.testing.cuemu.cupy_stand_in.differences import check_dtype, filling
from helixml.testing.cuemu.cupy_stand_in.record import Record

__all__ = ["Creation"]


class Creation:
    """What the stand-in's module has of them; parameters are CuPy's."""

    cuemu: Record
    ndarray: type[Array]

    def array(
        self,
        obj: Any,
        dtype: Any = None,
        copy: bool | None = True,
        order: str = "K",
        subok: bool = False,
        ndmin: int = 0,
        *,
        blocking: bool = False,
    ) -> Array:
        """Copy an array of the host, numbers or an array of the device to the device."""
        if isinstance(obj, self.ndarray):
            if not copy and dtype in (None, obj.dtype) and obj.ndim >= ndmin:
                return obj
            return self._made(np.array, obj, dtype=dtype, ndmin=ndmin, order=order)
        if isinstance(obj, (list, tuple)) and any(isinstance(x, Array) for x in obj):
            return self._made(np.stack, [self.array(x, copy=False) for x in obj])
        if isinstance(obj, Array):
            raise TypeError("an array of another stand-in")
        raw = np.array(obj, dtype=dtype, ndmin=ndmin, order=order)  # type: ignore[call-overload]
        check_dtype(raw.dtype)
        self.cuemu.copies["to device"] += raw.nbytes
        if not raw.ndim:  # it is filled
            raw[...] = filling(raw[()], raw)
        return self.ndarray._of(raw)

    def asarray(
        self,
        a: Any,
        dtype: Any = None,
        order: str | None = None,
        *,
        copy: bool | None = None,
        blocking: bool = False,
    ) -> Array:
        """Return an array of the device; one that is there already as it is."""
        return self.array(a, dtype, copy=copy, order=order or "K")

    def asnumpy(
        self,
        a: Any,
        stream: Any = None,
        order: Order = "C",
        out: Any = None,
        *,
        blocking: bool = True,
    ) -> np.ndarray:
        """Copy to the host, which waits for it."""
        return a.get(stream, order, out) if isinstance(a, Array) else np.asarray(a)

    def empty(self, shape: Any, dtype: Any = float, order: str = "C") -> Array:
        """Return an array of nan, or of the integer whose bits are all ones."""
        return self.ndarray(shape, dtype, order=order)

    def zeros(self, shape: Any, dtype: Any = float, order: str = "C") -> Array:
        """Return an array of zeros."""
        return self.full(shape, 0, dtype, order)

    def ones(self, shape: Any, dtype: Any = float, order: str = "C") -> Array:
        """Return an array of ones."""
        return self.full(shape, 1, dtype, order)

    def full(self, shape: Any, fill_value: Any, dtype: Any = None, order: str = "C") -> Array:
        """Return an array of one value, a number or an array without axes."""
        kind = dtype or getattr(fill_value, "dtype", None) or np.asarray(fill_value).dtype
        array = self.empty(shape, kind, order)
        array[...] = fill_value
        return array

    def empty_like(
        self,
        prototype: Array,
        dtype: Any = None,
        order: str = "K",
        subok: Any = None,
        shape: Any = None,
    ) -> Array:
        """Return an array of nan, of another's shape and dtype."""
        return self.empty(prototype.shape if shape is None else shape, dtype or prototype.dtype)

    def zeros_like(
        self, a: Array, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
    ) -> Array:
        """Return an array of zeros, of another's shape and dtype."""
        return self.full_like(a, 0, dtype, shape=shape)

    def ones_like(
        self, a: Array, dtype: Any = None, order: str = "K", subok: Any = None, shape: Any = None
    ) -> Array:
        """Return an array of ones, of another's shape and dtype."""
        return self.full_like(a, 1, dtype, shape=shape)

    def full_like(
        self,
        a: Array,
        fill_value: Any,
        dtype: Any = None,
        order: str = "K",
        subok: Any = None,
        shape: Any = None,
    ) -> Array:
        """Return an array of one value, of another's shape and dtype."""
        return self.full(a.shape if shape is None else shape, fill_value, dtype or a.dtype)

    def arange(self, start: Any, stop: Any = None, step: Any = 1, dtype: Any = None) -> Array:
        """Return numbers from start to before stop."""
        first, last = (0, start) if stop is None else (start, stop)
        return self._made(np.arange, first, last, step, dtype=dtype)

    def linspace(
        self,
        start: Any,
        stop: Any,
        num: int = 50,
        endpoint: bool = True,
        retstep: bool = False,
        dtype: Any = None,
        axis: int = 0,
    ) -> Any:
        """Return numbers from start to stop at equal distances."""
        arguments = (start, stop, num, endpoint, retstep, dtype, axis)
        return calculate(self.ndarray, np.linspace, arguments)

    def eye(
        self, N: int, M: int | None = None, k: int = 0, dtype: Any = float, order: str = "C"
    ) -> Array:
        """Return a matrix with ones on a diagonal."""
        return self._made(np.eye, N, M, k, dtype)

    def identity(self, n: int, dtype: Any = float) -> Array:
        """Return a square matrix with ones on its diagonal."""
        return self.eye(n, dtype=dtype)

    def tri(self, N: int, M: int | None = None, k: int = 0, dtype: Any = float) -> Array:
        """Return a matrix with ones on and below a diagonal."""
        return self._made(np.tri, N, M, k, dtype)

    def _made(self, function: Callable[..., np.ndarray], *arguments: Any, **keywords: Any) -> Array:
        array = calculate(self.ndarray, function, arguments, keywords)
        assert isinstance(array, Array)
        return array
