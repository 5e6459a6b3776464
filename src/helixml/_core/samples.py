"""Samples: how an op describes calls of itself to the test harness, without making any array.

A `Sample` is a recipe: shapes, domains, attributes. The harness turns it into arrays of every dtype
and layout, so that adding an op needs no test function. Knows nothing of devices, and of tensors
only what `blank` makes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.tensor import OPS, Tensor

__all__ = [
    "Failure",
    "Input",
    "Sample",
    "blank",
    "booleans",
    "floats",
    "integers",
    "matrix",
    "sample",
]


@dataclass(frozen=True)
class Input:
    """One random input.

    Attributes
    ----------
    kind : "float", "int" or "bool".
    shape : its shape.
    low, high : its values lie in [low, high), for "float" and "int"; of complex numbers the real
        parts, and the imaginary parts in [-1, 1).
    values : exact values instead of random ones, flat. Complex numbers are for complex dtypes only,
        and infinities and nan for real ones.
    distinct : no two values lie close together (for max, sort: a difference quotient needs room).
    """

    kind: str
    shape: tuple[int, ...]
    low: float = -2.0
    high: float = 2.0
    values: tuple[complex, ...] | None = None
    distinct: bool = False


@dataclass(frozen=True)
class Sample:
    """One call: inputs (`Input`, a Python scalar, None, or a list of them) and attributes.

    ``value_only`` says that gradients are not compared with finite differences here (kinks,
    infinities), ``orders`` is the highest order of derivatives compared (2 unless that is too
    costly), ``kinds`` has the kinds of dtypes in which the call makes sense (`dtypes.kind`).
    """

    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    value_only: bool = False
    orders: int = 2
    kinds: str = "buifc"


@dataclass(frozen=True)
class Failure:
    """One call that must fail: what to call, the exception type, a pattern of its message."""

    call: Callable[[], Any]
    error: type[Exception]
    pattern: str


def blank(*shape: int) -> Tensor:
    """Return zeros in the default float: operands of calls that must fail."""
    made: Tensor = OPS.tensor(np.zeros(shape, dtypes.default_float))
    return made


def floats(*shape: int, low: float = -2.0, high: float = 2.0, distinct: bool = False) -> Input:
    """Describe a random float input of ``shape``; of complex numbers where a dtype is complex."""
    return Input("float", shape, low, high, None, distinct)


def integers(*shape: int, low: int = 0, high: int = 3) -> Input:
    """Describe a random integer input of ``shape`` with values in [low, high)."""
    return Input("int", shape, low, high)


def booleans(*shape: int) -> Input:
    """Describe a random boolean input of ``shape``."""
    return Input("bool", shape)


def matrix(rows: Any) -> Input:
    """Describe a float input with just these values, in nested sequences."""
    shape: list[int] = []
    first, flat = rows, rows
    while isinstance(first, (list, tuple)):
        if shape:
            flat = [item for row in flat for item in row]
        shape.append(len(first))
        first = first[0]
    return Input("float", tuple(shape), values=tuple(flat))


def values(*items: complex) -> Input:
    """Describe a one-dimensional float input with just these values."""
    return Input("float", (len(items),), values=items)


def sample(
    *inputs: Any,
    value_only: bool = False,
    orders: int = 2,
    kinds: str = "buifc",
    **attributes: Any,
) -> Sample:
    """Describe a call; a tuple among ``inputs`` stands for a random float input of that shape."""
    made = tuple(floats(*item) if isinstance(item, tuple) else item for item in inputs)
    return Sample(made, attributes, value_only, orders, kinds)


def pairs():
    """Shapes that every two-operand op must take."""
    yield sample((3, 4), (3, 4))
    yield sample((3, 4), (4,))
    yield sample((2, 1, 4), (3, 1))
    yield sample((), (2, 3))
    yield sample((0, 3), (3,))
    yield sample((3,), 1.5)
    yield sample(2, (3,))


def domain(low, high):
    """Return samples of a one-operand op on [low, high)."""

    def samples():
        yield sample(floats(3, 4, low=low, high=high))
        yield sample(floats(low=low, high=high))
        yield sample(floats(0, 3, low=low, high=high))

    return samples
