// The causal depthwise convolution and its gradient. For each sequence and channel:
//   p_t = bias + sum_j w_j x_(t-k+1+j),  y_t = p_t, or p_t sigmoid(p_t) with SILU
//
// With gp_t the cotangent of p_t: gx_s = sum_j w_j gp_(s+k-1-j) from s = 1 - k on, before 0 of the
// past; gw_j = sum_t gp_t x_(t-k+1+j), which parts.wgsl adds up from parts for RUN steps.
//
// x and g lie as they like, what is written as (b, l, d).
#include "prelude.wgsl"
#include "functions.wgsl"

override THREADS: u32 = 256;
override SILU: bool = false;
override HAS_BIAS: bool = false;
override HAS_PAST: bool = false;
const RUN = 32u;

// Steps of views by sequence, channel and time, and where they start
struct Sizes { b: u32, d: u32, l: u32, taps: u32, x_steps: vec4<u32>, g_steps: vec4<u32> }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> past: array<f32>; // (b, d, taps - 1)
@group(0) @binding(2) var<storage, read_write> weight: array<f32>;
@group(0) @binding(3) var<storage, read_write> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<f32>;
@group(0) @binding(4) var<storage, read_write> g: array<f32>;
@group(0) @binding(5) var<storage, read_write> pulls: array<f32>; // gp, (b, l, d)
@group(0) @binding(6) var<storage, read_write> gx: array<f32>;
@group(0) @binding(7) var<storage, read_write> gpast: array<f32>;
@group(0) @binding(6) var<storage, read_write> parts: array<f32>; // (b, runs, taps + 1, d)
@group(1) @binding(0) var<uniform> p: Sizes;

fn offset(steps: vec4<u32>, batch: u32, channel: u32, t: u32) -> u32 {
  return steps.w + batch * steps.x + channel * steps.y + t * steps.z;
}

// x at step number `place` of what begins taps - 1 steps before it
fn seen(batch: u32, channel: u32, place: u32) -> f32 {
  let before = p.taps - 1u;
  if (place >= before) { return x[offset(p.x_steps, batch, channel, place - before)]; }
  if (HAS_PAST) { return past[(batch * p.d + channel) * before + place]; }
  return 0.0;
}

fn convolved(batch: u32, channel: u32, t: u32) -> f32 {
  var sum = 0.0;
  if (HAS_BIAS) { sum = bias[channel]; }
  for (var j = 0u; j < p.taps; j++) {
    sum += weight[channel * p.taps + j] * seen(batch, channel, t + j);
  }
  return sum;
}

@compute @workgroup_size(THREADS)
fn conv(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.b * p.l * p.d) { return; }
  let value = convolved(i / p.d / p.l, i % p.d, i / p.d % p.l);
  y[i] = value;
  if (SILU) { y[i] = value * sigmoid_(value); }
}

@compute @workgroup_size(THREADS)
fn conv_pulls(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.b * p.l * p.d) { return; }
  let batch = i / p.d / p.l;
  let channel = i % p.d;
  let t = i / p.d % p.l;
  var pull = g[offset(p.g_steps, batch, channel, t)];
  if (SILU) {
    let value = convolved(batch, channel, t);
    let open = sigmoid_(value);
    pull *= open * (1.0 + value * (1.0 - open));
  }
  pulls[i] = pull;
}

// For all steps from 1 - taps on
@compute @workgroup_size(THREADS)
fn conv_inputs(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  let before = p.taps - 1u;
  let length = p.l + before;
  if (i >= p.b * length * p.d) { return; }
  let batch = i / p.d / length;
  let channel = i % p.d;
  let place = i / p.d % length;
  var sum = 0.0;
  for (var j = 0u; j < p.taps; j++) {
    if (place >= j && place - j < p.l) {
      sum += weight[channel * p.taps + j] * pulls[(batch * p.l + place - j) * p.d + channel];
    }
  }
  if (place >= before) { gx[(batch * p.l + place - before) * p.d + channel] = sum; }
  else if (HAS_PAST) { gpast[(batch * p.d + channel) * before + place] = sum; }
}

// The last of taps + 1 numbers is the gradient of the bias
@compute @workgroup_size(THREADS)
fn conv_weights(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  let runs = (p.l + RUN - 1u) / RUN;
  let width = p.taps + 1u;
  if (i >= p.b * runs * p.d * width) { return; }
  let j = i / p.d % width;
  let channel = i % p.d;
  let batch = i / p.d / width / runs;
  let first = i / p.d / width % runs * RUN;
  var sum = 0.0;
  for (var t = first; t < min(first + RUN, p.l); t++) {
    let pull = pulls[(batch * p.l + t) * p.d + channel];
    if (j < p.taps) { sum += pull * seen(batch, channel, t + j); } else { sum += pull; }
  }
  parts[i] = sum;
}
