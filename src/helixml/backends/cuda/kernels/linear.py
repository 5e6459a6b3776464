"""The map of the last axis by a matrix: cuBLAS's products, gradients that lie as parameters do.

By its definition the gradient of a weight comes transposed, and an optimizer would have to copy it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.binary import Binary
from helixml.backends.cuda.kernels.rows import Array, dense
from helixml.backends.cuda.kernels.summing import Sums
from helixml.backends.cuda.products import Products
from helixml.backends.dispatch import Kernel


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels, for CuPy's module."""
    linear = Linear(cp)
    return [
        Kernel("linear", linear.forward, FLOATS, _is_plain),
        Kernel("linear_vjp", linear.backward, FLOATS, _is_plain),
    ]


def _is_plain(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is no activation, and something to compute."""
    x, weight, *_ = inputs
    assert x is not None and weight is not None
    return attributes.get("activation") is None and x.size > 0 and weight.size > 0


class Linear:
    """The map and its gradient."""

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._add = Binary(cp).function("add")
        self._sum = Sums(cp).sum
        self._matmul = Products(cp).matmul

    def forward(
        self, x: Array, weight: Array, bias: Array | None = None, *, activation: None = None
    ) -> tuple[tuple[Array], tuple[Array]]:
        """Return x W^T + b.

        Parameters
        ----------
        x : (..., d), any strides.
        weight : (n, d). bias : (n,) or None.

        Returns
        -------
        outputs : y (..., n).
        residuals : x as dense rows, (rows, d).
        """
        rows = dense(self._cp, x.reshape(prod(x.shape[:-1]), x.shape[-1]))
        y = self._matmul(rows, weight.T)
        if bias is not None:
            y = self._add(y, dense(self._cp, bias))
        return (y.reshape(*x.shape[:-1], weight.shape[0]),), (rows,)

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        activation: None = None,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of x, weight and bias, None where not needed."""
        x, weight, bias = inputs
        (g,), (rows,) = cotangents, residuals
        assert g is not None and x is not None and weight is not None
        g = dense(self._cp, g.reshape(len(rows), len(weight)))
        return (
            self._matmul(g, weight).reshape(x.shape) if needs[0] else None,
            self._matmul(g.T, rows) if needs[1] else None,
            self._sum(g, axis=(0,), keepdims=False) if needs[2] and bias is not None else None,
        )
