"""Watching for the first value that is not finite: hooks in the calls of ops and their gradients.

As in `observe`, nothing in the engine asks whether anybody watches: a `Watch` puts methods in the
place of those of every op, which look at what they return, and the old ones back. A
value that is not finite is an anomaly where all that it was computed from is finite; what happens
then is up to the `report` that is called.

While a gradient is computed, its rule is one step: rules make infinities on the way that they take
out again (a derivative of sqrt at 0, times nothing), so only what leaves the rule counts.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core import tape
from helixml._core.composed import Fused
from helixml._core.kept import saved_items
from helixml._core.observe import Hooks
from helixml._core.op import REGISTRY, Primitive
from helixml._core.tensor import Tensor


class Anomaly:
    """What was found: a call, forward or backward, that made the first value that is not finite.

    Attributes
    ----------
    op : that was called.
    phase : "forward" or "backward".
    operands : pairs of a name and a Tensor or an array, what the value was computed from.
    result : the first Tensor that is not finite.
    what : what it is, in words.
    node : of the graph, for "backward".
    call : what it takes to compute it again: ("run", inputs, attributes), ("call", arguments,
        arguments by name) or ("pull", node, cotangents, needs).
    """

    __slots__ = ("call", "node", "op", "operands", "phase", "result", "what")

    def __init__(
        self,
        op: Any,
        phase: str,
        operands: list[tuple[str, Any]],
        result: Tensor,
        what: str,
        node: Any,
        call: tuple[Any, ...],
    ) -> None:
        self.op = op
        self.phase = phase
        self.operands = operands
        self.result = result
        self.what = what
        self.node = node
        self.call = call


class Watch(Hooks):
    """The hooks of one watcher.

    Attributes
    ----------
    report : called with each `Anomaly`; most often it raises.
    note : called with each op's new nodes, to write on them where they come from.
    """

    def __init__(self, report: Callable[[Anomaly], None], note: Callable[[Any], None]) -> None:
        Hooks.__init__(self)
        self.report = report
        self.note = note
        self.pulls = threading.local()  # how many gradients are being computed, in this thread

    # Looking

    def pulling(self) -> bool:
        """Say whether a gradient is being computed in this thread."""
        return getattr(self.pulls, "depth", 0) > 0

    def look(self, op: Any, operands: list[Any], results: Any, call: tuple[Any, ...]) -> None:
        """Look at the results of a forward call."""
        for slot, result in enumerate(results):
            if isinstance(result, Tensor):
                if result._node is not None and result._node.op is op:
                    self.note(result._node)
                if not self.pulling() and not is_finite(result):
                    given = list(named(op, operands))
                    if all_finite([value for _, value in given]):
                        what = "its result" if len(results) == 1 else f"its result number {slot}"
                        self.report(Anomaly(op, "forward", given, result, what, None, call))

    def run(self, op: Any, run: Any, inputs: Any, attributes: Any) -> Any:
        """Call a primitive's `run` and look at its results."""
        result = run(inputs, attributes)
        results = result if isinstance(result, tuple) else (result,)
        self.look(op, [*inputs, *attributes.values()], results, ("run", inputs, attributes))
        return result

    def call(self, op: Any, call: Any, args: Any, kwargs: Any) -> Any:
        """Call any other op and look at its results, or at what it wrote."""
        operands = [*args, *kwargs.values()]
        kept = (args, kwargs)
        if writes := getattr(op, "writes", ()):  # what it reads is gone afterwards
            kept = (copies(args), copies(kwargs))
            operands = [*kept[0], *kept[1].values()]
        result = call(op, *args, **kwargs)
        if writes:
            results = tuple(flat([*args, *kwargs.values()]))
        else:
            results = result if isinstance(result, tuple) else (result,)
        self.look(op, operands, results, ("call", *kept))
        return result

    def pull(self, op: Any, pull: Any, node: Any, cotangents: Any, needs: Any) -> Any:
        """Compute gradients of a call and look at them."""
        self.pulls.depth = getattr(self.pulls, "depth", 0) + 1
        try:
            gradients = pull(node, cotangents, needs)
        finally:
            self.pulls.depth -= 1
        if self.pulling():
            return gradients
        for i, gradient in enumerate(gradients):
            if isinstance(gradient, Tensor) and not is_finite(gradient):
                given = [(f"g{k if k else ''}", c) for k, c in enumerate(cotangents)]
                given += list(saved_values(node))
                if all_finite([value for _, value in given]):
                    what = f"the gradient of {op.input_name(i, len(needs))!r}"
                    again = ("pull", node, cotangents, needs)
                    self.report(Anomaly(op, "backward", given, gradient, what, node, again))
        return gradients

    # Hooking

    def enter(self, classes: Iterable[type]) -> None:
        """Watch all primitives, and ops of the other ``classes``."""
        for op in list(REGISTRY.values()):
            if isinstance(op, Primitive):
                self.enter_primitive(op)
        self.watch(self.enter_primitive)
        for owner in classes:
            self.enter_class(owner)

    def enter_primitive(self, op: Any) -> None:
        """Watch one primitive."""
        run, run_pair, pull = op.run, op.run_pair, op.pull

        def watched_run(inputs: Any, attributes: Any, ready: bool = False) -> Any:
            bound = lambda inputs, attributes: run(inputs, attributes, ready)  # noqa: E731
            return self.run(op, bound, inputs, attributes)

        self.put(op, "run", watched_run)
        if op.direct:
            pair = lambda inputs, _: run_pair(inputs)  # noqa: E731
            self.put(op, "run_pair", lambda inputs: self.run(op, pair, inputs, {}))
        self.put(
            op,
            "pull",
            lambda node, cotangents, needs: self.pull(op, pull, node, cotangents, needs),
        )

    def enter_class(self, owner: Any) -> None:
        """Watch all ops of a class in Python."""
        call, pull = owner.__call__, owner.pull

        def watched_call(op: Any, *args: Any, **kwargs: Any) -> Any:
            return self.call(op, call, args, kwargs)

        def watched_pull(op: Any, node: Any, cotangents: Any, needs: Any) -> Any:
            bound = lambda *arguments: pull(op, *arguments)  # noqa: E731
            return self.pull(op, bound, node, cotangents, needs)

        self.put(owner, "__call__", watched_call)
        self.put(owner, "pull", watched_pull)


