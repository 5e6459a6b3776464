"""Every derived array function, written once in terms of the primitive ones.

A backend that subclasses `BackendBase` brings tier 0 and gets tier 1: slow but right. It overrides
what it can do faster. Nothing here writes to an array, so that backends with immutable arrays get
everything too; 16-bit floats are summed in float32.

Knows no array library: arrays are touched through ``self`` only, linear algebra apart, which the
host computes (`lapack`). `protocol` says what each function
promises.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import pi, prod
from operator import index as as_integer
from typing import Any, TypeAlias

from helixml import dtypes
from helixml.backends.dispatch import KernelTable
from helixml.backends.lapack import HostLinearAlgebra
from helixml.backends.protocol import Array
from helixml.device import Device
from helixml.dtypes import DType
from helixml.shapes import Shape

__all__ = ["BackendBase", "Entry", "explicit"]

# Philox4x32-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3):
# multipliers and Weyl increments of the key.
M0, M1 = 0xD2511F53, 0xCD9E8D57
W0, W1 = 0x9E3779B9, 0xBB67AE85
LOW = 0xFFFFFFFF

# Coefficients of P/Q for `erf` by falling powers, of x^2 near 0 and of |x| elsewhere.
_NEAR_TOP = (
    1.85777706184603153e-1,
    3.16112374387056560e0,
    1.13864154151050156e2,
    3.77485237685302021e2,
    3.20937758913846947e3,
)
_NEAR_BOTTOM = (
    1.0,
    2.36012909523441209e1,
    2.44024637934444173e2,
    1.28261652607737228e3,
    2.84423683343917062e3,
)
_FAR_TOP = (
    2.15311535474403846e-8,
    5.64188496988670089e-1,
    8.88314979438837594e0,
    6.61191906371416295e1,
    2.98635138197400131e2,
    8.81952221241769090e2,
    1.71204761263407058e3,
    2.05107837782607147e3,
    1.23033935479799725e3,
)
_FAR_BOTTOM = (
    1.0,
    1.57449261107098347e1,
    1.17693950891312499e2,
    5.37181101862009858e2,
    1.62138957456669019e3,
    3.29079923573345963e3,
    4.36261909014324716e3,
    3.43936767414372164e3,
    1.23033935480374942e3,
)
_BORDER = 0.46875  # between the two
_FLAT = 6.0  # erf(6) rounds to 1 in float64; Cody's second range ends at 4, where 1e-8 is enough

# By what a transform of length n is scaled; its inverse by the rest of 1/n.
_SCALES: dict[str, Callable[[int], float]] = {
    "backward": lambda n: 1.0,
    "ortho": lambda n: n**-0.5,
    "forward": lambda n: 1 / n,
}

# What a basic index says of one axis: None for a new one, a position, or (start, step, count).
Entry: TypeAlias = int | tuple[int, int, int] | None


class BackendBase(HostLinearAlgebra):
    """Tier 1 of a `ComputeBackend`, given tier 0 as attributes of ``self``."""

    name: str = ""
    device: Device
    device_kinds: tuple[str, ...] = ()
    array_type: type = object
    dtypes: tuple[DType, ...] = dtypes.ALL
    kernels: KernelTable
    device_graph: Callable[[Callable[..., Any], Collection[int]], Callable[..., Any]] | None = None
    host_calls = 0  # where there are no graphs, nobody needs the number

    def __getattr__(self, name: str) -> Any:  # Any: tier 0 is bound by the subclass
        raise AttributeError(f"backend {self.name!r} has no function {name!r}")

    # Writing

    def writable(self, x: Array, /) -> Array:
        """Return ``x``: nothing is known of arrays that cannot be written."""
        return x

    # Asking

    def capabilities(self) -> dict[str, Any]:
        """Return what is known of this backend."""
        return {"name": self.name, "device": str(self.device), "kernels": sorted(self.kernels)}

    def memory(self) -> dict[str, int]:
        """Return what is known of memory: nothing, unless the backend overrides this."""
        return {}

    def synchronize(self) -> None:
        """Return at once: this backend computes before it returns."""

    # Elementwise

    def sigmoid(self, x: Array, /) -> Array:
        """Return 1 / (1 + exp(-x)); exp(-|x|) cannot overflow, nor |real(x)| for complex x."""
        dtype = self.dtype_of(x)
        one = self._number(1, dtype)
        size = self.real(x) if dtype.kind == "c" else x
        right = self.greater_equal(size, self._number(0, self.dtype_of(size)))
        e = self.exp(self.where(right, self.negative(x), x))
        return self.divide(self.where(right, one, e), self.add(one, e))

    def erf(self, x: Array, /) -> Array:
        """Return the error function; 16-bit floats are computed in float32.

        Cody 1969, "Rational Chebyshev approximations for the error function", Mathematics of
        Computation 23: the first two of three ranges, the second up to 6, since erf needs 1 - erf
        to 1e-8 there and not to all digits.
        """
        dtype = self.dtype_of(x)
        wide = dtypes.float64 if dtype == dtypes.float64 else dtypes.float32
        x = self.astype(x, wide)

        def number(value: float) -> Array:
            return self._number(value, wide)

        def polynomial(z: Array, coefficients: tuple[float, ...]) -> Array:
            total = number(coefficients[0])
            for coefficient in coefficients[1:]:
                total = self.add(self.multiply(total, z), number(coefficient))
            return total

        size = self.abs(x)
        inner = self.minimum(size, number(_BORDER))
        z = self.multiply(inner, inner)
        near = self.divide(polynomial(z, _NEAR_TOP), polynomial(z, _NEAR_BOTTOM))
        outer = self.minimum(size, number(_FLAT))
        rest = self.divide(polynomial(outer, _FAR_TOP), polynomial(outer, _FAR_BOTTOM))
        bell = self.exp(self.negative(self.multiply(outer, outer)))
        far = self.subtract(number(1), self.multiply(bell, rest))
        far = self.where(self.less(x, number(0)), self.negative(far), far)
        is_near = self.less(size, number(_BORDER))
        return self.astype(self.where(is_near, self.multiply(x, near), far), dtype)

    def special(self, name: str, /, *operands: Any) -> Array:
        """Return a special function, computed by SciPy in host memory."""
        from helixml.backends import special  # loads SciPy

        dtype = next(self.dtype_of(x) for x in operands if isinstance(x, self.array_type))
        hosts = [self.to_numpy(x) if isinstance(x, self.array_type) else x for x in operands]
        return self.asarray(special.evaluate(name, hosts, dtype), dtype=dtype)

    def stack(self, arrays: list[Array], /, *, axis: int) -> Array:
        """Return the arrays joined along a new axis."""
        shape = arrays[0].shape
        apart = (*shape[:axis], 1, *shape[axis:])
        return self.concat([self.reshape(x, apart) for x in arrays], axis=axis)

    # Fourier transforms: the sums that define them, as products with a matrix

    def fft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return y_k = s sum_j x_j e^(-2 pi i j k / n)."""
        return self._waves(x, n, axis, _SCALES[norm](n), -1)

    def ifft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return y_j = s sum_k x_k e^(2 pi i j k / n)."""
        return self._waves(x, n, axis, 1 / n / _SCALES[norm](n), 1)

    def rfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the first half of `fft`: of real numbers the others are its conjugates."""
        return self._resized(self.fft(x, n=n, axis=axis, norm=norm), axis, n // 2 + 1)

    def irfft(self, x: Array, /, *, n: int, axis: int, norm: str) -> Array:
        """Return the real numbers whose `rfft` is x: the other half is put behind it."""
        x = self._resized(self._as_complex(x), axis, n // 2 + 1)
        inner = (*(slice(None),) * axis, slice(1, (n + 1) // 2))
        mirrored = self.conj(self.flip(self.getitem(x, inner), axis=(axis,)))
        whole = self.concat([x, mirrored], axis=axis)
        return self.real(self.ifft(whole, n=n, axis=axis, norm=norm))

    def _waves(self, x: Array, n: int, axis: int, scale: float, sign: int) -> Array:
        """Return scale sum_j x_j e^(sign 2 pi i j k / n), formed in complex128."""
        x = self._resized(self._as_complex(x), axis, n)
        dtype, wide = self.dtype_of(x), dtypes.complex128
        line = self.arange(0, n, 1, dtype=dtypes.int64)
        turns = self.multiply(self.reshape(line, (n, 1)), line)
        turns = self.remainder(turns, self._number(n, dtypes.int64))  # small angles are exact
        angle = self.astype(turns, dtypes.float64)
        angle = self.multiply(angle, self._number(2 * pi / n, dtypes.float64))
        cosine, sine = self.astype(self.cos(angle), wide), self.astype(self.sin(angle), wide)
        matrix = self.add(cosine, self.multiply(self._number(1j * sign, wide), sine))
        rank = len(x.shape)
        last = (*(a for a in range(rank) if a != axis), axis)
        lines = self.permute_dims(self.astype(x, wide), last)
        y = self.multiply(self.matmul(lines, matrix), self._number(scale, wide))
        return self.astype(self.permute_dims(y, tuple(last.index(a) for a in range(rank))), dtype)

    def _as_complex(self, x: Array) -> Array:
        return self.astype(x, dtypes.promote(self.dtype_of(x), dtypes.complex64))

    def _resized(self, x: Array, axis: int, n: int) -> Array:
        """Return ``x`` cropped, or padded with zeros behind, to ``n`` entries along ``axis``."""
        if x.shape[axis] <= n:
            return self._padded(x, axis, 0, n - x.shape[axis])
        return self.getitem(x, (*(slice(None),) * axis, slice(0, n)))

    # Indexing

    def place(self, x: Array, shape: Shape, index: tuple[Any, ...], /) -> Array:
        """Return zeros of ``shape`` with ``x`` written at ``index``: padded axis by axis."""
        entries = [entry for entry in explicit(index, shape) if entry is not None]
        counts = tuple(entry[2] if isinstance(entry, tuple) else 1 for entry in entries)
        x = self.reshape(x, counts)
        for axis, entry in enumerate(entries):
            start, step, count = entry if isinstance(entry, tuple) else (entry, 1, 1)
            if step < 0:
                x = self.flip(x, axis=(axis,))
                start, step = start + (count - 1) * step, -step
            if step > 1 and count > 1:
                x = self._spaced(x, axis, step)
            before = start if count else 0
            x = self._padded(x, axis, before, shape[axis] - before - x.shape[axis])
        return x

    def _spaced(self, x: Array, axis: int, step: int) -> Array:
        """Return ``x`` with ``step - 1`` zeros between neighbours along ``axis``."""
        head, count, tail = tuple(x.shape[:axis]), x.shape[axis], tuple(x.shape[axis + 1 :])
        apart = self.reshape(x, (*head, count, 1, *tail))
        gaps = self.zeros((*head, count, step - 1, *tail), dtype=self.dtype_of(x))
        spaced = self.concat([apart, gaps], axis=axis + 1)
        spaced = self.reshape(spaced, (*head, count * step, *tail))
        kept = slice(0, (count - 1) * step + 1)
        return self.getitem(spaced, (*(slice(None),) * axis, kept))

    def _padded(self, x: Array, axis: int, before: int, after: int) -> Array:
        """Return ``x`` with zeros before and after it along ``axis``."""
        if before == 0 and after == 0:
            return x
        head, tail = tuple(x.shape[:axis]), tuple(x.shape[axis + 1 :])
        dtype = self.dtype_of(x)
        left, right = (self.zeros((*head, n, *tail), dtype=dtype) for n in (before, after))
        return self.concat([left, x, right], axis=axis)

    def scatter_add(self, x: Array, indices: Array, /, *, axis: int, size: int) -> Array:
        """Return the adjoint of `take`: rows sorted by target, then added up target by target.

        Each target also gets a row of zeros, behind its other rows, so that it has a last row; a
        running sum that starts anew at each target leaves the total there.
        """
        rank = len(indices.shape)
        others = [a for a in range(len(x.shape)) if not axis <= a < axis + rank]
        x = self.permute_dims(x, (*range(axis, axis + rank), *others))
        rest = tuple(x.shape[rank:])
        count, width = prod(indices.shape), prod(rest)
        dtype = self.dtype_of(x)
        wide = dtypes.accumulation(dtype)
        rows = self.astype(self.reshape(x, (count, width)), wide)
        targets = self._from_front(self.reshape(indices, (count,)), size)
        rows = self.concat([rows, self.zeros((size, width), dtype=wide)], axis=0)
        targets = self.concat([targets, self.arange(0, size, 1, dtype=dtypes.int64)], axis=0)

        order = self.argsort(targets, axis=0)  # stable: the zeros stay last
        totals = self._summed_runs(
            self.take(rows, order, axis=0), self.take(targets, order, axis=0)
        )
        last = self.getitem(self.argsort(order, axis=0), (slice(count, None),))
        result = self.astype(self.take(totals, last, axis=0), dtype)
        result = self.reshape(result, (size, *rest))
        return self.permute_dims(result, (*range(1, axis + 1), 0, *range(axis + 1, len(rest) + 1)))

    def _summed_runs(self, rows: Array, targets: Array) -> Array:
        """Return running sums of ``rows`` within each run of equal ``targets``.

        By doubling (Hillis & Steele 1986): after k rounds each row holds the sum of the last 2^k
        rows of its run, so the number of rounds is the logarithm of the longest run.
        """
        count, width = rows.shape
        zero = self._number(0, self.dtype_of(rows))
        distance = 1
        while distance < count:
            ahead, behind = (slice(distance, None),), (slice(0, count - distance),)
            same = self.equal(self.getitem(targets, ahead), self.getitem(targets, behind))
            some = self.ensure(self.any(same, axis=(0,), keepdims=False))
            if not bool(self.to_numpy(some)):
                break
            same = self.reshape(same, (count - distance, 1))
            earlier = self.where(same, self.getitem(rows, behind), zero)
            earlier = self.broadcast_to(earlier, (count - distance, width))
            rows = self.add(rows, self._padded(earlier, 0, distance, 0))
            distance *= 2
        return rows

    def take_along_axis(self, x: Array, indices: Array, /, *, axis: int) -> Array:
        """Return entries along ``axis``, by their positions in the flat array."""
        flat = self._positions(indices, axis, x.shape[axis])
        taken = self.take(self.reshape(x, (-1,)), self.reshape(flat, (-1,)), axis=0)
        return self.reshape(taken, tuple(indices.shape))

    def scatter_add_along_axis(self, x: Array, indices: Array, /, *, axis: int, size: int) -> Array:
        """Return the adjoint of `take_along_axis`, by positions in the flat array."""
        shape = (*x.shape[:axis], size, *x.shape[axis + 1 :])
        flat = self.reshape(self._positions(indices, axis, size), (-1,))
        summed = self.scatter_add(self.reshape(x, (-1,)), flat, axis=0, size=prod(shape))
        return self.reshape(summed, shape)

    def unfold(self, x: Array, /, *, size: int, step: int, axis: int, dilation: int) -> Array:
        """Return windows along ``axis``, taken entry by entry."""
        windows = (x.shape[axis] - dilation * (size - 1) - 1) // step + 1
        taken = self.take(x, self._window_positions(windows, size, step, dilation), axis=axis)
        rest = range(axis + 2, len(taken.shape))
        return self.permute_dims(taken, (*range(axis + 1), *rest, axis + 1))

    def fold(self, x: Array, /, *, length: int, step: int, axis: int, dilation: int) -> Array:
        """Return the adjoint of `unfold`, by scattering."""
        rank = len(x.shape)
        positions = self._window_positions(x.shape[axis], x.shape[-1], step, dilation)
        x = self.permute_dims(x, (*range(axis + 1), rank - 1, *range(axis + 1, rank - 1)))
        return self.scatter_add(x, positions, axis=axis, size=length)

    def _window_positions(self, windows: int, size: int, step: int, dilation: int) -> Array:
        """Return where entry j of window i stands, ``(windows, size)``."""
        wide = dtypes.int64
        starts = self.arange(0, windows * step, step, dtype=wide)
        offsets = self.arange(0, size * dilation, dilation, dtype=wide)
        return self.add(self.reshape(starts, (windows, 1)), self.reshape(offsets, (1, size)))

    def _positions(self, indices: Array, axis: int, size: int) -> Array:
        """Return where each index points in a flat array with ``size`` entries along ``axis``."""
        sizes = [size if a == axis else n for a, n in enumerate(indices.shape)]
        total = self._number(0, dtypes.int64)
        for a, n in enumerate(indices.shape):
            if a == axis:
                step = self._from_front(indices, size)
            else:
                ones = [1] * len(sizes)
                ones[a] = n
                step = self.reshape(self.arange(0, n, 1, dtype=dtypes.int64), tuple(ones))
            stride = self._number(prod(sizes[a + 1 :]), dtypes.int64)
            total = self.add(total, self.multiply(step, stride))
        return total

    def _from_front(self, indices: Array, size: int) -> Array:
        """Return ``indices`` in [-size, size) as int64 in [0, size)."""
        indices = self.astype(indices, dtypes.int64)
        negative = self.less(indices, self._number(0, dtypes.int64))
        return self.where(negative, self.add(indices, self._number(size, dtypes.int64)), indices)

    def _number(self, value: complex, dtype: DType) -> Array:
        """Return a 0-d array."""
        return self.full((), value, dtype=dtype)

    # Scans

    def linear_scan(self, a: Array, b: Array, initial: Array | None, /, *, reverse: bool) -> Array:
        """Return h_t = a_t h_(t-1) + b_t along the last axis, step by step."""
        length = b.shape[-1]
        if length == 0:
            return b
        dtype = self.dtype_of(b)
        wide = dtypes.accumulation(dtype)
        a, b = self.astype(a, wide), self.astype(b, wide)
        state = None if initial is None else self.astype(initial, wide)
        states = []
        for t in range(length - 1, -1, -1) if reverse else range(length):
            step = self.getitem(b, (..., t))
            if state is not None:
                step = self.add(self.multiply(self.getitem(a, (..., t)), state), step)
            state = step
            states.append(self.reshape(state, (*state.shape, 1)))
        if reverse:
            states.reverse()
        return self.astype(self.concat(states, axis=len(b.shape) - 1), dtype)

    # Random bits

    def philox(self, key: tuple[int, int], counter: int, blocks: int, /) -> Array:
        """Return ``(blocks, 4)`` uint32 words of Philox4x32-10 from ``counter`` on.

        In uint64: a product of two 32-bit words fits, and nothing wraps around.
        """
        counter %= 2**128
        # Only the lower half of the counter moves within a piece.
        count = min(blocks, 2**64 - counter % 2**64)
        words = self._philox_piece(key, counter, count)
        if count == blocks:
            return words
        rest = self.philox(key, counter + count, blocks - count)
        return self.concat([words, rest], axis=0)

    def _philox_piece(self, key: tuple[int, int], counter: int, count: int) -> Array:
        u64 = dtypes.uint64
        low, half = self._number(LOW, u64), self._number(32, u64)
        m0, m1 = self._number(M0, u64), self._number(M1, u64)
        first = self.add(
            self.arange(0, count, 1, dtype=u64), self._number(counter & (2**64 - 1), u64)
        )
        x0 = self.bitwise_and(first, low)
        x1 = self.bitwise_right_shift(first, half)
        x2 = self.full((count,), counter >> 64 & LOW, dtype=u64)
        x3 = self.full((count,), counter >> 96, dtype=u64)
        k0, k1 = key
        for _ in range(10):
            p0, p1 = self.multiply(x0, m0), self.multiply(x2, m1)
            high0 = self.bitwise_xor(self.bitwise_right_shift(p1, half), x1)
            high2 = self.bitwise_xor(self.bitwise_right_shift(p0, half), x3)
            x0 = self.bitwise_xor(high0, self._number(k0, u64))
            x2 = self.bitwise_xor(high2, self._number(k1, u64))
            x1, x3 = self.bitwise_and(p1, low), self.bitwise_and(p0, low)
            k0, k1 = (k0 + W0) & LOW, (k1 + W1) & LOW
        words = [self.reshape(x, (count, 1)) for x in (x0, x1, x2, x3)]
        return self.astype(self.concat(words, axis=1), dtypes.uint32)

    def drop(
        self, x: Array, key: tuple[int, int], counter: int, /, *, threshold: int, scale: float
    ) -> Array:
        """Return ``scale`` times ``x``; 0 where the word of a position is below ``threshold``."""
        shape = tuple(x.shape)
        count = prod(shape)
        words = self.reshape(self.philox(key, counter, -(-count // 4)), (-1,))
        words = self.reshape(self.getitem(words, (slice(0, count),)), shape)
        low = self.less(words, self._number(threshold, dtypes.uint32))
        dtype = self.dtype_of(x)
        scaled = self.multiply(x, self.full((), scale, dtype=dtype))
        return self.where(low, self._number(0, dtype), scaled)


def explicit(index: tuple[Any, ...], shape: Shape) -> list[Entry]:
    """Return a basic ``index`` of an array of ``shape``, spelled out: one `Entry` an axis.

    >>> explicit((None, -1, slice(None, None, -2)), (3, 4, 5))
    [None, 2, (3, -2, 2), (0, 1, 5)]
    """
    given = sum(item is not None and item is not Ellipsis for item in index)
    if given > len(shape):
        raise IndexError(f"{given} indices for {len(shape)} axes")
    missing = [slice(None)] * (len(shape) - given)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        index = (*index[:at], *missing, *index[at + 1 :])
        if Ellipsis in index:
            raise IndexError("an index can only have a single ellipsis ('...')")
    else:
        index = (*index, *missing)
    sizes = iter(shape)
    entries: list[Entry] = []
    for item in index:
        if item is None:
            entries.append(None)
            continue
        size = next(sizes)
        if isinstance(item, slice):
            chosen = range(size)[item]
            entries.append((chosen.start, chosen.step, len(chosen)))
        else:
            position = as_integer(item)
            if not -size <= position < size:
                raise IndexError(f"index {position} is out of bounds for an axis of size {size}")
            entries.append(position % size)
    return entries
