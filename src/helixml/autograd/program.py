"""A recorded step as a function: straight-line Python, written from the list of calls.

`Program` writes one local variable for each slot, one line for each call, and drops a variable
after its last use; then Python compiles that. Before the first line stand the guards: what the
recording took for granted of the arguments, of the tensors from outside and of the modes. Where one
fails the function returns `MISS` and has done nothing.

Calls whose results nobody uses are left out; small arrays that are the same every time, and that
nobody outside can see, are made once.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections import Counter
from collections.abc import Callable
from typing import Any

from helixml import config, dtypes
from helixml._core import capturing, op, saving, tape
from helixml._core.modes import again, recording
from helixml._core.tensor import Tensor, new_tensor
from helixml.autograd.recording import (
    Call,
    Constant,
    Draw,
    Gradient,
    Host,
    Recorder,
    Ref,
    Write,
    layout,
)
from helixml.autograd.segments import Segment, operands, refs, segmented
from helixml.autograd.structures import Form, flatten

__all__ = ["MISS", "Program", "observed"]

MISS: Any = object()  # what a function returns whose guards do not hold
_SMALL = 4096  # bytes of an array that is worth keeping from replay to replay


def observed() -> bool:
    """Say whether somebody wants to see every op here: a profiler, hooks, a checkpoint."""
    hooked = any(tape.leaf_hooks.values())
    return bool(op.watchers or hooked or saving.packing or again.get())


def _same(value: Any, constant: Constant) -> bool:
    """Say whether an argument is what it was."""
    return value is constant.value or Constant(value) == constant


def _parted(array: Any, references: list[Any]) -> bool:
    """Say whether one of some tensors has another array by now."""
    tensors = [reference() for reference in references]
    return any(tensor is not None and tensor._array is not array for tensor in tensors)


def _hooked(tensors: Any) -> bool:
    """Say whether there are hooks on the gradient of one of these."""
    return any(tape.leaf_hooks.get(id(tensor)) for tensor in tensors)


class Program:
    """What a recorder noted, and the function that does it again.

    Parameters
    ----------
    name : the step's, for tracebacks.
    recorder : of the run.
    leaves, form : the arguments, taken apart; ``form`` is None where all stand side by side.
    result : what `Recorder.finish` returned.
    writer : what errors call its writes.

    Attributes
    ----------
    replay : takes leaves and form of the arguments; returns the result or `MISS`. From `build` on.
    source : its text.
    replays : how often it was done.
    effects : number of the first line that changes what can be seen from outside.
    """

    replay: Callable[[Any, Any], Any]

    def __init__(
        self,
        name: str,
        recorder: Recorder,
        leaves: list[Any],
        form: Form | None,
        result: Any,
        writer: str,
    ) -> None:
        self.name = name
        self.recorder = recorder
        self.given = leaves
        self.form = form
        self.result = result
        self.writer = writer
        self.source = ""
        self.replays = 0
        self.effects = 0
        self.names: dict[str, Any] = {}
        # Texts of functions that the device does as one, and which operands are others each time.
        self.segments: list[tuple[str, set[int]]] = []

    def build(self) -> None:
        """Make the function."""
        self.names.update(
            MISS=MISS,
            backend=self.recorder.backend,
            config=config.get,
            default=dtypes,
            flatten=flatten,
            given=self.form,
            hooked=_hooked,
            kind=dtypes.default_float,
            layout=layout,
            leaf_hooks=tape.leaf_hooks,
            mode=recording,
            modules=capturing,
            new=new_tensor,
            outer=self.recorder.outer,
            parted=_parted,
            recording=recording.get,
            same=_same,
            saving=saving,
            settings=config.get(),
            version=capturing.version,
            watchers=op.watchers,
            write=_write,
            writer=self.writer,
        )
        for tensor in self.recorder.outer:
            if tensor._cell is not None:
                _forget_the_dead(tensor._cell)
        self.source = _Text(self).write()
        exec(compile(self.source, f"<captured {self.name}>", "exec"), self.names)
        self.replay = self.names["replay"]
        self.code = self.replay.__code__
        if self.segments:
            self._make_graphs()
        self.release()

    def _make_graphs(self) -> None:
        """Have the device do each segment in one command; its memory serves one replay at once."""
        texts = "".join(text for text, _ in self.segments)
        exec(compile(texts, f"<segments of {self.name}>", "exec"), self.names)
        for i, (_, moving) in enumerate(self.segments):
            run = self.names[f"segment{i}"]
            self.names[f"graph{i}"] = self.recorder.backend.device_graph(run, moving)
        replay, lock = self.replay, threading.RLock()

        def alone(leaves: Any, form: Any) -> Any:
            with lock:
                return replay(leaves, form)

        self.replay = alone

    def release(self) -> None:
        """Let go of the arguments of that time."""
        self.given = []
        self.recorder.inputs = []

    def difference(self, other: Program) -> str:
        """Return where two recordings of calls alike differ first, in words, or ""."""
        mine, theirs = self.recorder, other.recorder
        for a, b in zip(mine.outer, theirs.outer, strict=False):
            if a is not b:
                return f"it reads a tensor of shape {b.shape} that is another one each time"
        for step, before in zip(theirs.steps, mine.steps, strict=False):
            if step != before:
                return f"it calls {_called(step)} where it called {_called(before)}"
        if len(mine.steps) != len(theirs.steps):
            return f"it makes {len(theirs.steps)} calls where it made {len(mine.steps)}"
        for c, d in zip(theirs.constants, mine.constants, strict=False):
            if c != d:
                return f"it takes {_shown(c.value)} from Python where it took {_shown(d.value)}"
        if mine.numbers != theirs.numbers or self.result != other.result:
            return "it returns something else each time"
        if mine.expected != theirs.expected or mine.had != theirs.had:
            return "gradients were there, or were not"
        return ""

    def is_harmless(self, error: Exception) -> bool:
        """Say whether a replay failed before it changed anything."""
        code = self.code
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_code is code:
                return trace.tb_lineno < self.effects
            trace = trace.tb_next
        return False

    def trust(self) -> None:
        """Go on with the modules as they are now."""
        self.names["version"] = capturing.version


def _called(step: Any) -> str:
    if isinstance(step, Call):
        return step.name
    if isinstance(step, Host):
        return getattr(step.function, "__qualname__", "a function")
    return type(step).__name__.lower()


def _shown(value: Any) -> str:
    shape = getattr(value, "shape", None)
    return f"{value!r:.40}" if shape is None else f"an array of shape {tuple(shape)}"


def _forget_the_dead(cell: Any) -> None:
    """Have a cell know the living alone, so that a write sees at once that there are no others."""
    for key in [key for key, found in cell.viewers.items() if found() is None]:
        del cell.viewers[key]


def _write(tensor: Tensor, writer: str) -> Any:
    """Return a tensor's array, ready to be overwritten: `Tensor._begin_write`, if need be."""
    cell = tensor._cell
    if cell is None:
        return tensor._array
    if len(cell.viewers) == 1 and not cell.borrowed:  # it looks at the array alone
        cell.version += 1
        cell.writer = writer
        return tensor._array
    return tensor._begin_write(writer)


