"""The op harness: what each op says of itself, turned into checks.

An op's samples, error samples and oracle become: values in every dtype and memory layout, VJPs
against difference quotients to second order, kernels against definitions, frozen and unmodified
inputs, singular derivatives behind `where`, error texts. Nothing here names an op: what an op is
exempt from follows from its properties, and from `Op.options`:

- ``kinds`` : kinds of dtypes (of ``bool``, ``int`` and ``float``) that its float inputs may also
  have; all by default. A call with another must raise `DTypeError`.
- ``exact_dtype`` : False where the oracle itself decides the dtype of the result.

`plan` lists the checks for one device; `helixml.testing.contract` and the tests run them.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

from helixml import config, dtypes
from helixml._core.modes import no_grad
from helixml._core.op import REGISTRY, Fused, Op, Primitive
from helixml._core.samples import Failure, Input, Sample
from helixml._core.tensor import Tensor
from helixml.autograd import gradients
from helixml.backends import registry
from helixml.dtypes import DType
from helixml.errors import DTypeError
from helixml.ops.creation import asarray, tensor
from helixml.ops.elementwise import where
from helixml.testing.gradcheck import check_order
from helixml.testing.inputs import LAYOUTS, materialize, replace_arrays
from helixml.testing.tolerance import assert_close, condition_of, tolerance

__all__ = ["CHECKS", "Check", "Setting", "failures", "plan"]

Array = np.ndarray[Any, Any]
REAL = (dtypes.bool_, *dtypes.SIGNED, *dtypes.UNSIGNED, *dtypes.FLOATS)


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
    dtypes: tuple[DType, ...] = REAL
    full: bool = True


@dataclass(frozen=True)
class Check:
    """One check of one op; `run` raises AssertionError with everything that failed."""

    op: Op
    name: str
    setting: Setting

    def __str__(self) -> str:
        return f"{self.op.name}-{self.name}"

    def run(self) -> None:
        """Run the check."""
        failures: list[str] = []
        cause: Exception | None = None
        with np.errstate(all="ignore"):
            for what, step in CHECKS[self.name](self.op, self.setting):
                try:
                    step()
                except AssertionError as error:
                    failures.append(f"{what}: {error}")
                except Exception as error:  # the harness goes on: one table of all failures
                    failures.append(f"{what}: {error!r}")
                    cause = cause or error
        if failures:
            raise AssertionError(f"{self.op.name}:\n  " + "\n  ".join(failures)) from cause


# What a check function gives: descriptions, and what to do.
Steps = Iterator[tuple[str, Callable[[], None]]]


def plan(
    device: str = "cpu", dtypes: tuple[DType, ...] | None = None, full: bool = True
) -> Iterator[Check]:
    """List the checks of every op with samples on ``device``.

    Parameters
    ----------
    device : name of the device.
    dtypes : those to check; what the backend's ``dtypes`` says, or all real ones, if left out.
    full : every sample, dtype and layout; otherwise one sample in each dtype.
    """
    held = dtypes or getattr(registry.get(device), "dtypes", None) or REAL
    setting = Setting(device, tuple(held), full)
    for op in list(REGISTRY.values()):
        if op.make_samples is None:
            continue
        for name in CHECKS:
            if applies(op, name):
                yield Check(op, name, setting)


def failures(
    device: str = "cpu", dtypes: tuple[DType, ...] | None = None, full: bool = True
) -> list[str]:
    """Run the checks of `plan` and return the messages of those that failed."""
    found = []
    for check in plan(device, dtypes, full):
        try:
            check.run()
        except AssertionError as error:
            found.append(f"{check}: {error}")
    return found


def applies(op: Op, name: str) -> bool:
    """Say whether a check says anything of an op."""
    writes = bool(getattr(op, "writes", ()))
    if name == "kernels":
        return isinstance(op, Fused)
    if name == "errors":
        return op.make_errors is not None
    if name in ("values", "layouts", "mixed"):
        return op.oracle is not None
    if name == "singular":
        return isinstance(op, Primitive) and op.plain and op.oracle is not None
    return not writes  # gradients and what they leave alone


# One call


@dataclass
class Call:
    """An op, the arrays of one call of it, and what the oracle says of them."""

    op: Op
    args: list[Any]
    kwargs: dict[str, Any]
    device: str
    kinds: list[str]  # of the arrays, as the sample has them
    made: list[Tensor] = field(default_factory=list)

    @property
    def arrays(self) -> list[Array]:
        """The arrays among the arguments, in order."""
        found: list[Array] = []
        for value in (*self.args, *self.kwargs.values()):
            replace_arrays(value, found.append)
        return found

    def changed(self, function: Callable[[Array], Array]) -> Call:
        """Return the same call with each array replaced."""
        args, kwargs = self.with_arrays(function)
        return Call(self.op, args, kwargs, self.device, self.kinds)

    def with_arrays(self, function: Callable[[Array], Any]) -> tuple[list[Any], dict[str, Any]]:
        """Return the arguments with each array replaced."""
        args = [replace_arrays(value, function) for value in self.args]
        return args, {k: replace_arrays(value, function) for k, value in self.kwargs.items()}

    def run(self, make: Callable[[Array], Tensor] | None = None) -> list[Tensor]:
        """Call the op on tensors that share the arrays (or that ``make`` makes of them)."""
        self.made = []

        def tensor_of(array: Array) -> Tensor:
            made = asarray(array, device=self.device) if make is None else make(array)
            self.made.append(made)
            return made

        args, kwargs = self.with_arrays(tensor_of)
        return listed(self.op(*args, **kwargs))

    def run_on(self, tensors: list[Tensor]) -> list[Tensor]:
        """Call the op with ``tensors`` in place of the arrays, in order."""
        queue = iter(tensors)
        args, kwargs = self.with_arrays(lambda _: next(queue))
        return listed(self.op(*args, **kwargs))

    def oracle(self, arrays: list[Array]) -> list[Array]:
        """Call the oracle with ``arrays`` in place of the arrays."""
        assert self.op.oracle is not None
        queue = iter(arrays)
        args, kwargs = self.with_arrays(lambda _: next(queue))
        result = self.op.oracle(*args, **kwargs)
        several = isinstance(result, (tuple, list))
        return [np.asarray(r) for r in (result if several else [result])]

    def exact(self) -> list[Array]:
        """Return the oracle's results for the arrays' exact values."""
        return self.oracle(self.wide())

    def wide(self) -> list[Array]:
        """Return the arrays' exact values as oracles take them: numbers in float64."""
        pairs = zip(self.arrays, self.kinds, strict=True)
        return [a.astype(np.float64) if kind == "float" else a for a, kind in pairs]

    def condition(self) -> float:
        """Return the condition of this call."""
        return condition_of(lambda *arrays: self.oracle(list(arrays)), self.wide())

    def dtypes_of_results(self, exact: list[Array]) -> list[DType]:
        """Return the dtypes that the results should have, by the rules of `helixml.dtypes`.

        Whether a result is boolean, an integer or a float is what the oracle gives for arrays of
        these dtypes; floats get the width that the operands promote to, and so do integers unless
        the oracle gives 64 bits (sums, positions).
        """
        try:
            native = self.oracle(self.arrays)
        except TypeError:
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
                found.append(dtypes.as_float(common))
        return found

    def coarsest(self, dtype: DType) -> DType:
        """Return the float dtype of the most rounding: operands of composite ops have their own."""
        if isinstance(self.op, Primitive) or not dtypes.is_floating(dtype):
            return dtype
        floats = [dtype, *(a.dtype for a in self.arrays if dtypes.is_floating(a.dtype))]
        floats += [dtypes.default_float for a in self.arrays if not dtypes.is_floating(a.dtype)]
        return max(floats, key=lambda d: float(ml_dtypes.finfo(d).eps))

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


