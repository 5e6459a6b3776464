"""Functions with a gradient rule of their own: in ops (`custom_vjp`), or in NumPy (`numpy_op`).

Rules are written as those of the engine's ops (`helixml._core.op`): a rule's parameters are what it
reads, and so what the tape keeps. A function is one node of the graph, whatever happens inside it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from inspect import signature
from typing import Any

import numpy as np

from helixml._core import tape
from helixml._core.modes import no_grad, recording
from helixml._core.saving import Plan, attach, fit, materialized
from helixml._core.tensor import Tensor
from helixml.autograd.level import Function, carries_gradient
from helixml.dtypes import float64
from helixml.errors import DTypeError, NotDifferentiableError
from helixml.ops.creation import asarray

__all__ = ["custom_vjp", "numpy_op"]


class custom_vjp:
    """A function of Tensors with its own gradient rule. A decorator.

    Parameters
    ----------
    f : function of Tensors and whatever else, to a Tensor or a tuple of them. It runs unrecorded:
        only its arguments get gradients, not what it closes over.

    Notes
    -----
    The rule is given by `vjp`. Rules are written in ops, so they can be differentiated in turn.

    Examples
    --------
    >>> import helixml as hx
    >>> @hx.autograd.custom_vjp
    ... def log_add_one(x):
    ...     return hx.log(1.0 + x)
    >>> @log_add_one.vjp("x")
    ... def _(g, x):
    ...     return g / (1.0 + x)
    >>> hx.grad(log_add_one)(1.0), hx.grad(hx.grad(log_add_one))(1.0)
    (tensor(0.5), tensor(-0.25))
    """

    kind = "custom_vjp"
    variadic = False  # what follows is how `Plan` sees an op
    attributes: frozenset[str] = frozenset()

    def __init__(self, f: Function) -> None:
        update_wrapper(self, f)
        self.name = getattr(f, "__name__", type(f).__name__)
        self.function = f
        self.signature = signature(f)
        kinds = {p.kind for p in self.signature.parameters.values()}
        if not kinds <= {0, 1, 3}:  # positional or by name, without * and **
            raise DTypeError(
                f"{self.kind}: {self.name}{self.signature} takes any number of arguments. "
                "Hint: name each parameter; one may be a tuple of plain values."
            )
        self.inputs = tuple(self.signature.parameters)
        self.rules: dict[str, tuple[Function, tuple[str, ...], tuple[str, ...]]] = {}
        self.plans: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    def vjp(self, *names: str) -> Callable[[Function], Function]:
        """Decorate the rule for the gradients of the parameters ``names``.

        Parameters
        ----------
        names : parameters of the function. A rule for several returns a tuple, one gradient each.

        Notes
        -----
        The rule's parameters are ``g``, the gradient of the output (a tuple of them if there are
        several), and what it reads: parameters of the function, ``out`` (``outs`` if there are
        several), ``NAME_shape`` and ``NAME_dtype`` of a parameter, ``needs``, which parameters need
        a gradient. Gradients are summed over broadcast axes and cast afterwards; None means 0.
        Of complex numbers ``g`` is dL/dRe + i dL/dIm, and so must be what the rule returns: for a
        holomorphic function ``g * conj(derivative)``.

        Raises
        ------
        NotDifferentiableError : the rule reads something else, or answers for no parameter.
        """

        def define(rule: Function) -> Function:
            reads = tuple(signature(rule).parameters)
            allowed = {"g", "out", "outs", "needs", *self.inputs}
            allowed |= {f"{name}_{what}" for name in self.inputs for what in ("shape", "dtype")}
            unknown = sorted(set(reads) - allowed)
            if unknown or not names or not set(names) <= set(self.inputs):
                raise NotDifferentiableError(
                    f"{self.name}: the rule for {names} reads {unknown}; it may read "
                    f"{sorted(allowed)}, and answer for {list(self.inputs)}."
                )
            for name in names:
                self.rules[name] = (rule, reads, names)
            self.plans.clear()
            return rule

        return define

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the function's result, and record one node if an argument requires a gradient."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        inputs = tuple(bound.arguments.values())
        with no_grad():
            result = self.compute(bound, inputs)
        several = isinstance(result, tuple)
        outputs = [self._own(y) for y in (result if several else (result,))]
        mask = 0
        for i, x in enumerate(inputs):
            if isinstance(x, Tensor) and x.requires_grad:
                mask |= 1 << i
        if mask and recording.get() and any(map(carries_gradient, outputs)):
            plan = self.plans.get(mask)
            if plan is None:
                plan = self.plans[mask] = Plan(self, mask, len(inputs))
            saved = plan.save(inputs, tuple(outputs))
            attach(self, inputs, {}, saved, tuple(outputs))
        return tuple(outputs) if several else outputs[0]

    def compute(self, bound: Any, inputs: tuple[Any, ...]) -> Any:
        """Return the function's result for the arguments ``bound``."""
        return self.function(*bound.args, **bound.kwargs)

    def _own(self, y: Any) -> Tensor:
        """Return a result as an object of its own, for a node of its own."""
        if not isinstance(y, Tensor):
            raise DTypeError(f"{self.name}: returned {type(y).__name__}, not a Tensor.")
        return y.detach()

    def input_name(self, i: int, count: int) -> str:
        """Return the name of input number ``i``."""
        return self.inputs[i]

    def pull(self, node: Any, cotangents: Any, needs: tuple[bool, ...]) -> list[Tensor | None]:
        """Return the gradient of each input by its rule; the tape calls this."""
        mask = sum(1 << i for i, parent in enumerate(node.parents) if parent is not None)
        values = self.plans[mask].read(node, materialized(node, cotangents), needs)
        return self.apply_rules(node, values, needs)

    def apply_rules(
        self, node: Any, values: dict[str, Any], needs: tuple[bool, ...]
    ) -> list[Tensor | None]:
        """Return what the rules give for ``values``, fitted to the inputs."""
        found: list[Tensor | None] = [None] * len(needs)
        done = set()
        for i, name in enumerate(self.inputs):
            if not needs[i]:
                continue
            if name not in self.rules:
                raise NotDifferentiableError(
                    f"{self.name}: has no rule for the gradient of {name!r}. "
                    f"Hint: @{self.name}.vjp({name!r}), or detach() that input."
                )
            rule, reads, answers = self.rules[name]
            if rule in done:
                continue
            done.add(rule)
            results = self.answer(rule, [values[r] for r in reads], node)
            if len(answers) == 1:
                results = (results,)
            elif not isinstance(results, tuple) or len(results) != len(answers):
                raise DTypeError(
                    f"{self.name}: the rule for {answers} must return a tuple of {len(answers)}."
                )
            for answer, result in zip(answers, results, strict=True):
                j = self.inputs.index(answer)
                if needs[j] and result is not None:
                    if not isinstance(result, Tensor):
                        raise DTypeError(
                            f"{self.name}: the rule for {answer!r} returned "
                            f"{type(result).__name__}, not a Tensor."
                        )
                    found[j] = fit(result, node, j)
        return found

    def answer(self, rule: Function, values: list[Any], node: Any) -> Any:
        """Return what a rule gives."""
        return rule(*values)


