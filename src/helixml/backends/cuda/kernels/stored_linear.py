"""Products of a few vectors with a matrix as it is stored; the kernels are in stored_linear.cu."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import Array, power_of_two
from helixml.backends.cuda.kernels.rows import aligned, dense
from helixml.backends.cuda.launch import WARP, Program
from helixml.backends.dispatch import Kernel

__all__ = ["BLOCK", "FEW", "StoredLinear", "constants", "is_read", "kernels", "takes_few"]

FEW = 16  # vectors up to which reading the matrix takes longer than multiplying
BLOCK = 128
_KINDS = {"bfloat16": 1, "int8": 2}  # as in stored.cuh


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernel of products with stored matrices."""
    return [Kernel("stored_linear", StoredLinear(cp).forward, FLOATS, takes_few)]


def is_read(matrix: Array, x: Array) -> bool:
    """Say whether kernels read a matrix as it lies: of the floats of x, bfloat16 or int8."""
    if matrix.dtype == x.dtype or matrix.dtype.name == "int8":
        return True
    return bool(matrix.dtype.name == "bfloat16" and x.dtype.name != "float16")  # else results widen


def takes_few(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are few vectors, and the matrix is read as it lies."""
    x, weight, *_ = inputs
    assert x is not None and weight is not None
    return 0 < prod(x.shape[:-1]) <= FEW and len(weight) > 0 and is_read(weight, x)


def constants(x: Array, weight: Array, vectors: int, stride: int) -> dict[str, int]:
    """Return what stored.cuh asks for; ``stride`` is how far vectors lie apart in memory."""
    d = weight.shape[1]
    packed = d * weight.itemsize % 16 == 0 and stride * x.itemsize % 16 == 0 and aligned(x, weight)
    if packed and weight.itemsize > x.itemsize:
        packed = False
    kind = 0 if weight.dtype == x.dtype else _KINDS[weight.dtype.name]
    return {
        "KIND": kind,
        "PACKED": int(packed),
        "VECTORS": power_of_two(vectors),
        "THREADS": BLOCK,
    }


class StoredLinear:
    """The product.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "stored_linear.cu")

    def forward(
        self, x: Array, weight: Array, scale: Array | None = None, bias: Array | None = None
    ) -> tuple[tuple[Array], tuple[()]]:
        """Return x @ (scale W).T + bias.

        Parameters
        ----------
        x : (..., d), any strides.
        weight : (n, d), the same floats, bfloat16 or int8. scale, bias : (n,) or None.
        """
        x, weight, scale, bias = (dense(self._cp, array) for array in (x, weight, scale, bias))
        n, d = weight.shape
        vectors = prod(x.shape[:-1])
        y = self._cp.empty((*x.shape[:-1], n), x.dtype)
        self._program.launch(
            "stored_linear",
            [x, weight, scale, bias, y, vectors, n, d],
            dtype=x.dtype,
            grid=-(-n * WARP // BLOCK),
            block=BLOCK,
            constants=constants(x, weight, vectors, d),
        )
        return (y,), ()
