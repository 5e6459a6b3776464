"""MambaBlock: the mixer of Mamba, a selective scan between projections."""

from __future__ import annotations

import math

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.nn import init
from helixml.nn.causal_conv import CausalConv1d
from helixml.nn.layers import Linear, plain_map
from helixml.nn.parameter import Parameter
from helixml.nn.sequence import (
    State,
    StepByChunk,
    check_sequence,
    check_state,
    check_state_tensor,
    check_time_steps,
)

__all__ = ["MambaBlock"]


class MambaBlock(StepByChunk):
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
    select_eps : with a number, what selects (the step sizes before their projection, B and C) is
        normalised by its root mean square, with this eps; None leaves it as it is.
    rng : the stream for starting values.

    References
    ----------
    Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces", figure 3 and
    section 3.6 (real diagonal A, starting values of A and of the step sizes). Parameters have the
    names of Hugging Face's MambaMixer. Normalised selection: Zuo et al. 2024, "Falcon Mamba: the
    first competitive attention-free 7B language model".

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
        select_eps: float | None = None,
        rng: hx.random.Rng | None = None,
    ) -> None:
        rank = math.ceil(d_model / 16) if dt_rank is None else dt_rank
        if min(d_model, d_state, d_conv, expand, rank) < 1:
            raise ValueRangeError(
                f"MambaBlock: d_model={d_model}, d_state={d_state}, d_conv={d_conv}, "
                f"expand={expand}, dt_rank={rank}; at least 1 each."
            )
        check_time_steps("MambaBlock", dt_min, dt_max, dt_floor)
        if select_eps is not None and not select_eps >= 0:
            raise ValueRangeError(f"MambaBlock: select_eps={select_eps} is negative.")
        rng = rng or hx.random.default_rng()
        self.features = d_model
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
        self.select_eps = select_eps

    def _mix(self, x: hx.Tensor, state: State) -> tuple[hx.Tensor, State]:
        d, n = self.A_log.shape
        rank = self.dt_proj.weight.shape[1]
        check_sequence("MambaBlock", x, self.features)
        u, z = hx.split(self.in_proj(x), (d, d), axis=2)  # (b, l, d) each
        if state is None:
            u = self.conv1d(u)
            conv_state = ssm_state = None
        else:
            u, conv_state = self.conv1d.chunk(u, state[0])
            ssm_state = state[1]
        dt, B, C = self.normed(*hx.split(self.x_proj(u), (rank, n, n), axis=2))
        delta = hx.linear(dt, self.dt_proj.weight)  # (b, l, d); the scan adds the bias
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

    def normed(
        self, dt: hx.Tensor, B: hx.Tensor, C: hx.Tensor
    ) -> tuple[hx.Tensor, hx.Tensor, hx.Tensor]:
        """Return what the scan reads of the selection; a subclass may normalise otherwise."""
        if self.select_eps is None:
            return dt, B, C
        even = [hx.ones(x.shape[-1:], x.dtype, x.device) for x in (dt, B, C)]
        dt, B, C = (
            hx.rms_norm(x, ones, self.select_eps) for x, ones in zip((dt, B, C), even, strict=True)
        )
        return dt, B, C

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
        check_sequence("MambaBlock", x, self.features)
        weights = self._weights() if x.shape[1] == 1 else None
        if weights is None:
            return self._mix(x, state)
        b, (d, n), taps = x.shape[0], self.A_log.shape, self.conv1d.weight.shape[2]
        check_state_tensor("MambaBlock", state[0], (b, d, taps - 1))
        check_state_tensor("MambaBlock", state[1], (b, d, n))
        y, *state = hx.mamba_step(x[:, 0], *state, *weights)
        return hx.expand_dims(y, 1), tuple(state)

    def _weights(self) -> list[hx.Tensor | None] | None:
        """Return what `mamba_step` takes; None where this layer, or one inside, does more."""
        conv = self.conv1d
        maps = [plain_map(m) for m in (self.in_proj, self.x_proj, self.dt_proj, self.out_proj)]
        hooked = type(conv) is not CausalConv1d or conv._hooks_before or conv._hooks_after
        normed = self.select_eps is not None or type(self).normed is not MambaBlock.normed
        if hooked or normed or None in maps:
            return None
        matrices, scales, biases = zip(*maps, strict=True)
        w_in, w_x, w_dt, w_out = matrices
        b_in, b_x, b_dt, b_out = biases
        if b_x is not None:
            return None
        return [
            *(w_in, conv.weight[:, 0], w_x, w_dt, self.A_log, self.D, w_out),
            *(b_in, conv.bias, b_dt, b_out),
            *scales,
        ]
