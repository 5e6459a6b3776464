"""Parameters and buffers: the tensors that a module owns."""

from __future__ import annotations

import math
from typing import Any

import helixml as hx
from helixml.errors import ValueRangeError

__all__ = ["Buffer", "Parameter"]


class Parameter(hx.Tensor):
    """A leaf tensor that a module learns.

    Parameters
    ----------
    data : Tensor or array-like; copied.
    requires_grad : whether it is learned.
    decay : whether weight decay applies to it, for those who build parameter groups, such as
        `helixml.optim.decay_groups`.
    lr_scale : what every optimizer multiplies its learning rate by for this parameter.

    Raises
    ------
    ValueRangeError : ``lr_scale`` is negative or not finite.
    """

    decay: bool

    def __init__(
        self,
        data: Any,
        *,
        requires_grad: bool = True,
        decay: bool = True,
        lr_scale: float = 1.0,
    ) -> None:
        if not 0 <= lr_scale < math.inf:
            raise ValueRangeError(
                f"Parameter: lr_scale={lr_scale}, it must be finite and 0 or more. "
                "Hint: requires_grad=False keeps a parameter as it is."
            )
        own = hx.tensor(data)
        super().__init__(own._array, own._backend)
        self.requires_grad = requires_grad
        self.decay = decay
        self.lr_scale = lr_scale

    @property
    def lr_scale(self) -> float:
        """What every optimizer multiplies its learning rate by for this parameter."""
        return self._lr_scale

    @lr_scale.setter
    def lr_scale(self, value: float) -> None:
        self._lr_scale = value
        hx.autograd.capturing.note_change()

    def __reduce__(self) -> Any:
        settings = self.requires_grad, self.decay, self.lr_scale
        return _rebuild, (self.numpy(copy=True), str(self.device), *settings)


class Buffer(hx.Tensor):
    """A tensor that belongs to a module's state and is not learned.

    Parameters
    ----------
    data : Tensor or array-like; copied.
    persistent : whether it is saved, as part of ``state_dict()``; what can be computed again need
        not be.
    """

    persistent: bool

    def __init__(self, data: Any, *, persistent: bool = True) -> None:
        own = hx.tensor(data)
        super().__init__(own._array, own._backend)
        self.persistent = persistent

    def __reduce__(self) -> Any:
        return _rebuild_buffer, (self.numpy(copy=True), str(self.device), self.persistent)


def _rebuild(
    values: Any, device: str, requires_grad: bool, decay: bool, lr_scale: float = 1.0
) -> Parameter:
    """Make a parameter again from what ``__reduce__`` gave: for copies and pickles."""
    own = hx.tensor(values, device=device)
    return Parameter(own, requires_grad=requires_grad, decay=decay, lr_scale=lr_scale)


def _rebuild_buffer(values: Any, device: str, persistent: bool) -> Buffer:
    return Buffer(hx.tensor(values, device=device), persistent=persistent)
