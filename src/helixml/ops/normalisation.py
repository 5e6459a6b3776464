"""Normalisation of pictures and vectors: plain compositions. Those of rows are in `fused`.

All but `normalize` take channels as axis 1. Nothing here keeps running statistics: layers do.
"""

from __future__ import annotations

import math

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite
from helixml._core.samples import Failure, blank, floats, sample
from helixml._core.tensor import Tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops import reduction
from helixml.ops.elementwise import abs, divide, maximum, multiply, pow, sqrt, square
from helixml.ops.movement import reshape
from helixml.ops.padding import pad
from helixml.ops.windows import each, unfold


def _check(op, x, least, **vectors):
    """Check that ``x`` is a float with ``least`` axes, and that vectors have an entry a channel."""
    if x.ndim < least:
        wanted = "(b, c, l...)" if least > 2 else "(b, c, ...)"
        raise ShapeError(f"{op}: x is {x.shape}, it must be {wanted}. Hint: x[None] adds a batch.")
    for name, tensor in {"x": x, **vectors}.items():
        if tensor is not None and dtypes.kind(tensor.dtype) != "f":
            raise DTypeError(
                f"{op}: {name} must be a float, not {tensor.dtype}. Hint: astype('float32')."
            )
        if name != "x" and tensor is not None and tensor.shape != x.shape[1:2]:
            raise ShapeError(
                f"{op}: {name} is {tensor.shape}, x is {x.shape}; it must be {x.shape[1:2]}, an "
                "entry for each channel."
            )


def _per_channel(vector, x):
    """Return a vector in a shape that broadcasts along the channels of ``x``."""
    return reshape(vector, (-1, *(1,) * (x.ndim - 2)))


def _scaled(y, weight, bias):
    """Return y weight + bias, for each channel."""
    if weight is not None:
        y = y * _per_channel(weight, y)
    return y if bias is None else y + _per_channel(bias, y)


def _standardised(x, axis, eps):
    """Return ``x`` with mean 0 and variance 1 over ``axis``."""
    centred = x - reduction.mean(x, axis=axis, keepdims=True)
    return centred / sqrt(reduction.mean(square(centred), axis=axis, keepdims=True) + eps)


def _group_oracle(x, groups, weight=None, bias=None, eps=1e-5):
    y = np.empty_like(x)
    width = x.shape[1] // groups
    for b, i in np.ndindex(len(x), groups):
        block = x[b, i * width : (i + 1) * width]
        y[b, i * width : (i + 1) * width] = (block - block.mean()) / np.sqrt(block.var() + eps)
    return _affine_oracle(y, weight, bias)


def _affine_oracle(y, weight, bias):
    tail = (1,) * (y.ndim - 2)
    y = y if weight is None else y * weight.reshape(-1, *tail)
    return y if bias is None else y + bias.reshape(-1, *tail)


