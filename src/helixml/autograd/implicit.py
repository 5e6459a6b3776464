"""Implicit differentiation: solutions of equations, differentiated without their iterations.

`fixed_point` solves x = f(x, p), `root` solves f(x, p) = 0. The solution is one node of the graph;
its gradient solves a linear equation at the solution, whatever way led there. That equation is
written in ops, or as a fixed point again, so derivatives of every order are those of the solution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from helixml._core.modes import enable_grad, no_grad, recording
from helixml._core.saving import attach, fit, keep, keep_output, restore
from helixml._core.tensor import Tensor, as_tensor
from helixml.autograd.custom import custom_vjp
from helixml.autograd.level import Function
from helixml.autograd.matrices import jacobian
from helixml.autograd.products import vjp
from helixml.autograd.reverse import check_float
from helixml.autograd.structures import Form, flatten_argument
from helixml.dtypes import as_integer, real_of
from helixml.errors import ConvergenceError, DTypeError, GraphError, ShapeError, ValueRangeError
from helixml.ops.creation import asarray

__all__ = ["fixed_point", "root"]


def fixed_point(
    f: Function, x: Any, *parameters: Any, tol: float | None = None, max_steps: int = 1000
) -> Tensor:
    r"""Return the x with x = f(x, parameters...), by iteration, differentiable in the parameters.

    .. math:: \frac{dx}{dp} = \Bigl(1 - \frac{\partial f}{\partial x}\Bigr)^{-1}
        \frac{\partial f}{\partial p}

    Parameters
    ----------
    f : contracting function of x, (n...), and the parameters to a Tensor (n...).
    x : Tensor, (n...), float or complex; where to start. It gets no gradient.
    parameters : Tensors, or tuples, lists and dicts of them.
    tol : the iteration ends when a step's largest element is at most ``tol`` times the largest of
        1 and x; 32 eps of the dtype if left out.
    max_steps : int, the most steps.

    Returns
    -------
    Tensor, (n...).

    Raises
    ------
    ConvergenceError : the iteration did not end within ``max_steps``, or stopped being finite; for
        the gradient's iteration in the backward pass too.
    GraphError : f reads tensors that require gradients beside its parameters.
    ShapeError : f changes the shape of x.

    Notes
    -----
    The gradient's equation u = g + (df/dx)^T u has the same contraction, and is iterated too.

    References
    ----------
    Christianson 1994, "Reverse accumulation and attractive fixed points", section 3.

    Examples
    --------
    >>> import helixml as hx
    >>> heron = lambda x, a: 0.5 * (x + a / x)
    >>> hx.grad(lambda a: hx.autograd.fixed_point(heron, 1.0, a))(4.0)
    tensor(0.25)
    """
    return _solve(
        "fixed_point", f, x, parameters, tol, max_steps, _iterate, _adjoint_of_fixed_point
    )


def root(
    f: Function, x: Any, *parameters: Any, tol: float | None = None, max_steps: int = 100
) -> Tensor:
    r"""Return an x with f(x, parameters...) = 0, by Newton's method, differentiable.

    .. math:: \frac{dx}{dp} = -\Bigl(\frac{\partial f}{\partial x}\Bigr)^{-1}
        \frac{\partial f}{\partial p}

    Parameters
    ----------
    f : function of x, (n...), and the parameters to a Tensor (n...): as many equations as unknowns.
    x : Tensor, (n...), float; where to start. It gets no gradient.
    parameters : Tensors, or tuples, lists and dicts of them.
    tol : the search ends when a step's largest element is at most ``tol`` times the largest of 1
        and x; 32 eps of the dtype if left out.
    max_steps : int, the most steps.

    Returns
    -------
    Tensor, (n...).

    Raises
    ------
    ConvergenceError : the search did not end within ``max_steps``, or the Jacobian is singular.
    GraphError : f reads tensors that require gradients beside its parameters.
    ShapeError : f does not return the shape of x. DTypeError : x is complex.

    Notes
    -----
    Makes the Jacobian: n backward passes and a dense system a step, for up to some hundred
    unknowns. A step is halved until the residual falls.

    Examples
    --------
    >>> import helixml as hx
    >>> cube_root = lambda a: hx.autograd.root(lambda x, a: x**3 - a, 1.0, a)
    >>> cube_root(8.0), hx.grad(cube_root)(8.0)
    (tensor(2.), tensor(0.0833...))
    """
    return _solve("root", f, x, parameters, tol, max_steps, _newton, _adjoint_of_root)


def _solve(
    op: str,
    f: Function,
    x: Any,
    parameters: Sequence[Any],
    tol: float | None,
    max_steps: int,
    search: Callable[..., Tensor],
    adjoint: Callable[..., Tensor],
) -> Tensor:
    leaves: list[Any] = []
    forms = []
    for parameter in parameters:
        found, form = flatten_argument(parameter)
        leaves += found
        forms.append(form)
    first = next((leaf for leaf in leaves if isinstance(leaf, Tensor)), None)
    x = as_tensor(op, x, first)
    check_float(op, x)
    if as_integer(op, "max_steps", max_steps) < 1:
        raise ValueRangeError(f"{op}: max_steps={max_steps} must be 1 or more.")
    tensors = [as_tensor(op, leaf, x) for leaf in leaves]
    bound = 32 * float(np.finfo(_wide(x)).eps) if tol is None else tol
    problem = _Problem(op, f, forms, bound, max_steps, adjoint)
    with no_grad():
        solution = search(problem, x.detach(), tensors).detach()
    if not recording.get():
        return solution
    problem.check(solution, tensors)
    if any(t.requires_grad for t in tensors):
        saved = (keep_output(solution, 0), tuple([keep(t) for t in tensors]))
        attach(problem, tuple(tensors), {}, saved, (solution,))
    return solution


def _wide(x: Tensor) -> Any:
    """Return the dtype whose eps counts for ``x``; NumPy does not know that of bfloat16."""
    dtype = real_of(x.dtype)
    return dtype if dtype.kind == "f" and dtype.itemsize >= 4 else np.float16


class _Problem:
    """An equation, and the op of the node of its solution."""

    def __init__(
        self,
        name: str,
        f: Function,
        forms: list[Form],
        tol: float,
        max_steps: int,
        adjoint: Callable[..., Tensor],
    ) -> None:
        self.name = name
        self.f = f
        self.forms = forms
        self.tol = tol
        self.max_steps = max_steps
        self.adjoint = adjoint

    def at(self, x: Tensor, leaves: Sequence[Tensor]) -> Tensor:
        """Return f's value."""
        queue = iter(leaves)
        y: Tensor = as_tensor(self.name, self.f(x, *[form.build(queue) for form in self.forms]), x)
        if y.shape != x.shape:
            raise ShapeError(
                f"{self.name}: the function returned shape {y.shape} for an x of {x.shape}."
            )
        return y if y.dtype == x.dtype else y.astype(x.dtype)

    def check(self, x: Tensor, leaves: Sequence[Tensor]) -> None:
        """Raise if f reads tensors that require gradients beside its parameters."""
        with enable_grad():
            y = self.at(x.detach(), [t.detach() for t in leaves])
        if y.requires_grad:
            raise GraphError(
                f"{self.name}: the function reads tensors that require gradients beside its "
                f"parameters. Hint: {self.name}(f, x, parameters...), or detach() them."
            )

    def ended(self, step: Tensor, x: Tensor, count: int) -> bool:
        """Say whether a search has found its end; raise if it has lost its way."""
        size, scale = _largest(step), max(1.0, _largest(x))
        if not np.isfinite(size):
            raise ConvergenceError(
                f"{self.name}: step {count} is {size}. Hint: start nearer to the solution."
            )
        if size > self.tol * scale and count >= self.max_steps:
            raise ConvergenceError(
                f"{self.name}: after {count} steps the last is {size:.3g}, allowed are "
                f"{self.tol * scale:.3g}. Hint: a larger tol or max_steps, or a better start."
            )
        return size <= self.tol * scale

    def pull(self, node: Any, cotangents: Any, needs: tuple[bool, ...]) -> list[Tensor | None]:
        """Return the gradients at the parameters; the tape calls this."""
        x = restore(node.saved[0], node, "out")
        leaves = [restore(s, node, "a parameter") for s in node.saved[1]]
        u = self.adjoint(self, cotangents[0], x, leaves)
        _, pull = vjp(lambda *ps: self.at(x, ps), *leaves)
        found = pull(u)
        found = (found,) if len(leaves) == 1 else found
        return [fit(g, node, i) if needs[i] else None for i, g in enumerate(found)]


