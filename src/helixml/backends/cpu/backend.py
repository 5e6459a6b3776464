"""`CpuBackend`: NumPy's functions bound as they are, and kernels where they were compiled.

What NumPy does well stays NumPy's. 16-bit floats are summed and multiplied in float32, which NumPy
alone would not do; everything else that is not NumPy's own comes from `base` or from `kernels`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from helixml import config, dtypes
from helixml.backends import lapack
from helixml.backends.base import BackendBase
from helixml.backends.cpu.overflow import quiet
from helixml.backends.cpu.sums import FEW, add_up
from helixml.backends.dispatch import Kernel, KernelTable
from helixml.device import Device
from helixml.dtypes import DType
from helixml.errors import DeviceError
from helixml.shapes import Shape

__all__ = ["CpuBackend", "create"]

Array = np.ndarray[Any, Any]


def create(device: Device) -> CpuBackend:
    """Return the backend of ``device``, which must be plain ``"cpu"``."""
    if device.index:
        raise DeviceError(f"device {device.name!r}: there is one CPU. Hint: write 'cpu'.")
    return CpuBackend(device)


def _leave(*_: object) -> None:
    """Leave a call to NumPy."""


class CpuBackend(BackendBase):
    """NumPy arrays in, NumPy arrays out."""

    name = "cpu"
    device_kinds = ("cpu",)
    array_type = np.ndarray
    _functions: Mapping[str, Callable[..., Any]] = MappingProxyType({})  # the compiled ones
    # Those for small arrays; each returns None where it leaves a call to NumPy.
    _join: Callable[..., Any] = staticmethod(_leave)
    _total: Callable[..., Any] = staticmethod(_leave)

    def __init__(self, device: Device) -> None:
        self.device = device
        self.kernels = KernelTable(_compiled())
        self._functions = _compiled_functions()
        self._product = _compiled_product()
        self._take_compiled_functions()

    def _take_compiled_functions(self) -> None:
        """Put compiled functions of single elements in the place of NumPy's.

        Each leaves its calls to the former where kernels are not wanted.
        """
        if config.get().pure:
            return
        try:
            import helixml.backends.cpu.kernels._small as _small
            from helixml.backends.cpu.kernels import elementwise
        except ImportError:
            return
        vars(self).update(elementwise.functions())
        self.broadcast_to = _small.broadcast_to
        self._join, self._total = _small.join, _small.total
        self.sigmoid = elementwise.extended("sigmoid", super().sigmoid)  # type: ignore[method-assign]
        self.erf = elementwise.extended("erf", super().erf)  # type: ignore[method-assign]

    # Making and moving

    asarray = staticmethod(np.asarray)

    def to_numpy(self, x: Array) -> Array:
        """Return ``x`` itself."""
        return x

    def ensure(self, value: Any) -> Array:
        """Return a NumPy scalar as a 0-d array."""
        return np.asarray(value)

    def dtype_of(self, x: Array) -> DType:
        """Return the element type."""
        return x.dtype

    def copy(self, x: Array) -> Array:
        """Return a copy."""
        fast = self._function("copy", x.dtype)
        copy = None if fast is None else fast(x)
        return x.copy() if copy is None else copy

    def writable(self, x: Array) -> Array:
        """Return ``x``; a copy if it is read-only, as broadcast views are."""
        return x if x.flags.writeable else self.copy(x)

    def assign(self, target: Array, source: Array) -> Array:
        """Overwrite ``target``."""
        np.copyto(target, source, casting="unsafe")
        return target

    def capabilities(self) -> dict[str, Any]:
        """Return NumPy's version, the threads granted and the kernels' instruction set."""
        from helixml.backends.cpu import kernels, threads

        return {
            **super().capabilities(),
            "numpy": np.__version__,
            "threads": threads.get_num_threads(),
            "instruction_set": kernels.available() or "none: not compiled",
        }

    def memory(self) -> dict[str, int]:
        """Return what `helixml.cpu.memory_stats` does."""
        from helixml.backends.cpu.memory import memory_stats

        return memory_stats()

    # Tier 0: creation

    def zeros(self, shape: Shape, *, dtype: DType) -> Array:
        """Return zeros."""
        return np.zeros(shape, dtype)

    def ones(self, shape: Shape, *, dtype: DType) -> Array:
        """Return ones."""
        return np.ones(shape, dtype)

    def full(self, shape: Shape, value: Any, *, dtype: DType) -> Array:
        """Return ``value`` everywhere."""
        return np.full(shape, value, dtype)

    def arange(self, start: Any, stop: Any, step: Any, *, dtype: DType) -> Array:
        """Return evenly spaced values."""
        return np.arange(start, stop, step).astype(dtype, copy=False)

    def eye(self, rows: int, columns: int, *, k: int = 0, dtype: DType) -> Array:
        """Return ones on diagonal ``k``."""
        return np.eye(rows, columns, k, dtype)

    def astype(self, x: Array, dtype: DType) -> Array:
        """Return ``x`` in ``dtype``; itself if it has it."""
        if dtype.itemsize < x.dtype.itemsize and dtype.kind in "fcV":
            with np.errstate(over="ignore"):  # beyond the dtype it is inf, as loss scaling expects
                return x.astype(dtype, copy=False)
        return x.astype(dtype, copy=False)

    # Tier 0: NumPy's own

    abs = staticmethod(np.absolute)
    negative = staticmethod(np.negative)
    sign = staticmethod(np.sign)
    sqrt = staticmethod(quiet(np.sqrt))
    square = staticmethod(quiet(np.square))
    exp = staticmethod(quiet(np.exp))
    expm1 = staticmethod(quiet(np.expm1))
    log = staticmethod(quiet(np.log))
    log1p = staticmethod(quiet(np.log1p))
    log2 = staticmethod(quiet(np.log2))
    log10 = staticmethod(quiet(np.log10))
    sin = staticmethod(quiet(np.sin))
    cos = staticmethod(quiet(np.cos))
    tan = staticmethod(quiet(np.tan))
    asin = staticmethod(quiet(np.arcsin))
    acos = staticmethod(quiet(np.arccos))
    atan = staticmethod(np.arctan)
    sinh = staticmethod(quiet(np.sinh))
    cosh = staticmethod(quiet(np.cosh))
    tanh = staticmethod(np.tanh)
    asinh = staticmethod(quiet(np.arcsinh))
    acosh = staticmethod(quiet(np.arccosh))
    atanh = staticmethod(quiet(np.arctanh))
    floor = staticmethod(np.floor)
    ceil = staticmethod(np.ceil)
    trunc = staticmethod(np.trunc)
    signbit = staticmethod(np.signbit)
    isfinite = staticmethod(np.isfinite)
    isnan = staticmethod(np.isnan)
    isinf = staticmethod(np.isinf)
    logical_not = staticmethod(np.logical_not)
    bitwise_invert = staticmethod(np.invert)
    real = staticmethod(np.real)
    imag = staticmethod(np.imag)
    conj = staticmethod(np.conjugate)
    add = staticmethod(quiet(np.add))
    subtract = staticmethod(quiet(np.subtract))
    multiply = staticmethod(quiet(np.multiply))
    divide = staticmethod(quiet(np.true_divide))
    floor_divide = staticmethod(quiet(np.floor_divide))
    remainder = staticmethod(quiet(np.remainder))
    pow = staticmethod(quiet(np.power))
    atan2 = staticmethod(np.arctan2)
    hypot = staticmethod(quiet(np.hypot))
    logaddexp = staticmethod(quiet(np.logaddexp))
    copysign = staticmethod(np.copysign)
    nextafter = staticmethod(quiet(np.nextafter))
    maximum = staticmethod(np.maximum)
    minimum = staticmethod(np.minimum)
    equal = staticmethod(np.equal)
    not_equal = staticmethod(np.not_equal)
    less = staticmethod(np.less)
    less_equal = staticmethod(np.less_equal)
    greater = staticmethod(np.greater)
    greater_equal = staticmethod(np.greater_equal)
    logical_and = staticmethod(np.logical_and)
    logical_or = staticmethod(np.logical_or)
    logical_xor = staticmethod(np.logical_xor)
    bitwise_and = staticmethod(np.bitwise_and)
    bitwise_or = staticmethod(np.bitwise_or)
    bitwise_xor = staticmethod(np.bitwise_xor)
    bitwise_left_shift = staticmethod(np.left_shift)
    bitwise_right_shift = staticmethod(np.right_shift)
    where = staticmethod(np.where)
    any = staticmethod(np.any)
    all = staticmethod(np.all)
    argmax = staticmethod(np.argmax)
    argmin = staticmethod(np.argmin)
    max = staticmethod(np.max)
    min = staticmethod(np.min)
    reshape = staticmethod(np.ndarray.reshape)
    permute_dims = staticmethod(np.ndarray.transpose)
    broadcast_to = staticmethod(np.broadcast_to)
    getitem = staticmethod(operator.getitem)
    flip = staticmethod(np.flip)
    roll = staticmethod(np.roll)
    tril = staticmethod(np.tril)
    triu = staticmethod(np.triu)
    take_along_axis = staticmethod(np.take_along_axis)

    def concat(self, arrays: list[Array], *, axis: int) -> Array:
        """Return the arrays behind each other along ``axis``."""
        few: Array | None = self._join(arrays, axis, False)
        if few is not None:
            return few
        fast = self._function("concat", arrays[0].dtype)
        joined = None if fast is None else fast(arrays, axis=axis)
        return np.concatenate(arrays, axis=axis) if joined is None else joined

    def stack(self, arrays: list[Array], *, axis: int) -> Array:
        """Return arrays of one shape side by side along a new axis."""
        few: Array | None = self._join(arrays, axis, True)
        return super().stack(arrays, axis=axis) if few is None else few

    def take(self, x: Array, indices: Array, *, axis: int) -> Array:
        """Return the entries of ``x`` along ``axis`` at ``indices``."""
        if indices.size * x.size <= _SMALL_TAKE:
            return x.take(indices, axis)
        fast = self._function("take", x.dtype)
        taken = None if fast is None else fast(x, indices, axis=axis)
        return np.take(x, indices, axis=axis) if taken is None else taken

    def argsort(self, x: Array, *, axis: int) -> Array:
        """Return the order that sorts ``x``; equal entries keep theirs."""
        return np.argsort(_sortable(x), axis=axis, kind="stable")

    def searchsorted(self, x: Array, values: Array, /, *, side: Any) -> Array:
        """Return where to insert ``values`` into the sorted ``x``."""
        return np.searchsorted(_sortable(x), _sortable(values), side)

    def round(self, x: Array, /) -> Array:
        """Return the nearest integers, ties to even; integers and booleans as they are."""
        return x.copy() if x.dtype.kind in "biu" else np.rint(x)

    # Tier 0: accumulating

    def sum(self, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the sum; 16-bit floats add up in float32, integers in 64 bits."""
        few: Array | None = self._total(x, axis, keepdims)
        if few is not None:
            return few
        fast = self._function("sum", x.dtype)
        summed = None if fast is None else fast(x, axis=axis, keepdims=keepdims)
        if summed is not None:
            return summed
        wide = _accumulator(x.dtype)
        if x.dtype == wide and x.dtype.kind in "fc":
            return add_up(x, axis, keepdims=keepdims)
        total = np.sum(x, axis=axis, dtype=wide, keepdims=keepdims)
        return total if x.dtype not in dtypes.HALVES else total.astype(x.dtype)

    def prod(self, x: Array, *, axis: tuple[int, ...], keepdims: bool) -> Array:
        """Return the product; accumulates as `sum` does."""
        with np.errstate(all="ignore"):
            total = np.prod(x, axis=axis, dtype=_accumulator(x.dtype), keepdims=keepdims)
            return total if x.dtype not in dtypes.HALVES else total.astype(x.dtype)

    def cumulative_sum(self, x: Array, *, axis: int) -> Array:
        """Return running sums; accumulates as `sum` does, but 32-bit floats in twice as many.

        Terms are added one after the other, and 1000 of them would lose three digits.
        """
        wide = {dtypes.float32: dtypes.float64, dtypes.complex64: dtypes.complex128}
        with np.errstate(all="ignore"):
            total = np.cumsum(x, axis=axis, dtype=wide.get(x.dtype, _accumulator(x.dtype)))
            return total.astype(x.dtype) if x.dtype in (*wide, *dtypes.HALVES) else total

    def matmul(self, x: Array, y: Array) -> Array:
        """Return the matrix product; 16-bit floats are multiplied in float32."""
        if x.size <= FEW and y.size <= FEW and x.dtype in _COMPILED_DTYPES:
            return np.matmul(x, y)
        if x.ndim > 1 and y.ndim > 1 and x.shape[-1] == y.shape[-2] == 1:
            return np.multiply(x, y)  # columns times rows: nothing is added up
        product: Callable[..., Array] = self._product if config.get().kernels else np.matmul
        if x.dtype in dtypes.HALVES:
            wide_x, wide_y = x.astype(np.float32), y.astype(np.float32)
            if x.dtype == dtypes.bfloat16 and product is not np.matmul:
                return product(wide_x, wide_y, of_bfloat16=True).astype(x.dtype)
            return product(wide_x, wide_y).astype(x.dtype)
        return product(x, y)

    # Tier 1: linear algebra

    cholesky = staticmethod(lapack.cholesky)
    qr = staticmethod(lapack.qr)
    eigh = staticmethod(lapack.eigh)
    eigvalsh = staticmethod(lapack.eigvalsh)
    eig = staticmethod(lapack.eig)
    eigvals = staticmethod(lapack.eigvals)
    svd = staticmethod(lapack.svd)
    svdvals = staticmethod(lapack.svdvals)
    det = staticmethod(lapack.det)
    slogdet = staticmethod(lapack.slogdet)
    inv = staticmethod(lapack.inv)
    solve = staticmethod(lapack.solve)
    solve_triangular = staticmethod(lapack.solve_triangular)
    pinv = staticmethod(lapack.pinv)
    expm = staticmethod(lapack.expm)

    # Tier 1 that NumPy or a compiled function does better than base

    def fft(self, x: Array, /, *, n: int, axis: int, norm: Any) -> Array:
        """Return the transform to frequencies."""
        return np.fft.fft(x, n, axis, norm)

    def ifft(self, x: Array, /, *, n: int, axis: int, norm: Any) -> Array:
        """Return the transform back from frequencies."""
        return np.fft.ifft(x, n, axis, norm)

    def rfft(self, x: Array, /, *, n: int, axis: int, norm: Any) -> Array:
        """Return the transform of real numbers."""
        return np.fft.rfft(x, n, axis, norm)

    def irfft(self, x: Array, /, *, n: int, axis: int, norm: Any) -> Array:
        """Return the inverse of `rfft`."""
        return np.fft.irfft(x, n, axis, norm)

    def place(self, x: Array, shape: Shape, index: tuple[Any, ...]) -> Array:
        """Return zeros of ``shape`` with ``x`` written at the basic ``index``."""
        fast = self._function("place", x.dtype)
        result = None if fast is None else fast(x, shape, index)
        if result is None:
            result = np.zeros(shape, x.dtype)
            result[index] = x
        return result

    def scatter_add(self, x: Array, indices: Array, *, axis: int, size: int) -> Array:
        """Return the adjoint of `take`: rows sorted by target, then summed group by group."""
        fast = self._function("scatter_add", x.dtype)
        summed = None if fast is None else fast(x, indices, axis=axis, size=size)
        if summed is not None:
            return summed
        rank = indices.ndim
        order = (
            *range(axis, axis + rank),
            *(a for a in range(x.ndim) if not axis <= a < axis + rank),
        )
        flat = x.transpose(order)
        rest = flat.shape[rank:]
        rows = self._from_front(indices.reshape(-1), size)
        flat = flat.reshape(rows.size, -1) if rows.size else flat.reshape(0, int(np.prod(rest)))
        wide = dtypes.accumulation(x.dtype)
        summed = np.zeros((size, flat.shape[1]), wide)
        if rows.size:
            by_row = np.argsort(rows, kind="stable")
            targets = rows[by_row]
            starts = np.flatnonzero(np.r_[True, targets[1:] != targets[:-1]])
            summed[targets[starts]] = np.add.reduceat(flat[by_row], starts, axis=0, dtype=wide)
        summed = summed.astype(x.dtype, copy=False).reshape(size, *rest)
        return np.moveaxis(summed, 0, axis)

    def unfold(self, x: Array, *, size: int, step: int, axis: int, dilation: int) -> Array:
        """Return windows along ``axis``: a read-only view."""
        n = (x.shape[axis] - dilation * (size - 1) - 1) // step + 1
        stride = x.strides[axis]
        shape = (*x.shape[:axis], n, *x.shape[axis + 1 :], size)
        strides = (
            *x.strides[:axis],
            stride * step if n > 1 else 0,
            *x.strides[axis + 1 :],
            stride * dilation if size > 1 else 0,
        )
        return _strided(x, shape, strides)

    def fold(self, x: Array, *, length: int, step: int, axis: int, dilation: int) -> Array:
        """Return windows added up: entry j of all of them at once, or window by window if fewer.

        The result lies in memory as ``x`` does, so that both are walked along the same axis.
        """
        n, size = x.shape[axis], x.shape[-1]
        shape = (*x.shape[:axis], length, *x.shape[axis + 1 : -1])
        order = sorted(range(len(shape)), key=lambda a: -abs(x.strides[a]))
        result = np.zeros([shape[a] for a in order], dtypes.accumulation(x.dtype))
        result = result.transpose(np.argsort(order))
        rows = np.moveaxis(result, axis, -1)  # a view: what is added here is in the result
        windows = np.moveaxis(x, axis, -2)
        if n < size:  # windows and their entries change places
            n, size, step, dilation = size, n, dilation, step
            windows = windows.swapaxes(-1, -2)
        for j in range(size):
            start = j * dilation
            rows[..., start : start + (n - 1) * step + 1 : step] += windows[..., j]
        return result.astype(x.dtype, copy=False)

    def linear_scan(self, a: Array, b: Array, initial: Array | None, *, reverse: bool) -> Array:
        """Return h_t = a_t h_(t-1) + b_t along the last axis, time step by time step."""
        dtype = b.dtype
        wide = dtypes.accumulation(dtype)
        a, b = a.astype(wide, copy=False), b.astype(wide, copy=False)
        state = None if initial is None else initial.astype(wide, copy=False)
        fast = self._function("linear_scan", dtypes.real_of(wide))
        states = None if fast is None else fast(a, b, state, reverse=reverse)
        if states is not None:
            return self.astype(states, dtype)
        shape = np.broadcast_shapes(a.shape, b.shape)
        a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
        result = np.empty(shape, wide)
        with np.errstate(all="ignore"):
            for t in range(shape[-1] - 1, -1, -1) if reverse else range(shape[-1]):
                step = b[..., t] if state is None else a[..., t] * state + b[..., t]
                result[..., t] = state = step
            return result.astype(dtype, copy=False)

    def philox(self, key: tuple[int, int], counter: int, blocks: int, /) -> Array:
        """Return ``(blocks, 4)`` uint32 words of Philox4x32-10 from ``counter`` on."""
        fast = self._function("philox", dtypes.float32)
        words = None if fast is None else fast(key, counter, blocks)
        return super().philox(key, counter, blocks) if words is None else words

    def drop(
        self, x: Array, key: tuple[int, int], counter: int, /, *, threshold: int, scale: float
    ) -> Array:
        """Return ``scale`` times ``x``; 0 where the word of a position is below ``threshold``."""
        fast = self._function("drop", x.dtype)
        y = None if fast is None else fast(x, key, counter, threshold=threshold, scale=scale)
        if y is not None:
            return y
        return super().drop(x, key, counter, threshold=threshold, scale=scale)

    def _function(self, name: str, dtype: DType) -> Callable[..., Any] | None:
        """Return the compiled function of that name, if there is one for the dtype."""
        if dtype not in _COMPILED_DTYPES or not config.get().kernels:
            return None
        return self._functions.get(name)


