"""Einstein summation: products of tensors with named axes, summed over some of them.

`einsum` reads the subscripts, looks for a good order of products (`einsum_path` shows it) and makes
each of them a matrix product. All of it is made of other ops, so gradients come by themselves.

Axes have labels here: letters, and for those of an ellipsis -1, -2, ..., counted from its end.
"""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from helixml import dtypes
from helixml._core.composed import composite
from helixml._core.samples import Failure, floats, sample
from helixml._core.tensor import Tensor, as_tensor
from helixml.errors import DTypeError, ShapeError, ValueRangeError
from helixml.ops.linalg import matmul
from helixml.ops.matrices import diagonal
from helixml.ops.movement import cast, permute_dims, reshape
from helixml.ops.numbers import positive
from helixml.ops.reduction import sum
from helixml.shapes import Shape

Label: TypeAlias = str | int
Labels: TypeAlias = tuple[Label, ...]
Path: TypeAlias = tuple[tuple[int, int], ...]

# Up to so many operands every order is looked at, 3^n of them: a quarter of a millisecond for 6.
_FEW = 6


class EinsumPath(NamedTuple):
    """What `einsum_path` gives.

    Attributes
    ----------
    path : for each product the places of its two operands; both leave the list, and the product is
        put at its end.
    flops : what the products cost in this order.
    naive_flops : what one loop over all axes would cost.
    largest : number of elements of the largest product.
    """

    path: Path
    flops: int
    naive_flops: int
    largest: int


class _Plan(NamedTuple):
    """What the subscripts say for operands of given shapes."""

    terms: tuple[Labels, ...]
    output: Labels
    sizes: dict[Label, int]
    path: EinsumPath


def einsum(subscripts: str, *operands: Tensor, optimize: Any = True) -> Tensor:
    """Multiply tensors and sum over axes, by Einstein's convention.

    Parameters
    ----------
    subscripts : a letter for each axis of each operand, "ij,jk->ik"; an axis whose letter is not
        behind the arrow is summed over, and letters that an operand repeats take its diagonal.
        "..." stands for any further axes, which broadcast. Without an arrow the result has the
        ellipsis and then, in alphabetical order, the letters that occur once.
    operands : Tensors; axes of one letter have one size.
    optimize : True, "optimal", "greedy", False (from left to right) or a path of `einsum_path`:
        the order of the products. True means optimal for up to 6 operands and greedy for more.

    Returns
    -------
    Tensor of the promoted dtype.

    Raises
    ------
    ShapeError : subscripts do not fit the shapes. ValueRangeError : they, or ``optimize``, mean
    nothing. DTypeError : an operand is boolean.

    Notes
    -----
    Each product is one of stacked matrices; 16-bit floats are multiplied and added in float32.

    Examples
    --------
    >>> import helixml as hx
    >>> x, y = hx.ones((2, 3, 4)), hx.ones((2, 4, 5))
    >>> hx.einsum("bij,bjk->bik", x, y).shape
    (2, 3, 5)
    >>> hx.einsum("ii", hx.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor(5.)
    """
    result: Tensor = contract(operands, subscripts, optimize=optimize)
    return result


def einsum_path(subscripts: str, *operands: Any, optimize: Any = True) -> EinsumPath:
    """Return the order in which `einsum` would multiply, and what it costs.

    Parameters
    ----------
    subscripts, optimize : as for `einsum`.
    operands : Tensors, or anything with a shape.

    Returns
    -------
    EinsumPath : path, flops, naive_flops, largest; to be given to `einsum` as ``optimize``.

    Raises
    ------
    ShapeError, ValueRangeError : as for `einsum`.

    Notes
    -----
    "optimal" has the fewest FLOPs of all orders of pairs, by dynamic programming over subsets;
    "greedy" multiplies next what makes the operands smallest.

    References
    ----------
    Pfeifer, Haegeman & Verstraete 2014, "Faster identification of optimal contraction sequences
    for tensor networks", section II; Smith & Gray 2018, "opt_einsum", for the greedy choice.

    Examples
    --------
    >>> import helixml as hx
    >>> x, v = hx.ones((50, 50)), hx.ones((50,))
    >>> hx.einsum_path("ij,jk,k->i", x, x, v).path
    ((1, 2), (0, 1))
    """
    shapes = tuple([tuple(getattr(x, "shape", ())) for x in operands])
    return _plan(subscripts, shapes, _order("einsum_path", optimize)).path


