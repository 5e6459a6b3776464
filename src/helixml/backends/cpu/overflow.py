"""NumPy's functions without their warnings of floats.

What overflows is inf, and what has no value nan: that says it, as it does on every other device and
in kernels. Gradients of a scaled loss go beyond float16 on purpose, and `optim.GradScaler` looks
for it. A warning would be noise that names a line of this library, and an error under ``-W error``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

__all__ = ["quiet"]


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function; it warns of integers only."""

    def call(*operands: Any) -> Any:  # Any: arrays, and what else a caller may hand on
        dtype = getattr(operands[0], "dtype", None)
        if dtype is None or dtype.kind in "biu":
            return function(*operands)
        with np.errstate(all="ignore"):
            return function(*operands)

    return call
