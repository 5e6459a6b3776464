"""The kernel of state-space duality against the recurrence, step by step in NumPy's float64."""

from __future__ import annotations

import numpy as np
import pytest

import helixml as hx
from helixml import config
from helixml.backends.cpu import kernels

if kernels.available() is None:
    pytest.skip("the kernels are not built", allow_module_level=True)

from helixml.backends.cpu.kernels.state_space_dual import ssd, ssd_vjp

pytestmark = pytest.mark.usefixtures("instruction_set")

# Batch, steps, heads, channels, groups, states: below, at and beyond chunks and panels.
SIZES = [(1, 1, 1, 1, 1, 1), (2, 5, 4, 3, 2, 2), (1, 64, 2, 16, 1, 8), (1, 65, 3, 5, 3, 17),
         (2, 200, 2, 33, 1, 40)]  # fmt: skip
TOLERANCE = {"float32": 4e-6, "float64": 8e-15}  # sums of thousands of terms cancel


def draw(rng, sizes, dtype="float32"):
    """Draw x, dt, A, B, C, D and the first state; float64 ones hold numbers of float32."""
    b, l, h, p, g, n = sizes
    arrays = [
        rng.standard_normal((b, l, h, p)),
        rng.uniform(0, 0.5, (b, l, h)),
        rng.uniform(-2, -0.2, h),
        rng.standard_normal((b, l, g, n)),
        rng.standard_normal((b, l, g, n)),
        rng.standard_normal(h),
        rng.standard_normal((b, h, p, n)),
    ]
    return [x.astype("f4").astype(dtype) for x in arrays]


def reference(x, dt, A, B, C, D, state, g, g_last):
    """Return y, the last state and the gradients of all inputs."""
    x, dt, A, B, C, D, state, g, G = (np.float64(v) for v in (x, dt, A, B, C, D, state, g, g_last))
    share = x.shape[2] // B.shape[2]
    many = [m.repeat(share, axis=2) for m in (B, C)]
    decay = np.exp(dt * A)
    states, y = [state], []
    for t in range(x.shape[1]):
        drive = (dt[:, t, :, None] * x[:, t])[..., None] * many[0][:, t, :, None]
        states.append(decay[:, t, :, None, None] * states[-1] + drive)
        y.append((states[-1] * many[1][:, t, :, None]).sum(-1) + D[:, None] * x[:, t])
    dx, ddt, dB, dC = D[:, None] * g, np.zeros(dt.shape), *(np.zeros(m.shape) for m in many)
    dA = np.zeros(A.shape)
    for t in reversed(range(x.shape[1])):
        G = G + g[:, t, :, :, None] * many[1][:, t, :, None]
        dC[:, t] = (states[t + 1] * g[:, t, :, :, None]).sum(2)
        heard = (G * many[0][:, t, :, None]).sum(-1)
        dx[:, t] += dt[:, t, :, None] * heard
        dB[:, t] = dt[:, t, :, None] * (G * x[:, t, :, :, None]).sum(2)
        G = decay[:, t, :, None, None] * G
        slope = (G * states[t]).sum((2, 3))
        ddt[:, t] = (heard * x[:, t]).sum(-1) + A * slope
        dA += (dt[:, t] * slope).sum(0)
    dB, dC = (m.reshape(*B.shape[:3], share, B.shape[3]).sum(3) for m in (dB, dC))
    return np.stack(y, 1), states[-1], dx, ddt, dA, dB, dC, (g * x).sum((0, 1, 3)), G


def run(arrays, g, g_last, chunk_size=64):
    """Return the kernel's outputs and gradients; it must leave what it is given."""
    before = [x.copy() for x in (*arrays, g, g_last)]
    options = {"chunk_size": chunk_size, "return_last_state": True}
    outputs, residuals = ssd(*arrays, **options)
    gradients = ssd_vjp((g, g_last), (True,) * 7, arrays, residuals, **options)
    for x, old in zip((*arrays, g, g_last), before, strict=True):
        np.testing.assert_array_equal(x, old)
    return *outputs, *gradients


