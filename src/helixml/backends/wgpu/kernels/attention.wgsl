// Attention and its gradient, tile by tile. For each query i of each head, over the keys j that it
// may see, those from i + first to i + last:
//   s_j = scale q_i . k_j,  P_j = e^(s_j) / sum_t e^(s_t),  y_i = sum_j P_j v_j
//
// Weights are never in memory: a workgroup has SIDE queries and walks the keys in tiles of SIDE,
// with the largest score so far and the sum of e^(s - largest), and scales what it has summed when a
// larger one comes (Milakov & Gimelshein 2018, "Online normalizer calculation for softmax",
// algorithm 3). What is kept for the gradient is the logarithm of each sum. What is not seen may be
// no number, so weights of 0 are left out.
//
// Rows are WIDTH vectors of four numbers in queries and keys, DEPTH in values, filled up with zeros
// by `fill`; LONGEST is the greater of the two.
#include "prelude.wgsl"
#include "functions.wgsl"

override THREADS: u32 = 64;
override SIDE: u32 = 8;
override WIDTH: u32 = 16;
override DEPTH: u32 = 16;
override LONGEST: u32 = 16;
const UNSEEN = -3.40282347e38;

// lines: heads of all sequences, of queries or for pull_keys of keys; l queries, m keys; share:
// heads of queries that have a head of keys; first, last: the keys that query 0 sees
struct Sizes { lines: u32, l: u32, m: u32, share: u32, first: i32, last: i32, scale: f32 }
struct Rows { rows: u32, width: u32 }

@group(0) @binding(0) var<storage, read_write> source: array<f32>; // (rows, width)
@group(0) @binding(1) var<storage, read_write> filled: array<f32>; // (rows, 4 WIDTH)
@group(0) @binding(0) var<storage, read_write> q: array<vec4<f32>>; // (lines, l, WIDTH)
@group(0) @binding(1) var<storage, read_write> k: array<vec4<f32>>; // (lines / share, m, WIDTH)
@group(0) @binding(2) var<storage, read_write> v: array<vec4<f32>>; // (lines / share, m, DEPTH)
@group(0) @binding(3) var<storage, read_write> logarithms: array<f32>; // (lines, l)
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;    // (lines, l, DEPTH)
@group(0) @binding(4) var<storage, read_write> means: array<f32>;      // g_i . y_i, (lines, l)
@group(0) @binding(5) var<storage, read_write> g: array<vec4<f32>>;    // (lines, l, DEPTH)
@group(0) @binding(6) var<storage, read_write> y_again: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> gq: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> gk: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> gv: array<vec4<f32>>;
@group(1) @binding(0) var<uniform> p: Sizes;
@group(1) @binding(0) var<uniform> r: Rows;

@compute @workgroup_size(THREADS)
fn fill(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let i = linear(group, groups) * THREADS + thread;
  if (i >= r.rows * 4u * WIDTH) { return; }
  let column = i % (4u * WIDTH);
  var value = 0.0;
  if (column < r.width) { value = source[i / (4u * WIDTH) * r.width + column]; }
  filled[i] = value;
}

fn sees(query: u32, key: u32) -> bool {
  let distance = i32(key) - i32(query);
  return query < p.l && key < p.m && distance >= p.first && distance <= p.last;
}

// From which key on, and up to which, queries from `start` to `end` see any
fn keys_of(start: u32, end: u32) -> vec2<u32> {
  let low = clamp(i32(start) + p.first, 0, i32(p.m));
  let high = clamp(i32(end) + p.last, 0, i32(p.m));
  return vec2(u32(low), u32(high));
}

var<workgroup> queries: array<vec4<f32>, SIDE * WIDTH>;
var<workgroup> tile: array<vec4<f32>, SIDE * LONGEST>;
var<workgroup> totals: array<vec4<f32>, SIDE * DEPTH>;
var<workgroup> weights: array<f32, SIDE * SIDE>;
var<workgroup> tops: array<f32, SIDE>;
var<workgroup> sums: array<f32, SIDE>;
var<workgroup> factors: array<f32, SIDE>;

