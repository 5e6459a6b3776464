"""`capture`: a step that is recorded once and then done again without the tape.

What a step costs beside its kernels (ops in Python, nodes, checks, the walk back, the optimizer's
bookkeeping) comes from asking the same questions in every step. A captured step asks them while it
is recorded: `recording` listens below the tape and notes each call of an array function or kernel
as it happens, so that forward pass, backward pass and update become one straight list; `program`
writes that list as a function of Python, behind guards for all that was taken for granted. A replay
calls the same functions on arrays of the same shapes in the same order: it has the same bits.

A recording cannot see what Python does. So a step runs as ever the first time, when optimizers make
their states and layers their tables; it is recorded in the second call and in the third, and only a
program that both have in common is replayed, from the fourth call on. Guards that fail lead back to
the step itself: each of its programs has its own.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any, Generic, ParamSpec, TypeVar, overload

from helixml import config, dtypes
from helixml._core import capturing
from helixml._core.modes import recording
from helixml._core.storage import user_frame, user_line
from helixml._core.tensor import Tensor
from helixml.autograd.program import MISS, Program, observed
from helixml.autograd.recording import Recorder, layout, one
from helixml.autograd.structures import Form, flatten
from helixml.errors import GraphError, HelixWarning

__all__ = ["CapturedStep", "capture"]

_P = ParamSpec("_P")
_R = TypeVar("_R")
_MOST_PROGRAMS = 32  # of one step; then the one that was used longest ago is dropped
_MOST_KINDS = 256  # of calls
_MOST_ATTEMPTS = 6  # recordings of calls alike, if there are no replays; half as many as there are


class CapturedStep(Generic[_P, _R]):
    """What `capture` returns: called as the step is.

    Attributes
    ----------
    recordings : int, how many calls were recorded.
    reason : str, why calls run uncaptured; "" if there is nothing to say.
    quiet : bool, whether nobody is warned of that.
    """

    def __init__(self, step: Callable[_P, _R], *, strict: bool = False) -> None:
        functools.update_wrapper(self, step, updated=())  # a Module has much in its dict
        self._step = step
        self._strict = strict
        self.quiet = False
        self.forget()

    def forget(self) -> None:
        """Drop what was recorded and begin anew."""
        self._programs: list[Program] = []
        self._calls: dict[Any, _Calls] = {}
        self.recordings = 0
        self.reason = ""

    @property
    def replays(self) -> int:
        """How many calls were replayed by the programs that there are."""
        return sum(program.replays for program in self._programs)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        step: Any = self
        return self if instance is None else functools.partial(step, instance)

    def __call__(self, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        """Do the step."""
        if capturing.active is not None and capturing.listener() is not None:
            return self._plainly(args, kwargs)  # type: ignore[no-any-return]  # a part of another
        leaves: Any = args
        form: Form | None = None
        if kwargs or not _flat(args):
            leaves, form = flatten((args, kwargs))
        for program in self._programs:
            try:
                result = program.replay(leaves, form)
            except Exception as error:
                if not program.is_harmless(error):
                    error.add_note("in the replay of a captured step")
                    raise
                # Nothing has changed yet: the step itself says what is wrong.
                return self._plainly(args, kwargs)  # type: ignore[no-any-return]
            if result is not MISS:
                program.replays += 1
                if program is not self._programs[0]:
                    self._use(program)
                return result  # type: ignore[no-any-return]
        return self._slowly(args, kwargs)  # type: ignore[no-any-return]

    def _use(self, program: Program) -> None:
        """Have a program be asked first."""
        programs = [program, *[p for p in self._programs if p is not program]]
        self._programs = programs[:_MOST_PROGRAMS]
        for dropped in programs[_MOST_PROGRAMS:]:
            for calls in self._calls.values():
                calls.drop(dropped)

    def _plainly(self, args: Any, kwargs: Any) -> Any:
        """Do the step itself."""
        step: Any = self._step
        return _detached(step(*args, **kwargs))

    def _slowly(self, args: Any, kwargs: Any) -> Any:
        """Do a step for which there is no program."""
        if observed():
            return self._plainly(args, kwargs)
        leaves, found = flatten((args, kwargs))
        form = found if kwargs or not _flat(args) else None
        key = self._key(leaves, form)
        calls = None if key is None else self._calls.get(key)
        if calls is None:  # states and tables are made in a first call
            if key is not None:
                self._remember(key)
            return self._plainly(args, kwargs)
        if not calls.worthwhile() or not one.acquire(blocking=False):
            return self._plainly(args, kwargs)
        try:
            return self._record(calls, args, kwargs, leaves, form)
        finally:
            one.release()

    def _remember(self, key: Any) -> None:
        """Know that there are such calls."""
        if len(self._calls) >= _MOST_KINDS:
            for program in self._calls.pop(next(iter(self._calls))).programs:
                self._programs = [p for p in self._programs if p is not program]
        self._calls[key] = _Calls()

    def _key(self, leaves: list[Any], form: Form | None) -> Any:
        """Return what tells kinds of calls apart; None for a call that cannot be captured."""
        found: list[Any] = [form, recording.get(), config.get(), dtypes.default_float]
        for leaf in leaves:
            if isinstance(leaf, Tensor):
                if leaf._node is not None:
                    return self._give_up("an argument was computed from what requires a gradient")
                found.append((type(leaf), layout(leaf._array), leaf._backend, leaf._tracked))
                if type(leaf) is not Tensor:  # one that a module has, and that the step may know
                    found.append(id(leaf))
            else:
                try:
                    hash(leaf)
                except TypeError:
                    return self._give_up(f"an argument is a {type(leaf).__name__}")
                found.append((type(leaf), leaf))
        return tuple(found)

    def _give_up(self, reason: str) -> None:
        """Say once why calls run uncaptured."""
        if self._strict:
            raise GraphError(f"capture: {reason}, so this step cannot be replayed. {_HINT}")
        if reason != self.reason:
            self.reason = reason
            if self.quiet:
                return
            frame = user_frame()
            message = f"capture: {reason}, so this step runs uncaptured. {_HINT}"
            if frame is not None:
                name, line = frame.f_code.co_filename, frame.f_lineno
                warnings.warn_explicit(message, HelixWarning, name, line)

    def _record(
        self, calls: _Calls, args: Any, kwargs: Any, leaves: list[Any], form: Form | None
    ) -> Any:
        recorder = Recorder([leaf for leaf in leaves if isinstance(leaf, Tensor)])
        try:
            with recorder.listening(), recorder.drawing():
                result = self._step(*args, **kwargs)
                found = recorder.finish(result)
            self.recordings += 1
            result = _detached(result)
            calls.attempts += 1
            if recorder.reason:
                calls.hopeless = True
                self._give_up(recorder.reason)
                return result
            name = getattr(self._step, "__qualname__", "step")
            writer = f"a captured step at {user_line()}"
            program = Program(name, recorder, leaves, form, found, writer)
        finally:
            recorder.close()
        self._compare(calls, program)
        return result

    def _compare(self, calls: _Calls, program: Program) -> None:
        """Trust a program that was recorded twice."""
        difference = "modules change all the time"
        for known in [*reversed(calls.pending), *calls.programs]:
            found = known.difference(program)
            if not found:
                self._use(calls.trust(known, program))
                break
            difference = found
        else:
            program.release()
            calls.pending = [*calls.pending[-3:], program]
        if not calls.worthwhile():
            self._give_up(difference)

    def __reduce__(self) -> Any:
        raise GraphError(
            "capture: a captured step cannot be pickled or copied. "
            "Hint: pickle the step, and capture it where it is used."
        )

    def __copy__(self) -> Any:
        return self.__reduce__()

    def __deepcopy__(self, memo: Any) -> Any:
        return self.__reduce__()


class _Calls:
    """What is known of calls alike."""

    def __init__(self) -> None:
        self.attempts = 0  # recordings
        self.hopeless = False
        self.pending: list[Program] = []  # recorded once
        self.programs: list[Program] = []

    def worthwhile(self) -> bool:
        """Say whether to record another."""
        replays = sum(program.replays for program in self.programs)
        self.hopeless = self.hopeless or self.attempts >= _MOST_ATTEMPTS + replays // 2
        return not self.hopeless

    def trust(self, known: Program, again: Program) -> Program:
        """Return the one of two that are the same that is to be replayed."""
        if known in self.programs:
            known.trust()
            return known
        self.pending.remove(known)
        self.programs.append(again)
        again.build()
        return again

    def drop(self, program: Program) -> None:
        """Forget a program."""
        self.programs = [p for p in self.programs if p is not program]


_HINT = (
    "Hint: give it what changes as Tensors, and have a function that looks at values be "
    "hx.autograd.uncaptured."
)


def _flat(args: tuple[Any, ...]) -> bool:
    for arg in args:  # noqa: SIM110  a loop is faster
        if isinstance(arg, (tuple, list, dict)):
            return False
    return True


def _detached(result: Any) -> Any:
    """Return what a captured step returns: tensors outside of the graph."""
    leaves, form = flatten(result)
    found = []
    for leaf in leaves:
        if isinstance(leaf, Tensor) and leaf._node is not None:
            if leaf._node.saved is not None:
                raise GraphError(
                    f"capture: the step returns a tensor of shape {leaf.shape} that still requires "
                    "a gradient; replays have no graph. Hint: call backward() in the step, or "
                    "return x.detach()."
                )
            leaf = leaf.detach()  # noqa: PLW2901
        found.append(leaf)
    return form.build(iter(found))


@overload
def capture(step: Callable[_P, _R], *, strict: bool = False) -> CapturedStep[_P, _R]: ...
@overload
def capture(
    step: None = None, *, strict: bool = False
) -> Callable[[Callable[_P, _R]], CapturedStep[_P, _R]]: ...
def capture(step: Any = None, *, strict: bool = False) -> Any:
    """Return a function that does what ``step`` does, from the fourth call on without the tape.

    Parameters
    ----------
    step : function: forward pass, ``backward()``, the optimizer's ``step()``, or a part of these.
        Left out, a decorator is returned.
    strict : whether a step that cannot be replayed raises, instead of running as it is.

    Returns
    -------
    CapturedStep, called as ``step`` is. Tensors that it returns are outside of the graph.

    Raises
    ------
    GraphError : the step returns a tensor whose graph was not walked; with ``strict``, it cannot be
        replayed, and why. In replays, errors are those of the step.

    Notes
    -----
    Replays have the bits of the step itself. They follow what is written to parameters, buffers and
    states, settings of optimizers, random streams, and gradients that are there or not. There is
    another program for arguments of other shapes, dtypes, strides and values (those that are no
    tensors; they must be hashable), for `no_grad` and other modes, and where an attribute of a
    module was set. While a profiler, a hook or `helixml.debug.anomaly` looks on, or another thread
    is recorded, calls run as they are.

    A step that looks at values (``item()``, ``if x > 0``, ``print(x)``), carries tensors from call
    to call, or writes ``x[i] = v`` to one from outside, cannot be replayed: it runs as it is, and a
    `HelixWarning` says why, once. What must see values can be `helixml.autograd.uncaptured`; checks
    of indices and `helixml.optim.clip_grad_norm` are.

    What else Python does in the step happens in the first three calls of a kind alone: prints,
    counters, branches. Numbers and NumPy arrays that it takes from elsewhere are those of then,
    and so are tensors that names led to; if another is put in such a place, and it is no attribute
    of a module, `CapturedStep.forget` begins anew.

    A recording looks at all objects that Python has, which takes longer than a small step. A replay
    takes its kernels' time and little more, and no more memory than the step. On a GPU of NVIDIA's
    the calls between two looks at values (indices, norms, random streams) are one CUDA graph; what
    such a graph computes in stays taken from replay to replay, as much as the step needs.

    Examples
    --------
    >>> import helixml as hx
    >>> model = hx.nn.Linear(2, 1, rng=hx.random.Rng(0))
    >>> optimizer = hx.optim.AdamW(model.parameters(), lr=0.1)
    >>> @hx.capture
    ... def step(x, y):
    ...     loss = hx.mean((model(x) - y) ** 2)
    ...     loss.backward()
    ...     optimizer.step()
    ...     optimizer.zero_grad()
    ...     return loss
    >>> x = hx.tensor([[1.0, 2.0], [3.0, 4.0]])
    >>> losses = [step(x, x[:, :1]).item() for _ in range(50)]
    >>> losses[-1] < 0.1 * losses[0], step.replays
    (True, 47)
    """
    if step is None:
        return functools.partial(capture, strict=strict)
    return CapturedStep(step, strict=strict)
