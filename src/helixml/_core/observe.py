"""Observing: how ops report to a `Log`, while somebody listens.

Nothing in the engine asks whether anybody does. `observe` puts methods in the place of those of
every op, which call them and note what they saw; `leave` puts the old ones back. So observing costs
nothing when it is off, and when it is on a few tuples an op: what they mean is found out later, in
`helixml.profiler`.

A frame is noted when it ends, whichever thread it ran in. Frames of one thread nest, so that their
times say which was inside which.
"""

from __future__ import annotations

import threading
import time
import weakref
from functools import partial

from numpy import ndarray

from helixml._core.composed import Fused
from helixml._core.modes import again
from helixml._core.op import REGISTRY, Primitive, watchers
from helixml._core.tensor import Tensor, dtype_of

clock = time.perf_counter_ns
thread_number = threading.get_ident
_reference = weakref.ref


class Log:
    """What was noted.

    Attributes
    ----------
    frames : list of tuples, in the order in which they ended; see `helixml.profiler.frames`.
    live : bytes of all storages that an op has touched, held by tensors or by the tape. It rises
        only where a frame is noted, so that what frames noted has the peak among it.
    threads : names of threads by number.
    held : for each array that is in the books, by id, the weak reference that tells of its end; a
        view is not, the array whose memory it shows is.
    """

    def __init__(self):
        self.frames = []
        self.live = 0
        self.threads = {}
        self.held = {}

    def thread(self):
        """Return the number of the running thread, and remember its name."""
        number = thread_number()
        if number not in self.threads:
            self.threads[number] = threading.current_thread().name
        return number

    def sizes(self, values):
        """Return (shape, dtype) of each tensor among ``values``, and put its array in the books."""
        found = []
        for value in values:
            if isinstance(value, Tensor):
                tensor = value
                array = tensor._array
                owner = owner_of(array)
                if id(owner) not in self.held:
                    self.hold(owner)
                found.append((array.shape, dtype_of(tensor)))
            elif isinstance(value, (list, tuple)):
                found.append(self.sizes(value))
            elif isinstance(value, ndarray):
                found.append((value.shape, value.dtype))
            else:
                found.append(value)
        return found

    def hold(self, owner):
        """Put an array in the books that is no view of another."""
        size = getattr(owner, "nbytes", 0)
        key = id(owner)
        try:
            reference = _reference(owner, Gone(self, key, size))
        except TypeError:  # an array of another library that cannot be watched
            return
        # Another thread may have been faster: then its reference stays, and this one says nothing.
        if self.held.setdefault(key, reference) is reference:
            self.live += size


class Gone:
    """Take an array out of the books, when it is gone."""

    __slots__ = ("key", "log", "size")

    def __init__(self, log, key, size):
        self.log = log
        self.key = key
        self.size = size

    def __call__(self, reference):
        """Be told of the end."""
        self.log.held.pop(self.key, None)
        self.log.live -= self.size


def owner_of(array):
    """Return the array whose memory ``array`` is a view of; itself if it is none.

    NumPy and CuPy call that its base, PyTorch its _base; others have no views, or do not tell. What
    has no shape is memory and no array; a dtype has one, and is its own base.
    """
    while True:
        base = getattr(array, "base", None)
        if base is None:
            base = getattr(array, "_base", None)
        if base is None or base is array or not hasattr(base, "shape"):
            return array
        array = base


# Frames: (kind, subject, thread, start, end, inputs, attributes, outputs, node, needs, is_view,
# error, again, live)


def note_call(log, op, call, arguments, inputs, attributes):
    """Call a primitive's method and note it."""
    thread = log.thread()
    start = clock()
    try:
        result = call(*arguments)
    except BaseException as error:
        note_failure(log, "op", op, thread, start, error)
        raise
    end = clock()
    outputs = result if isinstance(result, tuple) else (result,)
    node = outputs[0]._node if outputs else None
    number = None if node is None else node.number
    is_view = False
    if op.view and outputs and isinstance(inputs[0], Tensor):
        is_view = owner_of(outputs[0]._array) is owner_of(inputs[0]._array)
    found = log.sizes(inputs), log.sizes(outputs)
    log.frames.append(
        (
            "op",
            op,
            thread,
            start,
            end,
            found[0],
            attributes,
            found[1],
            number,
            (),
            is_view,
            "",
            again.get(),
            log.live,
        )
    )
    return result


def note_failure(log, kind, subject, thread, start, error):
    """Note a frame that an exception ended."""
    why = type(error).__name__
    begun = (kind, subject, thread, start, clock())
    log.frames.append((*begun, (), None, (), None, (), False, why, again.get(), log.live))


def note_pull(log, op, pull, node, cotangents, needs):
    """Call a primitive's `pull` and note it; what it costs is what the ops in its rule do."""
    thread = log.thread()
    start = clock()
    try:
        result = pull(node, cotangents, needs)
    except BaseException as error:
        note_failure(log, "backward", op, thread, start, error)
        raise
    end = clock()
    begun = ("backward", op, thread, start, end)
    log.frames.append((*begun, (), None, (), node.number, needs, False, "", again.get(), log.live))
    return result