# Reading


def _terms(subscripts: str) -> tuple[list[str], str | None]:
    """Return the terms of the operands and of the result, "." in the place of an ellipsis."""
    if not isinstance(subscripts, str):
        raise DTypeError(f"einsum: subscripts are a string, not {subscripts!r:.80}.")
    text = subscripts.replace(" ", "").replace("...", ".")
    before, arrow, after = text.partition("->")
    terms = before.split(",")
    for term in (*terms, after):
        for letter in term:
            if not (letter == "." or (letter.isascii() and letter.isalpha())):
                raise ValueRangeError(
                    f"einsum: {letter!r} in {subscripts!r} is no subscript. "
                    "Hint: letters, '...', ',' and one '->'."
                )
        if term.count(".") > 1:
            raise ValueRangeError(f"einsum: {term!r} in {subscripts!r} has two ellipses.")
    return terms, after if arrow else None


def _labels(term: str, shape: Shape, number: int) -> Labels:
    """Return a label for each axis of an operand."""
    letters = len(term) - term.count(".")
    further = len(shape) - letters
    if further < 0 or (further and "." not in term):
        shown = term.replace(".", "...")
        raise ShapeError(
            f"einsum: {shown!r} has {letters} subscripts, operand {number} has "
            f"{len(shape)} axes, {shape}." + (" Hint: '...'." if further > 0 else "")
        )
    found: list[Label] = []
    for letter in term:
        found += range(-further, 0) if letter == "." else [letter]
    return tuple(found)


def _sizes(terms: Sequence[Labels], shapes: Sequence[Shape]) -> dict[Label, int]:
    """Return the size of each label; those of an ellipsis broadcast."""
    sizes: dict[Label, int] = {}
    for number, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        for label, n in zip(term, shape, strict=True):
            known = sizes.setdefault(label, n)
            if n == known or (isinstance(label, int) and n == 1):
                continue
            if isinstance(label, int) and known == 1:
                sizes[label] = n
                continue
            name = repr(label) if isinstance(label, str) else f"axis {label} of '...'"
            raise ShapeError(
                f"einsum: {name} has size {known}, and {n} in operand {number}, {shape}."
            )
    return sizes


def _result(after: str | None, terms: Sequence[Labels], sizes: dict[Label, int]) -> Labels:
    """Return the labels of the result."""
    ellipsis = tuple(sorted(label for label in sizes if isinstance(label, int)))
    if after is None:
        every = [label for term in terms for label in term]
        once = sorted(x for x in sizes if isinstance(x, str) and every.count(x) == 1)
        return (*ellipsis, *once)
    found: list[Label] = []
    for letter in after:
        if letter != "." and letter not in sizes:
            raise ValueRangeError(f"einsum: {letter!r} of the result is in no operand.")
        found += ellipsis if letter == "." else [letter]
    if repeated := [label for label in found if found.count(label) > 1]:
        raise ValueRangeError(f"einsum: {repeated[0]!r} is in the result more than once.")
    if ellipsis and "." not in after:
        raise ValueRangeError(
            "einsum: operands have '...', the result has not. Hint: '->...' keeps these axes."
        )
    return tuple(found)


@lru_cache(maxsize=256)
def _plan(subscripts: str, shapes: tuple[Shape, ...], order: str | bool | Path) -> _Plan:
    """Return what is to be done; the same calls come again and again."""
    before, after = _terms(subscripts)
    if len(before) != len(shapes):
        raise ShapeError(
            f"einsum: {subscripts!r} has {len(before)} terms for {len(shapes)} operands."
        )
    terms = tuple(
        _labels(term, shape, i) for i, (term, shape) in enumerate(zip(before, shapes, strict=True))
    )
    sizes = _sizes(terms, shapes)
    output = _result(after, terms, sizes)
    # An axis of an ellipsis that only broadcasts is left out.
    sets = [
        frozenset(x for x, n in zip(term, shape, strict=True) if n == sizes[x])
        for term, shape in zip(terms, shapes, strict=True)
    ]
    # What is in no other operand and not in the result is summed before any product.
    shared = [frozenset(output).union(*sets[:i], *sets[i + 1 :]) for i in range(len(sets))]
    summed = builtins.sum(
        _size(s, sizes) - _size(s & k, sizes) for s, k in zip(sets, shared, strict=True)
    )
    every = frozenset().union(*sets)
    naive = _size(every, sizes) * (len(sets) - (every <= set(output)))
    sets = [s & k for s, k in zip(sets, shared, strict=True)]
    if order is True:
        order = "optimal" if len(sets) <= _FEW else "greedy"
    if order is False:
        path: Path = _from_left(len(sets))
    elif isinstance(order, str):
        path = (_optimal if order == "optimal" else _greedy)(sets, frozenset(output), sizes)
    else:
        path = order
    flops, largest = _measured(path, sets, frozenset(output), sizes)
    return _Plan(terms, output, sizes, EinsumPath(path, summed + flops, naive, largest))