def listed(result: Any) -> list[Tensor]:
    """Return the results of an op as a list."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def _in_float64(x: Array) -> Array:
    return x.astype(np.float64) if dtypes.is_floating(x.dtype) else x


def samples_of(op: Op, setting: Setting) -> list[tuple[int, Sample]]:
    """Return the samples to check, with their numbers."""
    assert op.make_samples is not None
    found = list(enumerate(op.make_samples()))
    return found if setting.full else found[:1]


def call_of(op: Op, number: int, sample: Sample, dtype: DType, device: str) -> Call | None:
    """Return the call that ``sample`` describes, in ``dtype``; None if there is no such."""
    rng = np.random.default_rng(zlib.crc32(f"{op.name} {number} {dtype.name}".encode()))
    made = materialize(sample, dtype, rng)
    return None if made is None else Call(op, *made, device, [i.kind for i in inputs_of(sample)])


def has_floats(sample: Sample) -> bool:
    """Say whether a sample has inputs that may be of any dtype."""
    return any(item.kind == "float" for item in inputs_of(sample))


def inputs_of(sample: Sample) -> list[Input]:
    """Return the random inputs of a sample, flat."""
    found = []
    for item in (*sample.inputs, *sample.attributes.values()):
        found += [part for part in (item if isinstance(item, list) else [item])]
    return [item for item in found if isinstance(item, Input)]


def accepts(op: Op, dtype: DType) -> bool:
    """Say whether an op takes operands of ``dtype``."""
    return dtypes.kind(dtype) in op.options.get("kinds", "buif")


def calls(op: Op, setting: Setting) -> Iterator[tuple[str, Call, Sample]]:
    """Give every call to check, described."""
    for number, sample in samples_of(op, setting):
        for dtype in setting.dtypes if has_floats(sample) else (dtypes.float32,):
            if dtypes.kind(dtype) not in sample.kinds:
                continue
            call = call_of(op, number, sample, dtype, setting.device)
            if call is not None and all(a.dtype in setting.dtypes for a in call.arrays):
                yield f"sample {number} {dtype.name}", call, sample


# Values


def check_values(op: Op, setting: Setting) -> Steps:
    """Values, shapes and dtypes against the oracle, in every dtype; inputs unmodified."""
    for what, call, _ in calls(op, setting):
        kinds = zip(call.arrays, call.kinds, strict=True)
        taken = all(accepts(op, a.dtype) for a, kind in kinds if kind == "float")
        yield what, partial(compare if taken else refuse, call)


def compare(call: Call, further_floats: bool = True) -> None:
    """Compare one call with the oracle.

    ``further_floats`` is False where results after the first may depend on some operands only, and
    thus have the dtype of those.
    """
    before = [a.tobytes() for a in call.arrays]
    exact = call.exact()
    expected_dtypes = call.dtypes_of_results(exact)
    try:
        results = call.run()
    except DTypeError:
        if any(a.dtype == bool for a, k in zip(call.arrays, call.kinds, strict=True) if k == "float"):
            return  # arithmetic of truth values: refusing it is as good as a right answer
        raise
    for array, bits in zip(call.arrays, before, strict=True):
        if array.tobytes() != bits:  # even a declared write must not reach the caller's memory
            raise AssertionError(f"the memory of an input of shape {array.shape} was written")
    if getattr(call.op, "writes", ()):
        results = written_by(call)
        expected_dtypes = [t.dtype for t in results]  # a write casts to what it overwrites
    if len(results) != len(exact):
        raise AssertionError(f"{len(results)} results, the oracle has {len(exact)}")
    length = max([a.size for a in call.arrays], default=1)
    condition = call.condition()
    for k, (tensor, wide, dtype) in enumerate(zip(results, exact, expected_dtypes, strict=True)):
        if k > 0 and not further_floats and dtypes.is_floating(tensor.dtype):
            dtype = tensor.dtype  # noqa: PLW2901
        if tensor.dtype != dtype:
            raise AssertionError(f"result {k} is {tensor.dtype}, expected {dtype}")
        bound = tolerance(call.coarsest(dtype), length, condition)
        assert_close(tensor.numpy(), _narrow(wide, dtype), bound, f"result {k}")


def written_by(call: Call) -> list[Tensor]:
    """Return the tensors that the op declares to write, in its order."""
    names = getattr(call.op, "writes", ())
    made = iter(call.made)
    pairs = [(n, next(made)) for n, a in zip(call.op.inputs, call.args) if isinstance(a, np.ndarray)]
    return [tensor for name, tensor in pairs if name in names]


def _narrow(x: Array, dtype: DType) -> Array:
    """Return exact values as ``dtype`` holds them: integers wrap, floats overflow to inf."""
    if dtypes.is_floating(dtype):
        # rounded only where that makes an infinity; otherwise the exact value is the better goal
        rounded = x.astype(dtype).astype(np.float64)
        return np.where(np.isfinite(rounded), x, rounded).astype(np.float64)
    if dtype == dtypes.bool_:
        return x.astype(bool)
    return x.astype(np.int64).astype(dtype) if x.dtype.kind == "f" else x.astype(dtype)


def refuse(call: Call) -> None:
    """Raise unless the op refuses the dtypes of a call."""
    try:
        call.run()
    except DTypeError:
        return
    raise AssertionError(f"took {[str(a.dtype) for a in call.arrays]}, expected a DTypeError")


def check_layouts(op: Op, setting: Setting) -> Steps:
    """Values and gradients of strided, reversed, transposed and unaligned inputs."""
    for number, sample in samples_of(op, setting):
        for name, layout in LAYOUTS.items() if has_floats(sample) else ():
            for dtype in (dtypes.float32, dtypes.float64) if setting.full else (dtypes.float32,):
                call = call_of(op, number, sample, dtype, setting.device)
                if call is None or dtype not in setting.dtypes:
                    continue
                laid = call.changed(layout)
                yield f"sample {number} {dtype.name} {name}", partial(compare, laid)


def check_aliasing(op: Op, setting: Setting) -> Steps:
    """No write to an input is seen in a result, nor the other way round."""
    for number, sample in samples_of(op, setting):
        call = call_of(op, number, sample, dtypes.float32, setting.device)
        if call is not None:
            yield f"sample {number}", partial(compare_aliasing, call)


def compare_aliasing(call: Call) -> None:
    """Write inputs, then results, and look at the others."""
    results = call.run(lambda a: tensor(a, device=call.device))
    values = [y.numpy(copy=True) for y in results]
    for x in call.made:
        if x.size:
            x.assign_(1 if x.dtype == dtypes.bool_ else 77)
    for y, value in zip(results, values, strict=True):
        if y.numpy().tobytes() != value.tobytes():
            raise AssertionError("a write to an input changed a result")
    written = [x.numpy(copy=True) for x in call.made]
    for y in results:
        if y.size:
            y.assign_(0)
    for x, value in zip(call.made, written, strict=True):
        if x.numpy().tobytes() != value.tobytes():
            raise AssertionError("a write to a result changed an input")


def check_mixed(op: Op, setting: Setting) -> Steps:
    """Values and dtypes where operands have different dtypes."""
    mixes = [(dtypes.float32, dtypes.float64), (dtypes.float64, dtypes.float32)]
    mixes += [(dtypes.int32, dtypes.float32), (dtypes.float32, dtypes.int64)]
    mixes += [(dtypes.float16, dtypes.bfloat16), (dtypes.uint8, dtypes.int8)]
    for number, sample in samples_of(op, setting):
        if sum(item.kind == "float" for item in inputs_of(sample)) < 2:
            continue
        for one, two in mixes:
            pair = [call_of(op, number, sample, d, setting.device) for d in (one, two)]
            if pair[0] is None or pair[1] is None or not {one, two} <= set(setting.dtypes):
                continue
            if dtypes.kind(one) not in sample.kinds or dtypes.kind(two) not in sample.kinds:
                continue
            both = zip(pair[0].arrays, pair[1].arrays, strict=True)
            mixed = iter([b if i % 2 else a for i, (a, b) in enumerate(both)])
            call = pair[0].changed(lambda _, mixed=mixed: next(mixed))  # type: ignore[misc]
            taken = accepts(op, one) and accepts(op, two)
            step = partial(compare, further_floats=False) if taken else refuse
            yield f"sample {number} {one.name} with {two.name}", partial(step, call)


# Gradients


def split_inputs(call: Call) -> tuple[list[int], Callable[..., list[Tensor]]]:
    """Return the places of float inputs, and the op as a function of those alone."""
    arrays = call.arrays
    places = [i for i, a in enumerate(arrays) if dtypes.is_floating(a.dtype)]
    fixed = [asarray(a, device=call.device) for a in arrays]

    def function(*tensors: Tensor) -> list[Tensor]:
        given = list(fixed)
        for place, tensor in zip(places, tensors, strict=True):
            given[place] = tensor
        return call.run_on(given)

    return places, function


def differentiable_calls(op: Op, setting: Setting, dtype: DType) -> Iterator[tuple[str, Call, Sample]]:
    """Give the calls whose gradients mean something, in ``dtype``."""
    if dtype not in setting.dtypes:
        return
    for number, sample in samples_of(op, setting):
        if sample.value_only or not has_floats(sample):
            continue
        call = call_of(op, number, sample, dtype, setting.device)
        if call is not None:
            yield f"sample {number}", call, sample


def check_gradients(op: Op, setting: Setting) -> Steps:
    """VJPs against difference quotients in float64, to the order that the sample asks for."""
    for what, call, sample in differentiable_calls(op, setting, dtypes.float64):
        places, function = split_inputs(call)
        points = [call.arrays[i] for i in places]
        orders = sample.orders if setting.full else 1
        yield what, partial(check_order, function, points, orders, setting.device)


def vjp_of(
    call: Call, wanted: list[int], cotangents: list[Array]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return (all inputs, gradients) of a call where only the inputs at ``wanted`` require them."""
    tensors = [asarray(a, device=call.device) for a in call.arrays]
    for i in wanted:
        tensors[i].requires_grad = True
    outputs = call.run_on(tensors)
    pairs = [(y, c) for y, c in zip(outputs, cotangents, strict=True) if y.requires_grad]
    if not pairs:
        return tensors, []
    starts = [asarray(c.astype(y.dtype), device=call.device) for y, c in pairs]
    found = gradients([y for y, _ in pairs], [tensors[i] for i in wanted], cotangents=starts)
    return tensors, list(found)


