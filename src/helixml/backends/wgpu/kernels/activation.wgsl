// Functions f of single numbers, their gradients, and products with them (gates).
//
// `activate` computes f(x), `activate_vjp` g f'(x), `gate` x f(gate), and `gate_vjp` the gradients
// g f(gate) and g x f'(gate). `finish` adds a bias to a product of matrices, and computes f of that.
// The launcher chooses f by FUNCTION.
#include "prelude.wgsl"
#include "functions.wgsl"

override THREADS: u32 = 256;
override FUNCTION: u32 = 0;
const SILU = 0u;
const GELU = 1u;
const SOFTPLUS = 2u;
const RELU = 3u;
override HAS_BIAS: bool = false;

struct Sizes { size: u32 }
struct Rows { size: u32, columns: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> g_of_one: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx_of_one: array<f32>;
@group(0) @binding(1) var<storage, read_write> gates: array<f32>;
@group(0) @binding(2) var<storage, read_write> gated: array<f32>;
@group(0) @binding(2) var<storage, read_write> g: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<f32>;
@group(0) @binding(4) var<storage, read_write> dgates: array<f32>;
@group(0) @binding(2) var<storage, read_write> bias: array<f32>; // (columns)
@group(1) @binding(0) var<uniform> p: Sizes;
@group(1) @binding(0) var<uniform> q: Rows;

// The normal distribution, (1 + erf(x / sqrt(2))) / 2
fn share_below(x: f32) -> f32 { return 0.5 * (1.0 + erf_(x * 0.707106781)); }

fn value(x: f32) -> f32 {
  if (FUNCTION == SILU) { return x * sigmoid_(x); }
  if (FUNCTION == GELU) { return x * share_below(x); }
  if (FUNCTION == SOFTPLUS) { return softplus_(x); }
  if (is_nan(x)) { return x; }
  return max(x, 0.0);
}

fn slope(x: f32) -> f32 {
  let s = sigmoid_(x);
  if (FUNCTION == SILU) { return s * (1.0 + x * (1.0 - s)); }
  if (FUNCTION == GELU) {
    return share_below(x) + x * 0.398942280 * exp_(-0.5 * x * x);
  }
  if (FUNCTION == SOFTPLUS) { return s; }
  return select(1.0, 0.0, x <= 0.0);
}

@compute @workgroup_size(THREADS)
fn activate(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i < p.size) { y[i] = value(x[i]); }
}

@compute @workgroup_size(THREADS)
fn activate_vjp(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i < p.size) { dx_of_one[i] = g_of_one[i] * slope(x[i]); }
}

@compute @workgroup_size(THREADS)
fn gate(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i < p.size) { gated[i] = x[i] * value(gates[i]); }
}

@compute @workgroup_size(THREADS)
fn gate_vjp(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i < p.size) {
    dx[i] = g[i] * value(gates[i]);
    dgates[i] = g[i] * x[i] * slope(gates[i]);
  }
}

// x += bias, and y = f(x)
@compute @workgroup_size(THREADS)
fn finish(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= q.size) { return; }
  var before = x[i];
  if (HAS_BIAS) { before += bias[i % q.columns]; }
  x[i] = before;
  y[i] = value(before);
}
