"""The contract suite: what every backend must pass, shipped so that third parties can run it.

    python -m helixml.testing.contract NAME [--quick] [--only PATTERN] [--part K/N]
    python -m helixml.testing.contract --table [NAME ...]

`checks` lists the checks of one device, `run` runs them and gives a `Report`, `main` prints it; the
table is the business of `support`.
They ask that the backend has the protocol's functions under the same names and nothing else, that
it declares itself sanely, that its array functions keep their promises, and, through the op
harness, that every op gives the right values, gradients and errors on it, the same bits every time,
without touching its inputs. What is missing is listed by how many ops it unlocks.
"""

from __future__ import annotations

import argparse
import inspect
import itertools
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from helixml import dtypes, ops
from helixml._core.composed import Fused
from helixml._core.op import REGISTRY
from helixml.backends import registry
from helixml.backends.base import BackendBase
from helixml.backends.dispatch import KernelTable
from helixml.backends.protocol import ComputeBackend
from helixml.device import Device
from helixml.dtypes import DType
from helixml.errors import HelixError, ValueRangeError
from helixml.testing import harness
from helixml.testing.tolerance import assert_close, tolerance

__all__ = ["Check", "Report", "checks", "main", "run"]

Array = Any  # a raw array of whatever kind the backend uses

FUNCTIONS = tuple(
    name
    for name, value in vars(ComputeBackend).items()
    if inspect.isfunction(value) and not name.startswith("_")
)
ATTRIBUTES = tuple(name for name in ComputeBackend.__annotations__ if not name.startswith("_"))


@dataclass(frozen=True)
class Check:
    """One check; `run` raises AssertionError with what is wrong."""

    group: str
    name: str
    run: Callable[[], None]

    def __str__(self) -> str:
        return f"{self.group}: {self.name}"


@dataclass
class Report:
    """What a run of the suite found."""

    device: str
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    unlocks: dict[str, int] = field(default_factory=dict)  # missing function -> ops that wait

    @property
    def ok(self) -> bool:
        """Whether the backend keeps the contract."""
        return not self.failed

    def __str__(self) -> str:
        counts = f"{len(self.passed)} checks passed, {len(self.failed)} failed"
        lines = [f"backend {self.device}: {counts}"]
        lines += [f"\nFAILED {name}\n  {text}" for name, text in self.failed.items()]
        if self.unlocks:
            lines.append("\nTo do, in this order:")
            lines += [
                f"  {name:24} {count} op{'s' * (count != 1)} wait{'s' * (count == 1)} for it"
                for name, count in self.unlocks.items()
            ]
        return "\n".join(lines)