def _order(op: str, optimize: Any) -> str | bool | Path:
    """Return the checked ``optimize``; NumPy's paths begin with a word."""
    if isinstance(optimize, EinsumPath):
        return optimize.path
    if isinstance(optimize, bool) or optimize in ("optimal", "greedy"):
        return bool(optimize) if isinstance(optimize, bool) else str(optimize)
    if isinstance(optimize, (tuple, list)):
        steps = optimize[1:] if optimize and optimize[0] == "einsum_path" else optimize
        if all(isinstance(s, (tuple, list)) and set(map(type, s)) == {int} for s in steps):
            return tuple(tuple(s) for s in steps)
    raise ValueRangeError(
        f"{op}: optimize={optimize!r:.80}. Hint: True, False, 'optimal', 'greedy' or a path."
    )


# The order of products

Set: TypeAlias = frozenset[Label]


def _cost(x: Set, y: Set, kept: Set, sizes: dict[Label, int]) -> int:
    """Return the FLOPs of one product: 2 for each pair of factors where something is summed."""
    return prod(sizes[label] for label in x | y) * (1 if x & y <= kept else 2)


def _size(labels: Set, sizes: dict[Label, int]) -> int:
    return prod(sizes[label] for label in labels)


def _from_left(count: int) -> Path:
    """Return the path from left to right: what was multiplied stands last."""
    return tuple([(0, 1), *[(0, count - k) for k in range(2, count)]] if count > 1 else [])


def _measured(
    path: Path, sets: Sequence[Set], output: Set, sizes: dict[Label, int]
) -> tuple[int, int]:
    """Follow a path; return the FLOPs of its products and the size of the largest."""
    terms, flops, largest = list(sets), 0, 0
    for step in path:
        if len(step) != 2 or step[0] == step[1] or not 0 <= min(step) <= max(step) < len(terms):
            raise ValueRangeError(
                f"einsum: step {step} of the path is no pair among {len(terms)} operands."
            )
        x, y = (terms[i] for i in step)
        terms = [t for i, t in enumerate(terms) if i not in step]
        kept = output.union(*terms)
        flops += _cost(x, y, kept, sizes)
        terms.append((x | y) & kept)
        largest = max(largest, _size(terms[-1], sizes))
    if len(terms) != 1:
        raise ValueRangeError(f"einsum: the path leaves {len(terms)} operands, not one.")
    return flops, largest


def _optimal(sets: Sequence[Set], output: Set, sizes: dict[Label, int]) -> Path:
    """Return the path of the fewest FLOPs, found by the best ways to make each subset."""
    count = len(sets)
    everything = (1 << count) - 1

    def joined(subset: int) -> Set:
        return frozenset().union(*[s for i, s in enumerate(sets) if subset >> i & 1])

    kept = {m: joined(m) & (output | joined(everything ^ m)) for m in range(1, everything + 1)}
    best: dict[int, tuple[int, int, Any]] = {1 << i: (0, 0, i) for i in range(count)}
    for subset in range(1, everything + 1):
        half = (subset - 1) & subset
        while half > subset ^ half:  # each pair of halves once
            one, two = best[half], best[subset ^ half]
            x, y = kept[half], kept[subset ^ half]
            flops = one[0] + two[0] + _cost(x, y, kept[subset], sizes)
            largest = max(one[1], two[1], _size(kept[subset], sizes))
            if subset not in best or (flops, largest) < best[subset][:2]:
                best[subset] = (flops, largest, (one[2], two[2]))
            half = (half - 1) & subset
    path: list[tuple[int, int]] = []
    places: list[Any] = list(range(count))

    def follow(tree: Any) -> None:
        if isinstance(tree, int):
            return
        for half in tree:
            follow(half)
        i, j = sorted(places.index(half) for half in tree)
        path.append((i, j))
        del places[j], places[i]
        places.append(tree)

    follow(best[everything][2])
    return tuple(path)