def cotangents_of(call: Call, seed: int = 5) -> list[Array]:
    """Return random cotangents for the results of a call, float64."""
    rng = np.random.default_rng(seed)
    with no_grad():
        outputs = call.run()
    return [np.asarray(rng.normal(size=y.shape)) for y in outputs]


def check_frozen(op: Op, setting: Setting) -> Steps:
    """A gradient asked of one input alone: it is the same, and nothing more is saved."""
    for what, call, _ in differentiable_calls(op, setting, dtypes.float64):
        places = [i for i, a in enumerate(call.arrays) if dtypes.is_floating(a.dtype)]
        if len(places) < 2:
            continue
        yield what, partial(compare_frozen, call, places)


def compare_frozen(call: Call, places: list[int]) -> None:
    """Compare gradients of each input alone with those of all together."""
    cotangents = cotangents_of(call)
    _, together = vjp_of(call, places, cotangents)
    if not together:
        return
    all_saved = saved_bytes(call, places)
    for place, expected in zip(places, together, strict=True):
        tensors, alone = vjp_of(call, [place], cotangents)
        got = alone[0].numpy() if alone else np.zeros(expected.shape)
        assert_close(got, expected.numpy(), tolerance(dtypes.float64), f"input {place} alone")
        for i, t in enumerate(tensors):
            if t.grad is not None:
                raise AssertionError(f"input {i} got a grad from gradients() of input {place}")
        if saved_bytes(call, [place]) > all_saved:
            raise AssertionError(f"input {place} alone saves more than all inputs together")


