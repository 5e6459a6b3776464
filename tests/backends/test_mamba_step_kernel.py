"""The kernels of a step of Mamba and of stored matrices against loops in NumPy's float64."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import helixml as hx
from helixml.backends.cpu import kernels
from helixml.backends.dispatch import Kernel, KernelTable

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

TABLE = KernelTable(Kernel(*entry) for entry in kernels.KERNELS)
pytestmark = pytest.mark.usefixtures("instruction_set")

NAMES = ("x", "past", "state", "in_proj", "conv_weight", "x_proj", "dt_proj", "A_log", "D")
NAMES += ("out_proj", "in_bias", "conv_bias", "dt_bias", "out_bias")
NAMES += ("in_scale", "x_scale", "dt_scale", "out_scale")
MATRICES = {"in_proj": "in_scale", "x_proj": "x_scale", "dt_proj": "dt_scale"}
MATRICES |= {"out_proj": "out_scale"}

# Batch, features, channels, states, taps, rank; below, at and beyond vectors, groups and items.
SIZES = [
    (1, 1, 1, 1, 1, 1),
    (1, 5, 3, 2, 2, 4),
    (2, 16, 32, 16, 4, 1),
    (3, 17, 33, 5, 3, 9),
    (5, 40, 77, 17, 4, 19),
    (16, 7, 15, 8, 4, 3),
]


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def draw(rng, sizes, dtype="float64", storage=None, biased=True):
    """Return the op's arguments by name; matrices as ``storage`` has them."""
    b, m, d, n, taps, rank = sizes
    shapes = [(b, m), (b, d, taps - 1), (b, d, n), (2 * d, m), (d, taps), (rank + 2 * n, d)]
    shapes += [(d, rank), (d, n), (d,), (m, d), (2 * d,), (d,), (d,), (m,)]
    call = dict.fromkeys(NAMES)
    for name, shape in zip(NAMES, shapes, strict=False):
        if biased or not name.endswith("bias"):
            width = shape[-1] if name in MATRICES else 1
            call[name] = (rng.standard_normal(shape) / width**0.5).astype(dtype)
    for name, scale in MATRICES.items():
        if storage == "bfloat16":
            call[name] = call[name].astype(ml_dtypes.bfloat16)
        elif storage == "int8":
            call[name] = rng.integers(-127, 128, call[name].shape).astype("int8")
            call[scale] = rng.uniform(0.5, 1.5, len(call[name])) / 100 / m**0.5
            call[scale] = call[scale].astype(dtype)
    return call


def wide(call):
    return {name: None if x is None else x.astype("float64") for name, x in call.items()}


def run(call):
    """Return what the kernel makes of a call; it must leave what it is given."""
    before = {name: None if x is None else x.copy() for name, x in call.items()}
    inputs = [call[name] for name in NAMES]
    assert TABLE["mamba_step"].when(inputs, {})
    found, residuals = TABLE["mamba_step"].function(*inputs)
    assert residuals == ()
    for name, x in before.items():
        np.testing.assert_array_equal(call[name], x)
    return found


