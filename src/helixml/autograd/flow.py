"""`gradient_flow`: how large the gradient is on its way from a loss to its parameters."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from helixml._core import tape
from helixml._core.modes import no_grad
from helixml._core.tensor import Tensor
from helixml.autograd.reverse import gradients
from helixml.errors import GraphError, ValueRangeError

__all__ = ["GradientFlow", "gradient_flow"]

State = Literal["fine", "vanishing", "exploding", "not finite", "unused"]


@dataclass(frozen=True)
class Flow:
    """The gradient at one place.

    Attributes
    ----------
    name : of the parameter, or of the op whose output it is.
    shape : of the gradient.
    norm : its Euclidean norm; 0.0 where none arrives.
    state : "fine", "vanishing", "exploding", "not finite", or "unused" (the loss does not depend on
        this parameter).
    line : in debug mode the user's line of the op; else None.
    """

    name: str
    shape: tuple[int, ...]
    norm: float
    state: State
    line: str | None = None

    def __str__(self) -> str:
        place = f" at {self.line}" if self.line else ""
        return f"{self.name} {self.shape}{place}: {self.norm:.3g}, {self.state}"


@dataclass(frozen=True)
class GradientFlow:
    """What `gradient_flow` found.

    Attributes
    ----------
    parameters : tuple of `Flow`, one a parameter in the given order.
    path : tuple of `Flow`, one a result of an op, in the order in which the gradient passes them:
        the loss first.
    """

    parameters: tuple[Flow, ...]
    path: tuple[Flow, ...]

    def named(self, state: State) -> list[str]:
        """Return the names of the parameters that are in ``state``."""
        return [flow.name for flow in self.parameters if flow.state == state]

    def first(self, state: State) -> Flow | None:
        """Return the first place on the way back from the loss that is in ``state``, if any is."""
        return next((flow for flow in self.path if flow.state == state), None)

    def __str__(self) -> str:
        """Return a table of the parameters, and where trouble begins."""
        width = max([len(flow.name) for flow in self.parameters], default=0)
        lines = [f"{f.name:{width}}  {f.norm:9.3g}  {f.state}" for f in self.parameters]
        troubles: tuple[State, ...] = ("vanishing", "exploding", "not finite")
        for state in troubles:
            place = self.first(state)
            if place is not None and self.named(state):
                lines.append(f"{state} from {place}")
        return "\n".join(lines)


def gradient_flow(
    loss: Tensor,
    parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    *,
    vanishing: float = 1e-6,
    exploding: float = 1e3,
) -> GradientFlow:
    """Say which parameters' gradients vanish or explode, and where on the way they do.

    Parameters
    ----------
    loss : Tensor, scalar, on the tape; its graph stays, so that ``backward()`` may follow.
    parameters : names and Tensors that require gradients: ``model.named_parameters()``.
    vanishing : a gradient of a Euclidean norm below this vanishes.
    exploding : one of a norm above this explodes.

    Returns
    -------
    GradientFlow; its ``str`` is a table.

    Raises
    ------
    ValueRangeError : ``vanishing`` is not between 0 and ``exploding``.
    GraphError : ``loss`` was not computed from tensors that require gradients, or a parameter does
        not require one.

    Notes
    -----
    Costs a backward pass and a norm for each result on the way. No ``grad`` is touched.

    Examples
    --------
    >>> import helixml as hx
    >>> w, v = hx.tensor(1e-8, requires_grad=True), hx.tensor(2.0, requires_grad=True)
    >>> flow = hx.autograd.gradient_flow((w * (v * 3.0)), {"w": w, "v": v})
    >>> print(flow)
    w          6  fine
    v      3e-08  vanishing
    vanishing from multiply (): 1e-08, vanishing
    """
    if not 0 <= vanishing < exploding:
        raise ValueRangeError(
            f"gradient_flow: vanishing={vanishing} must lie between 0 and exploding={exploding}."
        )
    given = dict(parameters)
    if loss._node is None:
        raise GraphError("gradient_flow: the loss was not computed from what requires gradients.")
    nodes: Any = tape.collect([loss._node])
    reached = {id(parent) for node in nodes for parent in node.parents}
    path: list[Flow] = []

    def flow_of(name: str, gradient: Tensor, line: str | None = None) -> Flow:
        values = abs(gradient).astype("float64").numpy()
        norm = float(np.sqrt(np.square(values).sum()))
        return Flow(name, gradient.shape, norm, _state(norm, vanishing, exploding), line)

    def watch(node: Any, slot: int) -> Any:
        def look(gradient: Tensor) -> Tensor:
            with no_grad():
                path.append(flow_of(node.op.name, gradient, node.origin))
            return gradient

        return slot, look

    added = []
    try:
        for node in nodes:
            if node.hooks is None:
                node.hooks = []
            for slot in range(node.outputs):
                added.append((node.hooks, watch(node, slot)))
                node.hooks.append(added[-1][1])
        tensors = list(given.values())
        found = gradients(loss, tensors, retain_graph=True) if tensors else ()
    finally:
        for hooks, entry in added:
            hooks.remove(entry)
    flows = []
    for (name, x), gradient in zip(given.items(), found, strict=True):
        source = x if x._node is None else x._node
        if id(source) in reached or source is loss._node:
            flows.append(flow_of(name, gradient))
        else:
            flows.append(Flow(name, x.shape, 0.0, "unused"))
    return GradientFlow(tuple(flows), tuple(path))


def _state(norm: float, vanishing: float, exploding: float) -> State:
    if not math.isfinite(norm):
        return "not finite"
    if norm < vanishing:
        return "vanishing"
    return "exploding" if norm > exploding else "fine"
