"""Matrix products, and the linear map of a layer. The gradients of a product are products."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from helixml import dtypes, shapes
from helixml._core.composed import composite, fused
from helixml._core.op import primitive
from helixml._core.samples import Failure, blank, sample
from helixml._core.tensor import Tensor
from helixml.errors import ShapeError, ValueRangeError
from helixml.ops.activation import FLOPS, FLOPS_VJP, gelu, relu, silu
from helixml.ops.movement import expand_dims, matrix_transpose, permute_dims, reshape, sum_to
from helixml.ops.numbers import conj

Array = Any


@primitive(direct=True, holomorphic=True, oracle=np.matmul)
def matmul(B, x: Array, y: Array):
    """Multiply matrices, batched over leading axes.

    Parameters
    ----------
    x : Tensor, (..., m, k) or (k,).
    y : Tensor, (..., k, n) or (k,). Leading axes broadcast.

    Returns
    -------
    Tensor, (..., m, n); the axis of a vector operand is missing. 16-bit floats are multiplied and
    added in float32.

    Raises
    ------
    ShapeError : the inner dimensions differ, or an operand is a scalar.

    Notes
    -----
    Gradient: g y^T and x^T g. Costs 2 m k n FLOPs for each batch entry.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.matmul(hx.ones((2, 3)), hx.ones((3, 4))).shape
    (2, 4)
    """
    return B.matmul(x, y)


matmul.options["shapes_differ"] = True


@matmul.diagnose
def _(x, y):
    ranks = [getattr(operand, "ndim", 0) for operand in (x, y)]  # Python scalars have none
    if 0 in ranks:
        which = "x" if ranks[0] == 0 else "y"
        return ShapeError(f"matmul: a scalar operand: {which} has no axes. Hint: x * y.")
    inner = y.shape[-2] if y.ndim > 1 else y.shape[0]
    if x.shape[-1] != inner:
        hint = ""
        if y.ndim > 1 and y.shape[-1] == x.shape[-1]:
            hint = f" Hint: x @ y.mT multiplies by {(*y.shape[:-2], y.shape[-1], y.shape[-2])}."
        return ShapeError(
            f"matmul: inner dimensions differ: x is {x.shape}, y is {y.shape} "
            f"({x.shape[-1]} != {inner}).{hint}"
        )
    shapes.broadcast("matmul", x.shape[:-2], y.shape[:-2])  # raises where they do not
    return None


def _as_matrices(g, x_rank, y_rank):
    """Return ``g`` with the axes that vector operands left out."""
    if y_rank == 1:
        g = expand_dims(g, -1)
    if x_rank == 1:
        g = expand_dims(g, -2)
    return g


@matmul.vjp("x")
def _(g, y, x_shape, y_shape):
    g = _as_matrices(g, len(x_shape), len(y_shape))
    y = reshape(y, (-1, 1)) if len(y_shape) == 1 else y
    gradient = g @ matrix_transpose(y)  # (..., m, k)
    return sum_to(gradient, (1, *x_shape)) if len(x_shape) == 1 else gradient


@matmul.vjp("y")
def _(g, x, x_shape, y_shape):
    g = _as_matrices(g, len(x_shape), len(y_shape))
    if len(y_shape) == 2 and len(x_shape) > 2:  # (b, m, k) with one (k, n): a single large product
        rows = shapes.size(x_shape[:-1])  # not -1: the other size may be 0
        x = reshape(x, (rows, x_shape[-1]))
        return matrix_transpose(x) @ reshape(g, (rows, g.shape[-1]))
    x = reshape(x, (1, -1)) if len(x_shape) == 1 else x
    gradient = matrix_transpose(x) @ g  # (..., k, n)
    if len(y_shape) == 1:
        return reshape(sum_to(gradient, (*(1,) * (gradient.ndim - 2), y_shape[0], 1)), y_shape)
    return gradient


matmul.flops(lambda x, out: 2 * x.shape[-1] * out.size)


@matmul.samples
def _():
    yield sample((3, 4), (4, 2))
    yield sample((2, 3, 4), (4, 2))
    yield sample((2, 3, 4), (2, 4, 2))
    yield sample((5, 1, 3, 4), (2, 4, 2))
    yield sample((4,), (4, 2))
    yield sample((2, 3, 4), (4,))
    yield sample((4,), (4,))
    yield sample((0, 4), (4, 2))
    yield sample((3, 0), (0, 2))
    yield sample((2, 3, 0), (0, 2))


@matmul.errors
def _():
    x, w = blank(32, 128), blank(64, 128)
    yield Failure(
        lambda: x @ w, ShapeError, r"x is \(32, 128\), y is \(64, 128\) \(128 != 64\).*mT"
    )
    yield Failure(lambda: matmul(x, 2.0), ShapeError, r"a scalar operand")
    yield Failure(lambda: matmul(blank(2, 3, 4), blank(3, 4, 2)), ShapeError, r"do not broadcast")


# Products over chosen axes


def _tensordot_oracle(x, y, axes=2):
    return np.tensordot(x, y, axes)


@composite(oracle=_tensordot_oracle)
def tensordot(x: Tensor, y: Tensor, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """Multiply and add over several axes of both operands.

    Parameters
    ----------
    x, y : Tensor.
    axes : the axes of ``x`` and those of ``y``, in pairs; an int n is the last n of ``x`` and the
        first n of ``y``.

    Returns
    -------
    Tensor: the other axes of ``x``, then those of ``y``.

    Raises
    ------
    ShapeError : two axes of a pair differ in size, or there are too few axes.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.tensordot(hx.ones((2, 3, 4)), hx.ones((4, 3, 5)), axes=((1, 2), (1, 0))).shape
    (2, 5)
    """
    if not isinstance(axes, (tuple, list)):
        n = dtypes.as_integer("tensordot", "axes", axes)
        if not 0 <= n <= min(x.ndim, y.ndim):
            raise ShapeError(f"tensordot: {n} axes of shapes {x.shape} and {y.shape}.")
        mine, other = tuple(range(x.ndim - n, x.ndim)), tuple(range(n))
    else:
        mine = tuple(shapes.normalize_axis("tensordot", a, x.ndim) for a in axes[0])
        other = tuple(shapes.normalize_axis("tensordot", a, y.ndim) for a in axes[1])
    inner = tuple(x.shape[a] for a in mine)
    if inner != tuple(y.shape[a] for a in other) or len(set(mine)) != len(mine):
        raise ShapeError(
            f"tensordot: axes {mine} of shape {x.shape} do not pair with {other} of {y.shape}."
        )
    left = tuple(a for a in range(x.ndim) if a not in mine)
    right = tuple(a for a in range(y.ndim) if a not in other)
    rows, columns = tuple(x.shape[a] for a in left), tuple(y.shape[a] for a in right)
    size = shapes.size(inner)
    x = reshape(permute_dims(x, (*left, *mine)), (shapes.size(rows), size))
    y = reshape(permute_dims(y, (*other, *right)), (size, shapes.size(columns)))
    return reshape(matmul(x, y), (*rows, *columns))


@tensordot.samples
def _():
    yield sample((2, 3, 4), (3, 4, 2))
    yield sample((2, 3, 4), (4, 3, 5), axes=((1, 2), (1, 0)))
    yield sample((2, 3), (4,), axes=0)
    yield sample((2, 3), (3,), axes=1)
    yield sample((2, 3), (2, 3))
    yield sample((2, 0), (0, 3), axes=1)


@tensordot.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: tensordot(x, x, axes=1), ShapeError, r"axes \(1,\) of shape \(2, 3\) do")
    yield Failure(lambda: tensordot(x, x, axes=3), ShapeError, r"3 axes of shapes")
    yield Failure(lambda: tensordot(x, x, axes=((2,), (0,))), ShapeError, r"axis 2 is out of range")


def _vecdot_oracle(x, y, axis=-1):
    return np.vecdot(x, y, axis=axis)


@composite(oracle=_vecdot_oracle)
def vecdot(x: Tensor, y: Tensor, axis: int = -1) -> Tensor:
    """Return the inner products of the vectors along an axis, sum(conj(x) y).

    Parameters
    ----------
    x, y : Tensor, equal in size along ``axis``; the other axes broadcast.
    axis : int, counted from the last axis of both.

    Returns
    -------
    Tensor, without ``axis``; 16-bit floats are multiplied and added in float32.

    Raises
    ------
    ShapeError : the sizes along ``axis`` differ, or ``axis`` is not that of both.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.vecdot(hx.tensor([[1.0, 2.0], [3.0, 4.0]]), hx.tensor([1.0, 1.0]))
    tensor([3., 7.])
    """
    first = shapes.normalize_axis("vecdot", axis, x.ndim)
    second = shapes.normalize_axis("vecdot", axis, y.ndim)
    if x.shape[first] != y.shape[second] or x.ndim - first != y.ndim - second:
        raise ShapeError(f"vecdot: axis {axis} of shapes {x.shape} and {y.shape} is not the same.")
    x = permute_dims(x, (*(a for a in range(x.ndim) if a != first), first))
    y = permute_dims(y, (*(a for a in range(y.ndim) if a != second), second))
    x = conj(x) if dtypes.kind(x.dtype) == "c" else x
    product = matmul(expand_dims(x, -2), expand_dims(y, -1))  # (..., 1, 1)
    return reshape(product, product.shape[:-2])


@vecdot.samples
def _():
    yield sample((3, 4), (3, 4))
    yield sample((2, 3, 4), (3, 1), axis=-2)
    yield sample((3, 4), (3, 4), axis=0)
    yield sample((4,), (2, 4))
    yield sample((2, 0), (0,))


@vecdot.errors
def _():
    x = blank(2, 3)
    yield Failure(lambda: vecdot(x, blank(2)), ShapeError, r"axis -1 of shapes \(2, 3\) and \(2,\)")
    yield Failure(lambda: vecdot(x, blank(2), axis=0), ShapeError, r"is not the same")
    yield Failure(lambda: vecdot(x, blank()), ShapeError, r"a scalar has no axes")


# The map of a layer

_ACTIVATIONS = {"gelu": gelu, "relu": relu, "silu": silu}


def _linear_oracle(x, weight, bias=None, activation=None):
    y = np.matmul(x, np.swapaxes(weight, 0, 1))
    if bias is not None:
        y = y + bias
    return y if activation is None else _ACTIVATIONS[activation].oracle(y)


@fused(oracle=_linear_oracle)
def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    activation: Literal["gelu", "relu", "silu"] | None = None,
):
    """Map the last axis by a matrix, activation(x W^T + b).

    Parameters
    ----------
    x : Tensor, (..., d), numbers.
    weight : Tensor, (n, d): W, one row for each output.
    bias : Tensor, (n,), b, or None.
    activation : None, "gelu", "relu" or "silu".

    Returns
    -------
    Tensor, (..., n).

    Raises
    ------
    ShapeError : sizes do not match. ValueRangeError : unknown activation.

    Notes
    -----
    Costs 2 d n FLOPs for each row of ``x``.

    Examples
    --------
    >>> import helixml as hx
    >>> weight = hx.tensor([[1.0, 2.0], [3.0, 4.0], [0.0, -1.0]])
    >>> hx.linear(hx.tensor([1.0, 1.0]), weight, hx.tensor([0.0, 1.0, 0.0]), activation="relu")
    tensor([3., 8., 0.])
    """
    y = matmul(x, matrix_transpose(weight))
    if bias is not None:
        y = y + bias
    return y if activation is None else _ACTIVATIONS[activation](y)


@linear.check
def _(x, weight, bias, activation):
    if x.ndim == 0 or weight.ndim != 2 or x.shape[-1] != weight.shape[1]:
        hint = ""
        if x.ndim and weight.ndim == 2 and x.shape[-1] == weight.shape[0]:
            hint = f" Hint: weight.mT is {weight.shape[::-1]}."
        raise ShapeError(
            f"linear: x is {x.shape}, weight is {weight.shape}; they must be (..., d) and (n, d)."
            f"{hint}"
        )
    if bias is not None and bias.shape != weight.shape[:1]:
        raise ShapeError(f"linear: bias is {bias.shape}, it must be {weight.shape[:1]}.")
    if activation is not None and activation not in _ACTIVATIONS:
        raise ValueRangeError(
            f"linear: activation={activation!r}. Hint: None, {', '.join(map(repr, _ACTIVATIONS))}."
        )


@linear.flops
def _(x, bias, activation, out):
    finish = (bias is not None) + (FLOPS[activation] if activation else 0)
    return (2 * x.shape[-1] + finish) * out.size


@linear.flops_vjp
def _(x, bias, activation, out, needs):
    """Count the activation's derivative, a product for x, one for the weight, a sum over rows."""
    n = out.shape[-1]
    products = needs["x"] + needs["weight"]
    total = (2 * x.shape[-1] * products + (FLOPS_VJP[activation] if activation else 0)) * out.size
    return total + (max(0, out.size - n) if needs["bias"] else 0)


