"""What code can say to a capture that records it: see `helixml.autograd.capture`.

`uncaptured` marks a function whose Python runs in every replay, `current` a number that every
replay asks for anew, `expect` one that must be what it was, `prevent` a step that cannot be
replayed; `note_change` says that modules are not what they were. None of them does anything while
nobody records. Knows no tensor: `helixml.autograd.recording` is what listens.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

__all__ = ["current", "note_change", "prevent", "uncaptured"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

active: Any = None  # the `recording.Recorder` that listens to its thread, if there is one
version = 0  # of all modules together: how often an attribute of one was set


def listener() -> Any:  # Any: a Recorder, which this file does not know
    """Return the recorder of this thread if it listens, or None."""
    recorder = active
    if recorder is None or recorder.busy or recorder.thread != threading.get_ident():
        return None
    return recorder


def uncaptured(function: Callable[_P, _R], *, changes: bool = True) -> Callable[_P, _R]:
    """Have a captured step call ``function`` itself, in every replay.

    For what must see numbers or do things in Python: a look at a value, a counter, a print. What
    such a function is given is what it got when the step was recorded, tensors of the step with
    their values of now. It returns Tensors, in tuples, lists and dicts if need be, or None. It may
    read ``grad`` of leaves and write to leaves; one that ``changes`` nothing, as a check that
    raises, may run again before its error is shown.

    Examples
    --------
    >>> import helixml as hx
    >>> seen = []
    >>> note = hx.autograd.uncaptured(lambda loss: seen.append(loss.item()))
    >>> step = hx.capture(lambda x: note((x * x).sum()))
    >>> for i in range(5):
    ...     step(hx.tensor([float(i)]))
    >>> seen, step.replays
    ([0.0, 1.0, 4.0, 9.0, 16.0], 2)
    """

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        recorder = None if active is None else listener()
        if recorder is None:
            return function(*args, **kwargs)
        result: _R = recorder.host(function, args, kwargs, changes)
        return result

    return call


def current(function: Callable[..., Any], *args: Any) -> Any:
    """Return the number ``function(*args)``, which replays of a captured step ask for anew.

    It must reach an op as it is: what is computed from it is a number like any other.
    """
    value = function(*args)
    recorder = None if active is None else listener()
    return value if recorder is None else recorder.number(function, args, value)


def expect(function: Callable[..., Any], *args: Any) -> Any:
    """Return ``function(*args)``; a captured step is replayed only where that is the same.

    Replays ask before they begin, so nothing before in the step may change it.
    """
    value = function(*args)
    recorder = None if active is None else listener()
    if recorder is not None:
        recorder.expect(function, args, value)
    return value


def prevent(reason: str) -> None:
    """Say that the step that is being recorded, if one is, must not be replayed, and why."""
    recorder = None if active is None else listener()
    if recorder is not None:
        recorder.refuse(reason)


def note_gradient(leaf: Any) -> None:
    """Say that ``grad`` of a leaf was set or is looked at."""
    recorder = listener()
    if recorder is not None:
        recorder.gradient(leaf)


def note_change() -> None:
    """Say that an attribute of a module was set: captured steps look again at what they do."""
    global version
    version += 1
