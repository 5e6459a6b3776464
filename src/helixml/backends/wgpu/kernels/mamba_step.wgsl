// A step of a Mamba mixer, but for its products, which are stored_linear's:
//   [u, z] = in_proj x,  u <- silu(conv(past, u))            (enter)
//   [dt, B, C] = x_proj u
//   delta = softplus(dt_proj dt),  h <- exp(-delta exp(A_log)) h + delta B u,
//   mixed = (C h + D u) silu(z)                               (advance)
//   y = out_proj mixed
// An invocation takes a channel of a sequence.
#include "prelude.wgsl"
#include "functions.wgsl"

override THREADS: u32 = 256;
override HAS_BIAS: bool = false;

struct Entering { b: u32, d: u32, taps: u32 }
struct Advancing { b: u32, d: u32, n: u32, rank: u32 }

@group(0) @binding(0) var<storage, read_write> both: array<f32>; // u and z, (b, 2 d)
@group(0) @binding(1) var<storage, read_write> u: array<f32>;    // (b, d)
@group(0) @binding(2) var<storage, read_write> past: array<f32>; // (b, d, taps - 1)
@group(0) @binding(3) var<storage, read_write> later: array<f32>;
@group(0) @binding(4) var<storage, read_write> weight: array<f32>; // (d, taps)
@group(0) @binding(5) var<storage, read_write> bias: array<f32>;   // (d)

@group(0) @binding(2) var<storage, read_write> selected: array<f32>; // dt, B and C, (b, rank + 2 n)
@group(0) @binding(3) var<storage, read_write> mixed: array<f32>;    // dt_proj dt at first, (b, d)
@group(0) @binding(4) var<storage, read_write> A_log: array<f32>;    // (d, n)
@group(0) @binding(5) var<storage, read_write> D: array<f32>;        // (d)
@group(0) @binding(6) var<storage, read_write> state: array<f32>;    // (b, d, n)
@group(0) @binding(7) var<storage, read_write> next: array<f32>;
@group(1) @binding(0) var<uniform> p: Entering;
@group(1) @binding(0) var<uniform> q: Advancing;

fn silu(x: f32) -> f32 { return x * sigmoid_(x); }

@compute @workgroup_size(THREADS)
fn enter(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.b * p.d) { return; }
  let channel = i % p.d;
  let before = p.taps - 1u;
  let input = both[i / p.d * 2u * p.d + channel];
  var total = input * weight[channel * p.taps + before];
  if (HAS_BIAS) { total += bias[channel]; }
  for (var j = 0u; j < before; j++) {
    let seen = past[i * before + j];
    total += seen * weight[channel * p.taps + j];
    if (j > 0u) { later[i * before + j - 1u] = seen; }
  }
  if (before > 0u) { later[i * before + before - 1u] = input; }
  u[i] = silu(total);
}

@compute @workgroup_size(THREADS)
fn advance(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= q.b * q.d) { return; }
  let channel = i % q.d;
  let B = i / q.d * (q.rank + 2u * q.n) + q.rank;
  let delta = softplus_(mixed[i]);
  let input = u[i];
  var read = D[channel] * input;
  for (var k = 0u; k < q.n; k++) {
    let decay = exp_(-delta * exp_(A_log[channel * q.n + k]));
    let h = decay * state[i * q.n + k] + delta * input * selected[B + k];
    next[i * q.n + k] = h;
    read += selected[B + q.n + k] * h;
  }
  mixed[i] = read * silu(both[i / q.d * 2u * q.d + q.d + channel]);
}
