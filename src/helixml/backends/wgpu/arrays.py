"""`WgpuArray`: a buffer of the device and how an array lies in it.

Shape, strides and offset count elements; views share the buffer. Every element is one 32-bit word
or two: floats and 32-bit integers are themselves, smaller integers and booleans fill a word, 64-bit
integers are their low and high word, complex numbers their real and imaginary part. `packed` and
`unpacked` translate between that and NumPy.

Knows nothing of kernels. `contiguous_strides` and `collapsed` are where to start.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np

from helixml import dtypes
from helixml.backends.wgpu.pool import Storage
from helixml.dtypes import DType
from helixml.shapes import Shape

__all__ = ["DTYPES", "WORDS", "WgpuArray", "collapsed", "contiguous_strides", "packed", "unpacked"]

Host: TypeAlias = np.ndarray[Any, Any]

# What words of the device an element has, as NumPy names them, and the type in WGSL.
DTYPES: dict[DType, tuple[str, str]] = {
    dtypes.bool_: ("uint32", "u32"),
    dtypes.int8: ("int32", "i32"),
    dtypes.int16: ("int32", "i32"),
    dtypes.int32: ("int32", "i32"),
    dtypes.int64: ("int64", "vec2<u32>"),
    dtypes.uint8: ("uint32", "u32"),
    dtypes.uint16: ("uint32", "u32"),
    dtypes.uint32: ("uint32", "u32"),
    dtypes.uint64: ("uint64", "vec2<u32>"),
    dtypes.float32: ("float32", "f32"),
    dtypes.complex64: ("complex64", "vec2<f32>"),
}
# How many 32-bit words an element has.
WORDS: dict[DType, int] = {dtype: np.dtype(s).itemsize // 4 for dtype, (s, _) in DTYPES.items()}


def packed(host: Host) -> Host:
    """Return the words that stand for the values of ``host``, contiguous."""
    return np.ascontiguousarray(host, dtype=DTYPES[host.dtype][0])


def unpacked(words: Any, dtype: DType, count: int) -> Host:
    """Return ``count`` values of ``dtype`` from the bytes that stand for them."""
    stored = np.frombuffer(words, dtype=DTYPES[dtype][0], count=count)
    return stored.astype(dtype)


def contiguous_strides(shape: Shape) -> tuple[int, ...]:
    """Return the strides of an array without gaps, last axis fastest.

    >>> contiguous_strides((2, 3, 4))
    (12, 4, 1)
    """
    strides = []
    step = 1
    for n in reversed(shape):
        strides.append(step)
        step *= n
    return tuple(reversed(strides))


def collapsed(
    shape: Shape, *strides: tuple[int, ...]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Return the same elements with fewer axes, for arrays of one shape and their strides.

    Axes of length 1 are dropped; two axes are one where every array steps evenly over both. There
    is at least one axis.

    >>> collapsed((2, 3, 4), (12, 4, 1), (0, 0, 0)), collapsed((2, 3), (1, 2))
    (((24,), [(1,), (0,)]), ((2, 3), [(1, 2)]))
    """
    sizes: list[int] = []
    steps: list[list[int]] = [[] for _ in strides]
    for axis, n in enumerate(shape):
        if n == 1:
            continue
        if sizes and all(s[-1] == n * own[axis] for s, own in zip(steps, strides, strict=True)):
            sizes[-1] *= n
            for s, own in zip(steps, strides, strict=True):
                s[-1] = own[axis]
        else:
            sizes.append(n)
            for s, own in zip(steps, strides, strict=True):
                s.append(own[axis])
    if not sizes:
        return (1,), [(1,) for _ in strides]
    return tuple(sizes), [tuple(s) for s in steps]


class WgpuArray:
    """An array on the device.

    Attributes
    ----------
    storage : the buffer that it lies in.
    shape, strides, offset : of elements.
    dtype : what helixml calls the element type.
    is_kept : whether the backend hands it out again, so that nobody may write to it.
    """

    __slots__ = (
        *("__weakref__", "_mirror", "dtype", "is_kept", "offset", "shape", "storage", "strides"),
    )

    def __init__(
        self,
        storage: Storage,
        shape: Shape,
        dtype: DType,
        strides: tuple[int, ...] | None = None,
        offset: int = 0,
    ) -> None:
        self.storage = storage
        self.shape = shape
        self.dtype = dtype
        self.strides = contiguous_strides(shape) if strides is None else strides
        self.offset = offset
        self.is_kept = False
        self._mirror: tuple[int, Host] | None = None

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """How many elements there are."""
        return prod(self.shape)

    @property
    def type(self) -> str:
        """The element type in WGSL."""
        return DTYPES[self.dtype][1]

    @property
    def words(self) -> int:
        """How many 32-bit words an element has."""
        return WORDS[self.dtype]

    @property
    def is_dense(self) -> bool:
        """Whether it begins where the buffer does, and has no gaps."""
        return self.offset == 0 and self.is_contiguous

    @property
    def is_contiguous(self) -> bool:
        """Whether elements lie one behind the other in C order."""
        step = 1
        for n, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if n != 1 and stride != step:
                return self.size == 0
            step *= n
        return True

    @property
    def mirror(self) -> Host | None:
        """What it holds, if the host still knows; not to be written to."""
        if self._mirror is None or self._mirror[0] != self.storage.version:
            return None
        return self._mirror[1]

    def remember(self, host: Host) -> None:
        """Note what it holds, until its buffer is written."""
        self._mirror = self.storage.version, host

    def view(
        self, shape: Sequence[int], strides: Sequence[int], offset: int | None = None
    ) -> WgpuArray:
        """Return an array over the same buffer; the host knows nothing of it."""
        start = self.offset if offset is None else offset
        made = WgpuArray(self.storage, tuple(shape), self.dtype, tuple(strides), start)
        made.is_kept = self.is_kept
        return made

    def __repr__(self) -> str:
        return f"WgpuArray({self.shape}, {self.dtype})"
