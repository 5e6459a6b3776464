"""Functions of two arrays on the device, one of which may be spread over the other.

Their kernels are in binary.cu and exact.cu. Those of exact.cu are no matter of speed: CuPy gives
other values.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from math import prod
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.rows import Array, aligned
from helixml.backends.cuda.launch import Program, stride_blocks
from helixml.backends.dispatch import Kernel

_BLOCK = 256
_NAMES = ("add", "subtract", "multiply", "divide")
_EXACT = {"floor_divide": "floor_divide", "remainder": "modulo", "nextafter": "next_after"}
_EACH, _TILED, _REPEATED, _SINGLE = range(4)


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels, for CuPy's module."""
    binary = Binary(cp)
    return [Kernel(name, binary.kernel(name), FLOATS) for name in ("chain", "quotient")]


def functions(cp: Any) -> dict[str, Callable[..., Any]]:
    """Return functions of a backend by the protocol's names."""
    binary = Binary(cp)
    return {name: binary.function(name) for name in _NAMES}


def exact(cp: Any) -> dict[str, Callable[[Array, Array], Array]]:
    """Return functions of two arrays of floats for which CuPy has other values than NumPy."""
    binary = Binary(cp, "exact.cu")
    return {name: _of_floats(cp, name, binary.kernel(kernel)) for name, kernel in _EXACT.items()}


def _of_floats(cp: Any, name: str, kernel: Callable[..., Any]) -> Callable[[Array, Array], Array]:
    theirs = getattr(cp, name)

    def calculated(x: Array, y: Array) -> Array:
        dtype = x.dtype if x.dtype == y.dtype else dtypes.promote(x.dtype, y.dtype)
        if dtype not in dtypes.FLOATS:
            return theirs(x, y)
        (z,), _ = kernel(x.astype(dtype, copy=False), y.astype(dtype, copy=False))
        return z

    return calculated


class Binary:
    """The kernels of binary.cu, or of a file like it."""

    def __init__(self, cp: Any, file: str = "binary.cu") -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, file)

    def function(self, name: str) -> Callable[[Array, Array], Array | None]:
        """Return a function of two arrays; it gives None for what the kernel cannot walk."""

        def calculated(x: Array, y: Array) -> Array | None:
            dtype = x.dtype
            if dtype not in dtypes.FLOATS or y.dtype != dtype:
                return None
            shape = x.shape
            if shape != y.shape:
                shape = np.broadcast_shapes(shape, y.shape)
            left, right = walk(x, shape), walk(y, shape)
            if left is None or right is None:
                return None
            z = self._cp.empty(shape, dtype)
            size, entries = z.size, 16 // dtype.itemsize
            packed = (
                size % entries == 0
                and (left[0] == _SINGLE or left[1] % entries == 0)
                and (right[0] == _SINGLE or right[1] % entries == 0)
                and aligned(x, y)
            )
            self._program.launch(
                name,
                (x, y, z, size, left[1], right[1]),
                dtype=dtype,
                grid=stride_blocks(self._cp, size // entries if packed else size, _BLOCK),
                block=_BLOCK,
                constants=_constants(left[0], right[0], packed, size < 1 << 30),
            )
            return z

        return calculated

    def kernel(self, name: str) -> Callable[[Array, Array], tuple[tuple[Array], tuple[()]]]:
        """Return the same as a kernel: what it cannot walk is copied."""
        calculate = self.function(name)

        def forward(x: Array, y: Array) -> tuple[tuple[Array], tuple[()]]:
            z = calculate(x, y)
            if z is None:
                x, y = map(self._cp.ascontiguousarray, self._cp.broadcast_arrays(x, y))
                z = calculate(x, y)
            return (z,), ()

        return forward


@cache
def _constants(left: int, right: int, packed: bool, is_short: bool) -> tuple[tuple[str, Any], ...]:
    index = "unsigned" if is_short else "unsigned long long"
    return ("X_WALK", left), ("Y_WALK", right), ("PACKED", int(packed)), ("INDEX", index)


def walk(x: Array, shape: tuple[int, ...]) -> tuple[int, int] | None:
    """Return how entries of ``x`` are found for those of ``shape``, and the period."""
    size = x.size
    if size == 1:
        return _SINGLE, 1
    if not x.flags.c_contiguous:
        return None
    if x.shape == shape:
        return _EACH, max(1, size)
    own = (1,) * (len(shape) - x.ndim) + x.shape
    spread = [a for a, (n, m) in enumerate(zip(own, shape, strict=True)) if n != m]
    if not spread:
        return _EACH, max(1, size)
    first, last = spread[0], spread[-1]
    if any(n != 1 for n in own[first : last + 1]):
        return None
    if all(n == 1 for n in own[:first]):
        return _TILED, size
    if all(n == 1 for n in own[last + 1 :]):
        return _REPEATED, prod(shape[first:])
    return None
