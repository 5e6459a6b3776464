"""The selective scan against a loop over time in float64, and the gradient walked back by hand."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels import selective_scan

from .conftest import close, random, wide

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


def arrays(b, d, l, n, dtype, B=0, C=0, softplus=True, **given):
    """Return inputs; B and C are the numbers of groups, 0 for no axis, None for no time."""

    def rows(groups, seed):
        shape = (d, n) if groups is None else (b, n, l) if not groups else (b, groups, n, l)
        return random(shape, dtype, seed)

    optional = {"D": (d,), "z": (b, d, l), "delta_bias": (d,), "initial_state": (b, d, n)}
    return [
        random((b, d, l), dtype, 1),
        random((b, d, l), dtype, 2, -1 if softplus else 0, 1),
        random((d, n), dtype, 3, -1.5, -0.1),
        rows(B, 4),
        rows(C, 5),
        *(
            random(shape, dtype, 6 + i) if given.get(name) else None
            for i, (name, shape) in enumerate(optional.items())
        ),
    ]


def check(cp, hosts, softplus=True, lay=lambda cp, x: cp.asarray(x), recorded=True):
    """Compare outputs and gradients with the loop's; return what was found."""
    b, d, l = hosts[0].shape
    dtype = hosts[0].dtype
    g, g_last = random((b, d, l), dtype, 20), random((b, d, hosts[2].shape[1]), dtype, 21)
    inputs = [None if x is None else lay(cp, x) for x in hosts]
    scan = selective_scan.SelectiveScan(cp)
    attributes = {"delta_softplus": softplus, "return_last_state": True}
    outputs, residuals = scan.forward(*inputs, **attributes, recorded=recorded)
    assert len(residuals) == recorded
    needs = [x is not None for x in inputs]
    gradients = scan.backward((lay(cp, g), lay(cp, g_last)), needs, inputs, residuals, **attributes)
    y, h, goals = loop(*wide(*hosts, g, g_last), softplus)
    found = [*outputs, *(x for x in gradients if x is not None)]
    goals = [y, h, *(x for x, need in zip(goals, needs, strict=True) if need)]
    for x, goal in zip(found, goals, strict=True):
        close(x, goal, 16 * l * max(1, d // 8))
    return found


def channels_contiguous(cp, x):
    """Return (b, d, l) as a view of (b, l, d)."""
    if x.ndim != 3:
        return cp.asarray(x)
    return cp.asarray(np.ascontiguousarray(x.transpose(0, 2, 1))).transpose(0, 2, 1)


@pytest.mark.parametrize("lay", [lambda cp, x: cp.asarray(x), channels_contiguous])
def test_outputs_and_gradients_in_any_order_of_threads(cp, dtype, order, lay):
    check(cp, arrays(2, 3, 37, 4, dtype, **EVERY), lay=lay)


@pytest.mark.parametrize("states", [1, 3, 16, 100, 200])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_of_states(cp, dtype, states):
    check(cp, arrays(1, 5, 19, states, dtype, z=True))


@pytest.mark.parametrize("groups", [(0, 0), (2, 2), (2, 1), (0, 2), (None, 2), (2, None)])
def test_groups_and_what_time_does_not_change(cp, groups):
    check(cp, arrays(2, 6, 21, 5, "float64", *groups, **EVERY), lay=channels_contiguous)


def test_neither_changes_with_time(cp):
    check(cp, arrays(2, 70, 9, 2, "float64", None, None, **EVERY))


@pytest.mark.parametrize("left_out", ["D", "z", "delta_bias", "initial_state"])
def test_what_may_be_left_out(cp, left_out):
    check(cp, arrays(1, 3, 10, 2, "float64", **{**EVERY, left_out: False}))


def test_steps_as_they_are_given(cp):
    check(cp, arrays(1, 3, 18, 4, "float64", softplus=False, **EVERY), softplus=False)


@pytest.mark.parametrize("lay", [lambda cp, x: cp.asarray(x), channels_contiguous])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_more_channels_than_a_block_and_groups_that_fill_none(cp, dtype, lay):
    check(cp, arrays(1, 74, 20, 16, dtype, 2, 2, **EVERY), lay=lay)


@pytest.mark.parametrize("length", [31, 64, 150])
def test_segments_join(cp, order, monkeypatch, length):
    hosts = arrays(1, 3, length, 4, "float64", **EVERY)
    monkeypatch.setattr(selective_scan, "_FEWEST_TILES", 2)
    joined = check(cp, hosts)
    monkeypatch.setattr(selective_scan, "_BLOCKS", 1)
    for x, whole in zip(joined, check(cp, hosts), strict=True):
        np.testing.assert_allclose(x.get(), whole.get(), rtol=0, atol=1e-12)


def test_states_that_were_not_kept_are_computed_again(cp):
    hosts = arrays(1, 3, 40, 4, "float32", **EVERY)
    kept = check(cp, hosts)
    for x, again in zip(kept, check(cp, hosts, recorded=False), strict=True):
        np.testing.assert_array_equal(x.get(), again.get())


def test_a_sequence_without_steps(cp):
    scan = selective_scan.SelectiveScan(cp)
    inputs = [None if x is None else cp.asarray(x) for x in arrays(2, 3, 0, 4, "float32", **EVERY)]
    attributes = {"delta_softplus": True, "return_last_state": True}
    (y, last), residuals = scan.forward(*inputs, **attributes)
    assert y.shape == (2, 3, 0)
    np.testing.assert_array_equal(last.get(), inputs[-1].get())
    g = cp.asarray(random((2, 3, 4), "float32"))
    found = scan.backward((None, g), [True] * 9, inputs, residuals, **attributes)
    np.testing.assert_array_equal(found[-1].get(), g.get())
    for x, given in zip(found, inputs, strict=True):
        assert x.shape == given.shape
    assert not found[2].get().any()


def test_the_same_bits_every_time(cp):
    hosts = arrays(2, 40, 50, 8, "float32", 2, 2, **EVERY)
    first = [x.get() for x in check(cp, hosts)]
    for x, other in zip(first, check(cp, hosts), strict=True):
        np.testing.assert_array_equal(x, other.get())


def test_only_as_many_states_as_a_warp_holds():
    inputs = [None, None, np.zeros((3, selective_scan.MOST_STATES))]
    assert selective_scan.takes_states(inputs, {})
    inputs[2] = np.zeros((3, selective_scan.MOST_STATES + 1))
    assert not selective_scan.takes_states(inputs, {})
