// Many elements made one, in a fixed order. reduce.py puts before this file the types X of
// elements, A of what is accumulated and R of results, and the functions load(X) -> A,
// join(A, A) -> A, identity() -> A and store(A) -> R.
//
// The elements of a result lie in an inner view, results in an outer one. The inner view is cut into
// parts of p.part elements; results of parts are reduced again by another dispatch.

#include "prelude.wgsl"

struct Views {
  outer: u32,
  outer_rank: u32,
  inner: u32,
  inner_rank: u32,
  part: u32,
  parts: u32,
  start: u32,
  outer_shape: array<vec4<u32>, 2>,
  outer_steps: array<vec4<u32>, 2>,
  inner_shape: array<vec4<u32>, 2>,
  inner_steps: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read_write> xs: array<X>;
@group(0) @binding(1) var<storage, read_write> results: array<R>;
@group(1) @binding(0) var<uniform> p: Views;

var<workgroup> shared_parts: array<A, 256>;

fn outer_place(index: u32) -> u32 {
  var rest = index;
  var place = p.start;
  for (var left = p.outer_rank; left > 0u; left--) {
    let quad = (left - 1u) / 4u;
    let lane = (left - 1u) % 4u;
    place += (rest % p.outer_shape[quad][lane]) * p.outer_steps[quad][lane];
    rest = rest / p.outer_shape[quad][lane];
  }
  return place;
}

fn inner_place(index: u32) -> u32 {
  if p.inner_rank == 1u { return index * p.inner_steps[0][0]; }
  var rest = index;
  var place = 0u;
  for (var left = p.inner_rank; left > 0u; left--) {
    let quad = (left - 1u) / 4u;
    let lane = (left - 1u) % 4u;
    place += (rest % p.inner_shape[quad][lane]) * p.inner_steps[quad][lane];
    rest = rest / p.inner_shape[quad][lane];
  }
  return place;
}

// A workgroup for each part of a result: every 256th element by one invocation, then a tree.
@compute @workgroup_size(256)
fn rows(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups);
  let is_there = index < p.outer * p.parts;
  var total = identity();
  if is_there {
    let base = outer_place(index / p.parts);
    let first = (index % p.parts) * p.part;
    let last = min(first + p.part, p.inner);
    for (var i = first + thread; i < last; i += 256u) {
      total = join(total, load(xs[base + inner_place(i)]));
    }
  }
  shared_parts[thread] = total;
  workgroupBarrier();
  for (var half = 128u; half > 0u; half = half >> 1u) {
    if thread < half {
      shared_parts[thread] = join(shared_parts[thread], shared_parts[thread + half]);
    }
    workgroupBarrier();
  }
  if is_there && thread == 0u {
    results[index] = store(shared_parts[0]);
  }
}

// An invocation for each part of a result: neighbours read neighbours where results lie so.
@compute @workgroup_size(256)
fn columns(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.outer * p.parts {
    return;
  }
  let base = outer_place(index % p.outer);
  let first = (index / p.outer) * p.part;
  let last = min(first + p.part, p.inner);
  var total = identity();
  for (var i = first; i < last; i++) {
    total = join(total, load(xs[base + inner_place(i)]));
  }
  results[(index % p.outer) * p.parts + index / p.outer] = store(total);
}
