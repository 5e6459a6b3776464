"""One AdamW step on raw arrays, in place and in one pass over memory; the kernel is adamw.c."""

from __future__ import annotations

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels.layout import Array, share


def adamw_(
    param: Array,
    grad: Array,
    m: Array,
    v: Array,
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> None:
    """Overwrite param, m and v with their values after step number ``step``, from 1.

    Parameters
    ----------
    param, grad, m, v : one shape, float32 or float64, any strides.
    """
    written = (param, m, v)
    dense = [np.require(x, requirements=["C", "A"]) for x in written]
    dense_grad = np.require(grad, requirements=["C", "A"])
    kernel = _kernels.AdamW(
        dense[0], dense_grad, *dense[1:], lr, beta1, beta2, eps, weight_decay, step
    )
    share(kernel.run, -(-param.size // _kernels.ADAMW_RUN), param.size)
    for to, result in zip(written, dense, strict=True):
        if result is not to:
            to[...] = result
