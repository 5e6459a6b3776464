"""Recording: the `ComputeGraph` of a function, of the tape behind a loss, or one made by hand.

As in `helixml._core.observe`, nothing in the engine asks whether anybody records: while a function
is called here, the methods of ops are replaced by ones that note what they were given and returned.
A fused op is one operation, whatever its definition or kernel does; composites are seen through.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any

import helixml as hx
from helixml._core import tape
from helixml._core.composed import Fused
from helixml._core.kept import saved_items
from helixml._core.observe import Hooks, owner_of
from helixml._core.op import REGISTRY, Primitive
from helixml.autograd.structures import flatten
from helixml.errors import DTypeError, GraphError
from helixml.hardware.graph import ComputeGraph
from helixml.hardware.operations import UNKNOWN, Operation, Spec, op_named

__all__ = ["GraphBuilder", "from_loss", "operation", "record"]

_one = threading.RLock()
_SHRINK = 1 - 2.0**-10  # stays inside [-1, 1], [0, 1] and the positive numbers


def record(function: Callable[..., Any], *inputs: hx.Tensor, check: bool = True) -> ComputeGraph:
    """Call a function of tensors and return what it does as a graph.

    Parameters
    ----------
    function : of the ``inputs``, returns a Tensor or nested tuples, lists and dicts of them.
    inputs : Tensors, any shapes and dtypes; the graph is of these shapes.
    check : whether the function and the graph are run again on other values and compared.

    Returns
    -------
    A `ComputeGraph` with inputs ``x0``, ``x1``, ...; other tensors that it reads, such as
    parameters, are its constants, as they are now.

    Raises
    ------
    GraphError : it returns something else than tensors, writes to a tensor in place, indexes by a
        value that it has computed, or gives something else than its graph on other values, because
        it reads values in Python or draws random numbers.

    Notes
    -----
    A branch that other values take is noticed only if the values of ``check`` take it: the inputs
    in reverse order, floats times 1 - 2^-10.

    Examples
    --------
    >>> import helixml as hx
    >>> graph = hx.hardware.record(lambda x: hx.sum(x * x), hx.ones((3,)))
    >>> [operation.op for operation in graph.operations]
    ['multiply', 'sum']
    >>> graph(hx.tensor([1.0, 2.0, 3.0]))
    tensor(14.)
    """
    for number, value in enumerate(inputs):
        if not isinstance(value, hx.Tensor):
            raise DTypeError(
                f"record: input {number} is a {type(value).__name__}, not a Tensor. "
                "Hint: put what is no tensor into the function: lambda x: f(x, 3)."
            )
    trace = _Trace({f"x{i}": x.detach() for i, x in enumerate(inputs)})
    given = list(trace.inputs.values())
    with trace.noting(), hx.no_grad():
        result = function(*given)
    graph = trace.graph(result)
    if check:
        _check(function, graph, inputs)
    return graph


def operation(op: str, *operands: Any, **attributes: Any) -> Operation:
    """Return a call of an op as a record.

    Parameters
    ----------
    op : the op's name.
    operands : for each input a Tensor, a `Spec`, a shape (a tuple; of float32), a number or None;
        the parts of a sequence one after the other.
    attributes : the op's settings.

    Raises
    ------
    ValueRangeError : there is no such op. GraphError : it is made of other ops, or writes to its
    inputs. ShapeError, DTypeError : the op refuses such operands.

    Notes
    -----
    The sizes of results are found by a call, with ones where no Tensor is given, on the CPU.

    Examples
    --------
    >>> from helixml import hardware
    >>> product = hardware.operation("matmul", (32, 64), (64, 8))
    >>> print(product)
    v0 float32[32, 8] = matmul(x0 float32[32, 64], x1 float32[64, 8])
    >>> product.flops, product.bytes
    (32768, 11264)
    """
    found = op_named(op)
    examples = []
    for value in operands:
        spec = None if isinstance(value, hx.Tensor) else Spec.of(value)
        if spec is not None:
            value = hx.ones(spec.shape, dtype=spec.dtype, device="cpu")  # noqa: PLW2901
        examples.append(value)
    names = (x for x in examples if isinstance(x, hx.Tensor))
    trace = _Trace({f"x{i}": x for i, x in enumerate(names)})
    with trace.noting(), hx.no_grad():
        found(*found.grouped(tuple(examples)), **attributes)
    return trace.operations[-1]


class GraphBuilder:
    """A graph made by hand, operation by operation.

    Examples
    --------
    >>> import helixml as hx
    >>> build = hx.hardware.GraphBuilder()
    >>> x, y = build.input("x", (2, 3)), build.input("y", (3, 2))
    >>> graph = build.graph(build.add("exp", build.add("matmul", x, y)))
    >>> graph(hx.zeros((2, 3)), hx.ones((3, 2))).sum()
    tensor(4.)
    """

    def __init__(self) -> None:
        self._inputs: dict[str, Spec] = {}
        self._specs: dict[str, Spec] = {}
        self._operations: list[Operation] = []

    def input(self, name: str, shape: Any, dtype: Any = "float32") -> str:
        """Add an input and return its name.

        Raises
        ------
        GraphError : there is one of that name.
        """
        if name in self._specs or name == UNKNOWN:
            raise GraphError(f"graph: there is a value {name!r} already. Hint: take another name.")
        self._inputs[name] = self._specs[name] = Spec(shape, dtype)
        return name

    def add(self, op: str, *operands: Any, **attributes: Any) -> Any:
        """Add a call of an op and return the name of its result, or a tuple of them.

        Parameters
        ----------
        op : the op's name.
        operands : names of values, numbers or None. attributes : the op's settings.

        Raises
        ------
        GraphError : there is no such value. Others as of `operation`.
        """
        for name in operands:
            if isinstance(name, str) and name not in self._specs:
                raise GraphError(
                    f"graph: there is no value {name!r}. "
                    f"Hint: there are {', '.join(self._specs) or 'none yet'}."
                )
        specs = [self._specs[x] if isinstance(x, str) else x for x in operands]
        made = operation(op, *specs, **attributes)
        results = tuple(f"v{len(self._specs) + i}" for i in range(len(made.outputs)))
        names = (*operands, *[None] * (len(made.operands) - len(operands)))
        self._operations.append(
            Operation(op, made.inputs, made.outputs, names, results, made.attributes, made.is_view)
        )
        self._specs.update(zip(results, made.outputs, strict=True))
        return results[0] if len(results) == 1 else results

    def graph(self, *outputs: str) -> ComputeGraph:
        """Return the graph that computes the values of these names."""
        return ComputeGraph(self._operations, self._inputs, outputs)


def from_loss(loss: hx.Tensor, named: Mapping[str, hx.Tensor] = {}) -> ComputeGraph:
    """Return the tape behind a tensor as a graph: the operations that its gradient flows through.

    Parameters
    ----------
    loss : Tensor, computed from others that require gradients.
    named : names of leaves, such as ``dict(model.named_parameters())``.

    Returns
    -------
    A `ComputeGraph`. Leaves that require gradients are its inputs, in the order in which they are
    first read, and without a name ``leaf0``, ``leaf1``, ...; values that a derivative reads are
    constants. All else that needs no gradient the tape does not keep: such operands are ``"?"``,
    and a graph that has some can be read and priced, and not be run.

    Raises
    ------
    GraphError : the tensor has no graph, or a backward pass has dropped what it kept.

    Examples
    --------
    >>> import helixml as hx
    >>> w = hx.tensor([[1.0, 2.0]] * 3, requires_grad=True)
    >>> graph = hx.hardware.from_loss(hx.sum(hx.ones((4, 3)) @ w))
    >>> graph.inputs, [operation.op for operation in graph.operations]
    ({'leaf0': Spec(shape=(3, 2), dtype=dtype('float32'))}, ['matmul', 'sum'])
    """
    if not isinstance(loss, hx.Tensor):
        raise DTypeError(f"from_loss: takes a Tensor, not {type(loss).__name__}.")
    if loss._node is None:
        raise GraphError(
            f"from_loss: this tensor (shape {loss.shape}) was not computed from tensors that "
            "require gradients: there is no graph. Hint: hardware.record(function, ...)."
        )
    nodes: Any = tape.collect([loss._node])[::-1]
    inputs: dict[str, Spec] = {}
    constants: dict[str, hx.Tensor] = {}
    leaves = {id(tensor): name for name, tensor in named.items()}
    names: dict[tuple[Any, int], str] = {}
    operations = []
    for node in nodes:
        if node.saved is None:
            raise tape.freed(node.op.name)
        outputs = tuple(Spec(*node.describe(slot)) for slot in range(node.outputs))
        results = tuple(f"v{len(names) + slot}" for slot in range(node.outputs))
        names.update({(node, slot): name for slot, name in enumerate(results)})
        kept = {name: item for name, item in saved_items(node) if isinstance(item, tape.Saved)}
        count = len(node.parents)
        operands: list[Any] = []
        specs: list[Spec | None] = []
        for i, parent in enumerate(node.parents):
            slot = 0 if node.slots is None else node.slots[i]
            item = kept.get(node.op.input_name(i, count)) if not node.op.variadic else None
            if isinstance(parent, tape.Node):
                operands.append(names[parent, slot])
                specs.append(Spec(*parent.describe(slot)))
            elif parent is not None:
                name = leaves.setdefault(id(parent), f"leaf{len(inputs)}")
                inputs[name] = Spec(parent.shape, parent.dtype)
                operands.append(name)
                specs.append(inputs[name])
            elif item is not None:
                name = f"c{len(constants)}"
                constants[name] = hx.Tensor(item.array, item.backend)
                operands.append(name)
                specs.append(Spec(constants[name].shape, constants[name].dtype))
            else:
                left_out = node.op.kind == "fused"  # which keeps all its inputs
                operands.append(None if left_out else UNKNOWN)
                specs.append(None)
        attributes = MappingProxyType(dict(node.attrs))
        operations.append(
            Operation(
                node.op.name,
                tuple(specs),
                outputs,
                tuple(operands),
                results,
                attributes,
                getattr(node.op, "view", False),
            )
        )
    return ComputeGraph(operations, inputs, [names[loss._node, loss._slot]], constants)


class _Trace(Hooks):
    """What ran in this thread within `noting`."""

    def __init__(self, inputs: Mapping[str, hx.Tensor]) -> None:
        super().__init__()
        self.operations: list[Operation] = []
        self.inputs = dict(inputs)
        self.constants: dict[str, hx.Tensor] = {}
        self._names: dict[int, str] = {}  # id of a tensor, or of its array -> name of its value
        # name -> the tensor, the array that it had (kept, and with them their ids), and a second
        # look at that, which a write in place leaves with a copy.
        self._held: dict[str, tuple[hx.Tensor, Any, hx.Tensor]] = {}
        self._made = 0
        self._inside = False
        self._thread = threading.get_ident()
        for name, tensor in self.inputs.items():
            self._hold(name, tensor)

    def _hold(self, name: str, tensor: hx.Tensor) -> None:
        self._held[name] = tensor, tensor._array, tensor.detach()
        self._names[id(tensor)] = name
        self._names.setdefault(id(tensor._array), name)

    def name_of(self, tensor: hx.Tensor) -> str:
        """Return the name of a tensor's value; one that nothing here made is a constant."""
        name = self._names.get(id(tensor))
        if name is None or self._held[name][1] is not tensor._array:  # x[i] = v: x is another now
            name = self._names.get(id(tensor._array))
        if name is None:
            name = f"c{len(self.constants)}"
            self._hold(name, tensor)
            self.constants[name] = self._held[name][2]
        return name

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Note what runs. One trace at a time: what it puts in the place of methods is for all."""
        with _one:
            for op in list(REGISTRY.values()):
                if isinstance(op, Primitive):
                    self._enter(op)
            self.watch(self._enter)
            self.put(Fused, "__call__", self._fused(Fused.__call__))
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
            self._note(op, inputs, attributes, result)
            return result

        self.put(op, "run", traced)
        if op.direct:
            self.put(op, "run_pair", lambda inputs: traced(inputs, {}))

    def _fused(self, call: Any) -> Any:
        def traced(op: Any, *args: Any, **kwargs: Any) -> Any:
            if self._silent():
                return call(op, *args, **kwargs)
            if op.writes:
                raise GraphError(
                    f"record: {op.name} writes to its inputs, which a graph cannot hold. "
                    "Hint: record what computes new values, and update outside."
                )
            inputs, attributes = op.bind(args, kwargs)
            self._inside = True
            try:
                result = call(op, *args, **kwargs)
            finally:
                self._inside = False
            self._note(op, inputs, attributes, result)
            return result

        return traced

    def _silent(self) -> bool:
        return self._inside or threading.get_ident() != self._thread

    def _note(self, op: Any, inputs: Any, attributes: Any, result: Any) -> None:
        for name, value in attributes.items():
            if any(isinstance(leaf, hx.Tensor) for leaf in flatten(value)[0]):
                raise GraphError(
                    f"record: {op.name} takes a tensor as its setting {name!r}, which a graph "
                    "holds as a number only. Hint: take(), or a number."
                )
        operands: list[Any] = []
        specs: list[Spec | None] = []
        for value in inputs:
            array = value
            if not isinstance(value, hx.Tensor | bool | int | float | complex | None):
                array = hx.asarray(value)
            is_tensor = isinstance(array, hx.Tensor)
            operands.append(self.name_of(array) if is_tensor else array)
            specs.append(Spec.of(array) if is_tensor else None)
        outputs = result if isinstance(result, tuple) else (result,)
        names = []
        for tensor in outputs:
            names.append(f"v{self._made}")
            self._made += 1
            self._hold(names[-1], tensor)
        first = inputs[0] if inputs else None
        is_view = bool(
            getattr(op, "view", False)
            and outputs
            and isinstance(first, hx.Tensor)
            and owner_of(outputs[0]._array) is owner_of(first._array)
        )
        self.operations.append(
            Operation(
                op.name,
                tuple(specs),
                tuple(Spec(tensor.shape, tensor.dtype) for tensor in outputs),
                tuple(operands),
                tuple(names),
                MappingProxyType(dict(attributes)),
                is_view,
            )
        )

    def graph(self, result: Any) -> ComputeGraph:
        """Return the graph of what was noted, which returned ``result``."""
        leaves, form = flatten(result)
        for leaf in leaves:
            if not isinstance(leaf, hx.Tensor):
                raise GraphError(
                    f"record: the function returned a {type(leaf).__name__}, which is no tensor. "
                    "Hint: return Tensors, in tuples, lists and dicts."
                )
        outputs = [self.name_of(leaf) for leaf in leaves]
        for tensor, array, look in self._held.values():
            if look._array is not array:
                raise GraphError(
                    f"record: the function writes in place to a tensor of shape {tensor.shape}, "
                    "which a graph cannot hold. Hint: model.eval() for running statistics; "
                    "otherwise compute a new tensor."
                )
        inputs = {name: Spec(x.shape, x.dtype) for name, x in self.inputs.items()}
        return ComputeGraph(self.operations, inputs, outputs, self.constants, form=form)


def _check(function: Any, graph: ComputeGraph, inputs: tuple[hx.Tensor, ...]) -> None:
    """Run both on other values; raise if they differ."""
    others = []
    with hx.no_grad():
        for x in inputs:
            y = hx.flip(hx.reshape(x, (-1,)))
            y = hx.reshape(y, x.shape)
            others.append((y * _SHRINK if y.dtype.kind in "fc" else y).astype(x.dtype))
        wanted = [x.numpy() for x in flatten(function(*others))[0]]
        found = [x.numpy() for x in flatten(graph(*others))[0]]
    if len(wanted) != len(found) or not all(map(_is_same, wanted, found)):
        raise GraphError(
            "record: on other values the function returns something else than its graph. Hint: it "
            "reads values in Python (if, .item(), x[i] with a computed i, which take() does not), "
            "keeps a state or draws random numbers. check=False gives the graph of this one call."
        )


def _is_same(x: Any, y: Any) -> bool:  # Any: NumPy arrays
    import numpy as np

    return x.shape == y.shape and np.array_equal(x, y, equal_nan=x.dtype.kind in "fc")