CLASSES = (Fused,)  # besides primitives; whoever watches may add classes of its own


# What is finite


def is_finite(value: Any) -> bool:
    """Say whether all that an operand holds is finite; what holds no floats is."""
    if isinstance(value, Tensor):
        if value.dtype not in dtypes.DIFFERENTIABLE:
            return True
        return bool(np.isfinite(value._backend.to_numpy(value._array)).all())
    if isinstance(value, np.ndarray):
        return value.dtype.kind not in "fcV" or bool(np.isfinite(value).all())
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, complex):
        return math.isfinite(value.real) and math.isfinite(value.imag)
    if isinstance(value, (list, tuple)):
        return all_finite(value)
    return True


def all_finite(values: Iterable[Any]) -> bool:
    """Say whether all of several operands are finite."""
    return all([is_finite(value) for value in values])


def named(op: Any, operands: list[Any]) -> Iterator[tuple[str, Any]]:
    """Give operands with the names of the op's parameters, as far as these go."""
    names = list(getattr(op, "inputs", ()))
    several = getattr(op, "variadic", False) or (len(operands) > 1 and len(names) < 2)
    for i, value in enumerate(operands):
        yield (names[i] if i < len(names) and not several else f"operand {i}"), value


def saved_values(node: Any) -> Iterator[tuple[str, Any]]:
    """Give (name, array) of what a node keeps, but for what hooks have put away."""
    for name, saved in saved_items(node):
        if isinstance(saved, tape.Saved):
            if hasattr(saved.array, "dtype") and not hasattr(saved.array, "open"):
                yield name, saved.backend.to_numpy(saved.array)
        elif isinstance(saved, node.backend.array_type):
            yield name, node.backend.to_numpy(saved)
        elif isinstance(saved, (int, float, complex)):
            yield name, saved


def flat(values: Iterable[Any]) -> Iterator[Tensor]:
    """Give the tensors among values, those in sequences too."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from flat(value)


def copies(value: Any) -> Any:
    """Return arguments with copies in the place of tensors."""
    if isinstance(value, Tensor):
        return Tensor(value._backend.copy(value._array), value._backend)
    if isinstance(value, (list, tuple)):
        return type(value)([copies(item) for item in value])
    if isinstance(value, dict):
        return {name: copies(item) for name, item in value.items()}
    return value
