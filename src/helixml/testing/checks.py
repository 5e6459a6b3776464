"""What the op harness checks: one function for each property, which gives steps to run.

`CHECKS` lists them by name. Each takes an op and a `Setting` and gives pairs of a description and a
function that raises AssertionError. Read `helixml.testing.harness` first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import numpy as np

from helixml import config, dtypes
from helixml._core import tape
from helixml._core.modes import no_grad
from helixml._core.op import Op
from helixml._core.samples import Failure, Input, Sample
from helixml._core.tensor import Tensor
from helixml.autograd import gradients
from helixml.backends import registry
from helixml.dtypes import DType
from helixml.errors import DTypeError, HelixError, InplaceError
from helixml.ops.creation import asarray, ones, tensor
from helixml.ops.elementwise import where
from helixml.ops.numbers import real
from helixml.testing.calls import (
    Call,
    Setting,
    accepts,
    call_of,
    calls,
    cotangents_of,
    count_floats,
    describes,
    differentiable_calls,
    pulled,
    samples_of,
    tensors_of,
    vjp_of,
    written_by,
)
from helixml.testing.gradcheck import check_order
from helixml.testing.inputs import LAYOUTS, widened
from helixml.testing.tolerance import assert_close, condition_of, tolerance

__all__ = ["CHECKS"]

Array = np.ndarray[Any, Any]
Steps = Iterator[tuple[str, Callable[[], None]]]  # descriptions, and what to do

# Values


def check_values(op: Op, setting: Setting) -> Steps:
    """Values, shapes and dtypes against the oracle, in every dtype; inputs unmodified."""
    for what, call in calls(op, setting):
        kinds = zip(call.arrays, call.kinds, strict=True)
        taken = accepts(op, *[a.dtype for a, kind in kinds if kind == "float"])
        yield what, partial(compare if taken else refuse, call)


def compare(call: Call, further_floats: bool = True) -> None:
    """Compare one call with the oracle.

    ``further_floats`` is False where results after the first may depend on some operands only, and
    thus have the dtype of those.
    """
    before = [a.tobytes() for a in call.arrays]
    exact = call.exact()
    wanted = call.dtypes_of_results(exact)
    try:
        results = call.run()
    except DTypeError:
        pairs = zip(call.arrays, call.kinds, strict=True)
        if any(a.dtype == bool and kind == "float" for a, kind in pairs):
            return  # arithmetic of truth values: refusing it is as good as a right answer
        raise
    for array, bits in zip(call.arrays, before, strict=True):
        if array.tobytes() != bits:  # even a declared write must not reach the caller's memory
            raise AssertionError(f"the memory of an input of shape {array.shape} was written")
    if getattr(call.op, "writes", ()):
        results = written_by(call)
        wanted = [t.dtype for t in results]  # a write casts to what it overwrites
    if len(results) != len(exact):
        raise AssertionError(f"{len(results)} results, the oracle has {len(exact)}")
    length = max([a.size for a in call.arrays], default=1)
    condition = call.condition()
    for k, result in enumerate(results):
        if k > 0 and not further_floats and dtypes.is_differentiable(result.dtype):
            wanted[k] = result.dtype
        if result.dtype != wanted[k]:
            raise AssertionError(f"result {k} is {result.dtype}, expected {wanted[k]}")
    found = [result.numpy() for result in results]
    if determined := call.op.options.get("determined"):
        shapes = [x.shape for x in found], [x.shape for x in exact]
        if shapes[0] != shapes[1]:
            raise AssertionError(f"shapes of results {shapes[0]}, expected {shapes[1]}")
        found, exact = list(determined(*found)), list(determined(*exact))
        wanted = [dtypes.result_type(*wanted)] * len(found)
    for k, (array, wide) in enumerate(zip(found, exact, strict=True)):
        bound = tolerance(call.coarsest(wanted[k]), length, condition)
        assert_close(array, narrow(wide, wanted[k]), bound, f"result {k}")


def narrow(x: Array, dtype: DType) -> Array:
    """Return exact values as ``dtype`` holds them: integers wrap, floats overflow to inf."""
    if dtypes.is_floating(dtype):
        # rounded only where that makes an infinity; otherwise the exact value is the better goal
        rounded = x.astype(dtype).astype(np.float64)
        return np.where(np.isfinite(rounded), x, rounded).astype(np.float64)
    if dtype == dtypes.bool_:
        return x.astype(bool)
    if dtypes.kind(dtype) == "c":
        return x
    return x.astype(np.int64).astype(dtype) if x.dtype.kind == "f" else x.astype(dtype)


def refuse(call: Call) -> None:
    """Raise unless the op refuses the dtypes of a call."""
    try:
        call.run()
    except DTypeError:
        return
    raise AssertionError(f"took {[str(a.dtype) for a in call.arrays]}, expected a DTypeError")


def check_layouts(op: Op, setting: Setting) -> Steps:
    """Values where inputs are strided, reversed, transposed, unaligned or read-only."""
    for number, sample in samples_of(op, setting):
        every = (dtypes.float32, dtypes.float64, dtypes.complex64)
        for dtype in every if setting.full else every[:1]:
            if dtype not in setting.dtypes or not describes(sample, op, dtype):
                continue
            call = call_of(op, number, sample, dtype, setting.device)
            if call is None:
                continue
            for name, layout in LAYOUTS.items():
                yield f"sample {number} {dtype.name} {name}", partial(compare, call.changed(layout))


_MIXES = (
    (dtypes.float32, dtypes.float64),
    (dtypes.float64, dtypes.float32),
    (dtypes.int32, dtypes.float32),
    (dtypes.float32, dtypes.int64),
    (dtypes.float16, dtypes.bfloat16),
    (dtypes.uint8, dtypes.int8),
    (dtypes.float32, dtypes.complex64),
    (dtypes.complex64, dtypes.float64),
    (dtypes.complex128, dtypes.float32),
)


def check_mixed(op: Op, setting: Setting) -> Steps:
    """Values and dtypes where every second operand has another dtype."""
    for number, sample in samples_of(op, setting):
        for mix in _MIXES:
            call = mixed_call(op, setting, number, sample, mix)
            if call is None:
                continue
            step = partial(compare, further_floats=False) if accepts(op, *mix) else refuse
            yield f"sample {number} {mix[0].name} with {mix[1].name}", partial(step, call)


def mixed_call(
    op: Op, setting: Setting, number: int, sample: Sample, mix: tuple[DType, DType]
) -> Call | None:
    """Return a call whose operands have one dtype and the other in turn; None if there is none."""
    if count_floats(sample) < 2 or not set(mix) <= set(setting.dtypes):
        return None
    if not all(dtypes.kind(dtype) in sample.kinds for dtype in mix):
        return None
    first, second = [call_of(op, number, sample, dtype, setting.device) for dtype in mix]
    if first is None or second is None:
        return None
    turn = cycle((False, True))
    triples = zip(first.arrays, second.arrays, first.kinds, strict=True)
    mixed = iter([b if kind == "float" and next(turn) else a for a, b, kind in triples])
    return first.changed(lambda _: next(mixed))


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
        x.assign_(1 if x.dtype == dtypes.bool_ else 77)
    for y, value in zip(results, values, strict=True):
        if y.numpy().tobytes() != value.tobytes():
            raise AssertionError("a write to an input changed a result")
    written = [x.numpy(copy=True) for x in call.made]
    for y in results:
        y.assign_(0)
    for x, value in zip(call.made, written, strict=True):
        if x.numpy().tobytes() != value.tobytes():
            raise AssertionError("a write to a result changed an input")


# Gradients


def check_gradients(op: Op, setting: Setting) -> Steps:
    """VJPs against difference quotients, to the order that the sample asks for.

    In float64, in complex128, and where the two meet: the gradient of a real operand is real.
    """
    for what, call, sample in differentiable_calls(op, setting, *_WIDE):
        orders = sample.orders if setting.full else 1
        yield what, partial(check_call_order, call, orders, setting)
    for number, sample in samples_of(op, setting) if accepts(op, *_WIDE) else ():
        for mix in (_WIDE, _WIDE[::-1]):
            mixed = mixed_call(op, setting, number, sample, mix)
            if mixed is not None and not sample.value_only:
                what = f"sample {number} {mix[0].name} with {mix[1].name}"
                orders = sample.orders if setting.full else 1
                yield what, partial(check_call_order, mixed, orders, setting)


_WIDE = (dtypes.float64, dtypes.complex128)


def check_call_order(call: Call, orders: int, setting: Setting) -> None:
    """Check the derivatives of a call with respect to its float arrays."""
    points = [call.arrays[i] for i in call.float_places]
    check_order(function_of(call), points, orders, setting.device)


def function_of(call: Call) -> Callable[..., list[Tensor]]:
    """Return a call as a function of its float arrays alone: what is determined of its results."""
    places = call.float_places

    def function(*tensors: Tensor) -> list[Tensor]:
        given = [asarray(a, device=call.device) for a in call.arrays]
        for place, t in zip(places, tensors, strict=True):
            given[place] = t
        return call.determined().run_on(given)

    return function


def check_backward(op: Op, setting: Setting) -> Steps:
    """Backward passes in every float dtype: dtype and shape of gradients, inputs unmodified."""
    for what, call, _ in differentiable_calls(op, setting, *dtypes.FLOATS, dtypes.complex64):
        yield what, partial(compare_backward, call)


def compare_backward(call: Call) -> None:
    """Compare the gradients of a call with those of the same values in float64."""
    call = call.determined()
    exact = call.in_float64()
    places = call.float_places
    cotangents = cotangents_of(call)
    arrays = [*call.arrays, *(c for c in cotangents if c is not None)]
    before = [a.tobytes() for a in arrays]
    _, found = vjp_of(call, places, cotangents)
    if before != [a.tobytes() for a in arrays]:
        raise AssertionError("the backward pass wrote its inputs")
    wide = [None if c is None else widened(c) for c in cotangents]
    _, wanted = vjp_of(exact, places, wide)
    if not wanted:  # nothing to differentiate: positions, comparisons
        return

    def gradients_at(*points: Array) -> list[Array]:
        queue = iter(points)
        moved = exact.changed(lambda _: next(queue))
        return [g.numpy() for g in vjp_of(moved, places, wide)[1]]

    condition = condition_of(gradients_at, exact.arrays)
    length = max([a.size for a in call.arrays], default=1)
    for place, got, want in zip(places, found, wanted, strict=True):
        dtype = call.arrays[place].dtype
        if got.dtype != dtype:
            raise AssertionError(f"the gradient of input {place} is {got.dtype}, not {dtype}")
        bound = tolerance(dtype, length, condition)
        assert_close(got.numpy(), narrow(want.numpy(), dtype), bound, f"gradient of input {place}")


def check_frozen(op: Op, setting: Setting) -> Steps:
    """Ask a gradient of one input alone: it is the same, and nothing more is saved."""
    for what, call, _ in differentiable_calls(op, setting, dtypes.float64):
        if len(call.float_places) > 1:
            yield what, partial(compare_frozen, call)


def compare_frozen(call: Call) -> None:
    """Compare gradients of each input alone with those of all together."""
    places = call.float_places
    cotangents = cotangents_of(call)
    _, together = vjp_of(call, places, cotangents)
    limit = saved_elements(call, places)
    for place, expected in zip(places, together, strict=False):
        tensors, alone = vjp_of(call, [place], cotangents)
        got = alone[0].numpy() if alone else np.zeros(expected.shape)
        assert_close(got, expected.numpy(), tolerance(dtypes.float64), f"input {place} alone")
        if any(t.grad is not None for t in tensors):
            raise AssertionError(f"gradients() of input {place} left a grad on a tensor")
        if saved_elements(call, [place]) > limit:
            raise AssertionError(f"input {place} alone saves more than all inputs together")


def saved_elements(call: Call, wanted: list[int]) -> int:
    """Return how many elements the nodes of a call keep."""
    outputs = call.run_on(tensors_of(call, wanted))
    kept: dict[int, int] = {}

    def count(value: Any) -> None:
        if isinstance(value, tape.Saved):
            kept[id(value.array)] = int(np.prod(value.array.shape))
        elif isinstance(value, tuple):
            for item in value:
                count(item)

    nodes: Any = tape.collect([y._node for y in outputs])  # type: ignore[no-untyped-call]
    for node in nodes:
        count(node.saved)
    return sum(kept.values())


def check_overwritten(op: Op, setting: Setting) -> Steps:
    """After a write to an input or a result, gradients are as before or an `InplaceError`."""
    for what, call, _ in differentiable_calls(op, setting, dtypes.float32):
        for place in range(len(call.arrays)):
            yield f"{what} input {place}", partial(compare_overwritten, call, place, True)
        yield f"{what} results", partial(compare_overwritten_results, call)


def compare_overwritten_results(call: Call) -> None:
    """Write one result after the other."""
    for place in range(len(cotangents_of(call))):
        compare_overwritten(call, place, False)


def compare_overwritten(call: Call, place: int, is_input: bool) -> None:
    """Write one input, or one result through another name of it, and walk backward."""
    places = call.float_places
    cotangents = cotangents_of(call)
    _, expected = vjp_of(call, places, cotangents)
    tensors = [tensor(a, device=call.device) for a in call.arrays]
    for i in places:
        tensors[i].requires_grad = True
    outputs = call.run_on(tensors)
    with no_grad():
        (tensors[place] if is_input else outputs[place].detach()).assign_(0)
    try:
        found = pulled(call, outputs, [tensors[i] for i in places], cotangents)
    except InplaceError:
        return
    for got, want in zip(found, expected, strict=True):
        if got.numpy().tobytes() != want.numpy().tobytes():
            raise AssertionError("a write after the forward pass changed a gradient silently")


# Kernels


def check_kernels(op: Op, setting: Setting) -> Steps:
    """Each kernel against the definition in float64, forward and backward; and without it."""
    table = registry.get(setting.device).kernels
    names = (op.name, op.name + "_vjp")
    layouts = {"plain": lambda a: a, **(LAYOUTS if setting.full else {})}
    for number, sample in samples_of(op, setting):
        for dtype in (dtypes.float32, dtypes.float64):
            call = call_of(op, number, sample, dtype, setting.device)
            if call is None or dtype not in setting.dtypes:
                continue
            for layout, change in layouts.items():
                what = f"sample {number} {dtype.name} {layout}"
                yield what, partial(compare_without, (), call.changed(change), dtype, change)
            for removed in (names[1:], names) if setting.full else ():
                if set(removed) & set(table):
                    what = f"sample {number} {dtype.name} without {', '.join(removed)}"
                    yield what, partial(compare_without, removed, call, dtype, layouts["plain"])
    for name in set(names) & set(table) if config.get().kernels else ():
        yield "choice", partial(compare_choice, op, setting, name)


def compare_without(
    removed: tuple[str, ...], call: Call, dtype: DType, layout: Callable[[Array], Array]
) -> None:
    """Compare a call with its definition, or an in-place op with its oracle."""
    with registry.get(call.device).kernels.without(*removed):
        if getattr(call.op, "writes", ()):
            compare(call)
        else:
            compare_with_definition(call, dtype, layout)


def compare_with_definition(call: Call, dtype: DType, layout: Callable[[Array], Array]) -> None:
    """Compare values and gradients with the definition in float64; cotangents get the layout."""
    exact = call.in_float64()
    table = registry.get(exact.device).kernels
    before = [a.tobytes() for a in call.arrays]
    results = call.run()

    def definition(*arrays: Array) -> list[Array]:
        with table.without(*list(table)):
            tensors = [asarray(a, device=exact.device) for a in arrays]
            return [y.numpy() for y in exact.run_on(tensors)]

    condition = condition_of(definition, exact.arrays)
    length = max([a.size for a in call.arrays], default=1)
    bound = tolerance(dtype, length, condition)
    for k, (got, want) in enumerate(zip(results, definition(*exact.arrays), strict=True)):
        assert_close(got.numpy(), want, bound, f"result {k}")

    places = call.float_places
    every = cotangents_of(call)
    chosen = [every]
    if len(every) > 1:  # and each output alone
        chosen += [[c if i == k else None for i, c in enumerate(every)] for k in range(len(every))]
    for cotangents in chosen:
        laid = [None if c is None else layout(c) for c in cotangents]
        _, found = vjp_of(call, places, laid)
        with table.without(*list(table)):
            _, wanted = vjp_of(exact, places, cotangents)
        for place, g, goal in zip(places, found, wanted, strict=True):
            assert_close(g.numpy(), goal.numpy(), bound, f"gradient of input {place}")
    if before != [a.tobytes() for a in call.arrays]:
        raise AssertionError("a kernel wrote its inputs")


def compare_choice(op: Any, setting: Setting, name: str) -> None:
    """Check that a declared kernel takes one of the samples, else nothing here has tried it."""
    table = registry.get(setting.device).kernels
    for number, sample in samples_of(op, setting):
        for dtype in (d for d in setting.dtypes if dtypes.is_floating(d)):
            call = call_of(op, number, sample, dtype, setting.device)
            if call is not None:
                inputs, attributes = op.bind(tuple(call.args), call.kwargs)
                if table.find(name, inputs, attributes, op.integers) is not None:
                    return
    raise AssertionError(f"no sample is computed by the kernel {name}")


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
                good = np.array([item.low <= x < item.high for x in _OUTSIDE])
                for dtype in (dtypes.float32, dtypes.complex64):
                    if describes(sample, op, dtype):
                        step = partial(compare_singular, op, setting, place, middles, good, dtype)
                        yield f"sample {number} input {place} {dtype.name}", step


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
    op: Any, setting: Setting, place: int, operands: list[Any], good: Array, dtype: DType
) -> None:
    """Check the gradient of ``where(good, op(..., x, ...), 0)`` where x leaves its domain."""
    x = asarray(_OUTSIDE.astype(dtype), device=setting.device)
    x.requires_grad = True
    y = op(*operands[:place], x, *operands[place + 1 :])
    if not y.requires_grad:
        return
    y = where(asarray(good, device=setting.device), y, 0)
    g = gradients(real(y).sum(), x).numpy()
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


def check_misuse(op: Op, setting: Setting) -> Steps:
    """Give one wrong argument: the call works, or raises the library's own error."""
    for number, sample in samples_of(op, setting):
        call = call_of(op, number, sample, dtypes.float32, setting.device)
        if call is None or dtypes.float32 not in setting.dtypes:
            continue
        args, kwargs = call.with_arrays(lambda a: tensor(a, device=setting.device))
        for place, value in enumerate(args):
            for what, wrong in wrong_values(value, setting):
                changed = [*args[:place], wrong, *args[place + 1 :]]
                yield f"sample {number} input {place}: {what}", partial(misuse, op, changed, kwargs)
                if place < len(op.inputs) and not op.variadic:
                    named = {**kwargs, **dict(zip(op.inputs, changed, strict=False))}
                    label = f"sample {number} {op.inputs[place]}={what}"
                    yield label, partial(misuse, op, [], named)
        for name in op.attributes:
            for what, wrong in wrong_values(None, setting):
                named = {**kwargs, name: wrong}
                yield f"sample {number} {name}={what}", partial(misuse, op, args, named)
        yield "too many arguments", partial(misuse, op, [*args, *[1] * 12], kwargs)
        yield "an unknown argument", partial(misuse, op, args, {**kwargs, "surprise": 1})
        yield "no arguments", partial(misuse, op, [], {})


