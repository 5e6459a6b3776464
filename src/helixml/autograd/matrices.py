"""Whole matrices of derivatives: `jacobian` and `hessian`, row by row on one graph."""

from __future__ import annotations

from collections.abc import Sequence
from functools import wraps
from typing import Any

from helixml._core.tensor import Tensor
from helixml.autograd.functions import as_numbers, grad
from helixml.autograd.level import Function, Level, enter
from helixml.autograd.reverse import check_float
from helixml.dtypes import as_integer, kind
from helixml.errors import NotDifferentiableError, ValueRangeError
from helixml.ops.creation import arange, zeros
from helixml.ops.logic import equal
from helixml.ops.movement import concat, stack

__all__ = ["hessian", "jacobian"]


def jacobian(
    f: Function, argnums: int | Sequence[int] = 0, *, chunk: int | None = None
) -> Function:
    r"""Return a function that gives all derivatives of f's outputs, :math:`\partial y/\partial x`.

    Parameters
    ----------
    f : function of Tensors, or of tuples, lists and dicts of them, to Tensors or such structures.
    argnums : which positional arguments to differentiate with respect to.
    chunk : int or None, how many rows are gathered before they are written into the result: beside
        the result and f's graph, so many rows are in memory. All of them if left out.

    Returns
    -------
    Function with f's arguments. For an output (m...) and an input (n...) it returns (m..., n...),
    in the structure of the outputs, within that in the structure of the argument (a tuple of them
    if ``argnums`` is a sequence).

    Raises
    ------
    ValueRangeError : ``chunk`` is not positive.
    NotDifferentiableError : an input or output is of a dtype without gradients, or an output is
        complex.

    Notes
    -----
    f runs once; each element of its outputs costs one backward pass.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.autograd.jacobian(lambda x: hx.concat([x * x, x]))(hx.tensor([1.0, 3.0]))
    tensor([[2., 0.],
            [0., 6.],
            [1., 0.],
            [0., 1.]])
    """
    numbers, single = as_numbers("jacobian", argnums)
    if chunk is not None and as_integer("jacobian", "chunk", chunk) < 1:
        raise ValueRangeError(f"jacobian: chunk={chunk} must be 1 or more rows.")

    @wraps(f)
    def differentiated(*args: Any, **kwargs: Any) -> Any:
        level = enter("jacobian", f, args, numbers, kwargs)
        outputs, form = level.outputs()
        for y in outputs:
            check_float("jacobian", y)
            if kind(y.dtype) == "c":
                raise NotDifferentiableError(
                    f"jacobian: an output is {y.dtype}; as its real and its imaginary part move, "
                    "there are two derivatives. Hint: a function to real(y) and imag(y), or jvp."
                )
        again = level.is_seen_outside(outputs)
        blocks = []
        for y in outputs:
            found = level.arranged(_rows(level, y, chunk or max(y.size, 1), again))
            blocks.append(found[0] if single else tuple(found))
        return form.build(iter(blocks))

    return differentiated


def hessian(f: Function, argnums: int | Sequence[int] = 0, *, chunk: int | None = None) -> Function:
    r"""Return a function that gives all second derivatives of a scalar function.

    Parameters
    ----------
    f : function of Tensors, or of tuples, lists and dicts of them, to a scalar Tensor.
    argnums : which positional arguments to differentiate with respect to.
    chunk : int or None, as for `jacobian`.

    Returns
    -------
    Function with f's arguments. For an input (n...) it returns (n..., n...); for several or for
    structures, structures of blocks: first as the gradient's, within that as the argument's.

    Raises
    ------
    GraphError : f returned no scalar.

    Notes
    -----
    The Jacobian of the gradient; each element of the arguments costs one backward pass through it.

    Examples
    --------
    >>> import helixml as hx
    >>> hx.autograd.hessian(lambda x: x[0] * x[0] * x[1])(hx.tensor([3.0, 5.0]))
    tensor([[10.,  6.],
            [ 6.,  0.]])
    """
    return jacobian(grad(f, argnums), argnums, chunk=chunk)


def _rows(level: Level, y: Tensor, chunk: int, again: bool) -> list[Tensor]:
    """Return dy/dx for each input x of ``level``, shape y.shape + x.shape."""
    positions = arange(y.size, device=y.device)
    inputs = level.inputs

    def row(i: int) -> list[Tensor]:
        unit = equal(positions, i).astype(y.dtype).reshape(y.shape)
        return level.pull([y], [unit], again, retain_graph=True)

    blocks: list[list[Tensor]] = [[] for _ in inputs]
    whole = again or chunk >= y.size
    results = [
        zeros((0 if whole else y.size, *x.shape), dtype=x.dtype, device=x.device) for x in inputs
    ]
    for start in range(0, y.size, chunk):
        stop = min(start + chunk, y.size)
        rows = [row(i) for i in range(start, stop)]
        for k, column in enumerate(zip(*rows, strict=True)):
            if whole:
                blocks[k].append(stack(column))
            else:  # in place: nobody else has seen it
                results[k][start:stop] = stack(column)
    for k, found in enumerate(blocks):
        if found:
            results[k] = concat(found)
    return [r.reshape((*y.shape, *x.shape)) for r, x in zip(results, inputs, strict=True)]
