"""The selective scan against a loop over time in float64, and the gradient walked back by hand."""

import numpy as np
import pytest

from helixml.backends.wgpu.kernels.selective_scan import SelectiveScan, takes_states

from .conftest import close, get, put, random, strided, wide

EVERY = dict.fromkeys(("D", "z", "delta_bias", "initial_state"), True)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def over_time(x, channels, length):
    """Return B or C as (b, l, d, n)."""
    if x.ndim == 2:
        return np.broadcast_to(x, (1, length, *x.shape))
    x = x if x.ndim == 4 else x[:, None]
    return x.repeat(channels // x.shape[1], axis=1).transpose(0, 3, 1, 2)


def summed(gradient, x):
    """Return the gradient (b, l, d, n) of B or C as x has its entries."""
    if x.ndim == 2:
        return gradient.sum(axis=(0, 1))
    b, l, d, n = gradient.shape
    groups = x.shape[1] if x.ndim == 4 else 1
    total = gradient.reshape(b, l, groups, d // groups, n).sum(axis=3).transpose(0, 2, 3, 1)
    return total.reshape(x.shape)


def loop(u, delta, A, B, C, D, z, delta_bias, initial_state, g, g_last, softplus):
    """Return y, the last state, and the gradients of all inputs."""
    (b, d, l), n = u.shape, A.shape[1]
    raw = delta + (0 if delta_bias is None else delta_bias[:, None])
    s = np.logaddexp(0, raw) if softplus else raw
    Bs, Cs = np.broadcast_to(over_time(B, d, l), (b, l, d, n)), over_time(C, d, l)
    Cs = np.broadcast_to(Cs, (b, l, d, n))
    skip = np.zeros(d) if D is None else D
    h = np.zeros((b, d, n)) if initial_state is None else initial_state
    past, states, p = [], [], np.empty_like(u)
    for t in range(l):
        past.append(h)
        h = np.exp(s[:, :, t, None] * A) * h + (s * u)[:, :, t, None] * Bs[:, t]
        states.append(h)
        p[:, :, t] = (Cs[:, t] * h).sum(-1) + skip * u[:, :, t]
    gate = 1 if z is None else z * sigmoid(z)
    gp = g * gate
    gz = None if z is None else g * p * (sigmoid(z) + z * sigmoid(z) * (1 - sigmoid(z)))
    gu, gs, gA = gp * skip[:, None], np.zeros_like(u), np.zeros_like(A)
    gB, gC, gh = np.zeros((b, l, d, n)), np.zeros((b, l, d, n)), g_last
    for t in range(l - 1, -1, -1):
        gh = gh + gp[:, :, t, None] * Cs[:, t]
        gC[:, t] = gp[:, :, t, None] * states[t]
        gB[:, t] = gh * (s * u)[:, :, t, None]
        along = (gh * Bs[:, t]).sum(-1)
        gu[:, :, t] += s[:, :, t] * along
        gh = gh * np.exp(s[:, :, t, None] * A)
        gA += (gh * past[t] * s[:, :, t, None]).sum(0)
        gs[:, :, t] = (gh * past[t] * A).sum(-1) + along * u[:, :, t]
    graw = gs * sigmoid(raw) if softplus else gs
    gradients = [gu, graw, gA, summed(gB, B), summed(gC, C), (gp * u).sum((0, 2)), gz]
    return p * gate, h, [*gradients, graw.sum((0, 2)), gh]


def arrays(b, d, l, n, B=0, C=0, softplus=True, **given):
    """Return inputs; B and C are the numbers of groups, 0 for no axis."""

    def rows(groups, seed):
        return random((b, n, l) if not groups else (b, groups, n, l), seed)

    optional = {"D": (d,), "z": (b, d, l), "delta_bias": (d,), "initial_state": (b, d, n)}
    return [
        random((b, d, l), 1),
        random((b, d, l), 2, -1 if softplus else 0, 1),
        random((d, n), 3, -1.5, -0.1),
        rows(B, 4),
        rows(C, 5),
        *(
            random(shape, 6 + i) if given.get(name) else None
            for i, (name, shape) in enumerate(optional.items())
        ),
    ]


def dense(runtime, host):
    return put(runtime, host)[0]


def check(runtime, hosts, softplus=True, lay=dense, recorded=True, threads=64, tiles=None):
    """Compare outputs and gradients with the loop's."""
    b, d, l = hosts[0].shape
    g, g_last = random((b, d, l), 20), random((b, d, hosts[2].shape[1]), 21)
    inputs = [None if x is None else lay(runtime, x) for x in hosts]
    scan = SelectiveScan(runtime, threads, tiles)
    attributes = {"delta_softplus": softplus, "return_last_state": True}
    assert takes_states(inputs, attributes)
    outputs, residuals = scan.forward(*inputs, **attributes, recorded=recorded)
    assert len(residuals) == recorded
    needs = [x is not None for x in inputs]
    pulls = lay(runtime, g), lay(runtime, g_last)
    gradients = scan.backward(pulls, needs, inputs, residuals, **attributes)
    y, h, goals = loop(*wide(*hosts, g, g_last), softplus)
    assert [x is not None for x in gradients] == needs
    found = [*outputs, *(x for x in gradients if x is not None)]
    goals = [y, h, *(x for x, need in zip(goals, needs, strict=True) if need)]
    for x, goal in zip(found, goals, strict=True):
        close(runtime, x, goal, 16 * l * max(1, d // 8))


@pytest.mark.parametrize("threads", [32, 64, 128])
@pytest.mark.parametrize("tiles", [1, 2, None])
def test_outputs_and_gradients(runtime, threads, tiles):
    check(runtime, arrays(2, 7, 85, 6, **EVERY), threads=threads, tiles=tiles)


@pytest.mark.parametrize("states", [1, 3, 16, 33, 250])
def test_numbers_of_states(runtime, states):
    check(runtime, arrays(1, 5, 19, states, z=True))


@pytest.mark.parametrize("groups", [(0, 0), (2, 2), (2, 1), (0, 2), (3, 3)])
def test_groups_of_channels_and_views(runtime, groups):
    check(runtime, arrays(2, 6, 21, 5, *groups, **EVERY), lay=strided)


@pytest.mark.parametrize("left_out", ["D", "z", "delta_bias", "initial_state"])
def test_what_may_be_left_out(runtime, left_out):
    check(runtime, arrays(1, 3, 40, 2, **{**EVERY, left_out: False}), tiles=1)


def test_steps_as_they_are_given(runtime):
    check(runtime, arrays(1, 3, 18, 4, softplus=False, **EVERY), softplus=False)


def test_more_channels_than_a_workgroup(runtime):
    check(runtime, arrays(1, 74, 20, 16, 2, 2, **EVERY))


def test_residuals_that_were_put_away_are_computed_again(runtime):
    check(runtime, arrays(1, 3, 40, 2, **EVERY), recorded=False, tiles=1)


def test_a_long_sequence_is_cut(runtime):
    """Mesa's device leaves a loop silently after 65,535 iterations."""
    hosts = arrays(1, 1, 30_000, 1)
    outputs, _ = SelectiveScan(runtime).forward(*put(runtime, *hosts), delta_softplus=True)
    u, delta, A, B, C = (x[0].astype(np.float64) for x in hosts[:5])
    s, h, y = np.logaddexp(0, delta[0]), 0.0, []
    for t in range(u.shape[1]):
        h = np.exp(s[t] * A[0]) * h + s[t] * B[0, t] * u[0, t]
        y.append(C[0, t] * h)
    np.testing.assert_allclose(get(runtime, outputs[0])[0, 0], y, rtol=0, atol=2e-5)


def test_no_cotangent_of_y(runtime):
    hosts = arrays(1, 2, 20, 3)
    inputs = put(runtime, *hosts)
    scan, how = SelectiveScan(runtime), {"delta_softplus": True, "return_last_state": True}
    _, residuals = scan.forward(*inputs, **how, recorded=True)
    g_last = random((1, 2, 3), 4)
    needs = [x is not None for x in hosts]
    found = scan.backward([None, *put(runtime, g_last)], needs, inputs, residuals, **how)
    zeros = np.zeros((1, 2, 20))
    _, _, goals = loop(*wide(*hosts), zeros, g_last.astype(np.float64), True)
    for x, goal in zip(found[:4], goals, strict=False):
        close(runtime, x, goal, 20)


def test_the_definition_takes_what_does_not_change_with_time(runtime):
    u, delta, A, B, C, *_ = put(runtime, *arrays(1, 2, 20, 3))
    assert not takes_states([u, delta, A, A, C], {})
    assert not takes_states([u, delta, A, B, A], {})
