// Sums of parts, x (outer, count, inner), in a fixed order: y (outer, ceil(count / RUN), inner).
//
// Launched again until one part is left.
#include "prelude.wgsl"

override THREADS: u32 = 256;
const RUN = 32u;

struct Sizes { outer: u32, count: u32, inner: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(THREADS)
fn sum_runs(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let place = linear(group, groups) * THREADS + thread;
  let runs = (p.count + RUN - 1u) / RUN;
  if (place >= p.outer * runs * p.inner) { return; }
  let first = place / p.inner % runs * RUN;
  let start = place / p.inner / runs * p.count * p.inner + place % p.inner;
  var sum = 0.0;
  for (var i = first; i < min(first + RUN, p.count); i++) {
    sum += x[start + i * p.inner];
  }
  y[place] = sum;
}
