"""Convolution with filters as long as the sequence: how fast, and how exact, beside PyTorch's FFTs?

Each line of times is followed by one of errors: the greatest, against the same computation in
float64, of the results and gradients, in eps of the largest element of each.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bench.accuracy import in_eps_of_largest
from bench.turns import Case, Figure, Worker, compare, normal, results

PEER = "PyTorch"
SHAPES = [(4, 256, 1024), (4, 256, 4096), (4, 256, 16384), (2, 64, 65536), (1, 64, 1048576)]
QUICK_SHAPES = [(2, 8, 1024), (1, 2, 65536)]


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; quick ones have fewer channels."""
    return [
        Case(f"fft_conv {b}x{d}x{l}, {words}", "fft_conv", normal((b, d, l), (d, l)), options)
        for b, d, l in (QUICK_SHAPES if quick else SHAPES)
        for options, words in (
            ({"backward": False}, "forward"),
            ({"backward": True}, "forward and backward"),
        )
    ]


def figures(
    case: Case, number: int, workers: tuple[Worker, Worker], against: str, *, quick: bool
) -> Iterator[Figure]:
    """Yield the times of both sides, then their errors."""
    yield compare(case, number, workers, against, quick=quick)
    ours, peer = results(number, workers, quick=quick)
    exact = results(number, workers[1:], quick=quick, dtype="float64")[0]
    own, other = (_greatest_error(found, exact) for found in (ours, peer))
    yield Figure(f"{case.what}: error", own, against, other, (other / own,), "eps")


def _greatest_error(found: list[np.ndarray], exact: list[np.ndarray]) -> float:
    return max(in_eps_of_largest(x, true) for x, true in zip(found, exact, strict=True))
