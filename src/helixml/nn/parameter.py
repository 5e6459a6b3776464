"""Parameters and buffers: the tensors that a module owns."""

from __future__ import annotations

from typing import Any

import helixml as hx

__all__ = ["Buffer", "Parameter"]


class Parameter(hx.Tensor):
    """A leaf tensor that a module learns.

    Parameters
    ----------
    data : Tensor or array-like; copied.
    requires_grad : whether it is learned.
    decay : whether weight decay applies to it, for those who build parameter groups.
    """

    decay: bool

    def __init__(self, data: Any, *, requires_grad: bool = True, decay: bool = True) -> None:
        own = hx.tensor(data)
        super().__init__(own._array, own._backend)
        self.requires_grad = requires_grad
        self.decay = decay

    def __reduce__(self) -> Any:
        device = str(self.device)
        return _rebuild, (self.numpy(copy=True), device, self.requires_grad, self.decay)


class Buffer(hx.Tensor):
    """A tensor that belongs to a module's state and is not learned.

    Parameters
    ----------
    data : Tensor or array-like; copied.
    """

    def __init__(self, data: Any) -> None:
        own = hx.tensor(data)
        super().__init__(own._array, own._backend)


def _rebuild(values: Any, device: str, requires_grad: bool, decay: bool) -> Parameter:
    """Make a parameter again from what ``__reduce__`` gave: for copies and pickles."""
    return Parameter(hx.tensor(values, device=device), requires_grad=requires_grad, decay=decay)