def saved_bytes(call: Call, wanted: list[int]) -> int:
    """Return how much memory the nodes of a call keep, beside its inputs."""
    from helixml._core import tape  # noqa: PLC0415

    tensors = [asarray(a, device=call.device) for a in call.arrays]
    for i in wanted:
        tensors[i].requires_grad = True
    outputs = call.run_on(tensors)
    kept: dict[int, int] = {}

    def count(value: Any) -> None:
        if isinstance(value, tape.Saved):
            kept[id(value.array)] = int(np.prod(value.array.shape))
        elif isinstance(value, tuple):
            for item in value:
                count(item)

    for node in tape.collect([y._node for y in outputs if y._node is not None]):
        count(node.saved)
    return sum(kept.values())


def check_backward(op: Op, setting: Setting) -> Steps:
    """Backward passes in every float dtype: dtype and shape of gradients, inputs unmodified."""
    for dtype in dtypes.FLOATS:
        for what, call, sample in differentiable_calls(op, setting, dtype):
            yield f"{what} {dtype.name}", partial(compare_backward, call, dtype)


def compare_backward(call: Call, dtype: DType) -> None:
    """Compare the gradients of a call with those of the same values in float64."""
    exact = call.changed(_in_float64)
    places = [i for i, a in enumerate(call.arrays) if dtypes.is_floating(a.dtype)]
    cotangents = [c.astype(dtype) for c in cotangents_of(call)]
    before = [a.tobytes() for a in (*call.arrays, *cotangents)]
    tensors, found = vjp_of(call, places, cotangents)
    if before != [a.tobytes() for a in (*call.arrays, *cotangents)]:
        raise AssertionError("the backward pass wrote its inputs")
    wide = [c.astype(np.float64) for c in cotangents]
    _, wanted = vjp_of(exact, places, wide)

    def gradients_at(*arrays: Array) -> list[Array]:
        queue = iter(arrays)
        moved = exact.changed(lambda _: next(queue))
        return [g.numpy() for g in vjp_of(moved, places, wide)[1]]

    if not wanted:  # nothing to differentiate: positions, comparisons
        return

    condition = condition_of(gradients_at, exact.arrays)
    length = max([a.size for a in call.arrays], default=1)
    for place, got, want in zip(places, found, wanted, strict=True):
        if got.dtype != dtype:
            raise AssertionError(f"the gradient of input {place} is {got.dtype}, not {dtype}")
        bound = tolerance(dtype, length, condition)
        assert_close(got.numpy(), _narrow(want.numpy(), dtype), bound, f"gradient of input {place}")


