"""Products with Jacobians: `vjp` from the left (reverse), `jvp` from the right (forward), `hvp`.

None of them makes the Jacobian; see `matrices` for that.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from helixml._core.modes import enable_grad, no_grad, recording
from helixml._core.tensor import Tensor, as_tensor
from helixml.autograd.functions import grad
from helixml.autograd.level import Function, Level, carries_gradient, enter
from helixml.autograd.reverse import gradients
from helixml.autograd.structures import Form, flatten_like
from helixml.errors import ShapeError
from helixml.ops.creation import ones_like, zeros_like

__all__ = ["hvp", "jvp", "vjp"]


def vjp(f: Function, *inputs: Any) -> tuple[Any, Callable[..., Any]]:
    r"""Return f's outputs and the function that pulls cotangents back through f.

    For outputs y and cotangents c of their shapes, ``pull(c)`` is
    :math:`c^T\, \partial y / \partial x`, the gradient of :math:`\sum c y` at every input.

    Parameters
    ----------
    f : function of Tensors, or of tuples, lists and dicts of them, to Tensors or such structures.
    inputs : all of f's arguments; each is differentiated.

    Returns
    -------
    outputs : as f returns them.
    pull : takes cotangents in the structure of the outputs (None: takes no part; left out: 1 for
        scalars) and returns the gradient of the one input, or a tuple with one for each, in the
        structures and shapes of the inputs. It may be called again and again.

    Raises
    ------
    DTypeError : f returned something that is no Tensor.
    ShapeError : cotangents have another structure or shape than the outputs.

    Examples
    --------
    >>> import helixml as hx
    >>> y, pull = hx.autograd.vjp(lambda x, w: x * w, hx.tensor([1.0, 2.0]), hx.tensor([3.0, 4.0]))
    >>> y, pull(hx.tensor([1.0, 10.0]))
    (tensor([3., 8.]), (tensor([ 3., 40.]), tensor([ 1., 20.])))
    """
    level = enter("vjp", f, inputs, range(len(inputs)))
    outputs, form = level.outputs()
    seen = level.is_seen_outside(outputs)
    if not seen:
        level.close()

    def pull(cotangents: Any = _ONES) -> Any:
        if cotangents is _ONES:
            starts: list[Any] = [None] * len(outputs)
        else:
            given = flatten_like("vjp", "cotangents", cotangents, form)
            starts = [... if c is None else as_tensor("vjp", c, y) for c, y in _zip(given, outputs)]
            check_shapes("vjp", "cotangent", starts, outputs)
        tracked = any(isinstance(c, Tensor) and c.requires_grad for c in starts)
        again = recording.get() and (seen or tracked)
        found = level.arranged(level.pull(outputs, starts, again, retain_graph=True))
        return found[0] if len(inputs) == 1 else tuple(found)

    return form.build(iter(outputs if seen else [y.detach() for y in outputs])), pull


_ONES: Any = object()  # stands for cotangents that were left out


def jvp(f: Function, inputs: Any, tangents: Any) -> tuple[Any, Any]:
    r"""Return f's outputs, and how they change as the inputs move along ``tangents``.

    For inputs x and tangents t the second result is :math:`(\partial y / \partial x)\, t`.

    Parameters
    ----------
    f : function of Tensors, or of tuples, lists and dicts of them, to Tensors or such structures.
    inputs : tuple of all of f's arguments; or the only one, a Tensor.
    tangents : for each input its direction, in the same structures and shapes.

    Returns
    -------
    outputs : as f returns them.
    tangents : in the structure and shapes of the outputs; of an integer output all 0.

    Raises
    ------
    DTypeError : f returned something that is no Tensor.
    ShapeError : tangents have another structure or shape than the inputs.
    NotDifferentiableError : the gradient of an op in f has no derivative itself.

    Notes
    -----
    There are no forward rules: a pullback is linear in its cotangent u, so the derivative of
    :math:`u \mapsto u^T J` in direction t, pulled back once more, is :math:`J t`. That costs about
    two backward passes, and memory as a second derivative does. Fused ops run their definitions.
    The rule of singular derivatives (`sqrt` at 0, say) is that of the backward pass.

    References
    ----------
    J. Townsend 2017, "A new trick for calculating Jacobian vector products".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.autograd.jvp(lambda x: x * x, hx.tensor([1.0, 3.0]), hx.tensor([1.0, 0.5]))
    (tensor([1., 9.]), tensor([2., 3.]))
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    directions = (tangents,) if isinstance(inputs, Tensor) else tuple(tangents)
    level = enter("jvp", f, arguments, range(len(arguments)))
    outputs, form = level.outputs()
    given = flatten_tangents("jvp", level, directions)
    moving = any(t is not None and t.requires_grad for t in given)
    seen = level.is_seen_outside(outputs)
    found = push(level, outputs, given, seen or (level.outer and moving))
    if not seen:
        level.close()
    shown = outputs if seen else [y.detach() for y in outputs]
    return form.build(iter(shown)), form.build(iter(found))


