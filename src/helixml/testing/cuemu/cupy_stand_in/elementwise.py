"""ElementwiseKernel and ReductionKernel: a line of CUDA gets a kernel around it.

For each combination of dtypes one kernel is compiled. Operands are broadcast to contiguous copies
first, where CuPy computes with strides: results are the same, addresses are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any  # operands: arrays of the device, NumPy scalars, Python numbers

import numpy as np

from helixml.testing.cuemu.cupy_stand_in.arrays import Array
from helixml.testing.cuemu.cupy_stand_in.calculation import unwrap
from helixml.testing.cuemu.kernels import Module

__all__ = ["ElementwiseKernel", "ReductionKernel"]

_TYPES = {
    "bool": "bool",
    "int8": "signed char",
    "int16": "short",
    "int32": "int",
    "int64": "long long",
    "uint8": "unsigned char",
    "uint16": "unsigned short",
    "uint32": "unsigned int",
    "uint64": "unsigned long long",
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
    "float32": "float",
    "float64": "double",
}
_INCLUDES = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
_BLOCK = 128


@dataclass(frozen=True)
class _Parameter:
    """A declared operand: ``raw T x`` or ``float32 y``."""

    name: str
    kind: str
    raw: bool

    def dtype(self, kinds: dict[str, np.dtype]) -> np.dtype:
        """Its dtype, where the letters for dtypes are known."""
        return kinds[self.kind] if len(self.kind) == 1 else np.dtype(self.kind)


def _parameters(text: str) -> list[_Parameter]:
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        match = re.fullmatch(r"(raw\s+)?(\w+)\s+(\w+)", part)
        if not match or (len(match[2]) > 1 and match[2] not in _TYPES):
            raise ValueError(f"parameter {part!r} is not of the form: raw TYPE NAME, raw optional")
        found.append(_Parameter(match[3], match[2], bool(match[1])))
    return found


class _Generated:
    """What both kinds of kernels share: operands, dtypes, compiled modules."""

    _array_type: type[Array]

    def __init__(self, in_params: str, out_params: str, name: str, preamble: str) -> None:
        self.name = self.__name__ = name
        self._in, self._out = _parameters(in_params), _parameters(out_params)
        self._preamble = preamble
        self._modules: dict[str, Module] = {}

    def _operands(self, args: Sequence[Any]) -> tuple[list[Any], dict[str, np.dtype]]:
        """Return what was given as NumPy's, and the dtypes that letters stand for."""
        if len(args) not in (len(self._in), len(self._in) + len(self._out)):
            raise TypeError(
                f"Wrong number of arguments for {self.name}: {len(args)}; it takes "
                f"{len(self._in)} inputs and {len(self._out)} outputs"
            )
        raws = [unwrap(x, self._array_type) for x in args]
        kinds: dict[str, np.dtype] = {}
        for parameter, raw in zip([*self._in, *self._out], raws, strict=False):
            if not isinstance(raw, (np.ndarray, np.generic)):
                continue
            if len(parameter.kind) == 1:
                kinds.setdefault(parameter.kind, raw.dtype)
            expected = parameter.dtype(kinds)
            if isinstance(raw, np.ndarray) and raw.dtype != expected:
                raise TypeError(
                    f"{self.name}: {parameter.name} is {parameter.kind}, {expected}; "
                    f"an array of {raw.dtype} was given"
                )
        for parameter, raw in zip(self._in, raws, strict=False):
            if len(parameter.kind) == 1:
                kinds.setdefault(parameter.kind, np.asarray(raw).dtype)
        missing = [p.kind for p in self._out if len(p.kind) == 1 and p.kind not in kinds]
        if missing:
            raise TypeError(f"{self.name}: nothing says what {missing[0]} is")
        return raws, kinds

    def _launch(self, source: str, threads: int, arguments: list[Any], *sizes: int) -> None:
        if source not in self._modules:
            self._modules[source] = Module(_INCLUDES + self._preamble + source)
        kernel = self._modules[source][self.name]
        kernel((-(-threads // _BLOCK),), (_BLOCK,), [*arguments, *map(np.int64, sizes)])

    def _source(self, kinds: dict[str, np.dtype], sizes: str, body: str) -> str:
        pointers = [
            f"const {self._type(p, kinds)}* {p.name if p.raw else '_p_' + p.name}" for p in self._in
        ] + [f"{self._type(p, kinds)}* {p.name if p.raw else '_p_' + p.name}" for p in self._out]
        letters = "".join(
            f"typedef {_TYPES[kind.name]} {letter}; " for letter, kind in kinds.items()
        )
        return (
            f'extern "C" __global__ void {self.name}({", ".join(pointers)}, {sizes}) {{\n'
            f"long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;\n"
            f"{letters}\nif (i >= _size) return;\n{body}\n}}\n"
        )

    def _type(self, parameter: _Parameter, kinds: dict[str, np.dtype]) -> str:
        return _TYPES[parameter.dtype(kinds).name]

    def _references(self, kinds: dict[str, np.dtype], which: Sequence[_Parameter], at: str) -> str:
        return " ".join(
            f"{'const ' if p in self._in else ''}{self._type(p, kinds)}& {p.name} = "
            f"_p_{p.name}[{at}];"
            for p in which
            if not p.raw
        )


class ElementwiseKernel(_Generated):
    """Run a line of CUDA for each entry: ``ElementwiseKernel("T x, T y", "T z", "z = x * y")``."""

    def __init__(
        self,
        in_params: str,
        out_params: str,
        operation: str,
        name: str = "kernel",
        reduce_dims: bool = True,
        preamble: str = "",
    ) -> None:
        super().__init__(in_params, out_params, name, preamble)
        self._operation = operation

    def __call__(
        self, *args: Any, size: int | None = None, block_size: int = _BLOCK, stream: Any = None
    ) -> Any:
        """Return the outputs: those given after the inputs, or new ones."""
        raws, kinds = self._operands(args)
        both = [*self._in, *self._out]
        shaped = [x for p, x in zip(both, raws, strict=False) if not p.raw and np.ndim(x)]
        if size is None and not shaped and all(p.raw for p in self._in):
            raise ValueError(f"{self.name}: only raw inputs. Hint: give size=")
        shape = np.broadcast_shapes(*(np.shape(x) for x in shaped)) if size is None else (size,)
        outputs = list(args[len(self._in) :])
        outputs = outputs or [self._array_type(shape, p.dtype(kinds)) for p in self._out]
        targets = [unwrap(x, self._array_type) for x in outputs]
        body = self._references(kinds, both, "i") + f"\n{self._operation};"
        source = self._source(kinds, "long long _size", body)

        def run() -> None:
            given = zip(self._in, raws, strict=False)
            inputs = [_spread(p, x, p.dtype(kinds), shape) for p, x in given]
            direct = [np.ascontiguousarray(target) for target in targets]
            count = int(np.prod(shape))
            if count:
                self._launch(source, count, [*inputs, *direct], count)
            for target, result in zip(targets, direct, strict=True):
                if result is not target:
                    target[...] = result

        record = self._array_type._record
        record.launches[self.name] += 1
        record.queues.submit(run, stream)
        return outputs[0] if len(outputs) == 1 else tuple(outputs)


class ReductionKernel(_Generated):
    """Reduce axes: ``ReductionKernel("T x", "T y", "x * x", "a + b", "y = sqrt(a)", "0")``."""

    def __init__(
        self,
        in_params: str,
        out_params: str,
        map_expr: str,
        reduce_expr: str,
        post_map_expr: str,
        identity: str,
        name: str = "reduce_kernel",
        reduce_type: str | None = None,
        reduce_dims: bool = True,
        preamble: str = "",
    ) -> None:
        super().__init__(in_params, out_params, name, preamble)
        if len(self._out) != 1 or any(p.raw for p in self._in):
            raise ValueError(f"{name}: the stand-in takes one output and no raw inputs")
        self._map, self._reduce, self._post = map_expr, reduce_expr, post_map_expr
        self._identity, self._reduce_type = identity, reduce_type

    def __call__(
        self,
        *args: Any,
        out: Any = None,
        axis: int | tuple[int, ...] | None = None,
        keepdims: bool = False,
        stream: Any = None,
    ) -> Any:
        """Return the output, over all axes or those given."""
        raws, kinds = self._operands([*args, *([] if out is None else [out])])
        raws = raws[: len(self._in)]
        shape = np.broadcast_shapes(*(np.shape(x) for x in raws))
        given = range(len(shape)) if axis is None else (axis,) if isinstance(axis, int) else axis
        axes = [a % len(shape) for a in given]
        kept = [a for a in range(len(shape)) if a not in axes]
        result = tuple(
            1 if a in axes else n for a, n in enumerate(shape) if keepdims or a not in axes
        )
        (parameter,) = self._out
        output = self._array_type(result, parameter.dtype(kinds)) if out is None else out
        target = unwrap(output, self._array_type)
        kind = self._reduce_type or self._type(parameter, kinds)
        kind = _TYPES.get(kind, kind)
        body = (
            f"{kind} _sum = ({kind})({self._identity});\n"
            f"for (long long _j = 0; _j < _length; _j++) {{ "
            f"{self._references(kinds, self._in, 'i * _length + _j')}\n"
            f"{kind} a = _sum, b = ({kind})({self._map}); _sum = ({self._reduce}); }}\n"
            f"{kind} a = _sum; {self._references(kinds, self._out, 'i')}\n{self._post};"
        )
        source = self._source(kinds, "long long _size, long long _length", body)

        def run() -> None:
            inputs = []
            for p, x in zip(self._in, raws, strict=True):
                spread = _spread(p, x, p.dtype(kinds), shape)
                inputs.append(np.ascontiguousarray(spread.transpose([*kept, *axes])))
            direct = np.ascontiguousarray(target)
            length = int(np.prod([shape[a] for a in axes]))
            if direct.size:
                self._launch(source, direct.size, [*inputs, direct], direct.size, length)
            target[...] = direct.reshape(target.shape)

        record = self._array_type._record
        record.launches[self.name] += 1
        record.queues.submit(run, stream)
        return output


def _spread(parameter: _Parameter, x: Any, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Return an operand as an entry for each place; a raw one as it is."""
    if parameter.raw:
        return np.ascontiguousarray(x)
    return np.ascontiguousarray(np.broadcast_to(np.asarray(x).astype(dtype), shape))
