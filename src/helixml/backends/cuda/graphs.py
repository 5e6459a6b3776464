"""CUDA graphs: a function whose calls are the same every time, launched at once from then on.

A `DeviceGraph` has a stream capture what the function launches, and does that again in one launch.
The captured kernels know addresses, not arrays. So memory that they take comes from a pool of the
graph's own, which nobody else uses as long as the graph lives; operands that lie elsewhere each
time are copied to one place; and a result lies in the same place each time.

That place is overwritten by the next launch. Whoever still has the result of the last one by then
keeps it: the graph is captured anew, with other memory, and from then on gives away copies of that
result. That somebody has it shows in the counts of references, for every view refers to the array
that it shows. What may take part is asked of `CudaBackend.host_calls`: calls that need the host
(range checks of indices, plans of cuFFT) cannot.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from typing import Any
from weakref import WeakSet

from helixml.errors import BackendError

__all__ = ["DeviceGraph", "graphs"]

Array = Any  # an array of CuPy

_MOST_CAPTURES = 8  # then the function is called as it is
_MOST_MOVES = 3  # of an operand; then it is copied

graphs: WeakSet[DeviceGraph] = WeakSet()  # all that live


class DeviceGraph:
    """Calls ``run`` by one launch for all that it launches; for one thread at a time.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    run : takes and returns arrays of the device, a tuple of them; depends on nothing else that
        changes, writes to none of its operands, and was called before with such operands.
    gpu : where the arrays are.
    moving : places of operands that are to be copied. If another lies elsewhere, the work is
        captured anew; if that happens again and again, it is copied as well.

    Attributes
    ----------
    captures : how often the work was captured.
    reason : why ``run`` is called as it is, "" if it is not.
    """

    def __init__(
        self,
        cp: Any,  # a module
        run: Callable[..., tuple[Array, ...]],
        gpu: Any,
        moving: Collection[int] = (),
    ) -> None:
        self._cp = cp
        self._run = run
        self.gpu = gpu
        self._copied: set[int] = set()  # places of results of which copies are given away
        # Places of operands that are copied, and where the kernels read them.
        self._staged: dict[int, Array] = dict.fromkeys(moving)
        self._moves: Counter[int] = Counter()  # of the others
        self.captures = 0
        self.reason = ""
        self._forget()

    def _forget(self) -> None:
        self._graph: Any = None  # before the memory that it uses
        self._results: tuple[Array, ...] = ()
        self._owners: list[Array] = []  # of the results' memory
        self._counts: list[int] = []  # of references to these, if nobody else has any
        self._addresses: list[int] = []  # of operands
        self._pool: Any = None

    def __call__(self, *operands: Array) -> tuple[Array, ...]:
        """Return what ``run`` does; the next call overwrites what nobody has any more."""
        with self.gpu:
            if not self.reason and (
                self._graph is None or self._has_moved(operands) or self._is_watched()
            ):
                self._capture(operands)
            if self.reason:
                return self._run(*operands)
            for place, buffer in self._staged.items():
                self._cp.copyto(buffer, operands[place])
            self._launch()
            if not self._copied:
                return self._results
            copied = self._copied
            return tuple([x.copy("K") if i in copied else x for i, x in enumerate(self._results)])

    def memory(self) -> tuple[int, int]:
        """Return bytes of arrays in the graph's own pool, and of that pool."""
        pool = self._pool
        return (0, 0) if pool is None else (int(pool.used_bytes()), int(pool.total_bytes()))

    def _has_moved(self, operands: Sequence[Array]) -> bool:
        """Say whether an operand that is not copied lies elsewhere."""
        addresses = [x.data.ptr for x in operands]
        if addresses == self._addresses:
            return False
        found = enumerate(zip(addresses, self._addresses, strict=True))
        moved = {i for i, (now, then) in found if now != then} - self._staged.keys()
        self._moves.update(moved)
        self._staged.update({i: None for i in moved if self._moves[i] == _MOST_MOVES})
        return bool(moved)

    def _is_watched(self) -> bool:
        """Say whether somebody has a result of the last call, and give copies from now on."""
        counts = [*map(sys.getrefcount, self._owners)]
        if counts == self._counts:
            return False
        changed = zip(self._owners, counts, self._counts, strict=True)
        watched = {id(x) for x, now, then in changed if now != then}
        self._copied |= {i for i, x in enumerate(self._results) if id(_owner(x)) in watched}
        return True

    def _capture(self, operands: Sequence[Array]) -> None:
        cp = self._cp
        is_first = not self.captures
        self._forget()
        if self.captures == _MOST_CAPTURES:
            self.reason = "its operands lie elsewhere, or its results are kept, in another way"
            return
        self.captures += 1
        pool, stream = cp.cuda.MemoryPool(), cp.cuda.Stream(non_blocking=True)
        pool.set_limit(cp.get_default_memory_pool().get_limit())
        try:
            with cp.cuda.using_allocator(pool.malloc):
                given = [*operands]
                for place in self._staged:
                    given[place] = self._staged[place] = _twin(cp, operands[place])
                with stream:
                    stream.begin_capture()
                    try:
                        results = self._run(*given)
                    finally:
                        graph = stream.end_capture()
        except Exception as error:  # of CuPy's many classes: the function itself shows what is true
            self.reason = f"{type(error).__name__}: {error}"
            self._staged.clear()
            return
        mine = {id(_owner(x)) for x in given}
        self._owners = [*{id(x): x for x in map(_owner, results) if id(x) not in mine}.values()]
        self._graph, self._results, self._pool = graph, results, pool
        self._addresses = [x.data.ptr for x in operands]
        self._stream = cp.cuda.get_current_stream()
        graphs.add(self)
        del results, given
        self._counts = [*map(sys.getrefcount, self._owners)]
        if is_first:  # what the function took, when it was called as it is
            cp.get_default_memory_pool().free_all_blocks()

    def _launch(self) -> None:
        """Launch the work on the current stream, behind the launch before."""
        stream = self._cp.cuda.get_current_stream()
        if stream.ptr != self._stream.ptr:
            self._stream.synchronize()
            self._stream = stream
        self._graph.launch(stream)


def _owner(x: Array) -> Array:
    """Return the array whose memory ``x`` shows."""
    return x if x.base is None else x.base


def _twin(cp: Any, x: Array) -> Array:
    """Return a copy that lies in memory as ``x`` does, with gaps where ``x`` has some."""
    made = x.copy("K")
    if made.strides == x.strides or not x.size:
        return made
    reach = x.itemsize  # bytes of the axes so far
    for stride, n in sorted(zip(x.strides, x.shape, strict=True)):
        if n > 1 and (stride < reach or stride % x.itemsize):
            raise BackendError("an operand turned round, or whose entries share memory, has moved")
        reach += (n - 1) * max(stride, 0)
    room = cp.empty((reach // x.itemsize,), x.dtype)
    made = cp.lib.stride_tricks.as_strided(room, x.shape, x.strides)
    made[...] = x
    return made
