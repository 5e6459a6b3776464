"""State-space duality against a loop over time in float64, and the gradient walked back by hand."""

import numpy as np
import pytest

from helixml.backends.cuda.kernels import state_space_dual

from .conftest import close, random, wide


def loop(x, dt, A, B, C, D, initial_state, g, g_last):
    """Return y, the last state, and the gradients of all inputs, step by step."""
    (b, l, h, p), (groups, n) = x.shape, B.shape[2:]
    share = h // groups
    Bs, Cs = B.repeat(share, axis=2), C.repeat(share, axis=2)  # (b, l, h, n)
    skip = np.zeros(h) if D is None else D
    state = np.zeros((b, h, p, n)) if initial_state is None else initial_state
    past, after, y = [], [], np.empty(x.shape)
    for t in range(l):
        past.append(state)
        drive = dt[:, t, :, None, None] * x[:, t, :, :, None] * Bs[:, t, :, None, :]
        state = np.exp(dt[:, t] * A)[..., None, None] * state + drive
        after.append(state)
        y[:, t] = (state * Cs[:, t, :, None, :]).sum(-1) + skip[:, None] * x[:, t]
    last = state
    gx, gdt, gA = skip[:, None] * g, np.zeros(dt.shape), np.zeros(h)
    gB, gC, gh = np.zeros(Bs.shape), np.zeros(Cs.shape), g_last
    for t in range(l - 1, -1, -1):
        gh = gh + g[:, t, :, :, None] * Cs[:, t, :, None, :]
        gC[:, t] = (g[:, t, :, :, None] * after[t]).sum(2)
        along = (gh * Bs[:, t, :, None, :]).sum(-1)  # (b, h, p)
        gx[:, t] += dt[:, t, :, None] * along
        gB[:, t] = dt[:, t, :, None] * (gh * x[:, t, :, :, None]).sum(2)
        gdt[:, t] = (x[:, t] * along).sum(-1)
        gh = gh * np.exp(dt[:, t] * A)[..., None, None]
        rate = (gh * past[t]).sum((2, 3))
        gdt[:, t] += A * rate
        gA += (dt[:, t] * rate).sum(0)
    gB, gC = (z.reshape(b, l, groups, share, n).sum(3) for z in (gB, gC))
    return y, last, [gx, gdt, gA, gB, gC, (g * x).sum((0, 1, 3)), gh]


def arrays(b, l, h, p, g, n, dtype, D=True, initial_state=True):
    return [
        random((b, l, h, p), dtype, 1),
        random((b, l, h), dtype, 2, 0.05, 0.9),
        random((h,), dtype, 3, -2.0, -0.2),
        random((b, l, g, n), dtype, 4),
        random((b, l, g, n), dtype, 5),
        random((h,), dtype, 6) if D else None,
        random((b, h, p, n), dtype, 7) if initial_state else None,
    ]


def found(cp, hosts, lay=lambda cp, x: cp.asarray(x), **attributes):
    """Return outputs and gradients of the kernels, and their goals."""
    x, B = hosts[0], hosts[3]
    attributes = {"return_last_state": True, **attributes}
    g = random(x.shape, x.dtype, 20)
    g_last = random((x.shape[0], *x.shape[2:], B.shape[3]), x.dtype, 21)
    inputs = [None if x is None else lay(cp, x) for x in hosts]
    dual = state_space_dual.StateSpaceDual(cp)
    outputs, residuals = dual.forward(*inputs, **attributes)
    needs = [x is not None for x in hosts]
    cotangents = lay(cp, g), lay(cp, g_last)
    gradients = dual.backward(cotangents, needs, inputs, residuals, **attributes)
    y, last, goals = loop(*wide(*hosts, g, g_last))
    goals = [y, last, *(x for x, need in zip(goals, needs, strict=True) if need)]
    return [*outputs, *(x for x in gradients if x is not None)], goals


def check(cp, hosts, **options):
    """Compare outputs and gradients with the loop's; return what was found."""
    results, goals = found(cp, hosts, **options)
    (_, l, h, p), n = hosts[0].shape, hosts[3].shape[3]
    for x, goal in zip(results, goals, strict=True):
        close(x, goal, 16 * l * max(h, p, n))
    return results


