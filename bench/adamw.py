"""A step of AdamW over 100 tensors: how fast beside PyTorch's fused one?"""

from __future__ import annotations

import numpy as np

from bench.turns import Case, normal

PEER = "PyTorch"
TENSORS = 100


def cases(*, quick: bool = False) -> list[Case]:
    """List the one case: 10 million parameters, a hundredth of that if quick."""
    size = 1_000 if quick else 100_000

    def operands(rng: np.random.Generator) -> list[np.ndarray]:
        return normal((TENSORS, size), (TENSORS, size))(rng)

    return [Case(f"AdamW step, {TENSORS} tensors of {size:,}", "adamw", operands)]