# Kernels


def check_kernels(op: Op, setting: Setting) -> Steps:
    """Each kernel against the definition in float64, forward and backward; and without it."""
    table = registry.get(setting.device).kernels
    names = (op.name, op.name + "_vjp")
    for dtype in (dtypes.float32, dtypes.float64):
        if dtype not in setting.dtypes:
            continue
        for number, sample in samples_of(op, setting):
            call = call_of(op, number, sample, dtype, setting.device)
            if call is None:
                continue
            layouts = {"plain": lambda a: a, **(LAYOUTS if setting.full else {})}
            for layout, change in layouts.items():
                for removed in ((), names[1:], names):
                    if removed and (layout != "plain" or not setting.full):
                        continue
                    if removed and not set(removed) & set(table):
                        continue
                    laid = call.changed(change)
                    label = f"sample {number} {dtype.name} {layout}"
                    label += f" without {', '.join(removed)}" if removed else ""

                    yield label, partial(compare_without, removed, laid, dtype)
    for name in set(names) & set(table) if config.get().kernels else ():
        yield "choice", partial(compare_choice, op, setting, name)


def compare_without(removed: tuple[str, ...], call: Call, dtype: DType) -> None:
    """Compare a call with the definition, or an in-place op with the oracle, without some kernels."""
    with registry.get(call.device).kernels.without(*removed):
        if getattr(call.op, "writes", ()):
            compare(call)
        else:
            compare_with_definition(call, dtype)