_COMPILED_DTYPES = (dtypes.float32, dtypes.float64)
_SMALL_TAKE = 1 << 12  # what is taken times what there is, up to which NumPy is as fast


def _strided(x: Array, shape: Shape, strides: tuple[int, ...]) -> Array:
    """Return a read-only view of ``x``, whose `base` is an array where NumPy's tricks hide it."""
    owner = x
    while isinstance(owner.base, np.ndarray):
        owner = owner.base
    if x.dtype not in _COMPILED_DTYPES or not owner.flags.c_contiguous:
        return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)
    start = x.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    view: Array = np.ndarray(shape, x.dtype, owner, start, strides)
    view.flags.writeable = False
    return view


def _sortable(x: Array) -> Array:
    """Return ``x``, bfloat16 in float32: NumPy does not sort a nan of that dtype to the end."""
    return x.astype(np.float32) if x.dtype == dtypes.bfloat16 else x


def _accumulator(dtype: DType) -> DType:
    return dtypes.accumulation(dtypes.summed(dtype))


def _compiled() -> list[Kernel]:
    """Return the compiled kernels, if they were built and are wanted."""
    if config.get().pure:
        return []
    try:
        from helixml.backends.cpu.kernels import KERNELS
    except ImportError:
        return []
    return [Kernel(*kernel) for kernel in KERNELS]


def _compiled_functions() -> Mapping[str, Callable[..., Any]]:
    """Return the backend's functions that were compiled, if they were built and are wanted."""
    if config.get().pure:
        return {}
    try:
        from helixml.backends.cpu.kernels import FUNCTIONS
    except ImportError:
        return {}
    return FUNCTIONS


def _compiled_product() -> Callable[[Array, Array], Array]:
    """Return the compiled matrix product, or NumPy's where it was not built or is not wanted."""
    if config.get().pure:
        return np.matmul
    try:
        from helixml.backends.cpu.kernels.matmul import matmul
    except ImportError:
        return np.matmul
    return matmul
