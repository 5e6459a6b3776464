"""Threads for the CPU kernels: how many, and a loop that shares chunks of work among them.

`parallel_for` runs a function for each chunk index, on the calling thread and the workers of
a pool made when first needed. The function should spend its time without the GIL. Which
thread does which chunk is left to chance: a kernel whose chunks depend on shapes only gives
equal bits for any number of threads. This file reads no environment variables and never
touches the threads of NumPy's BLAS.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from helixml import config
from helixml.dtypes import as_integer
from helixml.errors import ValueRangeError

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor
    from pathlib import Path

_local = threading.local()  # .busy: this thread is inside parallel_for
_lock = threading.Lock()
_requested: int | None = config.get().num_threads or None  # HELIXML_NUM_THREADS
_pool: ThreadPoolExecutor | None = None
_threads_start = True  # False once the system has refused to start one


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


def get_num_threads() -> int:
    """Return the number of threads in use: the least of the set value, affinity and quota."""
    allowed = _machine_limit()
    return allowed if _requested is None else min(_requested, allowed)


def parallel_for(function: Callable[[int], object], chunks: int) -> None:
    """Call function(i) for each i in range(chunks), in any order and on several threads.

    Nested calls, and calls where no thread can start, run serially. The first exception that
    a chunk raises stops the hand-out of further chunks and is raised here.
    """
    helpers_wanted = min(get_num_threads(), chunks) - 1
    if helpers_wanted < 1 or getattr(_local, "busy", False):
        for i in range(chunks):
            function(i)
        return

    indices = iter(range(chunks))
    errors: list[BaseException] = []

    def work() -> None:
        _local.busy = True
        try:
            while not errors:
                with _lock:
                    i = next(indices, None)
                if i is None:
                    return
                function(i)
        except BaseException as error:  # raised again in the calling thread
            errors.append(error)
        finally:
            _local.busy = False

    helpers = _start(work, helpers_wanted)
    work()
    for helper in helpers:
        if not helper.cancel():  # one that has not begun has nothing left to do
            helper.result()
    if errors:
        raise errors[0]


def _start(work: Callable[[], None], helpers_wanted: int) -> list[Future[None]]:
    """Hand `work` to as many pool threads; to fewer, or none, where threads cannot start."""
    global _pool, _threads_start
    helpers: list[Future[None]] = []
    if not _threads_start:
        return helpers
    with _lock:
        if _pool is None:
            from concurrent.futures import ThreadPoolExecutor

            _pool = ThreadPoolExecutor(_machine_limit(), thread_name_prefix="helixml")
    try:
        for _ in range(helpers_wanted):
            helpers.append(_pool.submit(work))
    except RuntimeError:  # no threads on this platform, or the interpreter is shutting down
        _threads_start = False
    return helpers


@cache
def _machine_limit() -> int:
    """Return the number of CPUs this process may use: affinity and cgroup quota."""
    from pathlib import Path

    cpus = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        cpus = len(os.sched_getaffinity(0))
    quota = min(_cgroup_quotas(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")), default=cpus)
    return max(1, min(cpus, math.ceil(quota)))


def _cgroup_quotas(membership: Path, root: Path) -> Iterator[float]:
    """Yield the CPU quotas, in CPUs, of this process's cgroups (v1 and v2) and their parents."""
    for line in _read(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / "cpu" if controllers else root
        # Inside a container the own group is often mounted as the root itself.
        folder = base / path.lstrip("/")
        for group in [folder, *folder.parents]:
            if controllers:
                fields = [_read(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
            else:
                fields = _read(group / "cpu.max").split()
            if len(fields) == 2 and all(field.strip().isdigit() for field in fields):
                yield int(fields[0]) / int(fields[1])  # not "max", not -1: a limit
            if group == base:
                break


def _read(path: Path) -> str:
    """Return the file's text, or nothing where it cannot be read."""
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""


def _forget_pool() -> None:
    """Start afresh in a forked child, which has none of its parent's threads."""
    global _pool, _lock, _threads_start
    _pool = None
    _lock = threading.Lock()
    _threads_start = True
    _local.busy = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_pool)
