"""Special functions: elementwise ops that the array API standard does not have.

Read `elementwise` first.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helixml._core.op import primitive
from helixml._core.samples import Failure, floats, sample, values
from helixml.errors import DTypeError
from helixml.ops.elementwise import exp, square

Array = Any  # a raw array of the backend

_erf_oracle = np.vectorize(math.erf, otypes=[np.float64])


@primitive(dtype="float", direct=True, real_only="real(x), imag(x) or abs(x)", oracle=_erf_oracle)
def erf(B, x: Array):
    """Return the error function, erf(x) = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype; 16-bit floats are computed in float32.

    Notes
    -----
    Gradient: g 2 / sqrt(pi) e^(-x^2).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.erf(hx.tensor([-10.0, 0.0, 10.0]))
    tensor([-1.,  0.,  1.])
    """
    return B.erf(x)


@erf.errors
def _():
    from helixml.ops.creation import zeros

    yield Failure(
        lambda: erf(zeros((2,), "complex64")), DTypeError, r"takes real numbers, not complex64"
    )


erf.vjp("x")(lambda g, x: g * (2 / math.sqrt(math.pi) * exp(-square(x))))


@erf.samples
def _():
    yield sample((3, 4))
    yield sample(floats(64, low=-7.0, high=7.0))
    yield sample(())
    yield sample((0, 3))
    yield sample(
        values(0.0, -0.0, np.inf, -np.inf, np.nan, 1e-30, 0.46875, -4.0, 1e30), value_only=True
    )
