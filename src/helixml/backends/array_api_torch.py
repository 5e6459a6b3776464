"""PyTorch as a backend: its CPU, CUDA, ROCm, MPS and XPU devices, by the same code.

array-api-compat gives the standard's names; here stands what the standard lacks, PyTorch does
otherwise, or does better. ``torch:cuda:1`` is PyTorch's ``cuda:1``, and ``torch`` its default
device. Three things take more than a name:

- Unsigned integers of more than 8 bits have hardly any functions: int64 numbers with the same low
  bits stand in for them; where values are compared, with the highest bit of uint64 flipped.
- Philox is computed in int64 too, so random numbers are made on the device.
- What adds at indices must add in one order: `index_add_` does on the CPU, and `index_put_` on
  CUDA, which sorts the indices; elsewhere `base` sorts them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import wraps
from typing import Any, TypeAlias

import array_api_compat.torch as xp
import numpy as np
import torch

from helixml import dtypes
from helixml.backends.array_api import ArrayApiBackend, forward, no_such_place
from helixml.backends.base import LOW, M0, M1, W0, W1, explicit
from helixml.backends.failures import no_memory, translated
from helixml.backends.protocol import Array
from helixml.device import Device
from helixml.dtypes import DType
from helixml.errors import DeviceError
from helixml.shapes import Shape

__all__ = ["TorchBackend", "create"]

_WIDE = (torch.uint16, torch.uint32, torch.uint64)
_LEAST = -(2**63)
# What PyTorch says of an array for which there is no memory, and of one whose size overflows.
_MEMORY = re.compile(r"(can't allocate|not enough|\bout of) memory\b.*", re.IGNORECASE)
_OVERFLOW = re.compile(
    r"Overflow when unpacking long|calculation overflowed|possible overflow|multiplication overflow"
)

Function: TypeAlias = Callable[..., Array]


def create(device: Device) -> TorchBackend:
    """Return the backend of a place of PyTorch.

    Raises
    ------
    DeviceError : PyTorch has no such place here.
    """
    try:
        place = torch.device(device.index) if device.index else torch.get_default_device()
        torch.zeros((), device=place).item()  # a place without values is none
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise _absent(device, str(error)) from error
    if place.type == "cpu" and place.index:  # PyTorch takes any number
        raise _absent(device, "there is one CPU")
    return TorchBackend(device, place)


def _absent(device: Device, reason: str) -> DeviceError:
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = torch.accelerator.device_count() if found else 0
    places = ["torch:cpu", *(f"torch:{found}:{number}" for number in range(count))]
    return no_such_place(device, "PyTorch", reason, places)


class TorchBackend(ArrayApiBackend):
    """PyTorch's tensors in, its tensors out.

    Parameters
    ----------
    device : what helixml calls the place.
    place : what PyTorch calls it.
    """

    _candidates = dtypes.ALL

    def __init__(self, device: Device, place: torch.device) -> None:
        self._kind = place.type
        super().__init__(xp, device, place)
        for stand_in, names in _STAND_INS.items():
            for name in names:
                setattr(self, name, stand_in(getattr(self, name)))
        self._wrap(lambda function: translated(function, self._explain))

    def _holds(self, theirs: torch.dtype) -> bool:
        """Make one: MPS, for one, has no float64."""
        try:
            torch.zeros((), dtype=theirs, device=self._place)
        except (TypeError, RuntimeError):
            return False
        return True

    def _explain(self, error: Exception) -> Exception | None:
        """Return what PyTorch's error means; None if that is not known."""
        if not isinstance(error, (RuntimeError, TypeError)):
            return None
        text = str(error)
        found = _MEMORY.search(text)
        if found is not None:
            return no_memory(self.device, found.group().rstrip("."))
        return ValueError("array is too big") if _OVERFLOW.search(text) else None

    # Making, moving, asking

    def asarray(self, value: Any, /, *, dtype: DType | None = None) -> Array:
        """Return ``value`` as a tensor of its own, on this device."""
        if isinstance(value, torch.Tensor):
            value = value.to(self._place)
            return value if dtype is None else self.astype(value, dtype)
        host = np.array(value, dtype=dtype, order="C")
        theirs = self._dtype(host.dtype)
        if host.dtype == dtypes.bfloat16:
            return torch.from_numpy(host.view(np.int16)).view(theirs).to(self._place)
        return torch.from_numpy(host).to(self._place)

    def to_numpy(self, x: Array, /) -> Any:
        """Return ``x`` as a NumPy array; it shares memory with a tensor of the CPU."""
        x = x.resolve_conj().resolve_neg().cpu()
        if x.dtype == torch.bfloat16:
            return x.view(torch.int16).numpy().view(dtypes.bfloat16)
        return x.numpy()

    def capabilities(self) -> dict[str, Any]:
        """Return PyTorch's version too."""
        return {**super().capabilities(), "torch": torch.__version__}

    def memory(self) -> dict[str, int]:
        """Return what CUDA's allocator, which ROCm has too, says."""
        if self._kind != "cuda":
            return {}
        return {
            "in_use": torch.cuda.memory_allocated(self._place),
            "peak": torch.cuda.max_memory_allocated(self._place),
        }

    def synchronize(self) -> None:
        """Wait for the device."""
        if self._kind != "cpu":
            torch.accelerator.synchronize(self._place)

    # Elementwise

    def sigmoid(self, x: Array, /) -> Array:
        """Return 1 / (1 + exp(-x))."""
        return super().sigmoid(x) if x.is_complex() else torch.sigmoid(x)

    def erf(self, x: Array, /) -> Array:
        """Return the error function."""
        return torch.special.erf(x)

    # Reductions

    def _added(self, name: str, x: Array, axis: Any, **options: bool) -> Array:
        """Add up the bits of unsigned integers as those of signed ones."""
        if dtypes.kind(self.dtype_of(x)) != "u":
            return super()._added(name, x, axis, **options)
        bits = super()._added(name, _bits(x), axis, **options)
        return bits.view(torch.uint64)

    def argmax(self, x: Array, /, *, axis: int | None, keepdims: bool) -> Array:
        """Return where the largest value stands, that of booleans too."""
        return torch.argmax(_numbers(x), dim=axis, keepdim=keepdims)

    def argmin(self, x: Array, /, *, axis: int | None, keepdims: bool) -> Array:
        """Return where the smallest value stands, that of booleans too."""
        return torch.argmin(_numbers(x), dim=axis, keepdim=keepdims)

    def matmul(self, x: Array, y: Array, /) -> Array:
        """Return the product; the host computes that of integers where the device does not."""
        if x.dtype == torch.bool:
            return self.matmul(x.to(torch.int64), y.to(torch.int64)) != 0
        if self._kind == "cpu" or x.is_floating_point() or x.is_complex():
            return torch.matmul(x, y)
        return self.asarray(np.matmul(self.to_numpy(x), self.to_numpy(y)))

    def searchsorted(self, x: Array, values: Array, /, *, side: str) -> Array:
        """Return where values belong; PyTorch does not know where nan does."""
        ranks, wanted = _ranks(x).contiguous(), _ranks(values).contiguous()
        return torch.searchsorted(ranks, wanted, side=side)

    # Fourier transforms: MKL refuses to make no lines

    def fft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the transform."""
        return self._transformed("fft", x, n, axis, norm)

    def ifft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the inverse transform."""
        return self._transformed("ifft", x, n, axis, norm)

    def rfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the transform of real numbers."""
        return self._transformed("rfft", x, n, axis, norm)

    def irfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the inverse of `rfft`."""
        return self._transformed("irfft", x, n, axis, norm)

    def _transformed(self, name: str, x: Array, n: int, axis: int, norm: str) -> Array:
        lines = [size for a, size in enumerate(x.shape) if a != axis]
        if 0 not in lines:
            return getattr(super(), name)(x, n=n, axis=axis, norm=norm)
        dtype = x.real.dtype if name == "irfft" else self._as_complex(x).dtype
        shape = [*x.shape[:axis], n // 2 + 1 if name == "rfft" else n, *x.shape[axis + 1 :]]
        return x.new_zeros(shape, dtype=dtype)

    # Indexing

    def take(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return entries along ``axis``, with an error for an index that is not there.

        On the CPU PyTorch raises it; elsewhere it would end the process, so the device looks first.
        """
        n = x.shape[axis]
        flat = self._from_front(indices.reshape(-1), n)
        if self._kind != "cpu" and bool(((flat < 0) | (flat >= n)).any()):
            raise IndexError(f"take: an index is not in [{-n}, {n}).")
        taken = torch.index_select(x, axis, flat)
        return taken.reshape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :]))

    def place(self, x: Array, shape: Shape, index: tuple[Any, ...], /) -> Array:
        """Return zeros with ``x`` written at ``index``."""
        result = torch.zeros(shape, dtype=x.dtype, device=self._place)
        plain, backward = forward(explicit(index, shape))
        result[plain] = torch.flip(x, backward)
        return result

    def scatter_add(self, x: Array, indices: Array, /, *, axis: int, size: int) -> Array:
        """Return zeros with ``x`` added at ``indices``, in the order of their positions."""
        if self._kind not in ("cpu", "cuda"):
            return super().scatter_add(x, indices, axis=axis, size=size)
        dtype = self.dtype_of(x)
        shape = tuple(x.shape)
        targets = self._from_front(indices.reshape(-1), size)
        tail = shape[axis + indices.ndim :]
        rows = x.reshape((*shape[:axis], len(targets), *tail)).movedim(axis, 0)
        rows = self.astype(rows, dtypes.accumulation(dtype))
        total = rows.new_zeros((size, *rows.shape[1:]))
        if self._kind == "cpu":
            total.index_add_(0, targets, rows)
        else:
            total.index_put_((targets,), rows, accumulate=True)
        return self.astype(total.movedim(0, axis), dtype)

    def take_along_axis(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return entries along ``axis``."""
        return torch.gather(x, axis, self._from_front(indices, x.shape[axis]))

    def unfold(self, x: Array, /, *, size: int, step: int, axis: int, dilation: int) -> Array:
        """Return windows along ``axis``: a view."""
        return x.unfold(axis, dilation * (size - 1) + 1, step)[..., ::dilation]

    # Scans

    def linear_scan(self, a: Array, b: Array, initial: Array | None, /, *, reverse: bool) -> Array:
        """Return h_t = a_t h_(t-1) + b_t along the last axis, step by step."""
        dtype = self.dtype_of(b)
        wide = dtypes.accumulation(dtype)
        length = b.shape[-1]
        # time first, so that a step is contiguous
        a, b = (self.astype(x, wide).movedim(-1, 0).contiguous() for x in (a, b))
        state = None if initial is None else self.astype(initial, wide)
        result = torch.empty_like(b)
        for t in range(length - 1, -1, -1) if reverse else range(length):
            state = b[t] if state is None else torch.addcmul(b[t], a[t], state)
            result[t] = state
        return self.astype(result.movedim(0, -1), dtype)

    # Random bits

    def _philox_piece(self, key: tuple[int, int], counter: int, count: int) -> Array:
        """Return words in int64: of a product of 32-bit words, the sign is the highest bit."""
        counts = torch.arange(count, device=self._place)
        first = counts + ((counter + 2**63) % 2**64 - 2**63)  # wraps around
        x0, x1 = first & LOW, first >> 32 & LOW
        x2 = torch.full_like(first, counter >> 64 & LOW)
        x3 = torch.full_like(first, counter >> 96)
        k0, k1 = key
        for _ in range(10):
            p0, p1 = x0 * M0, x2 * M1
            x0, x2 = (p1 >> 32 & LOW) ^ x1 ^ k0, (p0 >> 32 & LOW) ^ x3 ^ k1
            x1, x3 = p1 & LOW, p0 & LOW
            k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
        return torch.stack((x0, x1, x2, x3), 1).to(torch.uint32)

    # Linear algebra. The gradient of a determinant is det(x) inv(x)^T, which near a singular matrix
    # is precise only if both come of one factorisation, with one small pivot. NumPy's do.

    def det(self, x: Array, /) -> Array:
        """Return determinants; on the CPU NumPy's."""
        return super().det(x) if self._kind == "cpu" else torch.linalg.det(x)

    def inv(self, x: Array, /) -> Array:
        """Return inverses; on the CPU NumPy's."""
        return super().inv(x) if self._kind == "cpu" else torch.linalg.inv(x)

    def eig(self, x: Array, /) -> tuple[Array, Array]:
        """Return eigenvalues and eigenvectors, complex."""
        values, vectors = torch.linalg.eig(x)
        return values, vectors

    def eigvals(self, x: Array, /) -> Array:
        """Return eigenvalues, complex."""
        return torch.linalg.eigvals(x)

    def solve_triangular(self, x: Array, y: Array, /, *, upper: bool, unit_diagonal: bool) -> Array:
        """Return the solutions of x z = y for one triangle of x."""
        if not unit_diagonal:
            self._check_diagonal(x)
        return torch.linalg.solve_triangular(x, y, upper=upper, unitriangular=unit_diagonal)

    def expm(self, x: Array, /) -> Array:
        """Return exponentials of matrices."""
        return torch.linalg.matrix_exp(x)


def _numbers(x: Array) -> Array:
    return x.to(torch.uint8) if x.dtype == torch.bool else x


def _ranks(x: Array) -> Array:
    """Return integers in the order in which NumPy sorts numbers: nan is the last."""
    if not x.is_floating_point():
        return _numbers(x)
    x = x if x.dtype == torch.float64 else x.to(torch.float32)
    whole = torch.int64 if x.dtype == torch.float64 else torch.int32
    last = torch.iinfo(whole).max
    bits = (x + 0.0).view(whole)  # of 0 for -0; those of a negative number fall as it grows
    return torch.where(x.isnan(), last, torch.where(bits < 0, bits ^ last, bits))


# Unsigned integers of more than 8 bits. A stand-in makes of a function one that takes these too.


def _bits(x: Array) -> Array:
    """Return int64 numbers with the same low bits."""
    return x.view(torch.int64) if x.dtype == torch.uint64 else x.to(torch.int64)


def _of_bits(bits: Array, dtype: torch.dtype) -> Array:
    return bits.view(dtype) if dtype == torch.uint64 else bits.to(dtype)


def _ordered(x: Array) -> Array:
    """Return int64 numbers in the same order: the upper half of uint64 stays above the lower."""
    return _bits(x) ^ _LEAST if x.dtype == torch.uint64 else _bits(x)


def _of_ordered(numbers: Array, dtype: torch.dtype) -> Array:
    return _of_bits(numbers ^ _LEAST if dtype == torch.uint64 else numbers, dtype)


def _stand_in(
    there: Callable[[Array], Array], back: Callable[[Array, torch.dtype], Array]
) -> Callable[[Function], Function]:
    """Return what lets a function compute with ``there(x)``, and its result go ``back``."""

    def wrap(function: Function) -> Function:
        @wraps(function)
        def run(*operands: Array, **options: Any) -> Array:
            dtype = operands[0].dtype
            if dtype not in _WIDE:
                return function(*operands, **options)
            given = [there(x) if isinstance(x, torch.Tensor) else x for x in operands]
            return back(function(*given, **options), dtype)

        return run

    return wrap


def _of_uint64(own: Function) -> Callable[[Function], Function]:
    """Return what lets ``own`` compute with the bits of uint64, and a function with others."""

    def wrap(function: Function) -> Function:
        by_bits = _MODULAR(function)

        @wraps(function)
        def run(x: Array, y: Array) -> Array:
            if x.dtype != torch.uint64:
                return by_bits(x, y)
            return own(_bits(x), _bits(y)).view(torch.uint64)

        return run

    return wrap


def _quotient(x: Array, y: Array) -> Array:
    """Divide bits of uint64: half of x, doubled, and one more if the rest still holds y.

    Warren 2013, "Hacker's Delight", chapter 9. A negative y stands for 2^63 or more, which half of
    x does not hold.
    """
    half = torch.where(y > 0, torch.floor_divide(_halved(x), y.clamp(min=1)) << 1, 0)
    return half + (((x - half * y) ^ _LEAST) >= (y ^ _LEAST)).to(torch.int64)


def _rest(x: Array, y: Array) -> Array:
    return x - _quotient(x, y) * y


def _shifted(x: Array, y: Array) -> Array:
    """Shift bits of uint64 to the right, filling up with zeros."""
    return torch.where(y == 0, x, _halved(x) >> (y - 1).clamp(min=0))


def _halved(x: Array) -> Array:
    return x >> 1 & ~_LEAST


def _with_zeros(function: Function) -> Function:
    """Return a division whose result is 0, as NumPy's, where an integer is divided by 0."""

    @wraps(function)
    def run(x: Array, y: Array) -> Array:
        if y.is_floating_point():
            return function(x, y)
        zero = y == 0
        return function(x, y.masked_fill(zero, 1)).masked_fill(zero, 0)

    return run


def _with_ones(function: Function) -> Function:
    """Return a power that is 1, as NumPy's, where a complex number has the power 0."""

    @wraps(function)
    def run(x: Array, y: Array) -> Array:
        found = function(x, y)
        return found.masked_fill(y == 0, 1) if found.is_complex() else found

    return run


# Right in the low bits, whatever stands above them
_MODULAR = _stand_in(_bits, _of_bits)
_STAND_INS: dict[Callable[[Function], Function], tuple[str, ...]] = {
    _MODULAR: (
        *("negative", "square", "add", "subtract", "multiply", "_power", "matmul", "linear_scan"),
        *("bitwise_invert", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_left_shift"),
        *("tril", "triu", "flip", "take", "take_along_axis", "scatter_add", "place"),
    ),
    # One of the values; where it stands, or how two compare
    _stand_in(_ordered, _of_ordered): ("maximum", "minimum", "max", "min"),
    _stand_in(_ordered, lambda found, dtype: found): (
        *("less", "less_equal", "greater", "greater_equal"),
        *("argmax", "argmin", "argsort", "searchsorted"),
    ),
    _stand_in(lambda x: x != 0, lambda found, dtype: found): (
        *("logical_not", "logical_and", "logical_or", "logical_xor"),
    ),
    _stand_in(lambda x: (x != 0).to(torch.int64), _of_bits): ("sign",),
    lambda function: lambda x: x if x.dtype in _WIDE else function(x): (
        *("abs", "floor", "ceil", "trunc"),
    ),
    _with_zeros: ("floor_divide", "remainder"),
    _with_ones: ("_power",),
    _of_uint64(_with_zeros(_quotient)): ("floor_divide",),
    _of_uint64(_with_zeros(_rest)): ("remainder",),
    _of_uint64(_shifted): ("bitwise_right_shift",),
}
