"""`WgpuBackend`: array functions on a device of WebGPU, each a kernel of our own or a view.

WebGPU has no float64, and its other 64-bit types and complex numbers are pairs of words here; there
is no bfloat16, and no float16 yet. Transposed, sliced, broadcast arrays are views, which kernels of
single elements, sums and products read as they lie. Linear algebra beyond products is the host's
(`lapack`), and so are the special functions.

Work is recorded and sent in batches. Only `to_numpy`, `synchronize` and the range check of indices
that were computed on the device wait for it; of integers that came from the host, arrays remember
the values.

wgpu is handed in; nothing here imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.base import _SCALES, BackendBase, explicit
from helixml.backends.dispatch import KernelTable
from helixml.backends.wgpu import kernels
from helixml.backends.wgpu.arrays import DTYPES, Host, WgpuArray, contiguous_strides
from helixml.backends.wgpu.kernels import maps
from helixml.backends.wgpu.kernels.copies import copy_into, dense
from helixml.backends.wgpu.kernels.fft import transform
from helixml.backends.wgpu.kernels.fold import fold
from helixml.backends.wgpu.kernels.gather import scatter_add, take
from helixml.backends.wgpu.kernels.linear_scan import LinearScan
from helixml.backends.wgpu.kernels.matmul import matmul, part
from helixml.backends.wgpu.kernels.philox import drop, philox
from helixml.backends.wgpu.kernels.reduce import argreduce, reduce
from helixml.backends.wgpu.kernels.scan import cumulative_sum
from helixml.backends.wgpu.kernels.sort import argsort, searchsorted
from helixml.backends.wgpu.runtime import Runtime
from helixml.device import Device
from helixml.dtypes import DType
from helixml.errors import DTypeError
from helixml.shapes import Shape

__all__ = ["WgpuBackend"]

_MIRRORED = 1 << 22  # entries of integers that the host remembers


class WgpuBackend(BackendBase):
    """Arrays of one adapter in, arrays of it out.

    Parameters
    ----------
    runtime : the open device.
    device : its name, ``"wgpu"`` for the first.
    """

    name = "wgpu"
    device_kinds = ("wgpu",)
    array_type = WgpuArray
    dtypes = tuple(DTYPES)

    def __init__(self, runtime: Runtime, device: Device) -> None:
        self._runtime = runtime
        self.device = device
        self._scalars: dict[tuple[DType, bytes], WgpuArray] = {}
        for name in maps.UNARY:
            if name not in _OWN:
                setattr(self, name, partial(maps.unary, runtime, name))
        for name in maps.BINARY:
            setattr(self, name, partial(maps.binary, runtime, name))
        self._linear_scan = LinearScan(runtime)
        self.kernels = KernelTable(kernels.table(runtime))

    # Making and moving

    def asarray(self, value: Any, /, *, dtype: DType | None = None) -> WgpuArray:
        """Return ``value`` on the device; the host remembers integers, the device numbers."""
        if isinstance(value, WgpuArray):
            return value if dtype is None else self.astype(value, dtype)
        host = np.asarray(value, dtype=dtype)
        return self._scalar(host) if host.shape == () else self._sent(host)

    def _scalar(self, host: Host) -> WgpuArray:
        """Return a number as a 0-d array that is kept for the next time."""
        key = (host.dtype, host.tobytes())
        found = self._scalars.get(key)
        if found is None:
            found = self._sent(host)
            found.is_kept = True
            if len(self._scalars) >= _SCALARS:
                self._scalars.clear()
            self._scalars[key] = found
        return found

    def _sent(self, host: Host) -> WgpuArray:
        """Return an array of the device with the values of one that nobody else writes."""
        self._check(host.dtype)
        made = self._runtime.from_numpy(host)
        if host.dtype.kind in "iu" and host.size <= _MIRRORED:
            made.remember(host.copy())
        return made

    def _check(self, dtype: DType) -> None:
        if dtype not in DTYPES:
            raise DTypeError(
                f"device {self.device.name!r}: has no {dtype}; it has "
                f"{', '.join(d.name for d in DTYPES)}. Hint: cast with astype()."
            )

    def to_numpy(self, x: WgpuArray, /) -> Host:
        """Return a copy in host memory, once it is computed; at once if the host knows it."""
        if x.mirror is not None:
            return x.mirror.copy()
        return self._runtime.to_numpy(x if x.is_contiguous else dense(self._runtime, x))

    def ensure(self, value: Any, /) -> WgpuArray:
        """Return a scalar as a 0-d array."""
        return value if isinstance(value, WgpuArray) else self.asarray(value)

    def dtype_of(self, x: WgpuArray, /) -> DType:
        """Return the element type."""
        return x.dtype

    def copy(self, x: WgpuArray, /) -> WgpuArray:
        """Return a copy."""
        made = self._runtime.empty(x.shape, x.dtype)
        copy_into(self._runtime, made, x)
        if x.mirror is not None:
            made.remember(x.mirror)
        return made

    def writable(self, x: WgpuArray, /) -> WgpuArray:
        """Return ``x``; a copy if elements share memory, or the backend keeps it for later."""
        shared = any(s == 0 and n > 1 for s, n in zip(x.strides, x.shape, strict=True))
        return self.copy(x) if shared or x.is_kept else x

    def assign(self, target: WgpuArray, source: WgpuArray, /) -> WgpuArray:
        """Overwrite ``target``, from a copy where ``source`` shares its memory."""
        if target.is_kept:
            target = self.copy(target)
        if source.storage is target.storage:
            source = self.copy(source)
        if source.dtype == target.dtype:
            copy_into(self._runtime, target, source)
        else:
            cast = maps.conversion(source.dtype, target.dtype)
            maps.map_views(self._runtime, cast, [source], target.shape, target.dtype, out=target)
        return target

    def capabilities(self) -> dict[str, Any]:
        """Return what adapter this is, its driver, and how much was launched."""
        info = self._runtime.adapter.info
        return {
            **super().capabilities(),
            "adapter": str(info["device"]),
            "kind": str(info["adapter_type"]),
            "api": str(info["backend_type"]),
            "driver": str(info["description"]),
            "largest_array": self._runtime.pool.largest,
            "dispatches": self._runtime.dispatches,
            "submissions": self._runtime.submissions,
            "reads": self._runtime.reads,
        }

    def memory(self) -> dict[str, int]:
        """Return bytes of living arrays, ``in_use``, their peak, and of all buffers, ``held``."""
        return self._runtime.pool.told()

    def synchronize(self) -> None:
        """Wait until the device has done all that was asked of it."""
        self._runtime.synchronize()

    # Tier 0: creation

    def zeros(self, shape: Shape, /, *, dtype: DType) -> WgpuArray:
        """Return zeros."""
        return self.full(shape, 0, dtype=dtype)

    def ones(self, shape: Shape, /, *, dtype: DType) -> WgpuArray:
        """Return ones."""
        return self.full(shape, 1, dtype=dtype)

    def full(self, shape: Shape, value: Any, /, *, dtype: DType) -> WgpuArray:
        """Return ``value`` everywhere: one element, seen again and again."""
        found = self._scalar(np.asarray(value).astype(dtype))
        return found if shape == () else self.broadcast_to(found, tuple(shape))

    def arange(self, start: Any, stop: Any, step: Any, /, *, dtype: DType) -> WgpuArray:
        """Return evenly spaced values, formed by the host in 64 bits."""
        wide = np.result_type(*(np.asarray(v) for v in (start, stop, step)))
        return self._sent(np.arange(start, stop, step, dtype=wide).astype(dtype))

    def eye(self, rows: int, columns: int, /, *, k: int = 0, dtype: DType) -> WgpuArray:
        """Return ones on diagonal ``k``."""
        return self._sent(np.eye(rows, columns, k, dtype))

    def astype(self, x: WgpuArray, dtype: DType, /) -> WgpuArray:
        """Return ``x`` in ``dtype``; itself if it has it."""
        if x.dtype == dtype:
            return x
        self._check(dtype)
        made = maps.cast(self._runtime, x, dtype)
        return self._passed(x, made, lambda host: host.astype(dtype))

    def _passed(self, x: WgpuArray, made: WgpuArray, function: Callable[[Host], Any]) -> WgpuArray:
        """Return ``made``; it holds what ``function`` gives of ``x``, if the host knows that."""
        known = x.mirror
        if known is not None and made.dtype.kind in "iu":
            made.remember(np.asarray(function(known)))
        return made

    # Tier 0: elementwise, where it is a view or a choice

    def real(self, x: WgpuArray, /) -> WgpuArray:
        """Return the real parts."""
        return part(x, 0) if x.dtype == dtypes.complex64 else x

    def imag(self, x: WgpuArray, /) -> WgpuArray:
        """Return the imaginary parts."""
        if x.dtype == dtypes.complex64:
            return part(x, 1)
        return self.zeros(x.shape, dtype=x.dtype)

    def conj(self, x: WgpuArray, /) -> WgpuArray:
        """Return the conjugates."""
        return maps.unary(self._runtime, "conj", x) if x.dtype == dtypes.complex64 else x

    def where(self, condition: WgpuArray, x: WgpuArray, y: WgpuArray, /) -> WgpuArray:
        """Return entries of ``x`` where the condition holds, else of ``y``."""
        shape = maps.broadcast("where", condition.shape, x.shape, y.shape)
        if condition.dtype != dtypes.bool_:
            condition = self.astype(condition, dtypes.bool_)
        chosen = "select(y, x, z != 0u)"
        return maps.map_views(self._runtime, chosen, [x, y, condition], shape, x.dtype)

    # Tier 0: reductions

    def sum(self, x: WgpuArray, /, *, axis: tuple[int, ...], keepdims: bool) -> WgpuArray:
        """Return the sum; integers add up in 64 bits."""
        return self._reduced("sum", x, axis, keepdims, dtypes.summed(x.dtype))

    def prod(self, x: WgpuArray, /, *, axis: tuple[int, ...], keepdims: bool) -> WgpuArray:
        """Return the product; accumulates as `sum` does."""
        return self._reduced("prod", x, axis, keepdims, dtypes.summed(x.dtype))

    def max(self, x: WgpuArray, /, *, axis: tuple[int, ...], keepdims: bool) -> WgpuArray:
        """Return the largest value."""
        found = self._reduced("max", x, axis, keepdims, x.dtype)
        return self._passed(x, found, lambda host: host.max(axis, keepdims=keepdims))

    def min(self, x: WgpuArray, /, *, axis: tuple[int, ...], keepdims: bool) -> WgpuArray:
        """Return the smallest value."""
        found = self._reduced("min", x, axis, keepdims, x.dtype)
        return self._passed(x, found, lambda host: host.min(axis, keepdims=keepdims))

    def any(self, x: WgpuArray, /, *, axis: tuple[int, ...], keepdims: bool) -> WgpuArray:
        """Say whether any value is true."""
        return self._reduced("any", x, axis, keepdims, dtypes.bool_)

    def all(self, x: WgpuArray, /, *, axis: tuple[int, ...], keepdims: bool) -> WgpuArray:
        """Say whether all values are true."""
        return self._reduced("all", x, axis, keepdims, dtypes.bool_)

    def _reduced(
        self, name: str, x: WgpuArray, axis: tuple[int, ...], keepdims: bool, dtype: DType
    ) -> WgpuArray:
        if not axis:
            return self.astype(x, dtype)
        return reduce(self._runtime, name, x, axis, keepdims, dtype)

    def argmax(self, x: WgpuArray, /, *, axis: int | None, keepdims: bool) -> WgpuArray:
        """Return where the first largest value stands."""
        return self._argreduced("argmax", x, axis, keepdims)

    def argmin(self, x: WgpuArray, /, *, axis: int | None, keepdims: bool) -> WgpuArray:
        """Return where the first smallest value stands."""
        return self._argreduced("argmin", x, axis, keepdims)

    def _argreduced(self, name: str, x: WgpuArray, axis: int | None, keepdims: bool) -> WgpuArray:
        if axis is not None:
            return argreduce(self._runtime, name, x, axis, keepdims)
        found = argreduce(self._runtime, name, self.reshape(x, (x.size,)), 0, False)
        return self.reshape(found, (1,) * len(x.shape)) if keepdims else found

    def argsort(self, x: WgpuArray, /, *, axis: int) -> WgpuArray:
        """Return the order that sorts ``x``; equal entries keep theirs."""
        return argsort(self._runtime, x, axis)

    def cumulative_sum(self, x: WgpuArray, /, *, axis: int) -> WgpuArray:
        """Return running sums; accumulates as `sum` does."""
        return cumulative_sum(self._runtime, x, axis)

    def searchsorted(self, x: WgpuArray, values: WgpuArray, /, *, side: str) -> WgpuArray:
        """Return where ``values`` belong in the sorted ``x``."""
        return searchsorted(self._runtime, x, values, side)

    # Tier 0: movement

    def reshape(self, x: WgpuArray, shape: Shape, /) -> WgpuArray:
        """Return ``x`` in another shape: a view if it has no gaps."""
        if -1 in shape:
            rest = prod(n for n in shape if n != -1)
            shape = tuple(x.size // rest if n == -1 else n for n in shape)
        if shape == x.shape:
            return x
        lying = x if x.is_contiguous else dense(self._runtime, x)
        made = lying.view(shape, contiguous_strides(shape))
        return self._passed(x, made, lambda host: host.reshape(shape))

    def permute_dims(self, x: WgpuArray, axes: tuple[int, ...], /) -> WgpuArray:
        """Return ``x`` with its axes in another order."""
        made = x.view([x.shape[a] for a in axes], [x.strides[a] for a in axes])
        return self._passed(x, made, lambda host: host.transpose(axes))

    def broadcast_to(self, x: WgpuArray, shape: Shape, /) -> WgpuArray:
        """Return ``x`` seen again and again."""
        if shape == x.shape:
            return x
        if maps.broadcast("broadcast_to", x.shape, shape) != tuple(shape):
            raise ValueError(f"broadcast_to: {x.shape} does not broadcast to {shape}")
        made = x.view(shape, maps.stretched(x, tuple(shape)))
        if x.mirror is not None and made.size <= _MIRRORED:
            made.remember(np.broadcast_to(x.mirror, shape))
        return made

    def concat(self, arrays: list[WgpuArray], /, *, axis: int) -> WgpuArray:
        """Return the arrays behind each other along ``axis``."""
        first = arrays[0]
        counts = [x.shape[axis] for x in arrays]
        shape = (*first.shape[:axis], sum(counts), *first.shape[axis + 1 :])
        made = self._runtime.empty(shape, first.dtype)
        start = 0
        for x, count in zip(arrays, counts, strict=True):
            offset = start * made.strides[axis]
            copy_into(self._runtime, made.view(x.shape, made.strides, offset), x)
            start += count
        return made

    def flip(self, x: WgpuArray, /, *, axis: tuple[int, ...]) -> WgpuArray:
        """Return ``x`` backwards along axes."""
        index = tuple(
            slice(None, None, -1) if a in axis else slice(None) for a in range(len(x.shape))
        )
        return self.getitem(x, index)

    def roll(self, x: WgpuArray, shift: tuple[int, ...], /, *, axis: tuple[int, ...]) -> WgpuArray:
        """Return ``x`` moved along axes, what leaves at one end coming in at the other."""
        for by, along in zip(shift, axis, strict=True):
            n = x.shape[along]
            if not n or not by % n:
                continue
            before = (slice(None),) * along
            tail = self.getitem(x, (*before, slice(n - by % n, None)))
            x = self.concat([tail, self.getitem(x, (*before, slice(0, n - by % n)))], axis=along)
        return x

    def tril(self, x: WgpuArray, /, *, k: int) -> WgpuArray:
        """Return ``x`` with zeros above diagonal ``k``."""
        return self._triangle(x, k, "z <= y")

    def triu(self, x: WgpuArray, /, *, k: int) -> WgpuArray:
        """Return ``x`` with zeros below diagonal ``k``."""
        return self._triangle(x, k, "z >= y")

    def _triangle(self, x: WgpuArray, k: int, kept: str) -> WgpuArray:
        """Return ``x`` where that holds of the column z and the row y moved by k, else zero."""
        rows, columns = x.shape[-2:]
        row = self.arange(k, k + rows, 1, dtype=dtypes.int32).view((rows, 1), (1, 0))
        column = self.arange(0, columns, 1, dtype=dtypes.int32)
        chosen = f"select(X(), x, {kept})"
        return maps.map_views(self._runtime, chosen, [x, row, column], x.shape, x.dtype)

    def getitem(self, x: WgpuArray, index: tuple[Any, ...], /) -> WgpuArray:
        """Return ``x[index]``, a view."""
        shape: list[int] = []
        strides: list[int] = []
        offset, axis = x.offset, 0
        for entry in explicit(index, x.shape):
            if entry is None:
                shape.append(1)
                strides.append(0)
                continue
            stride = x.strides[axis]
            axis += 1
            if isinstance(entry, int):
                offset += entry * stride
            else:
                start, step, count = entry
                offset += start * stride if count else 0
                shape.append(count)
                strides.append(step * stride)
        return self._passed(x, x.view(shape, strides, offset), lambda host: host[index])

    def take(self, x: WgpuArray, indices: WgpuArray, /, *, axis: int) -> WgpuArray:
        """Return the entries of ``x`` along ``axis`` at ``indices``."""
        self._check_range("take", indices, x.shape[axis])
        return take(self._runtime, x, indices, axis)

    def _check_range(self, name: str, indices: WgpuArray, size: int) -> None:
        """Raise an IndexError if an index is not in [-size, size)."""
        host = indices.mirror
        if host is None:
            host = self.to_numpy(indices)
            indices.remember(host)
        if host.size and (int(host.min()) < -size or int(host.max()) >= size):
            raise IndexError(f"{name}: an index is not in [{-size}, {size}).")

    def matmul(self, x: WgpuArray, y: WgpuArray, /) -> WgpuArray:
        """Return the matrix product."""
        return matmul(self._runtime, x, y)

    # Tier 1

    def fft(self, x: WgpuArray, /, *, n: int, axis: int, norm: str) -> WgpuArray:
        """Return the transform to frequencies."""
        return self._transformed(x, n, axis, 1, _SCALES[norm](n))

    def ifft(self, x: WgpuArray, /, *, n: int, axis: int, norm: str) -> WgpuArray:
        """Return the transform back from frequencies."""
        return self._transformed(x, n, axis, -1, 1 / n / _SCALES[norm](n))

    def _transformed(self, x: WgpuArray, n: int, axis: int, sign: int, scale: float) -> WgpuArray:
        x = self._resized(self._as_complex(x), axis, n)
        rank = len(x.shape)
        last = (*(a for a in range(rank) if a != axis), axis)
        lines = dense(self._runtime, self.permute_dims(x, last))
        y = transform(self._runtime, lines, sign, scale)
        return self.permute_dims(y, tuple(last.index(a) for a in range(rank)))

    def place(self, x: WgpuArray, shape: Shape, index: tuple[Any, ...], /) -> WgpuArray:
        """Return zeros of ``shape`` with ``x`` written at the basic ``index``."""
        made = self.copy(self.zeros(shape, dtype=x.dtype))
        copy_into(self._runtime, self.getitem(made, index), x)
        return made

    def scatter_add(
        self, x: WgpuArray, indices: WgpuArray, /, *, axis: int, size: int
    ) -> WgpuArray:
        """Return the adjoint of `take`: rows sorted by target, then added up in that order."""
        rank = len(indices.shape)
        others = [a for a in range(len(x.shape)) if not axis <= a < axis + rank]
        x = self.permute_dims(x, (*range(axis, axis + rank), *others))
        rest = x.shape[rank:]
        rows = self.reshape(x, (indices.size, prod(rest)))
        summed = scatter_add(self._runtime, rows, self.reshape(indices, (indices.size,)), size)
        summed = self.reshape(summed, (size, *rest))
        back = (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1))
        return self.permute_dims(summed, back)

    def unfold(
        self, x: WgpuArray, /, *, size: int, step: int, axis: int, dilation: int
    ) -> WgpuArray:
        """Return windows along ``axis``: a copy, so that none is written with another."""
        n = (x.shape[axis] - dilation * (size - 1) - 1) // step + 1
        stride = x.strides[axis]
        shape = (*x.shape[:axis], n, *x.shape[axis + 1 :], size)
        strides = (*x.strides[:axis], stride * step, *x.strides[axis + 1 :], stride * dilation)
        return self.copy(x.view(shape, strides))

    def fold(
        self, x: WgpuArray, /, *, length: int, step: int, axis: int, dilation: int
    ) -> WgpuArray:
        """Return windows added up where they came from."""
        return fold(self._runtime, x, length, step, axis, dilation)

    def linear_scan(
        self, a: WgpuArray, b: WgpuArray, initial: WgpuArray | None, /, *, reverse: bool
    ) -> WgpuArray:
        """Return h_t = a_t h_(t-1) + b_t along the last axis."""
        states = self._linear_scan(a, b, initial, reverse=reverse)
        return super().linear_scan(a, b, initial, reverse=reverse) if states is None else states

    def philox(self, key: tuple[int, int], counter: int, blocks: int, /) -> WgpuArray:
        """Return ``(blocks, 4)`` uint32 words of Philox4x32-10 from ``counter`` on."""
        return philox(self._runtime, key, counter, blocks)

    def drop(
        self,
        x: WgpuArray,
        key: tuple[int, int],
        counter: int,
        /,
        *,
        threshold: int,
        scale: float,
    ) -> WgpuArray:
        """Return ``scale`` times ``x``; 0 where the word of a position is below ``threshold``."""
        if x.dtype != dtypes.float32:
            made: WgpuArray = super().drop(x, key, counter, threshold=threshold, scale=scale)
            return made
        return drop(self._runtime, x, key, counter, threshold, scale)


_OWN = ("conj",)  # functions of single elements that are a view, or nothing, where they can be
_SCALARS = 1024  # numbers that are kept on the device
