// Products of matrices of integers: an invocation for each entry, without tiles. matmul.py puts the
// type T, add and multiply before this file.

#include "prelude.wgsl"

struct Sizes {
  size: u32,
  m: u32,
  n: u32,
  k: u32,
}

@group(0) @binding(0) var<storage, read_write> a: array<T>;
@group(0) @binding(1) var<storage, read_write> b: array<T>;
@group(0) @binding(2) var<storage, read_write> c: array<T>;
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(256)
fn entries(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.size {
    return;
  }
  let row = (index / p.n) * p.k;
  let column = (index / (p.m * p.n)) * p.k * p.n + index % p.n;
  var total = T();
  for (var i = 0u; i < p.k; i++) {
    total = add(total, multiply(a[row + i], b[column + i * p.n]));
  }
  c[index] = total;
}
