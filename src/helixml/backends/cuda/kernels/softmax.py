"""Softmax and its logarithm on the device; see softmax.cu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.rows import Array, count_rows, dense, plan
from helixml.backends.cuda.launch import Program
from helixml.backends.dispatch import Kernel


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels, for CuPy's module."""
    pairs = [Softmax(cp, name) for name in ("softmax", "log_softmax")]
    return [
        kernel
        for pair in pairs
        for kernel in (
            Kernel(pair.name, pair.forward, FLOATS, _takes_axis),
            Kernel(f"{pair.name}_vjp", pair.backward, FLOATS, _takes_axis),
        )
    ]


def _takes_axis(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether the axis is one of x, and has entries; errors are left to the definition."""
    x, axis = inputs[0], attributes.get("axis", -1)
    return bool(-x.ndim <= axis < x.ndim and x.shape[axis] > 0)


class Softmax:
    """The kernels ``name`` and that with ``_vjp``; an axis that is not the last is copied."""

    def __init__(self, cp: Any, name: str) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "softmax.cu")
        self.name = name

    def forward(self, x: Array, *, axis: int = -1) -> tuple[tuple[Array], tuple[Array]]:
        """Return y, of the shape of x; and y again, which the backward kernel wants back."""
        rows = self._rows(x, axis)
        y = self._cp.empty(rows.shape, rows.dtype)
        self._launch(self.name, rows, y)
        y = self._cp.moveaxis(y, -1, axis)
        return (y,), (y,)

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        axis: int = -1,
    ) -> tuple[Array | None]:
        """Return the gradient of x."""
        if not needs[0]:
            return (None,)
        y, g = self._rows(residuals[0], axis), self._rows(cotangents[0], axis)
        dx = self._cp.empty(y.shape, y.dtype)
        self._launch(f"{self.name}_vjp", g, y, dx)
        return (self._cp.moveaxis(dx, -1, axis),)

    def _rows(self, x: Array, axis: int) -> Array:
        return dense(self._cp, self._cp.moveaxis(x, axis, -1))

    def _launch(self, name: str, *arrays: Array) -> None:
        x = arrays[0]
        rows, columns = count_rows(x), x.shape[-1]
        way = plan(columns, x.dtype.itemsize, *arrays)
        self._program.launch(
            name,
            [*arrays, rows, columns],
            dtype=x.dtype,
            grid=way.grid(rows),
            block=way.block,
            constants=way.constants,
        )