def compare_choice(op: Op, setting: Setting, name: str) -> None:
    """Check that a declared kernel takes one of the samples, else nothing here has tried it."""
    table = registry.get(setting.device).kernels
    for number, sample in samples_of(op, setting):
        for dtype in setting.dtypes:
            call = call_of(op, number, sample, dtype, setting.device)
            if call is None or dtypes.kind(dtype) != "f":
                continue
            inputs, attributes = op.bind(call.args, call.kwargs)
            if table.find(name, inputs, attributes) is not None:
                return
    raise AssertionError(f"no sample is computed by the kernel {name}")


def compare_with_definition(call: Call, dtype: DType) -> None:
    """Compare values and gradients of a call with the definition in float64."""
    table = registry.get(call.device).kernels
    exact = call.changed(_in_float64)
    before = [a.tobytes() for a in call.arrays]
    results = call.run()
    with table.without(*list(table)):
        wanted = [y.numpy() for y in exact.run()]

        def definition(*arrays: Array) -> list[Array]:
            tensors = [asarray(a, device=call.device) for a in arrays]
            return [y.numpy() for y in exact.run_on(tensors)]

        condition = condition_of(definition, exact.arrays)
    length = max([a.size for a in call.arrays], default=1)
    bound = tolerance(dtype, length, condition)
    for k, (got, want) in enumerate(zip(results, wanted, strict=True)):
        assert_close(got.numpy(), want, bound, f"result {k}")

    places = [i for i, a in enumerate(call.arrays) if dtypes.is_floating(a.dtype)]
    cotangents = [c.astype(dtype) for c in cotangents_of(call)]
    _, found = vjp_of(call, places, cotangents)
    with table.without(*list(table)):
        _, goals = vjp_of(exact, places, [c.astype(np.float64) for c in cotangents])
    for place, gradient, goal in zip(places, found, goals, strict=True):
        assert_close(gradient.numpy(), goal.numpy(), bound, f"gradient of input {place}")
    if before != [a.tobytes() for a in call.arrays]:
        raise AssertionError("a kernel wrote its inputs")


