"""Arguments and gradients in tuples, lists and dicts."""

from typing import NamedTuple

import numpy as np
import pytest

import helixml as hx
from helixml.autograd.structures import flatten, flatten_like
from helixml.errors import DTypeError, ShapeError


class Pair(NamedTuple):
    left: object
    right: object


def test_structures_come_apart_and_together():
    value = {"a": [1, (2, 3)], "b": Pair(4, {}), "c": ()}
    leaves, form = flatten(value)
    assert leaves == [1, 2, 3, 4]
    built = form.build(iter("wxyz"))
    assert built == {"a": ["w", ("x", "y")], "b": Pair("z", {}), "c": ()}
    assert isinstance(built["b"], Pair)


def test_a_like_structure_may_order_its_names_differently():
    _, form = flatten({"a": 1, "b": (2, 3)})
    assert flatten_like("op", "values", {"b": [5, None], "a": 4}, form) == [4, 5, None]
    for wrong in (4, {"a": 1}, {"a": 1, "b": (2,)}, {"a": 1, "b": "xy"}, {"a": 1, "c": (2, 3)}):
        with pytest.raises(ShapeError, match=r"op: values have the structure .*, and not \{a: \*"):
            flatten_like("op", "values", wrong, form)


def test_gradients_have_the_structure_of_the_argument():
    p = {"w": hx.tensor([2.0]), "rest": [hx.tensor([3.0]), (hx.tensor([5.0]),)]}

    def f(p, q):
        return (p["w"] * p["rest"][0] * p["rest"][1][0] * q).sum()

    g = hx.grad(f)(p, 1.0)
    assert (g["w"].item(), g["rest"][0].item(), g["rest"][1][0].item()) == (15.0, 10.0, 6.0)
    value, (gp, gq) = hx.value_and_grad(f, argnums=(0, 1))(p, 2.0)
    assert (value.item(), gp["w"].item(), gq.item()) == (60.0, 30.0, 30.0)
    assert not p["w"].requires_grad


def test_named_tuples_stay_what_they_are():
    g = hx.grad(lambda p: p.left * p.right)(Pair(np.array(2.0), hx.tensor(3.0, dtype="float64")))
    assert isinstance(g, Pair)
    assert (g.left.item(), g.right.item()) == (3.0, 2.0)


def test_lists_of_numbers_are_data():
    assert hx.grad(lambda x: (x * x).sum())([1.0, 2.0]).tolist() == [2.0, 4.0]


def test_second_derivatives_through_structures():
    def f(p):
        return p["x"] ** 3 * p["y"]

    p = {"x": hx.tensor(2.0), "y": hx.tensor(5.0)}
    second = hx.grad(lambda p: hx.grad(f)(p)["x"])(p)  # d/d(x, y) of 3 x^2 y
    assert (second["x"].item(), second["y"].item()) == (60.0, 12.0)


def test_a_structure_without_tensors_says_what_is_wrong():
    with pytest.raises(DTypeError):
        hx.grad(lambda p: p["x"])({"x": "text"})
    with pytest.raises(DTypeError, match="grad: argument 0 is an empty dict"):
        hx.grad(lambda p: hx.ones(()))({})
