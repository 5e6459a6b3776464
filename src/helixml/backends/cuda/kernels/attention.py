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
        cp = self._cp
        y = cp.empty((*q.shape[:-1], v.shape[-1]), q.dtype)
        logarithms = cp.empty(q.shape[:-1], dtypes.accumulation(q.dtype))
        arrays = [*(dense(cp, x) for x in (q, k, v)), y, logarithms]
        self._launch("attention", q, k, v, arrays, causal, window, scale, offset)
        return (y,), (y, logarithms)

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
        g, q, k, v = (dense(cp, x) for x in (g, q, k, v))
        means = cp.empty(logarithms.shape, logarithms.dtype)
        self._program.launch(
            "pulled_means",
            [g, dense(cp, y), means, means.size],
            dtype=q.dtype,
            grid=-(-means.size * WARP // _THREADS),
            block=_THREADS,
            constants=_constants("pull_keys", q.shape[-1], v.shape[-1], q.dtype),
        )
        gq = gk = gv = None
        given = [g, q, k, v, logarithms, means]
        band = causal, window, scale, offset
        if needs[0]:
            gq = cp.empty(q.shape, q.dtype)
            self._launch("pull_queries", q, k, v, [*given, gq], *band)
        if needs[1] or needs[2]:
            gk, gv = (cp.empty(x.shape, x.dtype) for x in (k, v))
            self._launch("pull_keys", q, k, v, [*given, gk, gv], *band)
        return gq, gk if needs[1] else None, gv if needs[2] else None, None, None

    def _launch(
        self,
        name: str,
        q: Array,
        k: Array,
        v: Array,
        arrays: list[Any],
        causal: bool,
        window: int | None,
        scale: float | None,
        offset: int,
    ) -> None:
        (l, d), m, e = q.shape[-2:], k.shape[-2], v.shape[-1]
        constants = _constants(name, d, e, q.dtype)
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


def _constants(name: str, width: int, depth: int, dtype: DType) -> dict[str, int]:
    tiles = _tiles(name, width, depth, dtype)
    assert tiles is not None  # takes_heads has seen to it
    return {"WIDTH": width, "DEPTH": depth, "ROWS": tiles[0], "KEYS": tiles[1]}
