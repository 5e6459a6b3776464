"""Calls of ops that their samples describe, and what the oracle says of each.

A `Call` holds an op and NumPy arrays. It can be run on tensors, on other arrays of the same shapes,
or given to the oracle in float64; it knows which dtypes its results should have. Which calls are
made for whom is the business of `helixml.testing.checks`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from helixml import dtypes
from helixml._core.modes import no_grad
from helixml._core.op import Op, Primitive
from helixml._core.samples import Input, Sample
from helixml._core.tensor import Tensor
from helixml.autograd import gradients
from helixml.backends import registry
from helixml.dtypes import DType
from helixml.ops.creation import asarray
from helixml.testing.inputs import materialize, normal, replace_arrays, widened
from helixml.testing.tolerance import condition_of, epsilon

__all__ = [
    "Call",
    "Setting",
    "accepts",
    "call_of",
    "cotangents_of",
    "samples_of",
    "vjp_of",
    "written_by",
]

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Setting:
    """Where and how much to check.

    Attributes
    ----------
    device : name of the device.
    dtypes : those that the device holds.
    full : every sample, dtype and layout; otherwise the first sample in each dtype.
    """

    device: str = "cpu"
    dtypes: tuple[DType, ...] = dtypes.ALL
    full: bool = True


@dataclass
class Call:
    """One call of an op on arrays.

    Attributes
    ----------
    args, kwargs : as the op takes them, with NumPy arrays in place of tensors.
    kinds : for each array in order, the kind of the `Input` that it came from.
    made : for each array in order, the tensor that the last `run` made of it.
    """

    op: Op
    args: list[Any]
    kwargs: dict[str, Any]
    device: str
    kinds: list[str]
    made: list[Tensor] = field(default_factory=list)

    @property
    def arrays(self) -> list[Array]:
        """The arrays among the arguments, in order."""
        found: list[Array] = []
        for value in (*self.args, *self.kwargs.values()):
            replace_arrays(value, found.append)
        return found

    @property
    def float_places(self) -> list[int]:
        """Which of the arrays are floats or complex."""
        return [i for i, a in enumerate(self.arrays) if dtypes.is_differentiable(a.dtype)]

    def with_arrays(self, function: Callable[[Array], Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments with each array replaced."""
        args = [replace_arrays(value, function) for value in self.args]
        return args, {k: replace_arrays(value, function) for k, value in self.kwargs.items()}

    def changed(self, function: Callable[[Array], Array]) -> Self:
        """Return the same call with each array replaced."""
        args, kwargs = self.with_arrays(function)
        return type(self)(self.op, args, kwargs, self.device, self.kinds)

    def determined(self) -> Call:
        """Return the same call, with what is determined of its results in their place."""
        return _Determined(self.op, self.args, self.kwargs, self.device, self.kinds)

    def in_float64(self) -> Self:
        """Return the same call with its float arrays in float64, complex ones in complex128.

        A device that has no float64 leaves it to the CPU.
        """
        wide = self.changed(lambda a: widened(a) if dtypes.is_differentiable(a.dtype) else a)
        if not holds(self.device, dtypes.float64):
            wide.device = "cpu"
        return wide

    def run(self, make: Callable[[Array], Tensor] | None = None) -> list[Tensor]:
        """Call the op on tensors that share the arrays (or that ``make`` makes of them)."""
        self.made = []

        def tensor_of(array: Array) -> Tensor:
            made = asarray(array, device=self.device) if make is None else make(array)
            self.made.append(made)
            return made

        return self._called(tensor_of)

    def run_on(self, tensors: list[Tensor]) -> list[Tensor]:
        """Call the op with ``tensors`` in place of the arrays, in order."""
        queue = iter(tensors)
        return self._called(lambda _: next(queue))

    def _called(self, function: Callable[[Array], Tensor]) -> list[Tensor]:
        args, kwargs = self.with_arrays(function)
        op: Any = self.op  # each kind of op is callable in its own way
        result = op(*args, **kwargs)
        if result is None:
            return []
        return list(result) if isinstance(result, (tuple, list)) else [result]

    # The oracle

    def oracle(self, arrays: list[Array]) -> list[Array]:
        """Call the oracle with ``arrays`` in place of the arrays."""
        assert self.op.oracle is not None
        queue = iter(arrays)
        args, kwargs = self.with_arrays(lambda _: next(queue))
        result = self.op.oracle(*args, **kwargs)
        several = isinstance(result, (tuple, list))
        return [np.asarray(r) for r in (result if several else [result])]

    def wide(self) -> list[Array]:
        """Return the arrays' exact values as oracles take them: in float64 or complex128."""
        pairs = zip(self.arrays, self.kinds, strict=True)
        return [widened(a) if kind == "float" else a for a, kind in pairs]

    def exact(self) -> list[Array]:
        """Return the oracle's results for the arrays' exact values."""
        return self.oracle(self.wide())

    def condition(self) -> float:
        """Return the condition of this call."""
        determined = self.op.options.get("determined", lambda *results: results)

        def results(*arrays: Array) -> list[Array]:
            return list(determined(*self.oracle(list(arrays))))

        return condition_of(results, self.wide())

    def dtypes_of_results(self, exact: list[Array]) -> list[DType]:
        """Return the dtypes that the results should have, by the rules of `helixml.dtypes`.

        Whether a result is boolean, an integer or a float is what the oracle gives for arrays of
        these dtypes; floats get the width that the operands promote to, and so do integers unless
        the oracle gives 64 bits (sums, positions).
        """
        try:
            native = self.oracle(self.arrays)
        except TypeError:  # NumPy does not subtract booleans, say
            native = exact
        common = self.promoted()
        found: list[DType] = []
        for wide, plain in zip(exact, native, strict=True):
            if wide.dtype == bool or self.op.options.get("exact_dtype") is False:
                found.append(plain.dtype)
            elif wide.dtype.kind in "iu":  # positions
                found.append(dtypes.int64)
            elif plain.dtype.kind in "biu":
                kept = plain.dtype.itemsize == 8 or common == dtypes.bool_
                found.append(plain.dtype if kept else common)
            else:
                complex_or_float = dtypes.as_float(common)
                is_real = wide.dtype.kind == "f"
                found.append(dtypes.real_of(complex_or_float) if is_real else complex_or_float)
        return found

    def promoted(self) -> DType:
        """Return the dtype that the operands promote to."""
        chosen = getattr(self.op, "promotes", None)
        operands: list[Any] = []
        for i, value in enumerate(self.args):
            if chosen is not None and not chosen[i]:
                continue
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, np.ndarray):
                    operands.append(item.dtype)
                elif item is not None:
                    operands.append(type(item))
        return dtypes.result_type(*operands)

    def coarsest(self, dtype: DType) -> DType:
        """Return the float dtype of the most rounding: operands of composite ops have their own."""
        if isinstance(self.op, Primitive) or not dtypes.is_differentiable(dtype):
            return dtype
        floats = [dtype, *(dtypes.as_float(a.dtype) for a in self.arrays)]
        return max(floats, key=epsilon)


