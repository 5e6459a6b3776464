"""Activations as layers, with PyTorch's names, and feed-forward blocks with a gate.

The formulas are the ops of the same names; none but PReLU and the blocks has parameters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal

import helixml as hx
from helixml.errors import ValueRangeError
from helixml.nn.layers import Linear, at_least_one
from helixml.nn.module import Module
from helixml.nn.parameter import Parameter

__all__ = [
    "CELU",
    "ELU",
    "GELU",
    "GLU",
    "SELU",
    "GatedFeedForward",
    "GeGLU",
    "Hardshrink",
    "Hardsigmoid",
    "Hardswish",
    "Hardtanh",
    "LeakyReLU",
    "LogSigmoid",
    "LogSoftmax",
    "Mish",
    "PReLU",
    "ReLU",
    "ReLU6",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "Softmin",
    "Softplus",
    "Softshrink",
    "Softsign",
    "SwiGLU",
    "Tanh",
    "Tanhshrink",
    "Threshold",
]


class _Elementwise(Module):
    """An activation whose settings are its attributes."""

    def extra(self) -> str:
        """Return the settings."""
        settings = {name: v for name, v in vars(self).items() if isinstance(v, (int, float, str))}
        return ", ".join(f"{name}={v}" for name, v in settings.items() if name != "training")


class _Plain(_Elementwise):
    """An activation without settings."""

    function: ClassVar[Any]  # Any: an op, which is an object and so binds no self

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = self.function(x)
        return y


class ReLU(_Plain):
    """max(x, 0); see `helixml.relu`."""

    function = hx.relu


class ReLU6(_Plain):
    """min(max(x, 0), 6); see `helixml.relu6`."""

    function = hx.relu6


class SELU(_Plain):
    """ELU with the slopes that keep mean 0 and variance 1; see `helixml.selu`."""

    function = hx.selu


class SiLU(_Plain):
    """x sigmoid(x), also called swish; see `helixml.silu`."""

    function = hx.silu


class Mish(_Plain):
    """x tanh(softplus(x)); see `helixml.mish`."""

    function = hx.mish


class Sigmoid(_Plain):
    """1 / (1 + exp(-x)); see `helixml.sigmoid`."""

    function = hx.sigmoid


class LogSigmoid(_Plain):
    """log(sigmoid(x)); see `helixml.log_sigmoid`."""

    function = hx.log_sigmoid


class Tanh(_Plain):
    """The hyperbolic tangent; see `helixml.tanh`."""

    function = hx.tanh


class Softsign(_Plain):
    """x / (1 + abs(x)); see `helixml.softsign`."""

    function = hx.softsign


class Hardsigmoid(_Plain):
    """min(max(x / 6 + 1/2, 0), 1); see `helixml.hardsigmoid`."""

    function = hx.hardsigmoid


class Hardswish(_Plain):
    """x hardsigmoid(x); see `helixml.hardswish`."""

    function = hx.hardswish


class Tanhshrink(_Plain):
    """x - tanh(x); see `helixml.tanhshrink`."""

    function = hx.tanhshrink


class _AlongAxis(_Elementwise):
    """An activation that looks at all entries along an axis."""

    function: ClassVar[Any]  # Any: as above

    def __init__(self, axis: int = -1) -> None:
        self.axis = axis

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function along the axis."""
        y: hx.Tensor = self.function(x, axis=self.axis)
        return y


class LeakyReLU(_Elementwise):
    """x above 0, negative_slope x elsewhere; see `helixml.leaky_relu`.

    Parameters
    ----------
    negative_slope : float.
    """

    def __init__(self, negative_slope: float = 0.01) -> None:
        self.negative_slope = negative_slope

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.leaky_relu(x, slope=self.negative_slope)
        return y


