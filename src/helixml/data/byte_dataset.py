"""Cut text into windows of bytes for training and for measuring.

`ByteDataset` is one long text (several files are read as one) with a training part in front and a
held-out part behind. `TrainingWindows` draws batches from the training part: which bytes make up
the batch of a step depends on the seed and the step's number alone, so a resumed run needs no
other state. `ByteDataset.held_out` goes through the held-out part once, every byte counted.

Works for any array of bytes; knows nothing of models. corpus.py opens the texts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np

import helixml as hx
from helixml.data.corpus import PLAYS_TRAINING_BYTES, open_plays, open_text
from helixml.errors import DataError
from helixml.random import Rng

__all__ = ["ByteDataset", "TrainingWindows"]

NEWLINE: Final = 10


class ByteDataset:
    """A text of bytes, split into a training part and a held-out part behind it.

    Parameters
    ----------
    parts : arrays of uint8, read one after the other as one text; they may be memory-mapped.
    training_bytes : where the held-out part begins; default: after nine tenths.
    name : what to call the text in messages and records.

    Raises
    ------
    DataError : either part of the split would be empty.
    """

    def __init__(
        self, parts: Sequence[np.ndarray], *, training_bytes: int | None = None, name: str = "text"
    ) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in self._parts])
        self.name = name
        self.size = int(self._ends[-1]) if self._parts else 0
        self.training_bytes = self.size * 9 // 10 if training_bytes is None else training_bytes
        if not 0 < self.training_bytes < self.size:
            raise DataError(
                f"{name}: {self.size} bytes cannot be split into {self.training_bytes} for "
                "training and the rest held out. Hint: give a longer text."
            )

    @classmethod
    def plays(cls) -> ByteDataset:
        """Open the plays that come with helixml, with their fixed split."""
        return cls([open_plays()], training_bytes=PLAYS_TRAINING_BYTES, name="plays")

    @classmethod
    def from_files(cls, paths: Sequence[Path]) -> ByteDataset:
        """Open files as one text, the last tenth of it held out."""
        return cls([open_text(path) for path in paths], name=", ".join(map(str, paths)))

    @property
    def held_out_bytes(self) -> int:
        """Number of bytes behind the training part."""
        return self.size - self.training_bytes

    def sha256(self) -> str:
        """Hash the whole text."""
        digest = hashlib.sha256()
        for part in self._parts:
            digest.update(part.data)
        return digest.hexdigest()

    def read(self, start: int, stop: int) -> np.ndarray:
        """Copy the bytes from ``start`` up to ``stop``, across the borders of files.

        Returns
        -------
        ndarray, (stop - start,), uint8.
        """
        pieces = []
        first = int(np.searchsorted(self._ends, start, side="right"))
        for part, end in zip(self._parts[first:], self._ends[first:], strict=True):
            offset = int(end) - len(part)
            pieces.append(part[max(start - offset, 0) : stop - offset])
            if end >= stop:
                break
        return np.concatenate(pieces)

    def held_out(
        self, *, window: int = 1024, batch_size: int = 16
    ) -> Iterator[tuple[hx.Tensor, hx.Tensor]]:
        """Go through the held-out part once, in windows that know nothing of each other.

        The first byte of a window is predicted after a newline, every other after those before it
        in the window. The last batch holds the last window alone if that is shorter.

        Parameters
        ----------
        window : bytes in a window, l.
        batch_size : windows in a batch, b.

        Yields
        ------
        inputs : Tensor, (b, l), int64.
        targets : Tensor, (b, l), int64; all of them together are the held-out part.
        """
        full = self.held_out_bytes // window
        starts = [self.training_bytes + window * i for i in range(full)]
        for first in range(0, full, batch_size):
            group = starts[first : first + batch_size]
            yield _shifted(np.stack([self.read(start, start + window) for start in group]))
        if self.held_out_bytes % window:
            yield _shifted(self.read(self.training_bytes + window * full, self.size)[None])


class TrainingWindows:
    """Batches of windows from the training part, a pure function of the generator and the step.

    The text is laid out in windows of ``context`` bytes, side by side from a random offset, and
    gone through in random order; then again from another offset. So every byte comes up about
    equally often, which teaches more than independent draws do, and no two passes cut alike.

    Parameters
    ----------
    dataset : the text.
    context : bytes in a window, l.
    batch_size : windows in a batch, b.
    rng : the generator that decides offsets and order; it is forked, never advanced.

    Raises
    ------
    DataError : the training part has no window of ``context`` bytes and one more to predict.
    """

    def __init__(self, dataset: ByteDataset, *, context: int, batch_size: int, rng: Rng) -> None:
        room = dataset.training_bytes - 1 - context  # the last place where a window may start
        if room < 0:
            raise DataError(
                f"{dataset.name}: its training part has {dataset.training_bytes} bytes; a context "
                f"of {context} needs {context + 1}. Hint: give a longer text or set a smaller "
                "data.context."
            )
        self._dataset = dataset
        self._context = context
        self._batch_size = batch_size
        self._rng = rng
        # As many windows a pass as fit behind the largest offset, so that all passes are equal.
        self._per_pass = max(1, (room + 1) // context)
        self._offsets = min(context, room - (self._per_pass - 1) * context + 1)
        self._pass = -1
        self._starts = np.empty(0, np.int64)

    def batch(self, step: int) -> tuple[hx.Tensor, hx.Tensor]:
        """Return the batch of ``step``, counted from 0.

        Returns
        -------
        inputs : Tensor, (b, l), int64.
        targets : Tensor, (b, l), int64: the bytes that follow the inputs.
        """
        first = step * self._batch_size
        starts = [self._start(index) for index in range(first, first + self._batch_size)]
        length = self._context + 1
        rows = np.stack([self._dataset.read(start, start + length) for start in starts])
        rows = rows.astype(np.int64)  # (b, l + 1)
        return hx.asarray(rows[:, :-1].copy()), hx.asarray(rows[:, 1:].copy())

    def _start(self, index: int) -> int:
        """Return where the window number ``index``, over all passes, starts."""
        number, place = divmod(index, self._per_pass)
        if number != self._pass:
            rng = self._rng.fork(f"pass {number}")
            offset = int(rng.integers(0, self._offsets, ()).item())
            self._starts = rng.permutation(self._per_pass).numpy() * self._context + offset
            self._pass = number
        return int(self._starts[place])


def _shifted(rows: np.ndarray) -> tuple[hx.Tensor, hx.Tensor]:
    """Return windows (b, l) as inputs that begin with a newline, and as targets."""
    targets = rows.astype(np.int64)
    inputs = np.roll(targets, 1, axis=1)
    inputs[:, 0] = NEWLINE
    return hx.asarray(inputs), hx.asarray(targets)
