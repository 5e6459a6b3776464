"""Products of a few vectors with a matrix as it is stored; the kernel is stored_linear.c."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import dense, empty
from helixml.backends.cpu.kernels.layout import Array, share

FEW = 16  # vectors up to which reading the matrix takes longer than multiplying
_name = cache(str)  # of a dtype: NumPy takes long to tell


def is_read(matrix: Any, x: Array) -> bool:
    """Say whether kernels read a matrix as it lies: of the floats of x, bfloat16 or int8."""
    return matrix.dtype == x.dtype or _name(matrix.dtype) in ("bfloat16", "int8")


def takes_few(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are few vectors, and the matrix is read as it lies."""
    x, weight, *_ = inputs
    return 0 < math.prod(x.shape[:-1]) <= FEW and len(weight) > 0 and is_read(weight, x)


def stored_linear(
    x: Array, weight: Any, scale: Array | None = None, bias: Array | None = None
) -> tuple[tuple[Array], tuple[()]]:
    """Return x @ (scale W).T + bias.

    Parameters
    ----------
    x : (..., d), float32 or float64, any strides.
    weight : (n, d), the same floats, bfloat16 or int8. scale, bias : (n,) or None.
    """
    x, weight = dense((x, weight))
    scale, bias = (None if row is None else dense((row,))[0] for row in (scale, bias))
    y = empty((*x.shape[:-1], len(weight)), x.dtype)
    call = _kernels.StoredLinear(x.reshape(-1, x.shape[-1]), weight, scale, bias, y)
    share(call.run, -(-len(weight) // _kernels.STORED_ROWS), y.size // len(weight) * weight.size)
    return (y,), ()
