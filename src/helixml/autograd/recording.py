"""Recording a step: every call of an array function or kernel of a backend, as one straight list.

A `Recorder` listens below the tape. While a step runs it stands in the place of the functions of
each backend, so that forward pass, backward pass and update all become `Call` s on raw arrays; the
tape, the tensors and the dispatch to kernels, which led to them, leave no trace. What an operand is
the recorder knows by identity: the result of an earlier call, the array of an argument or of a
tensor from outside, a gradient that was there before, a number that a random stream or `current`
gave, or a constant. Two recordings that are equal, those references included, were made by the same
computation: `capture` asks for that before it replays one, and `program` makes it a function.

What two recordings have in common but the program does not say (a branch that Python takes by a
number of its own) nobody can see here.
"""

from __future__ import annotations

import copy
import gc
import operator
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from helixml import dtypes, random
from helixml._core import capturing
from helixml._core.modes import recording
from helixml._core.observe import Hooks, owner_of
from helixml._core.op import REGISTRY, Primitive
from helixml._core.storage import user_line
from helixml._core.tensor import Tensor, living_tensors
from helixml.autograd.structures import flatten
from helixml.backends import registry

__all__ = [
    "Call",
    "Constant",
    "Draw",
    "Gradient",
    "Host",
    "Recorder",
    "Ref",
    "Write",
    "layout",
    "one",
]

# Functions of a backend that give no array and change none.
_SILENT = frozenset({"capabilities", "device_graph", "dtype_of", "memory", "synchronize"})
one = threading.Lock()  # held while something is recorded


class Ref(NamedTuple):
    """What an operand is.

    ``kind`` is "slot" (result ``number`` of the calls), "input" or "outer" (the array of an
    argument, of a tensor from outside), "the input" or "the outer" (such a tensor itself), "tensor"
    (a new tensor of slot ``number``), "gradient" (the array of ``grad`` of the tensor that ``of``
    says, as it was after call ``number``), "key" and "counter" (of draw ``number``), "number" (of
    those that `current` gave), or "constant".
    """

    kind: str
    number: int
    of: Any = None


class Constant:
    """A value that is the same in every replay; equal if it is of one type and has the same bits.

    An array that ``came`` from nowhere that the recorder knows must be the very same object.
    """

    __slots__ = ("came", "value")

    def __init__(self, value: Any, came: bool = False) -> None:
        self.value = value
        self.came = came

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Constant):
            return NotImplemented
        a, b = self.value, other.value
        if a is b:
            return True
        if self.came or other.came or type(a) is not type(b):
            return False
        if isinstance(a, np.ndarray):
            return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
        try:
            return bool(a == b) or bool(a != a and b != b)
        except Exception:  # what cannot be compared is not the same
            return False


class Call(NamedTuple):
    """A call on raw arrays; operands and results are trees of refs and constants.

    ``on_device`` says that it makes arrays, none of integers, without the host.
    """

    name: str
    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    result: Any
    writes: bool
    on_device: bool = False


class Write(NamedTuple):
    """The beginning of a write to a tensor: its version rises, others get their own copies."""

    tensor: Ref


class Gradient(NamedTuple):
    """``grad`` of a tensor becomes a new tensor, or None."""

    tensor: Ref
    value: Ref | None


class Draw(NamedTuple):
    """Random words are taken from a stream."""

    rng: Constant
    words: int


