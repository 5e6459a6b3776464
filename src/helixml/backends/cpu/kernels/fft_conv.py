"""The long convolution on raw arrays; the kernel is fft_conv.c, for (batch, channels, length)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import empty
from helixml.backends.cpu.kernels.layout import Array, contiguous, rows, share, sum_of_parts

LONGEST = 1 << 24  # a thread's lines take 36 bytes a step in float32
FLOPS_IN_STEP = 16  # at least
FEWEST_ITEMS = 16  # of fewer channels, the sequences of a batch are shared out, too


def takes_length(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether there is anything to compute, and room for it."""
    u = inputs[0]
    return u.size > 0 and u.shape[-1] <= LONGEST


def fft_conv(
    u: Array, k: Array, bias: Array | None = None, gate: Array | None = None
) -> tuple[tuple[Array], tuple[()]]:
    """Return the convolution of channels with filters, as `helixml.ops.fft_conv` explains it.

    Parameters
    ----------
    u, gate : (b, d, l), float32 or float64, any strides.
    k : (d, m), (1, d, m) or (1, m).
    bias : (d,).

    Returns
    -------
    outputs : y (b, d, l).
    residuals : none; spectra are computed again.
    """
    y: Array = empty(u.shape, u.dtype)
    call, parts = _begin(u, k, bias, gate, y)
    share(call.run, parts * u.shape[1], FLOPS_IN_STEP * u.size)
    return (y,), ()


def fft_conv_vjp(
    cotangents: Sequence[Array | None],
    needs: Sequence[bool],
    inputs: Sequence[Array | None],
    residuals: Sequence[Array],
) -> tuple[Array | None, ...]:
    """Return the gradients of u, k, bias and gate."""
    u, k, bias, gate = inputs
    (g,) = cotangents
    assert g is not None and u is not None and k is not None
    of_filters = needs[1] or needs[2]
    call, parts = _begin(u, k, bias, gate, None)
    du: Array = empty(u.shape, u.dtype)
    dgate: Array | None = empty(u.shape, u.dtype) if needs[3] else None
    # The bias is added to the first taps: the gradient of one is that of the other.
    shape = (parts, u.shape[1], k.shape[-1])
    dk: Array | None = empty(shape, u.dtype) if of_filters else None
    call.set_gradients(rows(g), du, dgate, dk)
    share(call.backward, parts * u.shape[1], FLOPS_IN_STEP * u.size)
    dbias = None
    if dk is not None:
        dk = sum_of_parts(dk)
        dbias = np.ascontiguousarray(dk[:, 0]) if needs[2] else None
        dk = (sum_of_parts(dk) if k.shape[-2] < len(dk) else dk).reshape(k.shape)
    return du if needs[0] else None, dk if needs[1] else None, dbias, dgate


def _begin(
    u: Array, k: Array, bias: Array | None, gate: Array | None, y: Array | None
) -> tuple[Any, int]:
    """Return the call, and how many parts each channel's sequences are shared out in."""
    b, d, l = u.shape
    filters = np.broadcast_to(rows(k.reshape(k.shape[-2:])), (d, k.shape[-1]))
    rows_in_item = -(-b // min(b, -(-FEWEST_ITEMS // d)))
    size = max(_kernels.FFT_LEAST, 1 << (l - 1).bit_length())
    constants = _constants(size, u.dtype, _kernels.instruction_set())
    bias = None if bias is None else contiguous(bias)
    gate = None if gate is None else rows(gate)
    call = _kernels.FFTConv(size, rows_in_item, constants, rows(u), filters, bias, gate, y)
    return call, -(-b // rows_in_item)


@lru_cache(maxsize=32)
def _constants(size: int, dtype: np.dtype[Any], instruction_set: str) -> Array:
    """Return the constants of transforms of `size` numbers, a power of two."""
    # They stay: np.empty takes nothing from the cache of blocks.
    constants: Array = np.empty(2 * max(size, _kernels.FFT_ROOM) + 4, dtype)
    _kernels.fill_fft_constants(size, constants)
    return constants
