"""What an op costs: the counting convention, and what ops that declare nothing of their own cost.

An op declares beside its definition how many FLOPs a call takes, as a function of sizes
(`Op.flops`), and a fused op those of its gradient (`Op.flops_vjp`). The convention, for all ops:

- An elementwise op counts 1 for each element of its result, whatever it computes there: a sum, a
  product, a comparison, a choice, and also exp, log, sqrt, a power, tanh, sigmoid or erf.
- Reducing n values to one counts n - 1.
- Products of matrices, convolutions and recurrences count a multiplication and an addition, 2, for
  each pair of factors.
- A Fourier transform of n complex numbers counts 5 n log2(n), of real ones half of that.
- Decompositions and solutions count the leading terms that textbooks give (Golub & Van Loan 2013).
- Movement, casts, indexing and random numbers count 0; sorting and searching, the comparisons.
- A fused op counts the operations of the formula in its docstring, each once. What a kernel
  computes a second time, to save memory, and what it saves by a trick, is not counted.
- The gradient of a primitive is made of ops, and counts what these do.

Bytes are those read and written at least once: all inputs, all results; a view moves nothing. An op
that reads only a part declares so (`Op.traffic`).

This file knows sizes, and no tensor. `helixml.profiler` adds up what it says.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np


class Size:
    """The shape and the dtype of an array that is not there."""

    __slots__ = ("dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any) -> None:
        self.shape = tuple(shape)
        self.dtype = dtype

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the elements."""
        return self.size * np.dtype(self.dtype).itemsize


# Declarations that several ops share


def free(out):
    """Count nothing."""
    return 0


def each(out):
    """Count one for each element of the result."""
    return out.size


def folded(x, out):
    """Count n - 1 for n values reduced to one."""
    return max(0, x.size - out.size)


# What a call costs


def flops_of(op: Any, inputs: Any, attributes: Any, outputs: Any) -> int | None:
    """Return the FLOPs of a call; None where the op does not say.

    Parameters
    ----------
    inputs : a `Size` or None for each input, flat.
    attributes : by name, as the caller gave them.
    outputs : sequence of `Size`.
    """
    declared = op.costs.get("flops")
    if declared is None:
        if getattr(op, "view", False):
            return 0
        return outputs[0].size if getattr(op, "direct", False) else None
    return int(_answer(op, declared, inputs, attributes, outputs, {}))


def flops_of_vjp(op: Any, inputs: Any, attributes: Any, outputs: Any, needs: Any) -> int | None:
    """Return the FLOPs of a fused op's gradient; None where it does not say.

    ``needs`` says which of the inputs need one.
    """
    declared = op.costs.get("flops_vjp")
    if declared is None:
        return None
    by_name = tuple(needs) if op.variadic else dict(zip(op.inputs, needs, strict=True))
    return int(_answer(op, declared, inputs, attributes, outputs, {"needs": by_name}))


def bytes_of(op: Any, inputs: Any, attributes: Any, outputs: Any, is_view: bool = False) -> int:
    """Return the bytes that a call reads and writes at least once."""
    if is_view:
        return 0
    declared = op.costs.get("traffic")
    if declared is not None:
        return int(_answer(op, declared, inputs, attributes, outputs, {}))
    total = sum([x.nbytes for x in (*inputs, *outputs) if x is not None])
    writes = getattr(op, "writes", ())
    for i, x in enumerate(inputs):
        if x is not None and op.input_name(i, len(inputs)) in writes:
            total += x.nbytes
    return total


def bytes_of_vjp(inputs: Any, cotangents: Any, needs: Any) -> int:
    """Return the bytes that a gradient reads and writes at least once."""
    read = sum([x.nbytes for x in (*inputs, *cotangents) if x is not None])
    written = [x.nbytes for x, need in zip(inputs, needs, strict=True) if need and x is not None]
    return read + sum(written)


def _answer(op, function, inputs, attributes, outputs, more):
    values = {**attributes, **more, "outs": tuple(outputs)}
    values["out"] = outputs[0] if outputs else None
    values.update(zip(op.inputs, op.grouped(inputs), strict=True))
    code = function.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    return function(**{name: values[name] for name in names if name in values})
