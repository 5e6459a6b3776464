"""One side of a comparison, or a question alone: ``python -m bench.worker QUESTION [SIDE]``.

Reads one JSON object a line and answers each with one. A side's functions take the case's arrays
and options and return two functions: ``run`` does the work and returns what it computed, and
``reset``, or None, undoes what must not add up, outside of the timing.
"""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import statistics
import sys
import time
from types import ModuleType
from typing import Any

import numpy as np

from bench.memory import most_resident, resident

# Threads of a library that has just worked go on spinning for a while: OpenBLAS's, the longest,
# for 2^26 cycles.
PAUSE = 0.03
SETTLED = 0.2  # seconds; a call longer than this needs no warm-up


class Side:
    """The functions of one side, and the case that is being measured."""

    def __init__(self, question: ModuleType, side: ModuleType) -> None:
        self.question = question
        self.side = side
        self.run: Any = None
        self.reset: Any = None
        self.last = 0.0  # seconds of the last call
        self.imported = resident()

    def begin(self, number: int, quick: bool, file: str, dtype: str | None = None) -> None:
        """Set up a case, its floats in another dtype if given; compute it once, into a file."""
        self.run = self.reset = None  # frees the memory of the case before
        case = self.question.cases(quick=quick)[number]
        arrays = case.inputs(np.random.default_rng(number))
        if dtype is not None:
            arrays = [x.astype(dtype) if x.dtype.kind == "f" else x for x in arrays]
        self.run, self.reset = getattr(self.side, case.name)(*arrays, **case.options)
        # Tensors of either library let go of their graph before they become arrays.
        results = [getattr(result, "detach", lambda r=result: r)() for result in self.call()]
        np.savez(file, *map(np.asarray, results))

    def measure(self, repeats: int) -> float:
        """Return the median time of a call in milliseconds."""
        time.sleep(PAUSE)
        if self.last < SETTLED:
            self.call()
        times = []
        for _ in range(repeats):
            self.call()
            times.append(self.last * 1e3)
        return statistics.median(times)

    def growth(self) -> int:
        """Return the most memory so far, less what the libraries took when imported, in bytes."""
        return most_resident() - self.imported

    def call(self) -> Any:
        """Call once and keep the time."""
        if self.reset:
            self.reset()
        run = self.run
        start = time.perf_counter()
        results = run()
        self.last = time.perf_counter() - start
        return results


class Alone:
    """A question that needs no other side."""

    def __init__(self, question: ModuleType) -> None:
        self.question = question

    def figures(self, quick: bool) -> list[dict[str, object]]:
        """Ask it."""
        return [dataclasses.asdict(figure) for figure in self.question.run(quick=quick)]

    def describe(self) -> dict[str, str]:
        """Ask for the machine."""
        return self.question.describe()


def main(names: list[str]) -> None:
    """Answer until the input ends."""
    # What libraries print must not end up among the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker: Any = None
    for line in sys.stdin:
        message = json.loads(line)
        try:
            if worker is None:
                modules = [importlib.import_module(name) for name in names]
                worker = Side(*modules) if len(modules) == 2 else Alone(*modules)
            answer = {"result": getattr(worker, message.pop("do"))(**message)}
        except Exception as error:  # it is raised again on the other end
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