def assert_close(found, wanted, dtype):
    for x, exact in zip(found, wanted, strict=True):
        assert x.shape == exact.shape
        assert x.dtype == dtype
        if x.size:
            bound = 60 * float(np.finfo(dtype).eps) * max(float(np.abs(exact).max()), 1)
            assert float(np.abs(x - exact).max()) <= bound


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("storage", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_a_step_is_that_of_the_loops(rng, sizes, dtype, storage, biased):
    call = draw(rng, sizes, dtype, storage, biased)
    assert_close(run(call), hx.mamba_step.oracle(**wide(call)), dtype)


@pytest.mark.parametrize("storage", [None, "bfloat16", "int8"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (1, 1), (3, 5), (2, 2, 40), (16, 33), (7, 64)])
def test_products_with_stored_matrices(rng, shape, dtype, storage):
    for rows in (1, 3, 16, 37):
        x, bias = rng.standard_normal(shape).astype(dtype), rng.standard_normal(rows).astype(dtype)
        scale = None
        weight = rng.integers(-127, 128, (rows, shape[-1]))
        weight = weight.astype(ml_dtypes.bfloat16 if storage == "bfloat16" else storage or dtype)
        if storage == "int8":
            scale = rng.uniform(0.005, 0.01, rows).astype(dtype)
        assert TABLE["stored_linear"].when([x, weight, scale, bias], {})
        for b in (None, bias):
            (y,), _ = TABLE["stored_linear"].function(x, weight, scale, b)
            arguments = [None if a is None else a.astype("float64") for a in (x, weight, scale, b)]
            size = float(np.abs(weight.astype("float64")).max() * np.abs(x).sum(-1).max())
            wanted = hx.stored_linear.oracle(*arguments)
            assert y.shape == wanted.shape
            assert y.dtype == dtype
            size *= 1 if scale is None else float(scale.max())
            assert np.abs(y - wanted).max() <= 4 * np.finfo(dtype).eps * max(size, 1)


def test_any_layout(rng):
    call = draw(rng, (3, 17, 33, 5, 3, 9))
    wanted = run(call)
    turned = {name: None if x is None else np.asfortranarray(x) for name, x in call.items()}
    spread = {
        name: None if x is None else np.repeat(x, 2, axis=-1)[..., ::-2][..., ::-1]
        for name, x in call.items()
    }
    for other in (turned, spread):
        for x, exact in zip(run(other), wanted, strict=True):
            np.testing.assert_array_equal(x, exact)


def test_a_large_batch_and_other_floats_are_left_to_the_definition(rng):
    when = TABLE["mamba_step"].when
    many = draw(rng, (17, 3, 4, 2, 2, 1))
    assert not when([many[name] for name in NAMES], {})
    mixed = draw(rng, (2, 3, 4, 2, 2, 1), "float64")
    mixed["out_proj"] = mixed["out_proj"].astype("float32")
    assert not when([mixed[name] for name in NAMES], {})
    found = hx.mamba_step(**{n: None if x is None else hx.tensor(x) for n, x in many.items()})
    assert_close([y.numpy() for y in found], hx.mamba_step.oracle(**many), "float64")


def test_infinite_and_nan_values_stay_in_their_sequences_and_channels(rng):
    call = draw(rng, (3, 4, 6, 3, 3, 2))
    call["state"][0, 2, 1] = np.nan
    call["past"][1, 3, 0] = np.inf
    y, next_past, next_state = run(call)
    np.testing.assert_array_equal(next_past[1, 3, 0], call["past"][1, 3, 1])
    assert np.isnan(y[:2]).all()
    assert np.isfinite(y[2]).all()
    assert np.isnan(next_state[0]).sum() == 1


def test_extreme_decays(rng):
    call = draw(rng, (2, 4, 9, 5, 2, 2))
    call["A_log"][:, 0] = 1000  # exp is inf: what was there is forgotten
    call["A_log"][:, 1] = -1000  # exp is 0: nothing is
    call["dt_bias"][3] = 800
    with np.errstate(over="ignore"):
        assert_close(run(call), hx.mamba_step.oracle(**call), "float64")


@pytest.mark.parametrize("storage", [None, "bfloat16", "int8"])
def test_bits_do_not_depend_on_threads(rng, storage):
    call = draw(rng, (2, 300, 520, 16, 4, 20), "float32", storage)
    before = hx.get_num_threads()
    found = []
    try:
        for threads in (1, 2, 3):
            hx.set_num_threads(threads)
            found.append(run(call))
    finally:
        hx.set_num_threads(before)
    for other in found[1:]:
        for x, y in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(x, y)
    assert 2 * call["in_proj"].size >= 1 << 19  # so that threads did share


def test_gradients_are_those_of_the_definition(rng):
    call = draw(rng, (2, 3, 4, 2, 3, 2))

    def gradients():
        given = {
            name: None if x is None else hx.tensor(x, requires_grad=True)
            for name, x in call.items()
        }
        y, past, state = hx.mamba_step(**given)
        (y.sum() + (past * past).sum() + hx.sin(state).sum()).backward()
        return [x.grad.numpy() for x in given.values() if x is not None]

    found = gradients()
    with hx.config.using(kernels=False):
        wanted = gradients()
    for x, exact in zip(found, wanted, strict=True):
        np.testing.assert_allclose(x, exact, rtol=1e-12, atol=1e-13)
