"""8-bit floats: stored, moved and cast; nothing is computed in them."""

import ml_dtypes
import numpy as np
import pytest

import helixml as hx
from helixml.errors import DTypeError, NotDifferentiableError
from required import need_dtype

NAMES = ["float8_e4m3fn", "float8_e5m2"]
pytestmark = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(autouse=True)
def device_has_them(name):
    """Ask for a device that can store them."""
    need_dtype(name)


def stored(name):
    """Return a tensor and the array whose values it has."""
    values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    return hx.asarray(values).astype(name), values.astype(getattr(ml_dtypes, name))


@pytest.mark.parametrize("wide", ["float16", "bfloat16", "float32", "float64"])
def test_casting_up_is_exact_and_down_rounds_to_nearest(name, wide):
    x, exact = stored(name)
    np.testing.assert_array_equal(x.astype(wide).astype("float64").numpy(), exact.astype(float))
    again = x.astype(wide).astype(name)
    assert again.numpy().tobytes() == exact.tobytes()


def test_an_element_takes_a_byte(name):
    x, exact = stored(name)
    assert (x.nbytes, x.dtype, x.dtype.itemsize) == (12, getattr(hx, name), 1)
    assert x.numpy().tobytes() == exact.tobytes()
    assert hx.asarray(exact).dtype == hx.zeros((2,), name).dtype == x.dtype
    assert x.tolist() == exact.tolist()
    assert f"dtype={name}" in repr(x)


def test_what_is_too_large_becomes_what_the_format_has_for_it(name):
    x = hx.tensor([1e6, -1e6]).astype(name).astype("float32").numpy()
    if name == "float8_e5m2":
        np.testing.assert_array_equal(x, [np.inf, -np.inf])
    else:  # it has no infinity
        assert np.isnan(x).all()


MOVES = {
    "reshape": lambda x: x.reshape(4, 3),
    "transpose": lambda x: x.T,
    "slice": lambda x: x[1:, ::2],
    "rows": lambda x: x[hx.asarray([2, 0])],
    "concat": lambda x: hx.concat([x, x]),
    "stack": lambda x: hx.stack([x, x]),
    "roll": lambda x: hx.roll(x, 1, axis=0),
    "flip": hx.flip,
    "copy": hx.copy,
    "broadcast": lambda x: hx.broadcast_to(x, (2, 3, 4)),
}


@pytest.mark.parametrize("move", MOVES)
def test_entries_are_moved(name, move):
    x, _ = stored(name)
    found = MOVES[move](x)
    assert found.dtype == x.dtype
    expected = MOVES[move](x.astype("float32")).numpy()
    np.testing.assert_array_equal(found.astype("float32").numpy(), expected)


COMPUTATIONS = {
    "add": lambda x: x + x,
    "add a number": lambda x: x + 1.0,
    "multiply by a float": lambda x: x * x.astype("float32"),
    "multiply an int": lambda x: hx.ones((3, 4), "int8") * x,
    "negative": lambda x: -x,
    "exp": hx.exp,
    "sum": hx.sum,
    "mean": hx.mean,
    "max": hx.max,
    "matmul": lambda x: x @ x.T,
    "linear": lambda x: hx.linear(x, x),
    "silu": hx.silu,
    "softmax": hx.softmax,
    "relu": hx.relu,
    "equal": lambda x: x == x,
    "cumulative_sum": lambda x: hx.cumulative_sum(x, axis=0),
    "sort": hx.sort,
    "mse_loss": lambda x: hx.mse_loss(x, x),
}


@pytest.mark.parametrize("computation", COMPUTATIONS)
def test_arithmetic_is_refused_with_the_way_out(name, computation):
    x, _ = stored(name)
    with pytest.raises(DTypeError, match=rf"{name}.* Hint: .*astype\('float32'\)"):
        COMPUTATIONS[computation](x)


def test_they_carry_no_gradient(name):
    x, _ = stored(name)
    with pytest.raises(NotDifferentiableError, match="has no gradient"):
        x.requires_grad = True
    with pytest.raises(DTypeError, match="nothing is computed"):
        hx.result_type(name, "float32")


def test_the_range_is_told(name):
    assert hx.finfo(name).bits == 8
    assert hx.finfo(name).max == {"float8_e4m3fn": 448.0, "float8_e5m2": 57344.0}[name]