@compute @workgroup_size(THREADS)
fn attention(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let number = linear(group, groups);
  let tiles = (p.l + SIDE - 1u) / SIDE;
  let line = number / tiles;
  if (line >= p.lines) { return; }
  let start = number % tiles * SIDE;
  let rows = min(SIDE, p.l - start);
  for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
    queries[i] = vec4(0.0);
    if (i / WIDTH < rows) { queries[i] = q[(line * p.l + start) * WIDTH + i]; }
  }
  for (var i = thread; i < SIDE * DEPTH; i += THREADS) { totals[i] = vec4(0.0); }
  for (var i = thread; i < SIDE; i += THREADS) {
    tops[i] = UNSEEN;
    sums[i] = 0.0;
  }
  let seen = keys_of(start, start + rows);
  for (var first_key = seen.x; first_key < seen.y; first_key += SIDE) {
    let keys = min(SIDE, p.m - first_key);
    let place = line / p.share * p.m + first_key;
    for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
      tile[i] = vec4(0.0);
      if (i / WIDTH < keys) { tile[i] = k[place * WIDTH + i]; }
    }
    workgroupBarrier();
    for (var i = thread; i < SIDE * SIDE; i += THREADS) {
      var score = 0.0;
      for (var c = 0u; c < WIDTH; c++) {
        score += dot(queries[i / SIDE * WIDTH + c], tile[i % SIDE * WIDTH + c]);
      }
      weights[i] = select(UNSEEN, score * p.scale, sees(start + i / SIDE, first_key + i % SIDE));
    }
    workgroupBarrier();
    for (var i = thread; i < SIDE * DEPTH; i += THREADS) {
      tile[i] = vec4(0.0);
      if (i / DEPTH < keys) { tile[i] = v[place * DEPTH + i]; }
    }
    for (var row = thread; row < SIDE; row += THREADS) {
      var top = tops[row];
      for (var j = 0u; j < SIDE; j++) { top = max(top, weights[row * SIDE + j]); }
      factors[row] = exp_(tops[row] - top);
      tops[row] = top;
    }
    workgroupBarrier();
    for (var i = thread; i < SIDE * SIDE; i += THREADS) {
      let score = weights[i];
      weights[i] = 0.0;
      if (sees(start + i / SIDE, first_key + i % SIDE)) { weights[i] = exp_(score - tops[i / SIDE]); }
    }
    workgroupBarrier();
    for (var row = thread; row < SIDE; row += THREADS) {
      var sum = sums[row] * factors[row];
      for (var j = 0u; j < SIDE; j++) { sum += weights[row * SIDE + j]; }
      sums[row] = sum;
    }
    for (var i = thread; i < SIDE * DEPTH; i += THREADS) {
      let row = i / DEPTH;
      var total = totals[i] * factors[row];
      for (var j = 0u; j < SIDE; j++) {
        let weight = weights[row * SIDE + j];
        if (magnitude(weight) != 0u) { total += weight * tile[j * DEPTH + i % DEPTH]; }
      }
      totals[i] = total;
    }
    workgroupBarrier();
  }
  workgroupBarrier();
  for (var i = thread; i < rows * DEPTH; i += THREADS) {
    let sum = sums[i / DEPTH];
    y[(line * p.l + start) * DEPTH + i] = totals[i] / select(sum, 1.0, sum == 0.0);
  }
  for (var row = thread; row < rows; row += THREADS) {
    logarithms[line * p.l + start + row] = tops[row] + log_(max(sums[row], 1e-37));
  }
}

@compute @workgroup_size(THREADS)
fn pulled_means(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let row = linear(group, groups) * THREADS + thread;
  if (row >= p.lines * p.l) { return; }
  var sum = 0.0;
  for (var c = 0u; c < DEPTH; c++) { sum += dot(g[row * DEPTH + c], y_again[row * DEPTH + c]); }
  means[row] = sum;
}

// Backward: a tile of queries and their cotangents beside one of keys and values. With P as above
// and dP_j = g_i . v_j, the scores' cotangents are dS_j = P_j (dP_j - g_i . y_i).
var<workgroup> pulls: array<vec4<f32>, SIDE * DEPTH>;
var<workgroup> keys_near: array<vec4<f32>, SIDE * WIDTH>;
var<workgroup> values_near: array<vec4<f32>, SIDE * DEPTH>;
var<workgroup> slopes: array<f32, SIDE * SIDE>;
var<workgroup> gathered: array<vec4<f32>, SIDE * WIDTH>; // of queries, or of keys

fn read_queries(line: u32, start: u32, thread: u32) {
  for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
    queries[i] = vec4(0.0);
    if (start + i / WIDTH < p.l) { queries[i] = q[(line * p.l + start) * WIDTH + i]; }
  }
  for (var i = thread; i < SIDE * DEPTH; i += THREADS) {
    pulls[i] = vec4(0.0);
    if (start + i / DEPTH < p.l) { pulls[i] = g[(line * p.l + start) * DEPTH + i]; }
  }
}

