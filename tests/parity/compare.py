"""Run an entry's samples in PyTorch and in helixml, and say how the answers differ.

An answer is the outputs, their dtypes and shapes, and the gradients that random cotangents give.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import torch

import helixml
from parity.lookup import NotOffered
from parity.table import Entry

REAL = (torch.float32, torch.float64)
COMPLEX = (torch.complex64, torch.complex128)
# Those of torch.testing.assert_close, but relative to the largest entry rather than absolute.
TOLERANCE = {4: 1.3e-6, 8: 1e-7}
WIDER = {torch.float32: torch.float64, torch.complex64: torch.complex128}
FLOATS_OF = {
    torch.complex64: 4,
    torch.complex128: 8,
    torch.float32: 4,
    torch.float64: 8,
    torch.int64: 8,
}
DTYPES = {
    getattr(torch, name.rstrip("_")): getattr(helixml, name)
    for name in (
        *("bool_", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64", "complex64", "complex128"),
    )
}


@dataclass
class Outcome:
    """What came of one sample: ``kind`` is "agrees" or what differs first, ``detail`` how."""

    entry: str
    dtype: str
    number: int
    sample: Any
    kind: str
    detail: str = ""

    @property
    def is_complex(self) -> bool:
        return self.dtype.startswith("complex")

    def described(self) -> str:
        """Describe the sample and what happened."""
        values = (self.sample.input, *self.sample.args)
        words = [described(v) for v in values]
        words += [f"{k}={described(v)}" for k, v in self.sample.kwargs.items()]
        call = f"{self.entry}({', '.join(words)})"
        return f"{call} [{self.dtype} {self.number}] {self.kind}: {self.detail}"


def described(value: Any) -> str:
    """Say what an argument is: of a tensor its shape."""
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype)[6:]}{tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value)) + "]"
    return repr(value)


def samples(op: Any, dtype: torch.dtype) -> Iterator[Any]:
    """Give the samples of an entry in one dtype, the same ones each time."""
    seed = zlib.crc32(f"{op.name} {op.variant_test_name} {dtype}".encode())
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  what PyTorch's generators draw from
    wants = op.supports_autograd and dtype in op.supported_backward_dtypes("cpu")
    yield from op.sample_inputs("cpu", dtype, requires_grad=wants)


def run(name: str, op: Any, entry: Entry, dtype: torch.dtype) -> Iterator[Outcome]:
    """Give the outcome of each sample that PyTorch itself can compute."""
    for number, sample in enumerate(samples(op, dtype)):
        try:
            answer = ask(op, entry, sample, dtype)
        except NotOffered as missing:
            answer = "not offered", str(missing)
        if answer is not None:
            yield Outcome(name, str(dtype)[6:], number, sample, *answer)


def ask(op: Any, entry: Entry, sample: Any, dtype: torch.dtype) -> tuple[str, str] | None:
    """Return (what differs, how) of one sample; None if PyTorch has no answer."""
    found = compared_with(op, entry, sample, sample, dtype)
    if found is not None and found[0] in ("value", "gradient") and dtype in WIDER:
        # One of two roundings: what the same numbers give in 64 bits decides whose is worse.
        again = compared_with(op, entry, sample, sample.transform(widened), dtype)
        return again if again is not None and again[0] == "agrees" else found
    return found


def widened(value: Any) -> Any:
    """Return a tensor, or the dtype of a result, in the width of reference values."""
    if isinstance(value, torch.dtype):
        return WIDER.get(value, value)
    if isinstance(value, torch.Tensor) and value.dtype in WIDER:
        return value.detach().to(WIDER[value.dtype]).requires_grad_(value.requires_grad)
    return value


def compared_with(
    op: Any, entry: Entry, sample: Any, reference: Any, dtype: torch.dtype
) -> tuple[str, str] | None:
    """Compare our answer for ``sample`` with PyTorch's for ``reference``, the same numbers."""
    arguments = (sample.input, *sample.args)
    first = reference.input if entry.behind is None else entry.behind(reference.input)
    references = (first, *reference.args)
    exact = reference is not sample
    ours_of: dict[int, Any] = {}
    args = [translated(value, ours_of) for value in arguments]
    kwargs = {key: translated(value, ours_of) for key, value in sample.kwargs.items()}
    try:
        theirs = op(*references, **reference.kwargs)
    except (RuntimeError, NotImplementedError, IndexError, ValueError):
        return None
    try:
        ours = entry.call(*args, **kwargs)
        wide = (entry.tolerance or 1) * TOLERANCE[FLOATS_OF[dtype]]
        theirs, ours = flat(entry.compared(theirs)), flat(entry.compared(ours))
        difference = compare_values(theirs, ours, wide, exact)
        if difference:
            return difference
        leaves = leaves_of(reference)
        ours_at = [ours_of[id(v)] for v in leaves_of(sample)]
        return compare_gradients(leaves, ours_at, theirs, ours, wide)
    except NotOffered:
        raise
    except helixml.errors.HelixError as error:
        if "unexpected keyword argument" in str(error):
            raise NotOffered(str(error)) from error
        return "refused", f"{type(error).__name__}: {error}"
    except Exception as error:  # that the call ends in an error of another kind is a finding
        return "fault", f"{type(error).__name__}: {error}"


