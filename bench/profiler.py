"""What does the profiler cost while no block is open, and while one is?

Times are those of the thread's own processor time, so that other processes matter less, and all
work is done by one thread. What a block that is closed leaves behind is measured in two processes
that take turns: one of them had opened a block.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import helixml as hx
from bench.turns import Figure

# Answers each line with the microseconds of a + b, the least of many loops.
_ADDS = """
import sys, time
import helixml as hx

a, b = (hx.tensor([float(n)] * 8, requires_grad=True) for n in (1, 2))
if sys.argv[1] == "after":
    with hx.profiler.profile():
        a + b

def loop():
    start = time.thread_time()
    for _ in range(1000):
        a + b
    return time.thread_time() - start

for line in sys.stdin:
    print(min(loop() for _ in range(int(line))) * 1e3, flush=True)
"""


def run(*, quick: bool = False) -> list[Figure]:
    """Compare ops with and without a block before them, and steps inside and outside of one."""
    hx.set_num_threads(1)
    rounds = 5 if quick else 11
    figures = []
    for first in ("before", "after"):
        times = _adds(first, rounds, 20 if quick else 200)
        what = {"before": "no block, either", "after": "a block before"}[first]
        figures.append(Figure.of_rounds(f"a + b of 8 numbers, {what}", "no block", *times, "us"))

    a, b = (hx.tensor([float(n)] * 8, requires_grad=True) for n in (1, 2))
    inside, outside = _by_turns(lambda: a + b, rounds, 200)
    figures.append(
        Figure.of_rounds("a + b of 8 numbers, in a block", "outside", inside, outside, "us")
    )
    for hidden, batch, length in ((64, 4, 128), (128, 4, 256)):
        step = _training_step(hidden, batch, length)
        inside, outside = _by_turns(step, rounds, 3 if quick else 20)
        times = [[us / 1e3 for us in found] for found in (inside, outside)]
        what = f"step of MambaLM({hidden}), {batch} x {length} bytes, in a block"
        figures.append(Figure.of_rounds(what, "outside", *times))
    return figures


def _adds(first: str, rounds: int, loops: int) -> tuple[list[float], list[float]]:
    """Return microseconds in a process of the ``first`` kind and in one without a block."""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _ADDS, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HELIXML_NUM_THREADS": "1"},
        )
        for kind in (first, "before")
    ]
    times: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for process, found in zip(processes, times, strict=True):
            assert process.stdin and process.stdout
            process.stdin.write(f"{loops}\n")
            process.stdin.flush()
            found.append(float(process.stdout.readline()))
    for process in processes:
        process.communicate()
    return times


def _by_turns(
    call: Callable[[], object], rounds: int, calls: int
) -> tuple[list[float], list[float]]:
    """Return microseconds in a block and outside, medians of ``calls``, round by round."""
    inside, outside = [], []
    for _ in range(calls):
        call()
    for _ in range(rounds):
        outside.append(_median(call, calls))
        with hx.profiler.profile():
            inside.append(_median(call, calls))
    return inside, outside


def _training_step(hidden: int, batch: int, length: int) -> Callable[[], None]:
    config = hx.models.MambaConfig(hidden_size=hidden, num_hidden_layers=2)
    model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-3)
    ids = hx.random.Rng(1).integers(0, 256, (batch, length + 1))

    def step() -> None:
        loss = hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        hx.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()

    return step


def _median(call: Callable[[], object], calls: int) -> float:
    times = []
    for _ in range(calls):
        start = time.thread_time()
        call()
        times.append(time.thread_time() - start)
    return statistics.median(times) * 1e6
