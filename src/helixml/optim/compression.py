"""Gradients in fewer bytes, with error feedback: what a message leaves out, the next one adds.

A compressor stands between ``backward()`` and ``step()``, in one process or with the messages
carried between several. Over time nothing is lost: the messages and what is still owed add up to
the gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import helixml as hx
from helixml.errors import CheckpointError, ShapeError, ValueRangeError

__all__ = ["Compressor", "EightBit", "Message", "TopK"]


@dataclass(frozen=True)
class Message:
    """One gradient in fewer bytes.

    Attributes
    ----------
    values : Tensor, one axis: entries of the gradient, or integers that stand for them.
    shape : tuple of int, of the gradient.
    positions : Tensor, like ``values``: where in the flat gradient they stand; None for all of it.
    scale : Tensor, (), by which ``values`` are multiplied; None if they are what they are.
    """

    values: hx.Tensor
    shape: tuple[int, ...]
    positions: hx.Tensor | None = None
    scale: hx.Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensors that a sender has to send."""
        parts = (self.values, self.positions, self.scale)
        return sum(part.nbytes for part in parts if part is not None)

    def gradient(self) -> hx.Tensor:
        """Return the gradient that the message stands for."""
        values = self.values
        if self.scale is not None:
            values = hx.dequantize(values, self.scale)
        if self.positions is not None:
            size = math.prod(self.shape)
            flat = hx.zeros((size,), dtype=values.dtype, device=values.device)
            values = flat.at[self.positions].set(values)
        found: hx.Tensor = hx.reshape(values, self.shape)
        return found


class Compressor:
    """Base class: parameters, and what is still owed to each.

    Parameters
    ----------
    params : iterable of Parameters.

    Notes
    -----
    With gradient g_t and e_0 = 0: m_t = compress(g_t + e_t), e_(t+1) = g_t + e_t - m_t.

    References
    ----------
    Stich et al. 2018, "Sparsified SGD with memory", algorithm 1. Seide et al. 2014, "1-bit
    stochastic gradient descent".
    """

    def __init__(self, params: Iterable[hx.Tensor]) -> None:
        self.params = list(params)
        self._owed: list[hx.Tensor | None] = [None] * len(self.params)

    def message(self, gradient: hx.Tensor) -> Message:
        """Return a gradient, which is finite and not empty, in fewer bytes."""
        raise NotImplementedError

    def compress(self) -> list[Message | None]:
        """Return a message for each parameter, None where there is no gradient; keep the rest.

        Raises
        ------
        ValueRangeError : a gradient holds inf or nan. Nothing is kept of any then.
        """
        messages: list[Message | None] = []
        owed = list(self._owed)
        with hx.no_grad():
            for i, parameter in enumerate(self.params):
                if parameter.grad is None or not parameter.size:
                    messages.append(None)
                    continue
                before = owed[i]
                whole = parameter.grad if before is None else parameter.grad + before
                if not hx.all(hx.isfinite(whole)):
                    raise ValueRangeError(
                        f"{type(self).__name__}: the gradient of parameter {i}, shape "
                        f"{parameter.shape}, holds inf or nan, which would be owed for ever. "
                        "Hint: skip this step, or find the op by hx.debug.anomaly()."
                    )
                message = self.message(whole)
                owed[i] = whole - message.gradient()
                messages.append(message)
        self._owed = owed
        return messages

    def restore(self, messages: Sequence[Message | None]) -> None:
        """Give each parameter the gradient that its message stands for."""
        if len(messages) != len(self.params):
            raise ShapeError(
                f"{type(self).__name__}: {len(messages)} messages for "
                f"{len(self.params)} parameters."
            )
        with hx.no_grad():
            for parameter, message in zip(self.params, messages, strict=True):
                if message is not None:
                    parameter.grad = message.gradient()

    def step(self) -> int:
        """Replace all gradients by what their messages hold; return the bytes of the messages."""
        messages = self.compress()
        self.restore(messages)
        return sum(message.nbytes for message in messages if message is not None)

    def state_dict(self) -> dict[str, Any]:
        """Return what is owed, by the parameters' numbers."""
        return {str(i): owed for i, owed in enumerate(self._owed) if owed is not None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up what `state_dict` of a compressor for like parameters gave.

        Raises
        ------
        CheckpointError : parameters are missing, or have other shapes.
        """
        owed: list[hx.Tensor | None] = [None] * len(self.params)
        for key, value in state.items():
            if not key.isdigit() or int(key) >= len(owed):
                raise CheckpointError(
                    f"{type(self).__name__}: the state is of parameter {key!r}, here are "
                    f"{len(owed)}."
                )
            found = hx.asarray(value)
            if found.shape != self.params[int(key)].shape:
                raise CheckpointError(
                    f"{type(self).__name__}: parameter {key} is {self.params[int(key)].shape}, "
                    f"the state is {found.shape}."
                )
            owed[int(key)] = found
        self._owed = owed


class TopK(Compressor):
    """Keep the entries of each gradient that are largest in size.

    Parameters
    ----------
    params : iterable of Parameters.
    share : float in (0, 1]: how many of the entries of each, rounded up.

    Raises
    ------
    ValueRangeError : ``share`` is out of its range.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0, 2.0, 4.0, 3.0])
    >>> compressor = hx.optim.TopK([w], share=0.25)
    >>> (w * w).sum().backward()
    >>> compressor.step()  # bytes: one value, one position
    8
    >>> w.grad
    tensor([0., 0., 8., 0.])
    """

    def __init__(self, params: Iterable[hx.Tensor], share: float = 0.01) -> None:
        super().__init__(params)
        if not 0 < share <= 1:
            raise ValueRangeError(f"TopK: share={share} must be in (0, 1].")
        self.share = share

    def message(self, gradient: hx.Tensor) -> Message:
        """Return the entries that are kept, and their positions."""
        flat = hx.reshape(gradient, (-1,))
        count = math.ceil(self.share * flat.size)
        positions = hx.topk(hx.abs(flat), count, sorted=False).indices
        width = hx.int32 if flat.size <= hx.iinfo(hx.int32).max else hx.int64
        return Message(hx.take(flat, positions), gradient.shape, positions.astype(width))


class EightBit(Compressor):
    """Round each gradient to 255 steps between its greatest size and minus that.

    Parameters
    ----------
    params : iterable of Parameters.

    Notes
    -----
    An entry errs by at most 1/254 of the largest; error feedback sends that with the next.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.nn.Parameter([1.0, -127.0])
    >>> w.grad = hx.tensor([0.4, -127.0])
    >>> compressor = hx.optim.EightBit([w])
    >>> compressor.step()  # two values, a scale
    6
    >>> w.grad
    tensor([   0., -127.])
    """

    def message(self, gradient: hx.Tensor) -> Message:
        """Return the integers and their scale."""
        flat = hx.reshape(gradient, (-1,))
        scale = hx.max(hx.abs(flat)) / 127
        scale = hx.where(scale > 0, scale, 1)  # zeros, or too small to divide
        return Message(hx.quantize(flat, scale), gradient.shape, scale=scale)
