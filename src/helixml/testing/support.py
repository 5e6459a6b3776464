"""The support table: which op runs on which backend, in which dtypes, and by what.

    python -m helixml.testing.contract --table [NAME ...]

Nothing in it is typed in. Rows are the registered ops; a dtype stands in a cell if the op's first
sample of that dtype gave the oracle's values on that backend just now. What computed it is watched
meanwhile: a kernel, the definition, the backend's own array function, or the host. `survey` gives
the cells, `markdown` lays them out. That gradients, layouts and all other samples are right too is
what the contract checks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helixml import dtypes, ops
from helixml._core.op import REGISTRY, Op, Primitive
from helixml._core.tensor import Tensor
from helixml.backends import registry
from helixml.dtypes import DType
from helixml.errors import DTypeError
from helixml.testing.calls import Call, accepts, call_of, count_floats
from helixml.testing.checks import compare

__all__ = ["LETTERS", "Cell", "cell_of", "markdown", "survey"]

LETTERS = {
    "K": "a kernel of the backend's own",
    "D": "its definition, in terms of other ops",
    "F": "the backend's array functions",
    "H": "the host, in part at least: values go there and come back",
}
# Families of dtypes that a cell names by one word where it has all of them that the backend holds.
_FAMILIES = {"int": "i", "uint": "u"}
_SHORT = {
    **{"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"},
    **{"complex64": "c64", "complex128": "c128"},
}


@dataclass
class Cell:
    """What one backend makes of one op.

    Attributes
    ----------
    served : by letter, the dtypes in which the values are right; None for an op of no dtype.
    lacking : dtypes that the op takes and the backend does not hold: a stated limitation.
    failed : messages by dtype; a hole that nobody stated.
    sampled : whether the op has samples; without, other checks hold it.
    """

    served: dict[str, list[DType | None]] = field(default_factory=dict)
    lacking: list[DType] = field(default_factory=list)
    failed: dict[DType | None, str] = field(default_factory=dict)
    sampled: bool = True


@dataclass
class Watched(Call):
    """A call that notes which kernels it finds, and whether values come back from the host."""

    found: set[str] = field(default_factory=set)
    by_host: bool = False

    def run(self, make: Any = None) -> list[Tensor]:
        """Call the op while it is watched."""
        with self._watching():
            return super().run(make)

    @contextmanager
    def _watching(self) -> Iterator[None]:
        backend: Any = registry.get(self.device)  # Any: functions of it are replaced for a while
        find, asarray = backend.kernels.find, backend.asarray
        to_numpy, take = backend.to_numpy, backend.take
        checks_range = on_host = False

        def finding(name: str, *arguments: Any) -> Any:
            kernel = find(name, *arguments)
            if kernel is not None:
                self.found.add(name)
            return kernel

        def taking(*operands: Any, **options: Any) -> Any:
            nonlocal checks_range
            checks_range = True  # `take` must refuse indices, and may look at them on the host
            try:
                return take(*operands, **options)
            finally:
                checks_range = False

        def leaving(x: Any, /) -> Any:
            nonlocal on_host
            on_host |= not (checks_range and dtypes.kind(backend.dtype_of(x)) in "iu")
            return to_numpy(x)

        def coming(value: Any, /, **options: Any) -> Any:
            self.by_host |= on_host and isinstance(value, np.ndarray)
            return asarray(value, **options)

        with ExitStack() as stack:
            stack.enter_context(replaced(backend.kernels, find=finding))
            if backend.array_type is not np.ndarray:  # otherwise the host is the device
                functions = {"asarray": coming, "to_numpy": leaving, "take": taking}
                stack.enter_context(replaced(backend, **functions))
            yield

    @property
    def letter(self) -> str:
        """Return what computed it, as a key of `LETTERS`."""
        if self.by_host:
            return "H"
        if self.op.name in self.found:
            return "K"
        return "F" if isinstance(self.op, Primitive) else "D"


@contextmanager
def replaced(owner: Any, **functions: Callable[..., Any]) -> Iterator[None]:
    """Put functions in the place of an object's own, for a block of code."""
    own = {name: vars(owner)[name] for name in functions if name in vars(owner)}
    vars(owner).update(functions)
    try:
        yield
    finally:
        for name in functions:
            del vars(owner)[name]
        vars(owner).update(own)


def survey(
    devices: Iterable[str], names: Iterable[str] | None = None
) -> dict[str, dict[str, Cell]]:
    """Return the cells of every op, or of those of some ``names``, by op and device.

    Raises
    ------
    DeviceError : nothing serves a device.
    """
    ops.load_all()
    chosen = [REGISTRY[name] for name in (REGISTRY if names is None else set(names))]
    devices = list(devices)
    return {
        op.name: {device: cell_of(op, device) for device in devices}
        for op in sorted(chosen, key=lambda op: op.name)
    }


