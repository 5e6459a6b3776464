"""Memory: what devices hold, and what a block of code allocated.

What is in use on a device is its backend's own count. What a block allocates is counted op by op,
and so in the same way on every device: as in `helixml._core.observe`, functions that count stand in
the place of those of ops, and only while a block is open.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from helixml import config
from helixml._core.composed import Fused
from helixml._core.observe import Hooks, owner_of
from helixml._core.op import REGISTRY, Primitive
from helixml._core.tensor import Tensor
from helixml.autograd.structures import flatten
from helixml.backends import registry
from helixml.device import Device
from helixml.hardware.machine import system_memory

__all__ = ["Allocations", "MemoryUse", "allocations", "memory", "on_host"]

_CREATION = ("zeros", "ones", "full", "arange", "eye", "copy")  # of a backend
_HOSTS = ("cpu", "reference", "array_api_strict")  # that compute on the processor of this machine


@dataclass(frozen=True)
class MemoryUse:
    """Bytes of a device; None for what its backend does not tell.

    Attributes
    ----------
    in_use : held by arrays; on the CPU those of 64 KiB and more, in the kernels' cache.
    peak : the most that was in use at once.
    total, free : of the device, or of the machine if that is where it computes.
    """

    device: str
    in_use: int | None
    peak: int | None
    total: int | None
    free: int | None


def memory(device: str | Device | None = None) -> MemoryUse:
    """Return what a device holds, and has left.

    Raises
    ------
    DeviceError : there is no such device.

    Examples
    --------
    >>> from helixml import hardware
    >>> use = hardware.memory("cpu")
    >>> use.total is None or use.total > 0
    True
    """
    name = str(device or config.get().device)
    told = registry.get(name).memory()
    total, free = system_memory() if on_host(name) else (None, None)
    return MemoryUse(
        name,
        told.get("in_use"),
        told.get("peak"),
        told.get("total", total),
        told.get("free", free),
    )


def on_host(device: str | Device) -> bool:
    """Say whether a device's arrays lie in the memory of this machine."""
    return Device(str(device)).kind in _HOSTS


@dataclass
class Allocations:
    """What a block allocated, so far or, when it has ended, in all.

    Attributes
    ----------
    bytes : of all arrays that ops and creation functions made, in any thread; views are none.
    arrays : how many these were.
    held : bytes of those that are alive. peak : the most of these at once.
    in_use : for each device, by how much what it holds by its own count has changed in the block.
    """

    bytes: int = 0
    arrays: int = 0
    held: int = 0
    peak: int = 0
    in_use: dict[str, int] = field(default_factory=dict)


@contextmanager
def allocations(*devices: str) -> Iterator[Allocations]:
    """Count what a block allocates.

    Parameters
    ----------
    devices : on which arrays are made, and whose own counts are compared; the default device if
        left out. Results of ops count on every device.

    Examples
    --------
    >>> import helixml as hx
    >>> with hx.hardware.allocations() as found:
    ...     x = hx.ones((256, 256)) + 1.0
    >>> found.bytes, found.arrays, found.held
    (524288, 2, 262144)
    """
    found = Allocations()
    names = devices or (config.get().device,)
    before = {name: registry.get(name).memory().get("in_use") for name in names}
    books = _Books(found)
    try:
        books.open([registry.get(name) for name in names])
        yield found
    finally:
        books.leave()
        for name, held in before.items():
            after = registry.get(name).memory().get("in_use")
            if held is not None and after is not None:
                found.in_use[name] = after - held


class _Books(Hooks):
    """What stands in the place of ops' and backends' functions, and counts what they return."""

    def __init__(self, found: Allocations) -> None:
        super().__init__()
        self._found = found
        self._known: set[int] = set()  # ids of living arrays that were counted
        self._lock = threading.RLock()  # an array may end while another is counted

    def open(self, backends: list[Any]) -> None:  # Any: backends, whose functions are replaced
        """Have everything counted until `leave`."""
        for op in list(REGISTRY.values()):
            if isinstance(op, Primitive):
                self._enter(op)
        self.watch(self._enter)
        call = Fused.__call__
        self.put(
            Fused,
            "__call__",
            lambda op, *args, **kwargs: self._counted(
                call(op, *args, **kwargs), (*args, *kwargs.values())
            ),
        )
        for backend in backends:
            for name in _CREATION:
                self._enter_backend(backend, name)

    def _enter(self, op: Any) -> None:
        run, run_pair = op.run, op.run_pair

        def counted(inputs: Any, attributes: Any, ready: bool = False) -> Any:
            return self._counted(run(inputs, attributes, ready), inputs)

        self.put(op, "run", counted)
        if op.direct:
            self.put(op, "run_pair", lambda inputs: self._counted(run_pair(inputs), inputs))

    def _enter_backend(self, backend: Any, name: str) -> None:
        function = getattr(backend, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            array = function(*args, **kwargs)
            self._count(array)
            return array

        self.put(backend, name, counted)

    def _counted(self, result: Any, inputs: Any) -> Any:
        """Count the arrays of results that are none of the inputs', and return the result."""
        given = {id(owner_of(x._array)) for x in flatten(tuple(inputs))[0] if isinstance(x, Tensor)}
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, Tensor) and id(owner_of(tensor._array)) not in given:
                self._count(tensor._array)
        return result

    def _count(self, array: Any) -> None:
        owner = owner_of(array)
        size = int(getattr(owner, "nbytes", 0))
        with self._lock:
            if id(owner) in self._known:
                return
            self._known.add(id(owner))
            weakref.finalize(owner, self._gone, id(owner), size).atexit = False
            found = self._found
            found.bytes += size
            found.arrays += 1
            found.held += size
            found.peak = max(found.peak, found.held)

    def _gone(self, key: int, size: int) -> None:
        with self._lock:
            self._known.discard(key)
            self._found.held -= size
