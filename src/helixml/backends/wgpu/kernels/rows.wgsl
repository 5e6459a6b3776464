// Rows shared out among teams of threads, and what the threads of a team find together.
//
// A workgroup has THREADS / LANES teams, and each takes one row. A team whose row is behind the
// last one goes along, since all threads have to meet at barriers.
#include "prelude.wgsl"
#include "functions.wgsl"

override THREADS: u32 = 256;
override LANES: u32 = 256; // a power of two that divides THREADS

var<workgroup> partial: array<f32, THREADS>;

fn team_sum(value: f32, thread: u32) -> f32 {
  partial[thread] = value;
  workgroupBarrier();
  for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
    if (thread % LANES < distance) { partial[thread] += partial[thread + distance]; }
    workgroupBarrier();
  }
  let total = partial[thread - thread % LANES];
  workgroupBarrier();
  return total;
}

fn team_max(value: f32, thread: u32) -> f32 {
  partial[thread] = value;
  workgroupBarrier();
  for (var distance = LANES / 2u; distance > 0u; distance /= 2u) {
    if (thread % LANES < distance) {
      partial[thread] = max(partial[thread], partial[thread + distance]);
    }
    workgroupBarrier();
  }
  let top = partial[thread - thread % LANES];
  workgroupBarrier();
  return top;
}
