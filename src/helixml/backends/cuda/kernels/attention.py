"""Attention on a GPU; the kernels are in attention.cu."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from helixml import dtypes
from helixml.backends.cuda.kernels import FLOATS
from helixml.backends.cuda.kernels.parts import Array
from helixml.backends.cuda.kernels.rows import dense
from helixml.backends.cuda.launch import WARP, Program
from helixml.backends.dispatch import Kernel
from helixml.dtypes import DType

__all__ = ["Attention", "kernels", "takes_heads"]

FEW_QUERIES = 4  # below, products of a few rows beat whole tiles
LONGEST = 1 << 29  # positions count in 32 bits
_THREADS = 256
_TILES = ((64, 32), (32, 32), (32, 16), (16, 16))  # queries, keys
_SHARED = 48 << 10  # bytes that any block may have
_MOST_SHARED = 64 << 10  # bytes that every GPU has for a kernel that asks, as for wide heads


def kernels(cp: Any) -> list[Kernel]:
    """Return the kernels of attention."""
    attention = Attention(cp)
    return [
        Kernel("attention", attention.forward, FLOATS, takes_heads),
        Kernel("attention_vjp", attention.backward, FLOATS, takes_heads),
    ]


def takes_heads(inputs: Sequence[Array | None], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is neither mask nor factors, and heads of queries come in groups."""
    q, k, v, mask, factors = inputs
    assert q is not None and k is not None and v is not None
    return (
        mask is None
        and factors is None
        and q.shape[:-3] == k.shape[:-3]
        and _heads(q) % max(1, _heads(k)) == 0
        and FEW_QUERIES <= q.shape[-2] < LONGEST
        and 0 < k.shape[-2] < LONGEST
        and q.size > 0
        and v.size > 0
        and _tiles("pull_keys", q.shape[-1], v.shape[-1], q.dtype) is not None
    )