def flatten_tangents(op: str, level: Level, tangents: Sequence[Any]) -> list[Tensor | None]:
    """Return a tangent for each input of ``level``; None stays, and means 0."""
    whole = Form(tuple, tuple(range(len(level.forms))), tuple(level.forms))
    given = flatten_like(op, "tangents", tangents, whole)
    found = [None if t is None else as_tensor(op, t, x) for t, x in _zip(given, level.sources)]
    check_shapes(op, "tangent", found, level.sources)
    return found


def push(
    level: Level, outputs: list[Tensor], tangents: list[Tensor | None], create_graph: bool
) -> list[Tensor]:
    """Return J t for each of ``outputs``: the transpose of the pullback, which is linear."""
    with enable_grad():
        # Any point would do for a linear map. At 1 no cotangent is 0 by chance, where singular
        # derivatives are taken as 0.
        places = [ones_like(y) if carries_gradient(y) else ... for y in outputs]
        for u in places:
            if u is not ...:
                u.requires_grad = True
        pulled = level.pull(outputs, places, create_graph=True)
    pairs = [(g, t) for g, t in _zip(pulled, tangents) if t is not None and g.requires_grad]
    wanted = [u for u in places if u is not ...]
    if not pairs or not wanted:
        return [zeros_like(y) for y in outputs]
    gs, starts = zip(*pairs, strict=True)
    with enable_grad() if create_graph else no_grad():
        found = iter(gradients(gs, wanted, create_graph, cotangents=starts))
    return [zeros_like(y) if u is ... else next(found) for y, u in _zip(outputs, places)]


def hvp(f: Function, inputs: Any, vectors: Any) -> Any:
    r"""Return the product of f's Hessian with a vector, :math:`(\partial^2 f / \partial x^2)\, v`.

    Parameters
    ----------
    f : function of Tensors, or of tuples, lists and dicts of them, to a scalar Tensor.
    inputs : tuple of all of f's arguments; or the only one, a Tensor.
    vectors : for each input its part of v, in the same structures and shapes.

    Returns
    -------
    In the structure of ``inputs``: with several, mixed derivatives count too.

    Raises
    ------
    GraphError : f returned no scalar.

    Notes
    -----
    The gradient is pulled back along v, since a Hessian is symmetric. Costs about two gradients;
    the Hessian is not made.

    References
    ----------
    Pearlmutter 1994, "Fast exact multiplication by the Hessian".

    Examples
    --------
    >>> import helixml as hx
    >>> hx.autograd.hvp(lambda x: (x * x * x).sum(), hx.tensor([1.0, 2.0]), hx.tensor([1.0, 10.0]))
    tensor([  6., 120.])
    """
    if isinstance(inputs, Tensor):
        return vjp(grad(f), inputs)[1](vectors)
    arguments = tuple(inputs)
    _, pull = vjp(grad(f, range(len(arguments))), *arguments)
    found = pull(tuple(vectors))
    return (found,) if len(arguments) == 1 else found


def check_shapes(op: str, what: str, given: Sequence[Any], values: Sequence[Tensor]) -> None:
    """Raise unless each tensor among ``given`` has the shape of its value."""
    for number, (t, x) in enumerate(_zip(given, values)):
        if isinstance(t, Tensor) and t.shape != x.shape:
            raise ShapeError(f"{op}: {what} number {number} is {t.shape}, its value is {x.shape}.")


def _zip(first: Sequence[Any], second: Sequence[Any]) -> Any:
    return zip(first, second, strict=True)
