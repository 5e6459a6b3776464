"""The memory of large arrays: kept when an array is gone, for the next of about its size.

Fresh memory costs a page fault for every 4 KiB, often more than computing what goes there, and a
training step asks for the same sizes again and again. So results of 64 KiB and more lie in blocks
of a cache of their own (kernels/blocks.c); smaller ones are NumPy's.

>>> import helixml as hx
>>> x = hx.ones((256, 256)) @ hx.ones((256, 256))
>>> del x
>>> hx.cpu.empty_cache()
>>> hx.cpu.memory_stats().get("cached", 0)
0
"""

from __future__ import annotations

import os

from helixml.dtypes import as_integer
from helixml.errors import ValueRangeError

try:
    from helixml import config

    if config.get().pure:
        raise ImportError("HELIXML_PURE is set: no extension is loaded.")
    import helixml.backends.cpu.kernels._kernels as _kernels
except ImportError:
    _kernels = None

__all__ = ["empty_cache", "memory_stats", "set_memory_budget"]


def memory_stats() -> dict[str, int]:
    """Return what the cache holds and did; nothing where the extension was not built.

    Returns
    -------
    ``in_use``, the bytes of living arrays, rounded up to the blocks they lie in; ``peak``, the most
    of them at once; ``cached``, the bytes kept for later; ``budget``, the most that may be kept;
    ``taken`` and ``reused``, how many blocks were handed out, and how many came from the cache.
    """
    return {} if _kernels is None else dict(_kernels.memory())


def empty_cache() -> None:
    """Return all memory that no array uses to the system."""
    if _kernels is not None:
        _kernels.empty_cache()


def set_memory_budget(size: int | None) -> None:
    """Keep at most ``size`` bytes that no array uses; None: a quarter of the machine's memory.

    Raises
    ------
    ValueRangeError
        If the size is negative.
    """
    if size is None:
        size = _quarter_of_memory()
    elif as_integer("set_memory_budget", "size", size) < 0:
        raise ValueRangeError(
            f"set_memory_budget: size must be 0 or more bytes, got {size}. Hint: 0 keeps nothing."
        )
    if _kernels is not None:
        _kernels.set_memory_budget(size)


def _quarter_of_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 4
    except (AttributeError, OSError, ValueError):  # not on Windows
        return 1 << 30


set_memory_budget(None)
