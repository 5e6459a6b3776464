"""What WebGPU accepts silently and computes wrongly, and how each of it is met."""

import numpy as np
import pytest

from helixml import dtypes
from helixml.backends.wgpu.launch import MOST_TRIPS, Source, folded
from helixml.backends.wgpu.runtime import LIMITS
from helixml.errors import BackendError

ARRAYS = """
@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
"""
ADD = f"""{ARRAYS}
struct Sizes {{ size: u32, by: f32 }}
@group(1) @binding(0) var<uniform> p: Sizes;
override SIZE: u32 = 64u;
@compute @workgroup_size(SIZE)
fn add(@builtin(global_invocation_id) at: vec3<u32>) {{
  if at.x < p.size {{ y[at.x] = x[at.x] + p.by; }}
}}
"""
COUNT = f"""{ARRAYS}
struct Sizes {{ times: u32 }}
@group(1) @binding(0) var<uniform> p: Sizes;
fn step(total: f32) -> f32 {{
  var sum = total;
  for (var i = 0u; i < p.times; i++) {{ sum += x[i % 2u]; }}
  return sum;
}}
@compute @workgroup_size(1)
fn count() {{ y[0] = step(0.0); }}
"""


def pair(runtime, size=5):
    x = runtime.from_numpy(np.arange(size, dtype=np.float32))
    return x, runtime.empty((size,), dtypes.float32)


# Launching


@pytest.mark.parametrize("size", [1, 64, 256])
def test_a_kernel_gets_arrays_numbers_and_constants(runtime, program, size):
    x, y = pair(runtime)
    made = program(ADD)
    made.launch("add", [x, y], {"by": 0.5, "size": 5}, groups=5, constants={"SIZE": size})
    np.testing.assert_array_equal(runtime.to_numpy(y), np.arange(5) + 0.5)


@pytest.mark.parametrize(
    ("uniforms", "message"),
    [
        ({"size": 5}, r"uniforms \['size'\]; the struct has \['by', 'size'\]"),
        ({"size": 5, "by": 1.0, "more": 2}, "the struct has"),
        ({"size": -1, "by": 1.0}, "uniforms .*size"),
    ],
)
def test_numbers_that_do_not_fit_the_struct(runtime, program, uniforms, message):
    with pytest.raises(BackendError, match=message):
        program(ADD).launch("add", [*pair(runtime)], uniforms, groups=1)


def test_arrays_that_do_not_fit_the_source(runtime, program):
    x, y = pair(runtime)
    uniforms = {"size": 5, "by": 1.0}
    made = program(ADD)
    for arrays, message in (
        ([x], "1 arrays for 2 bindings: x, y"),
        ([x, y.view((5,), (0,))], "y is a view"),
        ([x, runtime.empty((5,), dtypes.int64)], "y holds f32, not int64"),
        ([x, np.zeros(5)], "y must be an array of the device, not ndarray"),
    ):
        with pytest.raises(BackendError, match=message):
            made.launch("add", arrays, uniforms, groups=1)
    with pytest.raises(BackendError, match="no kernel 'sub'; there are add"):
        made.launch("sub", [x, y], uniforms, groups=1)


def test_an_error_of_the_source_names_the_file(runtime, program):
    with pytest.raises(BackendError, match=r"(?s)text.wgsl: .*reserved"):
        program(ADD.replace("by", "from")).launch("add", [*pair(runtime)], {}, groups=1)


def test_grids_beyond_65535_are_folded(runtime, program):
    assert folded(65535) == (65535, 1, 1)
    assert folded(65536) == (32768, 2, 1)
    count = 70001
    x = runtime.empty((count,), dtypes.float32)
    text = f"""{ARRAYS}
    @compute @workgroup_size(1)
    fn number(
      @builtin(workgroup_id) group: vec3<u32>,
      @builtin(num_workgroups) groups: vec3<u32>,
    ) {{
      let index = group.x + group.y * groups.x;
      if index < {count}u {{ x[index] = f32(index); }}
    }}
    """
    made = program(text)
    made.launch("number", [x], groups=count)
    np.testing.assert_array_equal(runtime.to_numpy(x), np.arange(count))
    with pytest.raises(BackendError, match=r"grid of \(70001, 1, 1\)"):
        made.launch("number", [x], groups=(count,))


# 1: loops end silently after 65,535 iterations


def test_a_loop_needs_its_number_of_iterations(runtime, program):
    x, y = pair(runtime, 2)
    made = program(COUNT)
    with pytest.raises(BackendError, match="an unknown number of iterations"):
        made.launch("count", [x, y], {"times": 4}, groups=1)
    with pytest.raises(BackendError, match="65536 iterations in one invocation"):
        made.launch("count", [x, y], {"times": 65536}, groups=1, trips=65536)
    made.launch("count", [x, y], {"times": MOST_TRIPS}, groups=1, trips=MOST_TRIPS)
    assert runtime.to_numpy(y)[0] == MOST_TRIPS // 2


# 3: workgroup memory beyond the limit is accepted