class ELU(_Elementwise):
    """x above 0, alpha (exp(x) - 1) elsewhere; see `helixml.elu`.

    Parameters
    ----------
    alpha : float.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.elu(x, alpha=self.alpha)
        return y


class CELU(_Elementwise):
    """x above 0, alpha (exp(x / alpha) - 1) elsewhere; see `helixml.celu`.

    Parameters
    ----------
    alpha : float.
    """

    def __init__(self, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.celu(x, alpha=self.alpha)
        return y


class Hardtanh(_Elementwise):
    """min(max(x, min_val), max_val); see `helixml.hardtanh`.

    Parameters
    ----------
    min_val, max_val : float.
    """

    def __init__(self, min_val: float = -1.0, max_val: float = 1.0) -> None:
        self.min_val = min_val
        self.max_val = max_val

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.hardtanh(x, low=self.min_val, high=self.max_val)
        return y


class Hardshrink(_Elementwise):
    """x where abs(x) exceeds lambd, else 0; see `helixml.hardshrink`.

    Parameters
    ----------
    lambd : float.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.hardshrink(x, bound=self.lambd)
        return y


class Softshrink(_Elementwise):
    """x moved toward 0 by lambd; see `helixml.softshrink`.

    Parameters
    ----------
    lambd : float.
    """

    def __init__(self, lambd: float = 0.5) -> None:
        self.lambd = lambd

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.softshrink(x, bound=self.lambd)
        return y


class Softmax(_AlongAxis):
    """exp(x) / sum(exp(x)) along an axis; see `helixml.softmax`.

    Parameters
    ----------
    axis : int.
    """

    function = hx.softmax


class LogSoftmax(_AlongAxis):
    """log(softmax(x)) along an axis; see `helixml.log_softmax`.

    Parameters
    ----------
    axis : int.
    """

    function = hx.log_softmax


class Softmin(_AlongAxis):
    """softmax(-x) along an axis; see `helixml.softmin`.

    Parameters
    ----------
    axis : int.
    """

    function = hx.softmin


class Threshold(_Elementwise):
    """x where it exceeds ``threshold``, else ``value``; see `helixml.threshold`.

    Parameters
    ----------
    threshold, value : float.
    """

    def __init__(self, threshold: float, value: float) -> None:
        self.threshold = threshold
        self.value = value

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.threshold(x, self.threshold, self.value)
        return y


class Softplus(_Elementwise):
    """log(1 + exp(beta x)) / beta; see `helixml.softplus`.

    Parameters
    ----------
    beta : float above 0. There is no threshold as in PyTorch: the form used does not overflow.
    """

    def __init__(self, beta: float = 1.0) -> None:
        if not beta > 0:
            raise ValueRangeError(f"Softplus: beta={beta} must be above 0.")
        self.beta = beta

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.softplus(x) if self.beta == 1 else hx.softplus(x * self.beta) / self.beta
        return y


