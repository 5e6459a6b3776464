// What the long convolution needs beside the transforms of fft.wgsl. Two sequences are one of
// complex numbers: real filters act on both parts alike.
#include "prelude.wgsl"

override THREADS: u32 = 256;
override HAS_GATE: bool = false;
override HAS_BIAS: bool = false;
override IS_CONJUGATE: bool = false;

// b sequences of d channels of l steps, transforms of n numbers. Views have their steps by sequence,
// channel and time, and where they start.
struct Sizes { b: u32, d: u32, l: u32, n: u32, x_steps: vec4<u32>, gate_steps: vec4<u32> }
// A filter for each of d channels, of which `filters` differ, of taps numbers
struct Filters { d: u32, filters: u32, taps: u32, n: u32 }
struct Spectra { size: u32, repeats: u32 }

@group(0) @binding(0) var<storage, read_write> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> gate: array<f32>;
@group(0) @binding(2) var<storage, read_write> pairs: array<vec2<f32>>; // (ceil(b / 2), d, n)
@group(0) @binding(3) var<storage, read_write> y: array<f32>;           // (b, l, d)
@group(0) @binding(0) var<storage, read_write> k: array<f32>;           // (filters, taps)
@group(0) @binding(1) var<storage, read_write> bias: array<f32>;        // (d)
@group(0) @binding(2) var<storage, read_write> long: array<vec2<f32>>;  // (d, n)
@group(0) @binding(0) var<storage, read_write> left: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> right: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> products: array<vec2<f32>>;
@group(1) @binding(0) var<uniform> p: Sizes;
@group(1) @binding(0) var<uniform> q: Filters;
@group(1) @binding(0) var<uniform> r: Spectra;

fn offset(steps: vec4<u32>, batch: u32, channel: u32, t: u32) -> u32 {
  return steps.w + batch * steps.x + channel * steps.y + t * steps.z;
}

fn factor(batch: u32, channel: u32, t: u32) -> f32 {
  if (HAS_GATE) { return gate[offset(p.gate_steps, batch, channel, t)]; }
  return 1.0;
}

fn entry(batch: u32, channel: u32, t: u32) -> f32 {
  if (batch >= p.b || t >= p.l) { return 0.0; }
  return x[offset(p.x_steps, batch, channel, t)] * factor(batch, channel, t);
}

// x, times the gate, in pairs with zeros behind
@compute @workgroup_size(THREADS)
fn pair(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= (p.b + 1u) / 2u * p.d * p.n) { return; }
  let t = i % p.n;
  let channel = i / p.n % p.d;
  let batch = i / p.n / p.d * 2u;
  pairs[i] = vec2(entry(batch, channel, t), entry(batch + 1u, channel, t));
}

// The first steps of pairs, times the gate
@compute @workgroup_size(THREADS)
fn unpair(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.b * p.l * p.d) { return; }
  let channel = i % p.d;
  let t = i / p.d % p.l;
  let batch = i / p.d / p.l;
  let both = pairs[(batch / 2u * p.d + channel) * p.n + t];
  y[i] = select(both.x, both.y, batch % 2u == 1u) * factor(batch, channel, t);
}

// Filters with zeros behind, and the bias in front, which acts as a part of k_0
@compute @workgroup_size(THREADS)
fn lengthen(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= q.d * q.n) { return; }
  let t = i % q.n;
  let channel = i / q.n;
  var value = 0.0;
  if (t < q.taps) { value = k[channel % q.filters * q.taps + t]; }
  if (HAS_BIAS && t == 0u) { value += bias[channel]; }
  long[i] = vec2(value, 0.0);
}

// left times right, or its conjugate; right is repeated
@compute @workgroup_size(THREADS)
fn multiply(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= r.size) { return; }
  let a = left[i];
  var b = right[i % r.repeats];
  if (IS_CONJUGATE) { b.y = -b.y; }
  products[i] = vec2(a.x * b.x - a.y * b.y, a.x * b.y + a.y * b.x);
}
