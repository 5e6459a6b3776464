"""The CPU backend: NumPy's functions, bound directly, and compiled kernels for the fused ops.

To users it is `helixml.cpu`, for what it tells of memory and lets them set.
"""

from helixml.backends.cpu.backend import CpuBackend, create
from helixml.backends.cpu.memory import empty_cache, memory_stats, set_memory_budget

__all__ = ["CpuBackend", "create", "empty_cache", "memory_stats", "set_memory_budget"]
