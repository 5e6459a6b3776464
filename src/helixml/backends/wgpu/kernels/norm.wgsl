// Normalisation of rows by their root mean square, or with CENTRED by mean and variance.
//
// With s = x + residual, m its mean (0 for the root mean square) and r = 1 / sqrt(mean((s - m)^2)
// + eps), y = (s - m) r weight + bias. Backward, with n = (s - m) r and v = g weight:
// ds = r (v - mean(v) - n mean(v n)) + g_total, without mean(v) for the root mean square;
// dweight = sum of g n over rows, dbias = sum of g: `norm_columns` adds them up for RUN rows, what
// it leaves is added up by parts.wgsl.
#include "rows.wgsl"

override CENTRED: bool = false;
override HAS_BIAS: bool = false;
override HAS_RESIDUAL: bool = false;
override HAS_TOTAL: bool = false; // whether the cotangent of s is given
const RUN = 32u;

struct Sizes { rows: u32, columns: u32, eps: f32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> residual: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> total: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read_write> means: array<f32>;
@group(0) @binding(7) var<storage, read_write> scales: array<f32>;

// Backward; the last three are the same arrays
@group(0) @binding(0) var<storage, read_write> s: array<f32>;
@group(0) @binding(1) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> g_total: array<f32>;
@group(0) @binding(4) var<storage, read_write> ds: array<f32>;
@group(0) @binding(2) var<storage, read_write> weight_parts: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias_parts: array<f32>;
@group(1) @binding(0) var<uniform> p: Sizes;

fn sum_of(i: u32) -> f32 {
  if (HAS_RESIDUAL) { return x[i] + residual[i]; }
  return x[i];
}

@compute @workgroup_size(THREADS)
fn norm(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let row = linear(group, groups) * (THREADS / LANES) + thread / LANES;
  let start = row * p.columns;
  let count = select(0u, p.columns, row < p.rows);
  var mean = 0.0;
  if (CENTRED) {
    for (var i = thread % LANES; i < count; i += LANES) { mean += sum_of(start + i); }
    mean = team_sum(mean, thread) / f32(p.columns);
  }
  var square = 0.0;
  for (var i = thread % LANES; i < count; i += LANES) {
    let centred = sum_of(start + i) - mean;
    square += centred * centred;
  }
  square = team_sum(square, thread) / f32(p.columns);
  let scale = 1.0 / sqrt(square + p.eps);
  if (count > 0u && thread % LANES == 0u) {
    if (CENTRED) { means[row] = mean; }
    scales[row] = scale;
  }
  for (var i = thread % LANES; i < count; i += LANES) {
    let sum = sum_of(start + i);
    var value = (sum - mean) * scale * weight[i];
    if (HAS_BIAS) { value += bias[i]; }
    y[start + i] = value;
    if (HAS_RESIDUAL) { total[start + i] = sum; }
  }
}

fn mean_of(row: u32) -> f32 {
  if (CENTRED) { return means[row]; }
  return 0.0;
}

@compute @workgroup_size(THREADS)
fn norm_vjp(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let row = linear(group, groups) * (THREADS / LANES) + thread / LANES;
  let start = row * p.columns;
  let is_row = row < p.rows;
  let count = select(0u, p.columns, is_row);
  let scale = scales[select(0u, row, is_row)];
  let mean = mean_of(select(0u, row, is_row));
  var along = 0.0;
  var sum = 0.0;
  for (var i = thread % LANES; i < count; i += LANES) {
    let pull = g[start + i] * weight[i];
    along += pull * (s[start + i] - mean) * scale;
    sum += pull;
  }
  along = team_sum(along, thread) / f32(p.columns);
  if (CENTRED) { sum = team_sum(sum, thread) / f32(p.columns); } else { sum = 0.0; }
  for (var i = thread % LANES; i < count; i += LANES) {
    let normal = (s[start + i] - mean) * scale;
    var slope = scale * (g[start + i] * weight[i] - sum - normal * along);
    if (HAS_TOTAL) { slope += g_total[start + i]; }
    ds[start + i] = slope;
  }
}

// Parts are (ceil(rows / RUN), columns); a thread takes a column of RUN rows
@compute @workgroup_size(THREADS)
fn norm_columns(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let place = linear(group, groups) * THREADS + thread;
  let column = place % p.columns;
  let first = place / p.columns * RUN;
  if (place >= max((p.rows + RUN - 1u) / RUN, 1u) * p.columns) { return; }
  var weight_sum = 0.0;
  var bias_sum = 0.0;
  for (var row = first; row < min(first + RUN, p.rows); row++) {
    let pull = g[row * p.columns + column];
    weight_sum += pull * (s[row * p.columns + column] - mean_of(row)) * scales[row];
    bias_sum += pull;
  }
  weight_parts[place] = weight_sum;
  if (HAS_BIAS) { bias_parts[place] = bias_sum; }
}