def run(
    device: str, full: bool = True, *, only: str = "", part: tuple[int, int] = (1, 1)
) -> Report:
    """Run the suite on the backend of ``device``.

    Parameters
    ----------
    device : name of the device.
    full : every sample, dtype and memory layout of every op; otherwise one sample in each dtype.
    only : a regular expression that is found in the names of the checks to run.
    part : (k, n) runs the k-th of n parts of these checks, which together are all of them.

    Raises
    ------
    DeviceError : nothing serves ``device``.
    ValueRangeError : no check has such a name, or there is no such part.
    """
    number, parts = part
    if not 1 <= number <= parts:
        raise ValueRangeError(f"contract: there is no part {number} of {parts}. Hint: 1/{parts}.")
    report = Report(device)
    backend = registry.make(Device(device))
    absent = registry.missing(backend)
    chosen = [check for check in checks(device, full) if re.search(only, str(check))]
    if not chosen:
        raise ValueRangeError(
            f"contract: no check of {device!r} has a name with {only!r} in it. "
            "Hint: names are like 'ops: matmul-values'."
        )
    # Neighbours stay together: what a check compiles, the next ones of the same op find ready.
    first, last = (len(chosen) * k // parts for k in (number - 1, number))
    for check in chosen[first:last]:
        try:
            check.run()
        except AssertionError as error:
            report.failed[str(check)] = str(error)
        except Exception as error:  # whatever a backend raises: the others are still checked
            report.failed[str(check)] = repr(error)
        else:
            report.passed.append(str(check))
    if absent:
        waiting = waiting_ops()
        counts = Counter({name: len(waiting.get(name, ())) for name in absent})
        report.unlocks = dict(counts.most_common())
    return report


def checks(device: str, full: bool = True) -> Iterator[Check]:
    """Give the checks of one device; those of ops only for a backend with all functions."""
    ops.load_all()  # some are loaded on first use; kernels are of any
    backend = registry.make(Device(device))
    for name, step in (
        ("has every function and attribute of the protocol", has_everything),
        ("takes the protocol's parameters", takes_parameters),
        ("has no public name beside the protocol", has_nothing_else),
        ("declares itself sanely", declares_itself),
        ("declares its kernels sanely", declares_kernels),
    ):
        yield Check("surface", name, lambda step=step: step(backend, device))  # type: ignore[misc]
    if registry.missing(backend):
        return
    backend = registry.get(device)
    for name, examine in ARRAY_CHECKS.items():
        yield Check("arrays", name, lambda examine=examine: every_dtype(examine, backend))  # type: ignore[misc]
    for check in harness.plan(device, full=full):
        yield Check("ops", str(check), check.run)
    setting = harness.Setting(device, backend.dtypes, full)
    for op in list(REGISTRY.values()):
        if op.make_samples is not None:
            yield Check("repeats", op.name, lambda op=op: repeats(op, setting))  # type: ignore[misc]


# The surface


def has_everything(backend: Any, device: str) -> None:
    """Compare the names with the protocol's."""
    absent = registry.missing(backend)
    assert not absent, f"lacks {', '.join(absent)}"


def takes_parameters(backend: Any, device: str) -> None:
    """Bind a call as the engine makes it, operands by position and options by name."""
    for name in FUNCTIONS:
        function = getattr(backend, name, None)
        if function is None:
            continue
        try:
            signature = inspect.signature(function)
        except ValueError:
            continue  # some compiled functions do not say; their values are checked below
        wanted = inspect.signature(getattr(ComputeBackend, name))
        _, *parameters = wanted.parameters.values()  # without self
        options = {p.name: None for p in parameters if p.kind is p.KEYWORD_ONLY}
        try:
            signature.bind(*[None] * (len(parameters) - len(options)), **options)
        except TypeError as error:
            raise AssertionError(f"{name}{signature}: {error}; the protocol has {wanted}") from None


def has_nothing_else(backend: Any, device: str) -> None:
    """Allow private names only, beside the protocol's."""
    known = {*FUNCTIONS, *ATTRIBUTES}
    more = sorted(n for n in dir(backend) if not n.startswith("_") and n not in known)
    assert not more, f"also has {', '.join(more)}. Hint: begin them with an underscore"


def declares_itself(backend: Any, device: str) -> None:
    """Check the attributes and what the backend says of itself."""
    assert isinstance(backend.name, str) and backend.name, f"name is {backend.name!r}"
    assert isinstance(backend.device, Device), f"device is {backend.device!r}, not a Device"
    assert backend.device == device, f"device is {str(backend.device)!r}, asked for {device!r}"
    kinds = backend.device_kinds
    assert Device(device).kind in kinds, f"device_kinds {kinds!r} does not name {device!r}"
    assert isinstance(backend.array_type, type), f"array_type is {backend.array_type!r}"
    for dtype in backend.dtypes:
        assert dtype in dtypes.ALL, f"dtypes holds {dtype!r}, which is no dtype of helixml"
    needed = {dtypes.bool_, dtypes.int64, dtypes.float32} - {*backend.dtypes}
    assert not needed, f"dtypes lacks {', '.join(d.name for d in needed)}, which every op may use"
    found = backend.capabilities()
    assert all(isinstance(key, str) for key in found), f"capabilities: {found}"
    used = backend.memory()
    assert all(isinstance(v, int) and v >= 0 for v in used.values()), f"memory: {used}"
    assert backend.synchronize() is None, "synchronize returned something"


def declares_kernels(backend: Any, device: str) -> None:
    """Check that each kernel belongs to a fused op and names dtypes that the backend holds."""
    assert isinstance(backend.kernels, KernelTable), f"kernels is {type(backend.kernels).__name__}"
    held = {dtype.name for dtype in backend.dtypes}
    for name in backend.kernels:
        kernel = backend.kernels[name]
        op = REGISTRY.get(name.removesuffix("_vjp"))
        assert isinstance(op, Fused), f"{name}: there is no fused op of that name"
        assert not (op.writes and name.endswith("_vjp")), f"{name}: {op.name} has no gradient"
        assert kernel.name == name and callable(kernel.function), f"{name}: is no function"
        assert kernel.dtypes, f"{name}: serves no dtype"
        extra = {*kernel.dtypes} - held
        assert not extra, f"{name}: serves {', '.join(extra)}, which the backend does not hold"


# Array functions: what no op's sample reaches


def every_dtype(examine: Callable[[ComputeBackend, DType], None], backend: ComputeBackend) -> None:
    """Run one of `ARRAY_CHECKS` in every dtype, and gather what fails."""
    failures = []
    for dtype in backend.dtypes:
        try:
            examine(backend, dtype)
        except AssertionError as error:
            failures.append(f"{dtype}: {error}")
        except Exception as error:
            raise AssertionError(f"{dtype}: {error!r}") from error
    assert not failures, "\n  ".join(failures)


def same(backend: ComputeBackend, x: Array, wanted: Any, dtype: DType) -> None:
    """Assert that ``x`` is an array of ``dtype`` with the values of ``wanted``."""
    x = backend.ensure(x)
    assert isinstance(x, backend.array_type), f"gave {type(x).__name__}"
    assert backend.dtype_of(x) == dtype, f"gave {backend.dtype_of(x)}, expected {dtype}"
    found = backend.to_numpy(x)
    assert type(found) is np.ndarray, f"to_numpy gave {type(found).__name__}"
    goal = np.asarray(wanted).astype(dtype)
    assert found.shape == goal.shape, f"shape {found.shape}, expected {goal.shape}"
    assert_close(found, goal, tolerance(dtype))


def _values(dtype: DType, *shape: int) -> Any:
    """Return 0, 1, 2, ... in a NumPy array; ``dtype`` holds them exactly."""
    return np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)


