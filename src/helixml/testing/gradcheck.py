"""VJPs against central differences, to any order.

`check_vjp` compares the gradients of a function of tensors with difference quotients along random
directions, in float64; in complex128 along the real and the imaginary axis. `pullback` turns a
function into its VJP, which is a function of tensors again: checking that one checks second
derivatives.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core.modes import enable_grad, no_grad
from helixml._core.tensor import Tensor
from helixml.autograd import gradients
from helixml.ops.creation import tensor
from helixml.testing.inputs import normal, widened

__all__ = ["check_gradients", "check_vjp", "pullback"]

Array = np.ndarray[Any, Any]
Function = Callable[..., Sequence[Tensor]]  # Tensors in, Tensors out

# Fourth-order central difference: truncation error h^4, rounding error eps / h. With h = 1e-4
# they are 1e-16 and 2e-12 of the values involved.
_STEP = 1e-4
_ROUNDING = float(np.finfo(np.float64).eps) / _STEP
# Values on the way may be some hundred times larger than results; a wrong rule is off by far more.
_SLACK = 1000.0


def pullback(function: Function, count: int) -> Function:
    """Return ``(x_1 .. x_count, cotangents...) -> gradients`` of ``function`` at x."""

    def pulled(*tensors: Tensor) -> Sequence[Tensor]:
        again = any(t.requires_grad for t in tensors)
        with enable_grad():
            xs = [t if t.requires_grad else _leaf(t) for t in tensors[:count]]
            ys = [y for y in function(*xs) if y.dtype in dtypes.DIFFERENTIABLE]
        pairs = zip(ys, tensors[count:], strict=True)
        return _vjp([(y, c) for y, c in pairs if y.requires_grad], xs, again)

    return pulled


def _vjp(
    pairs: Sequence[tuple[Tensor, Tensor]], xs: Sequence[Tensor], create_graph: bool
) -> list[Tensor]:
    """Return the gradients at ``xs`` of outputs with their cotangents; zeros if there are none."""
    if not pairs:
        return [x.detach() * 0 for x in xs]
    ys, cotangents = zip(*pairs, strict=True)
    return list(gradients(ys, xs, create_graph, cotangents=cotangents))


def _leaf(t: Tensor) -> Tensor:
    leaf = t.detach()
    leaf.requires_grad = True
    return leaf


def check_vjp(
    function: Function, arrays: Sequence[Array], device: Any = None, seed: int = 0
) -> None:
    """Raise AssertionError unless the gradients of ``function`` agree with difference quotients.

    Parameters
    ----------
    function : takes as many Tensors as there are arrays, returns a sequence of Tensors.
    arrays : the point, float64 or complex128.
    seed : of the random cotangents and directions.
    """
    rng = np.random.default_rng(seed)
    points = [tensor(x, device=device, requires_grad=True) for x in arrays]
    ys = list(function(*points))
    weights = {
        i: normal(rng, y.shape, y.dtype)
        for i, y in enumerate(ys)
        if y.dtype in dtypes.DIFFERENTIABLE
    }
    if not weights:
        if any(y.requires_grad for y in ys):
            raise AssertionError("a result without a gradient requires one")
        return
    pairs = [(ys[i], tensor(w, device=device)) for i, w in weights.items() if ys[i].requires_grad]
    found = _vjp(pairs, points, create_graph=False)

    def value(moved: Sequence[Array]) -> tuple[float, float]:
        with no_grad():
            results = function(*[tensor(x, device=device) for x in moved])
        terms = [(w.conj() * results[i].numpy()).real for i, w in weights.items()]
        return sum(float(t.sum()) for t in terms), sum(float(np.abs(t).sum()) for t in terms)

    for number, (x, gradient) in enumerate(zip(arrays, found, strict=True)):
        if gradient.shape != x.shape or gradient.dtype != x.dtype:
            raise AssertionError(
                f"gradient {number}: {gradient.shape} {gradient.dtype}, the input is {x.shape}"
            )
        for axis in (1, 1j) if x.dtype.kind == "c" else (1,):
            if x.size == 0:
                continue
            direction = axis * rng.normal(size=x.shape)
            slope = 0.0
            size = 0.0
            for steps, weight in ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12)):
                moved = list(arrays)
                moved[number] = x + steps * _STEP * direction
                total, magnitude = value(moved)
                slope += weight * total / _STEP
                size = max(size, magnitude)
            products = (gradient.numpy().conj() * direction).real
            claimed = float(products.sum())
            allowed = _SLACK * _ROUNDING * (size + float(np.abs(products).sum()))
            if not abs(claimed - slope) <= allowed:
                raise AssertionError(
                    f"gradient of input {number} along a direction: {claimed:.9g}, "
                    f"difference quotient {slope:.9g} ({allowed:.1e} allowed)"
                )


def check_gradients(
    function: Callable[..., Any], *inputs: Any, orders: int = 1, seed: int = 0
) -> None:
    """Compare the derivatives of ``function`` with difference quotients, in float64 or complex128.

    For your own functions of tensors: kinks and ties near the point make difference quotients
    wrong, so choose a point away from them.

    Parameters
    ----------
    function : takes Tensors, returns a Tensor or a sequence of them.
    inputs : Tensors, arrays or numbers, the point; cast to float64 or complex128.
    orders : 1 checks gradients, 2 the gradients of gradients too.
    seed : of the random directions.

    Raises
    ------
    AssertionError : a gradient differs; the message says by how much.

    Examples
    --------
    >>> import helixml as hx
    >>> from helixml.testing import check_gradients
    >>> check_gradients(lambda x: hx.sin(x) * x, hx.tensor([0.3, 1.2]), orders=2)
    """

    def listed(*tensors: Tensor) -> Sequence[Tensor]:
        result = function(*tensors)
        return [result] if isinstance(result, Tensor) else list(result)

    arrays = [widened(np.array(x)) for x in inputs]
    check_order(listed, arrays, orders, seed=seed)


def check_order(
    function: Function, arrays: Sequence[Array], orders: int, device: Any = None, seed: int = 0
) -> None:
    """Check ``function``, its pullback, the pullback of that, up to ``orders``."""
    check_vjp(function, arrays, device, seed)
    if orders > 1:
        with no_grad():
            ys = function(*[tensor(x, device=device) for x in arrays])
        rng = np.random.default_rng(seed + 1)
        cotangents = [normal(rng, y.shape, y.dtype) for y in ys if y.dtype in dtypes.DIFFERENTIABLE]
        if not cotangents:
            return
        again = [*arrays, *cotangents]
        try:
            check_order(pullback(function, len(arrays)), again, orders - 1, device, seed + 2)
        except AssertionError as error:
            raise AssertionError(f"derivative of the gradient: {error}") from error
