// Cross entropy of class indices: loss = -sum_k q_k log p_k with p = softmax(logits) and the target
// spread as q_k = (1 - smoothing) [k = target] + smoothing / columns; 0 where the target is
// ignored.
//
// With top the largest logit and sum that of e^(x - top): loss = log(sum) - sum_k q_k (x_k - top).
// The gradient is g (p - q), divided by what counts.
#include "rows.wgsl"

override IGNORES: bool = false;
override EACH: bool = false; // whether each loss has a cotangent of its own
override MEAN: bool = false; // whether the losses were divided by what counts

// words: how many a class index has, of which the first counts
struct Sizes { rows: u32, columns: u32, words: u32, ignored: i32, smoothing: f32 }

@group(0) @binding(0) var<storage, read_write> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> classes: array<u32>;
@group(0) @binding(2) var<storage, read_write> tops: array<f32>;
@group(0) @binding(3) var<storage, read_write> sums: array<f32>;
@group(0) @binding(4) var<storage, read_write> losses: array<f32>;
@group(0) @binding(5) var<storage, read_write> counts: array<f32>;
@group(0) @binding(4) var<storage, read_write> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> counted: array<f32>;
@group(0) @binding(6) var<storage, read_write> gradient: array<f32>;
@group(0) @binding(0) var<storage, read_write> sum_of_losses: array<f32>;
@group(0) @binding(1) var<storage, read_write> sum_of_counts: array<f32>;
@group(0) @binding(2) var<storage, read_write> loss: array<f32>;
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(THREADS)
fn cross_entropy(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let row = linear(group, groups) * (THREADS / LANES) + thread / LANES;
  let start = row * p.columns;
  let is_row = row < p.rows;
  let count = select(0u, p.columns, is_row);
  let goal = i32(classes[select(0u, row * p.words, is_row)]);
  var top = -3.40282347e38;
  for (var i = thread % LANES; i < count; i += LANES) { top = max(top, logits[start + i]); }
  top = team_max(top, thread);
  var sum = 0.0;
  var above = 0.0; // sum of x - top
  var mine = 0.0;  // x - top of the target
  for (var i = thread % LANES; i < count; i += LANES) {
    let x = logits[start + i] - top;
    sum += exp_(x);
    above += x;
    if (i32(i) == goal) { mine = x; }
  }
  sum = team_sum(sum, thread);
  mine = team_sum(mine, thread);
  above = team_sum(above, thread);
  if (!is_row || thread % LANES > 0u) { return; }
  var spread = 0.0;
  if (p.smoothing != 0.0) { spread = p.smoothing * above / f32(p.columns); }
  let counts_here = !(IGNORES && goal == p.ignored);
  let value = log_(sum) - (1.0 - p.smoothing) * mine - spread;
  losses[row] = select(0.0, value, counts_here);
  counts[row] = select(0.0, 1.0, counts_here);
  tops[row] = top;
  sums[row] = sum;
}

@compute @workgroup_size(1)
fn mean_loss() { loss[0] = sum_of_losses[0] / max(sum_of_counts[0], 1.0); }

@compute @workgroup_size(THREADS)
fn cross_entropy_vjp(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let row = linear(group, groups) * (THREADS / LANES) + thread / LANES;
  if (row >= p.rows) { return; }
  let goal = i32(classes[row * p.words]);
  let is_ignored = IGNORES && goal == p.ignored;
  var weight = g[select(0u, row, EACH)];
  if (MEAN) { weight /= max(counted[0], 1.0); }
  let factor = weight / sums[row];
  let even = weight * p.smoothing / f32(p.columns);
  let start = row * p.columns;
  for (var i = thread % LANES; i < p.columns; i += LANES) {
    var slope = exp_(logits[start + i] - tops[row]) * factor - even;
    if (i32(i) == goal) { slope -= weight * (1.0 - p.smoothing); }
    gradient[start + i] = select(slope, 0.0, is_ignored);
  }
}
