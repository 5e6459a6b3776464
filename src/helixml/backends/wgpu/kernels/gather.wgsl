// Entries taken along an axis, and rows added up by target. Indices may have one word or two: WIDTH
// words of which the first is read; negative ones count from the end.

#include "prelude.wgsl"

struct Sizes {
  size: u32,
  count: u32,  // of indices
  entries: u32,  // along the axis
  inner: u32,
  first: u32,
  last: u32,
}

override WIDTH: u32 = 1u;

@group(0) @binding(0) var<storage, read_write> xs: array<X>;
@group(0) @binding(1) var<storage, read_write> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> results: array<X>;
@group(0) @binding(3) var<storage, read_write> order: array<vec2<u32>>;
@group(1) @binding(0) var<uniform> p: Sizes;

fn entry(place: u32) -> u32 {
  let index = indices[place * WIDTH];
  return select(index, index + p.entries, index >= p.entries);
}

@compute @workgroup_size(256)
fn take(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.size {
    return;
  }
  let column = index % p.inner;
  let row = index / p.inner;
  let outer = row / p.count;
  results[index] = xs[(outer * p.entries + entry(row % p.count)) * p.inner + column];
}

// How many of the sorted targets are below one.
fn below(wanted: u32) -> u32 {
  var low = 0u;
  var high = p.count;
  while low < high {
    let middle = (low + high) / 2u;
    if entry(order[middle].x) < wanted { low = middle + 1u; } else { high = middle; }
  }
  return low;
}

// Each invocation adds up, for one target and one column, the rows of that target, in their order,
// of those that stand at [first, last) in sorted order.
@compute @workgroup_size(256)
fn scatter(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.size {
    return;
  }
  let column = index % p.inner;
  let row = index / p.inner;
  let begin = max(below(row), p.first);
  let end = min(below(row + 1u), p.last);
  var total = zero();
  if p.first > 0u { total = results[index]; }
  for (var i = begin; i < end; i++) {
    total = add(total, xs[order[i].x * p.inner + column]);
  }
  results[index] = total;
}
