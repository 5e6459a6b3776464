"""The linear map of a layer: products of matmul.wgsl, finished by activation.wgsl."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from helixml.backends.dispatch import Kernel
from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.kernels.activation import FUNCTIONS, Activation
from helixml.backends.wgpu.kernels.maps import binary
from helixml.backends.wgpu.kernels.matmul import matmul
from helixml.backends.wgpu.kernels.reduce import reduce
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["Linear", "kernels"]


def kernels(runtime: Runtime) -> list[Kernel]:
    """Return the kernels of the linear map."""
    linear = Linear(runtime)
    return [
        Kernel("linear", linear.forward, ("float32",)),
        Kernel("linear_vjp", linear.backward, ("float32",)),
    ]


class Linear(Activation):
    """The map and its gradient."""

    def forward(
        self,
        x: WgpuArray,
        weight: WgpuArray,
        bias: WgpuArray | None = None,
        *,
        activation: str | None = None,
    ) -> tuple[tuple[WgpuArray], tuple[WgpuArray, ...]]:
        """Return activation(x @ weight.T + bias).

        Parameters
        ----------
        x : (..., d), any strides.
        weight : (n, d).
        bias : (n,) or None.
        activation : None, "gelu", "relu" or "silu".

        Returns
        -------
        outputs : (..., n).
        residuals : with an activation, what it is given.
        """
        product = matmul(self.runtime, x, _transposed(weight))
        if activation is None:
            return (product if bias is None else binary(self.runtime, "add", product, bias),), ()
        bias = self.dense(bias)
        y = self.empty_like(product)
        sizes = {"size": y.size, "columns": weight.shape[0]}
        own = {"FUNCTION": FUNCTIONS[activation], "HAS_BIAS": bias is not None}
        self.each("finish", [product, y, bias or product], sizes, y.size, constants=own)
        return (y,), (product,)

    def backward(
        self,
        cotangents: Sequence[WgpuArray],
        needs: Sequence[bool],
        inputs: Sequence[WgpuArray | None],
        residuals: Sequence[WgpuArray],
        *,
        activation: str | None = None,
    ) -> tuple[WgpuArray | None, ...]:
        """Return the gradients of x, weight and bias, None where not needed."""
        x, weight, _ = inputs
        g = self.dense(cotangents[0])
        assert x is not None and weight is not None
        if activation is not None:
            _, pull = self.activation(activation)
            (g,) = pull((g,), (True,), residuals, ())
        rows = prod(x.shape[:-1])
        n, d = weight.shape
        pulls = g.view((rows, n), (n, 1))
        gweight = gbias = None
        if needs[1]:
            flat = self.dense(x).view((rows, d), (d, 1))
            gweight = matmul(self.runtime, _transposed(pulls), flat)
        if needs[2]:
            gbias = reduce(self.runtime, "sum", pulls, (0,), False, pulls.dtype)
        return matmul(self.runtime, g, weight) if needs[0] else None, gweight, gbias


def _transposed(x: WgpuArray) -> WgpuArray:
    return x.view(x.shape[::-1], x.strides[::-1])
