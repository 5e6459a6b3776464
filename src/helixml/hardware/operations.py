"""Operations: one call of an op as a record, with shapes, dtypes, FLOPs and bytes, and no values.

FLOPs and bytes are what the op declares beside its definition; how they count stands in
`helixml._core.cost`. `graph` puts operations together, `cost_model` says how long one takes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import helixml as hx
from helixml._core.cost import bytes_of, flops_of
from helixml._core.op import REGISTRY
from helixml.errors import DTypeError, GraphError, ValueRangeError

__all__ = ["CLASSES", "UNKNOWN", "Operation", "Spec", "op_named"]

CLASSES = (
    *("product", "convolution", "spectral", "state_space", "attention", "normalisation"),
    *("elementwise", "reduction", "movement", "topological", "general"),
)
UNKNOWN = "?"  # an operand that a tape has not kept

# Modules that define ops of one class; of the others `_class_of` asks the op.
_FILES = {
    "linalg": "product",
    "contraction": "product",
    "convolution": "convolution",
    "long_convolution": "convolution",
    "fourier": "spectral",
    "frequencies": "spectral",
    "spectrogram": "spectral",
    "scan": "state_space",
    "state_space_dual": "state_space",
    "delta_rule": "state_space",
    "attending": "attention",
    "decoding": "attention",
    "normalisation": "normalisation",
    "categorical": "normalisation",
    "elementwise": "elementwise",
    "activation": "elementwise",
    "logic": "elementwise",
    "logarithms": "elementwise",
    "trigonometric": "elementwise",
    "special": "elementwise",
    "numbers": "elementwise",
    "reduction": "reduction",
    "running": "reduction",
    "movement": "movement",
    "indexing": "movement",
    "arrangement": "movement",
}
_NAMES = {
    "causal_conv1d": "convolution",
    "selective_scan": "state_space",
    "mamba_step": "state_space",
    "rms_norm": "normalisation",
    "layer_norm": "normalisation",
}


@dataclass(frozen=True)
class Spec:
    """The shape and the dtype of a tensor that need not be there.

    >>> from helixml.hardware import Spec
    >>> Spec((32, 64), "float32").nbytes
    8192
    """

    shape: tuple[int, ...]
    dtype: hx.dtypes.DType

    def __init__(self, shape: Any, dtype: Any = "float32") -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in shape))
        object.__setattr__(self, "dtype", hx.dtypes.parse(dtype))

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
        return self.size * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype.name}{list(self.shape)}"

    @classmethod
    def of(cls, value: Any) -> Spec | None:
        """Return what ``value`` is: a Tensor, a Spec, a shape (of float32), a number or None."""
        if value is None or isinstance(value, Spec):
            return value
        if isinstance(value, hx.Tensor):
            return cls(value.shape, value.dtype)
        if isinstance(value, tuple):
            return cls(value)
        if isinstance(value, bool | int | float | complex):
            return None
        raise DTypeError(
            f"operation: {type(value).__name__} is no operand. "
            "Hint: give a Tensor, a Spec, a shape as a tuple, a number or None."
        )


@dataclass(frozen=True)
class Operation:
    """One call of an op.

    Attributes
    ----------
    op : the op's name.
    inputs : of each input its `Spec`; None for a number, for what was left out, and for `UNKNOWN`.
    outputs : of each result its `Spec`.
    operands : of each input the name of its value, or the number or None itself; `UNKNOWN` where a
        tape has not kept it.
    results : names of the values that it makes.
    attributes : settings by name.
    is_view : whether the result shares the first input's memory, and so moves no bytes.
    """

    op: str
    inputs: tuple[Spec | None, ...]
    outputs: tuple[Spec, ...]
    operands: tuple[Any, ...]  # Any: names and numbers
    results: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    is_view: bool = False

    @property
    def kind(self) -> str:
        """The class of the op, of `CLASSES`; times of a class have the same law."""
        return _class_of(self.op)

    @property
    def flops(self) -> int | None:
        """Floating-point operations; None where the op does not say, or an input is unknown."""
        op = op_named(self.op)
        declared: Any = op.costs.get("flops")
        if declared is not None and UNKNOWN in self.operands:
            lost = {
                op.input_name(i, len(self.inputs))
                for i, operand in enumerate(self.operands)
                if operand == UNKNOWN
            }
            if lost & set(declared.__code__.co_varnames):
                return None
        return flops_of(op, self._sized(), self.attributes, self.outputs)

    @property
    def bytes(self) -> int:
        """Bytes read and written at least once; an input that is unknown counts for nothing."""
        if UNKNOWN in self.operands:
            return sum(spec.nbytes for spec in (*self.inputs, *self.outputs) if spec is not None)
        return bytes_of(
            op_named(self.op), self._sized(), self.attributes, self.outputs, self.is_view
        )

    @property
    def intensity(self) -> float:
        """FLOPs for each byte; 0 where one of them is 0 or unknown."""
        return (self.flops or 0) / self.bytes if self.bytes else 0.0

    def _sized(self) -> list[Spec | None]:
        """Return the sizes of inputs, a number's as that of a 0-d array of the result's dtype."""
        sizes = list(self.inputs)
        for i, operand in enumerate(self.operands):
            if isinstance(operand, bool | int | float | complex) and self.outputs:
                sizes[i] = Spec((), self.outputs[0].dtype)
        return sizes

    def __str__(self) -> str:
        given = [
            f"{operand} {spec}" if spec is not None else str(operand)
            for operand, spec in zip(self.operands, self.inputs, strict=True)
        ]
        given += [f"{name}={_short(value)}" for name, value in self.attributes.items()]
        pairs = zip(self.results, self.outputs, strict=True)
        return f"{', '.join(f'{n} {s}' for n, s in pairs)} = {self.op}({', '.join(given)})"


def _short(value: Any) -> str:
    text = f"Tensor{list(value.shape)}" if isinstance(value, hx.Tensor) else repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def op_named(name: str, *, composites: bool = False) -> Any:  # Any: an op, which is compiled
    """Return the op of that name, which is not made of others; an error says what to do."""
    found = REGISTRY.get(name)
    for namespace in (hx.ops, hx.linalg, hx.fft, hx.special):
        if found is None and hasattr(namespace, name):  # which loads what defines it
            found = REGISTRY.get(name)
    if found is None:
        from difflib import get_close_matches

        near = get_close_matches(name, REGISTRY, 1)
        hint = f"did you mean {near[0]!r}?" if near else "names are those of helixml.ops."
        raise ValueRangeError(f"operation: there is no op {name!r}. Hint: {hint}")
    if found.kind == "composite" and not composites:
        raise GraphError(
            f"operation: {name} is made of other ops and has no cost of its own. "
            "Hint: hardware.record(function, ...) gives the operations that it is made of."
        )
    return found


def _class_of(name: str) -> str:
    op = op_named(name)
    if name in _NAMES:
        return _NAMES[name]
    package, _, file = str(op.__module__).rpartition(".")
    if "topo_memory" in package.split("."):
        return "topological"
    if file in _FILES:
        return _FILES[file]
    return "elementwise" if getattr(op, "direct", False) else "general"
