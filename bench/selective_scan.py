"""The selective scan: how fast beside a PyTorch loop over the time steps?"""

from __future__ import annotations

import numpy as np

from bench.turns import Case

PEER = "PyTorch"


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; quick ones are shorter."""
    b, d, l, n = 2, 512, 64 if quick else 2048, 16

    def operands(rng: np.random.Generator) -> list[np.ndarray]:
        u, delta, rate, into, out, skip = (
            rng.standard_normal(shape, np.float32)
            for shape in ((b, d, l), (b, d, l), (d, n), (b, n, l), (b, n, l), (d,))
        )
        # Positive steps and negative rates, as in a trained layer: the states stay bounded.
        return [u, 0.05 * np.abs(delta), -np.abs(rate), into, out, skip]

    return [
        Case(
            f"selective_scan {b}x{d}x{l}, {n} states, {words}",
            "selective_scan",
            operands,
            {"backward": backward},
        )
        for backward, words in ((False, "forward"), (True, "forward and backward"))
    ]
