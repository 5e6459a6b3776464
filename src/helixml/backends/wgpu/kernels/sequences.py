"""How kernels for sequences see arrays (b, d, l): as they lie, by their steps.

What they write lies as (b, l, d), as the layers' arrays do.
"""

from __future__ import annotations

from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.copies import wrapped

__all__ = ["channels_first", "steps_of"]


def steps_of(x: WgpuArray) -> list[int]:
    """Return the steps of an array (b, d, l) by its axes, and where it starts, as words."""
    return wrapped((*x.strides, x.offset))


def channels_first(x: WgpuArray) -> WgpuArray:
    """Return a view (b, d, l) of a dense array (b, l, d)."""
    b, l, d = x.shape
    return x.view((b, d, l), (l * d, 1, d))
