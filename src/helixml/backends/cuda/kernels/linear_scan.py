"""The linear recurrence h_t = a_t h_(t-1) + b_t on a GPU; the kernels are in linear_scan.cu.

It is the backend's function of this name and belongs to no fused op. The result lies in memory as
b does: with channels contiguous, or with time. With time, steps are joined in pairs, so that where
products of a overflow or vanish, results may differ from those of a loop.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.cuda.kernels.parts import Array
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import WARP, Program

__all__ = ["LinearScan", "functions"]

_THREADS = 128
_ITEMS = 4  # steps of a thread at a time
_THREADS_WANTED = 1 << 16  # segments are made where lines give fewer
_FEWEST_STEPS = {
    True: 4 * _THREADS * _ITEMS,
    False: 64,
}  # of a segment, with time contiguous or not


def functions(cp: Any) -> dict[str, Callable[..., Any]]:
    """Return functions of a backend by the protocol's names."""
    return {"linear_scan": LinearScan(cp)}


class LinearScan:
    """The recurrence.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "linear_scan.cu")

    def __call__(self, a: Array, b: Array, initial: Array | None, *, reverse: bool) -> Array | None:
        """Return all states; None: dtypes differ, are no floats, or there is no step.

        Parameters
        ----------
        a, b : (..., l), real or complex floats, any strides; their shapes broadcast.
        initial : (...,), or None: then the first state is b's.
        reverse : from the last step to the first.
        """
        cp = self._cp
        shape = np.broadcast_shapes(a.shape, b.shape)
        same = a.dtype == b.dtype and (initial is None or initial.dtype == b.dtype)
        if not same or a.dtype.kind in "biu" or prod(shape) == 0:
            return None
        fixed = a.shape[-1] == 1 or a.strides[-1] == 0
        a = cp.broadcast_to(a[..., :1] if fixed else a, (*shape[:-1], 1) if fixed else shape)
        b = cp.broadcast_to(b, shape)
        axis = _channels(b)
        order = list(range(len(shape)))
        if axis is not None:
            order = [*(i for i in order[:-1] if i != axis), order[-1], axis]
            a, b = a.transpose(order), b.transpose(order)
            if initial is not None:
                initial = cp.moveaxis(initial, axis, -1)
        h = self._scan(dense(cp, a), dense(cp, b), initial, fixed, axis is None, reverse)
        return h.transpose([order.index(i) for i in range(len(shape))])

    def _scan(
        self, a: Array, b: Array, initial: Array | None, fixed: bool, time: bool, reverse: bool
    ) -> Array:
        """Scan (..., l), or (..., l, d) along l."""
        cp = self._cp
        l, d = (b.shape[-1], 1) if time else b.shape[-2:]
        lines = b.size // l
        complex_ = b.dtype.kind == "c"
        dtype = dtypes.real_of(b.dtype)
        accum = dtypes.accumulation(dtype)
        threads = WARP if time and l <= WARP * _ITEMS else _THREADS
        constants = {
            "TIME": int(time),
            "REVERSE": int(reverse),
            "COMPLEX": int(complex_),
            "FIXED": int(fixed),
            "THREADS": threads,
            "ITEMS": _ITEMS,
        }
        count = -(-_THREADS_WANTED // (lines * (threads if time else 1)))
        count = max(1, min(count, l // _FEWEST_STEPS[time]))
        segment = -(-l // count)
        count = -(-l // segment)
        grid = (lines if time else -(-lines // threads), count)

        def launch(name: str, arguments: list[Any], **where: Any) -> None:
            self._program.launch(name, arguments, dtype=dtype, constants=constants, **where)

        h = cp.empty(b.shape, b.dtype)
        a, b, reals = (x.view(dtype) if complex_ else x for x in (a, b, h))
        entries = None
        if initial is not None:
            entries = dense(cp, initial).reshape(lines)
            entries = entries.view(dtype) if complex_ else entries.astype(accum, copy=False)
        sizes = [l, d, lines, segment, initial is not None]
        if count > 1:
            parts = 2 if complex_ else 1
            ends = cp.empty((count, lines, 2 * parts), accum)
            first, entries = entries, cp.empty((count, lines, parts), accum)
            launch("segment_ends", [a, b, ends, *sizes], grid=grid, block=threads)
            blocks = -(-lines // threads)
            launch("carry", [ends, first, entries, count, lines], grid=blocks, block=threads)
        launch("scan", [a, b, entries, reals, *sizes], grid=grid, block=threads)
        return h


def _channels(x: Array) -> int | None:
    """Return the axis, other than the last, along which neighbours are neighbours in memory."""
    if x.strides[-1] != x.itemsize:
        for axis in range(x.ndim - 1):
            if x.strides[axis] == x.itemsize and x.shape[axis] > 1:
                return axis
    return None
