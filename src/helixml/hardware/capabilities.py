"""`capabilities`: what a device can, measured once and kept in a file.

The file lies in `config.cache_dir`, named after everything that the figures depend on: machine,
device, versions, threads and settings. It is written atomically; one that cannot be read, or does
not hold what it should, is measured anew.
"""

from __future__ import annotations

import hashlib
import json
import platform
import threading
import warnings
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

import helixml as hx
from helixml import config
from helixml.backends import registry
from helixml.device import Device
from helixml.errors import FileError, HelixWarning
from helixml.hardware import probes
from helixml.hardware.machine import Cache, machine
from helixml.hardware.memory import on_host
from helixml.io.files import make_folder, read_json, write_json

__all__ = ["Capabilities", "cache_file", "capabilities", "keep"]

ROUNDS: Final = 3
_lock = threading.Lock()
unwritten: dict[Path, Any] = {}  # what this process has measured and could not write


@dataclass(frozen=True)
class Capabilities:
    """What a device can.

    Attributes
    ----------
    device : its name.
    processor : name of what computes; "" where the backend does not tell.
    cores : threads that it computes with; 0 where the backend does not tell.
    caches : of the processor's data, from the nearest on.
    simd : instruction sets that the processor has. kernels : the one that kernels use, or "".
    bandwidth : bytes a second, read and written by sums of long arrays.
    float32_rate, float64_rate : FLOPs a second of products of matrices, the most of several sizes;
        None if it has no such numbers.
    latency : seconds of the smallest op.
    """

    device: str
    processor: str
    cores: int
    caches: tuple[Cache, ...]
    simd: tuple[str, ...]
    kernels: str
    bandwidth: float
    float32_rate: float | None
    float64_rate: float | None
    latency: float

    def __str__(self) -> str:
        def rate(value: float | None) -> str:
            return "none" if value is None else f"{value / 1e9:.3g} GFLOP/s"

        caches = ", ".join(f"L{cache.level} {cache.bytes >> 10:,} KiB" for cache in self.caches)
        return "; ".join(
            filter(
                None,
                (
                    self.processor,
                    f"{self.cores} threads" if self.cores else "",
                    caches,
                    f"{self.bandwidth / 1e9:.3g} GB/s",
                    f"float32 {rate(self.float32_rate)}",
                    f"float64 {rate(self.float64_rate)}",
                    f"a small op {self.latency * 1e6:.3g} us",
                ),
            )
        )


def capabilities(device: str | Device | None = None, *, refresh: bool = False) -> Capabilities:
    """Return what a device can: measured, not looked up.

    Parameters
    ----------
    device : its name; the default device if left out.
    refresh : measure now, whatever a file says.

    Returns
    -------
    A `Capabilities`. Measuring takes a second or two, and happens once for each machine, device,
    version and number of threads.

    Raises
    ------
    DeviceError : there is no such device.

    Warns
    -----
    HelixWarning : the figures cannot be written to the cache.

    Examples
    --------
    >>> import helixml as hx
    >>> print(hx.hardware.capabilities("cpu"))  # doctest: +SKIP
    AMD EPYC; 2 threads; L1 32 KiB, L2 512 KiB, L3 32,768 KiB; 28 GB/s; float32 178 GFLOP/s; ...
    """
    name = str(device or config.get().device)
    registry.get(name)
    path = cache_file(name)
    with _lock:
        if not refresh:
            known: Capabilities | None = _read(path) or unwritten.get(path)
            if known is not None:
                return known
        found = _measure(name)
        keep(path, found)
    return found


def keep(path: Path, figures: Any) -> None:  # Any: a dataclass of numbers and texts
    """Write figures to their file, or warn that they cannot be, and remember them."""
    try:
        make_folder(path.parent)
        write_json(path, asdict(figures))
    except FileError as error:
        unwritten[path] = figures
        warnings.warn(
            f"hardware: {error} Until then figures are measured in every process.",
            HelixWarning,
            stacklevel=3,
        )


def cache_file(device: str | Device, what: str = "capabilities") -> Path:
    """Return the file of a device's figures, named after all that these depend on."""
    here, settings = machine(), config.get()
    told = registry.get(device).capabilities()
    key = json.dumps(
        [
            *(str(device), here.processor, here.system, here.cores, hx.__version__),
            *(platform.python_version(), settings.pure, settings.kernels),
            *(settings.matmul_precision, {k: v for k, v in told.items() if k != "kernels"}),
        ],
        default=str,
        sort_keys=True,
    )
    mark = hashlib.sha256(key.encode()).hexdigest()[:16]
    return config.cache_dir() / "hardware" / f"{what}-{Device(str(device)).kind}-{mark}.json"


def _read(path: Path) -> Capabilities | None:
    """Return what the file holds, or None if it is missing or damaged."""
    try:
        held: Any = read_json(path)
        if set(held) != {field.name for field in fields(Capabilities)}:
            return None
        numbers = [held["bandwidth"], held["latency"]]
        numbers += [
            held[name] for name in ("float32_rate", "float64_rate") if held[name] is not None
        ]
        if not all(isinstance(number, float | int) and number > 0 for number in numbers):
            return None
        caches = tuple(Cache(**cache) for cache in held["caches"])
        return Capabilities(**{**held, "caches": caches, "simd": tuple(held["simd"])})
    except (FileError, TypeError, KeyError):
        return None


def _measure(device: str) -> Capabilities:
    told = registry.get(device).capabilities()
    is_host = on_host(device)
    here = machine()
    # In rounds, and the best counts: what disturbs a machine lasts longer than one measurement.
    bandwidth = latency = 0.0
    rates: dict[str, float | None] = {"float32": None, "float64": None}
    for _ in range(ROUNDS):
        bandwidth = max(bandwidth, probes.bandwidth(device))
        for dtype, known in rates.items():
            found = probes.peak_rate(device, dtype)
            rates[dtype] = found if known is None or found is None else max(found, known)
        took = probes.latency(device)
        latency = min(latency or took, took)
    return Capabilities(
        device,
        here.processor if is_host else str(told.get("processor", "")),
        int(told.get("threads", 1 if is_host else 0)),
        here.caches if is_host else (),
        here.simd if is_host else (),
        str(told.get("instruction_set", "")),
        bandwidth,
        rates["float32"],
        rates["float64"],
        latency,
    )
