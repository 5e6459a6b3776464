"""Fusions: operations of a graph that could be one, and the bytes that this would save.

Some are ops that helixml has: the table says which operations in a row are what. Others are chains
of elementwise operations, each of which reads what the one before has just written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from helixml.hardware.graph import ComputeGraph
from helixml.hardware.operations import Operation

__all__ = ["Fusion", "fusions"]

Chain = tuple[Operation, ...]


@dataclass(frozen=True)
class Fusion:
    """Operations in a row that could be one.

    Attributes
    ----------
    operations : in order; each reads the result of the one before.
    advice : the op that does all of them, as one would call it; "" where there is none yet.
    saved_bytes : what need not be written, and read again.
    """

    operations: Chain
    advice: str
    saved_bytes: int

    def __str__(self) -> str:
        names = " > ".join(operation.op for operation in self.operations)
        use = f" = {self.advice}" if self.advice else ""
        return f"{names}{use}: saves {self.saved_bytes:,} bytes"


def fusions(graph: ComputeGraph) -> list[Fusion]:
    """Return the fusions in a graph, the most saving first; no operation is in two of them.

    A result that others read too, or that is returned, is not passed over.

    Examples
    --------
    >>> import helixml as hx
    >>> x, w, b = hx.ones((8, 4)), hx.ones((4, 6)), hx.ones((6,))
    >>> graph = hx.hardware.record(lambda x: hx.sqrt(hx.exp(x @ w + b)), x)
    >>> for fusion in hx.hardware.fusions(graph):
    ...     print(fusion)
    matmul > add = linear(x, weight, bias): saves 384 bytes
    exp > sqrt: saves 384 bytes
    """
    taken: set[int] = set()
    found = []
    for names, advice, holds in sorted(_TABLE, key=lambda row: -len(row[0])):
        for first in graph.operations:
            chain = _named(graph, first, names)
            if chain and not taken & {id(o) for o in chain} and holds(chain):
                taken.update(id(o) for o in chain)
                found.append(Fusion(chain, advice, _saved(chain)))
    for first in graph.operations:
        if id(first) not in taken:
            chain = _elementwise(graph, first, taken)
            if len(chain) > 1:
                taken.update(id(o) for o in chain)
                found.append(Fusion(chain, "", _saved(chain)))
    return sorted(found, key=lambda fusion: -fusion.saved_bytes)


def _named(graph: ComputeGraph, first: Operation, names: tuple[str, ...]) -> Chain:
    """Return the operations of these names in a row that begin with ``first``, or none."""
    chain = [first]
    while chain[-1].op == names[len(chain) - 1]:
        if len(chain) == len(names):
            return tuple(chain)
        reader = _only_reader(graph, chain[-1])
        if reader is None:
            break
        chain.append(reader)
    return ()


def _elementwise(graph: ComputeGraph, first: Operation, taken: set[int]) -> Chain:
    chain: list[Operation] = []
    last: Operation | None = first
    while last is not None and last.kind == "elementwise" and id(last) not in taken:
        chain.append(last)
        last = _only_reader(graph, last)
    return tuple(chain)


def _only_reader(graph: ComputeGraph, operation: Operation) -> Operation | None:
    """Return what alone reads the only result of an operation, if that is so."""
    if len(operation.results) != 1 or operation.results[0] in graph.outputs:
        return None
    readers = graph.readers(operation.results[0])
    return readers[0] if len(readers) == 1 else None


def _saved(chain: Chain) -> int:
    return sum(2 * operation.outputs[0].nbytes for operation in chain[:-1])


# Conditions of the table


def _always(chain: Chain) -> bool:
    return True


def _is_bias(chain: Chain) -> bool:
    """Say whether a matrix takes part, and what is added is a vector of the last axis."""
    product, total = chain
    matrix = product.inputs[1]
    others = [
        spec
        for spec, name in zip(total.inputs, total.operands, strict=True)
        if name != product.results[0]
    ]
    return (
        matrix is not None
        and matrix.ndim == 2
        and [spec and spec.shape for spec in others] == [product.outputs[0].shape[-1:]]
    )


def _is_gate(chain: Chain) -> bool:
    """Say whether both factors are tensors of one shape."""
    return len({spec and spec.shape for spec in chain[-1].inputs}) == 1


def _is_own_gate(chain: Chain) -> bool:
    """Say whether a sigmoid is multiplied with what it was taken of."""
    sigmoid, product = chain
    return set(product.operands) == {sigmoid.operands[0], sigmoid.results[0]}


def _has_no_activation(chain: Chain) -> bool:
    return chain[0].attributes.get("activation") is None


def _is_over_keys(chain: Chain) -> bool:
    """Say whether a softmax over the last axis weighs what it is multiplied with."""
    weights, mean = chain[-2:]
    last = (-1, weights.outputs[0].ndim - 1)
    return weights.attributes.get("axis") in last and mean.operands[0] == weights.results[0]


_TABLE: Final[tuple[tuple[tuple[str, ...], str, Callable[[Chain], bool]], ...]] = (
    (("matmul", "softmax", "matmul"), "attention(q, k, v, scale=1.0)", _is_over_keys),
    (("matmul", "multiply", "softmax", "matmul"), "attention(q, k, v, scale=...)", _is_over_keys),
    (("matmul", "divide", "softmax", "matmul"), "attention(q, k, v, scale=...)", _is_over_keys),
    (("matmul", "add"), "linear(x, weight, bias)", _is_bias),
    (("linear", "silu"), 'linear(x, weight, bias, "silu")', _has_no_activation),
    (("linear", "gelu"), 'linear(x, weight, bias, "gelu")', _has_no_activation),
    (("causal_conv1d", "silu"), 'causal_conv1d(x, weight, bias, "silu")', _has_no_activation),
    (("sigmoid", "multiply"), "silu(x)", _is_own_gate),
    (("silu", "multiply"), "silu_gate(x, gate)", _is_gate),
    (("gelu", "multiply"), "gelu_gate(x, gate)", _is_gate),
    (("softmax", "log"), "log_softmax(x)", _always),
    (("rfft", "multiply", "irfft"), "fft_conv(u, k), if it is causal", _always),
)
