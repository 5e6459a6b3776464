"""`straight_through`: the value of one function with the gradient of another."""

from __future__ import annotations

from functools import wraps
from typing import Any

from helixml._core.modes import no_grad
from helixml._core.tensor import Tensor, as_tensor
from helixml.autograd.custom import custom_vjp
from helixml.autograd.level import Function
from helixml.errors import ShapeError

__all__ = ["straight_through"]


def straight_through(f: Function, surrogate: Function | None = None) -> Function:
    """Return a function with f's values whose gradient is that of ``surrogate``.

    For steps, roundings and samples, which have no useful derivative.

    Parameters
    ----------
    f : function of a Tensor to a Tensor of the same shape; it runs unrecorded. Other arguments pass
        through to it.
    surrogate : function of the Tensor whose gradient is taken instead; the identity if left out.

    Returns
    -------
    Function with f's arguments; its values have the dtype of the surrogate's.

    Raises
    ------
    ShapeError : when called, if f's values have another shape than the surrogate's.

    References
    ----------
    Bengio, Leonard and Courville 2013, "Estimating or propagating gradients through stochastic
    neurons", section 4.

    Examples
    --------
    >>> import helixml as hx
    >>> rounded = hx.autograd.straight_through(hx.round)
    >>> hx.value_and_grad(lambda x: (rounded(x) * 3).sum())(hx.tensor([0.4, 1.6]))
    (tensor(6.), tensor([3., 3.]))
    >>> step = hx.autograd.straight_through(lambda x: x > 0, hx.tanh)
    >>> hx.value_and_grad(step)(0.0)
    (tensor(0.), tensor(1.))
    """

    @wraps(f)
    def estimated(x: Any, *args: Any, **kwargs: Any) -> Tensor:
        x = as_tensor("straight_through", x)
        soft: Tensor = x if surrogate is None else surrogate(x)
        with no_grad():
            hard = f(x, *args, **kwargs).astype(soft.dtype)
        if hard.shape != soft.shape:
            raise ShapeError(
                f"straight_through: the function returned shape {hard.shape}, "
                f"its surrogate {soft.shape}."
            )
        result: Tensor = _valued(soft, hard)
        return result

    return estimated


@custom_vjp
def _valued(soft: Tensor, hard: Tensor) -> Tensor:
    """Return ``hard`` in the place of ``soft``."""
    return hard


@_valued.vjp("soft")
def _(g: Tensor) -> Tensor:
    return g