def accepts(op: Op, *found: DType) -> bool:
    """Say whether an op takes operands of these dtypes."""
    kinds = op.options.get("kinds", "buifc" if op.real_only is None else "buif")
    taken = op.options.get("dtypes", found)
    return all(dtypes.kind(dtype) in kinds and dtype in taken for dtype in found)


def describes(sample: Sample, op: Op, dtype: DType) -> bool:
    """Say whether a sample means something in ``dtype`` if that is complex; in others it does."""
    return dtypes.kind(dtype) != "c" or (accepts(op, dtype) and "c" in sample.kinds)


def samples_of(op: Op, setting: Setting) -> list[tuple[int, Sample]]:
    """Return the samples to check, with their numbers."""
    assert op.make_samples is not None
    found = list(enumerate(op.make_samples()))
    return found if setting.full else found[:1]


def call_of(op: Op, number: int, sample: Sample, dtype: DType, device: str) -> Call | None:
    """Return the call that ``sample`` describes, in ``dtype``; None if there is no such."""
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {number} {dtype.name}".encode()))
    made = materialize(sample, dtype, rng)
    if made is None or not holds(device, made[1].get("dtype")):
        return None
    return Call(op, *made, device, [i.kind for i in inputs_of(sample)])


def holds(device: str, dtype: Any) -> bool:
    """Say whether a device has the dtype that a sample asks for, if it asks for one."""
    held = getattr(registry.get(device), "dtypes", dtypes.ALL)
    return dtype is None or dtypes.parse(dtype) in held