_SHAPES = ((), (3,), (2, 3), (0, 3), (2, 1, 0))


def check_transfer(backend: ComputeBackend, dtype: DType) -> None:
    """Arrays of every shape and layout go there and come back."""
    for shape in _SHAPES:
        host = _values(dtype, *shape)
        same(backend, backend.asarray(host), host, dtype)
        same(backend, backend.asarray(host.T), host.T, dtype)
    host = _values(dtype, 4, 6)[::-2, ::3]
    same(backend, backend.asarray(host), host, dtype)
    absent = [
        name for name in ("shape", "dtype", "size") if not hasattr(backend.asarray(host), name)
    ]
    assert not absent, f"arrays have no {', '.join(absent)}, which the engine reads"
    same(backend, backend.asarray(1, dtype=dtype), 1, dtype)
    same(backend, backend.asarray([[0, 1], [1, 0]], dtype=dtype), [[0, 1], [1, 0]], dtype)


def check_creation(backend: ComputeBackend, dtype: DType) -> None:
    """Zeros, ones, full, eye and arange."""
    for shape in _SHAPES:
        same(backend, backend.zeros(shape, dtype=dtype), np.zeros(shape), dtype)
        same(backend, backend.ones(shape, dtype=dtype), np.ones(shape), dtype)
        same(backend, backend.full(shape, 1, dtype=dtype), np.ones(shape), dtype)
        same(backend, backend.full(shape, dtype.type(1), dtype=dtype), np.ones(shape), dtype)
    same(backend, backend.eye(2, 3, k=1, dtype=dtype), np.eye(2, 3, 1), dtype)
    same(backend, backend.eye(0, 2, dtype=dtype), np.zeros((0, 2)), dtype)
    if dtypes.kind(dtype) in "uif":
        same(backend, backend.arange(1, 8, 3, dtype=dtype), [1, 4, 7], dtype)
        same(backend, backend.arange(0, 0, 1, dtype=dtype), [], dtype)
        same(backend, backend.arange(5, 1, -2, dtype=dtype), [5, 3], dtype)
    if dtypes.is_floating(dtype):
        same(backend, backend.arange(0.0, 1.0, 0.25, dtype=dtype), [0, 0.25, 0.5, 0.75], dtype)


