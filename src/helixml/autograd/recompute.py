"""Checkpoints: values that the backward pass needs are computed again instead of kept.

A checkpointed function is recorded as any other, but `saved_hooks` puts a token in the place of
each value that the tape would keep. The first token that the backward pass reads runs the function
again, and the values that it keeps then, in the same order, are those of the tokens. Since the
nodes are the usual ones, gradients of any order and of whatever the function closes over are exact.
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from helixml._core import saving, tape
from helixml._core.modes import enable_grad, no_grad, recomputing, recording
from helixml._core.tensor import Tensor
from helixml.autograd.level import Function
from helixml.autograd.reverse import alias
from helixml.autograd.saved import saved_hooks
from helixml.autograd.structures import flatten
from helixml.dtypes import as_integer
from helixml.errors import GraphError, InplaceError, ValueRangeError
from helixml.random import Draws

__all__ = ["checkpoint", "checkpoint_sequence"]


def checkpoint(f: Function, *inputs: Any, **options: Any) -> Any:
    """Return ``f(*inputs, **options)``, keeping the inputs instead of what lies between.

    Parameters
    ----------
    f : function or Module. It must do the same when it runs again, in the backward pass.
    inputs, options : as f takes them; tensors may stand in tuples, lists and dicts.

    Returns
    -------
    What f returns, with the same gradients of any order.

    Raises
    ------
    GraphError : in the backward pass, if f did something else the second time.
    InplaceError : in the backward pass, if an input or a leaf that f uses was overwritten.

    Notes
    -----
    Costs a second forward pass, in which `is_recomputing` is true. Random draws (dropout) are those
    of the first, and no stream goes on. Checkpoints may be nested: the inner ones run again within
    the outer's second run, and once more when their own values are read. Without recording f just
    runs.

    References
    ----------
    Chen et al. 2016, "Training deep nets with sublinear memory cost", section 4.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([0.5, 1.0], requires_grad=True)
    >>> hx.autograd.checkpoint(lambda x: hx.exp(hx.exp(x)) * x, x).sum().backward()
    >>> bool(abs(x.grad - hx.grad(lambda x: (hx.exp(hx.exp(x)) * x).sum())(x)).max() == 0)
    True
    """
    if not recording.get():
        return f(*inputs, **options)
    return _Segment(f, inputs, options).run()


def checkpoint_sequence(
    stages: Iterable[Callable[[Any], Any]],
    x: Any,
    *,
    every: int | None = None,
    at: Iterable[int] | None = None,
    memory: int | None = None,
) -> Any:
    """Run stages one after the other, checkpointing groups of them or some of them.

    Parameters
    ----------
    stages : functions or Modules of one argument: a Sequential, a ModuleList, a list.
    x : what the first stage takes.
    every : int, how many stages form one checkpoint. If no strategy is given, the square root of
        their number, rounded up: then as many values are kept between the groups as within one
        while it runs again.
    at : numbers of the stages that become checkpoints of their own; all others keep their values.
    memory : int, bytes. Stages keep their values as long as all fit in so many; each one that does
        not becomes a checkpoint of its own.

    Returns
    -------
    What the last stage returns.

    Raises
    ------
    ValueRangeError : ``every`` is below 1, ``memory`` below 0, ``at`` names no stage, or more than
        one strategy is given.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([0.5], requires_grad=True)
    >>> hx.autograd.checkpoint_sequence([hx.sin] * 9, x, every=3).sum().backward()
    >>> x.grad
    tensor([0.411...])
    """
    items = list(stages)
    if sum(strategy is not None for strategy in (every, at, memory)) > 1:
        raise ValueRangeError("checkpoint_sequence: takes one of every=, at= and memory=.")
    if memory is not None:
        return _run_within(items, x, as_integer("checkpoint_sequence", "memory", memory))
    if at is not None:
        chosen = set()
        for number in at:
            place = as_integer("checkpoint_sequence", "at", number)
            if not -len(items) <= place < len(items):
                raise ValueRangeError(
                    f"checkpoint_sequence: at names stage {place}, there are {len(items)}."
                )
            chosen.add(place % len(items))
        for i, stage in enumerate(items):
            x = checkpoint(stage, x) if i in chosen else stage(x)
        return x
    size = every if every is not None else max(1, math.isqrt(max(len(items) - 1, 0)) + 1)
    if as_integer("checkpoint_sequence", "every", size) < 1:
        raise ValueRangeError(f"checkpoint_sequence: every={size} must be 1 or more stages.")
    for start in range(0, len(items), size):
        x = checkpoint(_run_all, items[start : start + size], x)
    return x


def _run_all(stages: Sequence[Callable[[Any], Any]], x: Any) -> Any:
    for stage in stages:
        x = stage(x)
    return x


def _run_within(stages: Sequence[Callable[[Any], Any]], x: Any, memory: int) -> Any:
    """Run stages that keep their values while they fit in ``memory`` bytes."""
    if memory < 0:
        raise ValueRangeError(f"checkpoint_sequence: memory={memory} must be 0 or more bytes.")
    for stage in stages:
        if not recording.get():
            x = stage(x)
            continue
        segment = _Segment(stage, (x,), {})
        x = segment.run(memory)
        memory -= segment.kept_bytes()
    return x


class _Token:
    """Stands for a value; while it lives, somebody may read it."""

    __slots__ = ("__weakref__",)


class _Segment:
    """One checkpointed call: what it takes to run it again, and the values it then gave."""

    name = "checkpoint"
    origin = None  # as nodes have one

    def __init__(self, f: Function, inputs: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        self.f = f
        self.given = (inputs, options)
        leaves, self.form = flatten((inputs, dict(options)))
        # An outer checkpoint, or the user's hooks, may put the inputs away in turn.
        self.inputs = [saving.keep(leaf) for leaf in leaves]
        self.tokens: list[weakref.ref[_Token]] = []
        self.values: Any = weakref.WeakKeyDictionary()  # token -> Tensor, until it is read
        self.draws = Draws()
        self.guards: list[tuple[Tensor, Any, int]] = []
        self.lock = threading.RLock()

    @property
    def op(self) -> _Segment:
        """What `saving.restore` asks for the name of; a segment is no node."""
        return self

    def run(self, memory: int = 0) -> Any:
        """Run for the first time; keep the values after all if they fit in ``memory`` bytes."""
        inputs, options = self.given
        del self.given
        first = next(tape._numbers)
        with saved_hooks(self.put, self.fetch), self.draws.record():
            result = self.f(*inputs, **options)
        if self.kept_bytes() > memory:
            self.values.clear()  # until here f itself might have read them, for a gradient within
        self.guard_leaves(result, first)
        return result

    def kept_bytes(self) -> int:
        """Return how many bytes the values take that are there; a shared array counts once."""
        return sum({id(v._array): v.nbytes for v in self.values.values()}.values())

    def put(self, value: Tensor) -> _Token:
        """Keep a token in place of ``value``."""
        token = _Token()
        self.tokens.append(weakref.ref(token))
        self.values[token] = value
        return token

    def fetch(self, token: _Token) -> Tensor:
        """Return the value of a token, once; f runs again if that is not there."""
        with self.lock:
            if token not in self.values:
                self.run_again()
            value: Tensor = self.values.pop(token)
            return value

    def run_again(self) -> None:
        """Run f as before and take the values that the tape would keep."""
        for leaf, cell, version in self.guards:
            if leaf._cell is not cell or cell.version != version:
                raise InplaceError(
                    f"checkpoint: a leaf of shape {leaf.shape}, which the function reads, was "
                    f"overwritten by {cell.writer or 'a write'} before the backward pass. "
                    "Hint: move the write after backward()."
                )
        queue = iter(self.tokens)
        count = 0

        def put(value: Tensor) -> Tensor:
            nonlocal count
            count += 1
            reference = next(queue, None)
            token = None if reference is None else reference()
            if token is not None:
                self.values[token] = value
            return value

        inputs, options = self.form.build(map(self.input_again, self.inputs))
        hooks = saved_hooks(put, lambda value: value)
        with recomputing(), enable_grad(), hooks, self.draws.replay():
            self.f(*inputs, **options)
        if count != len(self.tokens):
            raise GraphError(
                f"checkpoint: the function kept {len(self.tokens)} values for its gradient the "
                f"first time and {count} the second time. Hint: it must do the same again; what it "
                "reads beside its inputs must not have changed."
            )

    def input_again(self, saved: Any) -> Any:
        """Return an input as f had it: under a node if it was computed."""
        if not isinstance(saved, tape.Saved):
            return saved
        if isinstance(saved.source, Tensor):
            saved.check(self.name, "an input")
            return saved.source
        with no_grad():
            value: Tensor = saving.restore(saved, self, "an input")
        if saved.source is None:
            return value
        value.requires_grad = True
        with enable_grad():
            computed: Tensor = alias(value)
        return computed

    def guard_leaves(self, result: Any, first: int) -> None:
        """Remember the versions of the leaves that the nodes since number ``first`` lead to."""
        stack = [y._node for y in flatten(result)[0] if isinstance(y, Tensor)]
        seen = set()
        while stack:
            node = stack.pop()
            if node is None or node in seen or node.number < first:
                continue
            seen.add(node)
            for parent in node.parents:
                if isinstance(parent, tape.Node):
                    stack.append(parent)
                elif parent is not None and parent not in seen:
                    seen.add(parent)
                    cell = parent._share()
                    self.guards.append((parent, cell, cell.version))
