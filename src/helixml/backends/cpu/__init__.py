"""The CPU backend: NumPy's functions, bound directly, and compiled kernels for the fused ops."""

from helixml.backends.cpu.backend import CpuBackend, create

__all__ = ["CpuBackend", "create"]
