"""The long convolution against the sums that define it, in float64."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels import fft_conv

from .conftest import close, random, wide


def loop(u, k, bias, gate, g):
    """Return y and the gradients of u, k, bias and gate, tap by tap."""
    l = u.shape[2]
    taps = np.broadcast_to(k.reshape(k.shape[-2:]), (u.shape[1], k.shape[-1]))
    skip = 0 if bias is None else bias[:, None]
    p, gp = skip * u, g if gate is None else g * gate
    gu, gk = skip * gp, np.zeros(taps.shape)
    for j in range(taps.shape[1]):
        p[..., j:] = p[..., j:] + taps[:, j, None] * u[..., : l - j]
        gu[..., : l - j] = gu[..., : l - j] + taps[:, j, None] * gp[..., j:]
        gk[:, j] = (gp[..., j:] * u[..., : l - j]).sum((0, 2))
    gtaps = gk if k.shape[-2] == len(gk) else gk.sum(0)
    y = p if gate is None else p * gate
    return y, [gu, gtaps.reshape(k.shape), (gp * u).sum((0, 2)), g * p]


def check(cp, shape, k, dtype, bias=True, gate=True):
    """Compare outputs and gradients with the loop's."""
    u, g = random(shape, dtype), random(shape, dtype, 9)
    hosts = [
        u,
        random(k, dtype, 1),
        random(shape[1:2], dtype, 2) if bias else None,
        random(shape, dtype, 3) if gate else None,
    ]
    inputs = [None if x is None else cp.asarray(x) for x in hosts]
    conv = fft_conv.FFTConv(cp)
    (y,), residuals = conv.forward(*inputs)
    needs = [x is not None for x in hosts]
    found = conv.backward((cp.asarray(g),), needs, inputs, residuals)
    hosts[2] = np.zeros(shape[1:2], dtype) if hosts[2] is None else hosts[2]
    goal, gradients = loop(*wide(*hosts, g))
    close(y, goal, k[-1])
    for own, wanted, need in zip(found, gradients, needs, strict=True):
        assert (own is not None) == need
        if need:
            assert own.dtype == dtype
            close(own, wanted, shape[-1] * 4)


def test_outputs_and_gradients_in_any_order_of_threads(cp, dtype, order):
    check(cp, (3, 2, 37), (2, 21), dtype)


@pytest.mark.parametrize("length", [1, 32, 33, 65, 200, 300])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_remainder_of_the_stages(cp, length, dtype):
    check(cp, (1, 2, length), (2, length), dtype)


@pytest.mark.parametrize("filters", [(1, 9), (3, 9), (1, 3, 9), (3, 1), (3, 40)], ids=str)
def test_shapes_of_filters(cp, filters):
    check(cp, (2, 3, 40), filters, "float64")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("where", ["shared memory", "cuFFT"])
def test_what_may_be_left_out(cp, dtype, monkeypatch, bias, gate, where):
    if where == "cuFFT":
        monkeypatch.setattr(fft_conv, "_LONGEST", {4: 0, 8: 0})
    check(cp, (3, 2, 20), (2, 13), dtype, bias, gate)
    check(cp, (2, 2, 20), (1, 13), dtype, bias, gate)


def test_more_shared_memory_than_any_block_has_is_asked_for(cp):
    check(cp, (1, 1, 3000), (1, 2500), "float32")


def test_only_what_is_asked_for(cp):
    conv = fft_conv.FFTConv(cp)
    inputs = [cp.asarray(random(shape, "float32")) for shape in ((2, 2, 9), (2, 4), (2,))]
    g = cp.asarray(random((2, 2, 9), "float32", 5))
    for wanted in range(3):
        needs = [i == wanted for i in range(3)] + [False]
        found = conv.backward((g,), needs, [*inputs, None], ())
        assert [x is not None for x in found] == needs


def test_a_call_without_steps_is_not_taken():
    assert fft_conv.takes_steps([np.zeros((1, 2, 3))], {})
    assert not fft_conv.takes_steps([np.zeros((0, 2, 3))], {})