def assert_close(found, wanted, tolerance):
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= tolerance * max(1, np.abs(other).max())


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("sizes", SIZES)
def test_outputs_and_gradients_are_those_of_the_recurrence(rng, sizes, dtype):
    arrays = draw(rng, sizes, dtype)
    g, g_last = (rng.standard_normal(arrays[i].shape).astype("f4") for i in (0, 6))
    wanted = reference(*arrays, g, g_last)
    for chunk_size in (64, 7, 1000):
        found = run(arrays, g.astype(dtype), g_last.astype(dtype), chunk_size)
        assert all(x.dtype == dtype for x in found)
        assert_close(found, wanted, TOLERANCE[dtype])


def test_any_layout_and_number_of_threads_gives_equal_bits(of_any_number_of_threads, rng):
    arrays = draw(rng, (2, 70, 4, 9, 2, 6))
    g, g_last = (rng.standard_normal(arrays[i].shape).astype("f4") for i in (0, 6))
    plain = run(arrays, g, g_last)
    for layout in (np.asfortranarray, lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
                   lambda x: x[..., ::-1].copy()[..., ::-1]):  # fmt: skip
        for place in range(len(plain)):
            found = of_any_number_of_threads(
                lambda layout=layout, place=place: run(
                    [layout(x) for x in arrays], layout(g), layout(g_last)
                )[place]
            )
            assert found.tobytes() == plain[place].tobytes()


def test_only_what_there_is_and_is_needed_is_computed(rng):
    arrays = draw(rng, SIZES[1], "float64")
    g = rng.standard_normal(arrays[0].shape)
    zeros = np.zeros(arrays[5].shape), np.zeros(arrays[6].shape)
    wanted = reference(*arrays[:5], *zeros, g, zeros[1])
    inputs = [*arrays[:5], None, None]
    (y,), residuals = ssd(*inputs)
    needs = (True, False, True, False, True, False, False)
    found = ssd_vjp((g,), needs, inputs, residuals)
    assert [x is not None for x in found] == [*needs]
    assert_close(
        [y, *(x for x in found if x is not None)], [wanted[i] for i in (0, 2, 4, 6)], 1e-14
    )
    (_, last), residuals = ssd(*inputs, return_last_state=True)
    found = ssd_vjp((None, last), needs, inputs, residuals, return_last_state=True)
    wanted = reference(*arrays[:5], *zeros, 0 * g, last)
    assert_close([last, found[0], found[2]], [wanted[i] for i in (1, 2, 4)], 1e-14)


def test_what_lies_behind_a_step_that_forgets_all_stays_exact(rng):
    arrays = draw(rng, (1, 100, 1, 4, 1, 8))
    arrays[1][:, [20, 80]] = 1e5  # decays of 0, beside which the others must not vanish
    arrays[0][:, [20, 80]] = 0
    g, g_last = (rng.standard_normal(arrays[i].shape).astype("f4") for i in (0, 6))
    found, wanted = run(arrays, g, g_last), reference(*arrays, g, g_last)
    assert_close(found[:3], wanted[:3], 1e-6)
    assert_close([np.delete(found[3], [20, 80], 1)], [np.delete(wanted[3], [20, 80], 1)], 1e-6)
    assert_close(found[4:], wanted[4:], 1e-6)


def test_errors_are_those_of_the_definition(rng):
    arrays = draw(rng, (1, 600, 2, 16, 1, 32))
    g = rng.standard_normal(arrays[0].shape).astype("f4")
    wanted = reference(*arrays, g, np.zeros(arrays[6].shape))
    errors = []
    for kernels_on in (True, False):
        with config.using(kernels=kernels_on):
            tensors = [hx.tensor(x, requires_grad=True) for x in arrays]
            y = hx.ssd(*tensors)
            y.backward(hx.tensor(g))
            found = [y.numpy(), None, *(x.grad.numpy() for x in tensors)]
        errors.append(
            [
                np.sqrt(np.mean(np.square(x - w)))
                for x, w in zip(found, wanted, strict=True)
                if x is not None
            ]
        )
    for ours, theirs in zip(*errors, strict=True):
        assert ours <= 1.5 * theirs