class _Text:
    """Writes the function of a program."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.recorder = program.recorder
        self.leaves = program.given
        self.names = program.names
        self.lines: list[str] = []
        self.needed: set[Ref] = set()  # slots and gradients that a line reads
        self.kept: list[Any] = []  # the steps that are not left out, with their places
        self.folded: dict[int, str] = {}  # slot -> name of an array that is made once
        self.fresh: set[str] = set()  # variables that hold the arrays of tensors as they are now
        self.begun: set[str] = set()  # those of writes that have just begun
        self.last: dict[str, int] = {}  # variable -> place of the step that reads it last
        self.shown: Counter[Ref] = Counter()  # roots of new tensors: how many show them
        self.first: dict[
            Ref, str
        ] = {}  # root of an array -> variable of a new tensor that shows it
        self.recorded = recording.get()
        self.variable = 0
        self.made_by_segments: set[Ref] = set()
        self.inside: dict[Ref, str] = {}  # while a segment is written: names of its operands
        self.variables: dict[int, str] = {}  # of each input: that of its tensor

    def write(self) -> str:
        """Return the text."""
        self._fold()
        self._find_needed()
        self.lines = ["def replay(leaves, form):"]
        self._guard()
        for ref in sorted(self.recorder.exposed, key=repr):
            if ref.kind == "constant":
                self._line(f"k{ref.number} = backend.copy(c{ref.number})")
        for number, step in self.kept:
            if not self.program.effects and _changes(step):
                self.program.effects = len(self.lines) + 1
            getattr(self, f"_{type(step).__name__.lower()}")(number, step)
            self._drop(number, self.last)
        form, found = self.program.result
        self.program.effects = self.program.effects or len(self.lines) + 1
        values = [self._value(ref) for ref in found]
        if form.make is None:
            self._line(f"return {values[0]}")
        else:
            self.names["build"] = form.build
            self._line(f"return build(iter(({''.join(value + ', ' for value in values)})))")
        return "\n".join(self.lines) + "\n"

    def _line(self, text: str) -> None:
        self.lines.append("    " + text)

    def _drop(self, number: int, lasts: dict[str, int]) -> None:
        """Let go of what the step at this place was the last to read."""
        dead = [name for name, last in lasts.items() if last == number]
        if dead:
            self._line(f"del {', '.join(dead)}")

    def _name(self, kind: str, value: Any) -> str:
        """Return the name of a value, new if need be."""
        name = f"{kind}{id(value)}"
        self.names[name] = value
        return name

    # What is needed

    def _fold(self) -> None:
        """Make once what is the same every time: small arrays that nobody outside sees."""
        exposed = self.recorder.exposed
        values: dict[Ref, Any] = {
            Ref("constant", i): constant.value for i, constant in enumerate(self.recorder.constants)
        }
        for step in self.recorder.steps:
            if not isinstance(step, Call) or step.writes or not isinstance(step.result, Ref):
                continue
            slot = step.result
            if slot in values or slot in exposed or self.recorder.roots[slot.number] in exposed:
                continue
            given = refs([step.args, step.kwargs])
            if any(ref not in values or ref in exposed for ref in given):
                continue
            kwargs = {name: _filled(value, values) for name, value in step.kwargs.items()}
            array = step.function(*_filled(step.args, values), **kwargs)
            if getattr(array, "nbytes", _SMALL + 1) <= _SMALL:
                values[slot] = array
                self.folded[slot.number] = self._name("m", array)

    def _find_needed(self) -> None:
        """Find which steps do something, and where each variable is read last."""
        needed, exposed = self.needed, self.recorder.exposed
        for ref in self.program.result[1]:
            needed.update(refs(ref))
        for number in range(len(self.recorder.steps) - 1, -1, -1):
            step = self.recorder.steps[number]
            if isinstance(step, Call) and not step.writes:
                made = list(refs(step.result))
                if not any(ref in needed for ref in made):
                    continue
                if isinstance(step.result, Ref) and step.result.number in self.folded:
                    continue
            self.kept.append((number, step))
            needed.update(refs(operands(step)))
        self.kept.reverse()
        for ref in self.program.result[1]:
            if isinstance(ref, Ref) and ref.kind == "tensor":
                self.shown[self._root(ref.of)] += 1
        for _, step in self.kept:
            if isinstance(step, Gradient) and step.value is not None:
                self.shown[self._root(step.value)] += 1
            if isinstance(step, Host):
                for ref in refs(operands(step)):
                    if ref.kind == "tensor":
                        self.shown[self._root(ref.of)] += 1
        if self.recorder.backend is not None and self.recorder.backend.device_graph is not None:
            fixed = {Ref("constant", i) for i in range(len(self.recorder.constants))} - exposed
            fixed |= {Ref("slot", number) for number in self.folded}
            self.kept = segmented(self.kept, self.recorder, self.program.result[1], fixed)
        self._find_last(self.kept, self.last, set(refs(self.program.result[1])))

    def _find_last(self, steps: list[Any], last: dict[str, int], ending: set[Ref]) -> None:
        """Find which step reads each variable last, those of the end apart."""
        for number, step in steps:
            found = list(refs(operands(step)))
            if isinstance(step, Segment):
                found += step.results
            elif isinstance(step, (Call, Host)):
                found += refs(step.result)
            for ref in found:
                if ref.kind == "slot" and ref.number not in self.folded and ref not in ending:
                    last[f"s{ref.number}"] = number

    # Guards

    def _guard(self) -> None:
        names = self.names
        tests = [
            "watchers or saving.packing or modules.version != version",
            "(leaf_hooks and hooked((*outer, *leaves)))",
            f"recording() is not {self.recorded}",
            "default.default_float is not kind",
            "(config() is not settings and config() != settings)",
        ]
        self._line(f"if {' or '.join(tests)}: return MISS")
        count = len(self.leaves)
        self._line(f"if len(leaves) != {count} or form != given: return MISS")
        if count:
            self._line(f"{', '.join(f'x{i}' for i in range(count))}, = leaves")
        places = [i for i, leaf in enumerate(self.leaves) if isinstance(leaf, Tensor)]
        for i, leaf in enumerate(self.leaves):
            if not isinstance(leaf, Tensor):
                names[f"l{i}"] = Constant(leaf)
                self._line(f"if not same(x{i}, l{i}): return MISS")
        for number, i in enumerate(places):
            self._guard_input(number, i)
        for k, i in enumerate(places):
            for j in places[:k]:
                same = "is not" if self.leaves[i] is self.leaves[j] else "is"
                self._line(f"if x{i} {same} x{j}: return MISS")
        for i, (function, args, value) in enumerate(self.recorder.expected):
            names[f"e{i}"] = value
            given = ", ".join(self._value(arg) for arg in args)
            self._line(f"if {self._name('f', function)}({given}) != e{i}: return MISS")
        for i, tensor in enumerate(self.recorder.outer):
            self._guard_outer(i, tensor)
        for ref in sorted(self.needed, key=repr):
            if ref.kind == "gradient" and ref.number < 0:
                name, place = self._gradient_name(ref), self._value(ref.of)
                self._line(f"{name} = {place}.grad._array")
                names[f"l{name}"] = self.recorder.layouts[ref]
                self._line(f"if layout({name}) != l{name}: return MISS")
                self._line(f"if {place}.grad._node is not None: return MISS")

    def _guard_outer(self, i: int, tensor: Tensor) -> None:
        self.names[f"t{i}"] = tensor
        self.names[f"r{i}"] = _Remembered(tensor, self.names, f"w{i}")
        self._line(f"a{i} = t{i}._array")
        self.fresh.add(f"a{i}")
        had = Ref("the outer", i) in self.recorder.had
        tests = [f"(a{i} is not w{i}() and not r{i}.fits(t{i}))"]
        if i in self.recorder.sharing:
            self.names[f"z{i}"] = self.recorder.sharing[i]
            tests.append(f"parted(a{i}, z{i})")
        tests.append(f"{'not ' if tensor._tracked else ''}t{i}._tracked")
        if tensor._tracked or had:
            tests.append(f"t{i}.grad is {'' if had else 'not '}None")
        self._line(f"if {' or '.join(tests)}: return MISS")

    def _guard_input(self, number: int, i: int) -> None:
        tensor = self.leaves[i]
        names = self.names
        self.variables[number] = f"x{i}"
        names[f"T{i}"] = type(tensor)
        names[f"S{i}"], names[f"D{i}"], names[f"L{i}"] = self.recorder.layouts[Ref("input", number)]
        self._line(f"if type(x{i}) is not T{i} or x{i}._backend is not backend: return MISS")
        if type(tensor) is not Tensor:  # of a module: what the step reads there may be the same
            names[f"i{i}"] = weakref.ref(tensor)
            self._line(f"if x{i} is not i{i}(): return MISS")
        self._line(f"b{number} = x{i}._array")
        strides = "" if names[f"L{i}"] is None else f" or b{number}.strides != L{i}"
        self._line(
            f"if b{number}.shape != S{i} or b{number}.dtype != D{i}{strides} or "
            f"x{i}._tracked is not {tensor._tracked} or x{i}._node is not None: return MISS"
        )
        if tensor._tracked:
            had = Ref("the input", number) in self.recorder.had
            self._line(f"if x{i}.grad is {'' if had else 'not '}None: return MISS")
        self.fresh.add(f"b{number}")

    # Steps

    def _call(self, number: int, step: Call) -> None:
        given = [self._value(value) for value in step.args]
        given += [f"{name}={self._value(value)}" for name, value in step.kwargs.items()]
        call = f"{self._name('f', step.function)}({', '.join(given)})"
        targets = self._targets(step.result)
        self._line(f"{targets} = {call}")
        if re.search(r"\b_\b", targets):
            self._line("del _")

    def _segment(self, number: int, step: Segment) -> None:
        """Write a function of the calls, and the call of its graph."""
        given = ", ".join(self._value(ref) for ref in step.operands)
        place = len(self.program.segments)
        outside, self.lines, self.inside = self.lines, [], {}
        for i, ref in enumerate(step.operands):
            self.inside[ref] = f"p{i}"
        last: dict[str, int] = {}
        self._find_last(list(step.calls), last, {*step.results, *step.operands})
        self.lines.append(f"def segment{place}({', '.join(self.inside.values())}):")
        for inner, call in step.calls:
            self._call(inner, call)
            self._drop(inner, last)
        results = "".join(f"s{ref.number}, " for ref in step.results)
        self._line(f"return ({results})")
        roots = map(self._root, step.operands)
        moving = {
            i
            for i, root in enumerate(roots)
            if root.kind not in ("outer", "constant") and root not in self.made_by_segments
        }
        self.made_by_segments.update(ref for _, call in step.calls for ref in refs(call.result))
        self.program.segments.append(("\n".join(self.lines) + "\n", moving))
        self.lines, self.inside = outside, {}
        self._line(f"({results}) = graph{place}({given})")

    def _targets(self, result: Any) -> str:
        """Return what a call's result is assigned to."""
        if isinstance(result, Ref):
            return f"s{result.number}" if result.kind == "slot" else "_"
        if isinstance(result, (tuple, list)):
            if not any(ref.kind == "slot" for ref in refs(result)):
                return "_"
            return f"({''.join(self._targets(item) + ', ' for item in result)})"
        return "_"

    def _write(self, number: int, step: Write) -> None:
        tensor = self._value(step.tensor)
        kind = "b" if step.tensor.kind == "the input" else "a"
        variable = f"{kind}{step.tensor.number}"
        if variable in self.fresh:
            self._line(f"if {tensor}._cell is not None: {variable} = write({tensor}, writer)")
        else:
            self._line(f"{variable} = write({tensor}, writer)")
        # Others that looked at the array may have one of their own by now; what was begun just
        # before is looked at by nobody else.
        self.begun.add(variable)
        following = self.recorder.steps[number + 1 : number + 2]
        if not following or not isinstance(following[0], Write):
            self.fresh.clear()
            self.fresh |= self.begun
            self.begun.clear()

    def _gradient(self, number: int, step: Gradient) -> None:
        value = "None" if step.value is None else self._new(step.value)
        self._line(f"{self._value(step.tensor)}.grad = {value}")

    def _draw(self, number: int, step: Draw) -> None:
        count = sum(isinstance(s, Draw) for s in self.recorder.steps[:number])
        self._line(f"d{count} = {self._name('o', step.rng.value)}.advance({step.words})")

    def _host(self, number: int, step: Host) -> None:
        given = [self._value(value) for value in step.args]
        given += [f"{name}={self._value(value)}" for name, value in step.kwargs.items()]
        call = f"h = {self._name('f', step.function)}({', '.join(given)})"
        if step.grads is self.recorded:
            self._line(call)
        else:
            self._line(f"token = mode.set({step.grads})")
            self._line(f"try: {call}")
            self._line("finally: mode.reset(token)")
        if any(ref is not None for ref in step.result):
            self._line("h = flatten(h)[0]")
            for i, ref in enumerate(step.result):
                if ref is not None:
                    self._line(f"s{ref.number} = h[{i}]._array")
        self._line("del h")
        self.fresh.clear()
        for ref in sorted(self.needed, key=repr):
            if ref.kind == "gradient" and ref.number == number:
                self._line(f"{self._gradient_name(ref)} = {self._value(ref.of)}.grad._array")

    # Operands

    def _value(self, value: Any) -> str:
        """Return the expression of a ref or of a tree of them."""
        if isinstance(value, Ref):
            if value in self.inside:
                return self.inside[value]
            text: str = getattr(self, f"_{value.kind.replace(' ', '_')}_value")(value)
            return text
        if isinstance(value, Constant):
            return self._literal(value.value)
        if isinstance(value, tuple):
            return f"({''.join(self._value(item) + ', ' for item in value)})"
        if isinstance(value, list):
            return f"[{', '.join(self._value(item) for item in value)}]"
        items = [f"{self._literal(key)}: {self._value(item)}" for key, item in value.items()]
        return f"{{{', '.join(items)}}}"

    def _literal(self, value: Any) -> str:
        if value is None or type(value) in (bool, int, str):
            return repr(value)
        return self._name("v", value)

    def _constant_value(self, ref: Ref) -> str:
        if ref in self.recorder.exposed:
            self.names[f"c{ref.number}"] = self.recorder.constants[ref.number].value
            return f"k{ref.number}"
        return self._literal(self.recorder.constants[ref.number].value)

    def _slot_value(self, ref: Ref) -> str:
        return self.folded.get(ref.number) or f"s{ref.number}"

    def _input_value(self, ref: Ref) -> str:
        return self._current(f"b{ref.number}", self.variables[ref.number])

    def _outer_value(self, ref: Ref) -> str:
        return self._current(f"a{ref.number}", f"t{ref.number}")

    def _current(self, variable: str, tensor: str) -> str:
        """Return the variable of a tensor's array, read again if it may be another by now."""
        if variable not in self.fresh:
            self._line(f"{variable} = {tensor}._array")
            self.fresh.add(variable)
        return variable

    def _the_input_value(self, ref: Ref) -> str:
        return self.variables[ref.number]

    def _the_outer_value(self, ref: Ref) -> str:
        return f"t{ref.number}"

    def _tensor_value(self, ref: Ref) -> str:
        return self._new(ref.of)

    def _gradient_value(self, ref: Ref) -> str:
        return self._gradient_name(ref)

    def _gradient_name(self, ref: Ref) -> str:
        return f"g{ref.number + 1}_{ref.of.kind[4:]}{ref.of.number}"

    def _key_value(self, ref: Ref) -> str:
        return f"d{ref.number}[0]"

    def _counter_value(self, ref: Ref) -> str:
        return f"d{ref.number}[1]"

    def _number_value(self, ref: Ref) -> str:
        function, args = self.recorder.numbers[ref.number]
        given = ", ".join(self._value(arg) for arg in args)
        return f"{self._name('f', function)}({given})"

    def _new(self, ref: Ref) -> str:
        """Return a new tensor; of several that show the same memory each knows of the first."""
        made = f"new({self._value(ref)}, backend)"
        root = self._root(ref)
        if root.kind in ("input", "outer"):
            owner = self._value(Ref(f"the {root.kind}", root.number))
        elif root in self.first:
            owner = self.first[root]
        else:
            if self.shown[root] > 1:
                name = self.first[root] = self._variable()
                self._line(f"{name} = {made}")
                return name
            return made
        name = self._variable()
        self._line(f"{name} = {made}")
        self._line(f"{owner}._share({name})")
        return name

    def _variable(self) -> str:
        self.variable += 1
        return f"n{self.variable}"

    def _root(self, ref: Ref) -> Ref:
        """Return the first operand that shows the memory of an array."""
        return self.recorder.roots[ref.number] if ref.kind == "slot" else ref


