"""Functions of single elements, and gates of two: how fast beside PyTorch?"""

from __future__ import annotations

from bench.turns import Case, normal

PEER = "PyTorch"
SIZES = ((32, 64), (64, 256), (1024, 256), (4096, 256), (4096, 1024))


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; quick ones are smaller."""
    sizes = SIZES[:3] if quick else SIZES
    n, d = sizes[-1]
    found = []
    for backward, words in ((False, "forward"), (True, "forward and backward")):
        for name in ("exp", "tanh", "silu", "gelu"):
            what = f"{name} {n}x{d}, {words}"
            # x and y; with the gradient also x or y again, g and the gradient of x
            passes = 5 if backward else 2
            found.append(Case(what, name, normal((n, d)), {"backward": backward}, passes=passes))
        for name in ("silu_gate", "gelu_gate"):
            for size in sizes:
                what = "{} {}x{}, {}".format(name, *size, words)
                passes = 8 if backward else 3
                operands = normal(size, size)
                found.append(Case(what, name, operands, {"backward": backward}, passes=passes))
    return found
