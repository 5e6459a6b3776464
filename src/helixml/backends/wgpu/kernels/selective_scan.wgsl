// The selective scan and its gradient. For each sequence and channel, with n states h:
//   s_t = softplus(delta_t + bias)
//   h_t = exp(s_t A) h_(t-1) + s_t B_t u_t
//   y_t = (C_t . h_t + D u_t) silu(z_t)
//
// LANES invocations share a channel, each has four of its states, and a workgroup has CHANNELS
// channels of one group. Sequences are cut into segments, since an invocation may not loop for
// long: `segment_ends` finds where each would end if it began with 0, `carry` where it begins, and
// `scan` walks it, tile after tile of STEPS steps. The state before every tile is kept for the
// gradient, which computes states again within a tile and walks back: `signals` prepares what
// depends on no state, `segment_starts` and `carry` find the cotangents after each segment,
// `walk_back` walks it, and `finish` writes the gradients of what has a number for each step. B and C
// are shared by the channels of a group; their gradients, as those of A, D and the bias, are parts
// that parts.wgsl adds up.
#include "prelude.wgsl"
#include "functions.wgsl"

override THREADS: u32 = 64;
override LANES: u32 = 4; // for a channel: a quarter of its states, rounded up
override CHANNELS: u32 = THREADS / LANES;
override FLUSH: u32 = 4; // steps whose sums over lanes and channels are formed together
override SOFTPLUS: bool = false;
override HAS_D: bool = false;
override HAS_BIAS: bool = false;
override HAS_Z: bool = false;
override HAS_FIRST: bool = false; // whether a state to begin with is given
override HAS_LAST: bool = false;  // whether the state at the end is wanted
override ENTERS: bool = false;    // whether segments begin with a state
override IS_BACKWARD: bool = false;
const STEPS = 16u;

// n: states; groups: of channels, of which B and C have as many, or one for all; parts: of a group;
// segment: steps of one, a multiple of STEPS; every: how many steps lie between two kept states,
// `kept` of a sequence. C begins behind B in rows, at C_start. Views have their steps by sequence,
// channel and time, and where they start.
struct Sizes {
  b: u32, d: u32, l: u32, n: u32, groups: u32, B_groups: u32, C_groups: u32, C_start: u32,
  parts: u32, segment: u32, segments: u32, every: u32, kept: u32,
  u_steps: vec4<u32>, delta_steps: vec4<u32>, z_steps: vec4<u32>, g_steps: vec4<u32>
}

// Of a source of B or C: its entries by sequence, group and time; where it goes in rows
struct Rows { groups: u32, l: u32, n: u32, count: u32, start: u32, to: u32, steps: vec4<u32> }

@group(0) @binding(0) var<storage, read_write> A: array<f32>;    // (d, n)
@group(0) @binding(1) var<storage, read_write> D: array<f32>;    // (d)
@group(0) @binding(2) var<storage, read_write> bias: array<f32>; // (d)
// For each channel LANES vectors of A, and one with D and the bias
@group(0) @binding(3) var<storage, read_write> channels: array<vec4<f32>>;
@group(0) @binding(0) var<storage, read_write> source: array<f32>;
@group(0) @binding(1) var<storage, read_write> filled: array<f32>;
// B (b, groups, l, LANES), then C
@group(0) @binding(4) var<storage, read_write> rows: array<vec4<f32>>;

@group(0) @binding(0) var<storage, read_write> u: array<f32>;
@group(0) @binding(1) var<storage, read_write> delta: array<f32>;
@group(0) @binding(2) var<storage, read_write> z: array<f32>;
@group(0) @binding(5) var<storage, read_write> states: array<vec4<f32>>; // (b, kept, d, LANES)
@group(0) @binding(6) var<storage, read_write> y: array<f32>;            // (b, l, d)
@group(0) @binding(7) var<storage, read_write> last: array<f32>;         // (b, d, n)
@group(0) @binding(5) var<storage, read_write> ends: array<vec4<f32>>;   // (b, segments, d, LANES)
@group(0) @binding(6) var<storage, read_write> totals: array<f32>;       // (b, segments, d)
@group(0) @binding(0) var<storage, read_write> first: array<f32>;        // (b, d, n)
@group(0) @binding(1) var<storage, read_write> entries: array<vec4<f32>>; // (b, kept, d, LANES)

