"""`saved_hooks`: what the tape keeps for the backward pass, in another form or another place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextvars import Token
from typing import Any

from helixml._core import saving
from helixml._core.tensor import Tensor

__all__ = ["saved_hooks"]

_counting = threading.Lock()


class saved_hooks:
    """Within the block, hand every value that the tape keeps to ``pack``, and keep what it returns.

    Parameters
    ----------
    pack : function of a Tensor (any shape and dtype, integers too) to anything. It must not write
        the tensor.
    unpack : function of what ``pack`` returned to a Tensor of the same shape, dtype and device;
        called when a backward pass reads the value, perhaps more than once, perhaps never.

    Raises
    ------
    ShapeError, DTypeError : in the backward pass, if ``unpack`` returns something else.

    Notes
    -----
    A context manager, which can be entered again. Of nested blocks the innermost counts; threads do
    not see each other's. Leaves that require gradients are not handed over: they live anyway. That
    a value was overwritten in place is noticed all the same. Both functions run unrecorded, so
    derivatives of every order read the values as ``unpack`` returns them.

    Examples
    --------
    Half the memory, for gradients of the precision of float16:

    >>> import helixml as hx
    >>> halves = hx.autograd.saved_hooks(
    ...     lambda x: x.astype("float16") if x.dtype == "float32" else x,
    ...     lambda kept: kept.astype("float32") if kept.dtype == "float16" else kept,
    ... )
    >>> x = hx.tensor([0.1, 2.0], requires_grad=True)
    >>> with halves:
    ...     y = (hx.exp(x) * 1.0).sum()
    >>> y.backward()
    >>> x.grad
    tensor([1.105..., 7.390...])
    """

    def __init__(self, pack: Callable[[Tensor], Any], unpack: Callable[[Any], Tensor]) -> None:
        self._pair = (pack, unpack)
        self._tokens: list[Token[Any]] = []

    def __enter__(self) -> None:
        with _counting:
            saving.packing += 1
        self._tokens.append(saving.hooks.set(self._pair))

    def __exit__(self, *exception: object) -> None:
        saving.hooks.reset(self._tokens.pop())
        with _counting:
            saving.packing -= 1
