"""The machine: processor, cores, caches, SIMD and memory, as the operating system tells them.

What a system does not tell is None or empty, never a guess. Nothing is measured here: that is
`probes`' business.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Cache", "Machine", "machine", "system_memory"]

_SIMD = (
    *("sse2", "sse4_2", "avx", "fma", "f16c", "avx2", "avx512f", "avx512bw", "avx512_bf16"),
    *("avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16", "amx_int8"),
    *("neon", "asimd", "asimdhp", "bf16", "sve", "sve2"),
)


@dataclass(frozen=True)
class Cache:
    """A cache of the processor: its level, its bytes, and how many threads share one."""

    level: int
    bytes: int
    shared_by: int


@dataclass(frozen=True)
class Machine:
    """What the host is.

    Attributes
    ----------
    processor : its name. system : operating system and architecture.
    cores : threads of the processor that this process may run on.
    caches : those of data, from the nearest on.
    simd : instruction sets that the system names, those known to matter here.
    """

    processor: str
    system: str
    cores: int
    caches: tuple[Cache, ...]
    simd: tuple[str, ...]


def machine() -> Machine:
    """Return what the host is.

    >>> from helixml import hardware
    >>> hardware.machine().cores >= 1
    True
    """
    told = _cpuinfo()
    names = [told[key] for key in ("model name", "Model", "cpu model") if key in told]
    flags = set((told.get("flags", "") + " " + told.get("Features", "")).split())
    return Machine(
        names[0] if names else platform.processor() or platform.machine(),
        f"{platform.system()} {platform.machine()}",
        _cores(),
        _caches(Path("/sys/devices/system/cpu/cpu0/cache")),
        tuple(name for name in _SIMD if name in flags),
    )


def system_memory() -> tuple[int | None, int | None]:
    """Return the host's memory in bytes, all of it and what a program could still take."""
    told = {
        name: words.split()
        for name, _, words in (line.partition(":") for line in _lines("/proc/meminfo"))
    }
    if "MemTotal" in told and "MemAvailable" in told:
        return 1024 * int(told["MemTotal"][0]), 1024 * int(told["MemAvailable"][0])
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        return page * os.sysconf("SC_PHYS_PAGES"), None
    except (AttributeError, OSError, ValueError):  # not on Windows
        return None, None


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpuinfo() -> dict[str, str]:
    """Return what Linux says of the first processor."""
    told: dict[str, str] = {}
    for line in _lines("/proc/cpuinfo"):
        name, _, text = line.partition(":")
        told.setdefault(name.strip(), text.strip())
    return told


def _caches(folder: Path) -> tuple[Cache, ...]:
    found = []
    for index in sorted(folder.glob("index*")):
        told = {
            name: " ".join(_lines(index / name))
            for name in ("level", "type", "size", "shared_cpu_list")
        }
        size = told["size"]
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1:], 0)
        if told["type"] != "Instruction" and told["level"].isdigit() and size[:-1].isdigit():
            shared = _count(told["shared_cpu_list"])
            found.append(Cache(int(told["level"]), int(size[:-1]) * unit, shared))
    return tuple(sorted(found, key=lambda cache: cache.level))


def _count(ranges: str) -> int:
    """Return how many numbers a list such as ``0-3,8`` has."""
    total = 0
    for part in filter(None, ranges.split(",")):
        first, _, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total


def _lines(path: str | Path) -> list[str]:
    """Return the file's lines, or none where it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []
