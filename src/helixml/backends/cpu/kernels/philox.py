"""Random words, and dropout by them, on raw arrays; the kernel is philox.c.

Both are the backend's functions of these names and belong to no fused op; where they return None,
the call is NumPy's.
"""

from __future__ import annotations

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, share

_WORDS = np.dtype(np.uint32)


def philox(key: tuple[int, int], counter: int, blocks: int) -> Array | None:
    """Return (blocks, 4) words of uint32; None if the lower half of the counter would overflow."""
    if not fits(counter, blocks):
        return None
    words: Array = empty((blocks, 4), _WORDS)
    call = _kernels.Philox(key, counter, blocks)
    call.set_words(words)
    share(call.run, -(-blocks // _kernels.PHILOX_RUN), words.size)
    return words


def drop(
    x: Array, key: tuple[int, int], counter: int, *, threshold: int, scale: float
) -> Array | None:
    """Return x times scale, but 0 where the word is below the threshold; None as for `philox`.

    Parameters
    ----------
    x : float32 or float64, any strides.
    """
    blocks = -(-x.size // 4)
    if not fits(counter, blocks):
        return None
    y: Array = empty(x.shape, x.dtype)
    call = _kernels.Philox(key, counter, blocks)
    call.set_drop(*_kernels.dense([x]), y, threshold, scale)
    share(call.run, -(-blocks // _kernels.PHILOX_RUN), y.size)
    return y


def fits(counter: int, blocks: int) -> bool:
    """Tell whether only the counter's lower 64 bits move."""
    return counter % 2**64 + blocks <= 2**64
