"""With which power of the sequence's length does the time of a training step grow?

Forward and backward of one small layer, alone. The exponent is the slope of log time over log
length, fitted by least squares to the least time of several rounds, in which the lengths alternate;
times are those of the thread's own processor time, and all work is done by one thread. Mamba's scan
and Hyena's transforms are fitted from 1,024 to 65,536, attention from 8,192 to 32,768, where its
products outweigh the projections.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

import helixml as hx
from bench.turns import Figure

WIDTH = 8
SHORT = tuple(1024 << n for n in range(7))
LONG = (8192, 16_384, 32_768)


def run(*, quick: bool = False) -> list[Figure]:
    """Fit the exponents of Mamba, Hyena and causal attention."""
    hx.set_num_threads(1)
    rng = hx.random.Rng(0)
    filters = hx.nn.ImplicitFilter(WIDTH, SHORT[-1], hidden=16, rng=rng)
    layers: list[tuple[str, hx.nn.Module, Sequence[int], int]] = [
        ("Mamba", hx.nn.MambaBlock(WIDTH, rng=rng), SHORT, 7),
        ("Hyena", hx.nn.HyenaOperator(WIDTH, SHORT[-1], filters=filters, rng=rng), SHORT, 7),
        ("attention", hx.nn.MultiHeadAttention(WIDTH, 1, rng=rng), LONG, 2),
    ]
    figures = []
    for name, layer, longest, most in layers:
        lengths, rounds = (longest[:-1], 2) if quick else (longest, most)
        times = _least_times(layer, lengths, rounds)
        slope, _ = np.polyfit(np.log(lengths), np.log(times), 1)
        what = f"{name}, {lengths[0]:,} to {lengths[-1]:,} steps"
        figures.append(Figure(f"{what}: exponent", float(slope), unit=""))
        figures.append(Figure(f"{name}, {lengths[-1]:,} steps", times[-1] * 1e3))
    return figures


def _least_times(layer: hx.nn.Module, lengths: Sequence[int], rounds: int) -> list[float]:
    """Return the least seconds of a step at each length."""
    steps = [_step(layer, length) for length in lengths]
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for step, found in zip(steps, times, strict=True):
            start = time.thread_time()
            step()
            found.append(time.thread_time() - start)
    return [min(found) for found in times]


def _step(layer: hx.nn.Module, length: int) -> Callable[[], None]:
    x = hx.random.Rng(length).normal((1, length, WIDTH))

    def step() -> None:
        hx.mean(hx.square(layer(x))).backward()
        for parameter in layer.parameters():
            parameter.grad = None

    return step
