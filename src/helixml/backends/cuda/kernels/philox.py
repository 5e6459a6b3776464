"""Random bits and dropping by them on the device, the same as on every other; see philox.cu."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels.rows import Array, dense
from helixml.backends.cuda.launch import Program, stride_blocks

_BLOCK = 256
_LOW = 0xFFFFFFFF


def functions(cp: Any) -> dict[str, Callable[..., Any]]:
    """Return functions of a backend by the protocol's names."""
    philox = Philox(cp)
    return {"philox": philox.philox, "drop": philox.drop}


class Philox:
    """The kernels of philox.cu."""

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "philox.cu")

    def philox(self, key: tuple[int, int], counter: int, blocks: int) -> Array:
        """Return ``(blocks, 4)`` uint32 words of Philox4x32-10 from ``counter`` on."""
        words = self._cp.empty((blocks, 4), dtypes.uint32)
        self._launch("philox", [words, blocks, *_parts(counter), *key], dtypes.float32, blocks)
        return words

    def drop(
        self, x: Array, key: tuple[int, int], counter: int, *, threshold: int, scale: float
    ) -> Array:
        """Return ``scale``, rounded to the dtype, times ``x``; 0 where the word is below."""
        x = dense(self._cp, x)
        y = self._cp.empty(x.shape, x.dtype)
        rounded = float(x.dtype.type(scale))
        arguments = [x, y, x.size, *_parts(counter), *key, threshold, rounded]
        self._launch("drop", arguments, x.dtype, -(-x.size // max(4, 16 // x.dtype.itemsize)))
        return y

    def _launch(self, name: str, arguments: list[Any], dtype: Any, blocks: int) -> None:
        grid = stride_blocks(self._cp, blocks, _BLOCK)
        self._program.launch(name, arguments, dtype=dtype, grid=grid, block=_BLOCK)


def _parts(counter: int) -> tuple[int, ...]:
    """Return the four words of a counter, the lowest first."""
    return tuple(counter >> shift & _LOW for shift in (0, 32, 64, 96))
