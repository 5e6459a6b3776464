// Windows added up where they came from: an invocation for each entry of the result adds what all
// windows have there, entry by entry of a window, in a fixed order.

#include "prelude.wgsl"

struct Sizes {
  size: u32,
  length: u32,
  windows: u32,
  inner: u32,
  window: u32,  // entries of a window
  step: u32,
  dilation: u32,
}

@group(0) @binding(0) var<storage, read_write> xs: array<X>;
@group(0) @binding(1) var<storage, read_write> results: array<X>;
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(256)
fn fold(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.size {
    return;
  }
  let column = index % p.inner;
  let at = (index / p.inner) % p.length;
  let outer = index / (p.inner * p.length);
  var total = X();
  for (var j = 0u; j < p.window; j++) {
    let shift = j * p.dilation;
    if shift > at { break; }
    let i = (at - shift) / p.step;
    if i * p.step == at - shift && i < p.windows {
      total = add(total, xs[((outer * p.windows + i) * p.inner + column) * p.window + j]);
    }
  }
  results[index] = total;
}
