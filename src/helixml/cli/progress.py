"""How far training has come, on stderr: a bar on a terminal, plain lines elsewhere.

Both show the step, the loss in nats, bits per byte, bytes per second and the time left. They are
told of every step, as `training.Reporter` asks, and draw at their own pace.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from helixml.training.run import Metrics

__all__ = ["Bar", "Lines", "Silence", "reporter_for_stderr"]

LINE_SECONDS: Final = 5.0
RATE_STEPS: Final = 20  # bytes per second are a mean over so many steps


class Silence:
    """Says nothing; what the other reporters have in common."""

    def begin(self, folder: Path, done: int, steps: int) -> None:
        """Training starts at step ``done`` of ``steps``."""

    def step(self, metrics: Metrics) -> None:
        """Take note of a step's figures."""

    def note(self, text: str) -> None:
        """Something happened that is worth a line."""

    def close(self) -> None:
        """Leave the terminal to others."""


class Lines(Silence):
    """A line every few seconds, for logs and pipes."""

    def begin(self, folder: Path, done: int, steps: int) -> None:
        """Start the clock."""
        self._steps = steps
        self._recent: deque[Metrics] = deque(maxlen=RATE_STEPS + 1)
        self._printed = time.monotonic()

    def step(self, metrics: Metrics) -> None:
        """Print a line if it is time for one, or all is done."""
        self._recent.append(metrics)
        now = time.monotonic()
        if now - self._printed >= LINE_SECONDS or metrics["step"] == self._steps:
            self._printed = now
            self.note(f"step {metrics['step']}/{self._steps}  {self._figures()}")

    def note(self, text: str) -> None:
        """Print a line."""
        click.echo(text, err=True)

    def _figures(self) -> str:
        """Describe the last step, and the pace of the recent ones."""
        first, last = self._recent[0], self._recent[-1]
        text = f"loss {last['loss']:.3f}  {last['bits_per_byte']:.3f} bits/byte"
        seconds = last["seconds"] - first["seconds"]
        if seconds > 0:
            rate = (last["bytes"] - first["bytes"]) / seconds
            left = seconds / (last["step"] - first["step"]) * (self._steps - last["step"])
            text += f"  {rate:,.0f} bytes/s  {_clock(left)} left"
        if "held_out_bits_per_byte" in last:
            text += f"  held-out {last['held_out_bits_per_byte']:.3f}"
        return text


class Bar(Lines):
    """A progress bar, for people."""

    def __init__(self) -> None:
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}  {task.description}"),
            console=Console(stderr=True),
        )

    def begin(self, folder: Path, done: int, steps: int) -> None:
        """Draw the bar."""
        super().begin(folder, done, steps)
        self._task = self._bar.add_task("", total=steps, completed=done)
        self._bar.start()

    def step(self, metrics: Metrics) -> None:
        """Move the bar; it redraws itself ten times a second."""
        self._recent.append(metrics)
        self._bar.update(self._task, completed=metrics["step"], description=self._figures())

    def note(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


def reporter_for_stderr(*, quiet: bool) -> Silence:
    """Choose the reporter that suits stderr."""
    if quiet:
        return Silence()
    return Bar() if sys.stderr.isatty() else Lines()


def _clock(seconds: float) -> str:
    """Write a time as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
