"""Finding the backend of a device: by name, lazily, and with a reason when there is none.

Built-in backends are named in a table and imported on first use. Third parties register a
zero-argument factory in the entry-point group ``helixml.backends``, under the device kind that they
serve; entry points are read only when a kind is not built in. `register` does the same for one
process. What a factory gives is checked against the protocol once, by name.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib import import_module
from typing import Any

from helixml import config
from helixml.backends.protocol import ComputeBackend
from helixml.device import Device
from helixml.errors import BackendError, DeviceError

__all__ = ["available", "default", "get", "make", "missing", "register", "unregister"]

# kind -> "module:factory"; a factory takes the device and raises DeviceError if it is not there.
_BUILT_IN = {
    "cpu": "helixml.backends.cpu:create",
    "cuda": "helixml.backends.cuda:create",
    "reference": "helixml.backends.reference:create",
    "array_api_strict": "helixml.backends.array_api:create",
    "jax": "helixml.backends.array_api:create",
    "torch": "helixml.backends.array_api:create",
    "wgpu": "helixml.backends.wgpu:create",
}
# Names that the house plan knows and nobody serves here yet.
_UNAVAILABLE = {
    "metal": "no Metal backend is installed: Apple's GPUs are served as 'wgpu'",
    "tpu": "no TPU backend is installed",
    "npu": "no NPU backend exists yet",
    "qpu": "no QPU backend exists yet",
    "bci": "no BCI backend exists yet",
}
GROUP = "helixml.backends"
_PLUG_IN = f"Hint: use 'cpu', or install a package that has the kind in its entry points {GROUP!r}."

_registered: dict[str, Callable[[], ComputeBackend]] = {}
_backends: dict[str, ComputeBackend] = {}
_lock = threading.RLock()


def register(kind: str, factory: Callable[[], ComputeBackend]) -> None:
    """Serve devices of ``kind`` by the backend that ``factory`` makes; it comes before all others.

    Tensors keep the backend that they were made with.
    """
    with _lock:
        _registered[kind] = factory
        _forget(kind)


def unregister(kind: str) -> None:
    """Undo `register`."""
    with _lock:
        _registered.pop(kind, None)
        _forget(kind)


def _forget(kind: str) -> None:
    for name in [name for name in _backends if Device(name).kind == kind]:
        del _backends[name]


def get(device: str | Device) -> ComputeBackend:
    """Return the one backend of ``device``, made on first use.

    Raises
    ------
    DeviceError : no backend serves it; the message says which there are, or what is missing.
    BackendError : what serves it lacks a part of `ComputeBackend`.
    """
    name = device if isinstance(device, str) else str(device)
    found = _backends.get(name)
    if found is None:
        with _lock:
            found = _backends.get(name)
            if found is None:
                found = make(Device(name))
                if not isinstance(found, ComputeBackend):
                    raise _incomplete(name, found)
                _backends[name] = found
    return found


def default() -> ComputeBackend:
    """Return the backend of the configured default device."""
    return get(config.get().device)


def make(device: Device) -> Any:  # Any: a factory may give anything
    """Return what the factory of ``device`` gives, new and unchecked; others want `get`."""
    factory = _registered.get(device.kind)
    if factory is not None:
        return factory()
    if device.kind in _BUILT_IN:
        module, function = _BUILT_IN[device.kind].split(":")
        return getattr(import_module(module), function)(device)
    for entry in _entry_points(name=device.kind):
        try:
            factory = entry.load()
        except (ImportError, AttributeError) as error:
            raise BackendError(
                f"device {device.name!r}: the entry point {entry.value!r} does not load: {error}. "
                f"Hint: reinstall the package that brings it."
            ) from error
        return factory()
    if device.kind in _UNAVAILABLE:
        raise DeviceError(f"device {device.name!r}: {_UNAVAILABLE[device.kind]}. {_PLUG_IN}")
    known = sorted({*_BUILT_IN, *_registered, *(e.name for e in _entry_points())})
    from difflib import get_close_matches  # imported when needed: it takes milliseconds

    near = get_close_matches(device.kind, known, 1)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}."
    raise DeviceError(f"device {device.name!r}: no backend serves it. Hint: {hint}")


def _entry_points(**wanted: Any) -> Any:  # Any: its type changed between Python versions
    from importlib.metadata import entry_points  # imported when needed: it takes milliseconds

    return entry_points(group=GROUP, **wanted)


def missing(backend: Any) -> list[str]:
    """Return the names of `ComputeBackend` that ``backend`` does not have."""
    names = {*ComputeBackend.__annotations__, *vars(ComputeBackend)}
    return sorted(n for n in names if not n.startswith("_") and not hasattr(backend, n))


def _incomplete(name: str, found: Any) -> BackendError:
    lacking = missing(found)
    shown = ", ".join(lacking[:5]) + (f" and {len(lacking) - 5} more" if len(lacking) > 5 else "")
    return BackendError(
        f"device {name!r}: its factory gave {type(found).__name__}, which is no ComputeBackend: "
        f"it lacks {shown}. Hint: python -m helixml.testing.contract {name} says what to do."
    )


def available() -> dict[str, str]:
    """Return, for each known kind, ``"ok"`` or the reason why it cannot be used."""
    report = {}
    kinds = {*_BUILT_IN, *_registered, *_UNAVAILABLE, *(e.name for e in _entry_points())}
    for kind in sorted(kinds):
        try:
            get(kind)
            report[kind] = "ok"
        except (DeviceError, BackendError, ImportError) as error:
            report[kind] = str(error)
    return report
