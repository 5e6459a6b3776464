"""How much memory does training a byte language model take, beside a Transformer of equal size?

The models and steps are those of `transformer`; helixml keeps all activations, or each layer's
input alone, of which it computes the rest again. What is compared is the peak of the resident set
after some steps, less what it was once the libraries were imported: parameters, gradients,
AdamW's averages, activations, and what the allocators keep.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from bench import transformer
from bench.turns import Case, Figure, Worker, WorkerError, greatest_error, results

PEER = "PyTorch"
PEER_ENVIRONMENT: dict[str, str] = {}  # its memory as it comes: kept memory would be counted
STEPS = 3


def cases(*, quick: bool = False) -> list[Case]:
    """List the longest window of `transformer`, in both ways; the thrifty one first.

    A process's peak only grows, so that what takes less must come first.
    """
    (case,) = transformer.cases(quick=quick)[-1:]
    size = case.what.removeprefix("training step, ").removesuffix(", against a Transformer")
    return [
        replace(case, what=f"{size}, activations {way}", options={"recompute": way != "kept"})
        for way in ("computed again", "kept")
    ]


def figures(
    case: Case, number: int, workers: tuple[Worker, Worker], against: str, *, quick: bool
) -> Iterator[Figure]:
    """Take some steps on both sides, and compare the peaks and the times."""
    error = greatest_error(*results(number, workers, quick=quick))
    if not error <= case.tolerance:
        raise WorkerError(f"{case.what}: results differ by {error:.2g} (allowed {case.tolerance})")
    times, peaks = [], []
    for worker in workers:
        times.append([worker.ask("measure", repeats=STEPS)])
        peaks.append([worker.ask("growth") / 2**20])
    yield Figure.of_rounds(f"memory of a step, {case.what}", against, *peaks, unit="MiB")
    yield Figure.of_rounds(f"time of a step, {case.what}", against, *times)
