"""Continuing a text greedily: how fast beside transformers?

After a short prompt, one token at a time; and one token after a long prompt, which is read at once.
One model has the shape of mamba-130m, the other that of the byte model. Both sides have the same
weights and must come to the same tokens. Reading all weights is the least that a token costs;
helixml may have stored them in fewer bytes, and the peer then has in float32 what they stand for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from bench.turns import Case

PEER = "PyTorch"
PROMPT, NEW = 8, 16  # tokens
LONG_PROMPT, QUICK_PROMPT = 1024, 128
SIZES = {
    "130M parameters": {"vocab_size": 50280, "hidden_size": 768, "num_hidden_layers": 24},
    "the byte model": {"vocab_size": 256, "hidden_size": 256, "num_hidden_layers": 4},
}


def cases(*, quick: bool = False) -> list[Case]:
    """List the cases; quick ones are the byte model's."""
    models = list(SIZES.items())[quick:]
    found = [
        _case(f"{NEW} tokens, {name}, {stored or 'float32'}", sizes, stored, PROMPT, NEW)
        for name, sizes in models
        for stored in (None, "bfloat16", "int8")
    ]
    prompt = QUICK_PROMPT if quick else LONG_PROMPT
    name, sizes = models[0]
    return [*found, _case(f"a token after {prompt:,}, {name}, float32", sizes, None, prompt, 1)]


def _case(what: str, sizes: Mapping[str, int], stored: str | None, prompt: int, new: int) -> Case:
    return Case(
        what,
        "continuation",
        lambda rng: [rng.integers(sizes["vocab_size"], size=(1, prompt))],
        {"sizes": sizes, "stored": stored, "new": new},
    )


def weights(shapes: Mapping[str, tuple[int, ...]], stored: str | None) -> dict[str, np.ndarray]:
    """Make both sides' weights, by the names of Hugging Face's Mamba; matrices as if stored."""
    rng = np.random.default_rng(0)
    found = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("A_log"):
            x = np.log(np.broadcast_to(np.arange(1, shape[1] + 1), shape))
        elif name.endswith("dt_proj.bias"):
            x = np.full(shape, -4.0)  # steps of about 0.02
        elif len(shape) == 1:
            x = np.ones(shape)
        else:
            x = rng.standard_normal(shape, np.float32) / math.sqrt(math.prod(shape[1:]))
            x = _rounded(x, stored) if len(shape) == 2 else x
        found[name] = np.ascontiguousarray(x, np.float32)
    return found


def _rounded(x: np.ndarray, stored: str | None) -> np.ndarray:
    """Return what a matrix stands for once it is stored."""
    if stored == "bfloat16":
        return ((x.astype(np.float32).view(np.uint32) + 0x8000) & 0xFFFF0000).view(np.float32)
    if stored == "int8":
        scale = abs(x).max(axis=1, keepdims=True) / 127
        return np.rint(x / scale) * scale
    return x
