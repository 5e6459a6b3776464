"""Integers that the host still knows, so that looking at them need not wait for the device.

An index out of range is an error where it is used, and the values of an array on the device are
known only once everything before it is computed. But most indices come from the host, as tokens
and labels do. So the host keeps a copy of integers that it sent, a mirror, and views, casts and
extremes of the array have mirrors too. `Mirrors.check` reads back what has none, waits, and counts
that it did.

Only the backend may write to arrays that have mirrors; who writes to them with CuPy tells nobody.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["Mirrors"]

Array = Any  # an array of CuPy
Host = np.ndarray[Any, Any]

_MOST = 1 << 22  # entries of an array that is worth a mirror


class HostCalls(threading.local):
    """How many calls of a thread needed the host."""

    count = 0


class Mirrors:
    """What the host knows of living arrays.

    Attributes
    ----------
    calls : counts, by threads, calls that need the host: checks, and what the backend adds.
    waited : how many checks had to wait for the device.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], Host]] = {}
        self.calls = HostCalls()
        self.waited = 0

    def of(self, x: Array) -> Host | None:
        """Return what ``x`` holds, not to be written to; None if the host does not know."""
        found = self._known.get(id(x))
        return None if found is None else found[1]

    def remember(self, x: Array, host: Host) -> None:
        """Note that ``x`` holds what ``host`` does, if these are integers and not too many."""
        if host.dtype.kind in "iu" and host.size <= _MOST:
            self._note(x, host.copy())

    def pass_on(self, x: Array, made: Array, function: Callable[[Host], Any]) -> Array:
        """Return ``made``; note that it holds what ``function`` gives for that of ``x``."""
        if self._known and made is not x:
            known = self._known.get(id(x))
            if known is not None and made.dtype.kind in "iu":
                self._note(made, np.asarray(function(known[1])))
        return made

    def forget(self, x: Array) -> None:
        """Note that ``x`` was written: whatever shares its memory may hold something else now."""
        if x.dtype.kind in "iu":
            self._known.clear()

    def check(self, name: str, indices: Array, size: int) -> None:
        """Raise an IndexError if an index is not in [-size, size)."""
        host = self._read(indices)
        if host.size and (int(host.min()) < -size or int(host.max()) >= size):
            raise IndexError(f"{name}: an index is not in [{-size}, {size}).")

    def check_classes(self, name: str, target: Array, classes: int, ignored: int | None) -> None:
        """Raise an IndexError if a target is neither in [0, classes) nor ``ignored``."""
        host = self._read(target)
        if not host.size or (int(host.min()) >= 0 and int(host.max()) < classes):
            return
        bad = (host < 0) | (host >= classes)
        if ignored is not None:
            bad &= host != ignored
        if bad.any():
            raise IndexError(f"{name}: a target is not in [0, {classes}).")

    def check_powers(self, powers: Array) -> None:
        """Raise a ValueError if one of the integers is negative."""
        host = self._read(powers)
        if host.size and int(host.min()) < 0:
            raise ValueError("integers to a negative power")

    def _read(self, x: Array) -> Host:
        self.calls.count += 1
        host = self.of(x)
        if host is None:
            self.waited += 1
            host = x.get()
            self._note(x, host)
        return host

    def _note(self, x: Array, host: Host) -> None:
        key = id(x)

        def gone(_: object) -> None:
            self._known.pop(key, None)

        self._known[key] = weakref.ref(x, gone), host
