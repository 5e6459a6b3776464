"""Kernels of rows against NumPy in float64: normalisation, softmax, activations and gates."""

from __future__ import annotations

import math

import numpy as np
import pytest

import helixml as hx
from helixml.backends.cpu import kernels, threads
from helixml.backends.dispatch import Kernel, KernelTable

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)


TABLE = KernelTable(Kernel(*entry) for entry in kernels.KERNELS)
DTYPES = ("float32", "float64")
SHAPES = [(1,), (3, 8), (2, 3, 17), (70, 5), (5, 33), (600, 3), (3, 64), (2, 131), (40, 256)]

pytestmark = pytest.mark.usefixtures("instruction_set")


@pytest.fixture
def rng():
    return np.random.default_rng(11)


def run(name, inputs, cotangents, **attributes):
    """Return the outputs of a kernel and all gradients."""
    forward, backward = TABLE[name].function, TABLE[f"{name}_vjp"].function
    before = [None if x is None else x.copy() for x in inputs]
    outputs, residuals = forward(*inputs, **attributes)
    needs = [x is not None for x in inputs]
    gradients = backward(cotangents, needs, inputs, residuals, **attributes)
    for x, old in zip(inputs, before, strict=True):
        assert x is None or np.array_equal(x, old, equal_nan=True)
    for array in (*outputs, *(g for g in gradients if g is not None)):
        assert array.dtype == cotangents[0].dtype
    return [*outputs, *(g for g, needed in zip(gradients, needs, strict=True) if needed)]


def awkward(x):
    """Return x as every second element, backward, of transposed memory full of nan."""
    memory = np.full([2 * size + 1 for size in reversed(x.shape)], np.nan, x.dtype)
    view = memory[tuple(slice(None, 0, -2) for _ in x.shape)].T
    view[...] = x
    return view


def halves(x):
    """Return x as the first part of longer rows."""
    memory = np.full((*x.shape[:-1], 2 * x.shape[-1] + 1), np.nan, x.dtype)
    memory[..., : x.shape[-1]] = x
    return memory[..., : x.shape[-1]]


def assert_close(found, wanted, dtype, sums=1):
    """Compare with a tolerance of a few eps of the largest value, for sums of so many terms."""
    eps = float(np.finfo(dtype).eps)
    assert len(found) == len(wanted)
    for x, exact in zip(found, wanted, strict=True):
        assert x.shape == exact.shape
        if x.size:
            tolerance = (4 + math.sqrt(sums)) * eps * max(np.abs(exact).max(), 0.1)
            assert np.abs(x - exact).max() <= tolerance


# References: outputs and gradients in float64


def norm_reference(x, weight, bias, residual, g, g_total, eps, centred):
    s = x if residual is None else x + residual
    mean = s.mean(axis=-1, keepdims=True) if centred else 0
    scale = 1 / np.sqrt(((s - mean) ** 2).mean(axis=-1, keepdims=True) + eps)
    n = (s - mean) * scale
    q = g * weight
    ds = q - n * (q * n).mean(axis=-1, keepdims=True)
    ds = (ds - q.mean(axis=-1, keepdims=True) if centred else ds) * scale
    ds = ds if residual is None else ds + g_total
    leading = tuple(range(x.ndim - 1))
    results = [n * weight + (0 if bias is None else bias)]
    results += [] if residual is None else [s]
    results += [ds, (g * n).sum(axis=leading)]
    results += [] if bias is None else [g.sum(axis=leading)]
    return results + ([] if residual is None else [ds])


def softmax_reference(x, g, axis, logarithm):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    if logarithm:
        return [np.log(y), g - y * g.sum(axis=axis, keepdims=True)]
    return [y, y * (g - (g * y).sum(axis=axis, keepdims=True))]


def sigmoid(x):
    return 0.5 * (1 + np.tanh(x / 2))


def normal_density(x):
    return np.exp(-x * x / 2) / math.sqrt(2 * math.pi)


normal_share = np.vectorize(lambda x: math.erfc(-x / math.sqrt(2)) / 2, otypes=[np.float64])