def _greedy(sets: Sequence[Set], output: Set, sizes: dict[Label, int]) -> Path:
    """Return the path that next makes what grows least, and of these what costs least."""
    terms, path = list(sets), []
    while len(terms) > 1:
        options = []
        for j, y in enumerate(terms):
            for i, x in enumerate(terms[:j]):
                others = [t for k, t in enumerate(terms) if k not in (i, j)]
                kept = output.union(*others)
                grown = _size((x | y) & kept, sizes) - _size(x, sizes) - _size(y, sizes)
                options.append((grown, _cost(x, y, kept, sizes), i, j, (x | y) & kept))
        *_, i, j, made = min(options, key=lambda option: option[:4])
        path.append((i, j))
        terms = [t for k, t in enumerate(terms) if k not in (i, j)] + [made]
    return tuple(path)


# Computing


def _einsum_oracle(arrays, subscripts, optimize=True):
    return np.asarray(np.einsum(subscripts, *arrays))


@composite(name="einsum", oracle=_einsum_oracle)
def contract(arrays: Sequence[Tensor], subscripts: str, *, optimize: Any = True) -> Tensor:
    """Multiply and sum: `einsum` with its operands in a sequence."""
    order = _order("einsum", optimize)
    first = next((a for a in arrays if isinstance(a, Tensor)), None)
    tensors = [as_tensor("einsum", a, first) for a in arrays]
    if not tensors:
        raise ShapeError("einsum: needs at least one operand. Hint: einsum('ij->ji', x).")
    dtype = dtypes.result_type(*[t.dtype for t in tensors])
    if dtype == dtypes.bool_:
        raise DTypeError("einsum: takes numbers, not booleans. Hint: x.astype('int64').")
    plan = _plan(subscripts, tuple([t.shape for t in tensors]), order)
    terms: list[Any] = []  # of operands and their labels
    for i, (t, labels) in enumerate(zip(tensors, plan.terms, strict=True)):
        others = (*plan.terms[:i], *plan.terms[i + 1 :])
        x = t if t.dtype == dtype else cast(t, dtype)
        x, own = _without_repeats(x, labels, plan.sizes)
        terms.append(_summed(x, own, {*plan.output}.union(*others)))
    for step in plan.path.path:
        x, y = (terms[i] for i in step)
        terms = [t for i, t in enumerate(terms) if i not in step]
        kept = {*plan.output}.union(*[labels for _, labels in terms])
        terms.append(_product(x, y, kept, plan.sizes))
    x, labels = terms[0]
    x = _ordered(x, labels, plan.output)
    return positive(x) if x is tensors[0] else x  # a tensor of its own, if nothing was to be done


def _ordered(x, labels, wanted):
    """Return the axes in the wanted order."""
    return x if labels == wanted else permute_dims(x, tuple(labels.index(a) for a in wanted))


def _shaped(x, shape):
    """Return the values in a shape."""
    return x if x.shape == shape else reshape(x, shape)


def _without_repeats(x, labels, sizes):
    """Return an operand whose labels are distinct, without axes that only broadcast."""
    for label in sorted(set(labels), key=str):
        while labels.count(label) > 1:
            i = labels.index(label)
            j = labels.index(label, i + 1)
            rest = tuple(a for a in range(len(labels)) if a not in (i, j))
            x = diagonal(permute_dims(x, (*rest, i, j)))
            labels = (*[labels[a] for a in rest], label)
    real = [a for a, label in enumerate(labels) if x.shape[a] == sizes[label]]
    if len(real) < len(labels):
        x = reshape(x, tuple(x.shape[a] for a in real))
    return x, tuple(labels[a] for a in real)


def _summed(x, labels, kept):
    """Sum over the axes that nobody else reads."""
    axes = tuple(a for a, label in enumerate(labels) if label not in kept)
    if axes:
        x = sum(x, axis=axes, dtype=x.dtype)
    return x, tuple(label for label in labels if label in kept)