def test_outputs_and_gradients_in_any_order_of_threads(cp, dtype, order):
    check(cp, arrays(2, 37, 4, 5, 2, 3, dtype), chunk_size=13)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "sizes", [(1, 70, 1, 40, 1, 70), (1, 33, 2, 1, 1, 17), (1, 140, 1, 64, 1, 16)], ids=str
)
def test_tiles_beyond_and_below_a_block(cp, dtype, sizes):
    check(cp, arrays(*sizes, dtype))


@pytest.mark.parametrize("chunk_size", [1, 7, 16, 1000])
def test_results_do_not_depend_on_chunks(cp, chunk_size):
    check(cp, arrays(1, 50, 2, 3, 1, 4, "float64"), chunk_size=chunk_size)


@pytest.mark.parametrize("length", [1, 2, 17])
def test_short_sequences(cp, length):
    check(cp, arrays(2, length, 2, 3, 2, 2, "float64"))


@pytest.mark.parametrize("left_out", ["D", "initial_state"])
def test_what_may_be_left_out(cp, left_out):
    check(cp, arrays(1, 20, 2, 3, 1, 4, "float64", **{left_out: False}), chunk_size=8)


@pytest.mark.parametrize("blocks", [1, 8, 1000])
def test_heads_of_a_group_are_added_in_parts(cp, monkeypatch, blocks):
    monkeypatch.setattr(state_space_dual, "_BLOCKS", blocks)
    check(cp, arrays(1, 20, 10, 2, 2, 3, "float64"), chunk_size=10)


def test_arrays_of_any_strides(cp):
    hosts = arrays(2, 20, 2, 3, 1, 4, "float64")
    check(cp, hosts, lay=lambda cp, x: cp.asarray(np.asfortranarray(x)), chunk_size=8)


def test_decays_that_leave_nothing(cp):
    hosts = arrays(1, 40, 2, 3, 1, 4, "float32")
    hosts[2] = np.array([-1e4, -0.5], np.float32)
    check(cp, hosts, chunk_size=16)


def test_small_decays_are_not_lost_behind_large_ones(cp):
    hosts = arrays(1, 60, 1, 2, 1, 2, "float32")
    hosts[1][:, 30] = 40.0  # e^-80: all that came before is gone
    check(cp, hosts)


@pytest.mark.parametrize("given", [(True, False), (False, True)])
def test_a_cotangent_that_is_left_out_is_zero(cp, given):
    hosts = arrays(1, 20, 2, 3, 1, 4, "float64")
    x, B = hosts[0], hosts[3]
    shapes = x.shape, (1, 2, 3, B.shape[3])
    g = [
        random(s, "float64", 20 + i) * there
        for i, (s, there) in enumerate(zip(shapes, given, strict=True))
    ]
    inputs = [cp.asarray(x) for x in hosts]
    dual = state_space_dual.StateSpaceDual(cp)
    _, residuals = dual.forward(*inputs, return_last_state=True, chunk_size=8)
    cotangents = [cp.asarray(each) if there else None for each, there in zip(g, given, strict=True)]
    gradients = dual.backward(
        cotangents, [True] * 7, inputs, residuals, return_last_state=True, chunk_size=8
    )
    for gradient, goal in zip(gradients, loop(*hosts, *g)[2], strict=True):
        close(gradient, goal, 400)


def test_the_same_bits_every_time(cp):
    hosts = arrays(2, 40, 4, 5, 2, 8, "float32")
    first = [x.get() for x in found(cp, hosts, chunk_size=16)[0]]
    for x, other in zip(first, found(cp, hosts, chunk_size=16)[0], strict=True):
        np.testing.assert_array_equal(x, other.get())


def test_steps_do_not_see_later_chunks(cp):
    hosts = arrays(1, 40, 2, 3, 1, 4, "float64")
    dual = state_space_dual.StateSpaceDual(cp)
    (before,), _ = dual.forward(*map(cp.asarray, hosts), chunk_size=10)
    for x in (hosts[0], hosts[3], hosts[4]):
        x[:, 20:] = np.nan
    (after,), _ = dual.forward(*map(cp.asarray, hosts), chunk_size=10)
    np.testing.assert_array_equal(before.get()[:, :20], after.get()[:, :20])
    assert np.isnan(after.get()[:, 20:]).all()


def test_calls_without_steps_are_left_to_the_definition():
    x, B = np.zeros((1, 0, 2, 3)), np.zeros((1, 0, 1, 4))
    assert not state_space_dual.takes_steps([x, None, None, B], {})
    x, B = np.zeros((1, 5, 2, 3)), np.zeros((1, 5, 1, 0))
    assert not state_space_dual.takes_steps([x, None, None, B], {})