@group(0) @binding(4) var<storage, read_write> g: array<f32>;
// s_t, u_t, gp_t and the slope of s_t by delta_t, (b, l, d)
@group(0) @binding(5) var<storage, read_write> signals_out: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> D_parts: array<f32>; // (b, runs, d)
@group(0) @binding(0) var<storage, read_write> given: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> exits: array<vec4<f32>>; // (b, segments, d, LANES)
// The gradients of u_t and delta_t, and C_t . h_t + D u_t, (b, l, d)
@group(0) @binding(2) var<storage, read_write> results: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> A_parts: array<vec4<f32>>; // (b, segments, d, LANES)
// Gradients of B and C, (b, groups, parts, l, 2, LANES)
@group(0) @binding(7) var<storage, read_write> shared_parts: array<vec4<f32>>;
@group(0) @binding(0) var<storage, read_write> gu: array<f32>; // (b, l, d)
@group(0) @binding(1) var<storage, read_write> gdelta: array<f32>;
@group(0) @binding(3) var<storage, read_write> gz: array<f32>;
@group(0) @binding(5) var<storage, read_write> z_again: array<f32>;
@group(0) @binding(6) var<storage, read_write> bias_parts: array<f32>; // (b, runs, d)
@group(1) @binding(0) var<uniform> p: Sizes;
@group(1) @binding(0) var<uniform> q: Rows;

fn offset(steps: vec4<u32>, batch: u32, channel: u32, t: u32) -> u32 {
  return steps.w + batch * steps.x + channel * steps.y + t * steps.z;
}

// What a workgroup works on: channels from `first_channel` on, steps from `begin` to `end`
struct Place {
  batch: u32, part: u32, first_channel: u32, count: u32, segment: u32, begin: u32, end: u32,
  B_start: u32, C_start: u32
}

fn place_of(number: u32) -> Place {
  let segment = number % p.segments;
  let part = number / p.segments % (p.groups * p.parts);
  let batch = number / p.segments / (p.groups * p.parts);
  let group = part / p.parts;
  let share = p.d / p.groups;
  let begin = segment * p.segment;
  let within = part % p.parts * CHANNELS;
  let B_line = batch * p.B_groups + select(group, 0u, p.B_groups == 1u);
  let C_line = batch * p.C_groups + select(group, 0u, p.C_groups == 1u);
  return Place(
    batch, part, group * share + within, min(CHANNELS, share - within), segment, begin,
    min(begin + p.segment, p.l), B_line * p.l * LANES, p.C_start + C_line * p.l * LANES
  );
}

fn step_size(raw: f32) -> f32 {
  if (SOFTPLUS) { return softplus_(raw); }
  return raw;
}

// Channel by channel

@compute @workgroup_size(THREADS)
fn fill_channels(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.d * (LANES + 1u)) { return; }
  let channel = i / (LANES + 1u);
  let lane = i % (LANES + 1u);
  var values = vec4(0.0);
  if (lane == LANES) {
    if (HAS_D) { values.x = D[channel]; }
    if (HAS_BIAS) { values.y = bias[channel]; }
  } else {
    for (var k = 0u; k < 4u; k++) {
      if (lane * 4u + k < p.n) { values[k] = A[channel * p.n + lane * 4u + k]; }
    }
  }
  channels[i] = values;
}

// Rows of 4 LANES states, zeros behind the last
@compute @workgroup_size(THREADS)
fn fill_rows(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= q.count) { return; }
  let state = i % (4u * LANES);
  let t = i / (4u * LANES) % q.l;
  let line = i / (4u * LANES) / q.l;
  let at = q.start + line / q.groups * q.steps.x + line % q.groups * q.steps.y
    + state * q.steps.z + t * q.steps.w;
  filled[q.to + i] = select(0.0, source[select(q.start, at, state < q.n)], state < q.n);
}

// Segment by segment, forward

var<workgroup> step_sizes: array<f32, STEPS * CHANNELS>;
var<workgroup> drives: array<f32, STEPS * CHANNELS>;
var<workgroup> reads: array<f32, STEPS * THREADS>;