class Attention:
    """Attention and its gradient.

    Parameters
    ----------
    cp : CuPy's module, or what stands in for it.
    """

    def __init__(self, cp: Any) -> None:  # Any: a module
        self._cp = cp
        self._program = Program(cp, "attention.cu")

    def forward(
        self,
        q: Array,
        k: Array,
        v: Array,
        mask: None = None,
        factors: None = None,
        *,
        causal: bool = False,
        window: int | None = None,
        scale: float | None = None,
        offset: int = 0,
    ) -> tuple[tuple[Array], tuple[Array, Array]]:
        """Return means of values, as `helixml.attention` explains them.

        Parameters
        ----------
        q : (..., h, l, d), k : (..., g, m, d), v : (..., g, m, e); any strides.

        Returns
        -------
        outputs : y (..., h, l, e).
        residuals : y again; the base 2 logarithms of the sums that weights were divided by.
        """
        y, _, logarithms = self.run(
            q, k, v, causal=causal, window=window, scale=scale, offset=offset
        )
        return (y,), (y, logarithms)

    def run(
        self,
        q: Array,
        k: Array,
        v: Array,
        added: Array | None = None,
        *,
        causal: bool = False,
        window: int | None = None,
        scale: float | None = None,
        offset: int = 0,
        alone: bool = True,
    ) -> tuple[Array, Array, Array]:
        """Return y, y + ``added`` and the logarithms; None for what is not asked for.

        Parameters
        ----------
        added : (..., h, l, e) or None. alone : whether y itself is wanted.

        Notes
        -----
        What lies in memory as (..., l, h, d), as layers have it, is read and written as it is.
        """
        cp = self._cp
        steps = _steps_first(q, k, v)
        shape = (*q.shape[:-1], v.shape[-1])
        y, total = (self._room(shape, q.dtype, steps, n) for n in (alone, added is not None))
        logarithms = cp.empty(q.shape[:-1], dtypes.accumulation(q.dtype))
        arrays = [self._laid(x, steps) for x in (q, k, v, y, added, total)]
        band = causal, window, scale, offset
        self._launch("attention", q, k, v, [*arrays, logarithms], steps, *band)
        return y, total, logarithms

    def _room(self, shape: tuple[int, ...], dtype: DType, steps: bool, wanted: bool = True) -> Any:
        """Return an array that lies as others do; None if it is not wanted."""
        if not wanted:
            return None
        if not steps:
            return self._cp.empty(shape, dtype)
        return self._cp.empty((*shape[:-3], shape[-2], shape[-3], shape[-1]), dtype).swapaxes(
            -3, -2
        )

    def _laid(self, x: Array | None, steps: bool) -> Array | None:
        """Return (..., h, l, d) dense, with ``steps`` as (..., l, h, d); None stays."""
        return dense(self._cp, x.swapaxes(-3, -2) if steps and x is not None else x)

    def backward(
        self,
        cotangents: Sequence[Array | None],
        needs: Sequence[bool],
        inputs: Sequence[Array | None],
        residuals: Sequence[Array],
        *,
        causal: bool = False,
        window: int | None = None,
        scale: float | None = None,
        offset: int = 0,
    ) -> tuple[Array | None, ...]:
        """Return the gradients of q, k and v."""
        cp = self._cp
        q, k, v, *_ = inputs
        (g,) = cotangents
        assert g is not None and q is not None and k is not None and v is not None
        y, logarithms = residuals
        steps = _steps_first(q, k, v)
        laid = [self._laid(x, steps) for x in (g, q, k, v)]
        means = cp.empty(logarithms.shape, logarithms.dtype)
        self._program.launch(
            "pulled_means",
            [laid[0], self._laid(y, steps), means, means.size, q.shape[-2], _heads(q)],
            dtype=q.dtype,
            grid=-(-means.size * WARP // _THREADS),
            block=_THREADS,
            constants=_constants("pull_keys", q.shape[-1], v.shape[-1], q.dtype, steps),
        )
        gq = gk = gv = None
        given = [*laid, logarithms, means]
        band = causal, window, scale, offset
        if needs[0]:
            gq = self._room(q.shape, q.dtype, steps)
            self._launch("pull_queries", q, k, v, [*given, self._laid(gq, steps)], steps, *band)
        if needs[1] or needs[2]:
            gk, gv = (self._room(x.shape, x.dtype, steps) for x in (k, v))
            pulled = [*given, self._laid(gk, steps), self._laid(gv, steps)]
            self._launch("pull_keys", q, k, v, pulled, steps, *band)
        return gq, gk if needs[1] else None, gv if needs[2] else None, None, None

    def _launch(
        self,
        name: str,
        q: Array,
        k: Array,
        v: Array,
        arrays: list[Any],
        steps: bool,
        causal: bool,
        window: int | None,
        scale: float | None,
        offset: int,
    ) -> None:
        (l, d), m, e = q.shape[-2:], k.shape[-2], v.shape[-1]
        constants = _constants(name, d, e, q.dtype, steps)
        rows, keys = constants["ROWS"], constants["KEYS"]
        by_keys = name == "pull_keys"
        lines = math.prod((k if by_keys else q).shape[:-2])
        tiles = -(-m // keys) if by_keys else -(-l // rows)
        self._program.launch(
            name,
            [
                *arrays,
                1 / math.sqrt(d) if scale is None else scale,
                *(l, m, _heads(q), _heads(k)),
                *_band(l, m, causal, window, offset),
            ],
            dtype=q.dtype,
            grid=lines * tiles,
            block=_THREADS,
            shared=_bytes(name, d, e, rows, keys, q.dtype),
            constants=constants,
        )


def _steps_first(*arrays: Array) -> bool:
    """Say whether all (..., h, l, d) lie as (..., l, h, d), and not all as they are."""
    if any(x.ndim < 3 for x in arrays) or all(x.flags.c_contiguous for x in arrays):
        return False
    return all(x.swapaxes(-3, -2).flags.c_contiguous for x in arrays)


def _heads(x: Array) -> int:
    return x.shape[-3] if x.ndim > 2 else 1


def _band(l: int, m: int, causal: bool, window: int | None, offset: int) -> tuple[int, int]:
    """Return the first and the last key that a query at 0 sees, wherever keys begin and end."""
    far = l + m
    first = -far if window is None else offset - window + 1
    last = offset if causal else far if window is None else offset + window - 1
    return max(-far, min(first, far)), max(-far, min(last, far))


def _bytes(name: str, width: int, depth: int, rows: int, keys: int, dtype: DType) -> int:
    """Return the shared memory of a block, as the kernel lays it out."""
    weights = rows * (keys + 1)
    if name == "attention":
        numbers = rows * (width + 1) + keys * (max(width, depth) + 1) + weights
    else:
        numbers = (rows + keys) * (width + depth + 2) + weights * (1 + (name == "pull_keys"))
    return numbers * dtypes.accumulation(dtype).itemsize


def _tiles(name: str, width: int, depth: int, dtype: DType) -> tuple[int, int] | None:
    """Return how many queries and keys a block takes at a time; None: there is no room."""
    for tiles in _TILES:
        most = _SHARED if tiles[0] > 32 else _MOST_SHARED
        if _bytes(name, width, depth, *tiles, dtype) <= most:
            return tiles
    return None


def _constants(
    name: str, width: int, depth: int, dtype: DType, steps: bool = False
) -> dict[str, int]:
    tiles = _tiles(name, width, depth, dtype)
    assert tiles is not None  # takes_heads has seen to it
    return {
        "WIDTH": width,
        "DEPTH": depth,
        "ROWS": tiles[0],
        "KEYS": tiles[1],
        "STEPS_FIRST": int(steps),
    }
