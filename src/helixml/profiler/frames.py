"""Frames, and the modules among them; and when ops and modules report.

Ops report by `helixml._core.observe`. Modules do here, in the same way: while a profile is open,
their methods are replaced by ones that note when they were called.
"""

from __future__ import annotations

import threading
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

from helixml._core import observe
from helixml.nn.module import Module

__all__ = ["Frame", "listen", "stop"]


class Frame(NamedTuple):
    """What ran from ``start`` to ``end`` (nanoseconds) in a thread.

    Attributes
    ----------
    kind : "op", "backward" (the gradient of one call of an op) or "module".
    subject : the `Op`, or the `Module`.
    inputs, outputs : (shape, dtype) of each tensor; whatever else was passed as it is. Of the
        "backward" of a fused op its inputs, and the cotangents.
    attributes : the op's settings; those passed by name.
    node : number of the node that was recorded or differentiated, or None.
    needs : of a "backward", which inputs needed a gradient.
    is_view : whether the result shares the first input's memory.
    error : name of the exception that ended it, or "".
    again : whether it ran to compute anew what a checkpoint did not keep.
    live : bytes of storages held then; see `helixml._core.observe.Log`.
    """

    kind: str
    subject: Any
    thread: int
    start: int
    end: int
    inputs: Any
    attributes: Any
    outputs: Any
    node: int | None
    needs: tuple[bool, ...]
    is_view: bool
    error: str
    again: bool
    live: int


def _methods() -> Iterator[tuple[type, str, Any]]:
    """Yield what a module can be called by: not everything goes through `forward`."""
    yield Module, "__call__", Module.__call__
    classes = Module.__subclasses__()
    known = set(classes)
    for owner in classes:  # grows while it is walked
        below = [c for c in owner.__subclasses__() if c not in known]
        known.update(below)
        classes += below
        for name, value in vars(owner).items():
            public = not name.startswith("_") and name != "forward" and name not in vars(Module)
            if public and isinstance(value, types.FunctionType):
                yield owner, name, value


_lock = threading.Lock()
_log: Any = None  # Any: a `Log`, which is compiled
_listeners = 0
_replaced: list[tuple[type, str, Any]] = []


def listen() -> Any:
    """Return the log that ops report to from now on, until as many calls of `stop`."""
    global _log, _listeners
    with _lock:
        if _log is None:
            _log = observe.Log()
            observe.observe(_log)
            _replaced.extend(_methods())
            for owner, name, function in _replaced:
                setattr(owner, name, observe.noting(_log, function))
        _listeners += 1
        return _log


def stop() -> None:
    """Stop listening; with the last listener everything is as it was."""
    global _log, _listeners
    with _lock:
        _listeners -= 1
        if _listeners:
            return
        observe.leave()
        for owner, name, function in _replaced:
            setattr(owner, name, function)
        _replaced.clear()
        _log = None
