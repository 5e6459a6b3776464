"""How kernels are run: in which order, for how long, and under which sanitizer.

Set for a `with` block, by every thread of the process: launches come one after another anyway.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace

from helixml.errors import ValueRangeError

__all__ = ["Execution", "counting", "current", "order", "timeout"]

_ORDERS = ("forward", "reverse", "random")


@dataclass(frozen=True)
class Execution:
    """The settings of a launch.

    Attributes
    ----------
    order : in which threads of a block, and blocks, take their turns.
    seed : of the random order.
    seconds : of the processor's time that a launch may take.
    sanitizer : "", "count", "address" or "thread"; the library of the last two must have been
        loaded before Python.
    """

    order: str = "forward"
    seed: int = 0
    seconds: float = 60.0
    sanitizer: str = ""

    @property
    def order_number(self) -> int:
        """The order as the scheduler knows it."""
        return _ORDERS.index(self.order)


_current = Execution(sanitizer=os.environ.get("CUEMU_SANITIZE", ""))


def current() -> Execution:
    """Return the settings that hold now."""
    return _current


@contextlib.contextmanager
def _set(execution: Execution) -> Iterator[Execution]:
    global _current
    earlier, _current = _current, execution
    try:
        yield execution
    finally:
        _current = earlier


@contextlib.contextmanager
def order(kind: str | tuple[str, int], seed: int = 0) -> Iterator[Execution]:
    """Run kernels with their threads and blocks in another order.

    Parameters
    ----------
    kind : "forward", "reverse" or "random"; or ("random", seed).
    seed : of the random order: the same seed gives the same order.

    Raises
    ------
    ValueRangeError : the order is unknown.

    Examples
    --------
    >>> with order("random", 3) as execution:
    ...     execution.order
    'random'
    """
    if isinstance(kind, tuple):
        kind, seed = kind
    if kind not in _ORDERS:
        raise ValueRangeError(f"cuemu.order: unknown order {kind!r}. Hint: one of {_ORDERS}.")
    with _set(replace(_current, order=kind, seed=seed)) as execution:
        yield execution


@contextlib.contextmanager
def timeout(seconds: float) -> Iterator[Execution]:
    """Let a launch take that many seconds of the processor's time; 60 without this.

    Raises
    ------
    ValueRangeError : the time is not positive.
    """
    if not seconds > 0:
        raise ValueRangeError(f"cuemu.timeout: {seconds} s. Hint: give a positive time.")
    with _set(replace(_current, seconds=seconds)) as execution:
        yield execution


@contextlib.contextmanager
def counting() -> Iterator[Execution]:
    """Count the bytes of global memory that kernels read and write, in their `Statistics`.

    What is counted are loads and stores that the compiler leaves: a value that is kept in a
    register is read once. Kernels are compiled again for this, and run slower. Not counted: local
    and shared memory, constants, and copies of structures of more than 16 bytes.
    """
    with _set(replace(_current, sanitizer="count")) as execution:
        yield execution
