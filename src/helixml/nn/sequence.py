"""Sequence layers: what they promise, and the two that a Mamba model is made of.

Every sequence layer answers ``layer(x)``, ``init_state(batch)``, ``chunk(x, state)`` and
``step(x_t, state)``. A sequence run as a whole, in chunks, or step by step gives the same values
and gradients.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import helixml as hx
from helixml.errors import ShapeError, ValueRangeError
from helixml.nn import init
from helixml.nn.layers import Linear
from helixml.nn.module import Module
from helixml.nn.parameter import Parameter

__all__ = ["CausalConv1d", "MambaBlock", "SequenceLayer"]

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


class _StepByChunk(Module):
    """A sequence layer whose step is a chunk of length 1."""

    def chunk(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        raise NotImplementedError

    def step(self, x_t: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Run one step: x_t is (b, d)."""
        if x_t.ndim != 2:
            raise ShapeError(f"{type(self).__name__}.step: x_t is {x_t.shape}, it must be (b, d).")
        y, state = self.chunk(hx.expand_dims(x_t, 1), state)
        return y[:, 0], state


class CausalConv1d(_StepByChunk):
    """A short filter for each channel that looks only backward; see `helixml.causal_conv1d`.

    Parameters
    ----------
    features : int. kernel_size : int, taps.
    bias : whether there is one.
    activation : None or "silu".
    rng : the stream for starting values.

    Attributes
    ----------
    weight : Parameter, (features, 1, kernel_size), PyTorch's layout of a depthwise convolution.
    bias : Parameter, (features,), or None.
    """

    def __init__(
        self,
        features: int,
        kernel_size: int,
        bias: bool = True,
        activation: str | None = None,
        rng: hx.random.Rng | None = None,
    ) -> None:
        if features < 1 or kernel_size < 1:
            raise ValueRangeError(
                f"CausalConv1d: features={features}, kernel_size={kernel_size}; at least 1 each."
            )
        if activation not in (None, "silu"):
            raise ValueRangeError(f"CausalConv1d: activation={activation!r}. Hint: 'silu' or None.")
        shape = (features, 1, kernel_size)
        self.weight = Parameter(init.fan_in_uniform(shape, kernel_size, rng))
        self.bias = (
            Parameter(init.fan_in_uniform((features,), kernel_size, rng), decay=False)
            if bias
            else None
        )
        self.activation = activation

    def _filter(self, x: hx.Tensor, past: hx.Tensor | None) -> hx.Tensor:
        features, _, taps = self.weight.shape
        check_sequence("CausalConv1d", x, features)
        y = hx.causal_conv1d(
            x.mT, self.weight.reshape(features, taps), self.bias, self.activation, past
        )
        result: hx.Tensor = y.mT
        return result

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Filter a whole sequence, (b, l, features)."""
        return self._filter(x, None)

    def init_state(self, batch: int) -> hx.Tensor:
        """Return zeros, (b, features, kernel_size - 1): the inputs before the first."""
        features, _, taps = self.weight.shape
        return hx.zeros((batch, features, taps - 1), self.weight.dtype, self.weight.device)

    def chunk(self, x: hx.Tensor, state: hx.Tensor) -> tuple[hx.Tensor, hx.Tensor]:
        """Filter a piece; the state is its last kernel_size - 1 inputs."""
        if not isinstance(state, hx.Tensor):
            raise ShapeError(
                f"CausalConv1d: the state is {type(state).__name__}, it must be a Tensor. "
                "Hint: start with init_state(batch)."
            )
        y = self._filter(x, state)
        seen = hx.concat([state, x.mT], axis=2)
        return y, seen[:, :, seen.shape[2] - state.shape[2] :]


class MambaBlock(_StepByChunk):
    """The mixer of Mamba: projection, short convolution, selective scan, gate, projection.

    No normalisation and no residual connection inside.

    Parameters
    ----------
    d_model : int, features of the sequence.
    d_state : int, n, states of each channel.
    d_conv : int, taps of the short convolution.
    expand : int, channels inside are expand * d_model.
    dt_rank : int, rank of the step sizes' projection; ceil(d_model / 16) if left out.
    bias, conv_bias : whether the projections and the convolution have biases.
    dt_min, dt_max, dt_floor : range of the starting step sizes, in tokens.
    rng : the stream for starting values.

    References
    ----------
    Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", figure 3 and
    section 3.6 (real diagonal A, starting values of A and of the step sizes). Parameters have the
    names of Hugging Face's MambaMixer.

    Examples
    --------
    >>> import helixml as hx
    >>> block = hx.nn.MambaBlock(8, d_state=4)
    >>> x = hx.random.Rng(0).normal((2, 5, 8))
    >>> y, state = block.chunk(x[:, :3], block.init_state(2))
    >>> y_t, state = block.step(x[:, 3], state)
    >>> bool(abs(block(x)[:, 3] - y_t).max() < 1e-5)
    True
    """

    def __init__(
        self,
        d_model: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        *,
        dt_rank: int | None = None,
        bias: bool = False,
        conv_bias: bool = True,
        dt_min: float = 0.001,
        dt_max: float = 0.1,
        dt_floor: float = 1e-4,
        rng: hx.random.Rng | None = None,
    ) -> None:
        rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        if min(d_model, d_state, d_conv, expand, rank) < 1:
            raise ValueRangeError(
                f"MambaBlock: d_model={d_model}, d_state={d_state}, d_conv={d_conv}, "
                f"expand={expand}, dt_rank={rank}; at least 1 each."
            )
        if not (0 < dt_min <= dt_max and dt_floor > 0):
            raise ValueRangeError(
                f"MambaBlock: dt_min={dt_min}, dt_max={dt_max}, dt_floor={dt_floor}; they must be "
                "above 0 and in order."
            )
        rng = rng or hx.random.default_rng()
        d = expand * d_model
        self.in_proj = Linear(d_model, 2 * d, bias, rng)
        self.conv1d = CausalConv1d(d, d_conv, conv_bias, "silu", rng)
        self.x_proj = Linear(d, rank + 2 * d_state, False, rng)
        self.dt_proj = Linear(rank, d, True, rng)
        self.dt_proj.bias = Parameter(
            init.time_step_bias(d, dt_min, dt_max, dt_floor, rng), decay=False
        )
        steps = hx.arange(1, d_state + 1, dtype="float32")
        self.A_log = Parameter(hx.broadcast_to(hx.log(steps), (d, d_state)), decay=False)
        self.D = Parameter(hx.ones((d,)), decay=False)
        self.out_proj = Linear(d, d_model, bias, rng)

    def _mix(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        d, n = self.A_log.shape
        rank = self.dt_proj.weight.shape[1]
        check_sequence("MambaBlock", x, self.in_proj.weight.shape[1])
        u, z = hx.split(self.in_proj(x), (d, d), axis=2)  # (b, l, d) each
        if state is None:
            u = self.conv1d(u)
            conv_state = ssm_state = None
        else:
            u, conv_state = self.conv1d.chunk(u, state[0])
            ssm_state = state[1]
        dt, B, C = hx.split(self.x_proj(u), (rank, n, n), axis=2)
        delta = dt @ self.dt_proj.weight.mT  # (b, l, d); its bias is added inside the scan
        y = hx.selective_scan(
            u.mT,
            delta.mT,
            -hx.exp(self.A_log),
            B.mT,
            C.mT,
            self.D,
            z.mT,
            self.dt_proj.bias,
            True,
            ssm_state,
            state is not None,
        )
        if state is not None:
            y, ssm_state = y
        return self.out_proj(y.mT), (conv_state, ssm_state)

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Mix a whole sequence, (b, l, d_model), from the zero state."""
        return self._mix(x, None)[0]

    def init_state(self, batch: int) -> State:
        """Return zeros: the convolution's past inputs and the scan's state, (b, d, n)."""
        d, n = self.A_log.shape
        scan = hx.zeros((batch, d, n), self.A_log.dtype, self.A_log.device)
        return self.conv1d.init_state(batch), scan

    def chunk(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        """Mix a piece of a sequence from ``state``."""
        check_state("MambaBlock", state, 2)
        return self._mix(x, state)
