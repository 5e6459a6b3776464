"""What arrays of the stand-in hold, and the one way by which anything is calculated with them.

`calculate` does all work: now, or later where streams are lazy or captured. Then the function is
run on whatever the arrays hold, only for the shape and dtype of its result, and again when its
time comes. Views are made at once either way: they hold no values of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self  # Any: arguments and results of NumPy's functions

import ml_dtypes
import numpy as np

from helixml.testing.cuemu import execution
from helixml.testing.cuemu.cupy_stand_in.differences import DIFFERENT, check_dtype
from helixml.testing.cuemu.cupy_stand_in.library import launched
from helixml.testing.cuemu.cupy_stand_in.memory_pool import Piece
from helixml.testing.cuemu.cupy_stand_in.names import LACKING
from helixml.testing.cuemu.cupy_stand_in.record import Record
from helixml.testing.cuemu.errors import KernelFaultError

__all__ = [
    "Memory",
    "OutOfMemoryError",
    "calculate",
    "change",
    "poison",
    "refuse_keywords",
    "unwrap",
    "wrap",
]

GUARD = 128  # bytes around the memory of empty() and its kind
_PATTERN = 0x41  # of these: 12.08 in single precision; to a nan or a huge number a kernel could add

_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_WIDENED = {"matmul", "einsum", "clip"}  # NumPy has these for bfloat16 not at all, or as float32


class OutOfMemoryError(MemoryError):
    """The memory pool's limit is reached."""


class Memory:
    """The values of an array: its own memory, or a view of another's.

    Attributes
    ----------
    _record : of the stand-in that it belongs to; an attribute of the class.
    _raw : NumPy's array.
    _owner : whose memory it is; None for one's own.
    """

    _record: Record
    _raw: np.ndarray
    _owner: Memory | None
    _taken: Piece | None
    _room: np.ndarray | None
    __slots__ = ("__weakref__", "_owner", "_raw", "_room", "_taken")

    def _make(self, shape: Any, dtype: Any, order: str) -> None:
        """Take new memory, poisoned, with guards around it."""
        blank = np.broadcast_to(np.zeros((), dtype), shape)
        guard = 0 if execution.current().sanitizer == "address" else GUARD  # it has its own
        room = np.full(blank.nbytes + 2 * guard, _PATTERN, np.uint8)
        raw = poison(room[guard : guard + blank.nbytes].view(blank.dtype))
        self._settle(raw.reshape(blank.shape, order=order), None)  # type: ignore[call-overload]
        self._room = room if guard else None

    @classmethod
    def _of(cls, raw: np.ndarray, owner: Memory | None = None) -> Self:
        array = cls.__new__(cls)
        array._settle(raw, owner)
        return array

    def _settle(self, raw: np.ndarray, owner: Memory | None) -> None:
        check_dtype(raw.dtype)
        self._taken, self._room = None, None
        if owner is None and raw.nbytes:
            stream = self._record.queues.current.ptr
            self._taken = self._record.giving._take(raw.nbytes, stream, OutOfMemoryError)
        self._raw, self._owner = raw, owner

    def _guard(self, where: str) -> Callable[[], None]:
        """Return what raises KernelFaultError if something was written around the memory.

        It holds the memory and not the array, which may be gone when a graph is launched.
        """
        room = self._room if self._owner is None else self._owner._room
        what = f"an array {self._raw.shape} of {self._raw.dtype}"

        def check() -> None:
            if room is None:
                return
            outside = np.flatnonzero(np.concatenate([room[:GUARD], room[-GUARD:]]) != _PATTERN)
            if outside.size:
                side = "before the first" if outside[0] < GUARD else "after the last"
                raise KernelFaultError(
                    f"{where}: bytes {side} of {what} were written. "
                    "Hint: compare the kernel's bounds with the array's shape."
                )

        return check

    def __del__(self) -> None:
        taken = getattr(self, "_taken", None)
        if taken is not None:
            taken.pool._give_back(taken)


def unwrap(x: Any, array_type: type[Memory]) -> Any:
    """Replace arrays by NumPy's, in tuples and lists too; what is NumPy's already is refused."""
    if isinstance(x, array_type):
        return x._raw
    if isinstance(x, np.ndarray):
        raise TypeError(
            f"Unsupported type {type(x)}: a NumPy array where one of the device is needed. "
            "Hint: cupy.asarray() copies it there."
        )
    if isinstance(x, Memory):
        raise TypeError("an array of another stand-in")
    if isinstance(x, (tuple, list)):
        return type(x)(unwrap(item, array_type) for item in x)
    return x


