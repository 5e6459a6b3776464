"""Any namespace of the Python array API standard as a backend.

Tier 0 has the standard's own names, so most functions are bound as they are; the methods below fill
the gaps between what the standard promises and what `protocol` asks. Tier 1 comes from `base`, and
there are no kernels: definitions run. NumPy is touched only where arrays come in and go out.

Arrays are never written: `assign` gives a new one. Dtypes are those of the standard that the
namespace has; the standard knows no 16-bit floats and no arithmetic of booleans, so both are
refused. Proved on array_api_strict, which allows nothing that the standard does not promise.
Another namespace ``xp`` becomes a device by
``registry.register("name", lambda: ArrayApiBackend(xp, Device("name")))``.

What a library can do beyond the standard, or better, stands in a subclass in a file of its own:
`array_api_torch`, `array_api_jax`. No library is named here but in the table of these files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import version
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.base import BackendBase, Entry, explicit
from helixml.backends.dispatch import KernelTable
from helixml.backends.protocol import Array, ComputeBackend
from helixml.device import Device
from helixml.dtypes import DType
from helixml.errors import DeviceError, DTypeError, MissingDependencyError
from helixml.shapes import Shape

__all__ = ["ArrayApiBackend", "create", "forward", "no_such_place"]

# Functions whose names, parameters and meanings are the standard's; the first take numbers only.
_ARITHMETIC = (
    *("abs", "negative", "sign", "square", "floor", "ceil", "trunc", "add", "subtract"),
    *("multiply", "divide", "floor_divide", "remainder", "maximum", "minimum"),
)
_BOUND = (
    *("sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "hypot", "sin", "cos"),
    *("tan", "asin", "acos", "atan", "atan2", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh"),
    *("isfinite", "isnan", "isinf", "signbit", "copysign", "nextafter", "real", "imag", "conj"),
    *("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "where"),
    *("logical_not", "logical_and", "logical_or", "logical_xor", "bitwise_invert", "bitwise_and"),
    *("bitwise_or", "bitwise_xor", "bitwise_left_shift", "bitwise_right_shift", "argmax"),
    *(
        "argmin",
        "searchsorted",
        "reshape",
        "permute_dims",
        "broadcast_to",
        "concat",
        "flip",
        "roll",
    ),
    *("tril", "triu", "matmul"),
)
# And those of its extension for linear algebra, where the namespace has it.
_MATRICES = (
    *("cholesky", "qr", "eigh", "eigvalsh", "svd", "svdvals", "det", "slogdet", "inv", "solve"),
    "pinv",
)
_STANDARD = tuple(dtype for dtype in dtypes.ALL if dtype not in dtypes.HALVES)

# The module that makes the backend of a kind, for libraries that have one; its own imports are the
# packages of the extra of that name.
_HOOKS = {
    "torch": "helixml.backends.array_api_torch",
    "jax": "helixml.backends.array_api_jax",
}


def create(device: Device) -> ArrayApiBackend:
    """Return the backend of a device whose kind names an installed library.

    Raises
    ------
    MissingDependencyError : a package is not installed.
    DeviceError : the library has no such place.
    """
    hook = _HOOKS.get(device.kind)
    package = f"'helixml[{device.kind}]'" if hook else device.kind.replace("_", "-")
    try:
        module = import_module(hook or device.kind)
    except ImportError as error:
        raise MissingDependencyError(
            f"device {device.name!r}: {error}. Hint: pip install {package}"
        ) from error
    if hook:
        made: ArrayApiBackend = module.create(device)
        return made
    if device.index:
        raise DeviceError(
            f"device {device.name!r}: arrays live where {device.kind} puts them. "
            f"Hint: write {device.kind!r}."
        )
    return ArrayApiBackend(module, device)


def no_such_place(device: Device, library: str, reason: str, places: list[str]) -> DeviceError:
    """Return the error for a device that a library does not have."""
    reason = reason.partition("\n")[0].rstrip(".")
    return DeviceError(
        f"device {device.name!r}: {library} has no such place here: {reason:.80}. "
        f"Hint: it has {', '.join(places)}."
    )


class ArrayApiBackend(BackendBase):
    """A namespace's arrays in, its arrays out.

    Parameters
    ----------
    namespace : module of the Python array API standard, 2023.12 or later.
    device : what helixml calls the place; its kind is the device kind.
    place : what the namespace calls it, for its ``device=``; None is its own choice.
    """

    name = "array_api"
    _candidates = _STANDARD  # dtypes to look for

    # Any: a module, and a device of whatever kind it has
    def __init__(self, namespace: Any, device: Device, place: Any = None) -> None:
        self._xp = namespace
        self._place = place
        self.device = device
        self.device_kinds = (device.kind,)
        self.kernels = KernelTable()
        self._to_theirs: dict[DType, Any] = {}
        self._to_ours: dict[Any, DType] = {}
        for ours in self._candidates:
            theirs = getattr(namespace, ours.name, None)
            if theirs is not None and self._holds(theirs):
                self._to_theirs[ours] = theirs
                self._to_ours[namespace.zeros((), dtype=theirs).dtype] = ours
        self.dtypes = tuple(self._to_theirs)
        self.array_type = type(namespace.zeros(()))
        for name in _BOUND:
            self._bind(name, namespace)
        for name in _ARITHMETIC:
            self._bind(name, namespace)
        for name in _MATRICES:
            self._bind(name, getattr(namespace, "linalg", None))
        self._power = self._of_numbers("pow")

    def _bind(self, name: str, namespace: Any) -> None:
        """Take a function of the namespace, unless a subclass has one of its own."""
        own = getattr(type(self), name, None) is not getattr(ArrayApiBackend, name, None)
        if own or not hasattr(namespace, name):
            return
        function = getattr(namespace, name)
        setattr(self, name, self._of_numbers(name) if name in _ARITHMETIC else function)

    def _wrap(self, wrapped: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        """Put ``wrapped(function)`` in the place of each function."""
        for name, function in vars(ComputeBackend).items():
            if callable(function) and not name.startswith("_") and hasattr(self, name):
                setattr(self, name, wrapped(getattr(self, name)))

    def _holds(self, theirs: Any) -> bool:
        """Say whether the place has a dtype of the namespace."""
        return True

    def _of_numbers(self, name: str) -> Callable[..., Array]:
        """Return a function of the namespace that refuses booleans: what they add up to varies."""
        function = getattr(self._xp, name)
        boolean = self._xp.zeros((), dtype=self._xp.bool).dtype

        def of_numbers(*operands: Array) -> Array:
            for x in operands:
                if x.dtype == boolean:
                    raise DTypeError(
                        f"{name}: takes no booleans on device {self.device.name!r}. "
                        "Hint: cast with astype('int8'), or use logical_and, logical_or."
                    )
            return function(*operands)

        return of_numbers

    def _dtype(self, dtype: DType) -> Any:
        found = self._to_theirs.get(dtype)
        if found is None:
            raise DTypeError(
                f"device {self.device.name!r}: has no {dtype}; it has "
                f"{', '.join(d.name for d in self._to_theirs)}. Hint: cast with astype()."
            )
        return found

    # Making and moving

    def asarray(self, value: Any, /, *, dtype: DType | None = None) -> Array:
        """Return ``value`` as an array of its own."""
        if isinstance(value, self.array_type):
            return value if dtype is None else self.astype(value, dtype)
        host = np.array(value, dtype=dtype)
        return self._xp.asarray(host, dtype=self._dtype(host.dtype), device=self._place)

    def to_numpy(self, x: Array, /) -> Any:
        """Return ``x`` as a NumPy array, through DLPack."""
        return np.from_dlpack(x)

    def ensure(self, value: Any, /) -> Array:
        """Return a scalar as a 0-d array; NumPy, for one, gives such."""
        return value if isinstance(value, self.array_type) else self.asarray(value)

    def dtype_of(self, x: Array, /) -> DType:
        """Return the element type."""
        return self._to_ours[x.dtype]

    def copy(self, x: Array, /) -> Array:
        """Return a copy."""
        return self._xp.asarray(x, copy=True)

    def assign(self, target: Array, source: Array, /) -> Array:
        """Return a copy of ``source`` in the dtype of ``target``, which stays as it is."""
        return self._xp.astype(source, target.dtype, copy=True)

    def capabilities(self) -> dict[str, Any]:
        """Return the namespace, the version of its package, and the place if one was named."""
        name = self._xp.__name__
        found = {"namespace": f"{name} {version(name.partition('.')[0])}"}
        if self._place is not None:
            found["place"] = str(self._place)
        return {**super().capabilities(), **found}

    # Tier 0: creation

    def zeros(self, shape: Shape, /, *, dtype: DType) -> Array:
        """Return zeros."""
        return self._xp.zeros(shape, dtype=self._dtype(dtype), device=self._place)

    def ones(self, shape: Shape, /, *, dtype: DType) -> Array:
        """Return ones."""
        return self._xp.ones(shape, dtype=self._dtype(dtype), device=self._place)

    def full(self, shape: Shape, value: Any, /, *, dtype: DType) -> Array:
        """Return ``value`` everywhere; the standard takes Python scalars only."""
        plain = dtype.type(value).astype(dtypes.accumulation(dtype)).item()
        return self._xp.full(shape, plain, dtype=self._dtype(dtype), device=self._place)

    def arange(self, start: Any, stop: Any, step: Any, /, *, dtype: DType) -> Array:
        """Return evenly spaced values."""
        theirs = self._dtype(dtype)
        return self._xp.arange(start, stop, step, dtype=theirs, device=self._place)

    def eye(self, rows: int, columns: int, /, *, k: int = 0, dtype: DType) -> Array:
        """Return ones on diagonal ``k``."""
        theirs = self._dtype(dtype)
        return self._xp.eye(rows, columns, k=k, dtype=theirs, device=self._place)

    def astype(self, x: Array, dtype: DType, /) -> Array:
        """Return ``x`` in ``dtype``; itself if it has it."""
        if dtype == dtypes.bool_ and dtypes.kind(self.dtype_of(x)) == "c":
            return self._xp.not_equal(x, self.zeros((), dtype=self.dtype_of(x)))
        return self._xp.astype(x, self._dtype(dtype), copy=False)

    # Tier 0: elementwise

    def pow(self, x: Array, y: Array, /) -> Array:
        """Return the power; of integers none is negative: what others give varies."""
        if dtypes.kind(self.dtype_of(y)) == "i" and dtypes.kind(self.dtype_of(x)) in "iu":
            host = self.to_numpy(y)
            if host.size and host.min() < 0:
                raise ValueError("integers to a negative power")
        return self._power(x, y)

    def round(self, x: Array, /) -> Array:
        """Return the nearest integers, ties to even; integers and booleans as they are."""
        return self._xp.round(x) if dtypes.kind(self.dtype_of(x)) in "fc" else x

    # Tier 1: Fourier transforms, where the namespace has that extension

    def fft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the transform; the standard's takes complex numbers."""
        if not hasattr(self._xp, "fft"):
            return super().fft(x, n=n, axis=axis, norm=norm)
        return self._xp.fft.fft(self._as_complex(x), n=n, axis=axis, norm=norm)

    def ifft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the inverse transform; the standard's takes complex numbers."""
        if not hasattr(self._xp, "fft"):
            return super().ifft(x, n=n, axis=axis, norm=norm)
        return self._xp.fft.ifft(self._as_complex(x), n=n, axis=axis, norm=norm)

    def rfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the transform of real numbers."""
        if not hasattr(self._xp, "fft"):
            return super().rfft(x, n=n, axis=axis, norm=norm)
        return self._xp.fft.rfft(x, n=n, axis=axis, norm=norm)

    def irfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the inverse of `rfft`; the standard's takes complex numbers."""
        if not hasattr(self._xp, "fft"):
            return super().irfft(x, n=n, axis=axis, norm=norm)
        return self._xp.fft.irfft(self._as_complex(x), n=n, axis=axis, norm=norm)

    # Tier 0: reductions. Without axes nothing is added up, whatever a namespace makes of axis=().

    def sum(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the sum; booleans and integers add up in 64 bits, 16-bit floats in float32."""
        return self._added("sum", x, axis, keepdims=keepdims)

    def prod(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the product; accumulates as `sum` does."""
        return self._added("prod", x, axis, keepdims=keepdims)

    def cumulative_sum(self, x: Array, /, *, axis: int) -> Array:
        """Return running sums; accumulates as `sum` does."""
        return self._added("cumulative_sum", x, axis)

    def _added(self, name: str, x: Array, axis: Any, **options: bool) -> Array:
        dtype = dtypes.summed(self.dtype_of(x))
        x = self.astype(x, dtypes.accumulation(dtype))
        if axis != ():
            x = getattr(self._xp, name)(x, axis=axis, **options)
        return self.astype(x, dtype)

    def max(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the largest value."""
        return self._xp.max(x, axis=axis, keepdims=keepdims) if axis else x

    def min(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the smallest value."""
        return self._xp.min(x, axis=axis, keepdims=keepdims) if axis else x

    def any(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Say whether any value is true."""
        x = self.astype(x, dtypes.bool_)
        return self._xp.any(x, axis=axis, keepdims=keepdims) if axis else x

    def all(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Say whether all values are true."""
        x = self.astype(x, dtypes.bool_)
        return self._xp.all(x, axis=axis, keepdims=keepdims) if axis else x

    def argsort(self, x: Array, /, *, axis: int) -> Array:
        """Return the order that sorts ``x``; equal entries keep theirs."""
        return self._xp.argsort(x, axis=axis, stable=True)

    # Linear algebra

    def _check_diagonal(self, x: Array) -> None:
        """Raise where there is a 0 on a diagonal: a library divides by it."""
        if not self.to_numpy(self._xp.linalg.diagonal(x)).all():
            raise np.linalg.LinAlgError("singular matrix")

    # Tier 0: indexing

    def getitem(self, x: Array, index: tuple[Any, ...], /) -> Array:
        """Return ``x[index]``, spelled out within bounds, which is all that the standard allows."""
        plain, backward = forward(explicit(index, tuple(x.shape)))
        x = x[plain]
        return self.flip(x, axis=backward) if backward else x

    def take(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return entries along ``axis``; the standard takes one-dimensional indices."""
        n = x.shape[axis]
        self._check_positions(indices, n)
        flat = self._from_front(self.reshape(indices, (-1,)), n)
        taken = self._xp.take(x, flat, axis=axis)
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self.reshape(taken, shape)

    def _check_positions(self, indices: Array, n: int) -> None:
        """Raise unless all are in [-n, n): the standard leaves open what others give."""
        host = self.to_numpy(indices)
        if host.size and (host.min() < -n or host.max() >= n):
            raise IndexError(f"take: an index is not in [{-n}, {n}).")


def forward(
    entries: Iterable[Entry],
) -> tuple[tuple[int | slice | None, ...], tuple[int, ...]]:
    """Return an index within bounds whose steps go forward, and the axes to flip after it."""
    plain: list[int | slice | None] = []
    backward = []
    for entry in entries:
        if not isinstance(entry, tuple):
            plain.append(entry)
            continue
        start, step, count = entry
        if count == 0:
            start, step, count = 0, 1, 0
        elif step < 0:
            backward.append(len(plain) - sum(isinstance(item, int) for item in plain))
            start, step = start + (count - 1) * step, -step
        plain.append(slice(start, start + max((count - 1) * step + 1, 0), step))
    return tuple(plain), tuple(backward)