def _largest(x: Tensor) -> float:
    return float(abs(x).astype("float64").numpy().max(initial=0.0))


def _iterate(problem: _Problem, x: Tensor, leaves: Sequence[Tensor]) -> Tensor:
    count = 0
    while True:
        count += 1
        y = problem.at(x, leaves)
        done = problem.ended(y - x, y, count)
        x = y
        if done:
            return x


def _adjoint_of_fixed_point(
    problem: _Problem, g: Tensor, x: Tensor, leaves: Sequence[Tensor]
) -> Tensor:
    """Return u = g + (df/dx)^T u."""
    if not recording.get():
        _, pull = vjp(lambda x: problem.at(x, leaves), x)
        tol, most = problem.tol, problem.max_steps
        return fixed_point(lambda u: g + pull(u), g, tol=tol, max_steps=most)

    def step(u: Tensor, g: Tensor, x: Tensor, *leaves: Tensor) -> Tensor:
        _, pull = vjp(lambda x: problem.at(x, leaves), x)
        result: Tensor = g + pull(u)
        return result

    return fixed_point(step, g, g, x, *leaves, tol=problem.tol, max_steps=problem.max_steps)


def _newton(problem: _Problem, x: Tensor, leaves: Sequence[Tensor]) -> Tensor:
    if x.dtype.kind == "c":
        raise DTypeError(
            f"root: the unknowns are {x.dtype}. Hint: solve for real and imaginary parts, or "
            "fixed_point, which takes complex numbers."
        )
    y = problem.at(x, leaves)
    count = 0
    while True:
        count += 1
        matrix = jacobian(lambda x: problem.at(x, leaves))(x).reshape(x.size, x.size)
        step = -_linear_solve(matrix, y.reshape(-1)).reshape(x.shape)
        done = problem.ended(step, x, count)
        before = _largest(y)
        for _ in range(30):  # halves: 1e-9 of the step; then any step is as good
            moved = x + step
            y = problem.at(moved, leaves)
            if done or _largest(y) <= before:
                break
            step = step * 0.5
        x = moved
        if done:
            return x


