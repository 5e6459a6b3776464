"""Finding the backend of a device: by name, lazily, and with a reason when there is none.

Built-in backends are named in a table and imported on first use. Third parties register a
zero-argument factory in the entry-point group ``helixml.backends``, under the device kind that they
serve; entry points are read only when a kind is not built in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import entry_points

from helixml import config
from helixml.backends.protocol import ComputeBackend
from helixml.device import Device
from helixml.errors import BackendError, DeviceError

__all__ = ["available", "default", "get", "register"]

# kind -> "module:factory"; a factory takes the device and raises DeviceError if it is not there.
_BUILT_IN = {
    "cpu": "helixml.backends.cpu:create",
    "reference": "helixml.backends.reference:create",
    "array_api_strict": "helixml.backends.array_api:create",
    "torch": "helixml.backends.array_api:create",
    "jax": "helixml.backends.array_api:create",
}
# Names that the house plan knows and nobody serves here yet.
_UNAVAILABLE = {
    "cuda": "no CUDA backend is installed",
    "wgpu": "no WebGPU backend is installed",
    "metal": "no Metal backend is installed",
    "tpu": "no TPU backend is installed",
    "npu": "no NPU backend exists yet",
    "qpu": "no QPU backend exists yet",
}
GROUP = "helixml.backends"

_registered: dict[str, Callable[[], ComputeBackend]] = {}
_backends: dict[str, ComputeBackend] = {}
_lock = threading.RLock()


def register(kind: str, factory: Callable[[], ComputeBackend]) -> None:
    """Serve devices of ``kind`` by the backend that ``factory`` makes."""
    with _lock:
        _registered[kind] = factory
        for name in [name for name in _backends if Device(name).kind == kind]:
            del _backends[name]


def get(device: str | Device) -> ComputeBackend:
    """Return the one backend of ``device``, made on first use.

    Raises
    ------
    DeviceError : no backend serves it; the message says which there are, or what is missing.
    """
    name = device.name if isinstance(device, Device) else device
    found = _backends.get(name)
    if found is None:
        with _lock:
            found = _backends.get(name)
            if found is None:
                found = _backends[name] = _make(Device(name))
    return found


def default() -> ComputeBackend:
    """Return the backend of the configured default device."""
    return get(config.get().device)


def _make(device: Device) -> ComputeBackend:
    factory = _registered.get(device.kind)
    if factory is not None:
        return factory()
    if device.kind in _BUILT_IN:
        module, function = _BUILT_IN[device.kind].split(":")
        made: ComputeBackend = getattr(import_module(module), function)(device)
        return made
    for entry in entry_points(group=GROUP, name=device.kind):
        made = entry.load()()
        if not isinstance(made, ComputeBackend):
            raise BackendError(
                f"backend {device.kind!r}: {entry.value} did not return a ComputeBackend but "
                f"{type(made).__name__}. Hint: python -m helixml.testing.contract lists what lacks."
            )
        return made
    if device.kind in _UNAVAILABLE:
        raise DeviceError(f"device {device.name!r}: {_UNAVAILABLE[device.kind]}. Hint: use 'cpu'.")
    known = sorted({*_BUILT_IN, *_registered, *(e.name for e in entry_points(group=GROUP))})
    near = get_close_matches(device.kind, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
    raise DeviceError(f"device {device.name!r}: no backend serves it. Hint: {hint}")


def available() -> dict[str, str]:
    """Return, for each known kind, ``"ok"`` or the reason why it cannot be used."""
    report = {}
    kinds = {*_BUILT_IN, *_registered, *_UNAVAILABLE, *(e.name for e in entry_points(group=GROUP))}
    for kind in sorted(kinds):
        try:
            get(kind)
            report[kind] = "ok"
        except (DeviceError, BackendError, ImportError) as error:
            report[kind] = str(error)
    return report
