"""Fourier transforms of lines of any length; see fft.wgsl.

Lengths 2^m directly; short other ones as a product with a matrix; longer ones as a convolution with
a chirp: Bluestein 1970, "A linear filtering approach to the computation of the discrete Fourier
transform", from j k = (j^2 + k^2 - (j - k)^2) / 2. Waves are made on the host, in float64, from
angles reduced as integers, and kept for each length.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import Any

import numpy as np

from helixml import dtypes
from helixml.backends.wgpu.arrays import Host, WgpuArray
from helixml.backends.wgpu.kernels.copies import copy_into, dense
from helixml.backends.wgpu.kernels.maps import binary, map_views
from helixml.backends.wgpu.kernels.matmul import matmul
from helixml.backends.wgpu.launch import Program
from helixml.backends.wgpu.runtime import Runtime

__all__ = ["transform"]

_GROUP = 256
_WHOLE = 1024  # the longest line of one workgroup
_MATRIX = 48  # the longest line for which a matrix is made
_KEPT = 32  # tables


def transform(runtime: Runtime, x: WgpuArray, sign: int, scale: float) -> WgpuArray:
    """Return y_k = scale sum_j x_j e^(-sign 2 pi i j k / n) of the lines of dense complex64 ``x``.

    Parameters
    ----------
    x : (..., n).
    sign : 1 to frequencies, -1 back.
    """
    n = x.shape[-1]
    if not x.size:
        return x
    if n & (n - 1) == 0:
        return _halves(runtime, x, sign, scale)
    if n <= _MATRIX:
        waves = _kept(runtime, ("matrix", n, sign, scale), partial(_matrix, n, sign, scale))
        return matmul(runtime, x, waves)
    return _chirped(runtime, x, sign, scale)


def _halves(runtime: Runtime, x: WgpuArray, sign: int, scale: float) -> WgpuArray:
    """Return the transform of lines of 2^m numbers."""
    n = x.shape[-1]
    lines = prod(x.shape[:-1])
    turns = _kept(runtime, ("turns", n), partial(_waves, np.arange(max(n // 2, 1)), n))
    program = Program.of(runtime, "fft.wgsl")
    numbers = {"lines": lines, "n": n, "sign": float(sign)}
    if n <= _WHOLE:
        made = runtime.empty(x.shape, x.dtype)
        program.launch(
            "whole",
            [x, made, turns],
            {**numbers, "s": 1, "scale": scale},
            groups=lines,
            trips=100,
        )
        return made
    s = 1
    while s < n:
        made = runtime.empty(x.shape, x.dtype)
        program.launch(
            "pass_",
            [x, made, turns],
            {**numbers, "s": s, "scale": scale if 2 * s == n else 1.0},
            groups=-(-lines * (n // 2) // _GROUP),
        )
        x, s = made, 2 * s
    return x


def _chirped(runtime: Runtime, x: WgpuArray, sign: int, scale: float) -> WgpuArray:
    """Return the transform of lines of any length, as a convolution of a power of two."""
    n = x.shape[-1]
    size = 1 << (2 * n - 2).bit_length()
    chirp = _kept(runtime, ("chirp", n, sign), partial(_chirp, n, sign))
    filter_ = _kept(runtime, ("filter", n, sign, scale), partial(_filter, n, size, sign, scale))
    lines = x.shape[:-1]
    padded = map_views(runtime, "vec2<f32>()", [], (*lines, size), dtypes.complex64)
    front = padded.view((*lines, n), padded.strides)
    copy_into(runtime, front, binary(runtime, "multiply", x, chirp))
    waves = _halves(runtime, padded, 1, 1.0)
    waves = _halves(runtime, binary(runtime, "multiply", waves, filter_), -1, 1.0 / size)
    front = waves.view((*lines, n), waves.strides)
    return dense(runtime, binary(runtime, "multiply", front, chirp))


def _waves(j: Host, n: int) -> Host:
    """Return e^(-2 pi i j / n) for integers j, which are reduced first."""
    waves: Host = np.exp(-2j * np.pi * (j % n) / n)
    return waves


def _matrix(n: int, sign: int, scale: float) -> Host:
    return scale * _waves(sign * np.outer(np.arange(n), np.arange(n)), n)


def _chirp(n: int, sign: int) -> Host:
    """Return e^(-sign pi i j^2 / n)."""
    return _waves(sign * np.arange(n) ** 2, 2 * n)


def _filter(n: int, size: int, sign: int, scale: float) -> Host:
    """Return the transform of the conjugate chirp, for j from 1 - n to n - 1."""
    chirp = scale * _chirp(n, -sign)
    line = np.zeros(size, complex)
    line[:n] = chirp
    line[size - n + 1 :] = chirp[:0:-1]
    return np.fft.fft(line)


def _kept(runtime: Runtime, key: tuple[Any, ...], make: Any) -> WgpuArray:
    """Return a table on the device, made when first asked for; the oldest is forgotten."""
    tables = runtime.tables
    found = tables.get(key)
    if found is None:
        if len(tables) >= _KEPT:
            del tables[next(iter(tables))]
        found = tables[key] = runtime.from_numpy(make().astype(np.complex64))
    return found
