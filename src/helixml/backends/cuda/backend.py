"""`CudaBackend`: CuPy's functions bound as they are, and kernels of our own where they are faster.

Products of matrices are cuBLAS's and Fourier transforms cuFFT's, through CuPy; 16-bit floats are
summed and multiplied in float32. Work is queued on CuPy's current stream of the backend's device,
and only three things wait for it: `to_numpy`, `synchronize`, and the range check of indices and of
integer powers that were computed on the device; of integers that came from the host, it keeps
copies (`mirrors`). What is missing here is of `base`.

CuPy is handed in, so that a stand-in can take its place; nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import wraps
from inspect import isfunction
from math import prod
from typing import Any

import numpy as np

from helixml import config, dtypes
from helixml.backends.base import BackendBase
from helixml.backends.cuda import kernels
from helixml.backends.cuda.failures import explain
from helixml.backends.cuda.graphs import DeviceGraph, graphs
from helixml.backends.cuda.kernels import binary
from helixml.backends.cuda.matrices import DeviceLinearAlgebra
from helixml.backends.cuda.mirrors import Mirrors
from helixml.backends.cuda.products import Products
from helixml.backends.dispatch import KernelTable
from helixml.backends.failures import translated
from helixml.backends.lapack import HostLinearAlgebra
from helixml.backends.protocol import Array, ComputeBackend
from helixml.device import Device
from helixml.dtypes import DType
from helixml.errors import DTypeError
from helixml.shapes import Shape

__all__ = ["CudaBackend"]

# CuPy's functions under the protocol's names, operands by position.
_BOUND = {
    **{
        name: name
        for name in (
            *("negative", "sqrt", "square", "exp", "log", "log1p", "log2"),
            *("log10", "sin", "cos", "tan", "sinh", "cosh", "tanh", "floor", "ceil", "trunc"),
            *("signbit", "isfinite", "isnan", "isinf", "logical_not", "real", "imag"),
            *("hypot", "logaddexp"),
            *("copysign", "maximum", "minimum", "equal", "not_equal", "less"),
            *("less_equal", "greater", "greater_equal", "logical_and", "logical_or"),
            *("logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"),
        )
    },
    "abs": "absolute",
    "asin": "arcsin",
    "acos": "arccos",
    "atan": "arctan",
    "asinh": "arcsinh",
    "acosh": "arccosh",
    "atanh": "arctanh",
    "atan2": "arctan2",
    "bitwise_invert": "invert",
    "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift",
    "conj": "conjugate",
    "broadcast_to": "broadcast_to",
    "flip": "flip",
    "roll": "roll",
}
# These prepare something on the host, or wait for the device, in a way that no graph repeats.
_OF_THE_HOST = (
    *("fft", "ifft", "rfft", "irfft", "fft_conv", "fft_conv_vjp", "argsort", "norm_many"),
    *(name for name in vars(HostLinearAlgebra) if not name.startswith("_")),
)
# Of these CuPy serves no bfloat16; they are computed in float32.
_WIDENED = ("logical_not", "logical_and", "logical_or", "logical_xor")

# CuPy has no 8-bit floats.
_REFUSED = frozenset(dtypes.STORED)


class CudaBackend(DeviceLinearAlgebra, BackendBase):
    """CuPy's arrays in, CuPy's arrays out, on one GPU.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    device : name of the GPU, ``"cuda"`` for the first.

    Examples
    --------
    With a stand-in for CuPy, which needs no GPU:

    >>> from helixml.testing import cuemu
    >>> backend = CudaBackend(cuemu.cupy(), Device("cuda"))
    >>> backend.to_numpy(backend.exp(backend.zeros((2,), dtype=dtypes.float32)))
    array([1., 1.], dtype=float32)
    """

    name = "cuda"
    device_kinds = ("cuda",)

    def __init__(self, cp: Any, device: Device) -> None:  # Any: a module
        self._cp = cp
        self.device = device
        self.array_type = cp.ndarray
        self._gpu = cp.cuda.Device(int(device.index or 0))
        self._mirrors = Mirrors()
        for name, theirs in _BOUND.items():
            setattr(self, name, getattr(cp, theirs))
        for name, function in binary.exact(cp).items():
            setattr(self, name, function)
        for name in _WIDENED:
            setattr(self, name, self._in_float32(getattr(self, name)))
        self.kernels = KernelTable(kernels.table(cp, self._mirrors))
        self._functions = kernels.functions(cp)
        self._products = Products(cp)
        self._wrap(self._counted, _OF_THE_HOST)
        if cp.cuda.runtime.getDeviceCount() > 1:
            self._wrap(self._on_own_gpu)
        self._wrap(lambda function: translated(function, lambda error: explain(error, device, cp)))

    def _wrap(
        self,
        wrapped: Callable[[Callable[..., Any]], Callable[..., Any]],
        names: Collection[str] | None = None,
    ) -> None:
        """Put ``wrapped(function)`` in the place of functions and kernels: of all, or these."""
        for name, function in vars(ComputeBackend).items():
            if isfunction(function) and not name.startswith("_") and (not names or name in names):
                setattr(self, name, wrapped(getattr(self, name)))
        known = [self.kernels[name] for name in self.kernels]
        self.kernels = KernelTable(
            kernel
            if names and kernel.name not in names
            else replace(kernel, function=wrapped(kernel.function))
            for kernel in known
        )

    def _counted(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that is counted among `host_calls`."""

        @wraps(function, updated=())
        def call(*arguments: Any, **options: Any) -> Any:
            self._mirrors.calls.count += 1
            return function(*arguments, **options)

        return call

    def _on_own_gpu(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that runs with the backend's GPU as the current one."""

        @wraps(function, updated=())
        def call(*arguments: Any, **options: Any) -> Any:
            with self._gpu:
                return function(*arguments, **options)

        return call

    def _in_float32(self, function: Callable[..., Array]) -> Callable[..., Array]:
        """Return a function that takes bfloat16 for another that does not."""

        @wraps(function, updated=())
        def widened(*operands: Array) -> Array:
            return function(*(self._wide(x) for x in operands))

        return widened

    def _wide(self, x: Array) -> Array:
        return x.astype(np.float32) if x.dtype == dtypes.bfloat16 else x

    # Making and moving

    def _held(self, dtype: DType) -> DType:
        """Return ``dtype`` if CuPy's arrays can have it."""
        if dtype in _REFUSED:
            raise DTypeError(
                f"device {self.device.name!r}: has no {dtype}; it has "
                f"{', '.join(d.name for d in self.dtypes)}. Hint: cast with astype()."
            )
        return dtype

    def asarray(self, value: Any, /, *, dtype: DType | None = None) -> Array:
        """Return ``value`` on the device; the host remembers integers."""
        if isinstance(value, self._cp.ndarray):
            return value if dtype is None else value.astype(self._held(dtype), copy=False)
        host = np.asarray(value, dtype=dtype)
        made = self._sent(host)
        self._mirrors.remember(made, host)
        return made

    def _sent(self, host: np.ndarray[Any, Any]) -> Array:
        """Return a copy on the device; CuPy fills arrays without axes."""
        self._held(host.dtype)
        is_minus = host.ndim == 0 and _is_minus_zero(host)
        return self._minus_zeros((), host) if is_minus else self._cp.asarray(host)

    def _minus_zeros(self, shape: Shape, number: np.ndarray[Any, Any]) -> Array:
        """Return -0 everywhere, of complex numbers in either part: CuPy fills with 0 for -0."""
        zeros = self._cp.zeros((prod(shape),), number.dtype)
        if dtypes.kind(number.dtype) != "c":
            return self._cp.negative(zeros).reshape(shape)
        parts = zeros.view(dtypes.real_of(number.dtype)).reshape(zeros.size, 2)
        for k, part in enumerate((number.real, number.imag)):
            if np.signbit(part):
                parts[:, k] = self._cp.negative(parts[:, k])
        return zeros.reshape(shape)

    def to_numpy(self, x: Array, /) -> Any:
        """Return a copy in host memory, once it is computed; at once if the host knows it."""
        known = self._mirrors.of(x)
        return x.get() if known is None else known.copy()

    def ensure(self, value: Any, /) -> Array:
        """Return a scalar as a 0-d array."""
        return value if isinstance(value, self._cp.ndarray) else self._sent(np.asarray(value))

    def dtype_of(self, x: Array, /) -> DType:
        """Return the element type."""
        dtype: DType = x.dtype
        return dtype

    def copy(self, x: Array, /) -> Array:
        """Return a copy."""
        return self._mirrors.pass_on(x, x.copy(), np.copy)

    def writable(self, x: Array, /) -> Array:
        """Return ``x``; a copy if elements share memory, as those of broadcast views do."""
        shared = any(s == 0 and n > 1 for s, n in zip(x.strides, x.shape, strict=True))
        return x.copy() if shared else x

    def assign(self, target: Array, source: Array, /) -> Array:
        """Overwrite ``target``, from a copy where ``source`` shares its memory."""
        if self._cp.may_share_memory(target, source):
            source = source.copy()
        target[...] = source.astype(target.dtype, copy=False)
        self._mirrors.forget(target)
        return target

    def capabilities(self) -> dict[str, Any]:
        """Return what GPU this is, its size, and the versions of CUDA and CuPy.

        ``range_checks_that_waited`` counts the calls that had to wait for the device to see
        whether indices are in range.
        """
        cp, found = self._cp, self._gpu.attributes
        runtime = cp.cuda.runtime
        with self._gpu:
            name = runtime.getDeviceProperties(self._gpu.id)["name"]
        return {
            **super().capabilities(),
            "gpu": name.decode() if isinstance(name, bytes) else str(name),
            "compute_capability": str(self._gpu.compute_capability),
            "multiprocessors": int(found["MultiProcessorCount"]),
            "memory": int(self._gpu.mem_info[1]),
            "cupy": str(cp.__version__),
            "cuda_runtime": int(runtime.runtimeGetVersion()),
            "cuda_driver": int(runtime.driverGetVersion()),
            "range_checks_that_waited": self._mirrors.waited,
        }

    def memory(self) -> dict[str, int]:
        """Return bytes of living arrays, ``in_use``, and of the pools they lie in, ``held``."""
        with self._gpu:
            pool = self._cp.get_default_memory_pool()
            found = [(int(pool.used_bytes()), int(pool.total_bytes()))]
            found += [graph.memory() for graph in graphs if graph.gpu == self._gpu]
            in_use, held = map(sum, zip(*found, strict=True))
            return {"in_use": in_use, "held": held}

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""
        self._gpu.synchronize()

    # Graphs

    @property
    def host_calls(self) -> int:  # type: ignore[override]
        """How many calls of this thread needed the host, and so cannot be part of a graph."""
        return self._mirrors.calls.count

    def device_graph(
        self, run: Callable[..., tuple[Array, ...]], moving: Collection[int] = (), /
    ) -> DeviceGraph:
        """Return what does as ``run`` by one launch: see `graphs`."""
        return DeviceGraph(self._cp, run, self._gpu, moving)

    # Tier 0: creation

    def zeros(self, shape: Shape, /, *, dtype: DType) -> Array:
        """Return zeros."""
        return self._cp.zeros(shape, self._held(dtype))

    def ones(self, shape: Shape, /, *, dtype: DType) -> Array:
        """Return ones."""
        return self.full(shape, 1, dtype=dtype)

    def full(self, shape: Shape, value: Any, /, *, dtype: DType) -> Array:
        """Return ``value`` everywhere."""
        number = np.asarray(value).astype(self._held(dtype))
        if _is_minus_zero(number):
            return self._minus_zeros(shape, number)
        return self._cp.full(shape, number[()], dtype)

    def arange(self, start: Any, stop: Any, step: Any, /, *, dtype: DType) -> Array:
        """Return evenly spaced values, formed in 64 bits."""
        wide = np.result_type(*(np.asarray(v) for v in (start, stop, step)))
        return self._cp.arange(start, stop, step, dtype=wide).astype(self._held(dtype), copy=False)

    def eye(self, rows: int, columns: int, /, *, k: int = 0, dtype: DType) -> Array:
        """Return ones on diagonal ``k``."""
        return self._cp.eye(rows, columns, k, self._held(dtype))

    def astype(self, x: Array, dtype: DType, /) -> Array:
        """Return ``x`` in ``dtype``; itself if it has it."""
        if x.dtype == dtype:
            return x
        return self._mirrors.pass_on(
            x, x.astype(self._held(dtype)), lambda host: host.astype(dtype)
        )

    # Tier 0: elementwise

    def add(self, x: Array, y: Array, /) -> Array:
        """Return the sum."""
        return self._arithmetic("add", x, y)

    def subtract(self, x: Array, y: Array, /) -> Array:
        """Return the difference."""
        return self._arithmetic("subtract", x, y)

    def multiply(self, x: Array, y: Array, /) -> Array:
        """Return the product."""
        return self._arithmetic("multiply", x, y)

    def divide(self, x: Array, y: Array, /) -> Array:
        """Return the quotient."""
        return self._arithmetic("divide", x, y)

    def _arithmetic(self, name: str, x: Array, y: Array) -> Array:
        fast = self._function(name)
        z = None if fast is None else fast(x, y)
        return getattr(self._cp, name)(x, y) if z is None else z

    def pow(self, x: Array, y: Array, /) -> Array:
        """Return the power; of integers none is negative, or else CuPy gives 0."""
        if dtypes.kind(y.dtype) == "i" and dtypes.kind(x.dtype) in "biu":
            self._mirrors.check_powers(y)
        return self._cp.power(x, y)

    def expm1(self, x: Array, /) -> Array:
        """Return e^x - 1, in all digits near 0; CuPy's of complex numbers is exp(x) - 1.

        Of x = a + bi it is expm1(a) cos b - 2 sin(b / 2)^2 + i e^a sin b.
        """
        cp = self._cp
        if dtypes.kind(x.dtype) != "c":
            return cp.expm1(x)
        a, b = x.real, x.imag
        half = cp.sin(b / 2)
        parts = cp.empty((*x.shape, 2), a.dtype)
        parts[..., 0] = cp.expm1(a) * cp.cos(b) - 2 * half * half
        parts[..., 1] = cp.exp(a) * cp.sin(b)
        return parts.view(x.dtype).reshape(x.shape)

    def sign(self, x: Array, /) -> Array:
        """Return the sign of numbers."""
        if x.dtype == dtypes.bool_:
            raise DTypeError("sign: takes no booleans. Hint: cast with astype('int8').")
        return self._cp.sign(x)

    def where(self, condition: Array, x: Array, y: Array, /) -> Array:
        """Return entries of ``x`` where the condition holds, else of ``y``."""
        if x.dtype == y.dtype == dtypes.bfloat16:  # CuPy would make it float32
            words = self._cp.where(condition, x.view(np.uint16), y.view(np.uint16))
            return words.view(dtypes.bfloat16)
        return self._cp.where(condition, x, y)

    def tril(self, x: Array, /, *, k: int) -> Array:
        """Return ``x`` with zeros above diagonal ``k``."""
        return self._triangle("tril", x, k)

    def triu(self, x: Array, /, *, k: int) -> Array:
        """Return ``x`` with zeros below diagonal ``k``."""
        return self._triangle("triu", x, k)

    def _triangle(self, name: str, x: Array, k: int) -> Array:
        if x.dtype == dtypes.bfloat16:
            return getattr(self._cp, name)(x.view(np.uint16), k).view(x.dtype)
        return getattr(self._cp, name)(x, k)

    def round(self, x: Array, /) -> Array:
        """Return the nearest integers, ties to even; integers and booleans as they are."""
        return x.copy() if dtypes.kind(x.dtype) in "biu" else self._cp.rint(x)

    # Tier 0: reductions

    def sum(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the sum; 16-bit floats add up in float32, integers in 64 bits."""
        return self._accumulated("sum", x, axis, keepdims)

    def prod(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the product; accumulates as `sum` does."""
        return self._accumulated("prod", x, axis, keepdims)

    def _accumulated(self, name: str, x: Array, axis: tuple[int, ...], keepdims: bool) -> Array:
        result = dtypes.summed(x.dtype)
        wide = dtypes.accumulation(result)
        if not axis:
            return x.astype(result)
        fast = self._function(name)
        summed = None if fast is None else fast(x, axis=axis, keepdims=keepdims)
        if summed is not None:
            return summed
        total = getattr(self._cp, name)(x, axis=axis, dtype=wide, keepdims=keepdims)
        return total.astype(result, copy=False)

    def max(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the largest value."""
        if not axis:
            return self.copy(x)
        found = self._cp.max(x, axis=axis, keepdims=keepdims)
        return self._mirrors.pass_on(x, found, lambda host: host.max(axis, keepdims=keepdims))

    def min(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the smallest value."""
        if not axis:
            return self.copy(x)
        found = self._cp.min(x, axis=axis, keepdims=keepdims)
        return self._mirrors.pass_on(x, found, lambda host: host.min(axis, keepdims=keepdims))

    def any(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Say whether any value is true."""
        x = x.astype(np.bool_, copy=False)
        return self._cp.any(x, axis=axis, keepdims=keepdims) if axis else x

    def all(self, x: Array, /, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Say whether all values are true."""
        x = x.astype(np.bool_, copy=False)
        return self._cp.all(x, axis=axis, keepdims=keepdims) if axis else x

    def argmax(self, x: Array, /, *, axis: int | None, keepdims: bool) -> Array:
        """Return where the largest value is, the first of equals."""
        return self._cp.argmax(self._wide(x), axis=axis, keepdims=keepdims)

    def argmin(self, x: Array, /, *, axis: int | None, keepdims: bool) -> Array:
        """Return where the smallest value is, the first of equals."""
        return self._cp.argmin(self._wide(x), axis=axis, keepdims=keepdims)

    def argsort(self, x: Array, /, *, axis: int) -> Array:
        """Return the order that sorts ``x``; equal entries keep theirs."""
        return self._cp.argsort(self._wide(x), axis=axis, kind="stable")

    def cumulative_sum(self, x: Array, /, *, axis: int) -> Array:
        """Return running sums; accumulates as `sum` does."""
        result = dtypes.summed(x.dtype)
        total = self._cp.cumsum(x, axis=axis, dtype=dtypes.accumulation(result))
        return total.astype(result, copy=False)

    def searchsorted(self, x: Array, values: Array, /, *, side: str) -> Array:
        """Return where to insert ``values`` into the sorted ``x``."""
        return self._cp.searchsorted(self._wide(x), self._wide(values), side)

    # Tier 0: movement and indexing

    def reshape(self, x: Array, shape: Shape, /) -> Array:
        """Return ``x`` in another shape."""
        return self._mirrors.pass_on(x, x.reshape(shape), lambda host: host.reshape(shape))

    def permute_dims(self, x: Array, axes: tuple[int, ...], /) -> Array:
        """Return ``x`` with its axes in another order."""
        made = self._cp.transpose(x, axes)
        return self._mirrors.pass_on(x, made, lambda host: host.transpose(axes))

    def concat(self, arrays: list[Array], /, *, axis: int) -> Array:
        """Return the arrays behind each other along ``axis``."""
        fast = self._function("concat")
        joined = None if fast is None else fast(arrays, axis=axis)
        if joined is None:
            self._mirrors.calls.count += 1  # CuPy may send a list of addresses
            joined = self._cp.concatenate(arrays, axis=axis)
        return joined

    def getitem(self, x: Array, index: tuple[Any, ...], /) -> Array:
        """Return ``x[index]``."""
        return self._mirrors.pass_on(x, x[index], lambda host: host[index])

    def take(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return the entries of ``x`` along ``axis`` at ``indices``."""
        self._mirrors.check("take", indices, x.shape[axis])
        return self._taken(x, indices, axis)

    def _taken(self, x: Array, indices: Array, axis: int) -> Array:
        """Return entries at indices that are in range."""
        if not indices.size:
            return self._cp.empty((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]), x.dtype)
        fast = self._function("take")
        taken = None if fast is None else fast(x, indices, axis=axis)
        if taken is not None:
            return taken
        return self._cp.take(x, self._from_front(indices, x.shape[axis]), axis)

    def matmul(self, x: Array, y: Array, /) -> Array:
        """Return the matrix product; 16-bit floats are multiplied in float32."""
        return self._products.matmul(x, y)

    # Tier 1 that CuPy or a kernel does better than base

    def erf(self, x: Array, /) -> Array:
        """Return the error function."""
        fast = self._function("erf")
        return super().erf(x) if fast is None else fast(x)

    def sigmoid(self, x: Array, /) -> Array:
        """Return 1 / (1 + exp(-x))."""
        fast = self._function("sigmoid") if dtypes.kind(x.dtype) == "f" else None
        return super().sigmoid(x) if fast is None else fast(x)

    def fft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the transform to frequencies."""
        return self._transform("fft", x, n, axis, norm)

    def ifft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the transform back from frequencies."""
        return self._transform("ifft", x, n, axis, norm)

    def rfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the transform of real numbers."""
        return self._transform("rfft", x, n, axis, norm)

    def irfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the inverse of `rfft`."""
        return self._transform("irfft", x, n, axis, norm)

    def _transform(self, name: str, x: Array, n: int, axis: int, norm: str) -> Array:
        """Return what cuFFT computes; it takes no array without entries."""
        if x.size:
            return getattr(self._cp.fft, name)(x, n, axis, norm)
        entries = n // 2 + 1 if name == "rfft" else n
        shape = (*x.shape[:axis], entries, *x.shape[axis + 1 :])
        pair = dtypes.promote(x.dtype, dtypes.complex64)
        return self._cp.zeros(shape, dtypes.real_of(pair) if name == "irfft" else pair)

    def place(self, x: Array, shape: Shape, index: tuple[Any, ...], /) -> Array:
        """Return zeros of ``shape`` with ``x`` written at the basic ``index``."""
        result = self._cp.zeros(shape, x.dtype)
        result[index] = x
        return result

    def scatter_add(self, x: Array, indices: Array, /, *, axis: int, size: int) -> Array:
        """Return the adjoint of `take`: rows sorted by target, then added up in that order."""
        fast = self._function("scatter_add") if dtypes.kind(x.dtype) in "fc" else None
        if fast is None:
            return super().scatter_add(x, indices, axis=axis, size=size)
        rank = indices.ndim
        others = [a for a in range(x.ndim) if not axis <= a < axis + rank]
        x = self._cp.transpose(x, (*range(axis, axis + rank), *others))
        rest = x.shape[rank:]
        rows = self._cp.ascontiguousarray(x).reshape(indices.size, prod(rest))
        known = self._mirrors.of(indices)
        from_end = known is None or (known.size > 0 and int(known.min()) < 0)
        summed = fast(rows, indices.reshape(-1), size, from_end=from_end).reshape(size, *rest)
        return self._cp.transpose(summed, (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1)))

    def take_along_axis(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return entries along ``axis``, by their positions in the flat array."""
        self._mirrors.check("take_along_axis", indices, x.shape[axis])
        flat = self._positions(indices, axis, x.shape[axis])
        return self._taken(x.reshape(-1), flat.reshape(-1), 0).reshape(indices.shape)

    def unfold(self, x: Array, /, *, size: int, step: int, axis: int, dilation: int) -> Array:
        """Return windows along ``axis``: a copy, so that none is written with another."""
        n = (x.shape[axis] - dilation * (size - 1) - 1) // step + 1
        stride = x.strides[axis]
        shape = (*x.shape[:axis], n, *x.shape[axis + 1 :], size)
        strides = (*x.strides[:axis], stride * step, *x.strides[axis + 1 :], stride * dilation)
        return self._cp.lib.stride_tricks.as_strided(x, shape, strides).copy()

    def fold(self, x: Array, /, *, length: int, step: int, axis: int, dilation: int) -> Array:
        """Return windows added up: entry j of all of them at once, or window by window if fewer."""
        n, size = x.shape[axis], x.shape[-1]
        shape = (*x.shape[:axis], length, *x.shape[axis + 1 : -1])
        result = self._cp.zeros(shape, dtypes.accumulation(x.dtype))
        rows = self._cp.moveaxis(result, axis, -1)  # a view: what is added here is in the result
        windows = self._cp.moveaxis(x, axis, -2)
        if n < size:  # windows and their entries change places
            n, size, step, dilation = size, n, dilation, step
            windows = windows.swapaxes(-1, -2)
        for j in range(size):
            start = j * dilation
            part = rows[..., start : start + (n - 1) * step + 1 : step]
            part[...] = part + windows[..., j]
        return result.astype(x.dtype, copy=False)

    def linear_scan(self, a: Array, b: Array, initial: Array | None, /, *, reverse: bool) -> Array:
        """Return h_t = a_t h_(t-1) + b_t along the last axis."""
        fast = self._function("linear_scan")
        states = None if fast is None else fast(a, b, initial, reverse=reverse)
        return super().linear_scan(a, b, initial, reverse=reverse) if states is None else states

    def philox(self, key: tuple[int, int], counter: int, blocks: int, /) -> Array:
        """Return ``(blocks, 4)`` uint32 words of Philox4x32-10 from ``counter`` on."""
        fast = self._function("philox")
        return super().philox(key, counter, blocks) if fast is None else fast(key, counter, blocks)

    def drop(
        self, x: Array, key: tuple[int, int], counter: int, /, *, threshold: int, scale: float
    ) -> Array:
        """Return ``scale`` times ``x``; 0 where the word of a position is below ``threshold``."""
        fast = self._function("drop") if dtypes.kind(x.dtype) == "f" else None
        drop = super().drop if fast is None else fast
        return drop(x, key, counter, threshold=threshold, scale=scale)

    def _function(self, name: str) -> Callable[..., Any] | None:
        """Return the function of that name that `kernels` has, if it is wanted."""
        return self._functions.get(name) if config.get().kernels else None


def _is_minus_zero(number: np.ndarray[Any, Any]) -> bool:
    """Say whether an array without axes is 0, but not with all bits."""
    return bool(number == 0) and any(number.tobytes())
