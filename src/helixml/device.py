"""Devices: small values that name where an array lives.

``Device("cuda:1")`` has a kind and an index, compares and hashes like its text, and knows which
backend serves it only by name. Whether that backend is there is the registry's business.
"""

from __future__ import annotations

import re
from typing import Final

from helixml.errors import DeviceError

__all__ = ["KINDS", "Device"]

# Kinds that nobody serves yet are names all the same: asking for them gives a clear error.
KINDS: Final = (
    *("cpu", "cuda", "wgpu", "metal", "reference", "torch", "jax", "tpu", "npu", "qpu", "bci"),
)
_FORM = re.compile(r"^([a-z_][a-z0-9_]*)(?::([a-z0-9_]+(?::[0-9]+)?))?$")


class Device:
    """Where an array lives: a kind, and an index or place within it.

    >>> Device("cpu") == "cpu", Device("cuda:1").kind, Device("cuda:1").index
    (True, 'cuda', '1')
    """

    __slots__ = ("index", "kind", "name")

    def __init__(self, name: str | Device) -> None:
        text = str(name)
        match = _FORM.match(text)
        if match is None:
            raise DeviceError(f'device: {text!r} is not a device name. Hint: "cpu" or "cuda:0".')
        self.kind: str = match[1]
        self.index: str = match[2] or ""
        self.name: str = text

    def __eq__(self, other: object) -> bool:
        return self.name == (other.name if isinstance(other, Device) else other)

    def __hash__(self) -> int:
        return hash(self.name)

    def __str__(self) -> str:
        return self.name

    def __repr__(self) -> str:
        return f"Device({self.name!r})"
