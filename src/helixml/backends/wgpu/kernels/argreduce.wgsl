// Where the first of the largest or smallest elements stands; before(x, y) says which is sought.

#include "prelude.wgsl"

struct Sizes {
  count: u32,
  entries: u32,
  inner: u32,
}

@group(0) @binding(0) var<storage, read_write> xs: array<X>;
@group(0) @binding(1) var<storage, read_write> results: array<vec2<u32>>;
@group(1) @binding(0) var<uniform> p: Sizes;

var<workgroup> values: array<X, 256>;
var<workgroup> places: array<u32, 256>;

@compute @workgroup_size(256)
fn argreduce(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups);
  let base = (index / p.inner) * p.entries * p.inner + index % p.inner;
  // Invocations beyond the last element look at the first one: it changes nothing.
  let own = select(0u, thread, thread < p.entries && index < p.count);
  var best = own;
  var value = xs[select(0u, base + own * p.inner, index < p.count)];
  for (var i = own + 256u; i < p.entries; i += 256u) {
    let other = xs[base + i * p.inner];
    if before(other, value) {
      best = i;
      value = other;
    }
  }
  values[thread] = value;
  places[thread] = best;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half = half >> 1u) {
    if thread < half {
      let other = thread + half;
      let is_before = before(values[other], values[thread]);
      let is_equal = !is_before && !before(values[thread], values[other]);
      if is_before || (is_equal && places[other] < places[thread]) {
        values[thread] = values[other];
        places[thread] = places[other];
      }
    }
    workgroupBarrier();
  }
  if thread == 0u && index < p.count {
    results[index] = vec2<u32>(places[0], 0u);
  }
}