def check_copies(backend: ComputeBackend, dtype: DType) -> None:
    """`copy` shares nothing, `assign` writes and casts, `astype` casts."""
    host = _values(dtype, 2, 3)
    x = backend.asarray(host.copy())
    kept = backend.copy(x)
    written = backend.assign(x, backend.ones((2, 3), dtype=dtypes.int64))
    same(backend, written, np.ones((2, 3)), dtype)
    same(backend, kept, host, dtype)
    source = backend.zeros((2, 3), dtype=dtype)
    written = backend.assign(written, source)
    backend.assign(written, backend.ones((2, 3), dtype=dtype))
    same(backend, source, np.zeros((2, 3)), dtype)
    for other in backend.dtypes:
        if dtypes.kind(dtype) == "c" and dtypes.kind(other) in "uif":
            continue  # no op asks for that: it would drop the imaginary part
        same(backend, backend.astype(kept, other), host.astype(other), other)
    same(backend, backend.asarray(kept, dtype=dtype), host, dtype)


def check_basic_indexes(backend: ComputeBackend, dtype: DType) -> None:
    """`getitem` as NumPy has it, and `place`, which puts the part back into zeros."""
    host = _values(dtype, 3, 4, 5)
    x = backend.asarray(host)
    index: tuple[Any, ...]
    for index in (
        (),
        (1,),
        (-1, ..., 2),
        (slice(0, 99), None, slice(None, None, -2)),
        (slice(2, 0, -1), slice(-1, None), 0),
        (slice(5, 9),),
        (0, 0, 0),
        (None, ..., None, slice(3, None, -3)),
    ):
        part = host[index]
        same(backend, backend.getitem(x, index), part, dtype)
        goal = np.zeros_like(host)
        goal[index] = part
        placed = backend.place(backend.asarray(np.asarray(part)), host.shape, index)
        same(backend, placed, goal, dtype)
    for index in ((3,), (0, 0, 0, 0)):
        try:
            backend.getitem(x, index)
        except IndexError:
            continue
        raise AssertionError(f"getitem{index} of shape {host.shape} raised no IndexError")


def check_indices(backend: ComputeBackend, dtype: DType) -> None:
    """`take` and its like: indices of every integer dtype and shape, also from the end."""
    host = _values(dtype, 3, 4)
    x = backend.asarray(host)
    for kind in backend.dtypes:
        if dtypes.kind(kind) not in "iu":
            continue
        low = -1 if dtypes.kind(kind) == "i" else 3
        at = np.array([[0, low], [1, 0]]).astype(kind)
        ids = backend.asarray(at)
        same(backend, backend.take(x, ids, axis=1), host[:, at], dtype)
        same(backend, backend.take(x, backend.asarray(at[1, 0]), axis=0), host[1], dtype)
        same(backend, backend.take(x, backend.asarray(at[:0, 0]), axis=0), host[:0], dtype)
        try:
            backend.take(x, backend.asarray(np.array([0, 3]).astype(kind)), axis=0)
        except IndexError:
            pass
        else:
            raise AssertionError(f"take of {kind} [0, 3] from 3 entries raised no IndexError")
        one = np.array([[low], [2], [0]]).astype(kind)
        along = backend.take_along_axis(x, backend.asarray(one), axis=1)
        same(backend, along, np.take_along_axis(host, one.astype(int), axis=1), dtype)
        if dtype == dtypes.bool_:
            continue
        some = backend.asarray(_values(dtype, 2, 2, 2))
        goal = np.zeros((2, 4))
        for row, column in np.ndindex(2, 2):
            goal[:, at[row, column]] += _values(dtypes.int64, 2, 2, 2)[:, row, column]
        same(backend, backend.scatter_add(some, ids, axis=1, size=4), goal, dtype)
        goal = np.zeros((3, 4))
        goal[[0, 1, 2], one[:, 0].astype(int)] = [0, 1, 2]
        line = backend.asarray(_values(dtype, 3, 1))
        spread = backend.scatter_add_along_axis(line, backend.asarray(one), axis=1, size=4)
        same(backend, spread, goal, dtype)


