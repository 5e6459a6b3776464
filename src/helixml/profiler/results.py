"""Results: what frames mean. Which call was inside which, what it counts for, and to whom.

A call of an op counts what the op declares. What runs inside it, the definition of a fused op where
there is no kernel, counts for nothing more; the gradient of a primitive counts what the ops in its
rule do. A gradient belongs to the module whose call it differentiates, and so do the calls that
compute anew, inside of it, what a checkpoint did not keep.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from helixml._core.cost import Size, bytes_of, bytes_of_vjp, flops_of, flops_of_vjp
from helixml.profiler.frames import Frame

__all__ = ["ModuleTotal", "OpCall", "OpTotal", "Span", "calls_of", "spans_of", "totals_by_module"]

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OpCall:
    """One call of an op, or of its gradient.

    Attributes
    ----------
    op : the op's name. backward : whether it is the gradient.
    module : path of the module that called it, or whose call it differentiates; "" without one.
    seconds : from start to end. thread : number of the thread.
    flops : None where the op does not declare them. bytes : read and written at least once.
    shapes : of the inputs that are tensors; of a gradient, those of the op.
    """

    op: str
    backward: bool
    module: str
    seconds: float
    thread: int
    flops: int | None
    bytes: int
    shapes: tuple[Shape, ...]


@dataclass
class OpTotal:
    """All calls of an op, or of its gradient: their number, seconds, FLOPs and bytes."""

    op: str
    backward: bool
    calls: int = 0
    seconds: float = 0.0
    flops: int = 0
    bytes: int = 0


@dataclass
class ModuleTotal:
    """A module and all below it: calls, seconds forward and backward, FLOPs and bytes."""

    module: str
    calls: int = 0
    forward_seconds: float = 0.0
    backward_seconds: float = 0.0
    flops: int = 0
    bytes: int = 0


@dataclass
class Span:
    """A frame with those inside it, earliest first, and what it counts for by itself."""

    frame: Frame
    inside: list[Span]
    module: str = ""
    flops: int | None = None
    bytes: int = 0
    counts: bool = False  # as a call of its own
    shapes: tuple[Shape, ...] = field(default=())

    def walk(self) -> Iterator[Span]:
        """Yield this span and all inside it."""
        yield self
        for span in self.inside:
            yield from span.walk()


def spans_of(frames: Iterable[Frame]) -> list[Span]:
    """Return the outermost spans of all threads, with costs and modules filled in."""
    roots = _nested(frames)
    paths = _Paths()
    for span in roots:
        paths.fill(span, [])
    made_by: dict[int | None, str] = {
        span.frame.node: span.module
        for root in roots
        for span in root.walk()
        if span.frame.kind == "op" and span.frame.node is not None
    }
    for span in roots:
        _charge(span, made_by)
    return roots


def _nested(frames: Iterable[Frame]) -> list[Span]:
    """Return the outermost spans: a frame ends after all inside it and began before them."""
    ended: dict[int, list[Span]] = {}
    for frame in frames:
        before = ended.setdefault(frame.thread, [])
        first = len(before)
        while first and before[first - 1].frame.start >= frame.start:
            first -= 1
        before[first:] = [Span(frame, before[first:])]
    return [span for spans in ended.values() for span in spans]


class _Paths:
    """Names of modules by where they were called."""

    def __init__(self) -> None:
        self._roots: dict[int, str] = {}
        self._found: dict[tuple[int, int], str | None] = {}

    def fill(self, span: Span, around: list[tuple[Any, str]]) -> None:
        """Set the modules' paths of a span and all inside; ``around`` has those it runs in."""
        if span.frame.kind == "module":
            module = span.frame.subject
            around = [*around, (module, self._path(module, around))]
        span.module = around[-1][1] if around else ""
        for inner in span.inside:
            self.fill(inner, around)

    def _path(self, module: Any, around: list[tuple[Any, str]]) -> str:
        name = type(module).__name__
        if not around:
            same = [n for n in self._roots.values() if n.split(" ")[0] == name]
            new = f"{name} {len(same) + 1}" if same else name
            return self._roots.setdefault(id(module), new)
        for outer, path in reversed(around):
            key = id(outer), id(module)
            if key not in self._found:
                named = outer.named_modules()
                self._found[key] = next((n for n, found in named if found is module), None)
            relative = self._found[key]
            if relative is not None:
                return f"{path}.{relative}" if relative else path
        return f"{around[-1][1]}.{name}"


def _charge(span: Span, made_by: dict[int | None, str]) -> None:
    """Fill in what a span and those inside count for."""
    frame = span.frame
    if frame.kind == "module":
        for inner in span.inside:
            _charge(inner, made_by)
        return
    span.counts = True
    if frame.kind == "backward":
        span.module = made_by.get(frame.node, span.module)
        for inner in span.inside:
            for each in inner.walk():
                each.module = span.module
        for anew in _computed_again(span):
            _charge(anew, made_by)
    if frame.error:
        return
    if frame.kind == "op":
        _charge_call(span)
    elif frame.subject.kind == "fused":
        _charge_vjp(span)
    else:
        rule = [inner for inner in span.inside if inner.frame.again == frame.again]
        for inner in rule:
            _charge(inner, made_by)
            inner.counts = False
        span.flops = sum(inner.flops or 0 for inner in rule)
        span.bytes = sum(inner.bytes for inner in rule)