def test_too_much_workgroup_memory_is_refused():
    text = """
    override TILE: u32 = 16u;
    const DEPTH = 4u;
    var<workgroup> a: array<vec4<f32>, TILE * DEPTH * 4u>;
    var<workgroup> b: array<f32, 4096>;
    @compute @workgroup_size(TILE) fn one() { a[0].x = 1.0; }
    @compute @workgroup_size(TILE) fn both() { a[0].x = b[0]; }
    """
    source = Source(text)
    assert source.entry("one", {}).storage == 4096
    assert source.entry("one", {"TILE": 64}).storage == 16384
    with pytest.raises(BackendError, match=r"both: 20,480 bytes of var<workgroup>.*16,384"):
        source.entry("both", {})
    with pytest.raises(BackendError, match="one: a workgroup of 257"):
        source.entry("one", {"TILE": 257})


def test_bindings_that_are_not_served():
    entry = "@compute @workgroup_size(1) fn f() { x[0] = 1.0; }"
    for text, message in (
        ("@group(0) @binding(0) var<storage, read> x: array<f32>;", r"x is var<storage, read>"),
        ("@group(2) @binding(0) var<storage, read_write> x: array<f32>;", "in group 2"),
    ):
        with pytest.raises(BackendError, match=message):
            Source(text + entry).entry("f", {})
    many = "".join(
        f"@group(0) @binding({n}) var<storage, read_write> x{n}: array<f32>;" for n in range(9)
    )
    uses = " + ".join(f"x{n}[1]" for n in range(9))
    text = f"{many} @compute @workgroup_size(1) fn f() {{ x0[0] = {uses}; }}"
    with pytest.raises(BackendError, match="f: 9 arrays; WebGPU promises 8"):
        Source(text).entry("f", {})


def test_the_struct_of_numbers_is_laid_out_as_wgsl_does():
    text = """
    struct P { a: u32, b: vec4<u32>, c: f32, d: vec2<i32>, e: array<vec4<u32>, 2>, }
    @group(1) @binding(0) var<uniform> p: P;
    @compute @workgroup_size(1) fn f() { let x = p.a; }
    """
    said = Source(text).entry("f", {})
    assert said.layout.size == 16 + 16 + 4 + 4 + 8 + 32
    assert [m.count for m in said.members] == [1, 4, 1, 2, 8]
    with pytest.raises(BackendError, match="'b' is vec3<f32>"):
        Source(text.replace("vec4<u32>,", "vec3<f32>,", 1)).entry("f", {})
    with pytest.raises(BackendError, match="bytes of uniforms"):
        Source(text.replace(", 2>", ", 20>")).entry("f", {})


# 6: one buffer in two places


def test_one_buffer_may_be_bound_twice(backend):
    x = backend.asarray(np.arange(12, dtype=np.float32).reshape(3, 4))
    host = backend.to_numpy(x)
    square = backend.getitem(x, (slice(0, 3), slice(0, 3)))
    found = backend.add(square, backend.permute_dims(square, (1, 0)))
    np.testing.assert_array_equal(backend.to_numpy(found), host[:, :3] + host[:, :3].T)


def test_a_view_is_assigned_to_another_of_its_buffer(backend):
    x = backend.asarray(np.arange(6, dtype=np.float32))
    backend.assign(backend.getitem(x, (slice(1, 6),)), backend.getitem(x, (slice(0, 5),)))
    assert backend.to_numpy(x).tolist() == [0, 0, 1, 2, 3, 4]


# 7: a write by the host overtakes what is recorded


def test_a_write_waits_for_what_is_recorded(runtime, program):
    x, y = pair(runtime)
    program(ADD).launch("add", [x, y], {"size": 5, "by": 1.0}, groups=1)
    runtime.write(x.storage, np.full(5, 100, np.float32))
    np.testing.assert_array_equal(runtime.to_numpy(y), np.arange(5) + 1)


def test_uploads_need_not_send_what_is_recorded(backend, runtime):
    x = backend.asarray(np.zeros(5, np.float32))
    backend.synchronize()
    before = runtime.submissions
    for i in range(20):
        x = backend.add(x, backend.asarray(np.full(5, i, np.float32)))
    assert runtime.submissions == before
    assert backend.to_numpy(x).tolist() == [190.0] * 5


# 8: waiting


def test_synchronize_waits(backend, runtime):
    x = backend.asarray(np.ones(3, np.float32))
    for _ in range(300):  # more than are sent together
        x = backend.add(x, x)
        x = backend.multiply(x, backend.full((), 0.5, dtype=dtypes.float32))
    backend.synchronize()
    assert runtime._pass is None
    assert backend.to_numpy(x).tolist() == [1.0] * 3


# 9: limits


def test_the_device_has_no_more_than_webgpu_promises(runtime):
    for name, promised in LIMITS.items():
        if name not in ("max-buffer-size", "max-storage-buffer-binding-size"):
            assert runtime.device.limits[name] == promised, name


# 10: layouts name the bindings that an entry uses


def test_an_entry_may_leave_bindings_out(runtime, program):
    text = f"""{ARRAYS}
    @compute @workgroup_size(1) fn last() {{ z[0] = 3.0; }}
    @compute @workgroup_size(1) fn ends() {{ z[0] = x[0] + 3.0; }}
    """
    x, z = pair(runtime, 1)
    made = program(text)
    made.launch("last", [z], groups=1)
    assert runtime.to_numpy(z)[0] == 3
    made.launch("ends", [z, x], groups=1)
    assert runtime.to_numpy(x)[0] == 6


def test_no_group_does_nothing(runtime, program):
    x, y = pair(runtime)
    before = runtime.dispatches
    program(ADD).launch("add", [x, y], {"size": 0, "by": 1.0}, groups=0)
    assert runtime.dispatches == before
