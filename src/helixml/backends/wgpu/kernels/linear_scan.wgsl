// The linear recurrence h_t = a_t h_(t-1) + b_t along time, from the last step to the first with
// REVERSE. An array is (outer, l, inner), and has outer x inner lines.
//
// A line is cut into chunks, since an invocation may not loop for long. Two steps join to one,
// (a, b) then (a', b') to (a a', a' b + b'): `chunk_ends` joins the steps of each chunk, `carry`
// finds the state before each, and `scan` walks them.
//
// The launcher defines NUMBER, f32 or a complex vec2<f32>, with `times` and `is_zero`.
#include "prelude.wgsl"

override THREADS: u32 = 256;
override REVERSE: bool = false;
override FIXED: bool = false;   // whether a is the same at all times, (lines)
override STARTS: bool = false;  // from a state; else the first step takes b alone
override ENTERS: bool = false;  // whether states before chunks are given

struct Sizes { lines: u32, l: u32, inner: u32, chunk: u32, chunks: u32 }
struct Step { a: NUMBER, b: NUMBER }

@group(0) @binding(0) var<storage, read_write> a: array<NUMBER>;
@group(0) @binding(1) var<storage, read_write> b: array<NUMBER>;
@group(0) @binding(2) var<storage, read_write> entries: array<NUMBER>; // (chunks, lines)
@group(0) @binding(3) var<storage, read_write> h: array<NUMBER>;
@group(0) @binding(3) var<storage, read_write> products: array<NUMBER>; // (chunks, lines)
@group(0) @binding(4) var<storage, read_write> ends: array<NUMBER>;     // (chunks, lines)
@group(0) @binding(0) var<storage, read_write> first: array<NUMBER>;    // (lines)
@group(1) @binding(0) var<uniform> p: Sizes;

fn offset(line: u32, t: u32) -> u32 {
  let place = select(t, p.l - 1u - t, REVERSE);
  return (line / p.inner * p.l + place) * p.inner + line % p.inner;
}

fn step_at(line: u32, t: u32) -> Step {
  let i = offset(line, t);
  let factor = a[select(i, line, FIXED)];
  if (t == 0u && !STARTS) { return Step(NUMBER(0.0), b[i]); }
  return Step(factor, b[i]);
}

// The state after a step. Of nothing comes nothing, even where products of many a overflow.
fn after(step: Step, state: NUMBER) -> NUMBER {
  if (is_zero(state)) { return step.b; }
  return times(step.a, state) + step.b;
}

@compute @workgroup_size(THREADS)
fn chunk_ends(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.lines * p.chunks) { return; }
  let line = i % p.lines;
  let begin = i / p.lines * p.chunk;
  var whole = step_at(line, begin);
  for (var t = begin + 1u; t < min(begin + p.chunk, p.l); t++) {
    let step = step_at(line, t);
    whole = Step(times(step.a, whole.a), after(step, whole.b));
  }
  products[i] = whole.a;
  ends[i] = whole.b;
}

@compute @workgroup_size(THREADS)
fn carry(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let line = linear(group, groups) * THREADS + thread;
  if (line >= p.lines) { return; }
  var state = NUMBER(0.0);
  if (STARTS) { state = first[line]; }
  for (var i = line; i < p.lines * p.chunks; i += p.lines) {
    entries[i] = state;
    state = after(Step(products[i], ends[i]), state);
  }
}

@compute @workgroup_size(THREADS)
fn scan(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.lines * p.chunks) { return; }
  let line = i % p.lines;
  let begin = i / p.lines * p.chunk;
  var state = NUMBER(0.0);
  if (ENTERS) { state = entries[i]; }
  for (var t = begin; t < min(begin + p.chunk, p.l); t++) {
    state = after(step_at(line, t), state);
    h[offset(line, t)] = state;
  }
}
