"""Products of a few vectors with a matrix as it is stored; the kernel is in stored_linear.wgsl."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from helixml import dtypes
from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.rows import MOST_COLUMNS, Family
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["FEW", "StoredLinear", "is_read", "kernels", "takes_few"]

FEW = 16  # vectors up to which reading the matrix takes longer than multiplying
_WEIGHTS = {dtypes.float32: "f32", dtypes.int8: "i32"}


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernel of products with stored matrices."""
    return [Kernel("stored_linear", StoredLinear(runtime).forward, ("float32",), takes_few)]


def is_read(matrix: WgpuArray | None) -> bool:
    """Say whether the kernel reads a matrix as it lies: of float32 or int8, its rows not long."""
    assert matrix is not None
    return matrix.dtype in _WEIGHTS and matrix.size > 0 and matrix.shape[1] <= MOST_COLUMNS


def takes_few(inputs: Sequence[WgpuArray | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are few vectors, and the matrix is read as it lies."""
    x, weight, *_ = inputs
    assert x is not None
    return 0 < prod(x.shape[:-1]) <= FEW and is_read(weight)


class StoredLinear(Family):
    """The product."""

    file = "stored_linear.wgsl"

    def forward(
        self,
        x: WgpuArray,
        weight: WgpuArray,
        scale: WgpuArray | None = None,
        bias: WgpuArray | None = None,
    ) -> tuple[tuple[WgpuArray], tuple[()]]:
        """Return x @ (scale W).T + bias.

        Parameters
        ----------
        x : (..., d), any strides.
        weight : (n, d), float32 or int8. scale, bias : (n,) or None.
        """
        x = self.dense(x)
        return (self.product(x, x.shape[:-1], x.shape[-1], weight, scale, bias),), ()

    def product(
        self,
        x: WgpuArray,
        shape: tuple[int, ...],
        step: int,
        weight: WgpuArray,
        scale: WgpuArray | None = None,
        bias: WgpuArray | None = None,
    ) -> WgpuArray:
        """Return (*shape, n): products with what begins every ``step`` entries of a dense x."""
        weight, scale, bias = (self.dense(a) for a in (weight, scale, bias))
        n, d = weight.shape
        y = self.runtime.empty((*shape, n), x.dtype)
        self.rows(
            "stored_linear",
            [x, weight, scale or x, bias or x, y],
            {"rows": y.size, "columns": d, "vectors": prod(shape), "step": step},
            passes=1,
            head=f"alias WEIGHT = {_WEIGHTS[weight.dtype]};",
            constants={"HAS_SCALE": scale is not None, "HAS_BIAS": bias is not None},
        )
        return y
