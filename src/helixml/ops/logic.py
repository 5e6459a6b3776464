"""Comparisons, predicates, and ops on truth and bits: elementwise, and without a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.op import primitive
from helixml._core.samples import Failure, booleans, domain, integers, pairs, sample, values
from helixml.errors import DTypeError

Array = Any  # a raw array of the backend

NO_ORDER = "complex numbers have no order; take abs(x), real(x) or imag(x)"


def _comparison(name, symbol, oracle, real_only=NO_ORDER):
    def forward(B, x: Array, y: Array):
        return getattr(B, name)(x, y)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Compare elementwise, x {symbol} y.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape, bool.
    """
    op = primitive(forward, direct=True, real_only=real_only, oracle=oracle)
    op.samples(lambda: (sample(values(1.0, 2.0, np.nan), values(1.0, 1.5, 1.0)), *pairs()))
    return op


equal = _comparison("equal", "==", np.equal, None)
not_equal = _comparison("not_equal", "!=", np.not_equal, None)
less = _comparison("less", "<", np.less)
less_equal = _comparison("less_equal", "<=", np.less_equal)
greater = _comparison("greater", ">", np.greater)
greater_equal = _comparison("greater_equal", ">=", np.greater_equal)


def _predicate(name, what, oracle):
    def forward(B, x: Array):
        return getattr(B, name)(x)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Say elementwise whether x {what}.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, bool.
    """
    op = primitive(forward, direct=True, oracle=oracle)
    op.samples(lambda: (sample(values(0.0, 1.0, np.nan, np.inf, -np.inf)), *domain(-2.0, 2.0)()))
    return op


isfinite = _predicate("isfinite", "is neither infinite nor nan", np.isfinite)
isnan = _predicate("isnan", "is nan", np.isnan)
isinf = _predicate("isinf", "is infinite", np.isinf)


def _logical(name, what, oracle, bits):
    def forward(B, x: Array, y: Array):
        return getattr(B, name)(x, y)

    forward.__name__ = name
    forward.__module__ = __name__
    kinds = "bool or integer" if bits else "bool"
    forward.__doc__ = f"""Combine elementwise by {what}.

    Parameters
    ----------
    x, y : Tensor, {kinds}, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape.
    """
    op = primitive(forward, direct=True, oracle=oracle)

    def samples():
        yield sample(booleans(3, 4), booleans(4))
        if bits:
            yield sample(integers(3, 4, high=9), integers(4, high=9))

    op.samples(samples)
    return op


logical_and = _logical("logical_and", "and", np.logical_and, False)
logical_or = _logical("logical_or", "or", np.logical_or, False)
logical_xor = _logical("logical_xor", "exclusive or", np.logical_xor, False)
bitwise_and = _logical("bitwise_and", "and of bits", np.bitwise_and, True)
bitwise_or = _logical("bitwise_or", "or of bits", np.bitwise_or, True)
bitwise_xor = _logical("bitwise_xor", "exclusive or of bits", np.bitwise_xor, True)


def _shift(name, direction, oracle):
    def forward(B, x: Array, y: Array):
        return getattr(B, name)(x, y)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Shift the bits of x by y places to the {direction}.

    Parameters
    ----------
    x, y : Tensor, integers, shapes that broadcast; y is not negative and less than the bits of x.

    Returns
    -------
    Tensor of the broadcast shape.

    Raises
    ------
    DTypeError : an operand holds truth values or floats.
    """
    op = primitive(forward, direct=True, oracle=oracle)

    @op.prepare
    def _(x, y):
        for operand in (x, y):
            dtype = getattr(operand, "dtype", None) or dtypes.result_type(type(operand))
            if dtypes.kind(dtype) not in "ui":
                raise DTypeError(f"{name}: shifts integers, not {dtype}. Hint: astype('int64').")
        return {}

    op.samples(lambda: (sample(integers(3, 4, high=9), integers(4, high=6)),))
    op.errors(lambda: (Failure(lambda: op(np.ones(3), 1), DTypeError, r"integers, not float64"),))
    return op


bitwise_left_shift = _shift("bitwise_left_shift", "left", np.left_shift)
bitwise_right_shift = _shift("bitwise_right_shift", "right", np.right_shift)


@primitive(direct=True, oracle=np.logical_not)
def logical_not(B, x: Array):
    """Negate truth elementwise.

    Parameters
    ----------
    x : Tensor, bool.

    Returns
    -------
    Tensor, same shape, bool.
    """
    return B.logical_not(x)


logical_not.samples(lambda: (sample(booleans(3, 4)),))


@primitive(direct=True, oracle=np.invert)
def bitwise_invert(B, x: Array):
    """Invert every bit; for bool, negate.

    Parameters
    ----------
    x : Tensor, bool or integer.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    return B.bitwise_invert(x)


bitwise_invert.samples(lambda: (sample(booleans(3, 4)), sample(integers(5, high=9))))