def translated(value: Any, made: dict[int, Any]) -> Any:
    """Return an argument as helixml takes it; tensors are noted in ``made`` by their identity."""
    if isinstance(value, torch.Tensor):
        if id(value) not in made:
            made[id(value)] = tensor_of(value)
        return made[id(value)]
    if isinstance(value, torch.dtype):
        return DTYPES[value]
    if isinstance(value, (list, tuple)):
        return type(value)(translated(item, made) for item in value) if value else value
    return value


def tensor_of(value: torch.Tensor) -> Any:
    """Return a tensor of helixml with the same values and strides."""
    made = helixml.asarray(array_of(value.detach().resolve_conj().resolve_neg()))
    made.requires_grad = value.requires_grad
    return made


def array_of(value: torch.Tensor) -> np.ndarray[Any, Any]:
    """Return a tensor's memory as an array."""
    if value.dtype == torch.bfloat16:  # which PyTorch does not give to NumPy
        return value.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy(force=True)


def flat(outputs: Any) -> list[Any]:
    """Return the outputs as a list; what is no tensor becomes one for either side to compare."""
    if isinstance(outputs, (tuple, list)):
        return [part for item in outputs for part in flat(item)]
    return [outputs]


def numbers(value: Any) -> np.ndarray[Any, Any]:
    """Return an output of either side as an array."""
    if isinstance(value, torch.Tensor):
        value = value.detach().resolve_conj().resolve_neg()
        return array_of(value)
    return np.asarray(value.detach() if isinstance(value, helixml.Tensor) else value)


def compare_values(
    theirs: list[Any], ours: list[Any], wide: float, exact: bool
) -> tuple[str, str] | None:
    """Return how the outputs differ; None if they agree."""
    if len(theirs) != len(ours):
        return "outputs", f"{len(ours)} for {len(theirs)}"
    for t, o in zip(map(numbers, theirs), map(numbers, ours), strict=True):
        if t.shape != o.shape:
            return "shape", f"{o.shape} for {t.shape}"
        if t.dtype.kind != o.dtype.kind or (
            t.dtype.kind in "fc" and t.dtype != o.dtype and not exact
        ):
            return "dtype", f"{o.dtype} for {t.dtype}"
        detail = difference(t, o, wide)
        if detail:
            return "value", detail
    return None


def difference(theirs: np.ndarray[Any, Any], ours: np.ndarray[Any, Any], wide: float) -> str | None:
    """Return where two arrays differ; None if they agree."""
    same = (theirs == ours) | ((theirs != theirs) & (ours != ours))
    if theirs.dtype.kind in "fc":
        finite = np.abs(theirs[np.isfinite(theirs)])
        scale = finite.max(initial=0.0)
        with np.errstate(all="ignore"):
            same |= np.abs(ours - theirs) <= wide * (np.abs(theirs) + scale)
    if same.all():
        return None
    place = tuple(int(i) for i in np.argwhere(~same)[0])
    return f"{ours[place]} for {theirs[place]} at {place}, {(~same).sum()} of {same.size}"


def leaves_of(sample: Any) -> list[torch.Tensor]:
    """Return the tensors among the arguments that require gradients."""
    values = flat([sample.input, *sample.args, *sample.kwargs.values()])
    return [v for v in values if isinstance(v, torch.Tensor) and v.requires_grad]


def compare_gradients(
    inputs: list[torch.Tensor], leaves: list[Any], theirs: list[Any], ours: list[Any], wide: float
) -> tuple[str, str]:
    """Return how the gradients differ for the same random cotangents."""
    live = [
        (t, o)
        for t, o in zip(theirs, ours, strict=True)
        if isinstance(t, torch.Tensor) and t.requires_grad
    ]
    if not live or not inputs:
        return "agrees", ""
    starts = []
    for t, _ in live:
        rng = np.random.default_rng(t.numel())
        values = rng.normal(size=t.shape)
        if t.is_complex():
            values = values + 1j * rng.normal(size=t.shape)
        starts.append(torch.from_numpy(np.asarray(values)).to(t.dtype))
    try:
        expected = torch.autograd.grad([t for t, _ in live], inputs, starts, allow_unused=True)
    except (RuntimeError, NotImplementedError):
        return "agrees", ""  # PyTorch has no gradient to compare with
    pairs = [(o, s) for (_, o), s in zip(live, starts, strict=True) if o.requires_grad]
    if pairs:
        cotangents = [tensor_of(s).astype(o.dtype) for o, s in pairs]
        found = helixml.autograd.gradients([o for o, _ in pairs], leaves, cotangents=cotangents)
    else:  # a constant: right if PyTorch's gradient is zero
        found = [helixml.zeros_like(leaf) for leaf in leaves]
    for number, (t, o) in enumerate(zip(expected, found, strict=True)):
        detail = difference(
            np.zeros(inputs[number].shape) if t is None else numbers(t), numbers(o), wide
        )
        if detail:
            return "gradient", f"of tensor {number}: {detail}"
    return "agrees", ""