def check_windows(backend: ComputeBackend, dtype: DType) -> None:
    """`unfold` cuts windows out along any axis, `fold` adds them up where they came from."""
    host = _values(dtype, 2, 7, 3)
    x = backend.asarray(host)
    for axis, size, step, dilation in ((1, 3, 2, 1), (1, 2, 1, 3), (0, 2, 5, 1), (2, 1, 2, 9)):
        n = (host.shape[axis] - dilation * (size - 1) - 1) // step + 1
        at = step * np.arange(n)[:, None] + dilation * np.arange(size)
        goal = np.moveaxis(np.take(host, at, axis), axis + 1, -1)
        found = backend.unfold(x, size=size, step=step, axis=axis, dilation=dilation)
        same(backend, found, goal, dtype)
        if dtype == dtypes.bool_:
            continue
        length = host.shape[axis]
        counts = np.bincount(at.reshape(-1), minlength=length).reshape(
            [length if a == axis else 1 for a in range(3)]
        )
        found = backend.fold(found, length=length, step=step, axis=axis, dilation=dilation)
        same(backend, found, host * counts, dtype)


def check_sorting(backend: ComputeBackend, dtype: DType) -> None:
    """`argsort` of numbers is stable, along any axis."""
    if dtypes.kind(dtype) in "bc":
        return
    host = np.array([[1, 0, 1, 0, 1], [0, 0, 0, 1, 0]]).astype(dtype)
    x = backend.asarray(host)
    for axis in (0, 1):
        order = backend.astype(backend.argsort(x, axis=axis), dtypes.int64)
        same(backend, order, np.argsort(host, axis=axis, kind="stable"), dtypes.int64)


