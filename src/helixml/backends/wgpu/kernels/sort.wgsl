// The order that sorts lines, by merging: in each dispatch two sorted runs become one. An element
// stands in the merged run behind those before it in its own, and behind those of the other run that
// are before it, which binary search counts; of equals those of the first run come first, so the
// order is stable. keys are read through the order; before(x, y) compares two.

#include "prelude.wgsl"

struct Sizes {
  size: u32,
  length: u32,  // of a line
  run: u32,  // of sorted elements before the dispatch
  entries: u32,
}

@group(0) @binding(0) var<storage, read_write> keys: array<X>;
@group(0) @binding(1) var<storage, read_write> order: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> merged: array<vec2<u32>>;
@group(1) @binding(0) var<uniform> p: Sizes;

@compute @workgroup_size(256)
fn merge(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= p.size {
    return;
  }
  let at = index % p.length;
  let line = index - at;
  let place = own_place(line, at);
  let key = key_at(line + place);
  let pair = at - at % (2u * p.run);  // where the two runs begin
  let is_first = at < pair + p.run;
  let begin = min(select(pair, pair + p.run, is_first), p.length);
  let end = min(begin + p.run, p.length);
  var low = begin;
  var high = end;
  while low < high {
    let middle = (low + high) / 2u;
    let other = key_at(line + own_place(line, middle));
    // From the second run only what is smaller goes before, from the first also what is equal.
    let goes_before = select(!before(key, other), before(other, key), is_first);
    if goes_before { low = middle + 1u; } else { high = middle; }
  }
  let own_begin = select(pair + p.run, pair, is_first);
  merged[line + pair + (at - own_begin) + (low - begin)] = vec2<u32>(place, 0u);
}

// Before the first merge the order is what it is.
fn own_place(line: u32, at: u32) -> u32 {
  if p.run == 1u { return at; }
  return order[line + at].x;
}

struct Line {
  size: u32,
  entries: u32,
}
@group(0) @binding(3) var<storage, read_write> values: array<X>;
@group(0) @binding(4) var<storage, read_write> places: array<vec2<u32>>;
@group(1) @binding(0) var<uniform> q: Line;

override RIGHT: u32 = 0u;

// How many sorted keys are before each value; with RIGHT, or equal to it.
@compute @workgroup_size(256)
fn search(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= q.size {
    return;
  }
  let value = values[index];
  var low = 0u;
  var high = q.entries;
  while low < high {
    let middle = (low + high) / 2u;
    let other = keys[middle];
    if before(other, value) || (RIGHT == 1u && !before(value, other)) {
      low = middle + 1u;
    } else {
      high = middle;
    }
  }
  places[index] = vec2<u32>(low, 0u);
}
