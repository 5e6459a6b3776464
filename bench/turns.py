"""Take turns: the same computation in two processes, round by round, and the ratio of their times.

Both workers live as long as the question is asked. While one works the other waits in a read of
its pipe. Before the first round they must have computed the same numbers. A round is the median of
several repetitions after a warm-up; what is reported is the median of the rounds' ratios.
This file knows neither helixml nor a peer; `bench.worker` is what runs in the processes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
DEVICE = (
    "BENCH_DEVICE"  # in the environment of workers: where both sides compute, if not on the CPU
)
ROUNDS, QUICK_ROUNDS = 5, 3
ROUND_SECONDS, QUICK_SECONDS = 0.4, 0.05
LEAST_REPEATS, MOST_REPEATS = 3, 100


class WorkerError(Exception):
    """A worker could not do what it was asked, or the two disagree."""


@dataclass(frozen=True)
class Case:
    """One computation.

    Attributes
    ----------
    what : the table's words for it.
    name : the function's name in ``ours/QUESTION.py`` and ``peers/QUESTION.py``.
    inputs : makes the operands; both sides draw the same.
    options : keyword arguments of the function.
    tolerance : greatest error between the results, as a share of the largest element. 1e-5 is
        84 eps; the rounding of the longest sums here, 2^14 terms, walks about 2^7 half eps.
    count : how often the computation is done in what the table speaks of.
    passes : how often at least the largest operand's bytes are read or written, 0 if memory is not
        what takes the time; the table then gives the bandwidth reached.
    """

    what: str
    name: str
    inputs: Callable[[np.random.Generator], Sequence[np.ndarray]]
    options: Mapping[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-5
    count: int = 1
    passes: int = 0


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes
    ----------
    what, against : what was measured, and beside what.
    ours, other : medians, in ``unit``; ``other`` is None for what stands alone.
    ratios : other / ours of each round; above 1 helixml is faster.
    bandwidth : GB/s that helixml reaches at least, where that was asked for.
    """

    what: str
    ours: float
    against: str = ""
    other: float | None = None
    ratios: tuple[float, ...] = ()
    unit: str = "ms"
    bandwidth: float | None = None

    @property
    def ratio(self) -> float:
        """The median of the rounds' ratios."""
        return statistics.median(self.ratios)

    @classmethod
    def of_rounds(
        cls,
        what: str,
        against: str,
        ours: Sequence[float],
        others: Sequence[float],
        unit: str = "ms",
    ) -> Self:
        """Summarise rounds in which both were measured."""
        ratios = tuple(other / own for own, other in zip(ours, others, strict=True))
        medians = statistics.median(ours), statistics.median(others)
        return cls(what, medians[0], against, medians[1], ratios, unit)


def normal(*shapes: tuple[int, ...]) -> Callable[[np.random.Generator], list[np.ndarray]]:
    """Return a maker of float32 arrays of these shapes."""
    return lambda rng: [rng.standard_normal(shape, np.float32) for shape in shapes]


def cotangent(shape: tuple[int, ...], dtype: str | np.dtype) -> np.ndarray:
    """Return what every side begins a backward pass with; 1 for a loss, as ``backward()`` does."""
    if shape == ():
        return np.ones(shape, dtype)
    g = np.random.default_rng(0).standard_normal(shape, np.float32)
    return np.asarray(g, dtype)


class Worker:
    """A process that answers one line of JSON with another.

    Parameters
    ----------
    python : the interpreter.
    modules : the question and, for a comparison, the side that answers it.
    environment : variables added to this process's own.
    """

    def __init__(self, python: Path | str, *modules: str, **environment: str) -> None:
        self.name = modules[-1]
        self._process = subprocess.Popen(
            [str(python), "-m", "bench.worker", *modules],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, what: str, **details: object) -> Any:
        """Have the worker do something and return its answer.

        Raises
        ------
        WorkerError : it failed; the message is the worker's.
        """
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"do": what, **details}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise WorkerError(f"{self.name}: ended with exit code {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(f"{self.name}: {answer['error']}")
        return answer["result"]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its input is the worker's end


def compare(
    case: Case, number: int, workers: tuple[Worker, Worker], against: str, *, quick: bool
) -> Figure:
    """Let both workers do the case by turns.

    Parameters
    ----------
    number : the case's place in the question's list.
    workers : helixml's and the peer's.
    against : what the table calls the peer.

    Raises
    ------
    WorkerError : a side failed, or the results differ by more than the case allows.
    """
    error = greatest_error(*results(number, workers, quick=quick))
    if not error <= case.tolerance:
        raise WorkerError(f"{case.what}: results differ by {error:.2g} (allowed {case.tolerance})")
    seconds = QUICK_SECONDS if quick else ROUND_SECONDS
    repeats = [_repeats(worker.ask("measure", repeats=1), seconds, quick) for worker in workers]
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for worker, repeat, kept in zip(workers, repeats, times, strict=True):
            kept.append(worker.ask("measure", repeats=repeat) * case.count)
    figure = Figure.of_rounds(case.what, against, *times)
    if case.passes:
        operands = case.inputs(np.random.default_rng(number))
        moved = case.passes * max(x.nbytes for x in operands)
        figure = replace(figure, bandwidth=moved / figure.ours / 1e6)
    return figure


def results(
    number: int, workers: Sequence[Worker], *, quick: bool, dtype: str | None = None
) -> list[list[np.ndarray]]:
    """Have workers compute a case once and return what each found; ``dtype`` widens operands."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "results.npz")
        for worker in workers:
            worker.ask("begin", number=number, quick=quick, file=str(file), dtype=dtype)
            with np.load(file) as arrays:
                found.append(list(arrays.values()))
    return found


def greatest_error(ours: Sequence[np.ndarray], peer: Sequence[np.ndarray]) -> float:
    """Return the greatest difference of two sides' arrays, over the largest element of each."""
    if [own.shape for own in ours] != [other.shape for other in peer]:
        return float("inf")
    return max(float(_error(own, other)) for own, other in zip(ours, peer, strict=True))


def _error(own: np.ndarray, other: np.ndarray) -> Any:
    return np.max(np.abs(own - other)) / max(np.max(np.abs(other)), np.finfo(np.float32).tiny)


def _repeats(milliseconds: float, seconds: float, quick: bool) -> int:
    least = 1 if quick else LEAST_REPEATS
    return min(max(int(seconds * 1e3 / max(milliseconds, 1e-3)), least), MOST_REPEATS)
