"""Random bits and dropping by them, the same as on every other device; see philox.wgsl."""

from __future__ import annotations

from typing import Any

from helixml import dtypes
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.copies import dense
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["drop", "philox"]

_GROUP = 256
_LOW = 0xFFFFFFFF


def philox(runtime: Runtime, key: tuple[int, int], counter: int, blocks: int) -> WgpuArray:
    """Return ``(blocks, 4)`` uint32 words of Philox4x32-10 from ``counter`` on."""
    words = runtime.empty((blocks, 4), dtypes.uint32)
    Program.of(runtime, "philox.wgsl").launch(
        "bits",
        [words.storage],
        _uniforms(key, counter, blocks),
        groups=-(-blocks // _GROUP),
        trips=10,
    )
    return words


def drop(
    runtime: Runtime,
    x: WgpuArray,
    key: tuple[int, int],
    counter: int,
    threshold: int,
    scale: float,
) -> WgpuArray:
    """Return ``scale`` times ``x``; 0 where the word of a position is below ``threshold``."""
    x = dense(runtime, x)
    kept = runtime.empty(x.shape, x.dtype)
    Program.of(runtime, "philox.wgsl").launch(
        "drop",
        [x, kept],
        _uniforms(key, counter, x.size, threshold, scale),
        groups=-(-x.size // (4 * _GROUP)),
        trips=10,
    )
    return kept


def _uniforms(
    key: tuple[int, int], counter: int, size: int, threshold: int = 0, scale: float = 0.0
) -> dict[str, Any]:  # Any: numbers and tuples of them
    return {
        "words": tuple(counter >> shift & _LOW for shift in (0, 32, 64, 96)),
        "key": key,
        "size": size,
        "threshold": threshold,
        "scale": scale,
    }