def wrong_values(value: Any, setting: Setting) -> Iterator[tuple[str, Any]]:
    """Give values that hardly fit where ``value`` does, described."""
    wrong: list[Any] = ["text", None, 1, 1.5, -7, 10**30, float, {}, object()]
    wrong += [(0, 0), [1], (1, "a"), [[1], [1, 2]], np.array(["a"]), np.ones(2)]
    for other in wrong:
        yield repr(other), other
    if isinstance(value, Tensor):
        shape, dtype = value.shape, value.dtype
        for size in ((1, *shape), tuple(n + 1 for n in shape), (), (0,)):
            yield f"shape {size}", ones(size, dtype, setting.device)
        for kind in (dtypes.bool_, dtypes.int64, dtypes.float16, dtypes.complex64):
            if kind in setting.dtypes:
                yield kind.name, ones(shape, kind, setting.device)


def misuse(op: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Make a call that may fail, but only with the library's own errors."""
    try:
        with no_grad():
            op(*args, **kwargs)
    except HelixError:
        return


CHECKS: dict[str, Callable[[Op, Setting], Steps]] = {
    "values": check_values,
    "layouts": check_layouts,
    "mixed": check_mixed,
    "aliasing": check_aliasing,
    "gradients": check_gradients,
    "backward": check_backward,
    "frozen": check_frozen,
    "overwritten": check_overwritten,
    "kernels": check_kernels,
    "singular": check_singular,
    "errors": check_errors,
    "misuse": check_misuse,
}
