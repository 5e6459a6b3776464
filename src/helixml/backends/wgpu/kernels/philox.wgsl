// Philox4x32-10: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3. The
// counter is four words, the lowest first; the block at `index` has the counter that much later.

#include "prelude.wgsl"
#include "wide.wgsl"

struct Counter {
  words: vec4<u32>,
  key: vec2<u32>,
  size: u32,
  threshold: u32,
  scale: f32,
}

@group(0) @binding(0) var<storage, read_write> results: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> xs: array<f32>;
@group(0) @binding(2) var<storage, read_write> kept: array<f32>;
@group(1) @binding(0) var<uniform> p: Counter;

fn later(words: vec4<u32>, index: u32) -> vec4<u32> {
  let low = wide_add(words.xy, Wide(index, 0u));
  if !wide_less_u(low, words.xy) { return vec4<u32>(low, words.zw); }
  return vec4<u32>(low, wide_add(words.zw, Wide(1u, 0u)));
}

fn block(index: u32) -> vec4<u32> {
  var x = later(p.words, index);
  var key = p.key;
  for (var round = 0u; round < 10u; round++) {
    let first = product_of_words(x.x, 0xd2511f53u);
    let second = product_of_words(x.z, 0xcd9e8d57u);
    x = vec4<u32>(second.y ^ x.y ^ key.x, second.x, first.y ^ x.w ^ key.y, first.x);
    key += vec2<u32>(0x9e3779b9u, 0xbb67ae85u);
  }
  return x;
}

@compute @workgroup_size(256)
fn bits(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index < p.size { results[index] = block(index); }
}

fn keep(place: u32, word: u32) {
  if place < p.size {
    kept[place] = select(xs[place] * p.scale, 0.0, word < p.threshold);
  }
}

// One block of words for four elements.
@compute @workgroup_size(256)
fn drop(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(num_workgroups) groups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let index = linear(group, groups) * 256u + thread;
  if index >= (p.size + 3u) / 4u { return; }
  let words = block(index);
  keep(index * 4u, words.x);
  keep(index * 4u + 1u, words.y);
  keep(index * 4u + 2u, words.z);
  keep(index * 4u + 3u, words.w);
}
