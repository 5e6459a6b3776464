// Functions that kernels of fused ops share, made of those of floats.wgsl.
#include "floats.wgsl"

// log(1 + e^x)
fn softplus_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  return max(x, 0.0) + log1p_(exp_(-absolute(x)));
}

// Four at once; as exp_
fn exp4_(x: vec4<f32>) -> vec4<f32> {
  let c = clamp(x, vec4(-110.0), vec4(90.0));
  let n = round(c * 1.44269504);
  let r = (c - n * 0.693359375) + n * 2.12194440e-4;
  let rest = 0.5 + r * (0.166666672 + r * (0.0416664444 + r * (0.00833328161
    + r * (0.00139358488 + r * 0.000199108385))));
  let whole = vec4<i32>(n);
  let half = whole >> vec4(1u);
  let first = bitcast<vec4<f32>>(vec4<u32>(half + 127) << vec4(23u));
  let second = bitcast<vec4<f32>>(vec4<u32>(whole - half + 127) << vec4(23u));
  let y = (1.0 + (r + r * r * rest)) * first * second;
  return select(y, x, (bitcast<vec4<u32>>(x) & vec4(0x7fffffffu)) > vec4(0x7f800000u));
}
