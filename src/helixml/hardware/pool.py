"""`MemoryPool`: tensors of a device that are used again and again, within a budget.

What is given back is kept, and handed out for the next of its shape and dtype. Backends have
allocators of their own below this; a pool adds a budget, counts, and handles that several owners
share.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Any, Self

import helixml as hx
from helixml.backends import registry
from helixml.device import Device
from helixml.errors import BackendError, ValueRangeError
from helixml.hardware.operations import Spec

__all__ = ["MemoryHandle", "MemoryPool", "PoolStatistics"]


@dataclass(frozen=True)
class PoolStatistics:
    """What a pool holds and did.

    Attributes
    ----------
    in_use : bytes of tensors that handles hold. cached : bytes kept for later.
    peak : the most bytes in use at once.
    taken : how many tensors were handed out. reused : how many of them had been used before.
    """

    in_use: int = 0
    cached: int = 0
    peak: int = 0
    taken: int = 0
    reused: int = 0


class MemoryHandle:
    """A tensor of a pool, with a count of its owners; see `MemoryPool.take`."""

    def __init__(self, pool: MemoryPool, tensor: hx.Tensor) -> None:
        self._pool = pool
        self._tensor: hx.Tensor | None = tensor
        self._owners = 1

    @property
    def tensor(self) -> hx.Tensor:
        """The tensor, a leaf to be written in place.

        Raises
        ------
        BackendError : the last owner has released it.
        """
        if self._tensor is None:
            raise BackendError(
                "pool: this handle was released by its last owner. Hint: retain() for each owner."
            )
        return self._tensor

    @property
    def owners(self) -> int:
        """How many owners it has."""
        return self._owners

    def retain(self) -> Self:
        """Count one more owner; each releases it once."""
        with self._pool._lock:
            self.tensor  # noqa: B018  an error if it is released
            self._owners += 1
        return self

    def release(self) -> None:
        """Count one owner less; the last one gives the tensor back to the pool.

        Raises
        ------
        BackendError : there is no owner left.
        """
        with self._pool._lock:
            tensor = self.tensor
            self._owners -= 1
            if not self._owners:
                self._tensor = None
                self._pool._give_back(tensor)

    def __enter__(self) -> hx.Tensor:
        return self.tensor

    def __exit__(self, *_: object) -> None:
        self.release()


class MemoryPool:
    """Tensors of one device, used again.

    Threads may share a pool.

    Parameters
    ----------
    device : where.
    budget : the most bytes that may be in use and kept together; no limit if None.

    Raises
    ------
    DeviceError : there is no such device. ValueRangeError : the budget is negative.

    Notes
    -----
    Values stay values: a tensor that somebody still holds after its handle was released keeps what
    it had, for a write in place by the next owner leaves it with a copy.

    Examples
    --------
    >>> from helixml import hardware
    >>> pool = hardware.MemoryPool("cpu", budget=1 << 20)
    >>> with pool.take((256, 4)) as x:
    ...     y = x.assign_(1.0)
    >>> with pool.take((256, 4)) as x:
    ...     print(pool.statistics)
    PoolStatistics(in_use=4096, cached=0, peak=4096, taken=2, reused=1)
    """

    def __init__(self, device: str | Device = "cpu", *, budget: int | None = None) -> None:
        if budget is not None and budget < 0:
            raise ValueRangeError(f"pool: the budget is {budget} bytes. Hint: 0 or more, or None.")
        registry.get(device)
        self._device = str(device)
        self._budget = budget
        self._lock = threading.RLock()
        # Each with its place in time as key, the oldest first.
        self._kept: OrderedDict[int, tuple[Spec, hx.Tensor]] = OrderedDict()
        self._time = 0
        self._told = PoolStatistics()

    @property
    def statistics(self) -> PoolStatistics:
        """What the pool holds and did so far."""
        return self._told

    def take(self, shape: Any, dtype: Any = "float32") -> MemoryHandle:
        """Return a handle of a tensor; its values are what was left in it, or zeros.

        Parameters
        ----------
        shape, dtype : of the tensor.

        Raises
        ------
        BackendError : with it, tensors in use would be beyond the budget.
        """
        wanted = Spec(shape, dtype)
        with self._lock:
            in_use = self._told.in_use + wanted.nbytes
            if self._budget is not None and in_use > self._budget:
                raise BackendError(
                    f"pool: {wanted} takes {wanted.nbytes:,} bytes, {self._told.in_use:,} of "
                    f"{self._budget:,} are in use. Hint: release some handles, or a larger budget."
                )
            tensor = self._found(wanted)
            told = self._told
            self._told = replace(
                told,
                in_use=in_use,
                peak=max(told.peak, in_use),
                taken=told.taken + 1,
                reused=told.reused + (tensor is not None),
            )
            if tensor is None:
                if self._budget is not None:
                    self.trim(self._budget - in_use)
                tensor = hx.zeros(wanted.shape, dtype=wanted.dtype, device=self._device)
            return MemoryHandle(self, tensor)

    def trim(self, size: int = 0) -> None:
        """Forget what was kept longest, until no more than ``size`` bytes are kept."""
        with self._lock:
            while self._told.cached > size:
                _, (spec, _tensor) = self._kept.popitem(last=False)
                self._told = replace(self._told, cached=self._told.cached - spec.nbytes)

    def _found(self, wanted: Spec) -> hx.Tensor | None:
        """Return the tensor of that kind that was kept last, and keep it no longer."""
        for time in reversed(self._kept):
            spec, tensor = self._kept[time]
            if spec == wanted:
                del self._kept[time]
                self._told = replace(self._told, cached=self._told.cached - spec.nbytes)
                return tensor.detach()  # another object than whoever had it before
        return None

    def _give_back(self, tensor: hx.Tensor) -> None:
        spec = Spec(tensor.shape, tensor.dtype)
        told = self._told
        self._told = replace(
            told, in_use=told.in_use - spec.nbytes, cached=told.cached + spec.nbytes
        )
        self._time += 1
        self._kept[self._time] = spec, tensor
