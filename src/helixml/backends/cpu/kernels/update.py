"""Steps of AdamW and SGD on raw arrays, in place and in one pass over memory; see update.c.

A step for many parameters is one call of the kernel, and its threads share out the elements of all
arrays. A step for one parameter is the same with a single array. The norm of many arrays, and their
scaling, are passes of the same kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

import helixml.backends.cpu.kernels._kernels as _kernels
from helixml.backends.cpu.kernels._kernels import dense
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
    adamw_many_(
        [param], [grad], [m], [v], lr=lr, beta1=beta1, beta2=beta2, eps=eps,
        weight_decay=weight_decay, step=step,
    )  # fmt: skip


def adamw_many_(
    params: Sequence[Array],
    grads: Sequence[Array],
    ms: Sequence[Array],
    vs: Sequence[Array],
    *,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
) -> None:
    """Do `adamw_` for the arrays at each position.

    Parameters
    ----------
    params, grads, ms, vs : at each position arrays of one shape, any strides; all of one dtype.
    """
    written = [dense(arrays) for arrays in (params, ms, vs)]
    update = _kernels.Update(written[0], dense(grads), *written[1:])
    update.set_adamw(lr, beta1, beta2, eps, weight_decay, step)
    share(update.run, update.items, update.size)
    for arrays, results in zip((params, ms, vs), written, strict=True):
        _copy_back(results, arrays)


def sgd_(
    param: Array,
    grad: Array,
    velocity: Array | None,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Overwrite param and velocity with their values after a step.

    Parameters
    ----------
    param, grad, velocity : one shape, float32 or float64, any strides; velocity may be None.
    """
    sgd_many_(
        [param], [grad], [velocity], lr=lr, momentum=momentum, nesterov=nesterov,
        weight_decay=weight_decay,
    )  # fmt: skip


def sgd_many_(
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array | None],
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Do `sgd_` for the arrays at each position.

    Parameters
    ----------
    params, grads, velocities : at each position arrays of one shape, any strides; all of one
        dtype. Either all velocities are None or none is.
    """
    moving = [velocity for velocity in velocities if velocity is not None]
    written = [dense(params), dense(moving)]
    update = _kernels.Update(written[0], dense(grads), written[1] or None, None)
    update.set_sgd(lr, momentum, nesterov, weight_decay)
    share(update.run, update.items, update.size)
    _copy_back(written[0], params)
    _copy_back(written[1], moving)


def norm_many(xs: Sequence[Array]) -> tuple[tuple[Array], tuple[()]]:
    """Return the Euclidean norm of all elements; no residual.

    Squares are summed in float64, those of a run of elements first: each is a part of its own.

    Parameters
    ----------
    xs : at least one, any shapes and strides; all of one dtype.
    """
    update = _kernels.Update(None, dense(xs), None, None)
    parts = np.zeros(update.items)
    update.set_squares(parts)
    share(update.run, update.items, update.size)
    with np.errstate(over="ignore"):  # beyond float32 it is inf
        return (np.asarray(math.sqrt(sum(parts.tolist())), xs[0].dtype),), ()


def scale_many_(xs: Sequence[Array], *, factor: float) -> None:
    """Multiply all arrays with ``factor``.

    Parameters
    ----------
    xs : any shapes and strides; all of one dtype.
    """
    written = dense(xs)
    update = _kernels.Update(written, None, None, None)
    update.set_factor(factor)
    share(update.run, update.items, update.size)
    _copy_back(written, xs)


def _copy_back(results: Sequence[Array], arrays: Sequence[Array]) -> None:
    """Write each result that is not the array itself to the array."""
    for result, array in zip(results, arrays, strict=True):
        if result is not array:
            np.copyto(array, result)
