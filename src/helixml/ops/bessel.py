"""Bessel functions of whole order: of the first kind, and modified.

Their derivatives are those of the neighbouring orders. Read `special` first. Public under
`helixml.special`.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.op import primitive
from helixml._core.samples import Failure, domain, floats, sample, values
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ValueRangeError
from helixml.ops.elementwise import chain, sign
from helixml.ops.special import PARTS, scipy_oracle

Array = Any  # a raw array of the backend

# SciPy has faster functions of these orders.
_OF_ORDER = {
    **{("jv", n): f"j{n}" for n in (0, 1)},
    **{("iv", n): f"i{n}" for n in (0, 1)},
    **{("ive", n): f"i{n}e" for n in (0, 1)},
}
_HIGHEST = 10_000


def _bessel_oracle(x, order, kind):
    return scipy_oracle(kind)(order, x)


@primitive(dtype="float", real_only=PARTS, oracle=_bessel_oracle)
def bessel(B, x: Array, order: int, kind: Literal["jv", "iv", "ive"]):
    """Return the Bessel function of a kind and whole order: `jv`, `iv` or `ive`.

    Parameters
    ----------
    x : Tensor, any shape.
    order : int, in [0, 10000].
    kind : "jv" J, "iv" I or "ive" I e^-|x|.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Notes
    -----
    Gradient, with n the order (Watson 1922, sections 2.12 and 3.71): g (J_(n-1) - J_(n+1)) / 2, and
    g (I_(n-1) + I_(n+1)) / 2, where J_(-1) = -J_1 and I_(-1) = I_1; minus sign(x) y for "ive".
    """
    special = _OF_ORDER.get((kind, order))
    return B.special(kind, order, x) if special is None else B.special(special, x)


@bessel.prepare
def _(x, order, kind):
    if kind not in ("jv", "iv", "ive"):
        raise ValueRangeError(f"bessel: kind={kind!r:.80}. Hint: 'jv', 'iv' or 'ive'.")
    if not 0 <= dtypes.as_integer(kind, "the order", order) <= _HIGHEST:
        raise ValueRangeError(f"{kind}: the order {order} is outside [0, {_HIGHEST}].")
    return {"order": int(order), "kind": kind}


@bessel.vjp("x")
def _(g, x, out, order, kind):
    above = bessel(x, order + 1, kind)
    if kind == "jv":
        slope = -above if order == 0 else 0.5 * (bessel(x, order - 1, kind) - above)
    else:
        slope = above if order == 0 else 0.5 * (bessel(x, order - 1, kind) + above)
    if kind == "ive":
        slope = slope - sign(x) * out
    return chain(g, slope)


bessel.flops(lambda out: out.size)


@bessel.samples
def _():
    for kind in ("jv", "iv", "ive"):
        for order in (0, 1, 2, 5):
            yield sample((3, 4), order=order, kind=kind)
        yield sample(floats(6, low=4.0, high=12.0), order=3, kind=kind)
        yield sample(values(0.0, -0.0, np.nan), order=0, kind=kind, value_only=True)
    yield sample((), order=0, kind="jv")
    yield sample((0, 3), order=1, kind="iv")


@bessel.errors
def _():
    from helixml.ops.creation import zeros

    x = zeros(2)
    yield Failure(lambda: jv(-1, x), ValueRangeError, r"jv: the order -1 is outside \[0, 10000\]")
    yield Failure(lambda: iv(0.5, x), DTypeError, r"iv: the order must be an integer, not 0.5")
    yield Failure(lambda: bessel(x, 0, "yv"), ValueRangeError, r"bessel: kind='yv'")


def _of_kind(kind, summary):
    def function(v: int, x: Tensor) -> Tensor:
        return bessel(x, v, kind)

    function.__name__ = kind
    function.__module__ = __name__
    function.__doc__ = f"""Return {summary} of order v.

    Parameters
    ----------
    v : int, in [0, 10000].
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    ValueRangeError : another order. DTypeError : ``x`` is complex, or ``v`` is not whole.

    Notes
    -----
    Gradient: half the difference, for J, or sum, for I, of those of orders v - 1 and v + 1.
    """
    op = composite(function, real_only=PARTS, oracle=scipy_oracle(kind))
    op.samples(lambda: (sample(2, floats(3, 4)), sample(0, (2,))))
    return op


def _of_order(name, kind, order, summary):
    def function(x: Tensor) -> Tensor:
        return bessel(x, order, kind)

    function.__name__ = name
    function.__module__ = __name__
    function.__doc__ = f"""Return {summary} of order {order}.

    Parameters
    ----------
    x : Tensor, any shape.

    Returns
    -------
    Tensor, same shape, a float dtype.

    Raises
    ------
    DTypeError : ``x`` is complex.
    """
    op = composite(function, real_only=PARTS, oracle=scipy_oracle(name))
    op.samples(domain(-2.0, 2.0))
    return op


_J = "the Bessel function of the first kind, J,"
_I = "the modified Bessel function of the first kind, I,"
_IE = "the modified Bessel function times e^-|x|, which does not overflow,"

jv = _of_kind("jv", _J)
iv = _of_kind("iv", _I)
ive = _of_kind("ive", _IE)
j0 = _of_order("j0", "jv", 0, _J)
j1 = _of_order("j1", "jv", 1, _J)
i0 = _of_order("i0", "iv", 0, _I)
i1 = _of_order("i1", "iv", 1, _I)
i0e = _of_order("i0e", "ive", 0, _IE)
i1e = _of_order("i1e", "ive", 1, _IE)
