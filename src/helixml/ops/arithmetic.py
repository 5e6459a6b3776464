"""Arithmetic beside the array API's: between, remainders, parts of numbers, nearness.

Compositions of `elementwise`; `gcd`, `lcm` and the exponents of `frexp` are looked up in host
memory, for integers carry no gradient.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, integers, pairs, sample, values
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.elementwise import abs, maximum, minimum, multiply, pow, remainder, trunc, where
from helixml.ops.logic import (
    NO_ORDER,
    equal,
    isfinite,
    isnan,
    less,
    less_equal,
    logical_and,
    logical_or,
)
from helixml.ops.movement import as_float, broadcast_to, cast


def _numbers(op: str, *given: Tensor) -> None:
    for x in given:
        if dtypes.kind(x.dtype) == "b":
            raise DTypeError(f"{op}: takes numbers, not {x.dtype}.")


def _lerp_oracle(x, y, weight):
    return x + weight * (y - x)


@composite(oracle=_lerp_oracle)
def lerp(x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """Return what lies between x and y, x + weight (y - x).

    Parameters
    ----------
    x, y, weight : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape, a float dtype: x where the weight is 0, y where it is 1.

    Notes
    -----
    Gradient: g (1 - weight), g weight and g (y - x).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.lerp(hx.tensor([1.0, 2.0]), hx.tensor([3.0, 4.0]), 0.25)
    tensor([1.5, 2.5])
    """
    x, y = as_float(x), as_float(y)
    return where(equal(weight, 1), y, x + weight * (y - x))


@lerp.samples
def _():
    yield sample((3, 4), (3, 4), (3, 4), kinds="fc")
    yield sample((3, 4), (4,), 0.25, kinds="fc")
    yield sample((2, 1), (3,), floats(), kinds="fc")
    yield sample((0, 3), (3,), 0.5, kinds="fc")


def _fextreme(name, what, function, oracle):
    def forward(x: Tensor, y: Tensor) -> Tensor:
        both = function(x, y)
        if dtypes.kind(both.dtype) != "f":
            return both
        return where(isnan(x), y, where(isnan(y), x, both))

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Return the {what} of x and y; where one is nan, the other.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype.

    Notes
    -----
    Gradient: g where chosen, half of it at a tie.
    """
    op = composite(forward, real_only=NO_ORDER, oracle=oracle)

    @op.samples
    def _():
        yield from pairs()
        yield sample(values(1.0, np.nan, np.nan, 2.0), values(np.nan, 3.0, np.nan, 1.0),
                     value_only=True)  # fmt: skip

    return op


fmax = _fextreme("fmax", "larger", maximum, np.fmax)
fmin = _fextreme("fmin", "smaller", minimum, np.fmin)


@composite(real_only=NO_ORDER, oracle=np.fmod)
def fmod(x: Tensor, y: Tensor) -> Tensor:
    """Return what is left of x divided by y, with the sign of x, as C has it.

    Parameters
    ----------
    x, y : Tensor or scalar, real, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype; `remainder` has the sign of y.

    Raises
    ------
    DTypeError : there are truth values or complex numbers.

    Notes
    -----
    x - y trunc(x / y). Gradient: g and -g trunc(x / y).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.fmod(hx.tensor([-5.0, 5.0]), 3.0)
    tensor([-2.,  2.])
    """
    _numbers("fmod", x, y)
    rest = remainder(abs(x), abs(y))
    return where(less(x, 0), -rest, rest)


@fmod.samples
def _():
    yield sample((3, 4), floats(3, 4, low=0.6, high=0.9), value_only=True, kinds="f")
    yield sample(values(-1.7, 0.3, 1.1, 5.2), values(0.7, 0.5, -0.4, 2.0))
    yield sample((3, 4), floats(4, low=2.1, high=3.9), kinds="f")
    yield sample(integers(3, 4, low=-5, high=5), integers(4, low=1, high=4))
    yield sample(values(np.nan, 1.0, -4.0), values(1.0, np.inf, 2.0), value_only=True)


fmod.errors(
    lambda: (Failure(lambda: fmod(blank(2) > 0, 1), DTypeError, r"takes numbers, not bool"),)
)


def _heaviside_oracle(x, y):
    return np.heaviside(x.astype(np.float64), y)


