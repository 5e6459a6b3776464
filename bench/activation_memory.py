"""What do checkpoints and reversible blocks save of a step's memory, and what do they cost?

Each way of training is a process of its own, which answers with the processor time of a step; all
take turns. Its memory is the peak of its resident set less that after the import: parameters,
gradients and AdamW's averages are in it, and so is what the C library has not given back.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable

import helixml as hx
from bench.memory import most_resident, resident
from bench.turns import ROOT, Figure

LAYERS, WIDTH, LENGTH, LONGEST = 16, 64, 8192, 262_144


def run(*, quick: bool = False) -> list[Figure]:
    """Train a Mamba model of 16 layers, and 16 reversible blocks, on one long sequence."""
    rounds, length = (3, LENGTH // 4) if quick else (5, LENGTH)
    figures = []
    for what, plain, *others in (
        ("MambaLM", "language model", "language model, recompute=True"),
        ("RevSSM", "blocks", "blocks, checkpoint_sequence", "blocks, reversible"),
    ):
        found = _by_turns([plain, *others], length, rounds)
        peak, times = found[plain]
        figures.append(Figure(f"{what}, {length:,} steps: peak", peak, unit="MiB"))
        for kind in others:
            name = f"{what}, {kind.partition(', ')[2]}"
            own_peak, own_times = found[kind]
            figures.append(
                Figure.of_rounds(f"{name}: peak", "all kept", [own_peak], [peak], unit="MiB")
            )
            figures.append(Figure.of_rounds(f"{name}: time", "all kept", own_times, times))
    figures.append(Figure("RevSSM: gradients' difference, of the largest", _difference(), unit=""))
    if not quick:
        ((peak, times),) = _by_turns(["blocks, reversible"], LONGEST, 1).values()
        what = f"RevSSM, reversible, {LONGEST:,} steps"
        figures.append(Figure(f"{what}: peak", peak, unit="MiB"))
        figures.append(Figure(f"{what}: time", times[0]))
    return figures


def _by_turns(kinds: list[str], length: int, rounds: int) -> dict[str, tuple[float, list[float]]]:
    """Return peak in MiB and milliseconds of each round's step, of each kind."""
    processes = {
        kind: subprocess.Popen(
            [sys.executable, "-m", "bench.activation_memory", kind, str(length)],
            cwd=ROOT,
            env={**os.environ, "HELIXML_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for kind in kinds
    }
    found: dict[str, tuple[float, list[float]]] = {}
    for number in range(rounds):
        for kind, process in processes.items():
            assert process.stdin and process.stdout
            process.stdin.write("\n")
            process.stdin.flush()
            peak, milliseconds = json.loads(process.stdout.readline())
            times = found[kind][1] if number else []
            found[kind] = peak, [*times, milliseconds]
    for process in processes.values():
        process.communicate()
    return found


def _answer(kind: str, length: int) -> None:
    """Make a step for each line of input; print the peak so far and the step's time."""
    start = resident()
    step = _step(kind, length)
    for _ in sys.stdin:
        began = time.thread_time()
        step()
        milliseconds = (time.thread_time() - began) * 1e3
        print(json.dumps([(most_resident() - start) / 2**20, milliseconds]), flush=True)


def _step(kind: str, length: int) -> Callable[[], object]:
    rng = hx.random.Rng(0)
    model: hx.nn.Module
    if kind.startswith("language model"):
        config = hx.models.MambaConfig(hidden_size=WIDTH, num_hidden_layers=LAYERS)
        model = hx.models.MambaLM(config, rng=rng)
        ids = rng.integers(0, 256, (1, length + 1))
        batch, objective = (ids[:, :-1], ids[:, 1:]), _next_byte
    else:
        model = hx.nn.RevSSM(WIDTH, LAYERS, rng=rng)
        batch, objective = rng.normal((1, length, WIDTH)), OBJECTIVES[kind]
    update = hx.training.Update(
        model,
        hx.optim.AdamW(model.parameters(), lr=1e-3),
        objective,
        recompute=kind.endswith("recompute=True"),
    )
    return lambda: update.step([batch])


def _next_byte(model, batch):
    return hx.cross_entropy(model(batch[0]), batch[1])


def _recorded(model, x):
    return hx.mean(hx.square(_in_order(model.blocks, x)))


def _in_order(blocks, x):
    for block in blocks:
        x = block(x)
    return x


OBJECTIVES = {
    "blocks": _recorded,
    "blocks, checkpoint_sequence": lambda model, x: hx.mean(
        hx.square(hx.autograd.checkpoint_sequence(model.blocks, x, every=1))
    ),
    "blocks, reversible": lambda model, x: hx.mean(hx.square(model(x))),
}


def _difference() -> float:
    """Return the greatest difference of the reversible gradient from the recorded one."""
    model = hx.nn.RevSSM(WIDTH, LAYERS, rng=hx.random.Rng(0))
    x = hx.random.Rng(1).normal((1, 512, WIDTH))
    gradients = []
    for kind in ("blocks", "blocks, reversible"):
        OBJECTIVES[kind](model, x).backward()
        gradients.append([parameter.grad for parameter in model.parameters()])
        for parameter in model.parameters():
            parameter.grad = None
    pairs = zip(*gradients, strict=True)
    return max((hx.max(hx.abs(own - other)) / hx.max(hx.abs(other))).item() for other, own in pairs)


if __name__ == "__main__":
    _answer(sys.argv[1], int(sys.argv[2]))
