"""How long is the main job, and how much of it would its matrix products alone take in NumPy?

What must agree is the number of multiply-adds, counted from the model's weights on one side and
from the sizes of the products on the other.
"""

from __future__ import annotations

import numpy as np

from bench.turns import Case

PEER = "NumPy"
BATCH, LENGTH, STEPS = 4, 512, 4_000_000 // (4 * 512)


def cases(*, quick: bool = False) -> list[Case]:
    """List the one case: every step of the preset ``small``, or ten of them if quick."""
    steps = 10 if quick else STEPS
    return [
        Case(
            f"main job, {steps:,} steps, against their matrix products",
            "training_step",
            lambda rng: [np.array([BATCH, LENGTH])],
            tolerance=1e-9,
            count=steps,
        )
    ]
