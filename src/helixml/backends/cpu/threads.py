"""How many threads the CPU kernels use.

The threads themselves are the pool of kernels/pool.c: one for everything. Which of them does what
is left to chance: work is cut by shapes only, so results are the same bits for any number. This
file reads no environment variables and never touches the threads of NumPy's BLAS.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from functools import cache

from helixml import config
from helixml.dtypes import as_integer
from helixml.errors import ValueRangeError

_requested: int | None = config.get().num_threads or None  # HELIXML_NUM_THREADS


def set_num_threads(n: int | None) -> None:
    """Use at most n threads; None goes back to what the machine allows.

    Raises
    ------
    ValueRangeError
        If n is less than 1.
    """
    global _requested
    if n is not None and as_integer("set_num_threads", "n", n) < 1:
        raise ValueRangeError(
            f"set_num_threads: n must be at least 1, got {n}. Hint: None means automatic."
        )
    _requested = n
    apply()


def get_num_threads() -> int:
    """Return the number of threads in use: the least of the set value, affinity and quota."""
    allowed = _machine_limit()
    return allowed if _requested is None else min(_requested, allowed)


def apply() -> None:
    """Tell the pool how many threads to use, if there is a pool."""
    if config.get().pure:
        return
    try:
        import helixml.backends.cpu.kernels._kernels as _kernels
    except ImportError:
        return
    _kernels.set_threads(get_num_threads())


@cache
def _machine_limit() -> int:
    """Return the number of CPUs this process may use: affinity and cgroup quota."""
    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cpus = len(os.sched_getaffinity(0))
    quota = min(_cgroup_quotas("/proc/self/cgroup", "/sys/fs/cgroup"), default=cpus)
    return max(1, min(cpus, math.ceil(quota)))


def _cgroup_quotas(membership: str, root: str) -> Iterator[float]:
    """Yield the CPU quotas, in CPUs, of this process's cgroups (v1 and v2) and their parents."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = os.path.join(root, "cpu") if controllers else root
        # Inside a container the own group is often mounted as the root itself.
        group = os.path.normpath(os.path.join(base, path.lstrip("/")))
        while True:
            if controllers:
                fields = [_read(f"{group}/cpu.cfs_{name}_us") for name in ("quota", "period")]
            else:
                fields = _read(f"{group}/cpu.max").split()
            if len(fields) == 2 and all(field.strip().isdigit() for field in fields):
                yield int(fields[0]) / int(fields[1])  # not "max", not -1: a limit
            if len(group) <= len(base):
                break
            group = os.path.dirname(group)


def _read(path: str) -> str:
    """Return the file's text, or nothing where it cannot be read."""
    try:
        with open(path, encoding="ascii") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""
