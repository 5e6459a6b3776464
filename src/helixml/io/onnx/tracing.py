"""Tracing: every op that a call runs, with its operands, attributes and results.

As in `helixml._core.observe`, nothing in the engine asks whether anybody traces: a `Trace` puts
methods in the place of those of every op, and the old ones back. An op of any kind that the table
has a row for is noted as one call; of any other the ops of its definition are, never a kernel.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import helixml as hx
from helixml._core.composed import Composite, Fused
from helixml._core.observe import Hooks
from helixml._core.op import REGISTRY, Primitive
from helixml._core.tensor import Tensor, as_tensor, new_tensor
from helixml.errors import GraphError
from helixml.nn import recurrent, rwkv, s4d
from helixml.nn.rotary import Rotary
from helixml.ops import exponential_sums

__all__ = ["Call", "Trace", "flat"]


_one = threading.RLock()


class Call(NamedTuple):
    """A call of an op.

    Attributes
    ----------
    op : its name.
    operands : of each input the number of its value, a number or truth value itself, or None.
    attributes : by name.
    results : numbers of the values that it returned.
    """

    op: str
    operands: tuple[Any, ...]
    attributes: dict[str, Any]
    results: tuple[int, ...]


class Place(int):
    """The number of a value, as against a number that is one."""


class Trace(Hooks):
    """What ran in this thread within `noting`.

    Parameters
    ----------
    accepts : said of (op, inputs, attributes), whether the call is noted as a whole.
    named : tensors that have names: inputs and parameters.

    Attributes
    ----------
    calls : list of `Call`.
    tensors : by the number of a value, the tensor.
    names : number of a value -> name.
    made : numbers of the values that calls returned; all others were there before.
    """

    def __init__(
        self, accepts: Callable[[Any, Any, Any], bool], named: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.accepts = accepts
        self.calls: list[Call] = []
        self.tensors: list[Tensor] = []
        self.names: dict[int, str] = {}
        self.made: set[int] = set()
        self._numbers: dict[int, Place] = {}  # id of a tensor, or of its array -> number
        self._arrays: list[Any] = []  # Any: of whichever backend
        self._owners: list[Tensor] = []
        self._inside = False
        self._thread = threading.get_ident()
        for name, tensor in named.items():
            self.names[self.number(tensor)] = name

    def number(self, tensor: Tensor) -> Place:
        """Return the number of a tensor's value."""
        known = self._numbers.get(id(tensor))
        if known is None or self._arrays[known] is not tensor._array:  # x[i] = v: x is another now
            known = self._numbers.get(id(tensor._array))
        return self._add(tensor) if known is None else known

    def _add(self, tensor: Tensor) -> Place:
        place = Place(len(self.tensors))
        # Kept as it is now, and with it the ids of both.
        kept = new_tensor(tensor._array, tensor._backend)
        self.tensors.append(kept)
        self._arrays.append(kept._array)
        self._owners.append(tensor)
        self._numbers[id(tensor)] = place
        self._numbers.setdefault(id(tensor._array), place)
        return place

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what runs. One trace at a time: what it puts in the place of methods is for all."""
        with _one:
            yield from self._watched()

    def _watched(self) -> Iterator[None]:
        for op in list(REGISTRY.values()):
            if isinstance(op, Primitive):
                self._enter(op)
        self.watch(self._enter)
        self.put(Composite, "__call__", self._composed(Composite.__call__, False))
        self.put(Fused, "__call__", self._composed(Fused.__call__, True))
        self.put(rwkv, "wkv", self._wkv(rwkv.wkv))
        self.put(recurrent._Recurrent, "_run", self._recurrent(recurrent._Recurrent._run))
        self.put(Rotary, "_table", _table)
        self.put(s4d.S4D, "_tables", _tables)
        # In one row: the square root of a length is no size of a file.
        self.put(exponential_sums, "columns", lambda length: max(length, 1))
        try:
            yield
        finally:
            self.leave()

    def _enter(self, op: Any) -> None:
        run = op.run

        def traced(inputs: Any, attributes: Any, ready: bool = False) -> Any:
            if self._silent():
                return run(inputs, attributes, ready)
            inputs = op.to_tensors(inputs)
            if op.prepare_attributes is not None and not ready:
                attributes = op.prepared(inputs, attributes)
            result = run(inputs, attributes, True)
            self._note(op.name, inputs, attributes, result)
            return result

        self.put(op, "run", traced)
        if op.direct:
            self.put(op, "run_pair", lambda inputs: traced(inputs, {}))

    def _composed(self, call: Any, is_fused: bool) -> Any:
        def traced(op: Any, *args: Any, **kwargs: Any) -> Any:
            if self._silent():
                return call(op, *args, **kwargs)
            if is_fused and op.writes:
                raise GraphError(
                    f"onnx: {op.name} writes to its inputs, which a file cannot. "
                    "Hint: export what computes new values."
                )
            inputs, attributes = op.bind(args, kwargs)
            like = next((x for x in inputs if isinstance(x, Tensor)), None)
            tensors = [x if x is None else as_tensor(op.name, x, like) for x in inputs]
            if self.accepts(op, tensors, attributes):
                with self._unheard():
                    result = call(op, *args, **kwargs)
                self._note(op.name, tensors, attributes, result)
                return result
            if not is_fused:
                return call(op, *args, **kwargs)
            with self._unheard():
                if op.check_call is not None:
                    op.check_call(*op.grouped(tensors), **attributes)
            return op.define(tensors, attributes)

        return traced

    def _wkv(self, wkv: Any) -> Any:
        def traced(key: Any, value: Any, decay: Any, first: Any, state: Any) -> Any:
            if self._silent():
                return wkv(key, value, decay, first, state)
            with self._unheard():
                result = wkv(key, value, decay, first, state)
            self._note("wkv", (key, value, decay, first, *state), {}, result)
            return result

        return traced

    def _recurrent(self, run: Any) -> Any:
        def traced(layer: Any, x: Any, state: Any, suffix: str) -> Any:
            kinds = (recurrent.GRU, recurrent.LSTM, recurrent.RNN)
            if type(layer) not in kinds or self._silent():
                return run(layer, x, state, suffix)
            own = vars(layer)
            bias_ih, bias_hh = own.get(f"bias_ih_{suffix}"), own.get(f"bias_hh_{suffix}")
            inputs = hx.linear(x, own[f"weight_ih_{suffix}"], bias_ih)
            with self._unheard():
                result = run(layer, x, state, suffix)
            self._note(
                "recurrent",
                (inputs, own[f"weight_hh_{suffix}"], bias_hh, *state),
                {"cell": getattr(layer, "nonlinearity", type(layer).__name__)},
                result,
            )
            return result

        return traced

    def _silent(self) -> bool:
        return self._inside or threading.get_ident() != self._thread

    @contextmanager
    def _unheard(self) -> Iterator[None]:
        self._inside = True
        try:
            yield
        finally:
            self._inside = False

    def _note(self, name: str, inputs: Any, attributes: Any, result: Any) -> None:
        operands = [self.number(x) if isinstance(x, Tensor) else x for x in inputs]
        results = [self._add(tensor) for tensor in flat(result)]
        self.made.update(results)
        self.calls.append(Call(name, tuple(operands), dict(attributes), tuple(results)))


def flat(value: Any) -> list[Any]:
    """Return the leaves of nested tuples and lists, in order."""
    if isinstance(value, tuple | list):
        return [leaf for item in value for leaf in flat(item)]
    return [value]


def _table(rotary: Rotary, length: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return a `Rotary`'s table for this length alone: what it keeps has room for some length."""
    places = hx.expand_dims(hx.arange(length, dtype="float64"), 1)
    angles = places * hx.tensor(rotary.frequencies, dtype="float64")
    cosine, sine = hx.cos(angles) * rotary.gain, hx.sin(angles) * rotary.gain
    return cosine.astype(x.dtype), sine.astype(x.dtype)


def _tables(layer: Any, length: int) -> tuple[Tensor, Tensor]:
    """Return an `S4D`'s powers in one row."""
    steps = layer._steps
    return layer._powers(steps(length)), layer._powers(length * steps(1))
