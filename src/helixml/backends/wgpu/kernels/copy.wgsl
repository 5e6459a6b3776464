// Elements of a view one behind the other. UNIT is a word or two.

#include "prelude.wgsl"

struct Sizes {
  size: u32,
  rank: u32,
  start: u32,
  to: u32,
  shape: array<vec4<u32>, 2>,
  steps: array<vec4<u32>, 2>,
  to_steps: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read_write> x: array<UNIT>;
@group(0) @binding(1) var<storage, read_write> y: array<UNIT>;
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(256)
fn copy(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.size {
    return;
  }
  var rest = index;
  var source = p.start;
  var place = p.to;
  for (var left = p.rank; left > 0u; left--) {
    let axis = left - 1u;
    let n = p.shape[axis / 4u][axis % 4u];
    let at = rest % n;
    rest = rest / n;
    source += at * p.steps[axis / 4u][axis % 4u];
    place += at * p.to_steps[axis / 4u][axis % 4u];
  }
  y[place] = x[source];
}
