"""A step of a Mamba mixer on raw arrays; the kernel is mamba_step.c."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import dense, empty
from helixml.backends.cpu.kernels.layout import Array
from helixml.backends.cpu.kernels.stored_linear import FEW, is_read

SHARED_WORK = 1 << 19  # entries of in_proj for all sequences, from which on waking a thread pays


def takes_few_sequences(inputs: Sequence[Any], attributes: Mapping[str, Any]) -> bool:
    """Say whether there are few sequences, and the matrices are read as they lie."""
    x, _, _, in_proj, _, x_proj, dt_proj, _, _, out_proj, *_ = inputs
    matrices = in_proj, x_proj, dt_proj, out_proj
    return 0 < len(x) <= FEW and all(is_read(matrix, x) for matrix in matrices)


def mamba_step(
    x: Array, past: Array, state: Array, *parameters: Any
) -> tuple[tuple[Array, Array, Array], tuple[()]]:
    """Return what a mixer makes of one token, and its next state.

    Parameters
    ----------
    x : (b, m), past : (b, d, k - 1), state : (b, d, n); float32 or float64, any strides.
    parameters : as for `helixml.mamba_step`; matrices of the same floats, of bfloat16 or of int8.

    Returns
    -------
    outputs : y (b, m), next past, next state.
    """
    given = [x, past, state, *parameters]
    laid = iter(dense([array for array in given if array is not None]))
    arrays = [None if array is None else next(laid) for array in given]
    call = _kernels.MambaStep(*arrays)
    in_proj, x_proj = parameters[0], parameters[2]
    (b, d, _), dtype = state.shape, x.dtype
    y, next_past, next_state = (empty(array.shape, dtype) for array in (x, past, state))
    call.run_parts(
        empty((b, 2 * d), dtype),
        empty((b, len(x_proj)), dtype),
        empty((b, d), dtype),
        y,
        next_past,
        next_state,
        b * in_proj.size >= SHARED_WORK,
    )
    return (y, next_past, next_state), ()
