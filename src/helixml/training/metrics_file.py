"""metrics.jsonl: one JSON object a line, one line a step.

Lines are appended as they come. A killed process may leave the last one torn, or lines beyond the
last checkpoint; `MetricsFile.keep` drops both before a training goes on.
"""

from __future__ import annotations

import json
import math
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from helixml.errors import FileError
from helixml.io import write_bytes

__all__ = ["MetricsFile"]


class MetricsFile:
    """The records of a training in a file.

    Parameters
    ----------
    path : of the file. way_on : what an error tells the user to do once there is space again.
    """

    def __init__(self, path: Path, way_on: str) -> None:
        self.path = path
        self._way_on = way_on
        self._close: Callable[[], Any] | None = None  # once the file is open
        self._number = -1  # what the system calls it: opening it anew takes ten times a line

    def append(self, record: Mapping[str, Any]) -> None:  # Any: what JSON holds
        """Write one line.

        Raises
        ------
        FileError : the disk is full or the folder not writable.
        """
        line = json.dumps(record).encode() + b"\n"
        try:
            if self._close is None:
                self._number = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
                self._close = weakref.finalize(self, os.close, self._number)
            while line:  # a disk that is nearly full takes a part
                line = line[os.write(self._number, line) :]
        except OSError as error:
            raise FileError(
                f"write: {self.path}: {error.strerror}. Hint: free some space, then {self._way_on}."
            ) from error

    def keep(self, last: int) -> list[dict[str, Any]]:  # Any: what JSON holds
        """Drop every line beyond step ``last`` and a torn one; return the records that stay."""
        if self._close is not None:
            self._close()
            self._close = None
        if not self.path.exists():
            return []
        lines = self.path.read_bytes().splitlines(True)
        kept = [line for line in lines if _step(line) <= last]
        write_bytes(self.path, b"".join(kept))
        return [json.loads(line) for line in kept]


def _step(line: bytes) -> float:
    """Return the step of a line of metrics.jsonl; infinity if the line is torn."""
    try:
        return float(json.loads(line)["step"]) if line.endswith(b"\n") else math.inf
    except (ValueError, KeyError, TypeError):
        return math.inf
