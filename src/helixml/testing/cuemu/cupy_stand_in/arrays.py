"""The array of the stand-in: NumPy's behind a wall, which lets nothing to the host unasked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Literal  # Any: arguments and results of NumPy's functions

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from helixml.testing.cuemu.cupy_stand_in.calculation import (
    Memory,
    calculate,
    change,
    refuse_keywords,
    unwrap,
)
from helixml.testing.cuemu.cupy_stand_in.differences import filling
from helixml.testing.cuemu.cupy_stand_in.names import FUNCTIONS, METHODS, SYNCHRONIZING

__all__ = ["Array", "Order"]

Order = Literal["C", "F", "A", "K"]


class Array(Memory, NDArrayOperatorsMixin):
    """`cupy.ndarray`: a NumPy array behind a wall.

    Parameters
    ----------
    shape, dtype, order : as of `cupy.empty`; values are nan.
    """

    __slots__ = ()
    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(
        self,
        shape: Any,
        dtype: Any = float,
        memptr: Any = None,
        strides: Any = None,
        order: str = "C",
    ) -> None:
        if memptr is not None or strides is not None:
            raise TypeError("the stand-in's ndarray takes no memptr and strides")
        self._make(shape, dtype, order)

    def get(
        self,
        stream: Any = None,
        order: Order = "C",
        out: np.ndarray | None = None,
        blocking: bool = True,
    ) -> np.ndarray:
        """Copy to the host, which waits for it."""
        self._wait("get")
        self._record.copies["to host"] += self._raw.nbytes
        copy = self._raw.copy(order)
        if out is None:
            return np.asarray(copy)
        if not isinstance(out, np.ndarray) or out.shape != copy.shape or out.dtype != copy.dtype:
            raise TypeError(f"out= must be a NumPy array {copy.shape} of {copy.dtype}")
        out[...] = copy
        return out

    def set(self, arr: np.ndarray, stream: Any = None) -> None:
        """Copy from the host: an array of the same shape and dtype."""
        if not isinstance(arr, np.ndarray):
            raise TypeError(f"Only numpy.ndarray can be set to cupy.ndarray, not {type(arr)}")
        if arr.dtype != self.dtype:
            raise TypeError(f"{arr.dtype} array cannot be set to {self.dtype} array")
        if arr.shape != self.shape:
            raise ValueError(f"Shape mismatch. Old shape: {self.shape}, new shape: {arr.shape}")
        copy, raw = arr.copy(), self._raw
        self._record.copies["to device"] += copy.nbytes
        self._record.queues.submit(lambda: np.copyto(raw, copy), stream)

    def item(self, *index: int) -> Any:
        """Return one value as a Python number; the host waits for it."""
        self._wait("item")
        return self._raw.item(*index)

    def tolist(self) -> Any:
        """Return the values as lists; the host waits for them."""
        self._wait("tolist")
        return self._raw.tolist()

    def __copy__(self) -> Any:
        return getattr(self, "copy")()  # noqa: B009  methods are put in below

    def __float__(self) -> float:
        self._wait("float")
        return float(self._raw)

    def __int__(self) -> int:
        self._wait("int")
        return int(self._raw)

    def __index__(self) -> int:
        self._wait("index")
        return self._raw.__index__()

    def __complex__(self) -> complex:
        self._wait("complex")
        return complex(self._raw)

    def __bool__(self) -> bool:
        self._wait("bool")
        return bool(self._raw)

    def __repr__(self) -> str:
        self._wait("repr")
        return repr(self._raw)

    def __array__(self, *arguments: Any, **keywords: Any) -> np.ndarray:
        raise TypeError(
            "Implicit conversion to a NumPy array is not allowed. "
            "Please use `.get()` to construct a NumPy array explicitly."
        )

    def _wait(self, cause: str) -> None:
        self._record.queues.wait_for_current(cause)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
        if method == "at":
            raise TypeError("cupy has no ufunc.at. Hint: cupyx.scatter_add")
        if method not in ("__call__", "reduce", "accumulate", "outer", "reduceat"):
            return NotImplemented
        if keywords.get("where") is True:
            del keywords["where"]
        refuse_keywords(ufunc.__name__, keywords)
        function = ufunc if method == "__call__" else getattr(ufunc, method)
        return calculate(type(self), function, inputs, keywords)

    def __array_function__(self, function: Any, types: Any, arguments: Any, keywords: Any) -> Any:
        name = function.__name__
        if name not in FUNCTIONS:
            return NotImplemented
        refuse_keywords(name, keywords)
        waits = name if name in SYNCHRONIZING else ""
        return calculate(type(self), function, arguments, keywords, waits=waits)

    def __getitem__(self, index: Any) -> Any:
        raw = unwrap(index, type(self))
        boolean = any(isinstance(i, np.ndarray) and i.dtype == bool for i in _tuple(raw))
        waits = "a boolean index" if boolean else ""

        def getitem(x: np.ndarray, *_: Any) -> Any:
            return x[raw]

        return calculate(type(self), getitem, (self, *_tuple(index)), waits=waits)

    def __setitem__(self, index: Any, value: Any) -> None:
        raw = unwrap(index, type(self))
        target = self._raw
        if not isinstance(value, Array) and np.ndim(value):
            raise TypeError(
                "the stand-in sets values of the device or numbers. Hint: asarray() first"
            )
        source, part = unwrap(value, type(self)), np.asarray(target[raw])
        np.broadcast_shapes(part.shape, np.shape(source))
        if not isinstance(value, Array):
            source = filling(value, part)

        def run() -> None:
            with np.errstate(all="ignore"):
                target[raw] = source

        self._record.library_launches["setitem"] += bool(np.size(target[raw]))
        self._record.queues.submit(run)

    def __len__(self) -> int:
        return len(self._raw)

    def __iter__(self) -> Iterator[Any]:
        if not self.ndim:
            raise TypeError("iteration over a 0-d array")
        return (self[i] for i in range(len(self)))

    shape = property(lambda self: self._raw.shape)
    dtype = property(lambda self: self._raw.dtype)
    ndim = property(lambda self: self._raw.ndim)
    size = property(lambda self: self._raw.size)
    nbytes = property(lambda self: self._raw.nbytes)
    itemsize = property(lambda self: self._raw.itemsize)
    strides = property(lambda self: self._raw.strides)
    flags = property(lambda self: self._raw.flags)
    base = property(lambda self: self._owner)
    device = property(lambda self: SimpleNamespace(id=0))
    T = property(lambda self: self.transpose())
    mT = property(lambda self: self.swapaxes(-1, -2))
    real = property(lambda self: calculate(type(self), np.real, (self,)))
    imag = property(lambda self: calculate(type(self), np.imag, (self,)))

    @property
    def data(self) -> SimpleNamespace:
        """The address, as ``data.ptr``."""
        return SimpleNamespace(ptr=self._raw.ctypes.data, mem=SimpleNamespace(size=self.nbytes))

    def fill(self, value: Any) -> None:
        """Set all values to a number."""
        self[...] = value

    def put(self, indices: Any, values: Any) -> None:
        """Set values by flat indices."""
        change(type(self), np.put, (self, indices, values))

    def sort(self, axis: int = -1) -> None:
        """Sort in place."""
        change(type(self), np.ndarray.sort, (self, axis))


def _tuple(index: Any) -> tuple[Any, ...]:
    return index if isinstance(index, tuple) else (index,)


def _method(name: str) -> Callable[..., Any]:
    def call(x: np.ndarray, *rest: Any, **named: Any) -> Any:
        return getattr(x, name)(*rest, **named)

    def method(self: Array, *arguments: Any, **keywords: Any) -> Any:
        refuse_keywords("" if name == "clip" else name, keywords)  # the method has min and max
        return calculate(
            type(self),
            call,
            (self, *arguments),
            keywords,
            waits=name if name in SYNCHRONIZING else "",
        )

    call.__name__ = method.__name__ = name
    return method


for _name in METHODS:
    setattr(Array, _name, _method(_name))
