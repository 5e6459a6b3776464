"""The backend's functions of single elements, compiled; they are in map.c.

Each takes arrays of float32 or float64 in C order; the shape of one of two arrays may be the end of
the other's. All else it leaves to NumPy's function, and every call where the settings want no
kernels. None warns of floats: see `overflow`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helixml.backends.cpu.kernels._elementwise import of_one, of_two
from helixml.backends.cpu.kernels.layout import Array
from helixml.backends.cpu.overflow import quiet

_OF_ONE = {
    "abs": "absolute",
    "exp": "exp",
    "expm1": "expm1",
    "log": "log",
    "log1p": "log1p",
    "negative": "negative",
    "sqrt": "sqrt",
    "square": "square",
    "tanh": "tanh",
}
SMALL_EXP = 64  # complex numbers up to which one call of NumPy costs less than seven
_OF_TWO = ("add", "subtract", "multiply", "divide", "maximum", "minimum")


def functions() -> dict[str, Callable[..., Array]]:
    """Return the functions that NumPy has too, under the backend's names."""
    found: dict[str, Callable[..., Array]] = {}
    for name, kernel in _OF_ONE.items():
        found[name] = of_one(kernel, quiet(getattr(np, kernel)))
    for name in _OF_TWO:
        found[name] = of_two(name, quiet(getattr(np, name)))
    exp = quiet(np.exp)
    real = found["exp"]
    found["exp"] = of_one("exp", lambda x: _exp(x, real, exp), exp)
    return found


def _exp(x: Array, real: Callable[..., Array], otherwise: Callable[..., Any]) -> Any:
    """Return exp(x) of what is not real: of complex64, by its parts unless one is at an edge.

    NumPy has no vectors for complex numbers, and for cosines of float32 only.
    """
    if x.dtype.char != "F" or x.size < SMALL_EXP:
        return otherwise(x)
    angle = np.ascontiguousarray(x.imag)
    with np.errstate(all="ignore"):
        size = real(np.ascontiguousarray(x.real))
        y = np.empty(x.shape, x.dtype)
        np.multiply(size, np.cos(angle), out=y.real)
        np.multiply(size, np.sin(angle), out=y.imag)
    # A sum is finite only if all terms are; a size beyond the largest may have small parts.
    return y if np.isfinite(np.sum(y)) else otherwise(x)


def extended(name: str, otherwise: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """Return a function that NumPy lacks; ``otherwise`` is for calls that no kernel takes."""

    def other(x: Array) -> Any:
        if x.dtype.char not in "fd":
            return otherwise(x)
        native = x.dtype.newbyteorder("=")
        return compiled(np.require(x, native, ["C", "A", "E"]))

    compiled = of_one(name, other, otherwise)
    return compiled
