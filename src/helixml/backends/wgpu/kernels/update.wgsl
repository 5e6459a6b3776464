// Steps of AdamW and SGD for one array, and its scaling.
#include "prelude.wgsl"

override THREADS: u32 = 256;
override NESTEROV: bool = false;

// m_scale = 1 / (1 - beta1^t), v_scale = 1 / (1 - beta2^t), keep = 1 - lr weight_decay; rest1 and
// rest2 are 1 - beta1 and 1 - beta2, rounded once
struct AdamW {
  size: u32, lr: f32, beta1: f32, beta2: f32, rest1: f32, rest2: f32, eps: f32, keep: f32,
  m_scale: f32, v_scale: f32
}
struct Descent { size: u32, lr: f32, weight_decay: f32, momentum: f32 }
struct Scaling { size: u32, factor: f32 }

@group(0) @binding(0) var<storage, read_write> param: array<f32>;
@group(0) @binding(1) var<storage, read_write> grad: array<f32>;
@group(0) @binding(2) var<storage, read_write> m: array<f32>;
@group(0) @binding(3) var<storage, read_write> v: array<f32>;
@group(0) @binding(2) var<storage, read_write> velocity: array<f32>;
@group(1) @binding(0) var<uniform> p: AdamW;
@group(1) @binding(0) var<uniform> q: Descent;
@group(1) @binding(0) var<uniform> r: Scaling;

@compute @workgroup_size(THREADS)
fn adamw(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.size) { return; }
  let g = grad[i];
  let m_next = p.beta1 * m[i] + p.rest1 * g;
  let v_next = p.beta2 * v[i] + p.rest2 * g * g;
  let direction = m_next * p.m_scale / (sqrt(v_next * p.v_scale) + p.eps);
  m[i] = m_next;
  v[i] = v_next;
  param[i] = param[i] * p.keep - p.lr * direction;
}

@compute @workgroup_size(THREADS)
fn sgd(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= q.size) { return; }
  param[i] -= q.lr * (grad[i] + q.weight_decay * param[i]);
}

@compute @workgroup_size(THREADS)
fn sgd_momentum(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= q.size) { return; }
  let g = grad[i] + q.weight_decay * param[i];
  let next = q.momentum * velocity[i] + g;
  velocity[i] = next;
  if (NESTEROV) { param[i] -= q.lr * (g + q.momentum * next); }
  else { param[i] -= q.lr * next; }
}

@compute @workgroup_size(THREADS)
fn scale(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i < r.size) { param[i] *= r.factor; }
}