class GELU(_Elementwise):
    """x Phi(x), the normal distribution's Phi; see `helixml.gelu`.

    Parameters
    ----------
    approximate : "none", or "tanh" for `helixml.gelu_tanh`.
    """

    def __init__(self, approximate: Literal["none", "tanh"] = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueRangeError(f"GELU: approximate={approximate!r}. Hint: 'none' or 'tanh'.")
        self.approximate = approximate

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.gelu(x) if self.approximate == "none" else hx.gelu_tanh(x)
        return y


class PReLU(Module):
    """x above 0, weight x elsewhere, the weight learned; see `helixml.prelu`.

    Parameters
    ----------
    num_parameters : int, 1 or the number of channels, which are axis 1.
    init : float, the weight's starting value.

    Attributes
    ----------
    weight : Parameter, (num_parameters,).

    References
    ----------
    He et al. 2015, "Delving deep into rectifiers", eq. 1.
    """

    def __init__(self, num_parameters: int = 1, init: float = 0.25) -> None:
        at_least_one("PReLU", num_parameters=num_parameters)
        self.weight = Parameter(hx.full((num_parameters,), init, dtype="float32"), decay=False)

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the function of each entry."""
        y: hx.Tensor = hx.prelu(x, self.weight)
        return y


class GLU(_AlongAxis):
    """The first half of an axis, gated by the sigmoid of the second; see `helixml.glu`.

    Parameters
    ----------
    axis : int, of even size.
    """

    function = hx.glu


def _sigmoid_gate(x: hx.Tensor, gate: hx.Tensor) -> hx.Tensor:
    y: hx.Tensor = x * hx.sigmoid(gate)
    return y


def _gelu_tanh_gate(x: hx.Tensor, gate: hx.Tensor) -> hx.Tensor:
    y: hx.Tensor = x * hx.gelu_tanh(gate)
    return y


def _relu_gate(x: hx.Tensor, gate: hx.Tensor) -> hx.Tensor:
    y: hx.Tensor = x * hx.relu(gate)
    return y


def _identity_gate(x: hx.Tensor, gate: hx.Tensor) -> hx.Tensor:
    return x * gate


_GATES: dict[str, Callable[[hx.Tensor, hx.Tensor], hx.Tensor]] = {
    "sigmoid": _sigmoid_gate,
    "silu": hx.silu_gate,
    "gelu": hx.gelu_gate,
    "gelu_tanh": _gelu_tanh_gate,
    "relu": _relu_gate,
    "none": _identity_gate,
}


class GatedFeedForward(Module):
    """A feed-forward block with a gate, W_down (f(W_gate x) * W_up x).

    Parameters
    ----------
    features : int, of x and of the result.
    hidden : int, features between the projections.
    activation : f: "sigmoid" (GLU), "silu" (SwiGLU), "gelu" (GEGLU), "gelu_tanh" (the same by
        `helixml.gelu_tanh`), "relu" (ReGLU) or "none" (bilinear).
    bias : whether the projections have biases.
    rng : the stream for starting values.

    Attributes
    ----------
    gate_proj, up_proj, down_proj : Linear, named as in Llama's state dicts.

    References
    ----------
    Shazeer 2020, "GLU variants improve transformer", eqs. 5 and 6.

    Examples
    --------
    >>> import helixml as hx
    >>> block = hx.nn.GatedFeedForward(4, 6, "sigmoid", rng=hx.random.Rng(0))
    >>> block(hx.ones((2, 3, 4))).shape
    (2, 3, 4)
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        activation: str = "silu",
        bias: bool = False,
        *,
        rng: hx.random.Rng | None = None,
    ) -> None:
        if activation not in _GATES:
            raise ValueRangeError(
                f"{type(self).__name__}: activation={activation!r}. "
                f"Hint: {', '.join(map(repr, _GATES))}."
            )
        at_least_one(type(self).__name__, features=features, hidden=hidden)
        self.activation = activation
        self.gate_proj = Linear(features, hidden, bias, rng)
        self.up_proj = Linear(features, hidden, bias, rng)
        self.down_proj = Linear(hidden, features, bias, rng)

    def forward(self, x: hx.Tensor) -> hx.Tensor:
        """Return the block's result, (..., features)."""
        gated = _GATES[self.activation](self.up_proj(x), self.gate_proj(x))
        y: hx.Tensor = self.down_proj(gated)
        return y

    def extra(self) -> str:
        """Return the activation."""
        return f"activation={self.activation!r}"


class SwiGLU(GatedFeedForward):
    """`GatedFeedForward` with silu.

    Parameters
    ----------
    features, hidden : int. bias : bool. rng : the stream for starting values.
    """

    def __init__(
        self, features: int, hidden: int, bias: bool = False, *, rng: hx.random.Rng | None = None
    ) -> None:
        super().__init__(features, hidden, "silu", bias, rng=rng)


class GeGLU(GatedFeedForward):
    """`GatedFeedForward` with gelu.

    Parameters
    ----------
    features, hidden : int. bias : bool. rng : the stream for starting values.
    """

    def __init__(
        self, features: int, hidden: int, bias: bool = False, *, rng: hx.random.Rng | None = None
    ) -> None:
        super().__init__(features, hidden, "gelu", bias, rng=rng)