@composite(real_only=NO_ORDER, oracle=_heaviside_oracle)
def heaviside(x: Tensor, y: Tensor) -> Tensor:
    """Return 0 for negative x, 1 for positive, and y where x is 0.

    Parameters
    ----------
    x : Tensor, real; nan stays nan.
    y : Tensor or scalar that broadcasts with ``x``.

    Returns
    -------
    Tensor of the broadcast shape, a float dtype.

    Notes
    -----
    Gradient: 0 for x, and g for y where x is 0.
    """
    _numbers("heaviside", x, y)
    x, y = as_float(x), as_float(y)
    step = where(less(x, 0), 0, where(isnan(x), x * 0, 1))
    return where(equal(x, 0), y, cast(step, dtypes.result_type(x.dtype, y.dtype)))


@heaviside.samples
def _():
    yield sample((3, 4), (3, 4), kinds="f")
    yield sample(values(-1.0, 0.0, 2.0, np.nan, -0.0), 0.5, value_only=True)
    yield sample(values(-1.0, 0.0, 2.0), values(0.5, 0.25, 3.0), value_only=True)
    yield sample(integers(4, low=-1, high=2), 0.5)


heaviside.errors(
    lambda: (Failure(lambda: heaviside(blank(2) > 0, 1), DTypeError, r"numbers, not bool"),)
)


def _frac_oracle(x):
    return x - np.trunc(x)


@composite(real_only="frac(real(x)), frac(imag(x))", oracle=_frac_oracle)
def frac(x: Tensor) -> Tensor:
    """Return what stands behind the point, x - trunc(x), with the sign of x. Gradient: g.

    Parameters
    ----------
    x : Tensor, any shape, real.

    Returns
    -------
    Tensor, same shape and dtype.
    """
    _numbers("frac", x)
    return x - trunc(x)


frac.samples(
    lambda: (sample((3, 4), kinds="uifc"), sample(values(-1.5, 2.0, 0.25, -0.5), value_only=True))
)
frac.errors(lambda: (Failure(lambda: frac(blank(2) > 0), DTypeError, r"numbers, not bool"),))


def _power_oracle(x, y):
    return np.float_power(x, y)


@composite(oracle=_power_oracle)
def float_power(x: Tensor, y: Tensor) -> Tensor:
    """Raise to a power in floats: as `pow`, but integers become the default float first.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast; negative ``x`` with fractional ``y`` gives nan.

    Returns
    -------
    Tensor of the broadcast shape, a float dtype.

    Notes
    -----
    Gradient: that of `pow`.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.float_power(hx.tensor([1, 2, 4]), -1)
    tensor([1.  , 0.5 , 0.25])
    """
    return pow(as_float(x), y)


@float_power.samples
def _():
    yield sample(floats(3, 4, low=0.3), (3, 4), kinds="f")
    yield sample(floats(3, 4, low=0.3), floats(4), kinds="f")
    yield sample((3, 4), 2)
    yield sample(integers(4, low=1, high=5), -1)


def _ldexp_oracle(x, exponent):
    return np.ldexp(x.astype(np.float64), np.asarray(exponent).astype(int))


@composite(real_only="x * 2.0**exponent", oracle=_ldexp_oracle)
def ldexp(x: Tensor, exponent: Any) -> Tensor:
    """Return x 2^exponent, exact where it is not subnormal. Gradient: g 2^exponent.

    Parameters
    ----------
    x : Tensor, real.
    exponent : Tensor or scalar of an integer dtype that broadcasts with ``x``.

    Returns
    -------
    Tensor of the broadcast shape, a float dtype.

    Raises
    ------
    DTypeError : ``exponent`` holds no integers.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.ldexp(hx.tensor([1.0, 3.0]), hx.tensor([3, -1]))
    tensor([8. , 1.5])
    """
    _numbers("ldexp", x)
    if not isinstance(exponent, Tensor):
        exponent = as_tensor("ldexp", np.asarray(exponent), x)
    if dtypes.kind(exponent.dtype) not in "ui":
        raise DTypeError(f"ldexp: exponent must be integers, not {exponent.dtype}.")
    x = as_float(x)
    host = exponent._backend.to_numpy(exponent._array).astype(np.int64)
    host = np.clip(host, -4096, 4096)  # beyond which nothing is finite, and nothing is left
    # In four steps, for 2^exponent may be too large or small although the result is not.
    quarter, rest = np.divmod(host, 4)
    for step in (quarter, quarter, quarter, quarter + rest):
        x = multiply(x, as_tensor("ldexp", np.asarray(np.ldexp(1.0, step)).astype(x.dtype), x))
    return x


