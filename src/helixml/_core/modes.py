"""Modes: whether operations are recorded, per thread and task.

A mode is a `ContextVar`, so threads and asyncio tasks do not disturb each other, and a new thread
starts with recording on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar, Token
from functools import wraps
from typing import Any, TypeVar

_F = TypeVar("_F", bound=Callable[..., Any])

recording: ContextVar[bool] = ContextVar("helixml_recording", default=True)
again: ContextVar[bool] = ContextVar("helixml_again", default=False)


def is_recording() -> bool:
    """Say whether operations on tensors that require gradients are being recorded."""
    return recording.get()


def is_recomputing() -> bool:
    """Say whether a checkpoint runs its function again, or a reversible block its parts.

    What a function does beside its result, such as counting, belongs to the first run alone.

    >>> import helixml as hx
    >>> seen = []
    >>> def f(x):
    ...     seen.append(hx.autograd.is_recomputing())
    ...     return hx.exp(x)
    >>> x = hx.tensor(1.0, requires_grad=True)
    >>> hx.autograd.checkpoint(f, x).backward()
    >>> seen
    [False, True]
    """
    return again.get()


@contextmanager
def recomputing() -> Iterator[None]:
    """Have `is_recomputing` be true inside the ``with`` block: something is done a second time."""
    token = again.set(True)
    try:
        yield
    finally:
        again.reset(token)


class _RecordingMode:
    """A context manager, reusable and nestable, and a decorator."""

    on: bool

    def __init__(self) -> None:
        self._tokens: list[Token[bool]] = []

    def __enter__(self) -> None:
        self._tokens.append(recording.set(self.on))

    def __exit__(self, *exception: object) -> None:
        recording.reset(self._tokens.pop())

    def __call__(self, function: _F) -> _F:
        """Run ``function`` in this mode, whenever it is called."""
        mode = type(self)

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:  # Any: whatever the function takes
            with mode():
                return function(*args, **kwargs)

        return inside  # type: ignore[return-value]


class no_grad(_RecordingMode):
    """Record nothing: results do not require gradients. A context manager and a decorator.

    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 2.0], requires_grad=True)
    >>> with hx.no_grad():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """

    on = False


class enable_grad(_RecordingMode):
    """Record again inside a `no_grad` block. A context manager and a decorator."""

    on = True
