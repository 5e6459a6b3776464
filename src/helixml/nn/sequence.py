"""What every sequence layer promises, and what they share.

Every sequence layer answers ``layer(x)``, ``init_state(batch)``, ``chunk(x, state)`` and
``step(x_t, state)``. A sequence run as a whole, in chunks, or step by step gives the same values
and gradients. The layers are in files of their own; `nn.causal_conv` is the shortest.
"""

from __future__ import annotations

from typing import Any, Protocol

import helixml as hx
from helixml.errors import ShapeError, ValueRangeError
from helixml.nn.module import Module

__all__ = [
    "SequenceLayer",
    "State",
    "StepByChunk",
    "check_sequence",
    "check_state",
    "check_state_tensor",
    "check_time_steps",
    "read",
]

State = Any  # Any: a Tensor, or nested tuples and lists of them; each layer has its own


class SequenceLayer(Protocol):
    """What every sequence layer answers; x is (b, l, d), x_t is (b, d)."""

    def __call__(self, x: hx.Tensor) -> hx.Tensor:
        """Run a whole sequence from the zero state."""
        ...

    def init_state(self, batch: int) -> State:
        """Return the state before anything was seen."""
        ...

    def chunk(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run a piece of a sequence from ``state``; return its outputs and the next state."""
        ...

    def step(self, x_t: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run one step from ``state``."""
        ...


def read(layer: SequenceLayer, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
    """Run a piece of a sequence from ``state``, or where that is None a whole one, (b, l, d)."""
    return (layer(x), None) if state is None else layer.chunk(x, state)


def check_sequence(layer: str, x: hx.Tensor, features: int) -> None:
    """Raise ShapeError unless x is (b, l, features)."""
    if x.ndim != 3 or x.shape[2] != features:
        raise ShapeError(f"{layer}: x is {x.shape}, it must be (b, l, {features}).")


def check_state(layer: str, state: State, parts: int) -> None:
    """Raise ShapeError unless ``state`` is a list or tuple of so many parts."""
    if not isinstance(state, list | tuple) or len(state) != parts:
        found = f"{len(state)} parts" if isinstance(state, list | tuple) else type(state).__name__
        raise ShapeError(
            f"{layer}: the state is {found}, it must have {parts} parts. "
            "Hint: start with init_state(batch), go on with what chunk and step return."
        )


def check_time_steps(layer: str, dt_min: float, dt_max: float, dt_floor: float) -> None:
    """Raise ValueRangeError unless starting step sizes can lie in this range."""
    if not (0 < dt_min <= dt_max and dt_floor > 0):
        raise ValueRangeError(
            f"{layer}: dt_min={dt_min}, dt_max={dt_max}, dt_floor={dt_floor}; they must be above 0 "
            "and in order."
        )


def check_state_tensor(layer: str, state: State, shape: tuple[int, ...]) -> None:
    """Raise ShapeError unless ``state``, or that part of it, is a Tensor of this shape."""
    if not isinstance(state, hx.Tensor):
        raise ShapeError(
            f"{layer}: the state is {type(state).__name__}, it must be a Tensor. "
            "Hint: start with init_state(batch)."
        )
    if state.shape != shape:
        raise ShapeError(f"{layer}: the initial state is {state.shape}, it must be {shape}.")


class StepByChunk(Module):
    """A sequence layer whose step is a chunk of length 1."""

    def chunk(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run a piece of a sequence: x is (b, l, d)."""
        raise NotImplementedError

    def step(self, x_t: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run one step: x_t is (b, d)."""
        if x_t.ndim != 2:
            raise ShapeError(f"{type(self).__name__}.step: x_t is {x_t.shape}, it must be (b, d).")
        y, state = self.chunk(hx.expand_dims(x_t, 1), state)
        return y[:, 0], state
