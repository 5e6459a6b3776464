"""What does a captured training step of a Mamba language model take, beside the step itself?

On a GPU the captured step is a few graphs of CUDA. Both have the same bits, which is checked. They
take turns in one process; a round ends when the device has done all of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import helixml as hx
from bench.turns import Figure
from helixml.backends import registry

SIZES = ((2, 128, 4, 128), (4, 256, 8, 512), (12, 512, 8, 512))  # layers, width, sequences, bytes
LEAST = 4  # calls of a kind, until it is replayed


def run(*, quick: bool = False) -> list[Figure]:
    """Time both steps of each size that the device has room for."""
    is_cpu = str(registry.default().device) == "cpu"
    sizes = SIZES[:1] if quick or is_cpu else SIZES
    rounds, steps = (3, 5) if quick else (7, 20)
    return [_figure(*size, rounds, steps) for size in sizes]


def _figure(layers: int, width: int, b: int, l: int, rounds: int, steps: int) -> Figure:
    plain, captured = _step(layers, width, b, l), hx.capture(_step(layers, width, b, l))
    for _ in range(LEAST):
        if plain().item() != captured().item():
            raise AssertionError("a captured step has other losses than the step itself")
    if not captured.replays:
        raise AssertionError(f"the step was not captured: {captured.reason}")
    times: tuple[list[float], list[float]] = [], []
    for _ in range(rounds):
        for step, found in zip((captured, plain), times, strict=True):
            found.append(_milliseconds(step, steps))
    what = f"step of MambaLM({width}), {layers} layers, {b} x {l} bytes, captured"
    return Figure.of_rounds(what, "the step itself", *times)


def _step(layers: int, width: int, b: int, l: int) -> Callable[[], hx.Tensor]:
    config = hx.models.MambaConfig(hidden_size=width, num_hidden_layers=layers)
    model = hx.models.MambaLM(config, rng=hx.random.Rng(0))
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-3)
    ids = hx.random.Rng(1).integers(0, 256, (b, l + 1))

    def step() -> hx.Tensor:
        loss = hx.cross_entropy(model(ids[:, :-1]), ids[:, 1:])
        loss.backward()
        hx.optim.clip_grad_norm(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def _milliseconds(step: Callable[[], object], steps: int) -> float:
    registry.default().synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    registry.default().synchronize()
    return (time.perf_counter() - start) / steps * 1e3
