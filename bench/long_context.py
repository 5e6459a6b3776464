"""A million bytes at once: what does training on them take, and does generation slow down after?

Each part is a process of its own: the peak of its resident set less that after the import, with the
byte language model of 1.8 million parameters. Training reads one sequence in pieces and has its
exact gradient, AdamW's step included; generation is timed after the first thousand bytes and after
all of them, from the state that each leaves.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time

import helixml as hx
from bench.memory import most_resident, resident
from bench.turns import ROOT, Figure

LENGTH, QUICK_LENGTH = 1_048_576, 32_768
CHUNK = 16_384
EARLY = 1_000
ROUNDS, TOKENS = 10, 50


def run(*, quick: bool = False) -> list[Figure]:
    """Train on one long sequence; then generate after it."""
    length = QUICK_LENGTH if quick else LENGTH
    seconds, peak = _answer_of("train", length)
    figures = [
        Figure(f"training on one sequence of {length:,} bytes: time", seconds, unit="s"),
        Figure(f"training on one sequence of {length:,} bytes: peak", peak, unit="MiB"),
    ]
    early, late, early_state, late_state = _answer_of("generate", length)
    figures.append(
        Figure.of_rounds(
            f"a byte generated after {length:,}", f"after {EARLY:,}", late, early, unit="ms"
        )
    )
    figures.append(
        Figure.of_rounds(
            f"state after {length:,}", f"after {EARLY:,}", [late_state], [early_state], unit="KiB"
        )
    )
    return figures


def _answer_of(part: str, length: int) -> list:
    done = subprocess.run(
        [sys.executable, "-m", "bench.long_context", part, str(length)],
        cwd=ROOT,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=True,
    )
    answer = json.loads(done.stdout)
    assert isinstance(answer, list)
    return answer


def _train(length: int) -> list[float]:
    """Return the seconds of a step and its peak in MiB."""
    start = resident()
    model, ids = _model_and_text(length)
    optimizer = hx.optim.AdamW(model.parameters(), lr=1e-3)
    began = time.perf_counter()
    loss = hx.training.loss_in_chunks(model, ids[:, :-1], ids[:, 1:], chunk=CHUNK)
    loss.backward()
    optimizer.step()
    seconds = time.perf_counter() - began
    return [seconds, (most_resident() - start) / 2**20]


def _generate(length: int) -> list:
    """Return milliseconds a byte, early and late in turns, and the KiB of both states."""
    model, ids = _model_and_text(length)
    states = {}
    with hx.no_grad():
        for end in (EARLY, length):
            state = model.init_state(1)
            for start in range(0, end, CHUNK):
                _, state = model.chunk(ids[:, start : min(end, start + CHUNK)], state)
            states[end] = state
        times: dict[int, list[float]] = {EARLY: [], length: []}
        for _ in range(ROUNDS):
            for end, state in states.items():
                times[end].append(_milliseconds_a_byte(model, state))
    sizes = [_size(states[end]) / 2**10 for end in (EARLY, length)]
    return [times[EARLY], times[length], *sizes]


def _milliseconds_a_byte(model, state) -> float:
    token = hx.tensor([32])
    each = []
    for _ in range(TOKENS):
        began = time.perf_counter()
        logits, state = model.step(token, state)
        token = hx.argmax(logits, axis=-1)
        each.append(time.perf_counter() - began)
    return statistics.median(each) * 1e3


def _model_and_text(length: int):
    rng = hx.random.Rng(0)
    model = hx.models.MambaLM(hx.models.MambaConfig(), rng=rng)
    return model, rng.integers(0, 256, (1, length + 1))


def _size(state) -> int:
    if isinstance(state, hx.Tensor):
        return state.nbytes
    return sum(_size(part) for part in state)


if __name__ == "__main__":
    part, length = sys.argv[1], int(sys.argv[2])
    print(json.dumps((_train if part == "train" else _generate)(length)))