class numpy_op(custom_vjp):
    """A NumPy function as an op, with a gradient rule in NumPy. A decorator.

    Parameters
    ----------
    f : function of arrays (read-only) and whatever else, to an array or a tuple of them. Where a
        Tensor is given, it gets an array.

    Notes
    -----
    The rule is given by `vjp`; it gets arrays and returns arrays. Its result cannot be
    differentiated: that raises `NotDifferentiableError`. On other devices than the CPU values are
    copied there and back.

    Examples
    --------
    >>> import helixml as hx
    >>> import numpy as np
    >>> @hx.autograd.numpy_op
    ... def cube_root(x):
    ...     return np.cbrt(x)
    >>> @cube_root.vjp("x")
    ... def _(g, out):
    ...     return g / (3 * out**2)
    >>> hx.grad(cube_root)(8.0)
    tensor(0.0833...)
    """

    kind = "numpy_op"

    def compute(self, bound: Any, inputs: tuple[Any, ...]) -> Any:
        """Return the function's result for the arguments ``bound``, as tensors."""
        first = next((x for x in inputs if isinstance(x, Tensor)), None)
        device = None if first is None else first.device
        for name, value in bound.arguments.items():
            bound.arguments[name] = _as_array(value)
        result = self.function(*bound.args, **bound.kwargs)
        if isinstance(result, tuple):
            return tuple([self._as_tensor(y, device) for y in result])
        return self._as_tensor(result, device)

    def _as_tensor(self, value: Any, device: Any) -> Tensor:
        if not isinstance(value, (np.ndarray, np.generic, float)):
            raise DTypeError(f"{self.name}: returned {type(value).__name__}, not an array.")
        return asarray(np.asarray(value), device=device)

    def answer(self, rule: Function, values: list[Any], node: Any) -> Any:
        """Return what a rule in NumPy gives, as tensors that cannot be differentiated."""
        device = node.backend.device
        result = rule(*[_as_array(v) for v in values])
        if not isinstance(result, tuple):
            return self._closed(result, values, device)
        return tuple([self._closed(r, values, device) for r in result])

    def _closed(self, value: Any, values: list[Any], device: Any) -> Tensor | None:
        """Return a gradient as a tensor; it depends on ``values``, but without a derivative."""
        if value is None:
            return None
        gradient = self._as_tensor(value, device)
        if not carries_gradient(gradient):
            gradient = gradient.astype(float64)
        flat: list[Any] = []
        for v in values:
            flat += v if isinstance(v, tuple) else [v]
        if recording.get() and any(isinstance(v, Tensor) and v.requires_grad for v in flat):
            gradient = gradient.detach()
            attach(_NoDerivative(self.name), tuple(flat), {}, (), (gradient,))
        return gradient


class _NoDerivative:
    """The op of a gradient that NumPy computed: it says that it has none in turn."""

    def __init__(self, name: str) -> None:
        self.name = name

    def pull(self, node: tape.Node, cotangents: Any, needs: Any) -> Any:
        raise NotDifferentiableError(
            f"{self.name}: its gradient is computed by NumPy and cannot be differentiated again. "
            "Hint: custom_vjp takes a rule written in ops."
        )


def _as_array(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    if isinstance(value, tuple):
        return tuple([_as_array(v) for v in value])
    return value