# Values and slopes.
ACTIVATIONS = {
    "silu": (lambda x: x * sigmoid(x), lambda x: sigmoid(x) * (1 + x * sigmoid(-x))),
    "gelu": (
        lambda x: x * normal_share(x),
        lambda x: normal_share(x) + x * normal_density(x),
    ),
    "softplus": (lambda x: np.logaddexp(0, x), sigmoid),
}


def activation_reference(name, x, g):
    value, slope = ACTIVATIONS[name]
    return [value(x), g * slope(x)]


def gate_reference(name, x, gate, g):
    value, slope = ACTIVATIONS[name.removesuffix("_gate")]
    return [x * value(gate), g * value(gate), g * x * slope(gate)]


# Tests


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [np.ascontiguousarray, awkward, halves])
@pytest.mark.parametrize("with_residual", [True, False])
@pytest.mark.parametrize("name", ["rms_norm", "layer_norm", "layer_norm without bias"])
@pytest.mark.parametrize("shape", [*SHAPES, (0, 4)])
def test_norm(rng, shape, name, with_residual, layout, dtype):
    x, residual, g, g_total = rng.standard_normal((4, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[-1])).astype(dtype)
    residual = residual if with_residual else None
    bias = bias if name == "layer_norm" else None
    inputs = (x, weight, residual) if name == "rms_norm" else (x, weight, bias, residual)
    cotangents = (g, g_total) if with_residual else (g,)
    exact = (x, weight, bias, residual, g, g_total)
    exact = [None if array is None else array.astype(float) for array in exact]
    wanted = norm_reference(*exact, eps=0.1, centred=name != "rms_norm")
    found = run(
        name.split()[0],
        tuple(None if array is None else layout(array) for array in inputs),
        tuple(map(layout, cotangents)),
        eps=0.1,
    )
    assert_close(found, wanted, dtype, sums=x.size)


def test_a_row_far_from_zero_keeps_its_variance():
    x = np.array([[1e4, 1e4 + 1, 1e4 + 2, 1e4 + 3]], np.float32)
    (y,), _ = TABLE["layer_norm"].function(x, np.ones(4, np.float32), eps=0.0)
    assert np.allclose(y, np.array([-3, -1, 1, 3]) / math.sqrt(5), rtol=1e-6)


def test_an_odd_row_leaves_the_others_alone(rng):
    x = rng.standard_normal((5, 37)).astype("f4")
    weight = np.ones(37, np.float32)
    for name in ("rms_norm", "layer_norm", "softmax", "log_softmax"):
        more = (weight,) if "norm" in name else ()
        (plain,), _ = TABLE[name].function(x, *more)
        odd = x.copy()
        odd[1, 3], odd[3, 36] = np.nan, np.inf
        (y,), _ = TABLE[name].function(odd, *more)
        assert np.array_equal(y[::2], plain[::2])
        assert np.isnan(y[1]).all()
        assert np.isnan(y[3, 36])


@pytest.mark.parametrize("name", ["rms_norm", "layer_norm"])
def test_one_gradient_serves_both_terms_of_a_sum(rng, name):
    values = rng.standard_normal((2, 4, 300, 64)).astype("f4")
    x, residual = (hx.tensor(value, requires_grad=True) for value in values)
    op = getattr(hx, name)
    y, total = op(x, hx.ones((64,)), residual=residual)
    (y * y + total).sum().backward()
    assert np.array_equal(x.grad.numpy(), residual.grad.numpy())
    before = residual.grad.numpy().copy()
    x.grad.assign_(0 * x.grad)
    assert not x.grad.numpy().any()
    assert np.array_equal(residual.grad.numpy(), before)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [np.ascontiguousarray, awkward, halves])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [*((shape, -1) for shape in SHAPES), ((3, 5, 4), 0), ((3, 5, 4), -2), ((0, 3), 1), ((4, 0), 0)],
)
def test_softmax(rng, shape, axis, name, layout, dtype):
    x, g = (3 * rng.standard_normal((2, *shape))).astype(dtype)
    wanted = softmax_reference(x.astype(float), g.astype(float), axis, name == "log_softmax")
    found = run(name, (layout(x),), (layout(g),), axis=axis)
    assert_close(found, wanted, dtype, sums=shape[axis])


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
@pytest.mark.parametrize(
    "row", [[np.nan, 1], [np.inf, 1], [-np.inf, -np.inf], [-np.inf, 1], [1e4, -1e4], [3e38, 3e38]]
)
def test_softmax_of_odd_rows_is_as_in_numpy(name, row):
    x = np.array([row], np.float32)
    (y,), _ = TABLE[name].function(x)
    with np.errstate(all="ignore"):
        wanted = softmax_reference(x.astype(float), x, -1, name == "log_softmax")[0]
        if name == "log_softmax":
            wanted = x - x.max() - np.log(np.exp(x - x.max()).sum())
    assert np.allclose(y, wanted, rtol=1e-6, equal_nan=True)