def cell_of(op: Op, device: str) -> Cell:
    """Return what the backend of ``device`` makes of an op."""
    cell = Cell(sampled=op.make_samples is not None)
    held = registry.get(device).dtypes
    for dtype, call in first_calls(op, held):
        lacking = [kind for kind in asked_of(call) if kind not in held]
        if lacking:
            cell.lacking.append(lacking[0])
            continue
        call.device = device
        watched = Watched(**vars(call))
        try:
            with np.errstate(all="ignore"):
                if op.oracle is None:
                    watched.run()
                else:
                    compare(watched)
        except DTypeError as error:
            if dtype != dtypes.bool_:  # arithmetic of truth values may be refused
                cell.failed[dtype] = repr(error)
        except Exception as error:  # whatever it is: the table shows that it is not served
            cell.failed[dtype] = repr(error)
        else:
            cell.served.setdefault(watched.letter, []).append(dtype)
    return cell


def first_calls(op: Op, held: Collection[DType]) -> Iterator[tuple[DType | None, Call]]:
    """Give a call for each dtype that an op takes; for an op of no dtype, one with None.

    It is that of the first sample which asks for dtypes in ``held`` only, or else of the first.
    """
    samples = list(enumerate(op.make_samples())) if op.make_samples else []
    for dtype in dtypes.ALL if any(count_floats(s) for _, s in samples) else (None,):
        kind = dtypes.float32 if dtype is None else dtype
        found: Call | None = None
        for number, sample in samples:
            if dtype is not None and not (
                count_floats(sample) and dtypes.kind(dtype) in sample.kinds and accepts(op, dtype)
            ):
                continue
            call = call_of(op, number, sample, kind, "cpu")
            if call is None:
                continue
            found = found or call
            if all(asked in held for asked in asked_of(call)):
                found = call
                break
        if found is not None:
            yield dtype, found


def asked_of(call: Call) -> list[DType]:
    """Return the dtypes of a call's arrays, and that which it asks for, if it does."""
    asked = call.kwargs.get("dtype")
    return [a.dtype for a in call.arrays] + ([] if asked is None else [dtypes.parse(asked)])


# Markdown


def markdown(cells: dict[str, dict[str, Cell]]) -> str:
    """Return the table of a `survey`, what its letters mean, and a footnote for each hole."""
    devices = list(next(iter(cells.values()), {}))
    notes: dict[str, int] = {}

    def note(text: str) -> str:
        return f"[^{notes.setdefault(text, len(notes) + 1)}]"

    lines = ["| op | " + " | ".join(devices) + " |", "|:--" * (len(devices) + 1) + "|"]
    for name, row in cells.items():
        texts = [_text(cell, device, note) for device, cell in row.items()]
        lines.append(f"| {name} | " + " | ".join(texts) + " |")
    lines += ["", ", ".join(f"{letter}: {text}" for letter, text in LETTERS.items()) + "."]
    lines += [f"\n[^{number}]: {text}" for text, number in notes.items()]
    return "\n".join(lines)


def _text(cell: Cell, device: str, note: Callable[[str], str]) -> str:
    if not cell.sampled:
        return "-" + note("Has no samples; the checks of array functions hold it.")
    held = registry.get(device).dtypes
    parts = [f"{letter} {short(found, held)}" for letter, found in sorted(cell.served.items())]
    text = "; ".join(parts) or "-"
    if cell.lacking:
        lacking = [dtype.name for dtype in dtypes.ALL if dtype not in held]
        text += note(f"{device} holds no {', '.join(lacking)}.")
    if cell.failed:
        dtype, message = next(iter(cell.failed.items()))
        where = "any dtype" if dtype is None else dtype.name
        text += note(f"FAILS in {where}: {message:.200}".replace("\n", " "))
    return text


def short(found: list[DType | None], held: Iterable[DType]) -> str:
    """Return dtypes in short: a family that is whole, among those ``held``, by one word.

    >>> short([dtypes.int8, dtypes.int16, dtypes.float32], [dtypes.int8, dtypes.int16])
    'int f32'
    """
    rest = [dtype for dtype in found if dtype is not None]  # not ==: NumPy takes None for float64
    if len(rest) < len(found):
        return "any"
    words = []
    for word, kind in _FAMILIES.items():
        family = [dtype for dtype in held if dtypes.kind(dtype) == kind]
        if family and set(family) <= set(rest):
            words.append(word)
            rest = [dtype for dtype in rest if dtype not in family]
    return " ".join(words + [_SHORT.get(dtype.name, dtype.name) for dtype in rest])
