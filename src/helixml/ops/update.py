"""Updates: what optimizers do to parameters, in place, for leaves under `no_grad`.

Each definition ends in ``assign_``; a kernel may do the same in one pass over memory.
"""

from __future__ import annotations

import numpy as np

from helixml._core.op import fused
from helixml._core.samples import Failure, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import InplaceError, ShapeError, ValueRangeError
from helixml.ops.creation import zeros
from helixml.ops.elementwise import sqrt, square


def _same_shapes(op, *tensors):
    first = tensors[0]
    for tensor in tensors[1:]:
        if tensor is not None and tensor.shape != first.shape:
            raise ShapeError(f"{op}: param is {first.shape}, another operand is {tensor.shape}.")


def _adamw_oracle(param, grad, m, v, lr, beta1, beta2, eps, weight_decay, step):
    m = m + (1 - beta1) * (grad - m)
    v = v + (1 - beta2) * (grad**2 - v)
    rate = lr * np.sqrt(1 - beta2**step) / (1 - beta1**step)
    small = eps * np.sqrt(1 - beta2**step)
    return param - lr * weight_decay * param - rate * m / (np.sqrt(v) + small), m, v


@fused(writes=("param", "m", "v"), oracle=_adamw_oracle)
def adamw_(
    param: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
):
    """Take one step of Adam with decoupled weight decay, in place.

    m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,
    p = p - lr weight_decay p - lr (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps)

    Parameters
    ----------
    param, grad, m, v : Tensor, one shape; ``param``, ``m`` and ``v`` are overwritten.
    lr, beta1, beta2, eps, weight_decay : float.
    step : int, t in the formula, from 1.

    References
    ----------
    Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2.
    """
    m.assign_(beta1 * m + (1 - beta1) * grad)
    v.assign_(beta2 * v + (1 - beta2) * square(grad))
    mean = m * (1 / (1 - beta1**step))
    scale = sqrt(v * (1 / (1 - beta2**step))) + eps
    param.assign_(param * (1 - lr * weight_decay) - lr * (mean / scale))


@adamw_.check
def _(param, grad, m, v, beta1, beta2, step, **_):
    _same_shapes("adamw_", param, grad, m, v)
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueRangeError(f"adamw_: beta1={beta1}, beta2={beta2} must lie in [0, 1).")
    if step < 1:
        raise ValueRangeError(f"adamw_: step={step}, the first step is 1.")


adamw_.samples(
    lambda: (
        sample(
            (3, 4),
            (3, 4),
            (3, 4),
            floats(3, 4, low=0.1),
            kinds="f",
            value_only=True,
            lr=0.1,
            beta1=0.9,
            beta2=0.99,
            eps=1e-3,
            weight_decay=0.1,
            step=3,
        ),
        sample(
            (),
            (),
            (),
            floats(low=0.1),
            kinds="f",
            value_only=True,
            lr=0.1,
            beta1=0.0,
            beta2=0.9,
            eps=1e-3,
            weight_decay=0.0,
            step=1,
        ),
        sample(
            (0, 3),
            (0, 3),
            (0, 3),
            (0, 3),
            kinds="f",
            value_only=True,
            lr=0.1,
            beta1=0.9,
            beta2=0.9,
            eps=1e-3,
            weight_decay=0.0,
            step=1,
        ),
    )
)


def _sgd_oracle(param, grad, velocity, lr, momentum, nesterov, weight_decay):
    g = grad + weight_decay * param
    if velocity is None:
        return param - lr * g
    u = momentum * velocity + g
    return param - lr * (g + momentum * u if nesterov else u), u


@fused(writes=("param", "velocity"), oracle=_sgd_oracle)
def sgd_(
    param: Tensor,
    grad: Tensor,
    velocity: Tensor | None,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
):
    """Take one step of gradient descent with momentum, in place.

    g = grad + weight_decay p,  u = momentum u + g,  p = p - lr (g + momentum u if nesterov else u)

    Parameters
    ----------
    param, grad : Tensor, one shape.
    velocity : Tensor of that shape, u in the formula, or None without momentum.
    lr, momentum, weight_decay : float.
    nesterov : look ahead along the velocity.

    References
    ----------
    Sutskever et al. 2013, "On the importance of initialization and momentum", eq. 3, in the form
    where the learning rate multiplies the velocity.
    """
    g = grad + weight_decay * param if weight_decay else grad
    if velocity is not None:
        velocity.assign_(momentum * velocity + g)
        g = g + momentum * velocity if nesterov else velocity
    param.assign_(param - lr * g)


sgd_.check(lambda param, grad, velocity, **_: _same_shapes("sgd_", param, grad, velocity))
sgd_.samples(
    lambda: (
        sample(
            (3, 4),
            (3, 4),
            (3, 4),
            kinds="f",
            value_only=True,
            lr=0.1,
            momentum=0.9,
            nesterov=True,
            weight_decay=0.1,
        ),
        sample(
            (2, 3),
            (2, 3),
            (2, 3),
            kinds="f",
            value_only=True,
            lr=0.1,
            momentum=0.5,
            nesterov=False,
            weight_decay=0.0,
        ),
        sample(
            (3,),
            (3,),
            None,
            kinds="f",
            value_only=True,
            lr=0.1,
            momentum=0.0,
            nesterov=False,
            weight_decay=0.1,
        ),
    )
)


@adamw_.errors
def _():
    x, y = zeros((2,)), zeros((3,))
    options = {"lr": 1.0, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.0, "step": 1}
    yield Failure(lambda: adamw_(x, y, x, x, **options), ShapeError, r"param is \(2,\), another")
    w = zeros((2,))
    w.requires_grad = True
    yield Failure(lambda: adamw_(w, x, x, x, **options), InplaceError, r"requires a gradient")
    for name, value in (("beta1", 1.0), ("beta2", -0.1), ("step", 0)):
        bad = {**options, name: value}
        yield Failure(
            lambda bad=bad: adamw_(x, x, x, x, **bad), ValueRangeError, rf"{name}={value}"
        )


@sgd_.errors
def _():
    x, y = zeros((2,)), zeros((3,))
    options = {"lr": 1.0, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    yield Failure(lambda: sgd_(x, y, None, **options), ShapeError, r"param is \(2,\), another")
