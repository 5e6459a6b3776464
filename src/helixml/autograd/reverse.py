"""Gradients on the tape: starting cotangents, the mode of the walk, and where results go."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from helixml import dtypes
from helixml._core import capturing, tape
from helixml._core.composed import Fused
from helixml._core.modes import enable_grad, no_grad, recording
from helixml._core.op import primitive
from helixml._core.samples import sample
from helixml._core.tensor import Tensor, as_tensor, new_tensor
from helixml.errors import DTypeError, GraphError, NotDifferentiableError, ShapeError
from helixml.ops.creation import zeros_like
from helixml.ops.elementwise import add

__all__ = ["accumulate", "accumulating", "alias", "backward", "gradients", "pull_definition"]

Array = Any  # a raw array of the backend
_adding = threading.Lock()
# Whether the pass that goes on here adds to ``grad``: whoever keeps gradients on the way asks.
accumulating: ContextVar[bool] = ContextVar("helixml_accumulating", default=False)


@primitive(view=True, oracle=lambda x: x)
def alias(B: Any, x: Array) -> Any:
    """Return the same values under a node of its own, so that gradients can stop here."""
    return x


alias.vjp("x")(lambda g: g)
alias.samples(lambda: (sample((3, 4)),))


def _source(tensor: Tensor) -> tuple[Any, int]:
    """Return where the cotangent of ``tensor`` goes: its node, or itself if it is a leaf."""
    return (tensor, 0) if tensor._node is None else (tensor._node, tensor._slot)


def _start(op: str, y: Tensor, gradient: Any) -> Tensor:
    if not y.requires_grad:
        raise GraphError(
            f"{op}: nothing that this tensor (shape {y.shape}) was computed from requires a "
            "gradient. Hint: hx.tensor(..., requires_grad=True), and no no_grad() around it."
        )
    if gradient is None:
        if y.size != 1:
            raise GraphError(
                f"{op}: a tensor of shape {y.shape} needs a starting gradient of that shape. "
                "Hint: y.sum().backward(), or y.backward(gradient)."
            )
        if dtypes.kind(y.dtype) == "c":
            raise GraphError(
                f"{op}: a complex number ({y.dtype}) does not grow or shrink. "
                "Hint: real(y), imag(y) or abs(y), or a starting gradient dL/dRe + i dL/dIm."
            )
        backend = y._backend
        return new_tensor(backend.ones(y._array.shape, dtype=y.dtype), backend)
    gradient = as_tensor(op, gradient, y)
    if gradient.shape != y.shape:
        raise ShapeError(f"{op}: the gradient is {gradient.shape}, the tensor is {y.shape}.")
    dtypes.check_cast(op, gradient.dtype, y.dtype)
    start: Tensor = gradient if gradient.dtype == y.dtype else gradient.astype(y.dtype)
    return start


def backward(
    y: Tensor, gradient: Any = None, create_graph: bool = False, retain_graph: bool | None = None
) -> None:
    """Add dy/dleaf to the ``grad`` of every leaf; see `Tensor.backward`."""
    start = _start("backward", y, gradient)
    keep = create_graph if retain_graph is None else retain_graph

    def deliver(leaf: Tensor, slot: int, cotangent: Tensor) -> None:
        accumulate(leaf, cotangent)

    token = accumulating.set(True)
    try:
        with enable_grad() if create_graph else no_grad():
            tape.walk([(*_source(y), start)], deliver, add, None, keep)
    finally:
        accumulating.reset(token)


def accumulate(x: Tensor, cotangent: Tensor) -> None:
    """Add a cotangent to ``x.grad``."""
    if not recording.get():
        cotangent = cotangent.detach()  # an object of its own for each tensor
    with _adding:
        x.grad = cotangent if x.grad is None else x.grad + cotangent
    if capturing.active is not None:
        capturing.note_gradient(x)


def gradients(
    ys: Tensor | Sequence[Tensor],
    xs: Tensor | Sequence[Tensor],
    create_graph: bool = False,
    *,
    cotangents: Sequence[Any] | None = None,
    retain_graph: bool | None = None,
) -> Any:  # Any: one Tensor for one x, else a tuple
    """Return the gradient of sum(ys) with respect to each of ``xs``; no ``grad`` is touched.

    Parameters
    ----------
    ys : Tensor or sequence of them; without ``cotangents`` each is a real scalar.
    xs : Tensor or sequence of them, leaves or computed, that ``ys`` were computed from.
    create_graph : record the computation of the gradients, to differentiate them again.
    cotangents : for each y, the gradient to start from; dL/dRe + i dL/dIm of a complex one.
    retain_graph : keep saved values for another pass; by default as ``create_graph``.

    Returns
    -------
    A Tensor if ``xs`` is one, else a tuple; zeros where y does not depend on x.

    Raises
    ------
    GraphError : an x does not require a gradient, or a y that is no real scalar has no cotangent.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 2.0], requires_grad=True)
    >>> g = hx.autograd.gradients((x * x * x).sum(), x, create_graph=True)
    >>> g, hx.autograd.gradients(g.sum(), x)
    (tensor([ 3., 12.], grad_fn=add), tensor([ 6., 12.]))
    """
    outputs, inputs = _tensors("ys", ys), _tensors("xs", xs)
    starts = [None] * len(outputs) if cotangents is None else _sequence("cotangents", cotangents)
    if len(starts) != len(outputs):
        raise ShapeError(f"gradients: {len(starts)} cotangents for {len(outputs)} ys.")
    for number, x in enumerate(inputs):
        if not x.requires_grad:
            raise GraphError(
                f"gradients: x number {number} (shape {x.shape}) does not require a gradient. "
                "Hint: x.requires_grad = True before computing y."
            )
    keep = create_graph if retain_graph is None else retain_graph
    roots = [
        (*_source(y), _start("gradients", y, start))
        for y, start in zip(outputs, starts, strict=True)
    ]
    keys = [x if x._node is None else (x._node, x._slot) for x in inputs]
    found: dict[Any, Tensor] = {}

    def deliver(source: Any, slot: int, cotangent: Tensor) -> None:
        found[(source, slot) if isinstance(source, tape.Node) else source] = cotangent

    token = accumulating.set(False)
    try:
        with enable_grad() if create_graph else no_grad():
            tape.walk(roots, deliver, add, set(keys), keep)
    finally:
        accumulating.reset(token)
    results = tuple(
        found[key] if key in found else zeros_like(x) for key, x in zip(keys, inputs, strict=True)
    )
    return results[0] if isinstance(xs, Tensor) else results


def _tensors(name: str, value: Any) -> list[Tensor]:
    """Return a Tensor or a sequence of them as a list."""
    found: list[Tensor] = [value] if isinstance(value, Tensor) else _sequence(name, value)
    for item in found:
        if not isinstance(item, Tensor):
            raise DTypeError(f"gradients: {name} must be Tensors, not {type(item).__name__}.")
    return found


def _sequence(name: str, value: Any) -> list[Any]:
    if isinstance(value, Tensor) or not hasattr(value, "__iter__"):
        raise DTypeError(f"gradients: {name} must be a sequence, not {type(value).__name__}.")
    return list(value)


def pull_definition(
    op: Fused,
    node: Any,
    tensors: list[Tensor | None],
    cotangents: list[Tensor | None],
    needs: tuple[bool, ...],
) -> list[Tensor | None]:
    """Return the gradients of a fused op's inputs, by running and differentiating its definition.

    Each input gets a node of its own, so that one that depends on another, or is passed twice, is
    not counted twice.
    """
    again = recording.get()
    fresh: list[Tensor | None] = []
    for tensor, need in zip(tensors, needs, strict=True):
        if tensor is None:
            fresh.append(None)
        elif not need:
            fresh.append(tensor.detach())
        elif again:
            fresh.append(alias(tensor))
        else:
            leaf = tensor.detach()
            leaf.requires_grad = True
            fresh.append(leaf)
    with enable_grad():
        outputs = op.define(fresh, node.attrs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    pairs = [
        (y, c)
        for y, c in zip(outputs, cotangents, strict=True)
        if c is not None and y.requires_grad
    ]
    wanted = [t for t, need in zip(fresh, needs, strict=True) if need and t is not None]
    if not pairs:
        found = iter([zeros_like(t) for t in wanted])
    else:
        found = iter(
            gradients(
                [y for y, _ in pairs],
                wanted,
                create_graph=again,
                cotangents=[c for _, c in pairs],
            )
        )
    return [next(found) if need else None for need in needs]


def check_float(op: str, x: Tensor) -> None:
    """Raise unless ``x`` can carry a gradient."""
    if x.dtype not in dtypes.DIFFERENTIABLE:
        raise NotDifferentiableError(
            f"{op}: an argument of {x.dtype} has no gradient. Hint: astype('float32')."
        )
