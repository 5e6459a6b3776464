"""WGSL kernels: each family in WGSL and, in Python, what lays arrays out and launches it.

House rules for the source: arrays are ``@group(0) @binding(N) var<storage, read_write>``, numbers
one struct in ``@group(1) @binding(0) var<uniform>``; `helixml.backends.wgpu.launch` says more, and
holds every file to it. No sum by atomics, nothing that depends on whether a product and a sum are
fused, and no test of a float against itself: nan is found by its bits.
"""

from __future__ import annotations

from importlib import import_module

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["table"]

# Modules with a function `kernels(runtime)`, which gives a list of `Kernel`.
_KERNELS = (
    *("activation", "softmax", "norm", "cross_entropy", "update"),
    *("causal_conv1d", "selective_scan", "attention", "fft_conv"),
    *("linear", "stored_linear", "mamba_step"),
)


def table(runtime: Runtime) -> list[Kernel]:
    """Return all kernels of fused ops on a device."""
    modules = [import_module(f"{__name__}.{name}") for name in _KERNELS]
    return [kernel for module in modules for kernel in module.kernels(runtime)]
