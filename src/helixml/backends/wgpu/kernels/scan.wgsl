// Running sums along lines: a workgroup for each line, 256 elements at a time, by doubling within
// them (Hillis & Steele 1986), and what is carried from one to the next. scan.py puts before this
// file the type X of elements, T of sums, loaded(X) -> T and add(T, T) -> T.

#include "prelude.wgsl"

struct Sizes {
  lines: u32,
  length: u32,
}

@group(0) @binding(0) var<storage, read_write> xs: array<X>;
@group(0) @binding(1) var<storage, read_write> results: array<T>;
@group(1) @binding(0) var<uniform> p: Sizes;

var<workgroup> sums: array<T, 256>;

@compute @workgroup_size(256)
fn running(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let line = linear(group, groups);
  let base = line * p.length;
  var carried = T();
  for (var first = 0u; first < p.length; first += 256u) {
    let is_there = line < p.lines && first + thread < p.length;
    var own = T();
    if is_there { own = loaded(xs[base + first + thread]); }
    sums[thread] = own;
    workgroupBarrier();
    for (var distance = 1u; distance < 256u; distance = distance * 2u) {
      if thread >= distance { own = add(sums[thread - distance], own); }
      workgroupBarrier();
      sums[thread] = own;
      workgroupBarrier();
    }
    if is_there { results[base + first + thread] = add(carried, own); }
    carried = add(carried, sums[255]);
    workgroupBarrier();
  }
}
