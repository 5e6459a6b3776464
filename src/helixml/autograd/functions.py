"""Derivatives of functions: a function in, a function out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from helixml._core import tape
from helixml._core.modes import enable_grad, recording
from helixml._core.tensor import Tensor, as_tensor
from helixml.autograd.reverse import alias, check_float, gradients
from helixml.dtypes import as_integer
from helixml.errors import DTypeError, GraphError, ValueRangeError

__all__ = ["grad", "value_and_grad"]

Function = Callable[..., Any]  # Any: users' functions take and return what they like


def value_and_grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return a function that gives f's value and its gradient.

    Parameters
    ----------
    f : function of Tensors (arrays and numbers are converted) to a scalar Tensor.
    argnums : which positional arguments to differentiate with respect to.

    Returns
    -------
    Function with f's arguments, returning ``(value, gradient)``; the gradient is a tuple if
    ``argnums`` is a sequence.

    Raises
    ------
    GraphError : f's value is no scalar or does not depend on tensors.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.value_and_grad(lambda x: (x * x).sum())(hx.tensor([1.0, 3.0]))
    (tensor(10.), tensor([2., 6.]))
    """
    single = hasattr(argnums, "__index__")
    items: Any = [argnums] if single or not hasattr(argnums, "__iter__") else argnums
    numbers = [as_integer("grad", "argnums", n) for n in items]

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        arguments = list(args)
        sources = []
        for number in numbers:
            if not -len(args) <= number < len(args):
                raise ValueRangeError(
                    f"grad: argnums names argument {number}, the call has {len(args)}."
                )
            x = as_tensor("grad", args[number])
            check_float("grad", x)
            sources.append(x)
        outer = recording.get()
        with enable_grad():
            inputs = []
            for number, x in zip(numbers, sources, strict=True):
                if x.requires_grad and outer:
                    inner = alias(x)  # an outer derivative flows through here
                else:
                    inner = x.detach()
                    inner.requires_grad = True
                arguments[number] = inner
                inputs.append(inner)
            value = f(*arguments, **kwargs)
            if not isinstance(value, Tensor):
                raise DTypeError(
                    f"grad: the function returned {type(value).__name__}, not a Tensor."
                )
            if value.size != 1:
                raise GraphError(
                    f"grad: the function returned shape {value.shape}, it must return a scalar. "
                    "Hint: .sum() or .mean()."
                )
        # Record the gradients only if somebody outside can differentiate them.
        again = outer and (any(x.requires_grad for x in sources) or _reaches_others(value, inputs))
        if value.requires_grad:
            found = gradients([value], inputs, create_graph=again, retain_graph=again)
        else:
            found = tuple(x * 0 for x in sources)
        result = value if again else value.detach()
        return result, found[0] if single else found

    return differentiated


def grad(f: Function, argnums: int | Sequence[int] = 0) -> Function:
    """Return the gradient of a function, as a function; apply it again for second derivatives.

    Parameters
    ----------
    f : function of Tensors to a scalar Tensor.
    argnums : which positional arguments to differentiate with respect to.

    Returns
    -------
    Function with f's arguments that returns the gradient, a tuple if ``argnums`` is a sequence.

    Examples
    --------
    >>> import helixml as hx
    >>> cube = lambda x: x * x * x
    >>> hx.grad(cube)(2.0), hx.grad(hx.grad(cube))(2.0)
    (tensor(12.), tensor(12.))
    """
    both = value_and_grad(f, argnums)

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        return both(*args, **kwargs)[1]

    return differentiated


def _reaches_others(value: Tensor, inputs: list[Tensor]) -> bool:
    """Say whether ``value`` depends on leaves that require gradients, beside ``inputs``."""
    mine = {id(x) for x in inputs} | {id(x._node) for x in inputs if x._node is not None}
    roots: list[Any] = [value._node] if value._node is not None else []
    for node in tape.collect(roots):
        if id(node) in mine:
            continue
        for parent in node.parents:
            if isinstance(parent, Tensor) and id(parent) not in mine:
                return True
    return False