# Singular derivatives

_OUTSIDE = np.array([-1000.0, -2.0, -1.0, -0.5, -0.0, 0.0, 0.5, 1.0, 3.0, 1000.0])


def check_singular(op: Op, setting: Setting) -> Steps:
    """No nan comes back through ``where`` from entries outside the domain of a sample."""
    for number, sample in samples_of(op, setting):
        given = [item for item in sample.inputs if isinstance(item, Input)]
        if sample.value_only or not all(i.kind == "float" and i.values is None for i in given):
            continue
        middles = [
            0.5 * (i.low + i.high) + 0.01 if isinstance(i, Input) else i for i in sample.inputs
        ]
        if not is_elementwise(op, middles):
            return
        for place, item in enumerate(sample.inputs):
            if isinstance(item, Input):
                good = (_OUTSIDE >= item.low) & (_OUTSIDE < item.high)
                step = partial(compare_singular, op, setting, place, middles, good)
                yield f"sample {number} input {place}", step


def is_elementwise(op: Op, operands: list[Any]) -> bool:
    """Say whether each result of an op depends on the operands at its own position only."""
    assert op.oracle is not None
    spread = [np.full(3, x, np.float64) for x in operands]
    try:
        before = np.asarray(op.oracle(*spread))
        spread[0][1] *= 1.01
        after = np.asarray(op.oracle(*spread))
    except (TypeError, ValueError):  # takes no such shapes
        return False
    return before.shape == (3,) and bool((before[[0, 2]] == after[[0, 2]]).all())


def compare_singular(
    op: Op, setting: Setting, place: int, operands: list[Any], good: Array
) -> None:
    """Check the gradient of ``where(good, op(..., x, ...), 0)`` where x leaves its domain."""
    x = asarray(_OUTSIDE.astype(np.float32), device=setting.device)
    x.requires_grad = True
    y = op(*operands[:place], x, *operands[place + 1 :])
    if not y.requires_grad:
        return
    y = where(asarray(good, device=setting.device), y, 0)
    g = gradients(y.sum(), x).numpy()
    if not (g[~good] == 0).all():
        raise AssertionError(f"behind where, at {_OUTSIDE[~good]} the gradient is {g[~good]}")


# Errors


def check_errors(op: Op, setting: Setting) -> Steps:
    """Each error sample raises its error, with its text, which opens with a name and a colon."""
    assert op.make_errors is not None
    for number, failure in enumerate(op.make_errors()):
        yield f"error {number}", partial(compare_error, failure)


def compare_error(failure: Failure) -> None:
    """Make a call that must fail and check how it does."""
    try:
        failure.call()
    except failure.error as error:
        text = str(error)
    else:
        raise AssertionError(f"no {failure.error.__name__} ({failure.pattern})")
    if not re.search(failure.pattern, text):
        raise AssertionError(f"{text!r} does not match {failure.pattern!r}")
    if not re.match(r"\w+: ", text):
        raise AssertionError(f"{text!r} does not open with the op's name")


CHECKS: dict[str, Callable[[Op, Setting], Steps]] = {
    "values": check_values,
    "layouts": check_layouts,
    "mixed": check_mixed,
    "aliasing": check_aliasing,
    "gradients": check_gradients,
    "backward": check_backward,
    "frozen": check_frozen,
    "kernels": check_kernels,
    "singular": check_singular,
    "errors": check_errors,
}
