"""The functions that fused kernels share, against NumPy and SciPy in float64."""

import numpy as np
import pytest
from scipy import special

from helixml.backends.wgpu.arrays import WgpuArray
from helixml.backends.wgpu.launch import Program

from .conftest import GUARD, PATTERN, get, is_whole, put

PROBE = """
@compute @workgroup_size(64)
fn probe(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * 64u + thread;
  if (i < p.size) { y[i] = CALL; }
}
"""


def values(runtime, call, x):
    """Return what a function of WGSL makes of numbers."""
    (given,) = put(runtime, x)
    made = runtime.empty(x.shape, x.dtype)
    groups = -(-x.size // 64)
    Program.of(runtime, "activation.wgsl").launch(
        "probe",
        [given, made],
        {"size": x.size},
        groups=groups,
        head=PROBE.replace("CALL", call),
    )
    return get(runtime, made)


CASES = {
    "exp4_(vec4(0.0, x[i], 1.0, 2.0)).y": (np.exp, np.linspace(-87, 88.7, 4001)),
    "softplus_(x[i])": (lambda x: np.logaddexp(0, x), np.linspace(-87, 100, 4001)),
    "sigmoid_(x[i])": (special.expit, np.linspace(-87, 20, 4001)),
}


@pytest.mark.parametrize("call", CASES)
def test_relative_error_is_a_few_units_of_the_last_place(runtime, call):
    function, points = CASES[call]
    x = points.astype(np.float32)
    np.testing.assert_allclose(values(runtime, call, x), function(x.astype(np.float64)), rtol=4e-7)


def test_limits(runtime):
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 90.0, -110.0], np.float32)
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(values(runtime, "exp4_(vec4(x[i])).w", x), np.exp(x))
    goal = np.logaddexp(0, x.astype(np.float64)).astype(np.float32)
    np.testing.assert_allclose(values(runtime, "softplus_(x[i])", x), goal, rtol=4e-7, atol=1e-45)


@pytest.mark.parametrize(("behind", "whole"), [(0, True), (1, False), (GUARD // 4, False)])
def test_guard_zones_show_what_is_written_behind_an_array(device, behind, whole):
    storage = device.pool.take(256 + GUARD)
    device.write(storage, np.full(storage.size // 4, PATTERN, np.uint32))
    x, y = device.from_numpy(np.ones(64, np.float32)), WgpuArray(storage, (64,), np.dtype("f4"))
    Program.of(device, "activation.wgsl").launch(
        "probe", [x, y], {"size": 64}, groups=1, head=PROBE.replace("y[i]", f"y[i + {behind}u]")
        .replace("CALL", "x[i]"),
    )  # fmt: skip
    assert is_whole(device, storage, 256) == whole