def _product(one, other, kept, sizes):
    """Return the product of two operands: of matrices, or elementwise if nothing is summed."""
    (x, x_labels), (y, y_labels) = one, other
    both = [label for label in x_labels if label in y_labels]
    batch = tuple(label for label in both if label in kept)
    inner = tuple(label for label in both if label not in kept)
    left = tuple(label for label in x_labels if label not in both)
    right = tuple(label for label in y_labels if label not in both)
    b, m, k, n = (tuple(sizes[label] for label in group) for group in (batch, left, inner, right))
    x = _ordered(x, x_labels, (*batch, *left, *inner))
    y = _ordered(y, y_labels, (*batch, *inner, *right))
    if not inner:
        ones = (1,) * len(n), (1,) * len(m)
        return _shaped(x, (*b, *m, *ones[0])) * _shaped(y, (*b, *ones[1], *n)), batch + left + right
    stack = (prod(b),) if batch else ()
    x, y = _shaped(x, (*stack, prod(m), prod(k))), _shaped(y, (*stack, prod(k), prod(n)))
    return _shaped(matmul(x, y), (*b, *m, *n)), batch + left + right


@contract.samples
def _():
    yield sample([floats(3, 4), floats(4, 2)], subscripts="ij,jk->ik")
    yield sample([floats(2, 3, 4), floats(2, 4, 2)], subscripts="bij,bjk")
    yield sample([floats(2, 3, 4)], subscripts="cab->abc")
    yield sample([floats(3, 3)], subscripts="ii")
    yield sample([floats(2, 3, 3)], subscripts="...ii->...i")
    yield sample([floats(2, 2, 2)], subscripts="iii->i")
    yield sample([floats(3), floats(4)], subscripts="i,j")
    yield sample([floats(3, 2), floats(3, 2)], subscripts="ij,ij->j")
    yield sample([floats(2, 1, 3), floats(4, 3, 2)], subscripts="...i,...ij->...j")
    yield sample([floats(2, 3), floats(3)], subscripts="...,...")
    yield sample([floats(3, 2), floats(3, 4, 2), floats(4)], subscripts="ia, ijb , j -> b")
    yield sample(
        [floats(2, 3), floats(3, 4), floats(4, 2), floats(2)],
        subscripts="ij,jk,kl,l->i",
        optimize="greedy",
    )
    yield sample([floats(2, 3), floats(3, 2), floats(2)], subscripts="ij,jk,k", optimize=False)
    yield sample([floats(), floats(2)], subscripts=",i->i")
    yield sample([floats(2, 0), floats(0, 3)], subscripts="ij,jk")
    yield sample([floats(0, 2), floats(2, 3)], subscripts="ij,jk->ki")


@contract.errors
def _():
    from helixml.ops.creation import zeros

    x = zeros((2, 3))
    yield Failure(lambda: einsum("ij,jk", x, x), ShapeError, r"'j' has size 3, and 2 in operand 1")
    yield Failure(lambda: einsum("ii", x), ShapeError, r"'i' has size 2, and 3 in operand 0, \(2")
    yield Failure(lambda: einsum("i", x), ShapeError, r"'i' has 1 subscripts.*2 axes.*Hint: '...'")
    yield Failure(lambda: einsum("ijk", x), ShapeError, r"'ijk' has 3 subscripts, operand 0 has 2")
    yield Failure(lambda: einsum("ij", x, x), ShapeError, r"has 1 terms for 2 operands")
    yield Failure(
        lambda: einsum("...,...", x, zeros(2)), ShapeError, r"axis -1 of '...' has size 3, and 2"
    )
    yield Failure(lambda: einsum("ij->k", x), ValueRangeError, r"'k' of the result is in no oper")
    yield Failure(lambda: einsum("ij->ii", x), ValueRangeError, r"'i' is in the result more than")
    yield Failure(lambda: einsum("i1", x), ValueRangeError, r"'1' in 'i1' is no subscript")
    yield Failure(lambda: einsum("i...j...", x), ValueRangeError, r"two ellipses")
    yield Failure(lambda: einsum("...j->j", x), ValueRangeError, r"Hint: '->...' keeps")
    yield Failure(lambda: einsum("ij", x, optimize="fast"), ValueRangeError, r"optimize='fast'")
    yield Failure(
        lambda: einsum("ij,jk", x, x.mT, optimize=[(0, 2)]), ValueRangeError, r"step \(0, 2\) of"
    )
    yield Failure(lambda: einsum("ij,jk", x, x.mT, optimize=[]), ValueRangeError, r"leaves 2 opera")
    yield Failure(lambda: einsum("ij", x.astype("bool")), DTypeError, r"takes numbers, not bool")
    yield Failure(lambda: einsum(1, x), DTypeError, r"subscripts are a string")
