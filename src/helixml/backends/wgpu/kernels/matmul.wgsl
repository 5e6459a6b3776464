// Products of matrices that lie anyhow: rows, columns and stacks have steps of their own.

struct Sizes {
  m: u32,
  n: u32,
  k: u32,
  first: u32,  // of the stack, for this dispatch
  a_start: u32,
  b_start: u32,
  a_row: u32,
  a_column: u32,
  b_row: u32,
  b_column: u32,
  rank: u32,
  gap: u32,
  shape: array<vec4<u32>, 2>,
  a_steps: array<vec4<u32>, 2>,
  b_steps: array<vec4<u32>, 2>,
}

@group(0) @binding(0) var<storage, read_write> a: array<T>;
@group(0) @binding(1) var<storage, read_write> b: array<T>;
@group(0) @binding(2) var<storage, read_write> c: array<T>;
@group(1) @binding(0) var<uniform> p: Sizes;

// Where the two matrices of one product of the stack begin.
fn begins(index: u32) -> vec2<u32> {
  var rest = index;
  var found = vec2<u32>(p.a_start, p.b_start);
  for (var left = p.rank; left > 0u; left--) {
    let quad = (left - 1u) / 4u;
    let lane = (left - 1u) % 4u;
    let at = rest % p.shape[quad][lane];
    rest = rest / p.shape[quad][lane];
    found += at * vec2<u32>(p.a_steps[quad][lane], p.b_steps[quad][lane]);
  }
  return found;
}

// A tile of 64 x 64 of c by 16 x 16 invocations, 4 x 4 entries each. Of a and b 16 columns and rows
// are brought to workgroup memory at a time, four entries of one column, or row, in a vector.
const DEPTH = 16u;
var<workgroup> a_tile: array<vec4<f32>, 256>;
var<workgroup> b_tile: array<vec4<f32>, 256>;

fn a_at(begin: u32, row: u32, depth: u32) -> f32 {
  if row >= p.m || depth >= p.k { return 0.0; }
  return a[begin + row * p.a_row + depth * p.a_column];
}

fn b_at(begin: u32, depth: u32, column: u32) -> f32 {
  if column >= p.n || depth >= p.k { return 0.0; }
  return b[begin + depth * p.b_row + column * p.b_column];
}

fn store(base: u32, row: u32, column: u32, values: vec4<f32>) {
  if row >= p.m { return; }
  let place = base + row * p.n + column;
  if column < p.n { c[place] = values.x; }
  if column + 1u < p.n { c[place + 1u] = values.y; }
  if column + 2u < p.n { c[place + 2u] = values.z; }
  if column + 3u < p.n { c[place + 3u] = values.w; }
}

@compute @workgroup_size(16, 16)
fn tiles(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_id) at: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let begin = begins(p.first + group.z);
  let row = group.y * 64u;
  let column = group.x * 64u;
  var sum0 = vec4<f32>();
  var sum1 = vec4<f32>();
  var sum2 = vec4<f32>();
  var sum3 = vec4<f32>();
  let depth = thread % DEPTH;
  let quad = thread / DEPTH;
  for (var k = 0u; k < p.k; k += DEPTH) {
    let r = row + quad * 4u;
    a_tile[depth * 16u + quad] = vec4<f32>(
      a_at(begin.x, r, k + depth),
      a_at(begin.x, r + 1u, k + depth),
      a_at(begin.x, r + 2u, k + depth),
      a_at(begin.x, r + 3u, k + depth),
    );
    let s = column + depth * 4u;
    b_tile[thread] = vec4<f32>(
      b_at(begin.y, k + quad, s),
      b_at(begin.y, k + quad, s + 1u),
      b_at(begin.y, k + quad, s + 2u),
      b_at(begin.y, k + quad, s + 3u),
    );
    workgroupBarrier();
    for (var i = 0u; i < DEPTH; i++) {
      let left = a_tile[i * 16u + at.y];
      let right = b_tile[i * 16u + at.x];
      sum0 += left.x * right;
      sum1 += left.y * right;
      sum2 += left.z * right;
      sum3 += left.w * right;
    }
    workgroupBarrier();
  }
  let base = (p.first + group.z) * p.m * p.n;
  let r = row + at.y * 4u;
  let s = column + at.x * 4u;
  store(base, r, s, sum0);
  store(base, r + 1u, s, sum1);
  store(base, r + 2u, s, sum2);
  store(base, r + 3u, s, sum3);
}
