"""GPUs through WebGPU, on Vulkan, Metal or DirectX: wgpu-py, and kernels of our own in WGSL.

`create` gives the backend of one adapter. wgpu is imported there and nowhere else; the rest takes
its module as an argument. `runtime` records and sends, `pool` has the memory, `arrays` the arrays,
`launch` reads, compiles and launches kernels, `kernels` has them, `backend` the array functions.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from helixml.device import Device
from helixml.errors import DeviceError, MissingDependencyError

if TYPE_CHECKING:
    from helixml.backends.wgpu.backend import WgpuBackend
    from helixml.backends.wgpu.runtime import Runtime

__all__ = ["adapters", "create", "open_adapter"]

_KINDS = ("DiscreteGPU", "IntegratedGPU", "VirtualGPU", "Unknown", "CPU")  # the fastest first
_SERVED = ("Vulkan", "Metal", "D3D12")


def create(device: Device) -> WgpuBackend:
    """Return the backend of ``"wgpu"``, the first adapter, or ``"wgpu:N"``.

    Raises
    ------
    MissingDependencyError : wgpu is not installed.
    DeviceError : there is no adapter, or none of that number.
    """
    runtime = open_adapter(device)
    from helixml.backends.wgpu.backend import WgpuBackend

    return WgpuBackend(runtime, device)


def open_adapter(device: Device) -> Runtime:
    """Return the open device of ``"wgpu"``, the first adapter, or ``"wgpu:N"``.

    Raises
    ------
    MissingDependencyError : wgpu is not installed.
    DeviceError : there is no adapter, or none of that number.
    """
    try:
        wgpu = import_module("wgpu")
    except ImportError as error:
        raise MissingDependencyError(
            f"device {device.name!r}: {error}. Hint: pip install 'helixml[wgpu]'."
        ) from error
    from helixml.backends.wgpu.runtime import Runtime

    with _runtime_folder():
        return Runtime(wgpu, choose(wgpu, device))


@contextmanager
def _runtime_folder() -> Iterator[None]:
    """Name a folder for a user's sockets, if none is: drivers print a complaint for each lack."""
    if "XDG_RUNTIME_DIR" in os.environ:
        yield
        return
    os.environ["XDG_RUNTIME_DIR"] = tempfile.gettempdir()
    try:
        yield
    finally:
        del os.environ["XDG_RUNTIME_DIR"]


def choose(wgpu: Any, device: Device) -> Any:  # Any: a module and one of its adapters
    """Return the adapter that a device names, or raise a DeviceError that says which there are."""
    what = f"device {device.name!r}"
    if device.index and not device.index.isdigit():
        raise DeviceError(f"{what}: {device.index!r} is no number of an adapter. Hint: 'wgpu:0'.")
    found = adapters(wgpu)
    if not found:
        raise DeviceError(
            f"{what}: there is no adapter of Vulkan, Metal or DirectX 12. Hint: a driver of the "
            "GPU; on Linux mesa-vulkan-drivers has a software device; or 'cpu'."
        )
    number = int(device.index or 0)
    if number >= len(found):
        names = ", ".join(f"{n} {a.info['device']!r}" for n, a in enumerate(found))
        raise DeviceError(f"{what}: there is no adapter {number}. Hint: there are {names}.")
    return found[number]


def adapters(wgpu: Any) -> list[Any]:
    """Return the adapters of a module, GPUs before software, each once."""
    served = [a for a in wgpu.gpu.enumerate_adapters_sync() if a.info["backend_type"] in _SERVED]
    # A GPU is there once for each API that it has; Vulkan and Metal come first.
    served.sort(key=lambda a: _SERVED.index(a.info["backend_type"]))
    first: dict[str, str] = {}
    for adapter in served:
        first.setdefault(adapter.info["device"], adapter.info["backend_type"])
    found = [a for a in served if first[a.info["device"]] == a.info["backend_type"]]
    return sorted(found, key=lambda a: _rank(a.info["adapter_type"]))


def _rank(kind: str) -> int:
    return _KINDS.index(kind) if kind in _KINDS else _KINDS.index("Unknown")
