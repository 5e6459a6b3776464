"""The linear recurrence h_t = a_t h_(t-1) + b_t on the device; see linear_scan.wgsl.

It is the backend's function of this name and belongs to no fused op. Steps of a chunk are joined,
so that where products of a overflow or vanish, results may differ from those of a loop.
"""

from __future__ import annotations

from math import prod

import numpy as np

from helixml import dtypes
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.rows import THREADS, Family
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["LinearScan"]

_MOST = 4096  # steps of a chunk, chunks of a line
_LEAST = 64  # steps of a chunk
_INVOCATIONS = 1 << 15  # that a device is to have; lines are cut where they give fewer

_REAL = """alias NUMBER = f32;
fn times(x: f32, y: f32) -> f32 { return x * y; }
fn is_zero(x: f32) -> bool { return x == 0.0; }"""
_COMPLEX = """alias NUMBER = vec2<f32>;
fn times(x: vec2<f32>, y: vec2<f32>) -> vec2<f32> {
  return vec2(x.x * y.x - x.y * y.y, x.x * y.y + x.y * y.x);
}
fn is_zero(x: vec2<f32>) -> bool { return all(x == vec2(0.0)); }"""
_HEADS = {dtypes.float32: _REAL, dtypes.complex64: _COMPLEX}


class LinearScan(Family):
    """The recurrence.

    Parameters
    ----------
    runtime : the device.
    threads : of a workgroup.
    chunk : steps that an invocation takes, if not chosen by the sizes.
    """

    file = "linear_scan.wgsl"

    def __init__(self, runtime: Runtime, threads: int = THREADS, chunk: int | None = None) -> None:
        super().__init__(runtime, threads)
        self._chunk = chunk

    def __call__(
        self, a: WgpuArray, b: WgpuArray, initial: WgpuArray | None, *, reverse: bool
    ) -> WgpuArray | None:
        """Return all states; None: dtypes differ, are not served, or there is no step.

        Parameters
        ----------
        a, b : (..., l), float32 or complex64, any strides; their shapes broadcast.
        initial : (...,), or None: then the first state is b's.
        reverse : from the last step to the first.
        """
        shape = np.broadcast_shapes(a.shape, b.shape)
        same = a.dtype == b.dtype and (initial is None or initial.dtype == b.dtype)
        if not same or b.dtype not in _HEADS or prod(shape) == 0 or shape[-1] > _MOST**2:
            return None
        fixed = a.shape[-1] == 1 or a.strides[-1] == 0
        a = _broadcast(a, (*shape[:-1], 1) if fixed else shape)
        b = _broadcast(b, shape)
        axis = _channels(b)
        if axis is None:
            return self._scan(a, b, initial, shape[-1], 1, fixed, reverse)
        order = [*(i for i in range(b.ndim - 1) if i != axis), b.ndim - 1, axis]
        if initial is not None:
            initial = _permuted(initial, [*order[:-2], axis])
        a, b = (_permuted(x, order) for x in (a, b))
        l, inner = b.shape[-2:]
        h = self._scan(a, b, initial, l, inner, fixed, reverse)
        return _permuted(h, [order.index(i) for i in range(h.ndim)])

    def _scan(
        self,
        a: WgpuArray,
        b: WgpuArray,
        initial: WgpuArray | None,
        l: int,
        inner: int,
        fixed: bool,
        reverse: bool,
    ) -> WgpuArray:
        """Scan arrays (..., l, inner), dense or not."""
        a, b, initial = (self.dense(x) for x in (a, b, initial))
        lines = b.size // l
        chunk = self._chunk or max(_LEAST, -(-l * lines // _INVOCATIONS), -(-l // _MOST))
        chunk = min(chunk, l, _MOST)
        chunks = -(-l // chunk)
        sizes = {"lines": lines, "l": l, "inner": inner, "chunk": chunk, "chunks": chunks}
        h = self.empty_like(b)
        enters = chunks > 1 or initial is not None
        own = {"REVERSE": reverse, "FIXED": fixed, "STARTS": initial is not None, "ENTERS": enters}

        def launch(entry: str, arrays: list[WgpuArray], count: int, trips: int) -> None:
            self.each(entry, arrays, sizes, count, trips=trips, constants=own, head=_HEADS[b.dtype])

        entries = initial or h  # bound, and not looked at without a state
        if chunks > 1:
            room = [self.runtime.empty((chunks, lines), b.dtype) for _ in range(3)]
            entries, products, ends = room
            launch("chunk_ends", [a, b, products, ends], lines * chunks, chunk)
            launch("carry", [initial or a, *room], lines, chunks)
        launch("scan", [a, b, entries, h], lines * chunks, chunk)
        return h


def _broadcast(x: WgpuArray, shape: tuple[int, ...]) -> WgpuArray:
    """Return a view of a shape, with a step of 0 where an entry is repeated."""
    own = (1,) * (len(shape) - x.ndim) + x.shape
    strides = (0,) * (len(shape) - x.ndim) + x.strides
    steps = [0 if n == 1 else step for n, step in zip(own, strides, strict=True)]
    return x.view(shape, steps)


def _permuted(x: WgpuArray, order: list[int]) -> WgpuArray:
    return x.view([x.shape[i] for i in order], [x.strides[i] for i in order])


def _channels(x: WgpuArray) -> int | None:
    """Return the axis, other than the last, along which neighbours are neighbours in memory."""
    if x.strides[-1] != 1:
        for axis in range(x.ndim - 1):
            if x.strides[axis] == 1 and x.shape[axis] > 1:
                return axis
    return None
