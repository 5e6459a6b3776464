"""float16 and bfloat16: every op is checked in them, and what adds up does so in float32.

Sums here have a thousand positive terms and more, each far smaller than the total: added up in 16
bits they would stop growing (in bfloat16 at 256 ones). The bound is that of one rounding of the
exact result, and of one more for what goes in between.
"""

import numpy as np
import pytest

import helixml as hx
from helixml import config, dtypes
from helixml._core.op import REGISTRY
from helixml.backends import registry
from helixml.testing import harness
from helixml.testing.calls import count_floats

LENGTH = 4000
EPS = {"float16": 2.0**-10, "bfloat16": 2.0**-7}


def tensors(dtype, device):
    """Return operands whose sums need more than 16 bits."""
    rng = np.random.default_rng(0)

    def make(values):
        return hx.asarray(np.asarray(values, np.float32), device=device).astype(dtype)

    return {
        "x": make(rng.uniform(0.0, 2.0, (2, LENGTH))),
        "small": make(rng.uniform(0.0, 2.0, (2, LENGTH)) / LENGTH),
        "near_one": make(rng.uniform(0.8, 1.2, (2, 100))),
        "ones": make(np.ones(LENGTH)),
        "zeros": make(np.zeros(LENGTH)),
    }


def wide(x):
    """Return a tensor's exact values."""
    return x.astype("float64").numpy()


def normalised(x):
    """Return rows of mean 0 and variance 1."""
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)


def convolved(x, w):
    """Return the causal convolution of (1, d, l) with (d, k)."""
    length = x.shape[-1]
    rows = [np.convolve(r, k[::-1])[:length] for r, k in zip(x[0], w, strict=True)]
    return np.array(rows)[None]


CASES = {
    "sum": (lambda t: hx.sum(t["small"], axis=-1), lambda t: t["small"].sum(-1)),
    "sum over the first axis": (
        lambda t: hx.sum(t["small"].mT, axis=0),
        lambda t: t["small"].sum(-1),
    ),
    "mean": (lambda t: hx.mean(t["x"]), lambda t: t["x"].mean()),
    "var": (lambda t: hx.var(t["x"], axis=-1), lambda t: t["x"].var(-1)),
    "std": (lambda t: hx.std(t["x"], axis=-1), lambda t: t["x"].std(-1)),
    "prod": (lambda t: hx.prod(t["near_one"], axis=-1), lambda t: t["near_one"].prod(-1)),
    "logsumexp": (
        lambda t: hx.logsumexp(t["x"], axis=-1),
        lambda t: np.log(np.exp(t["x"]).sum(-1)),
    ),
    "softmax": (
        lambda t: hx.softmax(t["x"]),
        lambda t: np.exp(t["x"]) / np.exp(t["x"]).sum(-1, keepdims=True),
    ),
    "log_softmax": (
        lambda t: hx.log_softmax(t["x"]),
        lambda t: t["x"] - np.log(np.exp(t["x"]).sum(-1, keepdims=True)),
    ),
    "matmul": (lambda t: t["small"] @ t["x"].mT, lambda t: t["small"] @ t["x"].T),
    "linear": (lambda t: hx.linear(t["small"], t["x"]), lambda t: t["small"] @ t["x"].T),
    "vecdot": (lambda t: hx.vecdot(t["small"], t["x"]), lambda t: (t["small"] * t["x"]).sum(-1)),
    "cumulative_sum": (
        lambda t: hx.cumulative_sum(t["small"], axis=-1),
        lambda t: np.cumsum(t["small"], -1),
    ),
    "cumulative_prod": (
        lambda t: hx.cumulative_prod(t["near_one"], axis=-1),
        lambda t: np.cumprod(t["near_one"], -1),
    ),
    "rms_norm": (
        lambda t: hx.rms_norm(t["x"], t["ones"]),
        lambda t: t["x"] / np.sqrt((t["x"] ** 2).mean(-1, keepdims=True) + 1e-6),
    ),
    "layer_norm": (
        lambda t: hx.layer_norm(t["x"], t["ones"], t["zeros"]),
        lambda t: normalised(t["x"]),
    ),
    "causal_conv1d": (
        lambda t: hx.causal_conv1d(hx.expand_dims(t["x"][:, :400], 0), t["small"][:, :300]),
        lambda t: convolved(t["x"][None, :, :400], t["small"][:, :300]),
    ),
    "linear_scan": (
        lambda t: hx.linear_scan(t["ones"][:1000], t["small"][:, :1000]),
        lambda t: np.cumsum(t["small"][:, :1000], -1),
    ),
}


SETTINGS = [("cpu", True), ("cpu", False), ("reference", True)]  # device, and whether by kernels


@pytest.mark.parametrize(("device", "kernels"), SETTINGS)
@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("name", CASES)
def test_sums_are_formed_in_float32(name, dtype, device, kernels):
    registry.get(device)
    compute, oracle = CASES[name]
    with config.using(kernels=kernels):
        given = tensors(dtype, device)
        found = compute(given)
        assert found.dtype == dtypes.parse(dtype)
        exact = oracle({key: wide(x) for key, x in given.items()})
        error = np.max(np.abs(wide(found) - exact)) / np.max(np.abs(exact))
    assert error <= EPS[dtype]


def test_losses_do_not_overflow_where_the_result_does_not():
    x = hx.asarray([300.0, 1.0, 1.0, 1.0]).astype("float16")  # 300 ** 2 is beyond float16
    assert hx.mse_loss(x, x * 0).item() == 22496.0


@pytest.mark.parametrize("dtype", EPS)
def test_gradients_of_what_was_broadcast_are_summed_in_float32(dtype):
    given = tensors(dtype, "cpu")
    x = hx.asarray(given["x"][0, 0])
    x.requires_grad = True
    (hx.broadcast_to(x, (LENGTH,)) * given["small"][0]).sum().backward()
    exact = wide(given["small"])[0].sum()
    assert abs(wide(x.grad) - exact) <= EPS[dtype] * exact


@pytest.mark.parametrize("dtype", EPS)
def test_fused_ops_compute_in_float32_and_round_once(dtype):
    x = hx.asarray(np.linspace(-4, 4, 999)).astype(dtype)
    exact = wide(x) / (1 + np.exp(-wide(x)))
    assert np.max(np.abs(wide(hx.silu(x)) - exact) / np.abs(exact + (exact == 0))) <= EPS[dtype]


@pytest.mark.parametrize("dtype", [dtypes.float16, dtypes.bfloat16], ids=str)
def test_every_op_of_floats_is_checked_in_16_bits(dtype):
    missed = []
    for op in REGISTRY.values():
        samples = [] if op.make_samples is None else list(op.make_samples())
        floats = [(n, s) for n, s in enumerate(samples) if count_floats(s) and "f" in s.kinds]
        calls = [harness.call_of(op, n, s, dtype, "cpu") for n, s in floats]
        if floats and "f" in op.options.get("kinds", "buif") and not any(calls):
            missed.append(op.name)
    assert missed == []