@ldexp.samples
def _():
    yield sample((3, 4), integers(3, 4, low=-3, high=4))
    yield sample((3, 1), integers(4, low=-3, high=4))
    yield sample((3,), 2)
    yield sample(values(1e-5, 0.0, np.inf, -np.inf, np.nan), 8, value_only=True)


@ldexp.errors
def _():
    yield Failure(lambda: ldexp(blank(2), 0.5), DTypeError, r"must be integers, not float64")
    yield Failure(lambda: ldexp(blank(2) > 0, 1), DTypeError, r"takes numbers, not bool")


class Frexp(NamedTuple):
    """What `frexp` gives."""

    mantissa: Tensor
    exponent: Tensor


def _frexp_oracle(x):
    mantissa, exponent = np.frexp(x.astype(np.float64))
    return mantissa, np.where(np.isfinite(x), exponent, 0).astype(np.int64)


@composite(real_only="frexp(real(x)), frexp(imag(x))", oracle=_frexp_oracle)
def frexp(x: Tensor) -> Frexp:
    """Take numbers apart, x = mantissa 2^exponent.

    Parameters
    ----------
    x : Tensor, any shape, real.

    Returns
    -------
    mantissa : Tensor, same shape, a float dtype, abs(mantissa) in [0.5, 1), or 0; infinities and
        nan stay.
    exponent : Tensor, same shape, int64; 0 for infinities and nan. Carries no gradient.

    Notes
    -----
    Gradient: g of the mantissa times 2^(-exponent).

    Examples
    --------
    >>> import helixml as hx
    >>> hx.frexp(hx.tensor([3.0, 0.5]))
    Frexp(mantissa=tensor([0.75, 0.5 ]), exponent=tensor([2, 0]))
    """
    _numbers("frexp", x)
    x = as_float(x)
    host = x._backend.to_numpy(x._array).astype(np.float64)
    exponent = np.where(np.isfinite(host), np.frexp(host)[1], 0).astype(np.int64)
    whole = as_tensor("frexp", exponent, x)
    return Frexp(ldexp(x, -whole), whole)


frexp.samples(
    lambda: (
        sample((3, 4), kinds="uifc"),
        sample(values(8.0, 0.0, 1.0, -0.5, 100.0), kinds="uifc", value_only=True),
        sample(values(np.inf, np.nan, 1e-7), value_only=True),
    )
)
frexp.errors(lambda: (Failure(lambda: frexp(blank(2) > 0), DTypeError, r"numbers, not bool"),))


def _of_integers(name, what, oracle):
    def forward(x: Tensor, y: Tensor) -> Tensor:
        for given in (x, y):
            if dtypes.kind(given.dtype) not in "ui":
                raise DTypeError(f"{name}: takes integers, not {given.dtype}.")
        common = dtypes.result_type(x.dtype, y.dtype)
        shape = shapes.broadcast(name, x.shape, y.shape)
        hosts = [t._backend.to_numpy(broadcast_to(cast(t, common), shape)._array) for t in (x, y)]
        return as_tensor(name, np.asarray(oracle(*hosts)), x)

    forward.__name__ = name
    forward.__module__ = __name__
    forward.__doc__ = f"""Return the {what} of integers, which is not negative.

    Parameters
    ----------
    x, y : Tensor or scalar of an integer dtype, shapes that broadcast.

    Returns
    -------
    Tensor of the broadcast shape and the promoted dtype. Carries no gradient.

    Raises
    ------
    DTypeError : there are other values than integers.
    """
    op = composite(forward, oracle=oracle)

    @op.samples
    def _():
        yield sample(integers(3, 4, low=-30, high=30), integers(4, low=-30, high=30))
        yield sample(integers(3, high=30), integers(3, high=30))
        yield sample(integers(0, high=30), 4)

    op.errors(lambda: (Failure(lambda: op(blank(2), 2), DTypeError, r"integers, not float32"),))
    return op