// Prepare s_t and s_t u_t of a tile; 0 behind the end, which changes no state
fn prepare(place: Place, start: u32, thread: u32) {
  for (var i = thread; i < STEPS * CHANNELS; i += THREADS) {
    let inner = i % CHANNELS;
    let t = start + i / CHANNELS;
    var size = 0.0;
    var drive = 0.0;
    if (inner < place.count && t < place.end) {
      let channel = place.first_channel + inner;
      let added = channels[channel * (LANES + 1u) + LANES].y;
      size = step_size(delta[offset(p.delta_steps, place.batch, channel, t)] + added);
      drive = size * u[offset(p.u_steps, place.batch, channel, t)];
    }
    step_sizes[i] = size;
    drives[i] = drive;
  }
}

@compute @workgroup_size(THREADS)
fn segment_ends(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let place = place_of(linear(group, groups));
  if (place.batch >= p.b) { return; }
  let own = thread / LANES;
  let lane = thread % LANES;
  let channel = place.first_channel + min(own, place.count - 1u);
  let rates = channels[channel * (LANES + 1u) + lane];
  var h = vec4(0.0);
  var total = 0.0;
  for (var start = place.begin; start < place.end; start += STEPS) {
    prepare(place, start, thread);
    workgroupBarrier();
    if (own < place.count) {
      for (var s = 0u; s < min(STEPS, place.end - start); s++) {
        let size = step_sizes[s * CHANNELS + own];
        let B_t = rows[place.B_start + (start + s) * LANES + lane];
        h = exp4_(size * rates) * h + drives[s * CHANNELS + own] * B_t;
        total += size;
      }
    }
    workgroupBarrier();
  }
  let line = (place.batch * p.segments + place.segment) * p.d + channel;
  if (own < place.count) {
    ends[line * LANES + lane] = h;
    if (lane == 0u) { totals[line] = total; }
  }
}

// What each segment begins with, from the first, or if it goes backward from the last
@compute @workgroup_size(THREADS)
fn carry(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= p.b * p.d * LANES) { return; }
  let lane = i % LANES;
  let channel = i / LANES % p.d;
  let batch = i / LANES / p.d;
  let rates = channels[channel * (LANES + 1u) + lane];
  var h = vec4(0.0);
  if (HAS_FIRST) {
    for (var k = 0u; k < 4u; k++) {
      let state = lane * 4u + k;
      if (state < p.n) { h[k] = first[(batch * p.d + channel) * p.n + state]; }
    }
  }
  for (var k = 0u; k < p.segments; k++) {
    let segment = select(k, p.segments - 1u - k, IS_BACKWARD);
    let kept = batch * p.kept + segment * (p.segment / p.every);
    entries[(kept * p.d + channel) * LANES + lane] = h;
    if (k + 1u < p.segments) {
      let line = (batch * p.segments + segment) * p.d + channel;
      h = exp4_(totals[line] * rates) * h + ends[line * LANES + lane];
    }
  }
}

@compute @workgroup_size(THREADS)
fn scan(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let place = place_of(linear(group, groups));
  if (place.batch >= p.b) { return; }
  let own = thread / LANES;
  let lane = thread % LANES;
  let channel = place.first_channel + min(own, place.count - 1u);
  let rates = channels[channel * (LANES + 1u) + lane];
  var h = vec4(0.0);
  for (var start = place.begin; start < place.end; start += STEPS) {
    prepare(place, start, thread);
    workgroupBarrier();
    if (own < place.count) {
      if (start % p.every == 0u) {
        let line = (place.batch * p.kept + start / p.every) * p.d + channel;
        if (start == place.begin && ENTERS) { h = states[line * LANES + lane]; }
        else { states[line * LANES + lane] = h; }
      }
      for (var s = 0u; s < min(STEPS, place.end - start); s++) {
        let B_t = rows[place.B_start + (start + s) * LANES + lane];
        let C_t = rows[place.C_start + (start + s) * LANES + lane];
        let decay = exp4_(step_sizes[s * CHANNELS + own] * rates);
        h = decay * h + drives[s * CHANNELS + own] * B_t;
        reads[s * THREADS + thread] = dot(C_t, h);
      }
    }
    workgroupBarrier();
    for (var i = thread; i < STEPS * CHANNELS; i += THREADS) {
      let inner = i % CHANNELS;
      let t = start + i / CHANNELS;
      if (inner < place.count && t < place.end) {
        let of_channel = place.first_channel + inner;
        let skip = channels[of_channel * (LANES + 1u) + LANES].x;
        var value = skip * u[offset(p.u_steps, place.batch, of_channel, t)];
        for (var k = 0u; k < LANES; k++) {
          value += reads[i / CHANNELS * THREADS + inner * LANES + k];
        }
        if (HAS_Z) {
          let gate = z[offset(p.z_steps, place.batch, of_channel, t)];
          value *= gate * sigmoid_(gate);
        }
        y[(place.batch * p.l + t) * p.d + of_channel] = value;
      }
    }
  }
  if (HAS_LAST && place.segment + 1u == p.segments && own < place.count) {
    for (var k = 0u; k < 4u; k++) {
      let state = lane * 4u + k;
      if (state < p.n) { last[(place.batch * p.d + channel) * p.n + state] = h[k]; }
    }
  }
}