def wrap(raw: Any, array_type: type[Memory], sources: tuple[Any, ...] = ()) -> Any:
    """Make what a function of NumPy returned the stand-in's: scalars become arrays without axes."""
    if isinstance(raw, (np.ndarray, np.generic)):
        return array_type._of(np.asarray(raw), _owner(raw, sources))
    if isinstance(raw, tuple):
        return tuple(wrap(item, array_type, sources) for item in raw)
    if isinstance(raw, list):
        return [wrap(item, array_type, sources) for item in raw]
    return raw


def poison(raw: np.ndarray) -> np.ndarray:
    """Fill with the byte 0xff: nan, or -1."""
    if raw.size:
        raw[...] = np.frombuffer(b"\xff" * raw.dtype.itemsize, raw.dtype)[0]
    return raw


def _owner(raw: Any, sources: tuple[Any, ...]) -> Memory | None:
    """Find the array whose memory a result is a view of."""
    if isinstance(raw, np.ndarray):
        for source in _arrays(sources):
            if raw is source._raw or (
                raw.base is not None and np.may_share_memory(raw, source._raw)
            ):
                return source if source._owner is None else source._owner
    return None


def _arrays(x: Any) -> Iterator[Memory]:
    if isinstance(x, Memory):
        yield x
    elif isinstance(x, (tuple, list)):
        for item in x:
            yield from _arrays(item)


def calculate(
    array_type: type[Memory],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any] | None = None,
    *,
    waits: str = "",
) -> Any:
    """Return what a function of NumPy makes of arrays.

    Parameters
    ----------
    waits : what is counted as the cause if the shape of the result depends on values, which the
        host must wait for; else nothing.
    """
    keywords = dict(keywords or {})
    out = keywords.pop("out", None)
    if isinstance(out, tuple) and len(out) == 1:
        out = out[0]
    raw = unwrap(arguments, array_type)
    raw_keywords = {name: unwrap(value, array_type) for name, value in keywords.items()}
    record, name = array_type._record, function.__name__
    queues = record.queues

    function = DIFFERENT.get(name, function)
    if name in _WIDENED:
        function = _widened(function)

    def run() -> Any:
        with np.errstate(all="ignore"):
            return function(*raw, **raw_keywords)

    if waits:
        queues.wait_for_current(waits)
    result = run()
    if out is not None:
        target = unwrap(out, array_type)
        if not isinstance(target, np.ndarray):
            raise TypeError(f"out= must be an array of the device, not {type(out).__name__}")
        np.broadcast_shapes(np.shape(result), target.shape)
        again = run if queues.deferred else lambda: result
        queues.submit(lambda: np.copyto(target, again(), casting="same_kind"))
        record.library_launches.update(launched(name, raw, [target]))
        return out
    wrapped = wrap(result, array_type, (arguments, tuple(keywords.values())))
    fresh = [(i, x._raw) for i, x in enumerate(_arrays(wrapped)) if x._owner is None]
    record.library_launches.update(launched(name, raw, [x for _, x in fresh]))
    if queues.deferred and fresh and not waits:
        for _, raw_result in fresh:
            poison(raw_result)

        def later() -> None:
            results = list(_raws(run()))
            for number, raw_result in fresh:
                raw_result[...] = results[number]

        queues.submit(later)
    return wrapped


def _widened(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compute in float32 where the widest operands are bfloat16, and round once."""

    def widened(*arguments: Any, **keywords: Any) -> Any:
        kinds = {x.dtype for x in arguments if isinstance(x, np.ndarray)}
        if _BFLOAT16 not in kinds or np.result_type(*kinds) != _BFLOAT16:
            return function(*arguments, **keywords)
        wide = (x.astype(np.float32) if isinstance(x, np.ndarray) else x for x in arguments)
        return function(*wide, **keywords).astype(_BFLOAT16)

    return widened


def refuse_keywords(name: str, keywords: dict[str, Any]) -> None:
    """Raise TypeError for keywords that NumPy's function of the name has and CuPy's lacks."""
    for keyword in keywords.keys() & (LACKING.get(name, frozenset()) | {"where", "initial"}):
        raise TypeError(f"cupy.{name}() got an unexpected keyword argument {keyword!r}")


def _raws(x: Any) -> Iterator[Any]:
    if isinstance(x, (tuple, list)):
        for item in x:
            yield from _raws(item)
    elif isinstance(x, (np.ndarray, np.generic)):
        yield x


def change(
    array_type: type[Memory],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    keywords: dict[str, Any] | None = None,
) -> None:
    """Run a function that changes its first argument; with lazy streams, later."""
    raw = unwrap(arguments, array_type)
    raw_keywords = {name: unwrap(value, array_type) for name, value in (keywords or {}).items()}

    def run() -> None:
        with np.errstate(all="ignore"):
            function(*raw, **raw_keywords)

    record = array_type._record
    record.library_launches.update(launched(function.__name__, raw, [raw[0]]))
    record.queues.submit(run)