gcd = _of_integers("gcd", "greatest common divisor", np.gcd)
lcm = _of_integers("lcm", "least common multiple", np.lcm)

# Nearness


def _tolerances(op: str, rtol: Any, atol: Any) -> None:
    for name, number in (("rtol", rtol), ("atol", atol)):
        if not dtypes.as_number(op, name, number) >= 0:
            raise ValueRangeError(f"{op}: {name}={number} is negative.")


def _isclose_oracle(x, y, rtol=1e-5, atol=1e-8, equal_nan=False):
    return np.isclose(x, y, rtol, atol, equal_nan)


@composite(oracle=_isclose_oracle)
def isclose(
    x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Say elementwise whether |x - y| <= atol + rtol |y|.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.
    rtol, atol : numbers, not negative: of y, and absolute.
    equal_nan : nan is close to nan.

    Returns
    -------
    Tensor of the broadcast shape, bool. Infinities are close to themselves only.

    Raises
    ------
    ValueRangeError : a tolerance is negative.
    """
    _tolerances("isclose", rtol, atol)
    x, y = as_float(x.detach()), as_float(y.detach())
    near = less_equal(abs(x - y), atol + rtol * abs(y))
    near = logical_or(logical_and(near, isfinite(y)), equal(x, y))
    return logical_or(near, logical_and(isnan(x), isnan(y))) if equal_nan else near


def _allclose_oracle(x, y, rtol=1e-5, atol=1e-8, equal_nan=False):
    return np.asarray(np.allclose(x, y, rtol, atol, equal_nan))


@composite(oracle=_allclose_oracle)
def allclose(
    x: Tensor, y: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False
) -> Tensor:
    """Say whether all values are close, as `isclose` has it.

    Parameters
    ----------
    x, y : Tensor or scalar, shapes that broadcast.
    rtol, atol : numbers, not negative: of y, and absolute.
    equal_nan : nan is close to nan.

    Returns
    -------
    Tensor, (), bool.

    Raises
    ------
    ValueRangeError : a tolerance is negative.
    """
    _tolerances("allclose", rtol, atol)
    return reduction.all(isclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan))


for _op in (isclose, allclose):

    @_op.samples
    def _():
        yield sample(values(1.0, 2.0, 3.0), values(1.0, 2.0, 4.0))
        yield sample((3, 4), (4,), atol=0.5, rtol=0.5, kinds="f")
        yield sample(floats(3, low=1.0), 1.5, atol=1.0)
        odd = values(np.inf, -np.inf, np.nan, 1.0)
        yield sample(odd, odd, equal_nan=True)
        yield sample(odd, values(-np.inf, -np.inf, np.nan, np.inf))

    def _errors(op):
        x = np.zeros(2)
        return lambda: (
            Failure(lambda: op(x, x, rtol=-1), ValueRangeError, r"rtol=-1 is negative"),
            Failure(lambda: op(x, x, atol="a"), DTypeError, r"atol must be a number, not 'a'"),
        )

    _op.errors(_errors(_op))


def _same_oracle(x, y, equal_nan=False):
    return np.asarray(np.array_equal(x, y, equal_nan))


@composite(oracle=_same_oracle)
def array_equal(x: Tensor, y: Tensor, equal_nan: bool = False) -> Tensor:
    """Say whether two tensors have one shape and the same values.

    Parameters
    ----------
    x, y : Tensor or array-like.
    equal_nan : nan equals nan.

    Returns
    -------
    Tensor, (), bool.
    """
    from helixml.ops.creation import full

    if x.shape != y.shape:
        return full((), False, dtypes.bool_, x.device)
    same = equal(x, y)
    if equal_nan:
        same = logical_or(same, logical_and(isnan(x), isnan(y)))
    return reduction.all(same)


@array_equal.samples
def _():
    yield sample(values(1.0, np.nan), values(1.0, np.nan), equal_nan=True)
    yield sample(values(1.0, np.nan), values(1.0, np.nan))
    yield sample(values(1.0, 2.0), values(1.0, 2.0))
    yield sample(values(1.0, 2.0), values(1.0))
    yield sample(integers(2, 3), integers(2, 3))


array_equal.options["shapes_differ"] = True
