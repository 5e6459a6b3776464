"""The short causal convolution of a Mamba block: how fast beside PyTorch's padded one?"""

from __future__ import annotations

from bench.turns import Case, normal

PEER = "PyTorch"


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; quick ones are shorter."""
    b, d, l, k = 8, 256, 128 if quick else 2048, 4
    found = []
    for activation, more in ((None, ""), ("silu", ", silu")):
        for backward, words in ((False, "forward"), (True, "forward and backward")):
            what = f"causal_conv1d {b}x{d}x{l}, {k} taps{more}, {words}"
            options = {"backward": backward, "activation": activation}
            found.append(Case(what, "causal_conv", normal((b, d, l), (d, k), (d,)), options))
    return found