// Backward

@compute @workgroup_size(THREADS)
fn signals(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  let runs = (p.l + STEPS - 1u) / STEPS;
  if (i >= p.b * runs * p.d) { return; }
  let channel = i % p.d;
  let batch = i / p.d / runs;
  let begin = i / p.d % runs * STEPS;
  let added = channels[channel * (LANES + 1u) + LANES].y;
  var skipped = 0.0;
  for (var t = begin; t < min(begin + STEPS, p.l); t++) {
    let raw = delta[offset(p.delta_steps, batch, channel, t)] + added;
    let input = u[offset(p.u_steps, batch, channel, t)];
    var pull = g[offset(p.g_steps, batch, channel, t)];
    if (HAS_Z) {
      let gate = z[offset(p.z_steps, batch, channel, t)];
      pull *= gate * sigmoid_(gate);
    }
    var slope = 1.0;
    if (SOFTPLUS) { slope = sigmoid_(raw); }
    skipped += pull * input;
    signals_out[(batch * p.l + t) * p.d + channel] = vec4(step_size(raw), input, pull, slope);
  }
  D_parts[i] = skipped;
}

// What each segment adds to the cotangent of the state before it. With gh the cotangent of h_t:
// gh += gp_t C_t, then gh <- exp(s_t A) gh.
@compute @workgroup_size(THREADS)
fn segment_starts(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let place = place_of(linear(group, groups));
  let own = thread / LANES;
  let lane = thread % LANES;
  if (place.batch >= p.b || own >= place.count) { return; }
  let channel = place.first_channel + own;
  let rates = channels[channel * (LANES + 1u) + lane];
  var gh = vec4(0.0);
  var total = 0.0;
  for (var t = place.end; t > place.begin; t--) {
    let signal = given[(place.batch * p.l + t - 1u) * p.d + channel];
    let C_t = rows[place.C_start + (t - 1u) * LANES + lane];
    gh = exp4_(signal.x * rates) * (gh + signal.z * C_t);
    total += signal.x;
  }
  let line = (place.batch * p.segments + place.segment) * p.d + channel;
  ends[line * LANES + lane] = gh;
  if (lane == 0u) { totals[line] = total; }
}

var<workgroup> sums: array<vec4<f32>, FLUSH * THREADS>;
var<workgroup> B_sums: array<vec4<f32>, FLUSH * THREADS>;
var<workgroup> C_sums: array<vec4<f32>, FLUSH * THREADS>;