fn read_keys(line: u32, start: u32, thread: u32) {
  for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
    keys_near[i] = vec4(0.0);
    if (start + i / WIDTH < p.m) { keys_near[i] = k[(line * p.m + start) * WIDTH + i]; }
  }
  for (var i = thread; i < SIDE * DEPTH; i += THREADS) {
    values_near[i] = vec4(0.0);
    if (start + i / DEPTH < p.m) { values_near[i] = v[(line * p.m + start) * DEPTH + i]; }
  }
}

// P and dS of what was read, 0 where a query does not see a key
fn weigh(line: u32, query: u32, key: u32, thread: u32) {
  for (var i = thread; i < SIDE * SIDE; i += THREADS) {
    var weight = 0.0;
    var slope = 0.0;
    if (sees(query + i / SIDE, key + i % SIDE)) {
      var score = 0.0;
      for (var c = 0u; c < WIDTH; c++) {
        score += dot(queries[i / SIDE * WIDTH + c], keys_near[i % SIDE * WIDTH + c]);
      }
      var pull = 0.0;
      for (var c = 0u; c < DEPTH; c++) {
        pull += dot(pulls[i / SIDE * DEPTH + c], values_near[i % SIDE * DEPTH + c]);
      }
      let row = line * p.l + query + i / SIDE;
      weight = exp_(score * p.scale - logarithms[row]);
      slope = weight * (pull - means[row]);
    }
    weights[i] = weight;
    slopes[i] = slope;
  }
}

@compute @workgroup_size(THREADS)
fn pull_queries(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let number = linear(group, groups);
  let tiles = (p.l + SIDE - 1u) / SIDE;
  let line = number / tiles;
  if (line >= p.lines) { return; }
  let start = number % tiles * SIDE;
  let rows = min(SIDE, p.l - start);
  read_queries(line, start, thread);
  for (var i = thread; i < SIDE * WIDTH; i += THREADS) { gathered[i] = vec4(0.0); }
  let seen = keys_of(start, start + rows);
  for (var key = seen.x; key < seen.y; key += SIDE) {
    read_keys(line / p.share, key, thread);
    workgroupBarrier();
    weigh(line, start, key, thread);
    workgroupBarrier();
    for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
      for (var j = 0u; j < SIDE; j++) {
        let slope = slopes[i / WIDTH * SIDE + j];
        if (magnitude(slope) != 0u) { gathered[i] += slope * keys_near[j * WIDTH + i % WIDTH]; }
      }
    }
    workgroupBarrier();
  }
  for (var i = thread; i < rows * WIDTH; i += THREADS) {
    gq[(line * p.l + start) * WIDTH + i] = p.scale * gathered[i];
  }
}

@compute @workgroup_size(THREADS)
fn pull_keys(
  @builtin(workgroup_id) group: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32
) {
  let number = linear(group, groups);
  let tiles = (p.m + SIDE - 1u) / SIDE;
  let line = number / tiles;
  if (line >= p.lines / p.share) { return; }
  let start = number % tiles * SIDE;
  let count = min(SIDE, p.m - start);
  read_keys(line, start, thread);
  for (var i = thread; i < SIDE * WIDTH; i += THREADS) { gathered[i] = vec4(0.0); }
  for (var i = thread; i < SIDE * DEPTH; i += THREADS) { totals[i] = vec4(0.0); }
  // The queries that see any of these keys
  let begin = u32(clamp(i32(start) - p.last, 0, i32(p.l)));
  let end = u32(clamp(i32(start + count) - p.first, 0, i32(p.l)));
  for (var head = 0u; head < p.share; head++) {
    for (var query = begin; query < end; query += SIDE) {
      read_queries(line * p.share + head, query, thread);
      workgroupBarrier();
      weigh(line * p.share + head, query, start, thread);
      workgroupBarrier();
      for (var i = thread; i < SIDE * WIDTH; i += THREADS) {
        for (var j = 0u; j < SIDE; j++) {
          let slope = slopes[j * SIDE + i / WIDTH];
          if (magnitude(slope) != 0u) { gathered[i] += slope * queries[j * WIDTH + i % WIDTH]; }
        }
      }
      for (var i = thread; i < SIDE * DEPTH; i += THREADS) {
        for (var j = 0u; j < SIDE; j++) {
          let weight = weights[j * SIDE + i / DEPTH];
          if (magnitude(weight) != 0u) { totals[i] += weight * pulls[j * DEPTH + i % DEPTH]; }
        }
      }
      workgroupBarrier();
    }
  }
  for (var i = thread; i < count * WIDTH; i += THREADS) {
    gk[(line * p.m + start) * WIDTH + i] = p.scale * gathered[i];
  }
  for (var i = thread; i < count * DEPTH; i += THREADS) {
    gv[(line * p.m + start) * DEPTH + i] = totals[i];
  }
}
