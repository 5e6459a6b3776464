"""Ctrl-C and SIGTERM as a wish to stop, so that a run can save a checkpoint first.

Inside ``with Interrupt() as interrupt`` the first signal only sets ``interrupt.signal``; the loop
looks at it between two steps. A second Ctrl-C raises KeyboardInterrupt at once.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Final

__all__ = ["Interrupt"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Catch the signals that ask a process to stop.

    Outside the main thread, where Python allows no handlers, it never reports a signal.

    Attributes
    ----------
    signal : number of the signal that came, 0 before.
    """

    def __init__(self) -> None:
        self.signal = 0
        self._previous: dict[int, Any] = {}  # Any: what signal.signal takes and gives

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def __bool__(self) -> bool:
        return self.signal != 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.signal and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or number
