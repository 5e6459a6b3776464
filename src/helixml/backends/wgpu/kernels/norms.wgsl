// The Euclidean norm of many arrays: squares of each, chunk by chunk, added up by parts.wgsl.
#include "rows.wgsl"

const RUN = 16u; // entries that a thread squares and adds up

struct Chunks { size: u32, first: u32, count: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> sums: array<f32>;
@group(1) @binding(0) var<uniform> p: Chunks;

// The sums go to `sums` from `first` on, one for each workgroup
@compute @workgroup_size(THREADS)
fn squares(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let number = linear(group, groups);
  let start = number * THREADS * RUN;
  var sum = 0.0;
  for (var i = thread; i < THREADS * RUN; i += THREADS) {
    if (start + i < p.size) { sum += x[start + i] * x[start + i]; }
  }
  sum = team_sum(sum, thread);
  if (thread == 0u && number < p.count) { sums[p.first + number] = sum; }
}

@compute @workgroup_size(1)
fn root() { sums[0] = sqrt(x[0]); }
