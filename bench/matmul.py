"""Matrix products x @ w.mT, as in a linear layer: how fast beside PyTorch's (MKL)?"""

from __future__ import annotations

from bench.turns import Case, normal

PEER = "PyTorch"
# m x n x k: cubes, layers of language models, and products too small to be worth two threads.
SIZES = (
    (32, 64, 64),
    (1, 768, 768),
    (4, 1024, 1024),
    (256, 3072, 768),
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (4096, 1024, 256),
    (4096, 256, 1024),
)


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; the quick ones are the first five."""
    found = []
    for m, n, k in SIZES[:5] if quick else SIZES:
        inputs = normal((m, k), (n, k))
        found.append(Case(f"matmul {m}x{n}x{k}", "matmul", inputs, {"backward": False}))
    m, n, k = (256, 256, 256) if quick else (4096, 1024, 256)
    inputs = normal((m, k), (n, k))
    what = f"matmul {m}x{n}x{k}, forward and backward"
    return [*found, Case(what, "matmul", inputs, {"backward": True})]