def check_random_bits(backend: ComputeBackend, dtype: DType) -> None:
    """Philox4x32-10 gives the published words; the counter carries through all its 128 bits."""
    if dtype != dtypes.uint32:
        return
    low = 0xFFFFFFFF
    for key, counter, words in (
        # Known answers of the authors' Random123 library, philox4x32, 10 rounds
        ((0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((low, low), 2**128 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ):
        same(backend, backend.philox(key, counter, 1), [words], dtype)
    for start in (7, 2**32 - 2, 2**64 - 2, 2**128 - 2):
        singles = [backend.philox((3, 5), (start + i) % 2**128, 1) for i in range(4)]
        goal = np.concatenate([backend.to_numpy(block) for block in singles])
        same(backend, backend.philox((3, 5), start, 4), goal, dtype)
    same(backend, backend.philox((1, 2), 3, 0), np.zeros((0, 4)), dtype)


def check_dropping(backend: ComputeBackend, dtype: DType) -> None:
    """`drop` zeroes where the words of `philox`, in C order, are below the threshold."""
    if dtypes.kind(dtype) != "f":
        return
    for shape in ((5, 3), (), (0, 2), (8,)):
        count = int(np.prod(shape))
        words = backend.to_numpy(backend.philox((1, 2), 2**64 - 1, -(-count // 4)))
        kept = words.reshape(-1)[:count].reshape(shape) >= 2**31
        x = backend.asarray(np.ones(shape, dtype))
        found = backend.drop(x, (1, 2), 2**64 - 1, threshold=2**31, scale=2.0)
        same(backend, found, 2 * kept, dtype)


def check_transforms(backend: ComputeBackend, dtype: DType) -> None:
    """Fourier transforms of real and complex lines, cropped and padded, are the sums they are."""
    if dtype not in (dtypes.float32, dtypes.float64):
        return
    pair = dtypes.promote(dtype, dtypes.complex64)
    rng = np.random.default_rng(1)
    real = rng.normal(size=(2, 5, 3)).astype(dtype)
    both = (real + 1j * rng.normal(size=real.shape)).astype(pair)
    for n, norm in itertools.product((1, 4, 5, 8), ("backward", "ortho", "forward")):
        k = np.arange(n)
        waves = np.exp(-2j * np.pi * (np.outer(k, k) % n) / n)
        scale = {"backward": 1.0, "ortho": n**-0.5, "forward": 1 / n}[norm]

        def goal(host: Any, matrix: Any, n: int = n) -> Any:
            part = np.zeros((2, n, 3), complex)
            part[:, : host.shape[1]] = host[:, :n]
            return np.einsum("kj,bjc->bkc", matrix, part)

        for host in (real, both):
            x = backend.asarray(host)
            there = backend.fft(x, n=n, axis=1, norm=norm)
            same(backend, there, goal(host, scale * waves), pair)
            back = backend.ifft(x, n=n, axis=1, norm=norm)
            same(backend, back, goal(host, waves.conj() / n / scale), pair)
        half = n // 2 + 1
        found = backend.rfft(backend.asarray(real), n=n, axis=1, norm=norm)
        same(backend, found, goal(real, scale * waves)[:, :half], pair)
        mirrored = waves.conj() / n / scale
        mirrored[:, 1 : (n + 1) // 2] *= 2
        mirrored[:, half:] = 0
        found = backend.irfft(backend.asarray(both), n=n, axis=1, norm=norm)
        same(backend, found, goal(both, mirrored).real, dtype)


def check_special(backend: ComputeBackend, dtype: DType) -> None:
    """Give `special` arrays that broadcast, and numbers: it keeps the dtype of the arrays."""
    if dtypes.kind(dtype) != "f":
        return
    whole = backend.asarray(_values(dtype, 2, 3))
    same(
        backend,
        backend.special("gamma", backend.asarray(_values(dtype, 5)[1:])),
        [1, 1, 2, 6],
        dtype,
    )
    same(
        backend,
        backend.special("xlogy", whole, backend.ones((3,), dtype=dtype)),
        np.zeros((2, 3)),
        dtype,
    )
    same(backend, backend.special("jv", 0, backend.zeros((), dtype=dtype)), 1, dtype)
    same(
        backend,
        backend.special("zeta", 2, backend.zeros((0, 2), dtype=dtype)),
        np.zeros((0, 2)),
        dtype,
    )


def check_singular_matrices(backend: ComputeBackend, dtype: DType) -> None:
    """`inv`, `solve` and `cholesky` of zeros raise, or give nothing finite."""
    if dtype not in (dtypes.float32, dtypes.float64):
        return
    x, y = backend.zeros((2, 3, 3), dtype=dtype), backend.ones((2, 3, 1), dtype=dtype)
    calls: dict[str, Callable[[], Array]] = {
        "inv": lambda: backend.inv(x),
        "solve": lambda: backend.solve(x, y),
        "solve_triangular": lambda: backend.solve_triangular(
            x, y, upper=False, unit_diagonal=False
        ),
        "cholesky": lambda: backend.cholesky(x),
    }
    for name, call in calls.items():
        try:
            found = backend.to_numpy(call())
        except Exception:  # of whatever class the backend's library has for it
            continue
        if name == "cholesky":
            found = found[:, range(3), range(3)]  # beside the triangle there may be zeros
        assert not np.isfinite(found).any(), f"{name} of zeros gave {found}"


ARRAY_CHECKS: dict[str, Callable[[ComputeBackend, DType], None]] = {
    "go to the device and back": check_transfer,
    "are created": check_creation,
    "are copied, written and cast": check_copies,
    "have parts, which can be placed": check_basic_indexes,
    "are taken and scattered by indices": check_indices,
    "have windows, which can be added up": check_windows,
    "are sorted, keeping the order of equals": check_sorting,
    "of random bits have the published values": check_random_bits,
    "are dropped by random bits": check_dropping,
    "are transformed to frequencies and back": check_transforms,
    "go through special functions": check_special,
    "have no inverse where they are singular": check_singular_matrices,
}


# Ops, beyond the harness


def repeats(op: Any, setting: harness.Setting) -> None:
    """Call an op and its gradients twice on the same tensors: equal bits, inputs as they were."""
    for dtype in (dtypes.float32, dtypes.float64):
        if dtype not in setting.dtypes:
            continue
        for number, sample in harness.samples_of(op, setting):
            call = harness.call_of(op, number, sample, dtype, setting.device)
            if call is None or any(a.dtype not in setting.dtypes for a in call.arrays):
                continue
            with np.errstate(all="ignore"):
                first, second = (bits_of(call, not sample.value_only) for _ in range(2))
            assert first == second, f"sample {number} {dtype}: two runs differ"


def bits_of(call: harness.Call, has_gradients: bool) -> list[bytes]:
    """Return the bits of all results and gradients of a call; check that no input changed."""
    before = [host.tobytes() for host in call.arrays]
    results = call.run()
    written = harness.written_by(call)
    for x, bits in zip(call.made, before, strict=True):
        if not any(x is other for other in written):
            assert x.numpy().tobytes() == bits, f"an input of shape {x.shape} was written"
    if written:
        return [x.numpy().tobytes() for x in written]
    if not has_gradients:
        return [y.numpy().tobytes() for y in results]
    _, gradients = harness.vjp_of(call, call.float_places, harness.cotangents_of(call))
    return [y.numpy().tobytes() for y in (*results, *gradients)]


# What waits for a missing function


class Tracer(BackendBase):
    """The reference's array functions under `BackendBase`, noting which of them are used."""

    name = "tracer"
    device_kinds = ("tracer",)
    array_type = np.ndarray

    def __init__(self) -> None:
        self.used: set[str] = set()
        self.device = Device("tracer")
        self.kernels = KernelTable()
        plain = registry.get("reference")
        for name in FUNCTIONS:
            if name not in vars(BackendBase):
                setattr(self, name, getattr(plain, name))

    def __getattribute__(self, name: str) -> Any:
        if name in FUNCTIONS:
            object.__getattribute__(self, "used").add(name)
        return object.__getattribute__(self, name)


def waiting_ops() -> dict[str, set[str]]:
    """Return, for each function of a backend, the ops whose values and gradients use it."""
    waiting: dict[str, set[str]] = {}
    try:
        for check in harness.plan("reference", full=False):
            if check.name not in ("values", "backward"):
                continue
            tracer = Tracer()
            registry.register("tracer", lambda tracer=tracer: tracer)  # type: ignore[misc]
            registry.get("tracer")
            tracer.used.clear()  # registering it looked at every name
            setting = harness.Setting("tracer", (dtypes.float32,), full=False)
            harness.Check(check.op, check.name, setting).run()
            for name in tracer.used:
                waiting.setdefault(name, set()).add(check.op.name)
    finally:
        registry.unregister("tracer")
    return waiting


def emulated(order: str) -> AbstractContextManager[object]:
    """Serve the device "cuda" by the emulator, whose threads run in ``order``."""
    from helixml.backends.cuda.backend import CudaBackend  # these need a C++ compiler, and no GPU
    from helixml.testing import cuemu

    backend: Any = CudaBackend(cuemu.cupy(), Device("cuda"))  # its names of kinds are one, not any
    registry.register("cuda", lambda: backend)
    return cuemu.order(order)


def parser() -> argparse.ArgumentParser:
    """Return what reads the command line."""
    made = argparse.ArgumentParser(
        prog="python -m helixml.testing.contract", description="Check a backend of helixml."
    )
    add = made.add_argument
    add("names", nargs="*", metavar="NAME", help="name of a device, such as cpu")
    add("--quick", action="store_true", help="one sample of each op in each dtype")
    add("--only", default="", metavar="PATTERN", help="checks in whose names this is found")
    add("--part", default="1/1", metavar="K/N", help="the K-th of N parts of the checks")
    add(
        "--emulated",
        nargs="?",
        choices=("forward", "reverse", "random"),
        const="forward",
        metavar="ORDER",
        help="the device cuda is the emulator; ORDER, forward, reverse or random, is its threads'",
    )
    add("--table", action="store_true", help="print which op runs where, in Markdown; --only: ops")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Run the suite from the command line; return 0 if the backend keeps the contract."""
    reading = parser()
    given = reading.parse_args(arguments)
    part = re.fullmatch(r"(\d+)/(\d+)", given.part)
    if part is None:
        reading.error(f"--part is like 1/4, not {given.part!r}")
    if not given.table and not given.names:
        reading.error("which device? NAME is one, such as cpu")
    try:
        with emulated(given.emulated) if given.emulated else nullcontext():
            if given.table:
                return table(given.names, given.only)
            pair = int(part[1]), int(part[2])
            reports = [
                run(name, not given.quick, only=given.only, part=pair) for name in given.names
            ]
    except HelixError as error:
        print(error, file=sys.stderr)
        return 1
    print(*reports, sep="\n\n")
    return 0 if all(report.ok for report in reports) else 1


def table(names: list[str], only: str) -> int:
    """Print the support table of some devices, or of all that are here; return 1 if one fails."""
    from helixml.testing import support

    ops.load_all()
    every = names or [name for name, state in registry.available().items() if state == "ok"]
    chosen = [name for name in REGISTRY if re.search(only, name)]
    if not chosen:
        raise ValueRangeError(f"contract: no op has a name with {only!r} in it.")
    cells = support.survey(every, chosen)
    print(support.markdown(cells))
    return int(any(cell.failed for row in cells.values() for cell in row.values()))


if __name__ == "__main__":
    sys.exit(main())