@linear.samples
def _():
    for activation in (None, *_ACTIVATIONS):  # booleans: "uif" leaves out the logical product
        kinds = "uifc" if activation in (None, "silu") else "uif"
        yield sample((2, 3, 4), (5, 4), (5,), kinds=kinds, activation=activation)
    yield sample((3, 4), (2, 4), kinds="uifc")
    yield sample((3, 4), (5, 4), kinds="uifc", activation="silu")
    yield sample((4,), (5, 4), (5,), kinds="uifc")
    yield sample((0, 4), (5, 4), (5,), kinds="uif", activation="gelu")
    yield sample((3, 0), (5, 0), (5,), kinds="uifc")


@linear.errors
def _():
    x, w = blank(2, 3), blank(4, 3)
    yield Failure(
        lambda: linear(x, blank(3, 4)),
        ShapeError,
        r"weight is \(3, 4\).*Hint: weight.mT is \(4, 3",
    )
    yield Failure(lambda: linear(blank(), w), ShapeError, r"x is \(\), weight is \(4, 3\)")
    yield Failure(lambda: linear(x, w, blank(3)), ShapeError, r"bias is \(3,\), it must be \(4,\)")
    yield Failure(
        lambda: linear(x, w, activation="tanh"), ValueRangeError, r"'tanh'. Hint: None, '"
    )
