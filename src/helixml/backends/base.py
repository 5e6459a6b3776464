"""Every derived array function, written once in terms of the primitive ones.

A backend that subclasses `BackendBase` brings tier 0 and gets tier 1: slow but right. It overrides
what it can do faster. 16-bit floats are summed and multiplied in float32 here, for all.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.dispatch import KernelTable
from helixml.backends.protocol import Array
from helixml.device import Device
from helixml.shapes import Shape

__all__ = ["BackendBase"]

# Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3):
# multipliers and Weyl increments of the key.
_M0, _M1 = 0xD2511F53, 0xCD9E8D57
_W0, _W1 = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF


class BackendBase:
    """Tier 1 of a `ComputeBackend`, given tier 0 as attributes of ``self``."""

    name: str = ""
    device: Device
    device_kinds: tuple[str, ...] = ()
    array_type: type = object
    kernels: KernelTable

    def __getattr__(self, name: str) -> Any:  # Any: tier 0 is bound by the subclass
        raise AttributeError(f"backend {self.name!r} has no function {name!r}")

    # Asking

    def capabilities(self) -> dict[str, Any]:
        """Return what is known of this backend."""
        return {"name": self.name, "device": str(self.device), "kernels": sorted(self.kernels)}

    def memory(self) -> dict[str, int]:
        """Return what is known of memory: nothing, unless the backend overrides this."""
        return {}

    def synchronize(self) -> None:
        """Return at once: this backend computes before it returns."""

    # Elementwise

    def sigmoid(self, x: Array) -> Array:
        """Return 1 / (1 + exp(-x)); exp(-|x|) cannot overflow."""
        e = self.exp(self.negative(self.abs(x)))
        one = self.ones((), dtype=self.dtype_of(x))
        numerator = self.where(self.greater_equal(x, self.zeros_of(x)), one, e)
        return self.divide(numerator, self.add(one, e))

    def zeros_of(self, x: Array) -> Array:
        """Return a 0-d zero in the dtype of ``x``."""
        return self.zeros((), dtype=self.dtype_of(x))

    # Indexing

    def place(self, x: Array, shape: Shape, index: tuple[Any, ...]) -> Array:
        """Return zeros of ``shape`` with ``x`` written at the basic ``index``."""
        result = self.zeros(shape, dtype=self.dtype_of(x))
        result[index] = x
        return result

    def scatter_add(self, x: Array, indices: Array, *, axis: int, size: int) -> Array:
        """Return the adjoint of `take`: a product with the one-hot matrix of ``indices``."""
        rank = len(indices.shape)
        moved = [a for a in range(len(x.shape)) if not axis <= a < axis + rank]
        rows = self.reshape(indices, (-1,))
        order = (*range(axis, axis + rank), *moved)
        flat = self.permute_dims(x, order)
        rest = tuple(flat.shape[rank:])
        count = rows.shape[0]
        width = int(np.prod(rest, dtype=np.int64))
        flat = self.reshape(flat, (count, width))
        places = self.reshape(self.arange(0, size, 1, dtype=dtypes.int64), (size, 1))
        rows = self.astype(self.reshape(rows, (1, count)), dtypes.int64)
        one_hot = self.astype(self.equal(places, rows), self.dtype_of(x))
        summed = self.reshape(self.matmul(one_hot, flat), (size, *rest))
        back = (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1))
        return self.permute_dims(summed, back)

    def _line_numbers(self, shape: Shape, indices: Array, axis: int, size: int) -> Array:
        """Return flat positions in an array of ``shape`` with ``size`` entries along ``axis``."""
        full = list(shape)
        full[axis] = size
        strides = np.ones(len(full), dtype=np.int64)
        for a in range(len(full) - 2, -1, -1):
            strides[a] = strides[a + 1] * full[a + 1]
        flat = self.multiply(
            self.astype(indices, dtypes.int64),
            self.full((), int(strides[axis]), dtype=dtypes.int64),
        )
        for a, n in enumerate(indices.shape):
            if a != axis:
                line = self.arange(0, n, 1, dtype=dtypes.int64)
                line = self.multiply(line, self.full((), int(strides[a]), dtype=dtypes.int64))
                view = [1] * len(full)
                view[a] = n
                flat = self.add(flat, self.reshape(line, tuple(view)))
        return flat

    def take_along_axis(self, x: Array, indices: Array, *, axis: int) -> Array:
        """Return entries along ``axis``, by their positions in the flat array."""
        shape = tuple(indices.shape)
        flat = self._line_numbers(tuple(x.shape), indices, axis, x.shape[axis])
        taken = self.take(self.reshape(x, (-1,)), self.reshape(flat, (-1,)), axis=0)
        return self.reshape(taken, shape)

    def scatter_add_along_axis(self, x: Array, indices: Array, *, axis: int, size: int) -> Array:
        """Return the adjoint of `take_along_axis`."""
        full = list(x.shape)
        full[axis] = size
        flat = self._line_numbers(tuple(x.shape), indices, axis, size)
        total = int(np.prod(full, dtype=np.int64))
        summed = self.scatter_add(
            self.reshape(x, (-1,)), self.reshape(flat, (-1,)), axis=0, size=total
        )
        return self.reshape(summed, tuple(full))

    # Scans

    def linear_scan(self, a: Array, b: Array, initial: Array | None, *, reverse: bool) -> Array:
        """Return h_t = a_t h_(t-1) + b_t along the last axis, step by step."""
        length = b.shape[-1]
        if length == 0:
            return b
        steps = range(length - 1, -1, -1) if reverse else range(length)
        state = initial
        states = []
        for t in steps:
            b_t = self.getitem(b, (..., t))
            if state is None:
                state = b_t
            else:
                state = self.add(self.multiply(self.getitem(a, (..., t)), state), b_t)
            states.append(self.reshape(state, (*state.shape, 1)))
        if reverse:
            states.reverse()
        return self.concat(states, axis=len(b.shape) - 1)

    # Random bits

    def philox(self, key: tuple[int, int], counter: int, blocks: int) -> Array:
        """Return ``(blocks, 4)`` uint32 words of Philox4x32-10 from ``counter`` on."""
        # A 128-bit counter plus 0 .. blocks-1: carries are worked out in Python integers.
        return self.asarray(philox_words(key, counter, blocks))


def philox_words(key: tuple[int, int], counter: int, blocks: int) -> np.ndarray[Any, Any]:
    """Return Philox4x32-10 words as NumPy computes them, in uint64 arithmetic.

    >>> [hex(word) for word in philox_words((0, 0), 0, 1)[0]]
    ['0x6627e8d5', '0xe169c58d', '0xbc57ac4c', '0x9b00dbd8']
    """
    steps = np.arange(blocks, dtype=np.uint64)
    low64 = np.uint64(counter & 0xFFFFFFFFFFFFFFFF)
    first = steps + low64  # wraps modulo 2^64
    carry = (first < steps).astype(np.uint64)
    second = carry + np.uint64((counter >> 64) & 0xFFFFFFFFFFFFFFFF)
    low, half = np.uint64(_LOW), np.uint64(32)
    x0, x1, x2, x3 = first & low, first >> half, second & low, second >> half
    k0, k1 = key
    for _ in range(10):
        p0 = x0 * np.uint64(_M0)
        p1 = x2 * np.uint64(_M1)
        x0 = (p1 >> half) ^ x1 ^ np.uint64(k0)
        x2 = (p0 >> half) ^ x3 ^ np.uint64(k1)
        x1, x3 = p1 & low, p0 & low
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return np.stack([x0, x1, x2, x3], axis=1).astype(np.uint32)
