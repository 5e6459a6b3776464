// Softmax of rows, y = e^(x - top) / sum, and with LOGARITHM x - top - log(sum).
//
// Backward, from y: y (g - sum(g y)), and g - e^y sum(g) for the logarithm.
#include "rows.wgsl"

override LOGARITHM: bool = false;

struct Sizes { rows: u32, columns: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(0) var<storage, read_write> g: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<f32>;
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(THREADS)
fn softmax(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let row = linear(group, groups) * (THREADS / LANES) + thread / LANES;
  let start = row * p.columns;
  let count = select(0u, p.columns, row < p.rows);
  var top = -3.40282347e38;
  for (var i = thread % LANES; i < count; i += LANES) { top = max(top, x[start + i]); }
  top = team_max(top, thread);
  var sum = 0.0;
  for (var i = thread % LANES; i < count; i += LANES) { sum += exp_(x[start + i] - top); }
  sum = team_sum(sum, thread);
  let rest = select(sum, log_(sum), LOGARITHM);
  for (var i = thread % LANES; i < count; i += LANES) {
    let above = x[start + i] - top;
    if (LOGARITHM) { y[start + i] = above - rest; }
    else { y[start + i] = exp_(above) / rest; }
  }
}

@compute @workgroup_size(THREADS)
fn softmax_vjp(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let row = linear(group, groups) * (THREADS / LANES) + thread / LANES;
  let start = row * p.columns;
  let count = select(0u, p.columns, row < p.rows);
  var sum = 0.0;
  for (var i = thread % LANES; i < count; i += LANES) {
    sum += g[start + i] * select(y[start + i], 1.0, LOGARITHM);
  }
  sum = team_sum(sum, thread);
  for (var i = thread % LANES; i < count; i += LANES) {
    let value = y[start + i];
    if (LOGARITHM) { dx[start + i] = g[start + i] - exp_(value) * sum; }
    else { dx[start + i] = value * (g[start + i] - sum); }
  }
}
