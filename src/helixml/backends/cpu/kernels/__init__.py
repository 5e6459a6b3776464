"""Compiled CPU kernels: C with explicit vectors, one build per instruction set.

`KERNELS` lists what there is, as (name, function, dtypes); the functions take and return raw
NumPy arrays. Where the extension was not built the list is empty and the package works
without it. `scan.c` is the place to start reading; `simd.h` has the vectors it is written in,
`table.c` chooses the instruction set, `_kernels.pyx` wraps the C functions for Python.
"""

from __future__ import annotations

from collections.abc import Callable

KERNELS: list[tuple[str, Callable[..., object], tuple[str, ...]]] = []

try:
    from helixml.backends.cpu.kernels import _kernels
except ImportError:
    _kernels = None
else:
    from helixml.backends.cpu.kernels.selective_scan import selective_scan, selective_scan_vjp

    FLOATS = ("float32", "float64")
    KERNELS += [
        ("selective_scan", selective_scan, FLOATS),
        ("selective_scan_vjp", selective_scan_vjp, FLOATS),
    ]


def available() -> str | None:
    """Return the instruction set in use (avx512, avx2, generic), None without kernels."""
    return None if _kernels is None else _kernels.instruction_set()
