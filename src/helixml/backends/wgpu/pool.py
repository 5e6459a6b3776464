"""Device memory in whole buffers of a few sizes, used again as soon as nobody looks at them.

A `Storage` is the right to one buffer; when the last array that holds it dies the buffer goes back
to the pool, and the next array of its size class gets it. No wait is needed in between: the queue
runs dispatches in order. Only the host must be careful, see `Runtime.write`.

Buffers are never cut into parts, since two parts of one buffer may not be bound with different
access in one dispatch.
"""

from __future__ import annotations

import threading
from collections import defaultdict, deque
from collections.abc import Container
from typing import Any

__all__ = ["Pool", "Storage", "size_class"]

_LEAST = 256  # bytes


def size_class(size: int) -> int:
    """Return the size of the buffer for ``size`` bytes: 2^k or 3/2 2^k, at least 256.

    >>> [size_class(n) for n in (0, 257, 400, 3000)]
    [256, 384, 512, 3072]
    """
    power = max(_LEAST, 1 << max(size - 1, 0).bit_length())
    between = power // 4 * 3
    return between if between > _LEAST and size <= between else power


class Storage:
    """One buffer of the device while somebody uses it.

    Attributes
    ----------
    gpu : the buffer, as wgpu has it.
    size : its bytes.
    number : another for each buffer of a pool.
    version : how often it was written after it was made.
    """

    __slots__ = ("_pool", "gpu", "number", "size", "version")

    def __init__(self, pool: Pool, gpu: Any, number: int, size: int) -> None:
        self._pool = pool
        self.gpu = gpu
        self.number = number
        self.size = size
        self.version = 0

    def __del__(self) -> None:
        self._pool.give_back(self)


class Pool:
    """Buffers of one device.

    Parameters
    ----------
    create : gives a new buffer of a number of bytes.
    largest : bytes that a buffer may have.

    Examples
    --------
    >>> pool = Pool(bytearray, 1 << 20)
    >>> storage = pool.take(1000)
    >>> del storage
    >>> pool.take(1024).size, pool.told()
    (1024, {'in_use': 0, 'peak': 1024, 'held': 1024})
    """

    def __init__(self, create: Any, largest: int) -> None:  # Any: a function of wgpu's objects
        self._create = create
        self.largest = largest
        # All buffers by number: the garbage collector may finalise a storage and its buffer at
        # once, and must not, since the buffer lives on.
        self._buffers: dict[int, Any] = {}
        self._free: defaultdict[int, list[int]] = defaultdict(list)
        self._returned: deque[tuple[int, int]] = deque()  # sizes and numbers
        self._lock = threading.Lock()
        self._made = 0
        self._in_use = 0
        self._peak = 0
        self._held = 0

    def take(self, size: int, avoided: Container[int] = ()) -> Storage:
        """Return a buffer of ``size`` bytes or more, none of the ``avoided`` numbers.

        It holds whatever was left in it.
        """
        size = min(size_class(size), self.largest)
        with self._lock:
            self._collect()
            free = self._free[size]
            places = range(len(free) - 1, -1, -1)  # what was used last first
            place = next((i for i in places if free[i] not in avoided), None)
            if place is not None:
                return self._given(free.pop(place), size)
        gpu = self._create(size)  # not with the lock held: it may trim
        with self._lock:
            self._made += 1
            self._buffers[self._made] = gpu
            self._held += size
            return self._given(self._made, size)

    def _given(self, number: int, size: int) -> Storage:
        self._in_use += size
        self._peak = max(self._peak, self._in_use)
        return Storage(self, self._buffers[number], number, size)

    def give_back(self, storage: Storage) -> None:
        """Keep the buffer of a storage that nobody uses any more.

        The garbage collector may ask for it anywhere, so it takes no lock.
        """
        self._returned.append((storage.size, storage.number))

    def _collect(self) -> None:
        """Put what was given back where `take` looks for it."""
        while self._returned:
            size, number = self._returned.popleft()
            self._in_use -= size
            self._free[size].append(number)

    def trim(self) -> int:
        """Destroy the buffers that nobody uses; return how many bytes that were."""
        with self._lock:
            self._collect()
            freed = sum(size * len(numbers) for size, numbers in self._free.items())
            buffers = [self._buffers.pop(n) for numbers in self._free.values() for n in numbers]
            self._free.clear()
            self._held -= freed
        for gpu in buffers:
            gpu.destroy()
        return freed

    def told(self) -> dict[str, int]:
        """Return bytes of living arrays, the most of them at once, and bytes of all buffers."""
        with self._lock:
            self._collect()
            return {"in_use": self._in_use, "peak": self._peak, "held": self._held}