def _computed_again(span: Span) -> Iterator[Span]:
    """Yield the outermost spans inside that compute anew what was not kept."""
    for inner in span.inside:
        if inner.frame.again and not span.frame.again:
            yield inner
        else:
            yield from _computed_again(inner)


def _charge_call(span: Span) -> None:
    frame = span.frame
    op = frame.subject
    given = [_sized(value) for value in frame.inputs]
    attributes = frame.attributes or {}
    if op.kind == "fused":  # it was given its arguments as they came
        named = {name: _sized(value) for name, value in attributes.items()}
        inputs, attributes = op.bind(tuple(given), named)
    else:
        inputs = tuple(given)
    outputs = [Size(*pair) for pair in frame.outputs]
    sizes = [_as_size(value, outputs) for value in inputs]
    span.shapes = tuple(size.shape for size in sizes if size is not None)
    span.flops = flops_of(op, sizes, attributes, outputs)
    span.bytes = bytes_of(op, sizes, attributes, outputs, frame.is_view)


def _charge_vjp(span: Span) -> None:
    frame = span.frame
    inputs = [None if pair is None else Size(*pair) for pair in frame.inputs]
    cotangents = [None if pair is None else Size(*pair) for pair in frame.outputs]
    outputs = [size for size in cotangents if size is not None]
    span.shapes = tuple(size.shape for size in inputs if size is not None)
    span.flops = flops_of_vjp(frame.subject, inputs, frame.attributes, outputs, frame.needs)
    span.bytes = bytes_of_vjp(inputs, cotangents, frame.needs)


def _sized(value: Any) -> Any:
    """Return a noted (shape, dtype) as a `Size`, also within lists; anything else as it is."""
    if isinstance(value, list):
        return [_sized(item) for item in value]
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], tuple):
        return Size(*value)
    return value


def _as_size(value: Any, outputs: list[Size]) -> Size | None:
    """Return the size of an input; a number is of no size worth counting, a list has a shape."""
    if value is None or isinstance(value, Size):
        return value
    import numpy as np

    array = np.asarray(value)
    return Size(array.shape, outputs[0].dtype if outputs else array.dtype)


def calls_of(roots: Iterable[Span]) -> list[tuple[Span, OpCall]]:
    """Return the calls that count, each with its span, by the time at which they began."""
    found = []
    for root in roots:
        for span in root.walk():
            if span.counts:
                frame = span.frame
                call = OpCall(
                    frame.subject.name,
                    frame.kind == "backward",
                    span.module,
                    (frame.end - frame.start) / 1e9,
                    frame.thread,
                    span.flops,
                    span.bytes,
                    span.shapes,
                )
                found.append((span, call))
    found.sort(key=lambda pair: pair[0].frame.start)
    return found


def totals_by_op(calls: Iterable[OpCall]) -> list[OpTotal]:
    """Return what the calls of each op add up to, the longest first."""
    totals: dict[tuple[str, bool], OpTotal] = {}
    for call in calls:
        key = call.op, call.backward
        total = totals.setdefault(key, OpTotal(*key))
        total.calls += 1
        total.seconds += call.seconds
        total.flops += call.flops or 0
        total.bytes += call.bytes
    return sorted(totals.values(), key=lambda total: -total.seconds)


def totals_by_module(roots: Iterable[Span], calls: Iterable[OpCall]) -> list[ModuleTotal]:
    """Return what each module, with those below it, took: in the order of their first calls.

    The first, with an empty path, is what ran in no module.
    """
    totals: dict[str, ModuleTotal] = {"": ModuleTotal("")}

    def visit(spans: Iterable[Span], path: str) -> None:
        for span in spans:
            if span.frame.kind == "module":
                total = totals.setdefault(span.module, ModuleTotal(span.module))
                if span.module != path:
                    total.calls += 1
                    total.forward_seconds += (span.frame.end - span.frame.start) / 1e9
                visit(span.inside, span.module)

    visit(sorted(roots, key=lambda span: span.frame.start), "")
    for call in calls:
        for path in _upward(call.module):
            if path in totals:
                total = totals[path]
                total.flops += call.flops or 0
                total.bytes += call.bytes
                if call.backward:
                    total.backward_seconds += call.seconds
                elif not call.module:
                    total.calls += 1
                    total.forward_seconds += call.seconds
    return list(totals.values())


def _upward(path: str) -> list[str]:
    """Return a path and those of the modules around it."""
    parts = path.split(".")
    return list(accumulate(parts, lambda before, part: f"{before}.{part}"))
