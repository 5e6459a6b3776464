"""Random numbers from counters: explicit, repeatable, the same bits on every backend.

An `Rng` is a key and a counter of Philox4x32-10. Every draw takes the next counters, so the state
is two integers; nothing depends on threads or on the order of memory. Integers, uniforms and
dropout have the same bits everywhere; normals agree to the tolerance of the backend's log and
cosine.

Everything random in helixml takes ``rng=``. `seed` sets the stream that is used when none is given.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from helixml import dtypes, shapes
from helixml._core import cost
from helixml._core.op import primitive
from helixml._core.samples import Failure, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.backends import registry
from helixml.dtypes import DTypeLike
from helixml.errors import ConfigError, DTypeError, GraphError, ValueRangeError

__all__ = ["Draws", "Rng", "default_rng", "dropout", "seed"]

Array = Any
_LOW = 0xFFFFFFFF
# How many random bits a float of [0, 1) gets: as many as its significand holds.
_BITS = {dtypes.float16: 11, dtypes.bfloat16: 8, dtypes.float32: 24}


class Rng:
    """A stream of random numbers: Philox4x32-10 with a 64-bit key and a 128-bit counter.

    Parameters
    ----------
    seed : int in [0, 2^64), the key.

    Notes
    -----
    uniform uses the top 24 bits of one word for float32 (11 and 8 for float16 and bfloat16), and 53
    bits of two for float64; normals are Box and Muller's (1958) cosine form of two uniforms.

    References
    ----------
    Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3.

    Examples
    --------
    >>> import helixml as hx
    >>> rng = hx.random.Rng(0)
    >>> rng.integers(0, 10, (4,))
    tensor([3, 8, 7, 6])
    >>> rng.fork("dropout").state["counter"]
    0
    """

    def __init__(self, seed: int) -> None:
        value = dtypes.as_integer("Rng", "the seed", seed)
        if not 0 <= value < 2**64:
            raise ValueRangeError(f"Rng: seed {value} is not in [0, 2^64).")
        self._key = (value & _LOW, value >> 32)
        self._counter = 0

    def __repr__(self) -> str:
        return f"Rng(key={self._key}, counter={self._counter})"

    @property
    def state(self) -> dict[str, int]:
        """The whole state, as integers."""
        return {"key0": self._key[0], "key1": self._key[1], "counter": self._counter}

    def load_state(self, state: dict[str, int]) -> None:
        """Continue from a `state`."""
        try:
            key, counter = (int(state["key0"]), int(state["key1"])), int(state["counter"])
        except (LookupError, TypeError, ValueError) as error:
            raise ConfigError(
                f"Rng: {state!r} is not a state. Hint: it has key0, key1 and counter."
            ) from error
        if not (min(key) >= 0 and max(key) <= _LOW and 0 <= counter < 2**128):
            raise ConfigError(
                f"Rng: {state!r} is not a state. Hint: the keys have 32 bits, the counter 128."
            )
        self._key, self._counter = key, counter

    def fork(self, name: str) -> Rng:
        """Return an independent stream that depends on this key and ``name`` only."""
        import hashlib

        text = f"{self._key[0]}:{self._key[1]}:{name}".encode()
        return Rng(int.from_bytes(hashlib.sha256(text).digest()[:8], "little"))

    def advance(self, words: int) -> tuple[tuple[int, int], int]:
        """Take the counters of ``words`` 32-bit words; return (key, first counter)."""
        watch = _watch.get()
        return self._advance(words) if watch is None else watch.take(self, words)

    def _advance(self, words: int) -> tuple[tuple[int, int], int]:
        first = self._counter
        self._counter = (first + -(-words // 4)) % 2**128
        return self._key, first

    def bits(self, shape: Any, device: Any = None) -> Tensor:
        """Return uniform 32-bit words, uint32."""
        shape = shapes.as_shape("bits", shape)
        backend = registry.default() if device is None else registry.get(device)
        count = shapes.size(shape)
        key, first = self.advance(count)
        words = backend.reshape(backend.philox(key, first, -(-count // 4)), (-1,))
        words = backend.getitem(words, (slice(0, count),))
        return Tensor(backend.reshape(words, shape), backend)

    def uniform(
        self,
        shape: Any,
        low: float = 0.0,
        high: float = 1.0,
        dtype: DTypeLike = None,
        device: Any = None,
    ) -> Tensor:
        """Return numbers spread evenly over [low, high).

        Parameters
        ----------
        shape : tuple of int.
        low, high : float. Other intervals than [0, 1) are scaled, which may round up to ``high``.
        dtype : a float dtype; float32 if left out.
        """
        kind = _float("uniform", dtype)
        dtypes.as_number("uniform", "low", low)
        dtypes.as_number("uniform", "high", high)
        if not (math.isfinite(low) and math.isfinite(high) and low <= high):
            raise ValueRangeError(f"uniform: [{low}, {high}) is no interval.")
        shape = shapes.as_shape("uniform", shape)
        if kind == dtypes.float64:
            words = self.bits((2, *shape), device).astype(dtypes.float64)
            unit = ((words[0] // 32) * 67108864.0 + words[1] // 64) * 2.0**-53
        else:
            count = _BITS[kind]
            unit = (self.bits(shape, device) // 2 ** (32 - count)).astype(kind) * 2.0**-count
        if (low, high) != (0.0, 1.0):
            unit = unit * (high - low) + low
        return unit

    def normal(
        self,
        shape: Any,
        mean: float = 0.0,
        std: float = 1.0,
        dtype: DTypeLike = None,
        device: Any = None,
    ) -> Tensor:
        """Return normally distributed numbers.

        Parameters
        ----------
        shape : tuple of int.
        mean, std : float; ``std`` not negative.
        dtype : a float dtype; float32 if left out.
        """
        from helixml.ops import cos, log, sqrt

        kind = _float("normal", dtype)
        dtypes.as_number("normal", "mean", mean)
        dtypes.as_number("normal", "std", std)
        if not std >= 0:
            raise ValueRangeError(f"normal: std={std} is negative.")
        wide = dtypes.float64 if kind == dtypes.float64 else dtypes.float32
        shape = shapes.as_shape("normal", shape)
        u = self.uniform((2, *shape), dtype=wide, device=device)
        radius = sqrt(-2.0 * log(1.0 - u[0]))  # 1 - u lies in (0, 1]
        result: Tensor = radius * cos(u[1] * (2 * math.pi))
        if (mean, std) != (0.0, 1.0):
            result = result * std + mean
        return result.astype(kind)

    def integers(self, low: int, high: int, shape: Any = (), device: Any = None) -> Tensor:
        """Return integers in [low, high), int64; the span is at most 2^32.

        An interval of n values has each with probability 1/n to within 2^-32.
        """
        low = dtypes.as_integer("integers", "low", low)
        high = dtypes.as_integer("integers", "high", high)
        span = high - low
        if not 0 < span <= 2**32:
            raise ValueRangeError(f"integers: [{low}, {high}) must hold 1 to 2^32 values.")
        words = self.bits(shape, device).astype(dtypes.uint64)
        return (words * span // 2**32).astype(dtypes.int64) + low

    def bernoulli(self, p: float, shape: Any, device: Any = None) -> Tensor:
        """Return bool, True with probability ``p``."""
        _probability("bernoulli", p)
        return self.uniform(shape, device=device) < p

    def permutation(self, n: int, device: Any = None) -> Tensor:
        """Return 0 .. n - 1 in random order, int64."""
        words = self.bits((2, *shapes.as_shape("permutation", (n,))), device)
        backend = words._backend
        # A stable sort by the low words, then by the high ones: an order by 64 random bits.
        order = backend.argsort(words[0]._array, axis=0)
        high = backend.take(words[1]._array, order, axis=0)
        order = backend.take(order, backend.argsort(high, axis=0), axis=0)
        return Tensor(backend.astype(order, dtypes.int64), backend)


def _float(op: str, dtype: DTypeLike) -> dtypes.DType:
    kind = dtypes.default_float if dtype is None else dtypes.parse(dtype)
    if not dtypes.is_floating(kind):
        raise DTypeError(f"{op}: gives floats, not {kind}. Hint: rng.integers for integers.")
    return kind


def _probability(op: str, p: float) -> None:
    dtypes.as_number(op, "p", p)
    if not 0.0 <= p <= 1.0:
        raise ValueRangeError(f"{op}: p={p} is no probability.")


_SAME = "Hint: what runs again must draw the same, in the same order."


class Draws:
    """What a computation drew from all streams, so that it can be run again with the same draws.

    Examples
    --------
    >>> import helixml as hx
    >>> draws, rng = hx.random.Draws(), hx.random.Rng(0)
    >>> with draws.record():
    ...     x = rng.integers(0, 10, (3,))
    >>> with draws.replay():
    ...     print(rng.integers(0, 10, (3,)), x)
    tensor([3, 8, 7]) tensor([3, 8, 7])
    """

    def __init__(self) -> None:
        self._taken: list[tuple[int, tuple[tuple[int, int], int]]] = []

    @contextmanager
    def record(self) -> Iterator[None]:
        """Remember what this thread or task draws in the block."""
        token = _watch.set(_Watch(self._taken, None))
        try:
            yield
        finally:
            _watch.reset(token)

    @contextmanager
    def replay(self) -> Iterator[None]:
        """Draw in the block what was remembered, whatever the stream; no stream goes on.

        Raises
        ------
        GraphError : something else is drawn than was remembered.
        """
        again = iter(list(self._taken))
        token = _watch.set(_Watch(self._taken, again))
        try:
            yield
        finally:
            _watch.reset(token)
        if rest := sum(1 for _ in again):
            raise GraphError(f"Draws: {rest} draws fewer than the first time. {_SAME}")


class _Watch:
    """One block of `Draws`; within one that replays, one that records gets what is replayed."""

    def __init__(self, taken: list[Any], again: Iterator[Any] | None) -> None:
        self.taken = taken
        self.again = again
        self.outer = _watch.get()

    def take(self, rng: Rng, words: int) -> tuple[tuple[int, int], int]:
        """Return (key, first counter) of a draw."""
        if self.again is None:
            drawn = rng._advance(words) if self.outer is None else self.outer.take(rng, words)
            self.taken.append((words, drawn))
            return drawn
        count, drawn = next(self.again, (0, ((0, 0), 0)))
        if count != words:
            raise GraphError(
                f"Draws: {words} random words are drawn where there were {count} the first time. "
                f"{_SAME}"
            )
        return drawn


_watch: ContextVar[_Watch | None] = ContextVar("helixml_random_watch", default=None)
_default = Rng(0)


def default_rng() -> Rng:
    """Return the stream used where no ``rng`` is given."""
    return _default


def seed(n: int) -> None:
    """Start the default stream anew from ``n``."""
    _default.load_state(Rng(n).state)


def _threshold(p: float) -> int:
    """Return the word below which a position is dropped: p in units of 2^-32."""
    return min(round(p * 2**32), 2**32 - 1)


@primitive
def drop(B, x: Array, key: tuple[int, int], counter: int, p: float):  # type: ignore[no-untyped-def]
    """Zero entries with probability p and scale the others by 1 / (1 - p).

    Which entries follows from the key and the counter alone: the gradient draws the same ones
    again, and no mask is kept. See `dropout`.
    """
    return B.drop(x, key, counter, threshold=_threshold(p), scale=1 / (1 - p))


drop.prepare(lambda x, key, counter, p: {"key": key, "counter": counter, "p": float(p)})
drop.flops(cost.each)
drop.vjp("x")(lambda g, key, counter, p: drop(g, key, counter, p))


@drop.errors
def _():  # type: ignore[no-untyped-def]
    x = Rng(0).uniform((2,))
    yield Failure(lambda: drop(x, (0, 0), 0, "half"), DTypeError, r"p must be float, not 'half'")


drop.samples(lambda: (sample((3, 5), key=(1, 2), counter=7, p=0.5),))


def dropout(x: Tensor, p: float, *, rng: Rng | None = None, training: bool = True) -> Tensor:
    """Zero entries with probability p and scale the rest by 1 / (1 - p), while training.

    Parameters
    ----------
    x : Tensor, any shape, float.
    p : float in [0, 1).
    rng : the stream to draw from; the default one if left out.
    training : otherwise ``x`` comes back as it is.

    Returns
    -------
    Tensor, same shape and dtype.

    References
    ----------
    Srivastava et al. 2014, "Dropout", section 10 (scaled while training).
    """
    x = as_tensor("dropout", x)
    dtypes.as_number("dropout", "p", p)
    if rng is not None and not isinstance(rng, Rng):
        raise DTypeError(f"dropout: rng must be an Rng, not {rng!r:.80}. Hint: hx.random.Rng(0).")
    if not 0.0 <= p < 1.0:
        raise ValueRangeError(f"dropout: p={p} must be in [0, 1).")
    if not dtypes.as_flag("dropout", "training", training) or p == 0.0:
        return x
    key, first = (rng or _default).advance(x.size)
    dropped: Tensor = drop(x, key, first, p)
    return dropped
