"""Floats that overflow or have no value are inf or nan, without a warning of NumPy's."""

import warnings

import numpy as np
import pytest

import helixml as hx
from required import need_dtype


@pytest.mark.parametrize(
    ("wide", "narrow"),
    [
        ("float64", "float32"),
        ("float32", "float16"),
        ("float32", "bfloat16"),
        ("float32", "float8_e5m2"),
    ],
)
def test_a_cast_beyond_the_range_gives_inf_and_no_warning(wide, narrow):
    need_dtype(narrow)
    largest = float(hx.finfo(wide).max)
    with np.errstate(all="warn"), warnings.catch_warnings():
        warnings.simplefilter("error")
        y = hx.tensor([largest, -largest, 1.0], dtype=wide).astype(narrow).astype("float64")
    assert y.tolist() == [float("inf"), float("-inf"), 1.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_arithmetic_beyond_the_range_gives_inf_and_no_warning(dtype):
    large = hx.tensor([[float(hx.finfo(dtype).max)] * 2] * 2, dtype=dtype).T[::2]
    zero = hx.zeros_like(large)
    with np.errstate(all="warn"), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [large + large, large * large, hx.square(large), hx.exp(large), large / zero]
        for y in found:
            assert y.astype("float64").tolist() == [[float("inf")] * 2]
        assert hx.cumulative_prod(large[0]).astype("float64").tolist()[1] == float("inf")
        assert hx.all(hx.isnan(zero / zero)) and hx.all(hx.isnan(hx.log(-large)))


EDGES = [0.0, -1.0, 2.0, float("inf"), -float("inf"), float("nan"), 1e38]
OF_ONE = (
    *("acos", "acosh", "asin", "atanh", "cos", "cosh", "exp2", "log2", "log10", "sin", "sinh"),
    *("tan", "prod", "cumulative_sum", "cumulative_prod"),
)
OF_TWO = ("pow", "floor_divide", "remainder", "fmod", "logaddexp", "hypot")


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", [*OF_ONE, *OF_TWO])
def test_functions_at_their_edges_are_numpys_and_do_not_warn(name, dtype, kernels):
    values = np.array(EDGES, dtype)
    operands = [values] if name in OF_ONE else [values[:, None], values]
    with np.errstate(all="warn"), warnings.catch_warnings(), hx.config.using(kernels=kernels):
        warnings.simplefilter("error")
        found = getattr(hx, name)(*(hx.tensor(x, device="cpu") for x in operands)).numpy()
    with np.errstate(all="ignore"):
        expected = getattr(np, name)(*operands)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_scaled_loss_that_overflows_says_so_by_its_step_alone():
    w = hx.nn.Parameter(hx.tensor([10.0, 2.0], dtype="float16"))
    optimizer = hx.optim.SGD([w], lr=0.1)
    scaler = hx.optim.GradScaler(65536.0)
    with np.errstate(all="warn"), warnings.catch_warnings():
        warnings.simplefilter("error")
        scaler.scale((w * w / 2).sum()).backward()
        assert scaler.step(optimizer) is False
    scaler.update()
    assert scaler.factor == 32768.0 and w.tolist() == [10.0, 2.0]
