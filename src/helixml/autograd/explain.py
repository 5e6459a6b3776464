"""`explain_memory`: what the graph behind a tensor keeps for the backward pass, and for whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from helixml import dtypes
from helixml._core import tape
from helixml._core.kept import readers, saved_items
from helixml._core.observe import owner_of
from helixml._core.saving import Packed
from helixml._core.tensor import Tensor
from helixml.dtypes import DType
from helixml.errors import DTypeError, GraphError

__all__ = ["KeptValue", "MemoryReport", "explain_memory"]


@dataclass(frozen=True)
class KeptValue:
    """One value that a node of the graph keeps.

    Attributes
    ----------
    op : name of the node's op.
    name : which value it is: an input or attribute of the op, "out", "residual 0".
    shape, dtype : of the value.
    bytes : of the storage that it keeps alive; 0 if an entry of a later node keeps it already. A
        view of a larger array keeps all of that.
    read_by : the inputs whose gradients read the value; empty where the kernel of a fused op does.
    leaf : whether it is a leaf that requires a gradient, and so lives without the graph too.
    line : ``file:line`` of the user's code that made the node, if that was recorded, or "".
    """

    op: str
    name: str
    shape: tuple[int, ...]
    dtype: DType
    bytes: int
    read_by: tuple[str, ...]
    leaf: bool
    line: str


@dataclass(frozen=True)
class MemoryReport:
    """What a graph keeps; its text is a table.

    Attributes
    ----------
    entries : the kept values, the largest first.
    nodes : how many nodes the graph has.
    """

    entries: tuple[KeptValue, ...]
    nodes: int

    @property
    def total(self) -> int:
        """Bytes of all storages that the graph keeps, each once."""
        return sum(entry.bytes for entry in self.entries)

    @property
    def leaves(self) -> int:
        """Bytes of those that belong to leaves, and would live without the graph."""
        return sum(entry.bytes for entry in self.entries if entry.leaf)

    def __str__(self) -> str:
        rows = [("bytes", "op", "value", "shape", "dtype", "read by", "line")]
        for e in self.entries:
            value = f"{e.name} (leaf)" if e.leaf else e.name
            count = f"{e.bytes:,}" if e.bytes else "shared"
            reads = ", ".join(f"d/d{name}" for name in e.read_by) or "kernel"
            rows.append((count, e.op, value, str(e.shape), e.dtype.name, reads, e.line))
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = []
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            lines.append("  ".join([row[0].rjust(widths[0]), *cells]).rstrip())
        lines.append(
            f"{self.total:,} bytes kept by {self.nodes} nodes, {self.leaves:,} of them in leaves"
        )
        return "\n".join(lines)


def explain_memory(loss: Tensor) -> MemoryReport:
    """List what the graph behind a tensor keeps until the backward pass.

    Parameters
    ----------
    loss : Tensor, computed from others that require gradients, before its backward pass.

    Returns
    -------
    A `MemoryReport`, whose ``str`` is a table.

    Raises
    ------
    GraphError : the tensor has no graph.

    Notes
    -----
    Lines of the user's code are known for nodes that were made inside `helixml.debug.trace_lines`,
    or with ``HELIXML_DEBUG=1``. Without these nothing is recorded, and this only looks. What hooks
    have put away (`saved_hooks`, `checkpoint`) counts as what they returned, if that is a Tensor or
    an array, and as nothing else.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([1.0, 2.0], requires_grad=True)
    >>> report = hx.explain_memory((hx.exp(x) * x).sum())
    >>> report.total  # exp keeps its result, multiply that and x
    16
    >>> print(report)
     bytes  op        value     shape  dtype    read by  line
         8  multiply  x         (2,)   float32  d/dy
         8  multiply  y (leaf)  (2,)   float32  d/dx
    shared  exp       out       (2,)   float32  d/dx
    16 bytes kept by 3 nodes, 8 of them in leaves
    """
    if not isinstance(loss, Tensor):
        raise DTypeError(f"explain_memory: takes a Tensor, not {type(loss).__name__}.")
    if loss._node is None:
        raise GraphError(
            f"explain_memory: this tensor (shape {loss.shape}) was not computed from tensors that "
            "require gradients: there is no graph."
        )
    nodes: Any = tape.collect([loss._node])
    seen: set[int] = set()
    entries = []
    for node in nodes:
        for name, item in [*saved_items(node), *node.attrs.items()]:
            array, leaf = _array_of(item)
            if array is None:
                continue
            owner = owner_of(array)
            count = 0 if id(owner) in seen else _bytes(owner)
            seen.add(id(owner))
            reads = readers(node, name)
            shape = tuple(array.shape)
            dtype = _dtype(array)
            line = node.origin or ""
            entries.append(KeptValue(node.op.name, name, shape, dtype, count, reads, leaf, line))
    entries.sort(key=lambda entry: -entry.bytes)
    return MemoryReport(tuple(entries), len(nodes))


def _array_of(item: Any) -> tuple[Any, bool]:
    """Return the raw array of what a node keeps, or None, and whether it is that of a leaf."""
    leaf = False
    if isinstance(item, tape.Saved):
        leaf = isinstance(item.source, Tensor)
        item = item.array
    if isinstance(item, Packed):
        item = item.content
    if isinstance(item, Tensor):
        item = item._array
    is_array = hasattr(item, "shape") and hasattr(item, "dtype")
    return (item if is_array else None), leaf


def _bytes(array: Any) -> int:
    size = getattr(array, "nbytes", None)
    return int(size if size is not None else array.size * array.dtype.itemsize)


def _dtype(array: Any) -> DType:
    if isinstance(array.dtype, np.dtype):
        return array.dtype
    return dtypes.parse(str(array.dtype).rpartition(".")[2])  # "torch.float32"
