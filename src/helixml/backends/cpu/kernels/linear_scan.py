"""The linear recurrence h_t = a_t h_(t-1) + b_t on raw arrays.

The kernels are linear_scan.c and, for complex numbers, complex_scan.c, which see each as two reals.
It is the backend's function of this name and belongs to no fused op. The result lies in memory as
b does: with channels contiguous, or with time.
"""

from __future__ import annotations

import math

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, rows, share

# A batch of few sequences is worked in parts of their channels: the fewer, the worse for memory.
FEW_SEQUENCES = 4
CHANNELS_IN_PART = 64
MOST_CHANNELS = 512


def linear_scan(a: Array, b: Array, initial: Array | None, *, reverse: bool) -> Array | None:
    """Return all states; None: the call is NumPy's, for dtypes differ or there is no time.

    Parameters
    ----------
    a, b : (..., l), of 32- or 64-bit floats, real or complex, any strides; their shapes broadcast.
    initial : (...,), or None: then the first state is b's.
    reverse : from the last step to the first.
    """
    shape = np.broadcast_shapes(a.shape, b.shape)
    if a.dtype != b.dtype or (initial is not None and initial.dtype != b.dtype):
        return None
    if math.prod(shape) == 0:
        return None
    a, b = np.broadcast_to(a, shape), np.broadcast_to(b, shape)
    axis = _channels(b)
    if axis is None:
        return _scan_lines(a, b, initial, reverse)
    order = (*(i for i in range(b.ndim - 1) if i != axis), b.ndim - 1, axis)
    a, b = a.transpose(order), b.transpose(order)
    if initial is not None:
        initial = np.moveaxis(initial, axis, -1)
    h = _scan_channels(a, b, initial, reverse)
    return h.transpose([order.index(i) for i in range(h.ndim)])


def _channels(x: Array) -> int | None:
    """Return the axis, other than the last, along which neighbours are neighbours in memory."""
    if x.strides[-1] != x.itemsize:
        for axis in range(x.ndim - 1):
            if x.strides[axis] == x.itemsize and x.shape[axis] > 1:
                return axis
    return None


def _scan_channels(a: Array, b: Array, initial: Array | None, reverse: bool) -> Array:
    """Scan (..., l, d) along l."""
    l, d = b.shape[-2:]
    h: Array = empty(b.shape, b.dtype)
    each = h.reshape(-1, l, d)
    channels_in_item = MOST_CHANNELS if len(each) >= FEW_SEQUENCES else CHANNELS_IN_PART
    scan = _call(rows(a.reshape(each.shape)), rows(b.reshape(each.shape)), each, initial, reverse)
    scan.set_channels(channels_in_item)
    width = d * (2 if h.dtype.kind == "c" else 1)
    share(scan.run, len(each) * -(-width // channels_in_item), h.size)
    return h


def _scan_lines(a: Array, b: Array, initial: Array | None, reverse: bool) -> Array:
    """Scan (..., l) along l."""
    l = b.shape[-1]
    h: Array = empty(b.shape, b.dtype)
    each = h.reshape(-1, l)
    a = a.reshape(each.shape)
    if a.strides[-1] == 0:
        a = a[:, :1]  # the same at all times
    scan = _call(rows(a), rows(b.reshape(each.shape)), each, initial, reverse)
    share(scan.run, -(-len(each) // _kernels.SCAN_LINES), h.size)
    return h


def _call(
    a: Array, b: Array, h: Array, initial: Array | None, reverse: bool
) -> _kernels.LinearScan:
    if initial is not None:
        initial = np.require(initial, requirements=["C", "A"])
    if h.dtype.kind != "c":
        return _kernels.LinearScan(False, a, b, h, initial, reverse)
    a, b, h = _reals(a), _reals(b), _reals(h)
    return _kernels.LinearScan(True, a, b, h, initial, reverse)


def _reals(x: Array) -> Array:
    """Return complex numbers, contiguous along the last axis, as pairs of reals along it."""
    return x.view(x.real.dtype)
