"""Devices: which there are here, what is missing for the others, and which can do what.

A record names a device and asks nothing of it; its capabilities are measured, and its memory is
looked up, when they are read.
"""

from __future__ import annotations

from dataclasses import dataclass

import helixml as hx
from helixml.backends import registry
from helixml.device import Device
from helixml.hardware.capabilities import Capabilities, capabilities
from helixml.hardware.memory import MemoryUse, memory
from helixml.hardware.operations import op_named

__all__ = ["DeviceRecord", "device", "devices", "missing", "supporting"]


@dataclass(frozen=True)
class DeviceRecord:
    """A device that can be used here.

    Attributes
    ----------
    kind : of the device, such as "cpu" or "cuda".
    index : which of its kind; "" where there is one only.
    name : what `to` and ``device=`` take.
    backend : name of the backend that serves it.
    """

    kind: str
    index: str
    name: str
    backend: str

    @property
    def capabilities(self) -> Capabilities:
        """What it can, measured when it is first asked; see `hardware.capabilities`."""
        return capabilities(self.name)

    @property
    def memory(self) -> MemoryUse:
        """What it holds and has left."""
        return memory(self.name)

    def __str__(self) -> str:
        return self.name


def devices(kind: str | None = None) -> tuple[DeviceRecord, ...]:
    """Return the devices that can be used here.

    Parameters
    ----------
    kind : only those of this kind.

    Returns
    -------
    Records, the default device first and the others by name. What `hardware.missing` returns says
    why other kinds are not among them.

    Raises
    ------
    DeviceError : none of ``kind`` can be used; the message says why, and what to do.

    Notes
    -----
    To see whether they work, libraries are started. None takes a GPU's memory by that: JAX is told
    to ask for it as it needs it, unless the environment says otherwise.

    Examples
    --------
    >>> import helixml as hx
    >>> "cpu" in [device.name for device in hx.devices()]
    True
    """
    if kind is not None:
        registry.get(kind)  # an error says what is missing
    names = [name for name, status in registry.available().items() if status == "ok"]
    default = Device(hx.config.get().device).kind
    names.sort(key=lambda name: (name != default, name))
    return tuple(device(name) for name in names if kind in (None, name))


def device(name: str | Device) -> DeviceRecord:
    """Return the record of a device by its name, such as "cpu" or "cuda:1".

    Raises
    ------
    DeviceError : it cannot be used here; the message says why, and what to do.
    """
    backend = registry.get(name)
    found = Device(str(name))
    return DeviceRecord(found.kind, found.index, found.name, backend.name)


def missing() -> dict[str, str]:
    """Return the kinds of devices that have a name and cannot be used here, each with the reason.

    Examples
    --------
    >>> from helixml import hardware
    >>> "helixml.backends" in hardware.missing()["qpu"]
    True
    """
    return {kind: why for kind, why in registry.available().items() if why != "ok"}


def supporting(
    op: str, *, dtype: object = "float32", kernel: bool = False
) -> tuple[DeviceRecord, ...]:
    """Return the devices here that can compute an op.

    Parameters
    ----------
    op : name of an op; of one that is made of other ops, all that have the dtype.
    dtype : of its operands. kernel : whether only a kernel of its own will do.

    Raises
    ------
    ValueRangeError : there is no such op. DTypeError : there is no such dtype.

    Examples
    --------
    >>> from helixml import hardware
    >>> "cpu" in [device.name for device in hardware.supporting("matmul", dtype="bfloat16")]
    True
    """
    wanted = hx.dtypes.parse(dtype)
    op_named(op, composites=True)
    found = []
    for record in devices():
        backend = registry.get(record.name)
        if wanted in backend.dtypes and (not kernel or op in backend.kernels):
            found.append(record)
    return tuple(found)
