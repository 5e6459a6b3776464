"""Updates: what optimizers do to parameters, in place, for leaves under `no_grad`.

Beside them what bounds an update: the norm of many tensors, and their scaling.

The definition for one tensor ends in ``assign_``; a kernel may do the same in one pass over memory.
That for many is a loop over the one; a kernel may share them all out among its threads at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helixml._core.composed import fused
from helixml._core.samples import Failure, floats, sample
from helixml._core.tensor import Tensor
from helixml.dtypes import check_floating
from helixml.errors import DTypeError, InplaceError, ShapeError, ValueRangeError
from helixml.ops.creation import zeros
from helixml.ops.elementwise import sign, sqrt, square
from helixml.ops.movement import stack
from helixml.ops.reduction import sum as total

_REAL_PARTS = "keep the real and the imaginary part as two parameters"


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


@fused(writes=("param", "m", "v"), real_only=_REAL_PARTS, oracle=_adamw_oracle)
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


adamw_.flops(lambda param: 15 * param.size)


adamw_.samples(
    lambda: (
        sample(
            (3, 4),
            (3, 4),
            (3, 4),
            floats(3, 4, low=0.1),
            kinds="fc",
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


def _sgd_flops(param, velocity, nesterov, weight_decay):
    return param.size * (2 + 2 * bool(weight_decay) + (velocity is not None) * (2 + 2 * nesterov))


sgd_.flops(_sgd_flops)
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
            (3, 4),
            (3, 4),
            (3, 4),
            kinds="c",
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


# Many tensors in one call


def _check_many(op, written, **groups):
    """Raise ShapeError unless shapes agree at each position, ValueRangeError if a write repeats."""
    shapes = [param.shape for param in groups["params"]]
    for name, group in groups.items():
        found = [s if t is None else t.shape for t, s in zip(group, shapes, strict=True)]
        if found != shapes:
            i = [a == b for a, b in zip(found, shapes, strict=True)].index(False)
            raise ShapeError(f"{op}: params[{i}] is {shapes[i]}, {name}[{i}] is {found[i]}.")
    _check_once(op, *[groups[name] for name in written])


def _check_once(op, *written):
    targets = [id(tensor) for group in written for tensor in group if tensor is not None]
    if len(set(targets)) != len(targets):
        raise ValueRangeError(f"{op}: a tensor is written twice. Hint: list each parameter once.")


def _adamw_many_oracle(params, grads, ms, vs, **settings):
    each = [_adamw_oracle(*one, **settings) for one in zip(params, grads, ms, vs, strict=True)]
    return [x for kind in zip(*each, strict=True) for x in kind]


@fused(writes=("params", "ms", "vs"), real_only=_REAL_PARTS, oracle=_adamw_many_oracle)
def adamw_many_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    ms: Sequence[Tensor],
    vs: Sequence[Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    step: int,
):
    """Take one step of `adamw_` for each of many tensors, in place.

    Parameters
    ----------
    params, grads, ms, vs : sequences of one length; at each position Tensors of one shape.
        ``params``, ``ms`` and ``vs`` are overwritten.
    lr, beta1, beta2, eps, weight_decay, step : as in `adamw_`, the same for all.

    Raises
    ------
    ShapeError : lengths or shapes differ. ValueRangeError : a setting has no meaning, or a tensor
    stands twice among those to be written.

    References
    ----------
    Loshchilov & Hutter 2019, "Decoupled weight decay regularization", algorithm 2.

    Examples
    --------
    >>> import helixml as hx
    >>> w, b = hx.tensor([1.0, 2.0]), hx.tensor(3.0)
    >>> grads = [hx.ones_like(w), hx.ones_like(b)]
    >>> ms, vs = [hx.zeros((2,)), hx.zeros(())], [hx.zeros((2,)), hx.zeros(())]
    >>> settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.0}
    >>> hx.ops.adamw_many_([w, b], grads, ms, vs, **settings, step=1)
    >>> w
    tensor([0.9, 1.9])
    """
    for param, grad, m, v in zip(params, grads, ms, vs, strict=True):
        adamw_(param, grad, m, v, lr, beta1, beta2, eps, weight_decay, step)


@adamw_many_.check
def _(params, grads, ms, vs, beta1, beta2, step, **_):
    written = ("params", "ms", "vs")
    _check_many("adamw_many_", written, params=params, grads=grads, ms=ms, vs=vs)
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueRangeError(f"adamw_many_: beta1={beta1}, beta2={beta2} must lie in [0, 1).")
    if step < 1:
        raise ValueRangeError(f"adamw_many_: step={step}, the first step is 1.")


def _each(*shapes, low=-2.0):
    """Return random inputs of several shapes."""
    return [floats(*shape, low=low) for shape in shapes]


adamw_many_.flops(lambda params: 15 * sum(param.size for param in params))


@adamw_many_.samples
def _():
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-3, "weight_decay": 0.1, "step": 3}
    shapes = ((3, 4), (), (5,), (0, 2))
    for chosen in (shapes, shapes[:1]):
        operands = [_each(*chosen) for _ in range(3)]
        yield sample(*operands, _each(*chosen, low=0.1), kinds="fc", value_only=True, **settings)


@adamw_many_.errors
def _():
    x, y, z, w = (zeros((2,)) for _ in range(4))
    options = {"lr": 1.0, "beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "weight_decay": 0.0, "step": 1}
    yield Failure(
        lambda: adamw_many_([x], [y, z], [z], [w], **options), ShapeError, r"1 params, 2 grads, 1 m"
    )
    yield Failure(
        lambda: adamw_many_([x, y], [x, zeros((3,))], [z, z], [w, w], **options),
        ShapeError,
        r"params\[1\] is \(2,\), grads\[1\] is \(3,\)",
    )
    yield Failure(
        lambda: adamw_many_([x], [y], [z], [x], **options), ValueRangeError, r"is written twice"
    )
    yield Failure(
        lambda: adamw_many_([x], [None], [z], [w], **options), DTypeError, r"grads is None"
    )
    tracked = zeros((2,))
    tracked.requires_grad = True
    yield Failure(
        lambda: adamw_many_([x, tracked], [y, y], [z, zeros((2,))], [w, zeros((2,))], **options),
        InplaceError,
        r"requires a gradient",
    )
    for name, value in (("beta1", 1.0), ("beta2", -0.1), ("step", 0)):
        bad = {**options, name: value}
        yield Failure(
            lambda bad=bad: adamw_many_([x], [y], [z], [w], **bad),
            ValueRangeError,
            rf"{name}={value}",
        )


def _sgd_many_oracle(params, grads, velocities, **settings):
    each = [_sgd_oracle(*one, **settings) for one in zip(params, grads, velocities, strict=True)]
    if velocities[0] is None:
        return each
    return [x for kind in zip(*each, strict=True) for x in kind]


@fused(writes=("params", "velocities"), oracle=_sgd_many_oracle)
def sgd_many_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    velocities: Sequence[Tensor | None],
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
):
    """Take one step of `sgd_` for each of many tensors, in place.

    Parameters
    ----------
    params, grads, velocities : sequences of one length; at each position Tensors of one shape.
        Without momentum all ``velocities`` are None. ``params`` and ``velocities`` are overwritten.
    lr, momentum, nesterov, weight_decay : as in `sgd_`, the same for all.

    Raises
    ------
    ShapeError : lengths or shapes differ. ValueRangeError : some velocities are None and some are
    not, or a tensor stands twice among those to be written.

    References
    ----------
    Sutskever et al. 2013, "On the importance of initialization and momentum", eq. 3, in the form
    where the learning rate multiplies the velocity.

    Examples
    --------
    >>> import helixml as hx
    >>> w, b = hx.tensor([1.0, 2.0]), hx.tensor(3.0)
    >>> grads = [hx.ones_like(w), hx.ones_like(b)]
    >>> settings = {"lr": 0.5, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    >>> hx.ops.sgd_many_([w, b], grads, [None, None], **settings)
    >>> w, b
    (tensor([0.5, 1.5]), tensor(2.5))
    """
    for param, grad, velocity in zip(params, grads, velocities, strict=True):
        sgd_(param, grad, velocity, lr, momentum, nesterov, weight_decay)


@sgd_many_.check
def _(params, grads, velocities, **_):
    written = ("params", "velocities")
    _check_many("sgd_many_", written, params=params, grads=grads, velocities=velocities)
    absent = sum(velocity is None for velocity in velocities)
    if absent not in (0, len(velocities)):
        raise ValueRangeError(
            f"sgd_many_: {absent} of {len(velocities)} velocities are None. Hint: all, or none."
        )


@sgd_many_.flops
def _(params, velocities, nesterov, weight_decay):
    pairs = zip(params, velocities, strict=True)
    return sum(_sgd_flops(p, u, nesterov, weight_decay) for p, u in pairs)


@sgd_many_.samples
def _():
    shapes = ((3, 4), (), (5,), (0, 2))
    for kinds, momentum, nesterov, weight_decay in (
        ("f", 0.9, True, 0.1),
        ("c", 0.9, True, 0.1),
        ("f", 0.5, False, 0.0),
        ("f", 0.0, False, 0.1),
    ):
        yield sample(
            _each(*shapes),
            _each(*shapes),
            _each(*shapes) if momentum else [None] * len(shapes),
            kinds=kinds,
            value_only=True,
            lr=0.1,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )


@sgd_many_.errors
def _():
    x, y, z = (zeros((2,)) for _ in range(3))
    options = {"lr": 1.0, "momentum": 0.0, "nesterov": False, "weight_decay": 0.0}
    yield Failure(
        lambda: sgd_many_([x], [y], [], **options), ShapeError, r"1 params, 1 grads, 0 velocities"
    )
    yield Failure(
        lambda: sgd_many_([x], [zeros((3,))], [None], **options),
        ShapeError,
        r"grads\[0\] is \(3,\)",
    )
    yield Failure(
        lambda: sgd_many_([x, y], [z, z], [None, zeros((2,))], **options),
        ValueRangeError,
        r"1 of 2 velocities are None",
    )
    yield Failure(
        lambda: sgd_many_([x, x], [z, z], [None, None], **options), ValueRangeError, r"twice"
    )


def _lion_many_oracle(params, grads, ms, lr, beta1, beta2, weight_decay):
    steps = [np.sign(m + (1 - beta1) * (g - m)) for g, m in zip(grads, ms, strict=True)]
    moved = [p - lr * (s + weight_decay * p) for p, s in zip(params, steps, strict=True)]
    return [*moved, *(m + (1 - beta2) * (g - m) for g, m in zip(grads, ms, strict=True))]


@fused(writes=("params", "ms"), oracle=_lion_many_oracle)
def lion_many_(
    params: Sequence[Tensor],
    grads: Sequence[Tensor],
    ms: Sequence[Tensor],
    lr: float,
    beta1: float,
    beta2: float,
    weight_decay: float,
):
    """Take one step of Lion for each of many tensors, in place.

    p = p - lr (sign(beta1 m + (1 - beta1) g) + weight_decay p),  m = beta2 m + (1 - beta2) g

    Parameters
    ----------
    params, grads, ms : sequences of one length; at each position Tensors of one shape. ``params``
        and ``ms`` are overwritten.
    lr, beta1, beta2, weight_decay : float, the same for all.

    Raises
    ------
    ShapeError : lengths or shapes differ. ValueRangeError : a beta is not in [0, 1), or a tensor
    stands twice among those to be written.

    References
    ----------
    Chen et al. 2023, "Symbolic discovery of optimization algorithms", algorithm 2.

    Examples
    --------
    >>> import helixml as hx
    >>> w, m = hx.tensor([1.0, 2.0]), hx.zeros((2,))
    >>> grads = [hx.tensor([3.0, -4.0])]
    >>> hx.ops.lion_many_([w], grads, [m], lr=0.5, beta1=0.9, beta2=0.99, weight_decay=0.0)
    >>> w
    tensor([0.5, 2.5])
    """
    for param, grad, m in zip(params, grads, ms, strict=True):
        direction = sign(beta1 * m + (1 - beta1) * grad)
        param.assign_(param * (1 - lr * weight_decay) - lr * direction)
        m.assign_(beta2 * m + (1 - beta2) * grad)


@lion_many_.check
def _(params, grads, ms, beta1, beta2, **_):
    _check_many("lion_many_", ("params", "ms"), params=params, grads=grads, ms=ms)
    if not (0 <= beta1 < 1 and 0 <= beta2 < 1):
        raise ValueRangeError(f"lion_many_: beta1={beta1}, beta2={beta2} must lie in [0, 1).")


lion_many_.flops(lambda params: 10 * sum(param.size for param in params))


@lion_many_.samples
def _():
    settings = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "weight_decay": 0.1}
    shapes = ((3, 4), (), (5,), (0, 2))
    for chosen, kind in ((shapes, "f"), (shapes[:1], "f"), (shapes, "c")):
        operands = [_each(*chosen) for _ in range(3)]
        yield sample(*operands, kinds=kind, value_only=True, **settings)


@lion_many_.errors
def _():
    x, y, z = (zeros((2,)) for _ in range(3))
    options = {"lr": 1.0, "beta1": 0.9, "beta2": 0.9, "weight_decay": 0.0}
    for call, error, pattern in (
        (lambda: lion_many_([x], [y], [], **options), ShapeError, r"1 params, 1 grads, 0 ms"),
        (
            lambda: lion_many_([x], [zeros((3,))], [z], **options),
            ShapeError,
            r"grads\[0\] is \(3,\)",
        ),
        (lambda: lion_many_([x], [y], [x], **options), ValueRangeError, r"is written twice"),
        (
            lambda: lion_many_([x], [y], [z], **{**options, "beta2": 1.0}),
            ValueRangeError,
            r"beta2=1.0 must lie in",
        ),
    ):
        yield Failure(call, error, pattern)


# The norm of many tensors, and their scaling


def _norm_many_oracle(xs):
    return np.sqrt(sum(np.sum(x**2) for x in xs))


@fused(oracle=_norm_many_oracle)
def norm_many(xs: Sequence[Tensor]):
    """Return the Euclidean norm of all elements of many tensors together.

    Parameters
    ----------
    xs : sequence of at least one Tensor, of any shapes, float.

    Returns
    -------
    Tensor, scalar.

    Notes
    -----
    Gradient: g x / norm for each x; 0 where the norm is 0 and g is. A kernel may sum in float64:
    then squares beyond the range of float32 do no harm.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.ops.norm_many([hx.tensor([3.0, 0.0]), hx.tensor(4.0)])
    tensor(5.)
    """
    return sqrt(total(stack([total(square(x)) for x in xs])))


norm_many.options["kinds"] = "f"


@norm_many.check
def _(xs):
    if not xs:
        raise ShapeError("norm_many: needs at least one tensor, got none.")
    _need_floats("norm_many", xs)


@fused(writes=("xs",), oracle=lambda xs, factor: [x * factor for x in xs])
def scale_many_(xs: Sequence[Tensor], factor: float):
    """Multiply many tensors by one number, in place.

    Parameters
    ----------
    xs : sequence of Tensors of any shapes, float; overwritten.
    factor : float.

    Examples
    --------
    >>> import helixml as hx
    >>> x, y = hx.tensor([1.0, 2.0]), hx.tensor(3.0)
    >>> hx.ops.scale_many_([x, y], 0.5)
    >>> x, y
    (tensor([0.5, 1. ]), tensor(1.5))
    """
    for x in xs:
        x.assign_(x * factor)


scale_many_.options["kinds"] = "f"


@scale_many_.check
def _(xs, factor):
    _check_once("scale_many_", xs)
    _need_floats("scale_many_", xs)


def _need_floats(op, xs):
    for i, x in enumerate(xs):
        check_floating(op, f"xs[{i}]", x.dtype)


norm_many.flops(lambda xs: 2 * sum(x.size for x in xs))  # squares, their sum, a root
norm_many.flops_vjp(lambda xs: 1 + sum(x.size for x in xs))
scale_many_.flops(lambda xs: sum(x.size for x in xs))


@norm_many.samples
def _():
    yield sample(_each((3, 4), (), (5,), (0, 2), low=0.1), kinds="fc")
    yield sample(_each((7,)), kinds="f")


@scale_many_.samples
def _():
    yield sample(_each((3, 4), (), (5,), (0, 2)), kinds="fc", value_only=True, factor=0.5)
    yield sample(_each((2, 3)), kinds="f", value_only=True, factor=-3.0)


@norm_many.errors
def _():
    yield Failure(lambda: norm_many([]), ShapeError, r"needs at least one tensor")
    integers = zeros((2,), "int64")
    yield Failure(
        lambda: norm_many([zeros(()), integers]), DTypeError, r"xs\[1\] must be a float, not int64"
    )


@scale_many_.errors
def _():
    x, integers = zeros((2,)), zeros((2,), "int64")
    yield Failure(
        lambda: scale_many_([integers], 2.0), DTypeError, r"xs\[0\] must be a float, not int64"
    )
    yield Failure(lambda: scale_many_([x, x], 2.0), ValueRangeError, r"is written twice")
    tracked = zeros((2,))
    tracked.requires_grad = True
    yield Failure(lambda: scale_many_([x, tracked], 2.0), InplaceError, r"requires a gradient")
