"""Normalisation, softmax and loss over rows: how fast beside PyTorch?"""

from __future__ import annotations

import numpy as np

from bench.turns import Case, normal

PEER = "PyTorch"


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; quick ones have a sixteenth of the rows."""
    n = 256 if quick else 4096
    x, w = (n, 1024), (1024,)
    found = []
    for name, shapes in {"rms_norm": (x, w), "layer_norm": (x, w, w), "softmax": (x,)}.items():
        for backward, words in ((False, "forward"), (True, "forward and backward")):
            what = f"{name} {n}x1024, {words}"
            # x and y; with the gradient also x or y again, g and the gradient of x
            passes = 5 if backward else 2
            found.append(Case(what, name, normal(*shapes), {"backward": backward}, passes=passes))
    what = f"add, rms_norm {n}x1024, forward"
    found.append(Case(what, "add_rms_norm", normal(x, x, w), {"backward": False}, passes=4))
    for rows, classes in ((n, 256), (n // 4, 4096)):
        for backward, words in ((False, "forward"), (True, "forward and backward")):
            what = f"cross_entropy {rows}x{classes}, {words}"
            found.append(
                Case(
                    what,
                    "cross_entropy",
                    _classified(rows, classes),
                    {"backward": backward},
                    passes=2 if backward else 1,  # the logits, and their gradient
                )
            )
    return found


def _classified(rows: int, classes: int):
    def make(rng: np.random.Generator) -> list[np.ndarray]:
        return [*normal((rows, classes))(rng), rng.integers(classes, size=rows)]

    return make
