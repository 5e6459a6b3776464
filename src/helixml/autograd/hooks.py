"""Hooks on gradients: look at, change or keep the gradient of a tensor as a pass goes through it.

A hook hangs on the node (or the leaf) and sees the whole gradient, summed over all uses. The walk
calls it (`helixml._core.tape.walk`); hooks on what the tape keeps are in `saved`.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from helixml._core import tape
from helixml._core.tensor import Tensor
from helixml.autograd.reverse import accumulate, accumulating
from helixml.errors import DTypeError, GraphError, ShapeError

__all__ = ["HookHandle", "register_hook", "retain_grad"]


class HookHandle:
    """What `register_hook` returns: `remove` takes the hook away."""

    def __init__(self, hooks: list[Any], entry: Any) -> None:
        self._hooks = hooks
        self._entry = entry

    def remove(self) -> None:
        """Take the hook away; once more does nothing."""
        if self._entry in self._hooks:
            self._hooks.remove(self._entry)


def register_hook(x: Tensor, hook: Callable[[Tensor], Tensor | None]) -> HookHandle:
    """Call ``hook(gradient)`` whenever a backward pass has the gradient of ``x``.

    Parameters
    ----------
    x : Tensor that requires a gradient; a leaf or computed.
    hook : takes the whole gradient, of the shape and dtype of ``x``. What it returns goes on in its
        place; None changes nothing. Hooks run in the order in which they were registered.

    Returns
    -------
    HookHandle, whose ``remove()`` takes the hook away.

    Raises
    ------
    GraphError : ``x`` does not require a gradient.
    ShapeError, DTypeError : in the pass, if the hook returns something else than such a gradient.

    Notes
    -----
    Runs in `backward` and in `gradients` (if they get so far), there recorded if ``create_graph``.
    `grad` and its like differentiate with respect to tensors of their own: hooks on their arguments
    do not run, hooks on what the function computes do.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * x
    >>> handle = y.register_hook(lambda g: 10 * g)
    >>> y.sum().backward()
    >>> x.grad
    tensor([20., 40.])
    """
    if not x.requires_grad:
        raise GraphError(
            f"register_hook: this tensor (shape {x.shape}) does not require a gradient. "
            "Hint: x.requires_grad = True first."
        )
    shape, dtype = x.shape, x.dtype

    def checked(gradient: Tensor) -> Tensor:
        result = hook(gradient)
        if result is None:
            return gradient
        if not isinstance(result, Tensor):
            raise DTypeError(f"hook: returned {type(result).__name__}, not a Tensor or None.")
        if result.shape != shape:
            raise ShapeError(f"hook: returned shape {result.shape}, the gradient has {shape}.")
        if result.dtype != dtype:
            raise DTypeError(f"hook: returned {result.dtype}, the gradient is {dtype}.")
        return result

    node: Any = x._node
    if node is None:
        return _add(_hooks_of_leaf(x), checked)
    if node.hooks is None:
        node.hooks = []
    return _add(node.hooks, (x._slot, checked))


def _add(hooks: list[Any], entry: Any) -> HookHandle:
    """Register ``entry`` before those of `retain_grad`, which want what hooks have made."""
    place = len(hooks)
    while (
        place and isinstance(hooks[place - 1], tuple) and isinstance(hooks[place - 1][1], _Keeper)
    ):
        place -= 1
    hooks.insert(place, entry)
    return HookHandle(hooks, entry)


def _keeps(entry: Any) -> bool:
    return isinstance(entry, tuple) and isinstance(entry[1], _Keeper)


def _hooks_of_leaf(x: Tensor) -> list[Any]:
    """Return the hooks of a leaf; they go with it."""
    key = id(x)
    hooks: list[Any] | None = tape.leaf_hooks.get(key)
    if hooks is None:
        hooks = tape.leaf_hooks[key] = []
        weakref.finalize(x, tape.leaf_hooks.pop, key, None).atexit = False
    return hooks


class _Keeper:
    """Adds the gradient of a computed tensor to its ``grad``, in `backward` alone."""

    def __init__(self, x: Tensor) -> None:
        self.tensor = weakref.ref(x)

    def __call__(self, gradient: Tensor) -> Tensor:
        x = self.tensor()
        if x is not None and accumulating.get():
            accumulate(x, gradient)
        return gradient


def retain_grad(x: Tensor) -> None:
    """Keep the gradient of a computed tensor in its ``grad``, as on leaves.

    Parameters
    ----------
    x : Tensor that requires a gradient; on a leaf there is nothing to do.

    Raises
    ------
    GraphError : ``x`` does not require a gradient.

    Notes
    -----
    The gradient is the one after all hooks. `gradients`, `grad` and their like touch no ``grad``.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 2.0], requires_grad=True)
    >>> y = x * x
    >>> y.retain_grad()
    >>> (3 * y).sum().backward()
    >>> y.grad
    tensor([3., 3.])
    """
    if not x.requires_grad:
        raise GraphError(f"retain_grad: this tensor (shape {x.shape}) does not require a gradient.")
    node: Any = x._node
    if node is None:
        return
    if node.hooks is None:
        node.hooks = []
    for _, hook in node.hooks:
        if isinstance(hook, _Keeper) and hook.tensor() is x:
            return
    node.hooks.append((x._slot, _Keeper(x)))