@composite(oracle=_group_oracle)
def group_norm(
    x: Tensor,
    groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise mean and variance of each group of channels, in each picture.

    (x - mean) / sqrt(var + eps) weight + bias, the variance being the mean square deviation.

    Parameters
    ----------
    x : Tensor, (b, c, ...), float.
    groups : int that divides c; 1 for all channels together, c for each by itself.
    weight, bias : Tensor, (c,), or None.
    eps : float, added to the variance.

    Returns
    -------
    Tensor, same shape.

    Raises
    ------
    ShapeError : channels do not divide by the groups, a group has no entry, or a vector does not
    fit. DTypeError : an operand is no float.

    References
    ----------
    Wu & He 2018, "Group normalization", eqs. 1, 2 and 6.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.group_norm(hx.tensor([[1.0, 3.0, 5.0, 1.0]]), 2, eps=0.0)
    tensor([[-1.,  1.,  1., -1.]])
    """
    _check("group_norm", x, 2, weight=weight, bias=bias)
    (count,) = each("group_norm", "groups", groups, 1, 1)
    b, c, *line = x.shape
    if c % count or c == 0 or 0 in line:
        raise ShapeError(
            f"group_norm: x is {x.shape}; its {c} channels must divide by groups={count}, and no "
            "axis behind the batch be empty."
        )
    apart = reshape(x, (b, count, c // count * shapes.size(tuple(line))))
    return _scaled(reshape(_standardised(apart, -1, eps), x.shape), weight, bias)


def _instance_oracle(x, weight=None, bias=None, eps=1e-5):
    axes = tuple(range(2, x.ndim))
    y = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)
    return _affine_oracle(y, weight, bias)


@composite(oracle=_instance_oracle)
def instance_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalise mean and variance of each channel of each picture: `group_norm` with c groups.

    Parameters
    ----------
    x : Tensor, (b, c, l...), float.
    weight, bias : Tensor, (c,), or None.
    eps : float, added to the variance.

    Returns
    -------
    Tensor, same shape.

    Raises
    ------
    ShapeError : there is no axis behind the channels, one is empty, or a vector does not fit.
    DTypeError : an operand is no float.

    References
    ----------
    Ulyanov, Vedaldi & Lempitsky 2016, "Instance normalization", eq. 4.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.instance_norm(hx.tensor([[[1.0, 3.0], [5.0, 1.0]]]), eps=0.0)
    tensor([[[-1.,  1.],
             [ 1., -1.]]])
    """
    _check("instance_norm", x, 3, weight=weight, bias=bias)
    if 0 in x.shape[2:]:
        raise ShapeError(f"instance_norm: x is {x.shape}; its channels are empty.")
    return _scaled(_standardised(x, tuple(range(2, x.ndim)), eps), weight, bias)


def _batch_oracle(x, mean, var, weight=None, bias=None, eps=1e-5):
    tail = (1,) * (x.ndim - 2)
    y = (x - mean.reshape(-1, *tail)) / np.sqrt(var.reshape(-1, *tail) + eps)
    return _affine_oracle(y, weight, bias)


@composite(oracle=_batch_oracle)
def batch_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each channel by a given mean and variance.

    (x - mean) / sqrt(var + eps) weight + bias.

    Parameters
    ----------
    x : Tensor, (b, c, ...), float.
    mean, var : Tensor, (c,): those of this batch in training, of many batches afterwards. Gradients
        go through them.
    weight, bias : Tensor, (c,), or None.
    eps : float, added to the variance.

    Returns
    -------
    Tensor, same shape.

    Raises
    ------
    ShapeError : a vector has not one entry for each channel. DTypeError : an operand is no float.

    References
    ----------
    Ioffe & Szegedy 2015, "Batch normalization", algorithms 1 and 2.

    Examples
    --------
    >>> import helixml as hx
    >>> x = hx.tensor([[1.0, 2.0], [3.0, 6.0]])
    >>> hx.batch_norm(x, x.mean(axis=0), hx.var(x, axis=0), eps=0.0)
    tensor([[-1., -1.],
            [ 1.,  1.]])
    """
    _check("batch_norm", x, 2, mean=mean, var=var, weight=weight, bias=bias)
    scale = 1 / sqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    y = (x - _per_channel(mean, x)) * _per_channel(scale, x)
    return _scaled(y, None, bias)


def _response_oracle(x, size, alpha=1e-4, beta=0.75, k=1.0):
    y = np.empty_like(x)
    for i in range(x.shape[1]):
        near = x[:, max(0, i - size // 2) : i + (size - 1) // 2 + 1]
        y[:, i] = x[:, i] / (k + alpha / size * (near**2).sum(1)) ** beta
    return y


@composite(oracle=_response_oracle)
def local_response_norm(
    x: Tensor, size: int, *, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Divide each entry by the energy of channels near it, x / (k + alpha mean(x^2))^beta.

    Parameters
    ----------
    x : Tensor, (b, c, ...), float.
    size : int, the number of channels over which the mean is taken, size // 2 of them before; what
        lies beyond the first and the last counts as 0.
    alpha, beta, k : float.

    Returns
    -------
    Tensor, same shape.

    Raises
    ------
    ShapeError : there are no channels. DTypeError : x is no float.

    References
    ----------
    Krizhevsky, Sutskever & Hinton 2012, "ImageNet classification with deep convolutional neural
    networks", section 3.3, where alpha times ``size`` stands for alpha.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.local_response_norm(hx.tensor([[2.0, 0.0, 2.0]]), 1, alpha=0.75, beta=0.5)
    tensor([[1., 0., 1.]])
    """
    _check("local_response_norm", x, 2)
    (n,) = each("local_response_norm", "size", size, 1, 1)
    if x.shape[1] == 0:
        raise ShapeError(f"local_response_norm: x is {x.shape}; it has no channels.")
    ends = ((0, 0), (n // 2, (n - 1) // 2), *((0, 0),) * (x.ndim - 2))
    energy = reduction.sum(unfold(pad(square(x), ends), n, 1, 1), axis=-1)
    return divide(x, pow(k + multiply(energy, alpha / n), beta))


def _normalize_oracle(x, p=2.0, axis=-1, eps=1e-12):
    size = np.linalg.norm(x, p, axis=axis, keepdims=True) if x.size else np.ones(())
    return x / np.maximum(size, eps)


@composite(oracle=_normalize_oracle)
def normalize(x: Tensor, p: float = 2.0, axis: int = -1, eps: float = 1e-12) -> Tensor:
    """Divide by the p-norm along an axis, x / max(sum(abs(x)^p)^(1/p), eps).

    Parameters
    ----------
    x : Tensor, float, with at least one axis.
    p : float above 0; infinity for the largest absolute value.
    axis : int.
    eps : float, the least that is divided by: what is all 0 stays 0.

    Returns
    -------
    Tensor, same shape.

    Raises
    ------
    ShapeError : there is no such axis, or nothing along it. ValueRangeError : ``p`` is not above 0.
    DTypeError : x is no float.

    Notes
    -----
    Gradient: (g - d sum(g y)) / norm, d the derivative of the norm; g / eps for what is all 0.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.normalize(hx.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6, 0.8],
            [0. , 0. ]])
    """
    _check("normalize", x, 0)
    axis = shapes.normalize_axis("normalize", axis, x.ndim)
    if not dtypes.as_number("normalize", "p", p) > 0:
        raise ValueRangeError(f"normalize: p={p} must be above 0.")
    if x.shape[axis] == 0:
        raise ShapeError(f"normalize: nothing lies along axis {axis} of x {x.shape}.")
    if p == math.inf:
        size = reduction.max(abs(x), axis=axis, keepdims=True)
    elif p == 2:
        size = sqrt(reduction.sum(square(x), axis=axis, keepdims=True))
    else:
        size = pow(reduction.sum(pow(abs(x), p), axis=axis, keepdims=True), 1 / p)
    return divide(x, maximum(size, eps))


for _op in (group_norm, instance_norm, batch_norm, local_response_norm, normalize):
    _op.options["kinds"] = "f"


@group_norm.samples
def _():
    weight = floats(4, low=0.5)
    yield sample((2, 4, 3), 2, weight, (4,))
    yield sample((2, 4), 1, weight, eps=1e-2)
    yield sample((1, 4, 2, 2), groups=4)
    yield sample(floats(0, 4, 2), groups=2)


@instance_norm.samples
def _():
    yield sample((2, 2, 4), floats(2, low=0.5), (2,))
    yield sample((1, 2, 2, 3), eps=1e-2)
    yield sample(floats(0, 2, 2), floats(2))


@batch_norm.samples
def _():
    var, weight = floats(3, low=0.5), floats(3, low=0.5)
    yield sample((2, 3, 2), (3,), var, weight, (3,))
    yield sample((4, 3), (3,), var, eps=0.1)
    yield sample((1, 3, 2, 2), (3,), var, None, (3,))
    yield sample(floats(0, 3), (3,), var)


@local_response_norm.samples
def _():
    yield sample((2, 4, 2), size=3, alpha=0.5)
    yield sample((2, 3), size=2, alpha=0.3, beta=0.5, k=2.0)
    yield sample((1, 2, 2, 2), size=5)


@normalize.samples
def _():
    yield sample((3, 4))
    yield sample((2, 3, 2), axis=1)
    yield sample((3, 4), p=1.0, axis=0)
    yield sample((2, 3), p=3.0)
    yield sample(floats(2, 5, low=0.1, distinct=True), p=math.inf)
    yield sample((3,), eps=100.0)
    yield sample(floats(0, 3))


@group_norm.errors
def _():
    x = blank(2, 4, 3)
    yield Failure(lambda: group_norm(x, 3), ShapeError, r"4 channels must divide by groups=3")
    yield Failure(lambda: group_norm(blank(2, 4, 0), 2), ShapeError, r"no axis behind the batch")
    yield Failure(lambda: group_norm(blank(4), 2), ShapeError, r"x is \(4,\), it must be \(b, c, ")
    yield Failure(
        lambda: group_norm(x, 2, blank(3)), ShapeError, r"weight is \(3,\).*must be \(4,\)"
    )
    yield Failure(lambda: group_norm(np.ones((2, 4), int), 2), DTypeError, r"x must be a float")


@instance_norm.errors
def _():
    yield Failure(lambda: instance_norm(blank(2, 3)), ShapeError, r"it must be \(b, c, l\.\.\.\)")
    yield Failure(lambda: instance_norm(blank(2, 3, 0)), ShapeError, r"channels are empty")


@batch_norm.errors
def _():
    x, one = blank(2, 4), blank(4)
    yield Failure(lambda: batch_norm(x, one, blank(2)), ShapeError, r"var is \(2,\), x is \(2, 4\)")
    yield Failure(lambda: batch_norm(x, one, None), DTypeError, r"var")


@local_response_norm.errors
def _():
    x = blank(2, 4)
    yield Failure(lambda: local_response_norm(x, 0), ValueRangeError, r"size=0 must be at least 1")
    yield Failure(lambda: local_response_norm(blank(2, 0), 1), ShapeError, r"has no channels")


@normalize.errors
def _():
    x = blank(2, 4)
    yield Failure(lambda: normalize(x, 0), ValueRangeError, r"p=0 must be above 0")
    yield Failure(lambda: normalize(x, axis=2), ShapeError, r"axis 2 is out of range")
    yield Failure(lambda: normalize(blank(2, 0)), ShapeError, r"nothing lies along axis 1")
