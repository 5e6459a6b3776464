"""Softmax and its logarithm on the device; see softmax.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.rows import MOST_COLUMNS, THREADS, Family, count_rows
from helixml.backends.wgpu.runtime import Runtime


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels."""
    pairs = [Softmax(runtime, name) for name in ("softmax", "log_softmax")]
    return [
        kernel
        for pair in pairs
        for kernel in (
            Kernel(pair.name, pair.forward, ("float32",), takes_axis),
            Kernel(f"{pair.name}_vjp", pair.backward, ("float32",), takes_axis),
        )
    ]


def takes_axis(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether the axis is one of x, and has entries; errors are left to the definition."""
    x, axis = inputs[0], attributes.get("axis", -1)
    return bool(-x.ndim <= axis < x.ndim and 0 < x.shape[axis] <= MOST_COLUMNS)


class Softmax(Family):
    """The kernels ``name`` and that with ``_vjp``; an axis that is not the last is copied."""

    file = "softmax.wgsl"

    def __init__(self, runtime: Runtime, name: str, threads: int = THREADS) -> None:
        super().__init__(runtime, threads)
        self.name = name
        self._logarithm = int(name == "log_softmax")

    def forward(self, x: WgpuArray, *, axis: int = -1) -> tuple[tuple[WgpuArray], tuple[WgpuArray]]:
        """Return y, of the shape of x; and y again, which the backward kernel wants back."""
        rows = self.dense(_moved(x, axis, x.ndim - 1))
        y = self.empty_like(rows)
        self._launch("softmax", rows, y)
        y = _moved(y, x.ndim - 1, axis)
        return (y,), (y,)

    def backward(
        self,
        cotangents: Sequence[WgpuArray],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray],
        residuals: Sequence[WgpuArray],
        *,
        axis: int = -1,
    ) -> tuple[WgpuArray | None]:
        """Return the gradient of x."""
        if not needs[0]:
            return (None,)
        last = inputs[0].ndim - 1
        y, g = (self.dense(_moved(a, axis, last)) for a in (residuals[0], cotangents[0]))
        dx = self.empty_like(y)
        self._launch("softmax_vjp", g, y, dx)
        return (_moved(dx, last, axis),)

    def _launch(self, entry: str, *arrays: WgpuArray) -> None:
        sizes = {"rows": count_rows(arrays[0]), "columns": arrays[0].shape[-1]}
        self.rows(entry, arrays, sizes, passes=4, constants={"LOGARITHM": self._logarithm})


def _moved(x: WgpuArray, source: int, target: int) -> WgpuArray:
    """Return a view with one axis at another place."""
    order = list(range(x.ndim))
    order.insert(target % x.ndim, order.pop(source))
    return x.view([x.shape[i] for i in order], [x.strides[i] for i in order])
