"""`UnifiedTensor`: one value with copies on several devices, moved when somebody reads.

The protocol is that of caches: a write makes a new version on one device, and the copies on others
are stale until they are read there. Each move is a real transfer, and counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import helixml as hx
from helixml.backends import registry
from helixml.device import Device
from helixml.errors import DeviceError, DTypeError, ShapeError

__all__ = ["UnifiedTensor"]


class UnifiedTensor:
    """One value on several devices.

    Threads may read and write at once: each does it as a whole, one after the other.

    Parameters
    ----------
    value : Tensor, any shape and dtype; it stays where it is, outside of any graph.

    Attributes
    ----------
    moved_bytes : bytes of all transfers so far. moves : how many these were.

    Examples
    --------
    >>> import helixml as hx
    >>> shared = hx.hardware.UnifiedTensor(hx.tensor([1.0, 2.0]))
    >>> shared.read("reference").device, shared.moved_bytes
    (Device('reference'), 8)
    >>> shared.write(hx.tensor([3.0, 4.0]))
    >>> shared.version, shared.stale
    (1, ('reference',))
    >>> shared.read("reference")
    tensor([3., 4.], device='reference')
    """

    def __init__(self, value: hx.Tensor) -> None:
        if not isinstance(value, hx.Tensor):
            raise DTypeError(
                f"UnifiedTensor: takes a Tensor, not {type(value).__name__}. Hint: hx.tensor(x)."
            )
        self._lock = threading.RLock()
        self._shape, self._dtype = value.shape, value.dtype
        self._copies: dict[str, tuple[int, hx.Tensor]] = {}  # device -> version, copy
        self._version = 0
        self.moved_bytes = 0
        self.moves = 0
        self._copies[str(value.device)] = 0, value.detach()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape, of all copies."""
        return self._shape

    @property
    def dtype(self) -> Any:  # Any: a NumPy dtype
        """The dtype of all copies."""
        return self._dtype

    @property
    def version(self) -> int:
        """How often it was written."""
        return self._version

    @property
    def devices(self) -> dict[str, int]:
        """The devices that have a copy, each with the version of it."""
        with self._lock:
            return {name: version for name, (version, _) in self._copies.items()}

    @property
    def stale(self) -> tuple[str, ...]:
        """The devices whose copies are older than the value."""
        return tuple(name for name, version in self.devices.items() if version < self._version)

    def is_current(self, device: str | Device) -> bool:
        """Say whether a device has a copy of the latest version."""
        return self.devices.get(str(device), -1) == self._version

    def read(self, device: str | Device | None = None) -> hx.Tensor:
        """Return the value on a device; it is moved there if its copy is missing or stale.

        Parameters
        ----------
        device : where; anywhere that it is already if left out.

        Raises
        ------
        DeviceError : there is no such device.
        """
        with self._lock:
            source = self._current()
            if device is None:
                return source.detach()
            registry.get(device)
            if not self.is_current(device):
                copy = source.to(device)
                self.moved_bytes += self._bytes()
                self.moves += 1
                self._copies[str(device)] = self._version, copy
            return self._copies[str(device)][1].detach()

    def write(self, value: hx.Tensor) -> None:
        """Make ``value`` the value, on its device; all other copies are stale then.

        Raises
        ------
        ShapeError, DTypeError : it has another shape or dtype.
        """
        if not isinstance(value, hx.Tensor) or value.dtype != self._dtype:
            kind = value.dtype if isinstance(value, hx.Tensor) else type(value).__name__
            raise DTypeError(
                f"UnifiedTensor: holds {self._dtype}, got {kind}. Hint: cast with astype()."
            )
        if value.shape != self._shape:
            raise ShapeError(f"UnifiedTensor: the shape is {self._shape}, got {value.shape}.")
        with self._lock:
            self._version += 1
            self._copies[str(value.device)] = self._version, value.detach()

    def update(
        self, function: Callable[[hx.Tensor], hx.Tensor], device: str | Device | None = None
    ) -> None:
        """Write what ``function`` makes of the value on a device; nobody writes in between."""
        with self._lock:
            self.write(function(self.read(device)))

    def drop(self, device: str | Device) -> None:
        """Forget the copy on a device.

        Raises
        ------
        DeviceError : it has none, or it is the only one that is not stale.
        """
        with self._lock:
            name = str(device)
            if name not in self._copies:
                there = ", ".join(self._copies)
                raise DeviceError(f"UnifiedTensor: no copy on {name!r}. Hint: there is {there}.")
            current = [n for n in self._copies if self.is_current(n)]
            if current == [name]:
                raise DeviceError(
                    f"UnifiedTensor: the copy on {name!r} is the only current one. "
                    "Hint: read() it on another device first."
                )
            del self._copies[name]

    def _current(self) -> hx.Tensor:
        """Return a copy of the latest version."""
        return next(copy for version, copy in self._copies.values() if version == self._version)

    def _bytes(self) -> int:
        size: int = self._current().nbytes
        return size

    def __repr__(self) -> str:
        return (
            f"UnifiedTensor(shape={self._shape}, version={self._version}, devices={self.devices})"
        )
