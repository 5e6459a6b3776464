"""The mistakes that people make most, and what they are told."""

# ruff: noqa: PLW0108  a table of calls reads best if all are written alike

import numpy as np
import pytest

import helixml as hx
from helixml import errors

X = hx.zeros((32, 128))
W = hx.zeros((64, 128))
IDS = hx.zeros((4,), dtype="int64")


def leaf():
    return hx.tensor([1.0, 2.0], requires_grad=True)


MISTAKES = {
    "inner dimensions": (
        lambda: X @ W,
        errors.ShapeError,
        r"^matmul: inner dimensions differ: x is \(32, 128\), y is \(64, 128\) \(128 != 64\)\. "
        r"Hint: x @ y\.mT multiplies by \(128, 64\)",
    ),
    "shapes that do not broadcast": (
        lambda: X + W,
        errors.ShapeError,
        r"^add: shapes \(32, 128\) and \(64, 128\) do not broadcast: axis -2 has sizes 32 and 64",
    ),
    "an axis that is not there": (
        lambda: X.sum(axis=2),
        errors.ShapeError,
        r"^sum: axis 2 is out of range for 2 dimensions\. Hint: it must lie in \[-2, 2\)",
    ),
    "a reshape of another size": (
        lambda: X.reshape(33, -1),
        errors.ShapeError,
        r"^reshape: \(32, 128\) has 4096 elements, which \(33, -1\) cannot divide",
    ),
    "backward of a matrix": (
        lambda: (leaf() * 2).backward(),
        errors.GraphError,
        r"^backward: a tensor of shape \(2,\) needs a starting gradient.*Hint: y\.sum\(\)",
    ),
    "backward without requires_grad": (
        lambda: X.sum().backward(),
        errors.GraphError,
        r"^backward: nothing that this tensor .* requires a gradient.*requires_grad=True",
    ),
    "writing a leaf": (
        lambda: leaf().__setitem__(0, 1.0),
        errors.InplaceError,
        r"^setitem: this leaf .*Hint: x = x\.at\[i\]\.set\(v\)",
    ),
    "truth of many": (
        lambda: bool(X > 0),
        errors.ShapeError,
        r"^bool: the truth of 4096 elements .* is ambiguous\. Hint: hx\.any\(x\)",
    ),
    "item of many": (lambda: X.item(), errors.ShapeError, r"^item: needs exactly one element"),
    "an index out of range": (
        lambda: X[40],
        errors.IndexingError,
        r"^index: shape \(32, 128\) does not take \[40\]: index 40 is out of bounds",
    ),
    "a float index": (lambda: X[X], errors.IndexingError, r"^index: a tensor of float32 cannot"),
    "an integer gradient": (
        lambda: hx.tensor([1, 2], requires_grad=True),
        errors.NotDifferentiableError,
        r"^requires_grad: int64 has no gradient\. Hint: cast with astype\('float32'\)",
    ),
    "an array for a flag": (
        lambda: hx.tensor([1.0, 2.0], requires_grad=np.ones(2)),
        errors.DTypeError,
        r"^tensor: requires_grad must be True or False: The truth value of an array",
    ),
    "an array for a flag that is set": (
        lambda: setattr(leaf(), "requires_grad", np.ones(2)),
        errors.DTypeError,
        r"^Tensor: requires_grad must be True or False: The truth value of an array",
    ),
    "an array for dropout's flag": (
        lambda: hx.random.dropout(X, 0.5, training=np.ones(2)),
        errors.DTypeError,
        r"^dropout: training must be True or False: The truth value of an array",
    ),
    "an array for a word": (
        lambda: hx.meshgrid(indexing=np.ones(2)),
        errors.ValueRangeError,
        r"^meshgrid: indexing=array\(.*Hint: 'xy' or 'ij'",
    ),
    "a bad dtype": (
        lambda: hx.zeros((2,), dtype="float31"),
        errors.DTypeError,
        r"^dtype: 'float31' is not a dtype of helixml\. Hint: it has .*float32",
    ),
    "a shape that is no shape": (
        lambda: hx.zeros("ab"),
        errors.DTypeError,
        r"^zeros: a shape is a tuple of integers, not 'ab'",
    ),
    "a negative size": (lambda: hx.ones((2, -1)), errors.ShapeError, r"^ones: sizes cannot be neg"),
    "tensors without a list": (
        lambda: hx.concat(X, W),
        errors.DTypeError,
        r"^concat: takes a sequence of tensors.*Hint: concat\(\[x, y\]\)",
    ),
    "joining unequal shapes": (
        lambda: hx.concat([X, W.mT]),
        errors.ShapeError,
        r"^concat: tensor 1 has shape \(128, 64\), which differs from \(32, 128\) beyond axis 0",
    ),
    "an unknown argument": (
        lambda: hx.sum(X, dim=1),
        errors.DTypeError,
        r"^sum: got an unexpected keyword argument 'dim'\. Hint: sum\(.*axis.*\)",
    ),
    "a missing argument": (
        lambda: hx.take(X),
        errors.DTypeError,
        r"^take: missing a required argument: 'indices'",
    ),
    "an unknown argument of a composite": (
        lambda: hx.mean(X, dim=1),
        errors.DTypeError,
        r"^mean: got an unexpected keyword argument 'dim'",
    ),
    "an unknown argument of a fused op": (
        lambda: hx.softmax(X, dim=1),
        errors.DTypeError,
        r"^softmax: got an unexpected keyword argument 'dim'",
    ),
    "a string operand": (lambda: X + "1", errors.DTypeError, r"cannot make a tensor of str"),
    "None as an operand": (lambda: X * None, errors.DTypeError, r"multiply|NoneType"),
    "no operand at all": (lambda: hx.exp(None), errors.DTypeError, r"^exp: "),
    "targets as floats": (
        lambda: hx.cross_entropy(X, hx.zeros((32,))),
        errors.DTypeError,
        r"^cross_entropy: targets must be integers, not float32",
    ),
    "targets out of range": (
        lambda: hx.cross_entropy(X, hx.full((32,), 128)),
        errors.IndexingError,
        r"^cross_entropy: target 128 is no class; logits have 128 classes",
    ),
    "an empty maximum": (
        lambda: hx.zeros((0, 3)).max(axis=0),
        errors.ShapeError,
        r"^max: has no value over an empty axis",
    ),
    "T of three axes": (lambda: hx.zeros((2, 3, 4)).T, errors.ShapeError, r"^T: .*Hint: \.mT"),
    "a scalar too wide": (
        lambda: hx.zeros((2,), dtype="uint8") + 300,
        errors.DTypeError,
        r"^add: the scalar 300 does not fit uint8",
    ),
    "ragged lists": (lambda: hx.tensor([[1], [1, 2]]), errors.ShapeError, r"^tensor: the nested"),
    "a probability of two": (
        lambda: hx.ops.dropout(X, 2.0),
        errors.ValueRangeError,
        r"^dropout: p=2\.0 must be in \[0, 1\)",
    ),
    "a range without end": (
        lambda: hx.arange(0, 1, 0),
        errors.ValueRangeError,
        r"^arange: start=0, stop=1, step=0 give no range",
    ),
    "an op NumPy has and helixml has not": (
        lambda: np.spacing(X),
        errors.DTypeError,
        r"^np\.spacing: has no counterpart for Tensors.*np\.asarray",
    ),
    "embedding with floats": (
        lambda: hx.take(W, hx.tensor([0.0])),
        errors.DTypeError,
        r"^take: indices must be integers, not float32\. Hint: astype\('int64'\)",
    ),
    "the gradient of a vector function": (
        lambda: hx.grad(lambda x: x * 2)([1.0, 2.0]),
        errors.GraphError,
        r"^grad: the function returned shape \(2,\), it must return a scalar",
    ),
    "a comparison asked for its gradient": (
        lambda: (leaf() > 0).sum().backward(),
        errors.GraphError,
        r"^backward: nothing that this tensor",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_explained(name):
    call, error, pattern = MISTAKES[name]
    with pytest.raises(error, match=pattern) as caught:
        call()
    assert isinstance(caught.value, errors.HelixError)


@pytest.mark.parametrize("name", errors.__all__)
def test_errors_are_one_tree_and_of_builtin_kinds(name):
    kind = getattr(errors, name)
    root = errors.HelixWarning if issubclass(kind, Warning) else errors.HelixError
    assert issubclass(kind, root)
    builtin = {"ShapeError": ValueError, "DTypeError": TypeError, "IndexingError": IndexError}
    assert issubclass(kind, builtin.get(name, Exception))