@pytest.mark.parametrize("axis", [2, -3])
def test_softmax_leaves_errors_to_the_definition(axis):
    with pytest.raises(hx.errors.HelixError, match="axis"):
        hx.softmax(hx.ones((2, 3)), axis=axis)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [np.ascontiguousarray, awkward, halves])
@pytest.mark.parametrize("name", sorted(ACTIVATIONS))
@pytest.mark.parametrize("shape", [*SHAPES, (0, 4)])
def test_activations(rng, shape, name, layout, dtype):
    x, g = (4 * rng.standard_normal((2, *shape))).astype(dtype)
    wanted = activation_reference(name, x.astype(float), g.astype(float))
    assert_close(run(name, (layout(x),), (layout(g),)), wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", [np.ascontiguousarray, awkward, halves])
@pytest.mark.parametrize("name", ["silu_gate", "gelu_gate"])
@pytest.mark.parametrize("shape", [*SHAPES, (0, 4)])
def test_gates(rng, shape, name, layout, dtype):
    x, gate, g = (2 * rng.standard_normal((3, *shape))).astype(dtype)
    wanted = gate_reference(name, x.astype(float), gate.astype(float), g.astype(float))
    assert_close(run(name, (layout(x), layout(gate)), (layout(g),)), wanted, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", [None, "gelu", "relu", "silu"])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize(("rows", "d", "n"), [(2, 5, 7), (61, 70, 35), (130, 300, 33)])
def test_linear(rng, rows, d, n, with_bias, activation, dtype):
    x, weight = rng.standard_normal((rows, d)), rng.standard_normal((n, d)) / math.sqrt(d)
    bias, g = rng.standard_normal(n), rng.standard_normal((rows, n))
    x, weight, bias, g = (array.astype(dtype) for array in (x, weight, bias, g))
    bias = bias if with_bias else None
    wide = [0.0 if array is None else array.astype(float) for array in (x, weight, bias, g)]
    before = wide[0] @ wide[1].T + wide[2]
    value, pulled = {
        None: lambda: (before, wide[3]),
        "relu": lambda: (np.maximum(before, 0), wide[3] * (before > 0)),
    }.get(activation, lambda: activation_reference(activation, before, wide[3]))()
    wanted = [value, pulled @ wide[1], pulled.T @ wide[0]]
    wanted += [pulled.sum(axis=0)] if with_bias else []
    found = run("linear", (x, weight, bias), (g,), activation=activation)
    assert_close(found, wanted, dtype, sums=max(rows, d, n))


def test_numbers_are_taken_too():
    one = np.array(1.5)
    for name in (*ACTIVATIONS, "silu_gate", "gelu_gate"):
        inputs = (one, one) if name.endswith("gate") else (one,)
        assert all(result.shape == () for result in run(name, inputs, (one,)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_equal_bits_for_any_number_of_threads(three_threads, rng, dtype):
    x, gate, g = rng.standard_normal((3, 700, 131)).astype(dtype)
    weight = rng.standard_normal(131).astype(dtype)

    def everything():
        found = run("rms_norm", (x, weight, gate), (g, g), eps=1e-6)
        found += run("layer_norm", (x, weight, weight, gate), (g, g), eps=1e-5)
        for name in ("softmax", "log_softmax", *ACTIVATIONS):
            found += run(name, (x,), (g,))
        for name in ("silu_gate", "gelu_gate"):
            found += run(name, (x, gate), (g,))
            found += run(name, (halves(x), halves(gate)), (g,))
        return [array.tobytes() for array in found]

    results = []
    for n in (1, 2, 3):
        threads.set_num_threads(n)
        results.append(everything())
    assert results[0] == results[1] == results[2]
