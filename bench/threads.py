"""What do a second kernel thread, and a second Python thread that trains too, bring or cost?"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import numpy as np

import helixml as hx
from bench.ours.transformer import training_step
from bench.turns import QUICK_ROUNDS, ROUNDS, Figure


def run(*, quick: bool = False) -> list[Figure]:
    """Train with one and two threads, and with two models one after the other and at once."""
    (batch, length), steps = ((1, 128), 1) if quick else ((4, 512), 3)
    count = hx.get_num_threads()
    rng = np.random.default_rng(0)
    windows = rng.integers(256, size=(batch, length + 1))
    models = [training_step(windows)[0] for _ in range(2)]
    for model in models:
        model()

    def train(model: Callable[[], object]) -> None:
        for _ in range(steps):
            model()

    def in_turn() -> None:
        for model in models:
            train(model)

    def at_once() -> None:
        threads = [threading.Thread(target=train, args=(model,)) for model in models]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def one_thread() -> None:
        hx.set_num_threads(1)
        train(models[0])
        hx.set_num_threads(count)

    def two_threads() -> None:
        train(models[0])

    times: dict[Callable[[], None], list[float]] = {
        call: [] for call in (in_turn, at_once, one_thread, two_threads)
    }
    for _ in range(QUICK_ROUNDS if quick else ROUNDS):
        for call, kept in times.items():
            start = time.perf_counter()
            call()
            kept.append((time.perf_counter() - start) * 1e3 / steps)
    what = f"training step, {batch} x {length} bytes"
    return [
        Figure.of_rounds(
            f"{what}, {count} kernel threads",
            "one thread",
            times[two_threads],
            times[one_thread],
        ),
        Figure.of_rounds(
            f"{what}, two at once in Python threads",
            "one by one",
            times[at_once],
            times[in_turn],
        ),
    ]
