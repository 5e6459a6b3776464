// Fourier transforms of lines of 2^m complex numbers, by halves without reordering: Stockham's form
// of the fast transform (Cochran et al. 1967, "What is the fast Fourier transform?"). A pass makes
// transforms of 2 s numbers of pairs of those of s numbers. `turns` has e^(-2 pi i j / n), made in
// float64, for j < n / 2.

#include "prelude.wgsl"

struct Sizes {
  lines: u32,
  n: u32,
  s: u32,
  sign: f32,  // 1 to frequencies, -1 back
  scale: f32,
}

@group(0) @binding(0) var<storage, read_write> xs: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read_write> results: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read_write> turns: array<vec2<f32>>;
@group(1) @binding(0) var<uniform> p: Sizes;

fn turned(x: vec2<f32>, j: u32) -> vec2<f32> {
  let t = turns[j] * vec2<f32>(1.0, p.sign);
  return vec2<f32>(x.x * t.x - x.y * t.y, x.x * t.y + x.y * t.x);
}

// Lines of up to 1024: a workgroup each, all passes in workgroup memory.
const MOST = 1024u;
var<workgroup> numbers: array<vec2<f32>, 2048>;

@compute @workgroup_size(256)
fn whole(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let line = linear(group, groups);
  let is_there = line < p.lines;
  let half = p.n / 2u;
  var source = 0u;
  for (var i = thread; i < p.n; i += 256u) {
    if is_there { numbers[i] = xs[line * p.n + i]; }
  }
  workgroupBarrier();
  for (var s = 1u; s < p.n; s = s * 2u) {
    let goal = MOST - source;
    for (var j = thread; j < half; j += 256u) {
      let k = j % s;
      let u = numbers[source + j];
      let v = turned(numbers[source + j + half], k * (half / s));
      numbers[goal + 2u * j - k] = u + v;
      numbers[goal + 2u * j - k + s] = u - v;
    }
    source = goal;
    workgroupBarrier();
  }
  for (var i = thread; i < p.n; i += 256u) {
    if is_there { results[line * p.n + i] = numbers[source + i] * p.scale; }
  }
}

// One pass over longer lines.
@compute @workgroup_size(256)
fn pass_(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let half = p.n / 2u;
  let index = linear(group, groups) * 256u + thread;
  if index >= p.lines * half {
    return;
  }
  let j = index % half;
  let base = (index / half) * p.n;
  let k = j % p.s;
  let u = xs[base + j] * p.scale;
  let v = turned(xs[base + j + half], k * (half / p.s)) * p.scale;
  results[base + 2u * j - k] = u + v;
  results[base + 2u * j - k + p.s] = u - v;
}
