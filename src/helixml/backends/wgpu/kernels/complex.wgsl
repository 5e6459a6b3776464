// Functions of complex numbers in two float32.

#include "floats.wgsl"

alias Complex = vec2<f32>;

fn times_i(x: Complex) -> Complex { return Complex(-x.y, x.x); }
fn by_i(x: Complex) -> Complex { return Complex(x.y, -x.x); }
fn c_abs(x: Complex) -> f32 { return hypot_(x.x, x.y); }
fn c_multiply(x: Complex, y: Complex) -> Complex {
  return Complex(x.x * y.x - x.y * y.y, x.x * y.y + x.y * y.x);
}
// Smith 1962, "Algorithm 116: complex division": scaled by the larger part of the divisor.
fn c_divide(x: Complex, y: Complex) -> Complex {
  if magnitude(y.x) == 0u && magnitude(y.y) == 0u {
    return Complex(divide_(x.x, absolute(y.x)), divide_(x.y, absolute(y.x)));
  }
  if absolute(y.x) >= absolute(y.y) {
    let ratio = y.y / y.x;
    let below = y.x + y.y * ratio;
    return Complex((x.x + x.y * ratio) / below, (x.y - x.x * ratio) / below);
  }
  let ratio = y.x / y.y;
  let below = y.x * ratio + y.y;
  return Complex((x.x * ratio + x.y) / below, (x.y * ratio - x.x) / below);
}
fn c_sign(x: Complex) -> Complex {
  let size = c_abs(x);
  if size == 0.0 { return Complex(0.0, 0.0); }
  return x / size;
}
fn c_exp(x: Complex) -> Complex {
  let size = exp_(x.x);
  if magnitude(x.y) == 0u { return Complex(size, x.y); }
  return Complex(size * cos_(x.y), size * sin_(x.y));
}
// e^x - 1 = expm1(a) cos b - 2 sin(b/2)^2 + i e^a sin b
fn c_expm1(x: Complex) -> Complex {
  let half = sin_(0.5 * x.y);
  return Complex(expm1_(x.x) * cos_(x.y) - 2.0 * half * half, exp_(x.x) * sin_(x.y));
}
// log |x| near 1 as log1p of (|x|^2 - 1) / 2, from the larger part a and the smaller b.
fn log_abs(x: Complex) -> f32 {
  let a = max(absolute(x.x), absolute(x.y));
  let b = min(absolute(x.x), absolute(x.y));
  if a > 0.5 && a < 2.0 { return 0.5 * log1p_((a - 1.0) * (a + 1.0) + b * b); }
  return log_(c_abs(x));
}
fn c_log(x: Complex) -> Complex { return Complex(log_abs(x), atan2_(x.y, x.x)); }
fn c_log1p(x: Complex) -> Complex {
  let turn = atan2_(x.y, 1.0 + x.x);
  if c_abs(x) < 0.5 { return Complex(0.5 * log1p_(2.0 * x.x + (x.x * x.x + x.y * x.y)), turn); }
  return Complex(log_abs(Complex(1.0 + x.x, x.y)), turn);
}
fn c_log2(x: Complex) -> Complex { return c_log(x) * 1.44269504; }
fn c_log10(x: Complex) -> Complex { return c_log(x) * 0.434294482; }
fn c_sqrt(x: Complex) -> Complex {
  let size = c_abs(x);
  if size == 0.0 { return Complex(0.0, x.y); }
  if is_inf(x.y) { return Complex(infinity(), x.y); }
  let root = sqrt_(0.5 * (size + absolute(x.x)));
  let other = 0.5 * x.y / root;
  if is_negative(x.x) { return Complex(absolute(other), with_sign(root, x.y)); }
  return Complex(root, other);
}
fn c_sinh(x: Complex) -> Complex {
  return Complex(sinh_(x.x) * cos_(x.y), cosh_(x.x) * sin_(x.y));
}
fn c_cosh(x: Complex) -> Complex {
  return Complex(cosh_(x.x) * cos_(x.y), sinh_(x.x) * sin_(x.y));
}
// (sinh 2a + i sin 2b) / (cosh 2a + cos 2b), with cosh 2a + cos 2b = 2 (sinh^2 a + cos^2 b)
fn c_tanh(x: Complex) -> Complex {
  if absolute(x.x) > 20.0 {
    return Complex(with_sign(1.0, x.x), with_sign(0.0, sin_(2.0 * x.y)));
  }
  let s = sinh_(x.x);
  let c = cos_(x.y);
  let below = s * s + c * c;
  return Complex(s * cosh_(x.x) / below, c * sin_(x.y) / below);
}
fn c_sin(x: Complex) -> Complex { return by_i(c_sinh(times_i(x))); }
fn c_cos(x: Complex) -> Complex { return c_cosh(times_i(x)); }
fn c_tan(x: Complex) -> Complex { return by_i(c_tanh(times_i(x))); }
// Kahan 1987, "Branch cuts for complex elementary functions": with p = sqrt(1 + x) and
// q = sqrt(1 - x), asin x = atan2(re x, re(p q)) + i asinh(im(conj(q) p)).
fn c_asin(x: Complex) -> Complex {
  let p = c_sqrt(Complex(1.0 + x.x, x.y));
  let q = c_sqrt(Complex(1.0 - x.x, -x.y));
  return Complex(
    atan2_(x.x, p.x * q.x - p.y * q.y),
    asinh_(q.x * p.y - q.y * p.x),
  );
}
fn c_acos(x: Complex) -> Complex {
  let p = c_sqrt(Complex(1.0 + x.x, x.y));
  let q = c_sqrt(Complex(1.0 - x.x, -x.y));
  return Complex(2.0 * atan2_(q.x, p.x), asinh_(p.x * q.y - p.y * q.x));
}
fn c_asinh(x: Complex) -> Complex { return by_i(c_asin(times_i(x))); }
fn c_acosh(x: Complex) -> Complex {
  let p = c_sqrt(Complex(x.x + 1.0, x.y));
  let q = c_sqrt(Complex(x.x - 1.0, x.y));
  return Complex(asinh_(q.x * p.x + q.y * p.y), 2.0 * atan2_(q.y, p.x));
}
// atanh x = log1p(4a / ((1-a)^2 + b^2)) / 4 + i atan2(2b, (1-a)(1+a) - b^2) / 2
fn c_atanh(x: Complex) -> Complex {
  let a = absolute(x.x);
  let b = select(x.y, -x.y, is_negative(x.x));
  let size = 0.25 * log1p_(divide_(4.0 * a, (1.0 - a) * (1.0 - a) + b * b));
  let turn = 0.5 * atan2_(2.0 * b, (1.0 - a) * (1.0 + a) - b * b);
  return select(Complex(size, turn), Complex(-size, -turn), is_negative(x.x));
}
fn c_atan(x: Complex) -> Complex { return by_i(c_atanh(times_i(x))); }
fn c_pow(x: Complex, y: Complex) -> Complex {
  if magnitude(y.x) == 0u && magnitude(y.y) == 0u { return Complex(1.0, 0.0); }
  if magnitude(x.x) == 0u && magnitude(x.y) == 0u {
    if y.x > 0.0 { return Complex(0.0, 0.0); }
    return Complex(not_a_number(), not_a_number());
  }
  if magnitude(y.y) == 0u && is_whole(y.x) && absolute(y.x) <= 64.0 {
    var base = x;
    var result = Complex(1.0, 0.0);
    for (var left = u32(absolute(y.x)); left > 0u; left = left >> 1u) {
      if (left & 1u) == 1u { result = c_multiply(result, base); }
      base = c_multiply(base, base);
    }
    if is_negative(y.x) { return c_divide(Complex(1.0, 0.0), result); }
    return result;
  }
  return c_exp(c_multiply(y, c_log(x)));
}
fn c_sigmoid(x: Complex) -> Complex {
  let one = Complex(1.0, 0.0);
  if is_negative(x.x) {
    let e = c_exp(x);
    return c_divide(e, one + e);
  }
  return c_divide(one, one + c_exp(-x));
}
