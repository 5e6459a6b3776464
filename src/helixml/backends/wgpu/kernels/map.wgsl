// One function of the elements of up to three views, written to a fourth; maps.py puts the function
// before this file, as `value`, with the types X, Y, Z and R.

#include "prelude.wgsl"

struct Views {
  size: u32,
  rank: u32,
  x_start: u32,
  y_start: u32,
  z_start: u32,
  start: u32,
  shape: array<vec4<u32>, 2>,
  x_steps: array<vec4<u32>, 2>,
  y_steps: array<vec4<u32>, 2>,
  z_steps: array<vec4<u32>, 2>,
  steps: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read_write> xs: array<X>;
@group(0) @binding(1) var<storage, read_write> ys: array<Y>;
@group(0) @binding(2) var<storage, read_write> zs: array<Z>;
@group(0) @binding(3) var<storage, read_write> results: array<R>;
@group(1) @binding(0) var<uniform> p: Views;

@compute @workgroup_size(256)
fn map(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.size {
    return;
  }
  var rest = index;
  var a = p.x_start;
  var b = p.y_start;
  var c = p.z_start;
  var to = p.start;
  for (var left = p.rank; left > 0u; left--) {
    let quad = (left - 1u) / 4u;
    let lane = (left - 1u) % 4u;
    let n = p.shape[quad][lane];
    let at = rest % n;
    rest = rest / n;
    a += at * p.x_steps[quad][lane];
    b += at * p.y_steps[quad][lane];
    c += at * p.z_steps[quad][lane];
    to += at * p.steps[quad][lane];
  }
  results[to] = value(a, b, c);
}
