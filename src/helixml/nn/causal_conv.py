"""CausalConv1d: a short filter for each channel that looks only backward."""

from __future__ import annotations

import helixml as hx
from helixml.errors import ShapeError, ValueRangeError
from helixml.nn import init
from helixml.nn.parameter import Parameter
from helixml.nn.sequence import StepByChunk, check_sequence

__all__ = ["CausalConv1d"]


class CausalConv1d(StepByChunk):
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
        kept = state.shape[2]
        seen = hx.concat([state, x.mT[:, :, max(0, x.shape[1] - kept) :]], axis=2)
        return y, seen[:, :, seen.shape[2] - kept :]