// gh is the cotangent of h_t; at each step:
// - y_t reads h_t:        gh += gp_t C_t,  gC_t = gp_t h_t
// - h_t reads the input:  gB_t = gh s_t u_t,  gu_t = gp_t D + s_t (gh . B_t)
// - h_t reads the decay:  gA += gh s_t a_t h_(t-1)
// - both read the step:   gs_t = gh . (A a_t h_(t-1) + B_t u_t)
// - h_t reads h_(t-1):    gh <- a_t gh
@compute @workgroup_size(THREADS)
fn walk_back(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let place = place_of(linear(group, groups));
  if (place.batch >= p.b) { return; }
  let own = thread / LANES;
  let lane = thread % LANES;
  let here = own < place.count;
  let channel = place.first_channel + min(own, place.count - 1u);
  let rates = channels[channel * (LANES + 1u) + lane];
  let line = ((place.batch * p.segments + place.segment) * p.d + channel) * LANES + lane;
  let tiles = (place.end - place.begin + STEPS - 1u) / STEPS;
  var gh = exits[line];
  var gA = vec4(0.0);
  var before: array<vec4<f32>, STEPS>;
  for (var tile = tiles; tile > 0u; tile--) {
    let start = place.begin + (tile - 1u) * STEPS;
    let kept = (place.batch * p.kept + start / p.every) * p.d + channel;
    var h = states[kept * LANES + lane];
    for (var s = 0u; s < STEPS; s++) {
      let t = min(start + s, place.end - 1u);
      before[s] = h;
      if (start + s < place.end) {
        let signal = given[(place.batch * p.l + t) * p.d + channel];
        let B_t = rows[place.B_start + t * LANES + lane];
        h = exp4_(signal.x * rates) * h + signal.x * signal.y * B_t;
      }
    }
    for (var behind = STEPS; behind > 0u; behind -= FLUSH) {
      for (var f = FLUSH; f > 0u; f--) {
        let s = behind - FLUSH + f - 1u;
        let t = start + s;
        let slot = (f - 1u) * THREADS + thread;
        sums[slot] = vec4(0.0);
        B_sums[slot] = vec4(0.0);
        C_sums[slot] = vec4(0.0);
        if (here && t < place.end) {
          let signal = given[(place.batch * p.l + t) * p.d + channel];
          let B_t = rows[place.B_start + t * LANES + lane];
          let C_t = rows[place.C_start + t * LANES + lane];
          gh += signal.z * C_t;
          B_sums[slot] = gh * (signal.x * signal.y);
          C_sums[slot] = signal.z * h;
          let by_input = dot(gh, B_t);
          let read = dot(C_t, h);
          h = before[s];
          gh *= exp4_(signal.x * rates);
          gA += gh * h * signal.x;
          sums[slot] = vec4(by_input, dot(gh * h, rates), read, 0.0);
        }
      }
      workgroupBarrier();
      for (var i = thread; i < FLUSH * CHANNELS; i += THREADS) {
        let inner = i % CHANNELS;
        let f = i / CHANNELS;
        let t = start + behind - FLUSH + f;
        if (inner < place.count && t < place.end) {
          var sum = vec4(0.0);
          for (var k = 0u; k < LANES; k++) { sum += sums[f * THREADS + inner * LANES + k]; }
          let of_channel = place.first_channel + inner;
          let skip = channels[of_channel * (LANES + 1u) + LANES].x;
          let at = (place.batch * p.l + t) * p.d + of_channel;
          let signal = given[at];
          results[at] = vec4(
            signal.z * skip + signal.x * sum.x, (sum.y + sum.x * signal.y) * signal.w,
            sum.z + skip * signal.y, 0.0
          );
        }
      }
      for (var i = thread; i < 2u * FLUSH * LANES; i += THREADS) {
        let f = i / (2u * LANES);
        let t = start + behind - FLUSH + f;
        if (t < place.end) {
          var sum = vec4(0.0);
          for (var k = 0u; k < place.count; k++) {
            let slot = f * THREADS + k * LANES + i % LANES;
            if (i / LANES % 2u == 0u) { sum += B_sums[slot]; } else { sum += C_sums[slot]; }
          }
          let row = (place.batch * p.groups * p.parts + place.part) * p.l + t;
          shared_parts[row * 2u * LANES + i % (2u * LANES)] = sum;
        }
      }
      workgroupBarrier();
    }
  }
  if (here) {
    A_parts[line] = gA;
    exits[line] = gh; // of the first segment: the cotangent of the state to begin with
  }
}

@compute @workgroup_size(THREADS)
fn finish(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  let runs = (p.l + STEPS - 1u) / STEPS;
  if (i >= p.b * runs * p.d) { return; }
  let channel = i % p.d;
  let batch = i / p.d / runs;
  let begin = i / p.d % runs * STEPS;
  var sum = 0.0;
  for (var t = begin; t < min(begin + STEPS, p.l); t++) {
    let at = (batch * p.l + t) * p.d + channel;
    let result = results[at];
    gu[at] = result.x;
    gdelta[at] = result.y;
    sum += result.y;
    if (HAS_Z) {
      let gate = z_again[offset(p.z_steps, batch, channel, t)];
      let open = sigmoid_(gate);
      let pull = g[offset(p.g_steps, batch, channel, t)];
      gz[at] = pull * result.z * open * (1.0 + gate * (1.0 - open));
    }
  }
  bias_parts[i] = sum;
}
