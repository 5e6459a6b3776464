"""The causal convolution against the sums that define it, in float64."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels.causal_conv1d import MOST_TAPS, CausalConv1d, takes_taps

from .conftest import close, random, wide
from .test_selective_scan_kernel import channels_contiguous


def loop(x, weight, bias, past, g, silu):
    """Return y and the gradients of x, weight, bias and past, tap by tap."""
    (b, d, l), (_, k) = x.shape, weight.shape
    past = np.zeros((b, d, k - 1)) if past is None else past
    padded = np.concatenate([past, x], axis=-1)
    p = np.zeros(x.shape) if bias is None else np.zeros(x.shape) + bias[:, None]
    for j in range(k):
        p += weight[:, j, None] * padded[:, :, j : j + l]
    s = 1 / (1 + np.exp(-p))
    gp = g * (s + p * s * (1 - s)) if silu else g
    gpadded, gweight = np.zeros(padded.shape), np.zeros(weight.shape)
    for j in range(k):
        gpadded[:, :, j : j + l] += weight[:, j, None] * gp
        gweight[:, j] = (gp * padded[:, :, j : j + l]).sum((0, 2))
    return p * s if silu else p, [
        gpadded[..., k - 1 :],
        gweight,
        gp.sum((0, 2)),
        gpadded[..., : k - 1],
    ]


def check(cp, hosts, lay, silu=True):
    """Compare outputs and gradients with the loop's."""
    x = hosts[0]
    g = random(x.shape, x.dtype, 9)
    conv = CausalConv1d(cp)
    activation = "silu" if silu else None
    inputs = [None if x is None else cp.asarray(x) for x in hosts]
    inputs[0] = lay(cp, x)
    (y,), residuals = conv.forward(*inputs, activation=activation)
    needs = [x is not None for x in hosts]
    found = conv.backward((lay(cp, g),), needs, inputs, residuals, activation=activation)
    goal, gradients = loop(*wide(*hosts, g), silu)
    close(y, goal, hosts[1].shape[1])
    for own, wanted, need in zip(found, gradients, needs, strict=True):
        if not need:
            assert own is None
            continue
        close(own, wanted, 64 * x.shape[2])


def arrays(b, d, l, k, dtype, bias=True, past=True):
    return [
        random((b, d, l), dtype),
        random((d, k), dtype, 1),
        random((d,), dtype, 2) if bias else None,
        random((b, d, k - 1), dtype, 3) if past else None,
    ]


@pytest.fixture(params=[lambda cp, x: cp.asarray(x), channels_contiguous], ids=["time", "channels"])
def lay(request):
    """How arrays lie in memory."""
    return request.param


def test_outputs_and_gradients_in_any_order_of_threads(cp, dtype, order, lay):
    check(cp, arrays(2, 3, 37, 4, dtype), lay)


@pytest.mark.parametrize("taps", [1, 2, 7, MOST_TAPS])
def test_numbers_of_taps(cp, lay, taps):
    check(cp, arrays(1, 3, 50, taps, "float64"), lay)


@pytest.mark.parametrize("length", [1, 2, 129, 700])
def test_lengths_below_and_beyond_a_block(cp, lay, length):
    check(cp, arrays(1, 2, length, 4, "float64"), lay)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("past", [True, False])
@pytest.mark.parametrize("silu", [True, False])
def test_what_may_be_left_out(cp, lay, bias, past, silu):
    check(cp, arrays(2, 140, 5, 3, "float64", bias, past), lay, silu)


def test_without_steps_the_gradient_of_the_past_is_zero(cp):
    conv = CausalConv1d(cp)
    inputs = [cp.asarray(x) for x in arrays(1, 2, 0, 3, "float32")]
    (y,), _ = conv.forward(*inputs)
    assert y.shape == (1, 2, 0)
    found = conv.backward((y,), [True] * 4, inputs, ())
    for x, given in zip(found, inputs, strict=True):
        assert x.shape == given.shape
        assert not x.get().any()


def test_more_taps_than_registers_are_not_taken():
    assert takes_taps([None, np.zeros((3, MOST_TAPS))], {})
    assert not takes_taps([None, np.zeros((3, MOST_TAPS + 1))], {})