class Host(NamedTuple):
    """A call of a function in Python."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    changes: bool
    grads: bool  # whether operations are recorded there
    form: Any
    result: tuple[Ref | None, ...]


class _Number:
    """A number with an identity of its own; what is computed from it is such a number as well."""

    recorder: Any = None


def _computing(function: Callable[..., Any], turned: bool) -> Any:
    plain = {int: _plain_int, float: _plain_float}

    def compute(self: Any, *others: Any) -> Any:
        given = (*others, self) if turned else (self, *others)
        if not all(isinstance(other, (int, float)) for other in others):
            return NotImplemented
        value = function(*[plain[int if isinstance(v, int) else float](v) for v in given])
        if self.recorder is None or self.recorder._silent() or isinstance(value, complex):
            return value
        return self.recorder.number(function, given, value)

    return compute


def _plain_int(value: int) -> int:
    return int.__int__(value)


def _plain_float(value: float) -> float:
    return float.__float__(value)


setattr(_Number, "__neg__", _computing(operator.neg, False))  # noqa: B010
for _name in ("add", "sub", "mul", "truediv", "pow"):
    setattr(_Number, f"__{_name}__", _computing(getattr(operator, _name), False))
    setattr(_Number, f"__r{_name}__", _computing(getattr(operator, _name), True))


class _Int(_Number, int):
    """Such an integer."""


class _Float(_Number, float):
    """Such a float."""


class _Counter(int):
    """The first counter of a draw, with an identity of its own."""


class _Key(tuple[int, int]):
    """The key of a draw, with an identity of its own."""


class Recorder:
    """What one run of a step does.

    Parameters
    ----------
    inputs : the tensors among its arguments.

    Attributes
    ----------
    steps : list of `Call`, `Write`, `Gradient`, `Draw` and `Host`.
    outer : the tensors from outside that it uses.
    constants : of the refs of that kind.
    numbers : of each number that `current` gave, or that was computed from such, (function,
        arguments).
    expected : (function, arguments, value) of what `capturing.expect` was given.
    exposed : refs of arrays that somebody outside may see or write.
    backend : of all tensors.
    layouts : of the arrays of inputs and gradients, at the beginning.
    reason : why it must not be replayed, or "".
    """

    def __init__(self, inputs: list[Tensor]) -> None:
        self.thread = threading.get_ident()
        self.busy = True  # nobody listens before `listening`
        self.steps: list[Any] = []
        self.inputs = inputs
        self.outer: list[Tensor] = []
        self.constants: list[Constant] = []
        self.numbers: list[tuple[Any, tuple[Any, ...]]] = []
        self.expected: list[tuple[Any, tuple[Constant, ...], Any]] = []
        self.had: set[Ref] = set()  # tensors from outside that had a gradient when the step began
        # Of a tensor from outside: those that look at its array. Any of them may be the one that
        # the step reads, so they must still share it when a replay begins.
        self.sharing: dict[int, list[Any]] = {}
        self.roots: list[Ref] = []  # of each slot: the first operand that shows the same memory
        self.objects: set[int] = set()  # numbers of slots that hold no array
        self.exposed: set[Ref] = set()
        self.backend: Any = None
        self.reason = ""
        self._known: dict[int, Ref] = {}  # id of an array, or of what else is an operand
        self._owners: dict[int, Ref] = {}  # id of the array whose memory a slot shows
        self._guards: dict[tuple[int, int], Any] = {}  # weak references that forget an id in time
        self._kept: list[Any] = []
        self._grads: dict[int, tuple[Tensor, int]] = {}  # id of an array: whose grad, since when
        self._copies: list[tuple[Any, Any, Any]] = []  # that may be the beginning of a write
        self._draws = 0
        self._hooks = Hooks()
        # What is there before: nothing that the step makes can be mistaken for it.
        self._outside = _tensors()
        self._ids = {id(t) for t in self._outside}
        self._arrays: dict[int, Tensor] = {}
        self._sharing: dict[int, list[Tensor]] = {}
        for tensor in self._outside:
            self._sharing.setdefault(id(tensor._array), []).append(tensor)
            known = self._arrays.get(id(tensor._array))
            # Of several that look at one array the one that learns is more than a view of it.
            if known is None or (tensor._tracked and not known._tracked):
                self._arrays[id(tensor._array)] = tensor
        self._places = {id(t): Ref("the input", i) for i, t in enumerate(inputs)}
        self.layouts: dict[Ref, Any] = {
            Ref("input", i): layout(t._array) for i, t in enumerate(inputs)
        }
        self._learning = [t for t in self._outside if t._tracked or t.grad is not None]
        self._gradients = {id(t): t.grad for t in self._learning}
        self._had = {id(t) for t in self._learning if t.grad is not None}
        for i, tensor in enumerate(inputs):
            self._keep(tensor._array, Ref("input", i))
            self._settle(tensor)
            if tensor.grad is not None:
                self.had.add(Ref("the input", i))
        self._note_gradients()

    # Listening

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note what this thread does in the block, in which `one` must be held."""
        try:
            self._enter()
            yield
        finally:
            self.busy = True
            capturing.active = None
            self._hooks.leave()
            _forget_bound()

    def _enter(self) -> None:
        backends = {id(t._backend): t._backend for t in self._outside}
        backends.update({id(b): b for b in list(registry._backends.values())})
        for backend in backends.values():
            for name in dir(backend):
                if not name.startswith("_") and name not in _SILENT:
                    function = getattr(backend, name)
                    if callable(function) and not isinstance(function, type):
                        self._hooks.put(backend, name, self._logged(function, name, backend))
            self._hooks.put(backend.kernels, "find", self._finding(backend.kernels.find, backend))
        _forget_bound()
        capturing.active = self
        self.busy = False

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Note what is drawn from random streams in the block."""
        token = random._watch.set(_Watch(self))  # type: ignore[arg-type]
        try:
            yield
        finally:
            random._watch.reset(token)

    def _silent(self) -> bool:
        return self.busy or self.thread != threading.get_ident()

    def _logged(self, function: Any, name: str, backend: Any) -> Any:
        """Return a function that does what a backend's does, and notes it."""
        special = getattr(self, f"_{name}", None) if name in _SPECIAL else None

        def logged(*args: Any, **kwargs: Any) -> Any:
            if self._silent():
                return function(*args, **kwargs)
            if special is not None:
                return special(function, args, kwargs)
            return self._call(
                name, function, args, kwargs, writes=name == "assign", backend=backend
            )

        return logged

    def _finding(self, find: Any, backend: Any) -> Any:
        """Return `KernelTable.find`, whose kernels are noted when they run."""

        def finding(name: str, *rest: Any) -> Any:
            kernel = find(name, *rest)
            if kernel is None or self._silent():
                return kernel
            writes = bool(getattr(REGISTRY.get(name), "writes", ()))

            def logged(*args: Any, **kwargs: Any) -> Any:
                return self._call(name, kernel, args, kwargs, writes=writes, backend=backend)

            return logged

        return finding

    def _call(
        self,
        name: str,
        function: Any,
        args: Any,
        kwargs: Any,
        *,
        writes: bool = False,
        backend: Any = None,
    ) -> Any:
        self._note_copies()
        given = self._operands(args), {k: self._operand(v) for k, v in kwargs.items()}
        before = None if backend is None else backend.host_calls
        self.busy = True  # what a function calls in turn is part of it
        try:
            result = function(*args, **kwargs)
        finally:
            self.busy = False
        if name == "ensure" and result is args[0]:
            return result  # an array as ever
        on_device = (
            backend is not None
            and not writes
            and backend.host_calls == before
            and all(_is_floats(value, backend) for value in flatten(result)[0])
        )
        made = self._results(result)
        self.steps.append(Call(name, function, *given, made, writes, on_device))
        return result

    # Functions of a backend that mean more than their results

    def _copy(self, function: Any, args: Any, kwargs: Any) -> Any:
        self.busy = True
        try:
            result = function(*args, **kwargs)
        finally:
            self.busy = False
        self._copies.append((function, args, result))
        return result

    def _note_copies(self) -> None:
        """Note copies that the step asked for; those that a write makes come again with it."""
        for function, args, result in self._copies:
            given = self._operands(args)
            self.steps.append(Call("copy", function, given, {}, self._results(result), False))
        self._copies.clear()

    def _to_numpy(self, function: Any, args: Any, kwargs: Any) -> Any:
        self._note_copies()
        if self._operand(args[0]).kind != "constant":
            self.refuse("values are read by Python")
        return function(*args, **kwargs)

    def _asarray(self, function: Any, args: Any, kwargs: Any) -> Any:
        if id(args[0]) in self._known:
            return self._call("asarray", function, args, kwargs)
        self.busy = True
        try:
            result = function(*args, **kwargs)
        finally:
            self.busy = False
        if id(result) not in self._known:
            self._keep(result, self._constant(Constant(result)))
        return result

    def _writable(self, function: Any, args: Any, kwargs: Any) -> Any:
        array = args[0]
        owners = {id(t._array): t for t in (*self._outside, *self.inputs)}
        self._arrays.update(
            {id(c[2]): owners[id(c[2])] for c in self._copies if id(c[2]) in owners}
        )
        self._copies = [c for c in self._copies if id(c[2]) not in owners]
        self._note_copies()
        owner = owners.get(id(array))
        if owner is not None:
            result = function(array)
            place = self._place(owner)
            self.steps.append(Write(place))
            self._keep(result, Ref(place.kind[4:], place.number))
            return result
        ref = self._operand(array)
        if ref.kind != "slot" and (ref.kind != "constant" or self.constants[ref.number].came):
            self.refuse("an array is written that belongs to no tensor")
        result = self._call("writable", function, args, kwargs)
        self._expose(result)
        return result

    # Operands

    def _operands(self, values: Any) -> tuple[Any, ...]:
        return tuple([self._operand(value) for value in values])

    def _operand(self, value: Any) -> Any:
        """Return what a value is: a ref, or a tree of them."""
        known = self._known.get(id(value))
        if known is not None:
            return known
        kind = type(value)
        if kind is tuple or kind is list:
            return kind([self._operand(item) for item in value])
        if kind is dict:
            return {name: self._operand(item) for name, item in value.items()}
        if not hasattr(value, "shape"):
            return self._constant(Constant(value))
        if id(value) in self._grads:
            tensor, number = self._grads[id(value)]
            ref = Ref("gradient", number, self._place(tensor))
            self.layouts[ref] = layout(value)
            return self._keep(value, ref)
        outer = self._arrays.get(id(value))
        if outer is not None and outer._array is value:
            place = self._place(outer)
            others = [t for t in self._sharing.get(id(value), ()) if t is not outer]
            if others:
                self.sharing[place.number] = [weakref.ref(t) for t in others if t._array is value]
            return self._keep(value, Ref(place.kind[4:], place.number))
        came = not isinstance(value, np.generic)
        return self._keep(value, self._constant(Constant(value, came)))

    def _constant(self, constant: Constant) -> Ref:
        self.constants.append(constant)
        return Ref("constant", len(self.constants) - 1)

    def _place(self, tensor: Tensor) -> Ref:
        """Return the ref of a tensor from outside itself."""
        place = self._places.get(id(tensor))
        if place is None:
            place = self._places[id(tensor)] = Ref("the outer", len(self.outer))
            self.outer.append(tensor)
            if id(tensor) in self._had:
                self.had.add(place)
            self._settle(tensor)
        return place

    def _settle(self, tensor: Tensor) -> None:
        """Remember the backend; a step that uses two is none for a replay."""
        if self.backend is None:
            self.backend = tensor._backend
        elif self.backend is not tensor._backend:
            self.refuse("there are tensors of two devices")

    def _results(self, result: Any) -> Any:
        """Give slots to what a call returned."""
        kind = type(result)
        if kind is tuple or kind is list:
            return kind([self._results(item) for item in result])
        if result is None or isinstance(result, (bool, str, np.dtype)):
            return None
        if isinstance(result, (int, float, complex)) and not isinstance(result, np.generic):
            self.refuse("a backend gives Python a number")
            return None
        return self._known.get(id(result)) or self._slot(result)

    def _slot(self, value: Any) -> Ref:
        ref = Ref("slot", len(self.roots))
        if not hasattr(value, "shape"):
            self.objects.add(ref.number)
        owner = owner_of(value)
        first = self._owners.get(id(owner))
        if first is None:
            first = self._remember(self._owners, owner, ref)
        self.roots.append(first)
        return self._remember(self._known, value, ref)

    def _remember(self, table: dict[int, Ref], value: Any, ref: Ref) -> Ref:
        """Know an object as long as it lives."""
        key = id(value)
        table[key] = ref
        try:
            self._guards[key, id(table)] = weakref.ref(value, lambda _: table.pop(key, None))
        except TypeError:
            self._kept.append(value)
        return ref

    def _keep(self, value: Any, ref: Ref) -> Ref:
        """Know an object for good."""
        self._kept.append(value)
        self._known[id(value)] = ref
        if hasattr(value, "shape"):
            owner = owner_of(value)
            self._kept.append(owner)
            self._owners.setdefault(id(owner), ref)
        return ref

    def _expose(self, array: Any) -> None:
        """Note that somebody may look at an array, or write it, when the step is over."""
        for ref in (self._known.get(id(array)), self._owners.get(id(owner_of(array)))):
            if ref is not None and ref not in self.exposed:
                self.exposed.add(ref)
                if ref.kind == "constant" and not self.constants[ref.number].came:
                    value = self.constants[ref.number].value
                    self.constants[ref.number] = Constant(copy.copy(value))

    # What `capturing` says

    def refuse(self, reason: str) -> None:
        """Say why this step must not be replayed; the first reason counts."""
        if not self.reason:
            self.reason = f"{reason} at {user_line()}"

    def number(self, function: Any, args: tuple[Any, ...], value: Any) -> Any:
        """Return ``value`` as a number that is known as `current`'s."""
        made: Any = _Int(value) if isinstance(value, int) else _Float(value)
        made.recorder = self
        given = [self._known.get(id(arg)) or Constant(arg) for arg in args]
        self.numbers.append((function, tuple(given)))
        self._keep(made, Ref("number", len(self.numbers) - 1))
        return made

    def expect(self, function: Any, args: tuple[Any, ...], value: Any) -> None:
        """Note what must be the same when a replay begins."""
        self.expected.append((function, tuple([Constant(arg) for arg in args]), value))

    def draw(self, rng: Any, words: int, drawn: tuple[tuple[int, int], int]) -> Any:
        """Return what was drawn, as something that is known."""
        key, counter = _Key(drawn[0]), _Counter(drawn[1])
        self._keep(key, Ref("key", self._draws))
        self._keep(counter, Ref("counter", self._draws))
        self._draws += 1
        self.steps.append(Draw(Constant(rng), words))
        return key, counter

    def host(
        self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], changes: bool
    ) -> Any:
        """Call a function in Python and note that."""
        self._note_copies()
        self.note_gradients()
        given = tuple(map(self._given, args)), {k: self._given(v) for k, v in kwargs.items()}
        arrays = [tensor._array for tensor in self._outside]
        self.busy = True
        try:
            result = function(*args, **kwargs)
        finally:
            self.busy = False
        number = len(self.steps)
        for tensor, before in zip(self._outside, arrays, strict=True):
            if tensor._array is not before:
                self._arrays[id(tensor._array)] = tensor
                self._kept.append(tensor._array)
        leaves, form = flatten(result)
        found = []
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                known = id(leaf._array) in self._known or id(leaf) in self._places
                found.append(None if known else self._slot(leaf._array))
                self._expose(leaf._array)
            else:
                if leaf is not None:
                    self.refuse(f"{_named(function)} returns a {type(leaf).__name__}")
                found.append(None)
        self.steps.append(Host(function, *given, changes, recording.get(), form, tuple(found)))
        for tensor in self._learning:
            self._gradients[id(tensor)] = tensor.grad
        self._note_gradients(number)
        return result

    def _given(self, value: Any) -> Any:
        """Return what an argument of a function in Python is."""
        if isinstance(value, Tensor):
            if id(value) in self._places or id(value) in self._ids:
                return self._place(value)
            self._expose(value._array)
            ref = self._operand(value._array)
            return Ref("tensor", ref.number, ref)
        kind = type(value)
        if kind is tuple or kind is list:
            return kind([self._given(item) for item in value])
        if kind is dict:
            return {name: self._given(item) for name, item in value.items()}
        return self._constant(Constant(value))

    # Gradients

    def _note_gradients(self, number: int = -1) -> None:
        """Know the gradients that leaves have now."""
        for tensor in self._learning:
            if tensor.grad is not None:
                array = tensor.grad._array
                self._kept.append(array)
                self._grads[id(array)] = (tensor, number)
                # Whoever wrote to it may give it another array in a replay, where it may share one.
                self._known.pop(id(array), None)

    def gradient(self, tensor: Tensor) -> None:
        """Note that ``grad`` of a tensor was set."""
        if id(tensor) not in self._gradients:
            return  # made by the step: it goes with it
        place = self._place(tensor)
        value = tensor.grad
        if value is self._gradients[id(tensor)]:
            return
        self._note_copies()
        self._gradients[id(tensor)] = value
        ref = None
        if value is not None:
            ref = self._operand(value._array)
            self._expose(value._array)
            self._kept.append(value)
        self.steps.append(Gradient(place, ref))

    def note_gradients(self) -> None:
        """Note which gradients Python has set since it was last asked."""
        for tensor in (*self.inputs, *self.outer):
            self.gradient(tensor)

    # The end

    def finish(self, result: Any) -> tuple[Any, tuple[Any, ...]]:
        """Note what is left behind; return form and leaves of the result, as refs."""
        self._note_copies()
        self.note_gradients()
        leaves, form = flatten(result)
        found: list[Any] = []
        for leaf in leaves:
            if not isinstance(leaf, Tensor):
                found.append(Constant(leaf))
            elif id(leaf) in self._places or id(leaf) in self._ids:
                found.append(self._place(leaf))
            else:
                self._expose(leaf._array)
                self._settle(leaf)
                ref = self._operand(leaf._array)
                found.append(Ref("tensor", ref.number, ref))
        for tensor in self._outside:
            ref = self._known.get(id(tensor._array), _NOTHING)
            if ref.kind == "slot":
                self.refuse("a tensor from outside of the step is given another array (x[i] = v)")
        for number, references in self.sharing.items():
            # Those that a write has parted are told apart by the next recording.
            array = self.outer[number]._array
            living = [(reference, reference()) for reference in references]
            self.sharing[number] = [r for r, t in living if t is not None and t._array is array]
        return form, tuple(found)

    def close(self) -> None:
        """Let go of what only the recording needed."""
        for table in (
            self._grads,
            self._known,
            self._owners,
            self._guards,
            self._arrays,
            self._gradients,
        ):
            table.clear()
        self._sharing.clear()
        self._kept, self._outside, self._learning, self._ids = [], [], [], set()