def note_fused(log, call, op, args, kwargs):
    """Call a fused op and note it."""
    thread = log.thread()
    start = clock()
    try:
        result = call(op, *args, **kwargs)
    except BaseException as error:
        note_failure(log, "op", op, thread, start, error)
        raise
    end = clock()
    outputs = () if result is None else result if isinstance(result, tuple) else (result,)
    node = outputs[0]._node if outputs else None
    if node is not None and node.op is op and node.saved is not None:
        for array in node.saved[1]:  # what the kernel keeps for its gradient
            if hasattr(array, "nbytes"):
                owner = owner_of(array)
                if id(owner) not in log.held:
                    log.hold(owner)
    if kwargs:
        kwargs = dict(zip(kwargs, log.sizes(kwargs.values()), strict=True))
    number = None if node is None else node.number
    found = log.sizes(args), log.sizes(outputs)
    begun = ("op", op, thread, start, end)
    log.frames.append(
        (*begun, found[0], kwargs, found[1], number, (), False, "", again.get(), log.live)
    )
    return result


def note_fused_pull(log, pull, op, node, cotangents, needs):
    """Call a fused op's `pull` and note it."""
    thread = log.thread()
    saved = () if node.saved is None else node.saved[0]
    inputs = [None if s is None else (s.array.shape, s.array.dtype) for s in saved]
    start = clock()
    try:
        result = pull(op, node, cotangents, needs)
    except BaseException as error:
        note_failure(log, "backward", op, thread, start, error)
        raise
    end = clock()
    log.sizes(result)
    found = log.sizes(cotangents)
    log.frames.append(
        (
            *("backward", op, thread, start, end, inputs, node.attrs, found),
            *(node.number, needs, False, "", again.get(), log.live),
        )
    )
    return result


def note_method(log, function, subject, args, kwargs):
    """Call a method of ``subject`` and note it."""
    thread = log.thread()
    start = clock()
    try:
        result = function(subject, *args, **kwargs)
    except BaseException as error:
        note_failure(log, "module", subject, thread, start, error)
        raise
    end = clock()
    begun = ("module", subject, thread, start, end)
    log.frames.append((*begun, (), None, (), None, (), False, "", again.get(), log.live))
    return result


def noting(log, function):
    """Return a method that calls ``function`` and notes it."""

    def noted(subject, *args, **kwargs):
        return note_method(log, function, subject, args, kwargs)

    return noted


# A fused op is an object of a class in Python, whose methods can be replaced; of a primitive, an
# attribute of the object itself comes before the method of its class.


class Hooks:
    """Attributes that stand in the place of others, until `leave`; blocks of them nest."""

    def __init__(self):
        self.replaced = []  # (object or class, name, what its own attribute was, or None)
        self.watching = []

    def watch(self, function):
        """Have ``function`` told of primitives that are defined later: files load on first use."""
        self.watching.append(function)
        watchers.append(function)

    def put(self, owner, name, value):
        """Put ``value`` in the place of an attribute."""
        self.replaced.append((owner, name, vars(owner).get(name)))
        setattr(owner, name, value)

    def leave(self):
        """Put everything back."""
        while self.watching:
            watchers.remove(self.watching.pop())
        while self.replaced:
            owner, name, before = self.replaced.pop()
            if before is None:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


_hooks = Hooks()


def observe(log):
    """Have every op report to ``log``."""
    call, pull = Fused.__call__, Fused.pull

    def noted_call(op, *args, **kwargs):
        return note_fused(log, call, op, args, kwargs)

    def noted_pull(op, node, cotangents, needs):
        return note_fused_pull(log, pull, op, node, cotangents, needs)

    for op in list(REGISTRY.values()):
        if isinstance(op, Primitive):
            observe_primitive(log, op)
    _hooks.watch(partial(observe_primitive, log))
    _hooks.put(Fused, "__call__", noted_call)
    _hooks.put(Fused, "pull", noted_pull)


def observe_primitive(log, op):
    """Have a primitive report to ``log``."""
    run = op.run
    run_pair = op.run_pair
    pull = op.pull

    def noted_run(inputs, attributes, ready=False):
        return note_call(log, op, run, (inputs, attributes, ready), inputs, attributes)

    def noted_pair(inputs):
        return note_call(log, op, run_pair, (inputs,), inputs, None)

    def noted_pull(node, cotangents, needs):
        return note_pull(log, op, pull, node, cotangents, needs)

    _hooks.put(op, "run", noted_run)
    if op.direct:
        _hooks.put(op, "run_pair", noted_pair)
    _hooks.put(op, "pull", noted_pull)


def leave():
    """Put everything back."""
    _hooks.leave()
