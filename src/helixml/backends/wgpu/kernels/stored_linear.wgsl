// y = x (scale W)^T + bias for a few vectors x. Nearly all the time goes to reading the matrix: a
// team of invocations takes a row of it for each vector.
//
// The launcher defines WEIGHT, f32 or i32.
#include "rows.wgsl"

override HAS_SCALE: bool = false;
override HAS_BIAS: bool = false;

// rows: those of the matrix for each of the vectors, which begin `step` apart
struct Sizes { rows: u32, columns: u32, vectors: u32, step: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> weight: array<WEIGHT>; // (n, columns)
@group(0) @binding(2) var<storage, read_write> scale: array<f32>;     // (n)
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;      // (n)
@group(0) @binding(4) var<storage, read_write> y: array<f32>;         // (vectors, n)
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(THREADS)
fn stored_linear(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let place = linear(group, groups) * (THREADS / LANES) + thread / LANES;
  let count = select(0u, p.columns, place < p.rows);
  let row = place / p.vectors;
  let vector = place % p.vectors;
  var sum = 0.0;
  for (var c = thread % LANES; c < count; c += LANES) {
    sum += f32(weight[row * p.columns + c]) * x[vector * p.step + c];
  }
  sum = team_sum(sum, thread);
  if (place >= p.rows || thread % LANES > 0u) { return; }
  if (HAS_SCALE) { sum *= scale[row]; }
  if (HAS_BIAS) { sum += bias[row]; }
  y[vector * (p.rows / p.vectors) + row] = sum;
}
