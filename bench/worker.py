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
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from bench.memory import most_resident, resident
from bench.turns import DEVICE

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
        self.wait = waiter()
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
        np.savez(file, *map(host, self.call()))

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
        run, wait = self.run, self.wait
        wait()
        start = time.perf_counter()
        results = run()
        wait()
        self.last = time.perf_counter() - start
        return results


def host(result: Any) -> np.ndarray:
    """Return a tensor of either library, or a number, as an array."""
    if hasattr(result, "detach"):
        result = result.detach()  # tensors let go of their graph before they become arrays
        result = result.cpu().numpy() if hasattr(result, "cpu") else result.numpy()
    return np.asarray(result)


def waiter() -> Callable[[], object]:
    """Return what waits for the device that the libraries here compute on; nothing on a CPU."""
    device = os.environ.get(DEVICE)
    if device and "helixml" in sys.modules:
        from helixml.backends import registry

        return registry.get(device).synchronize
    if device and "torch" in sys.modules:
        torch = sys.modules["torch"]
        if torch.get_default_device().type != "cpu":
            return torch.accelerator.synchronize
    return lambda: None


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