def _tensors() -> list[Tensor]:
    """Return all that there are.

    Those too that ``gc.freeze()`` hid, as some libraries do when they are imported; what there is
    now is frozen afterwards, if anything was before.
    """
    was_frozen = gc.get_freeze_count() > 0
    if was_frozen:
        gc.unfreeze()
    found = living_tensors()
    if was_frozen:
        gc.collect()
        gc.freeze()
    return found


def layout(array: Any) -> tuple[Any, ...]:
    """Return what the choice of kernels may depend on."""
    return tuple(array.shape), array.dtype, getattr(array, "strides", None)


def _is_floats(value: Any, backend: Any) -> bool:
    """Say whether a result is an array of no integers, which hosts may have copies of, or None."""
    if not isinstance(value, backend.array_type):
        return value is None
    return dtypes.kind(backend.dtype_of(value)) not in "iu"


_NOTHING = Ref("", -1)
_SPECIAL = ("asarray", "copy", "to_numpy", "writable")


def _named(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", type(function).__name__)


def _forget_bound() -> None:
    """Have every op look its backend's function up again."""
    for op in list(REGISTRY.values()):
        if isinstance(op, Primitive):
            op.bound = (None, None)


class _Watch:
    """Stands where `random.Draws` listens, and hands on what it hears."""

    def __init__(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self.outer = random._watch.get()

    def take(self, rng: Any, words: int) -> Any:
        """Return (key, first counter) of a draw."""
        drawn = rng._advance(words) if self.outer is None else self.outer.take(rng, words)
        return drawn if self.recorder._silent() else self.recorder.draw(rng, words, drawn)
