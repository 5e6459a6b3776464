"""A training step of a Mamba language model: how fast beside a Transformer of equal size?

Both have 1.8 million parameters (the Transformer's positions apart), read the same bytes and end
with a step of AdamW. What must agree is the number of parameters and the loss before training.
"""

from __future__ import annotations

from bench.turns import Case

PEER = "PyTorch"
SIZES = ((8, 512), (2, 2048), (1, 8192))
QUICK_SIZES = ((1, 128), (1, 512))


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases, from short windows to long ones."""
    return [
        Case(
            f"training step, {batch} x {length} bytes, against a Transformer",
            "training_step",
            lambda rng, size=(batch, length + 1): [rng.integers(256, size=size)],
            # Both predict nearly evenly: ln 256 and half the variance of the logits.
            tolerance=0.02,
        )
        for batch, length in (QUICK_SIZES if quick else SIZES)
    ]
