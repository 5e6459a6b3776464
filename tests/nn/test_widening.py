"""float64 input to a float32 module: computed in float64, as promotion says, and told once."""

import warnings

import numpy as np
import pytest

import helixml as hx
from helixml import nn
from helixml.errors import DTypeWarning


class Scale(nn.Module):
    """A parameter that meets its input in a primitive."""

    def __init__(self):
        self.weight = nn.Parameter([1.0, 2.0, 3.0])

    def forward(self, x):
        return x * self.weight


def linear():
    return nn.Linear(3, 2, rng=hx.random.Rng(0))


@pytest.mark.parametrize("make", [linear, Scale])
def test_float64_input_warns_with_the_way_out(make):
    x = hx.asarray(np.ones((4, 3)))
    with pytest.warns(DTypeWarning, match="float64 input meets.*Hint: x.astype") as seen:
        y = make()(x)
    assert y.dtype == hx.float64
    assert seen[0].filename == __file__


def test_one_line_warns_once():
    model, x = nn.Sequential(linear(), nn.Linear(2, 2)), hx.asarray(np.ones((4, 3)))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("default")
        for _ in range(3):
            model(x)
    assert len(seen) == 1


def test_what_fits_does_not_warn():
    model = linear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(hx.ones((4, 3)))
        model(hx.asarray(np.ones((4, 3))).astype("float32"))
        model(hx.ones((4, 3))).astype("float64") * hx.asarray(np.ones(2))
        hx.ones((3,)) * hx.asarray(np.ones(3))  # no module takes part
        linear().to(dtype="float64")(hx.asarray(np.ones((4, 3))))
        model.to(dtype="float16")(hx.ones((4, 3)))
