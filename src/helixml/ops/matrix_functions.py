"""Functions of whole matrices: powers and the exponential."""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, matrix, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, SingularMatrixError
from helixml.ops.linalg import matmul
from helixml.ops.matrices import adjoint, identity
from helixml.ops.movement import broadcast_to, concat
from helixml.ops.numbers import positive
from helixml.ops.solving import WELL_CONDITIONED, inv, square_only

Array = Any  # a raw array of the backend


def _power_oracle(x, n):
    return np.linalg.matrix_power(x, n)


@composite(oracle=_power_oracle)
def matrix_power(x: Tensor, n: int) -> Tensor:
    """Multiply each matrix with itself, x^n.

    Parameters
    ----------
    x : Tensor, (..., m, m).
    n : int; 0 gives the identity, negative ones powers of the inverse.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    ShapeError : the matrices are not square. DTypeError : ``n`` is no integer, or it is negative
    and ``x`` is of integers. SingularMatrixError : ``n`` is negative and there is no inverse.

    Notes
    -----
    By repeated squaring, at most 2 log2(n) products.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.matrix_power(hx.tensor([[1.0, 1.0], [0.0, 1.0]]), 5)
    tensor([[1., 5.],
            [0., 1.]])
    """
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(
            f"matrix_power: takes square matrices, (..., m, m), the shape is {x.shape}."
        )
    n = dtypes.as_integer("matrix_power", "n", n)
    if n == 0:
        return broadcast_to(identity(x.shape[-1], x), x.shape)
    if n < 0:
        x, n = inv(x), -n
    result: Any = None
    while n:
        if n & 1:
            result = positive(x) if result is None else matmul(result, x)
        n >>= 1
        if n:
            x = matmul(x, x)
    return result


@matrix_power.samples
def _():
    yield sample(WELL_CONDITIONED, n=3)
    yield sample((2, 2), n=1)
    yield sample((2, 3, 3), n=0)
    yield sample((2, 3, 3), n=6)
    yield sample((0, 2, 2), n=2)


@matrix_power.errors
def _():
    yield Failure(lambda: matrix_power(blank(2, 3), 2), ShapeError, r"takes square matrices")
    yield Failure(lambda: matrix_power(blank(2, 2), 0.5), DTypeError, r"n must be an integer")
    yield Failure(lambda: matrix_power(blank(2, 2), -1), SingularMatrixError, r"is singular")


def _expm_oracle(x):
    """Add up the series of x / 4, and square it twice."""
    step = x / 4
    total = term = np.broadcast_to(np.eye(x.shape[-1]), x.shape)
    for k in range(1, 40):
        term = term @ step / k
        total = total + term
    total = total @ total
    return total @ total


@primitive(oracle=_expm_oracle)
def expm(B, x: Array):
    """Return the exponential of each matrix, sum_k x^k / k!.

    Parameters
    ----------
    x : Tensor, (..., n, n), float or complex.

    Returns
    -------
    Tensor, same shape and dtype.

    Raises
    ------
    ShapeError, DTypeError : of another shape or dtype.

    Notes
    -----
    By scaling and squaring of a Padé approximant (Al-Mohy & Higham 2009). Gradient: the upper right
    block of the exponential of [[x^H, g], [0, x^H]], which is twice as large.

    References
    ----------
    Najfeld & Havel 1995, "Derivatives of the matrix exponential and their computation"; Higham
    2008, "Functions of Matrices", eq. 3.16; Al-Mohy & Higham 2009, "A new scaling and squaring
    algorithm for the matrix exponential".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.linalg.expm(hx.tensor([[0.0, 1.0], [0.0, 0.0]]))
    tensor([[1., 1.],
            [0., 1.]])
    """
    return B.expm(x)


square_only(expm)


@expm.vjp("x")
def _(g, x):
    n, h = x.shape[-1], adjoint(x)
    upper = concat([h, g], axis=-1)
    lower = concat([h * 0, h], axis=-1)
    return expm(concat([upper, lower], axis=-2))[..., :n, n:]


# Higham 2005: six products and a solution for the approximant of degree 13.
# How often it is squared depends on the values.
expm.flops(lambda x: x.shape[-1] * x.size * 44 // 3)


@expm.samples
def _():
    yield sample((3, 3))
    yield sample((2, 2, 2))
    yield sample(matrix([[1, 2], [0, -1]]))
    yield sample(matrix([[0, 0], [0, 0]]))
    yield sample((0, 3, 3))
    yield sample((2, 0, 0))
