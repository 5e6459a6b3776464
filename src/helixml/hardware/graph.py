"""`ComputeGraph`: operations in the order in which they depend on each other.

A graph can be read as text, run, priced and searched for its critical path; `fusion` looks for
operations that could be one. `recording` makes graphs of functions, of tapes and by hand. A graph
knows values by name and holds none but constants.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import helixml as hx
from helixml.autograd.structures import Form
from helixml.errors import DTypeError, GraphError, ShapeError
from helixml.hardware.operations import UNKNOWN, Operation, Spec, op_named

__all__ = ["ComputeGraph", "Run"]


class Run:
    """A graph that is being executed by a thread of its own; see `ComputeGraph.start`."""

    def __init__(self, call: Callable[[], Any]) -> None:
        self._result: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._finish, args=(call,), daemon=True)
        self._thread.start()

    def _finish(self, call: Callable[[], Any]) -> None:
        try:
            self._result = call()
        except BaseException as error:  # raised again by `wait`, in the thread that asks
            self._error = error

    @property
    def is_done(self) -> bool:
        """Whether there is a result, or an error."""
        return not self._thread.is_alive()

    def wait(self, timeout: float | None = None) -> Any:
        """Return what the graph returns, when it is there; its error is raised here.

        Raises
        ------
        TimeoutError : it took longer than ``timeout`` seconds; it goes on.
        """
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise TimeoutError(f"graph: not done after {timeout} s. Hint: wait() again.")
        if self._error is not None:
            raise self._error
        return self._result


class ComputeGraph:
    """Operations, ordered so that each comes after those whose results it reads.

    Parameters
    ----------
    operations : in any order; the order stays where dependencies allow it.
    inputs : name -> `Spec`, in the order in which `__call__` takes them.
    outputs : names of the values that are returned.
    constants : name -> Tensor.
    form : structure of what is returned; a Tensor for one output and else a tuple, if left out.

    Raises
    ------
    GraphError : two operations make one value, one reads what nothing makes, or they depend on each
        other in a circle.

    Examples
    --------
    >>> import helixml as hx
    >>> graph = hx.hardware.record(lambda x, w: hx.exp(x @ w), hx.ones((2, 3)), hx.zeros((3, 4)))
    >>> print(graph)
    inputs: x0 float32[2, 3], x1 float32[3, 4]
      v0 float32[2, 4] = matmul(x0 float32[2, 3], x1 float32[3, 4])  48 FLOPs, 104 bytes
      v1 float32[2, 4] = exp(v0 float32[2, 4])  8 FLOPs, 64 bytes
    outputs: v1
    2 operations, 56 FLOPs, 168 bytes
    >>> graph(hx.ones((2, 3)), hx.zeros((3, 4))).sum()
    tensor(8.)
    """

    def __init__(
        self,
        operations: Sequence[Operation],
        inputs: Mapping[str, Spec],
        outputs: Sequence[str],
        constants: Mapping[str, hx.Tensor] = {},
        *,
        form: Form | None = None,
    ) -> None:
        self.inputs = dict(inputs)
        self.constants = dict(constants)
        self.outputs = tuple(outputs)
        self._form = form
        self._makers: dict[str, Operation] = {}
        for operation in operations:
            for name in operation.results:
                if name in self._makers or name in self.inputs or name in self.constants:
                    raise GraphError(
                        f"graph: {name!r} is made twice, the second time by {operation.op}. "
                        "Hint: give each value a name of its own."
                    )
                self._makers[name] = operation
        for operation in operations:
            for name in self._reads(operation):
                self._require(name, f"{operation.op} reads")
        for name in self.outputs:
            self._require(name, "an output is")
        self.operations = self._sorted(operations)
        self._readers: dict[str, list[Operation]] = {}
        for operation in self.operations:
            for name in dict.fromkeys(self._reads(operation)):
                self._readers.setdefault(name, []).append(operation)

    def _require(self, name: str, what: str) -> None:
        if name not in self._makers and name not in self.inputs and name not in self.constants:
            raise GraphError(
                f"graph: {what} {name!r}, which nothing makes. "
                "Hint: it must be an input, a constant or the result of an operation."
            )

    @staticmethod
    def _reads(operation: Operation) -> list[str]:
        return [x for x in operation.operands if isinstance(x, str) and x != UNKNOWN]

    def parents(self, operation: Operation) -> list[Operation]:
        """Return the operations whose results ``operation`` reads, each once."""
        found = [self._makers[name] for name in self._reads(operation) if name in self._makers]
        return list({id(parent): parent for parent in found}.values())

    def _sorted(self, operations: Sequence[Operation]) -> tuple[Operation, ...]:
        """Sort by dependence (Kahn 1962), the earliest given first among those that are ready."""
        from heapq import heapify, heappop, heappush

        place = {id(operation): i for i, operation in enumerate(operations)}
        waits = {id(operation): len(self.parents(operation)) for operation in operations}
        readers: dict[int, list[Operation]] = {}
        for operation in operations:
            for parent in self.parents(operation):
                readers.setdefault(id(parent), []).append(operation)
        ready = [place[id(o)] for o in operations if not waits[id(o)]]
        heapify(ready)
        order = []
        while ready:
            operation = operations[heappop(ready)]
            order.append(operation)
            for reader in readers.get(id(operation), ()):
                waits[id(reader)] -= 1
                if not waits[id(reader)]:
                    heappush(ready, place[id(reader)])
        if len(order) < len(operations):
            stuck = [o for o in operations if waits[id(o)]]
            shown = ", ".join(f"{o.results[0]} = {o.op}" for o in stuck[:5])
            raise GraphError(
                f"graph: {len(stuck)} operations wait for each other in a circle: {shown}. "
                "Hint: a value may depend on values made before it only."
            )
        return tuple(order)

    # What it costs

    @property
    def flops(self) -> int:
        """FLOPs of all operations that declare them."""
        return sum(operation.flops or 0 for operation in self.operations)

    @property
    def bytes(self) -> int:
        """Bytes that all operations read and write at least once."""
        return sum(operation.bytes for operation in self.operations)

    def critical_path(
        self, cost: Callable[[Operation], float] | None = None
    ) -> tuple[list[Operation], float]:
        """Return the chain of dependent operations that costs most, and what it costs.

        However many operations run at once, the graph takes no less.

        Parameters
        ----------
        cost : of an operation, 0 or more, such as `CostModel.predict`; 1 if left out.
        """
        best: dict[int, tuple[float, Operation | None]] = {}
        for operation in self.operations:
            before = max(
                ((best[id(p)][0], p) for p in self.parents(operation)),
                key=lambda pair: pair[0],
                default=(0.0, None),
            )
            own = 1.0 if cost is None else cost(operation)
            best[id(operation)] = before[0] + own, before[1]
        if not best:
            return [], 0.0
        last: Operation | None = max(self.operations, key=lambda o: best[id(o)][0])
        assert last is not None
        total = best[id(last)][0]
        path: list[Operation] = []
        while last is not None:
            path.append(last)
            last = best[id(last)][1]
        return path[::-1], total

    def readers(self, name: str) -> list[Operation]:
        """Return the operations that read the value of that name, each once, in order."""
        return list(self._readers.get(name, ()))

    # Running it

    def __call__(self, *tensors: hx.Tensor) -> Any:  # Any: what the function returned
        """Run the operations in order on ``tensors``, one for each input.

        Constants are moved to where the first of them lives. What requires a gradient has one.

        Raises
        ------
        ShapeError, DTypeError : a tensor is of another shape or dtype than the graph's input.
        GraphError : an operand is unknown, because a tape does not keep it.
        """
        values = self._given(tensors)
        device = tensors[0].device if tensors else None
        for name, constant in self.constants.items():
            values[name] = constant if device is None else constant.to(device)
        lasts = self._last_readers()
        for operation in self.operations:
            results = run(operation, values)
            values.update(zip(operation.results, results, strict=True))
            for name in lasts.get(id(operation), ()):
                values.pop(name, None)
        found = [values[name] for name in self.outputs]
        if self._form is not None:
            return self._form.build(iter(found))
        return found[0] if len(found) == 1 else tuple(found)

    def start(self, *tensors: hx.Tensor) -> Run:
        """Run the graph in a thread of its own; ``.wait()`` of what is returned has the result.

        Examples
        --------
        >>> import helixml as hx
        >>> graph = hx.hardware.record(hx.exp, hx.zeros((2,)))
        >>> graph.start(hx.zeros((2,))).wait()
        tensor([1., 1.])
        """
        self._given(tensors)  # bad tensors are an error here
        from contextvars import copy_context

        context = copy_context()  # settings and modes of this thread
        return Run(lambda: context.run(self, *tensors))

    def _given(self, tensors: Sequence[hx.Tensor]) -> dict[str, hx.Tensor]:
        if len(tensors) != len(self.inputs):
            raise ShapeError(
                f"graph: takes {len(self.inputs)} tensors, got {len(tensors)}. "
                f"Hint: {', '.join(f'{n} {s}' for n, s in self.inputs.items()) or 'give none'}."
            )
        for (name, spec), tensor in zip(self.inputs.items(), tensors, strict=True):
            if not isinstance(tensor, hx.Tensor):
                raise DTypeError(f"graph: {name} is a {type(tensor).__name__}, not a Tensor.")
            if tensor.dtype != spec.dtype:
                raise DTypeError(
                    f"graph: {name} is {spec.dtype}, got {tensor.dtype}. "
                    "Hint: cast it with astype(), or record the function anew."
                )
            if tensor.shape != spec.shape:
                raise ShapeError(
                    f"graph: {name} is {spec.shape}, got {tensor.shape}. "
                    "Hint: a graph is of one size; record the function anew."
                )
        return dict(zip(self.inputs, tensors, strict=True))

    def _last_readers(self) -> dict[int, list[str]]:
        """Return for each operation the values that no later one reads."""
        last: dict[str, Operation] = {}
        for operation in self.operations:
            for name in (*self._reads(operation), *operation.results):
                last[name] = operation
        found: dict[int, list[str]] = {}
        for name, operation in last.items():
            if name not in self.outputs:
                found.setdefault(id(operation), []).append(name)
        return found

    def __len__(self) -> int:
        return len(self.operations)

    def __str__(self) -> str:
        lines = []
        if self.inputs:
            lines.append("inputs: " + ", ".join(f"{n} {s}" for n, s in self.inputs.items()))
        if self.constants:
            shown = [f"{n} {Spec(t.shape, t.dtype)}" for n, t in self.constants.items()]
            lines.append("constants: " + ", ".join(shown))
        for o in self.operations:
            flops = "FLOPs unknown" if o.flops is None else f"{o.flops:,} FLOPs"
            lines.append(f"  {o}  {flops}, {o.bytes:,} bytes")
        lines.append("outputs: " + ", ".join(self.outputs))
        lines.append(f"{len(self)} operations, {self.flops:,} FLOPs, {self.bytes:,} bytes")
        return "\n".join(lines)


def run(operation: Operation, values: Mapping[str, hx.Tensor]) -> tuple[hx.Tensor, ...]:
    """Run one operation on the values of its operands and return its results."""
    if UNKNOWN in operation.operands:
        i = operation.operands.index(UNKNOWN)
        op = op_named(operation.op)
        raise GraphError(
            f"graph: {operation.op} cannot run: the tape does not keep its input "
            f"{op.input_name(i, len(operation.operands))!r}, which needs no gradient. "
            "Hint: hardware.record(function, ...) sees all values."
        )
    op = op_named(operation.op)
    inputs = tuple(values[x] if isinstance(x, str) else x for x in operation.operands)
    if op.kind == "primitive":
        result = op.run(inputs, dict(operation.attributes), True)
    else:
        pairs = zip(op.inputs, op.grouped(inputs), strict=True)
        result = op(**dict(pairs), **operation.attributes)
    return result if isinstance(result, tuple) else (result,)
