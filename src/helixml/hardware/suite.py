"""The operations that a cost model is fitted on, and others that it is tested on.

A row is an op with a maker of its operands for about so many elements. Sizes to fit on are powers
of 4; those to test on lie between them, and have other widths and proportions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import helixml as hx
from helixml.hardware.operations import op_named

__all__ = ["FIT", "ROWS", "TEST", "Point", "Row", "points"]

FIT: Final = tuple(4**k for k in range(2, 12))  # 16 to 4 Mi elements
TEST: Final = (50, 700, 6_000, 45_000, 350_000, 2_800_000)
_STORE: Final = 3 * FIT[-1]  # elements, for the operands of the largest call
_WIDTHS = {"fit": 256, "test": 160}
_Made = tuple[tuple[Any, ...], dict[str, Any]]  # operands, a number among them, and settings


@dataclass(frozen=True)
class Row:
    """An op, and what makes its operands.

    Attributes
    ----------
    op : its name.
    make : of (elements, "fit" or "test", a function from a shape to a tensor) the operands, and
        settings.
    most : elements beyond which nothing is asked of it.
    """

    op: str
    make: Callable[[int, str, Callable[..., hx.Tensor]], _Made]
    most: int = FIT[-1]


@dataclass(frozen=True, eq=False)
class Point:
    """A call that can be timed: the op's name, its operands and its settings."""

    op: str
    operands: tuple[Any, ...]
    attributes: dict[str, Any]

    def call(self) -> Callable[[], Any]:
        """Return the call."""
        op = op_named(self.op)
        grouped = op.grouped(self.operands)
        attributes = self.attributes
        return lambda: op(*grouped, **attributes)


def points(which: str, device: str) -> Iterator[list[Point]]:
    """Yield for each row its points on a device, the smallest first.

    Operands are parts of one array, which are given out in turn: however many points are kept, they
    take no more memory.

    Parameters
    ----------
    which : "fit" or "test".
    """
    rng = hx.random.Rng(0)
    store = rng.uniform((_STORE,), 0.1, 0.9).to(device)
    used = 0

    def fresh(*shape: int, high: int = 0) -> hx.Tensor:
        nonlocal used
        if high:
            return rng.integers(0, high, shape).to(device)
        size = prod(shape)
        used = 0 if used + size > _STORE else used
        used += size
        part: hx.Tensor = store[used - size : used]
        return part.reshape(shape)

    sizes = FIT if which == "fit" else TEST
    for row in ROWS:
        yield [Point(row.op, *row.make(n, which, fresh)) for n in sizes if n <= row.most]


def _vectors(count: int) -> Callable[..., _Made]:
    return lambda n, which, fresh: (tuple(fresh(n) for _ in range(count)), {})


def _rows(n: int, which: str) -> tuple[int, int]:
    """Return a matrix's sizes: rows of one width, or one shorter row."""
    width = min(n, _WIDTHS[which])
    return n // width, width


def _folded(n: int, which: str, fresh: Any) -> _Made:
    return (fresh(*_rows(n, which)),), {"axis": -1}


def _plain_rows(n: int, which: str, fresh: Any) -> _Made:
    return (fresh(*_rows(n, which)),), {}


def _normalised(bias: bool) -> Callable[..., _Made]:
    def make(n: int, which: str, fresh: Any) -> _Made:
        rows, width = _rows(n, which)
        return (fresh(rows, width), *[fresh(width) for _ in range(1 + bias)]), {}

    return make


def _classes(n: int, which: str, fresh: Any) -> _Made:
    rows, width = _rows(n, which)
    return (fresh(rows, width), fresh(rows, high=width)), {}


def _product(n: int, which: str, fresh: Any) -> _Made:
    side = max(2, round(n**0.5))
    if which == "fit":
        return (fresh(side, side), fresh(side, side)), {}
    return (fresh(side // 2, side), fresh(side, 2 * side)), {}


def _linear(n: int, which: str, fresh: Any) -> _Made:
    side = max(2, round(n**0.5))
    rows = side if which == "fit" else 2 * side
    return (fresh(rows, side), fresh(side, side), fresh(side)), {}


def _channels(n: int, which: str) -> tuple[int, int]:
    channels = min(max(1, n // 16), 64 if which == "fit" else 48)
    return channels, max(1, n // channels)


def _short_filter(n: int, which: str, fresh: Any) -> _Made:
    d, length = _channels(n, which)
    return (fresh(1, d, length), fresh(d, 4), fresh(d)), {}


def _long_filter(n: int, which: str, fresh: Any) -> _Made:
    d, length = _channels(n, which)
    return (fresh(1, d, length), fresh(d, length)), {}


def _scanned(n: int, which: str, fresh: Any) -> _Made:
    d, length = _channels(n, which)
    u, delta = (fresh(1, d, length) for _ in range(2))
    b, c = (fresh(1, 16, length) for _ in range(2))
    return (u, delta, -fresh(d, 16), b, c, fresh(d)), {}


def _heads(n: int, which: str, fresh: Any) -> _Made:
    width = 32
    length = max(1, round(n / (4 * width)))
    return tuple(fresh(1, 4, length, width) for _ in range(3)), {"causal": which == "fit"}


def _rows_taken(n: int, which: str, fresh: Any) -> _Made:
    rows, width = _rows(n, which)
    return (fresh(512, width), fresh(rows, high=512)), {"axis": 0}


def _joined(n: int, which: str, fresh: Any) -> _Made:
    rows, width = _rows(n, which)
    return (fresh(rows, width), fresh(rows, width)), {"axis": -1}


ROWS: Final = (
    Row("add", _vectors(2)),
    Row("multiply", _vectors(2)),
    Row("exp", _vectors(1)),
    Row("tanh", _vectors(1)),
    Row("silu", _vectors(1)),
    Row("gelu", _vectors(1)),
    Row("sum", _folded),
    Row("max", _folded),
    Row("softmax", _plain_rows),
    Row("layer_norm", _normalised(True)),
    Row("rms_norm", _normalised(False)),
    Row("cross_entropy", _classes),
    Row("matmul", _product, most=400_000),
    Row("linear", _linear, most=400_000),
    Row("causal_conv1d", _short_filter),
    Row("fft_conv", _long_filter, most=FIT[-2]),
    Row("selective_scan", _scanned, most=FIT[-2]),
    Row("attention", _heads, most=FIT[-4]),
    Row("take", _rows_taken),
    Row("concat", _joined),
)