def _adjoint_of_root(problem: _Problem, g: Tensor, x: Tensor, leaves: Sequence[Tensor]) -> Tensor:
    """Return u with (df/dx)^T u = -g."""
    matrix = jacobian(lambda x: problem.at(x, leaves))(x).reshape(x.size, x.size)
    u: Tensor = _linear_solve(matrix.mT, -g.reshape(-1)).reshape(x.shape)
    return u


@custom_vjp
def _linear_solve(a: Tensor, b: Tensor) -> Tensor:
    """Return x with a x = b; a (n, n), b (n,). NumPy solves, at least in float32."""
    wide = [t.numpy() if t.dtype.itemsize >= 4 else t.astype("float32").numpy() for t in (a, b)]
    try:
        x = np.linalg.solve(*wide)
    except np.linalg.LinAlgError as error:
        raise ConvergenceError(
            f"root: the Jacobian, {a.shape}, is singular. "
            "Hint: another start, or as many independent equations as unknowns."
        ) from error
    return asarray(x, device=a.device).astype(b.dtype)


@_linear_solve.vjp("a", "b")
def _(g: Tensor, a: Tensor, out: Tensor) -> tuple[Tensor, Tensor]:
    u = _linear_solve(a.mT, g)
    return -u.reshape(-1, 1) * out, u
