"""One level of differentiation: a function called on inputs that have nodes of their own.

Everything that differentiates a function begins with `enter`: it gives the function fresh leaves in
the places of its arguments (or, where an outer derivative flows through them, nodes of their own),
so that levels do not see each other's derivatives, and neither `grad` nor ``requires_grad`` of the
caller's tensors changes. `Level.pull` carries cotangents back to these inputs, and
`Level.is_seen_outside` says whether that must itself be recorded. Read `functions` next.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from helixml._core import tape
from helixml._core.modes import enable_grad, recording
from helixml._core.tensor import Tensor, as_tensor
from helixml.autograd.reverse import alias, check_float, gradients
from helixml.autograd.structures import Form, flatten, flatten_argument
from helixml.dtypes import DIFFERENTIABLE
from helixml.errors import DTypeError, ValueRangeError
from helixml.ops.creation import zeros_like

__all__ = ["Function", "Level", "enter"]

Function = Callable[..., Any]  # Any: users' functions take and return what they like
# By id, the inputs of levels that are over. A pullback that was recorded for the sake of its
# cotangents leads to them too, but they are no leaves of anybody outside.
_closed: weakref.WeakValueDictionary[int, Tensor] = weakref.WeakValueDictionary()


@dataclass(eq=False, repr=False)  # what is not made costs no time at import
class Level:
    """A call of a function on inputs of its own.

    Attributes
    ----------
    op : who differentiates, for errors.
    outer : whether the caller records.
    sources : the leaves of the chosen arguments, as the caller gave them.
    inputs : what the function got in their places.
    foreign : for each, whether the caller gave a NumPy array.
    forms : the structure of each chosen argument.
    value : the function's result.
    """

    op: str
    outer: bool
    sources: list[Tensor]
    inputs: list[Tensor]
    foreign: list[bool]
    forms: list[Form]
    value: Any

    def outputs(self) -> tuple[list[Tensor], Form]:
        """Return the tensors in the function's result, and its structure.

        Raises
        ------
        DTypeError : something in it is no Tensor.
        """
        leaves, form = flatten(self.value)
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                raise DTypeError(
                    f"{self.op}: the function returned {type(leaf).__name__}, not a Tensor."
                )
        return leaves, form

    def is_seen_outside(self, outputs: Iterable[Tensor]) -> bool:
        """Say whether an outer derivative may flow through ``outputs``."""
        if not self.outer:
            return False
        if any(x.requires_grad for x in self.sources):
            return True
        return _reach_others(outputs, self.inputs)

    def pull(
        self,
        outputs: Sequence[Tensor],
        cotangents: Sequence[Any],
        create_graph: bool,
        retain_graph: bool | None = None,
    ) -> list[Tensor]:
        """Return the gradients at ``inputs``; a cotangent of ``...`` takes no part."""
        pairs = [
            (y, c)
            for y, c in zip(outputs, cotangents, strict=True)
            if c is not ... and y.requires_grad
        ]
        if not pairs:
            return [zeros_like(x) for x in self.inputs]
        ys, starts = zip(*pairs, strict=True)
        found = gradients(
            ys, self.inputs, create_graph, cotangents=starts, retain_graph=retain_graph
        )
        return list(found)

    def close(self) -> None:
        """Say that nobody but `pull` differentiates with respect to the inputs from now on."""
        _closed.update({id(x): x for x in self.inputs})

    def arranged(self, values: Iterable[Any]) -> list[Any]:
        """Return ``values``, one for each input, in the structures of the chosen arguments."""
        queue = iter(values)
        return [form.build(queue) for form in self.forms]


def enter(
    op: str,
    f: Function,
    args: Sequence[Any],
    numbers: Iterable[int],
    kwargs: Mapping[str, Any] | None = None,
) -> Level:
    """Call ``f`` with inputs of their own in the arguments that ``numbers`` names.

    Raises
    ------
    ValueRangeError : there is no such argument.
    DTypeError : it is a structure without tensors, or holds what is no number.
    NotDifferentiableError : it is of a dtype without gradients.
    """
    arguments = list(args)
    outer = recording.get()
    sources: list[Tensor] = []
    inputs: list[Tensor] = []
    foreign: list[bool] = []
    forms = []
    for number in numbers:
        if not -len(args) <= number < len(args):
            raise ValueRangeError(
                f"{op}: argnums names argument {number}, the call has {len(args)}."
            )
        leaves, form = flatten_argument(args[number])
        if not leaves:
            raise DTypeError(f"{op}: argument {number} is an empty {type(args[number]).__name__}.")
        given = [as_tensor(op, leaf) for leaf in leaves]
        for x in given:
            check_float(op, x)
        fresh = [_inner(x, outer) for x in given]
        arguments[number] = form.build(iter(fresh))
        sources += given
        inputs += fresh
        foreign += [isinstance(leaf, np.ndarray) for leaf in leaves]
        forms.append(form)
    with enable_grad():
        value = f(*arguments, **(kwargs or {}))
    return Level(op, outer, sources, inputs, foreign, forms, value)


def _inner(x: Tensor, outer: bool) -> Tensor:
    """Return the values of ``x`` under a node of their own."""
    if x.requires_grad and outer:
        with enable_grad():
            inner: Tensor = alias(x)  # an outer derivative flows through here
        return inner
    leaf = x.detach()
    leaf.requires_grad = True
    return leaf


def carries_gradient(y: Tensor) -> bool:
    """Say whether the dtype of ``y`` has gradients."""
    return y.dtype in DIFFERENTIABLE


def _reach_others(values: Iterable[Tensor], inputs: list[Tensor]) -> bool:
    """Say whether ``values`` depend on leaves that require gradients, beside ``inputs``."""
    mine = {id(x) for x in inputs} | {id(x._node) for x in inputs if x._node is not None}
    roots: list[Any] = []
    for value in values:
        if value._node is not None:
            roots.append(value._node)
        elif value.requires_grad and id(value) not in mine:
            return True
    for node in tape.collect(roots):
        if id(node) in mine:
            continue
        for parent in node.parents:
            if isinstance(parent, Tensor) and not (id(parent) in mine or id(parent) in _closed):
                return True
    return False