class _Remembered:
    """The array that a tensor had when it was looked at last, and what the program needs of it.

    The program compares with the weak reference under ``name``; another array comes here.
    """

    def __init__(self, tensor: Tensor, names: dict[str, Any], name: str) -> None:
        self.needed = self.found(tensor)
        self.names = names
        self.name = name
        self.remember(tensor._array)

    @staticmethod
    def found(tensor: Tensor) -> tuple[Any, ...]:
        """Return what must not change."""
        array = tensor._array
        flags = getattr(array, "flags", None)
        return layout(array), tensor._backend, tensor._node, getattr(flags, "writeable", None)

    def remember(self, array: Any) -> None:
        """Know an array again."""
        try:
            self.names[self.name] = weakref.ref(array)
        except TypeError:
            self.names[self.name] = _nothing

    def fits(self, tensor: Tensor) -> bool:
        """Say whether another array will do, and know it from now on."""
        if self.found(tensor) != self.needed:
            return False
        self.remember(tensor._array)
        return True


def _nothing() -> None:
    """Stand for a reference to an array that cannot be watched."""


def _changes(step: Any) -> bool:
    """Say whether somebody outside may see that a step was done."""
    if isinstance(step, Call):
        return step.writes
    return step.changes if isinstance(step, Host) else True


def _filled(value: Any, values: dict[Ref, Any]) -> Any:
    """Return a tree with values in the place of its refs."""
    if isinstance(value, Ref):
        return values[value]
    if isinstance(value, (tuple, list)):
        return type(value)([_filled(item, values) for item in value])
    if isinstance(value, dict):
        return {name: _filled(item, values) for name, item in value.items()}
    return value