def inputs_of(sample: Sample) -> list[Input]:
    """Return the random inputs of a sample, flat."""
    found = []
    for item in (*sample.inputs, *sample.attributes.values()):
        found += item if isinstance(item, list) else [item]
    return [item for item in found if isinstance(item, Input)]


def count_floats(sample: Sample) -> int:
    """Return how many inputs of a sample may be of any dtype."""
    return sum(item.kind == "float" for item in inputs_of(sample))


def calls(op: Op, setting: Setting) -> Iterator[tuple[str, Call]]:
    """Give a call for each sample and dtype, described."""
    for number, sample in samples_of(op, setting):
        for dtype in setting.dtypes if count_floats(sample) else (dtypes.float32,):
            if dtypes.kind(dtype) not in sample.kinds:
                continue
            call = call_of(op, number, sample, dtype, setting.device)
            if call is not None and all(a.dtype in setting.dtypes for a in call.arrays):
                yield f"sample {number} {dtype.name}", call


def differentiable_calls(
    op: Op, setting: Setting, *wanted: DType
) -> Iterator[tuple[str, Call, Sample]]:
    """Give the calls in the ``wanted`` dtypes whose gradients mean something, described."""
    for number, sample in samples_of(op, setting):
        if sample.value_only or not count_floats(sample):
            continue
        for dtype in wanted:
            if dtype not in setting.dtypes or not describes(sample, op, dtype):
                continue
            call = call_of(op, number, sample, dtype, setting.device)
            if call is not None and accepts(op, dtype):
                yield f"sample {number} {dtype.name}", call, sample


def written_by(call: Call) -> list[Tensor]:
    """Return the tensors that the op declares to write, in its order."""
    names = getattr(call.op, "writes", ())
    made = iter(call.made)
    found: list[Tensor] = []
    for name, value in zip(call.op.inputs, call.args, strict=False):
        items = value if isinstance(value, list) else [value]
        tensors = [next(made) for item in items if isinstance(item, np.ndarray)]
        if name in names:
            found += tensors
    return found


# Gradients of a call


class _Determined(Call):
    """A call whose results are what is determined of an op's: what two devices must agree on."""

    def _called(self, function: Callable[[Array], Tensor]) -> list[Tensor]:
        results = super()._called(function)
        determined = self.op.options.get("determined")
        return results if determined is None else list(determined(*results))


def cotangents_of(call: Call, seed: int = 5) -> list[Array | None]:
    """Return random cotangents for the results of a call, in the dtypes of its floats."""
    rng = np.random.default_rng(seed)
    with no_grad():
        outputs = call.run()
    found: list[Array | None] = []
    for y in outputs:
        carries = dtypes.is_differentiable(y.dtype)
        found.append(normal(rng, y.shape, y.dtype).astype(y.dtype) if carries else None)
    return found


def vjp_of(
    call: Call, wanted: list[int], cotangents: list[Array | None]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return (all inputs, gradients) of a call where only the inputs at ``wanted`` require them.

    An output whose cotangent is None plays no part. Without any output left there are no gradients.
    """
    tensors = tensors_of(call, wanted)
    return tensors, pulled(call, call.run_on(tensors), [tensors[i] for i in wanted], cotangents)


def tensors_of(call: Call, wanted: list[int]) -> list[Tensor]:
    """Return tensors that share the arrays of a call; those at ``wanted`` require gradients."""
    tensors = [asarray(a, device=call.device) for a in call.arrays]
    for i in wanted:
        tensors[i].requires_grad = True
    return tensors


def pulled(
    call: Call, outputs: list[Tensor], xs: list[Tensor], cotangents: list[Array | None]
) -> list[Tensor]:
    """Return the gradients of ``outputs`` at ``xs``."""
    pairs = zip(outputs, cotangents, strict=True)
    live = [(y, c) for y, c in pairs if c is not None and y.requires_grad]
    if not live:
        return []
    starts = [asarray(c.astype(y.dtype, copy=False), device=call.device) for y, c in live]
    return list(gradients([y for y, _ in live], xs, cotangents=starts))
