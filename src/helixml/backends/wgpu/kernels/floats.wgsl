// Functions of float32, to a few units in the last place. WGSL's own may be wrong by far more: its
// exp by 3 + 2 |x| units, its log near 1 in all digits, its tanh as sinh / cosh; and it may assume
// that there is no nan and no infinity. So these are found by their bits here.
//
// Polynomials are minimax fits in float64 at Chebyshev nodes, their relative error below 2e-8 of
// what they stand for. A product that must be exact has factors of few digits: it is exact whether
// or not it is fused with a sum.

fn float_of(word: u32) -> f32 { return bitcast<f32>(word); }
fn infinity() -> f32 { return float_of(0x7f800000u); }
fn not_a_number() -> f32 { return float_of(0x7fc00000u); }
fn magnitude(x: f32) -> u32 { return bitcast<u32>(x) & 0x7fffffffu; }
fn is_nan(x: f32) -> bool { return magnitude(x) > 0x7f800000u; }
fn is_inf(x: f32) -> bool { return magnitude(x) == 0x7f800000u; }
fn is_finite(x: f32) -> bool { return magnitude(x) < 0x7f800000u; }
fn is_negative(x: f32) -> bool { return (bitcast<u32>(x) & 0x80000000u) != 0u; }
fn with_sign(x: f32, sign: f32) -> f32 {
  return float_of(magnitude(x) | (bitcast<u32>(sign) & 0x80000000u));
}
fn absolute(x: f32) -> f32 { return float_of(magnitude(x)); }
// The 12 leading digits; the product of two such numbers is exact.
fn leading(x: f32) -> f32 { return float_of(bitcast<u32>(x) & 0xfffff000u); }

fn larger(x: f32, y: f32) -> f32 {
  if is_nan(x) { return x; }
  if is_nan(y) { return y; }
  return select(y, x, x >= y);
}
fn smaller(x: f32, y: f32) -> f32 {
  if is_nan(x) { return x; }
  if is_nan(y) { return y; }
  return select(y, x, x <= y);
}

// x 2^n, in two steps so that neither factor leaves the range; |n| <= 250.
fn scaled(x: f32, n: i32) -> f32 {
  let half = n >> 1u;
  return x * float_of(u32(half + 127) << 23u) * float_of(u32(n - half + 127) << 23u);
}

// (e^r - 1 - r) / r^2 for |r| <= 0.355.
fn exp_rest(r: f32) -> f32 {
  return 0.5 + r * (0.166666672 + r * (0.0416664444 + r * (0.00833328161
    + r * (0.00139358488 + r * 0.000199108385))));
}

fn exp_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  let c = clamp(x, -110.0, 90.0);
  let n = round(c * 1.44269504);
  // ln 2 = 355/512 - 2.12e-4; the first product is exact.
  let r = (c - n * 0.693359375) + n * 2.12194440e-4;
  return scaled(1.0 + (r + r * r * exp_rest(r)), i32(n));
}

fn exp2_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  let c = clamp(x, -160.0, 130.0);
  let n = round(c);
  let r = (c - n) * 0.693147181;
  return scaled(1.0 + (r + r * r * exp_rest(r)), i32(n));
}

fn expm1_(x: f32) -> f32 {
  if magnitude(x) < 0x33000000u { return x; }  // 2^-25, and the sign of zero
  if magnitude(x) < 0x3eb33333u {  // 0.35
    return x + x * x * exp_rest(x);
  }
  return exp_(x) - 1.0;
}

// 2 atanh(s) = 2 s + s z R(z), z = s^2 <= 0.0302; this is z R.
fn log_rest(z: f32) -> f32 {
  return z * (0.666666687 + z * (0.400001317 + z * (0.285496265 + z * 0.23362118)));
}

// log(1 + f) for -0.3 <= f <= 0.42, with s = f / (2 + f): 2 s = f - s f, so the leading f is exact.
fn log_near_one(f: f32) -> f32 {
  let s = f / (2.0 + f);
  let half = 0.5 * f * f;
  return f - (half - s * (half + log_rest(s * s)));
}

struct Binary { mantissa: f32, exponent: f32 }

// x = m 2^e with m in [0.707, 1.414), for x > 0; subnormal x is read as an integer.
fn binary(x: f32) -> Binary {
  var word = bitcast<u32>(x);
  var exponent = -127;
  if word < 0x00800000u {
    word = bitcast<u32>(f32(word));
    exponent = -127 - 149;
  }
  word += 0x3f800000u - 0x3f3504f3u;
  exponent += i32(word >> 23u);
  return Binary(float_of((word & 0x007fffffu) + 0x3f3504f3u), f32(exponent));
}

fn log_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  if magnitude(x) == 0u { return -infinity(); }
  if is_negative(x) { return not_a_number(); }
  if is_inf(x) { return x; }
  let b = binary(x);
  let e = b.exponent;
  return e * 0.693359375 + (log_near_one(b.mantissa - 1.0) - e * 2.12194440e-4);
}

fn log2_(x: f32) -> f32 {
  if !(is_finite(x) && magnitude(x) != 0u && !is_negative(x)) { return log_(x); }
  let b = binary(x);
  return b.exponent + log_near_one(b.mantissa - 1.0) * 1.44269504;
}

fn log10_(x: f32) -> f32 { return log_(x) * 0.434294482; }

fn log1p_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  if x > -0.29 && x < 0.41 { return log_near_one(x); }
  return log_(1.0 + x);
}

fn tanh_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  let t = expm1_(2.0 * min(absolute(x), 10.0));
  return with_sign(t / (t + 2.0), x);
}

// Half of a number of at least 2^-125, by its bits: (0.5 * h) * h may be formed as 0.5 * (h * h).
fn halved(x: f32) -> f32 { return float_of(bitcast<u32>(x) - 0x00800000u); }

fn sinh_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  let a = absolute(x);
  if a < 1.0 {
    let z = x * x;
    return x + x * z * (0.166666672 + z * (0.00833333936 + z * (0.000198380993
      + z * 2.8063007e-06)));
  }
  let half = exp_(0.5 * min(a, 400.0));  // its square would overflow before half of it does
  return with_sign(halved(half) * half - (0.5 / half) / half, x);
}

fn cosh_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  let half = exp_(0.5 * min(absolute(x), 400.0));
  return halved(half) * half + (0.5 / half) / half;
}

fn asinh_(x: f32) -> f32 {
  if !is_finite(x) { return x; }
  let a = absolute(x);
  if a > 1e9 { return with_sign(log_(a) + 0.693147181, x); }
  return with_sign(log1p_(a + a * (a / (1.0 + sqrt(1.0 + a * a)))), x);
}

fn acosh_(x: f32) -> f32 {
  if is_nan(x) || x < 1.0 { return not_a_number(); }
  if is_inf(x) { return x; }
  if x > 1e9 { return log_(x) + 0.693147181; }
  let t = x - 1.0;
  return log1p_(t + sqrt(2.0 * t + t * t));
}

fn atanh_(x: f32) -> f32 {
  let a = absolute(x);
  if is_nan(x) || a > 1.0 { return not_a_number(); }
  if a == 1.0 { return with_sign(infinity(), x); }
  return with_sign(0.5 * log1p_(2.0 * a / (1.0 - a)), x);
}

// Angles: x = r + quarter pi / 2 with |r| <= pi / 4.
struct Angle { rest: f32, quarter: i32 }

// The binary digits of 2 / pi, after a word of zeros.
const TWO_OVER_PI = array<u32, 9>(
  0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu,
  0xdebbc561u,
);

fn digits(place: u32) -> u32 {
  var words = TWO_OVER_PI;
  let word = place / 32u;
  let shift = place % 32u;
  if shift == 0u { return words[word]; }
  return (words[word] << shift) | (words[word + 1u] >> (32u - shift));
}

fn high_product(x: u32, y: u32) -> u32 {
  let low = (x & 0xffffu) * (y & 0xffffu);
  let first = (x >> 16u) * (y & 0xffffu) + (low >> 16u);
  let second = (x & 0xffffu) * (y >> 16u) + (first & 0xffffu);
  return (x >> 16u) * (y >> 16u) + (first >> 16u) + (second >> 16u);
}

fn angle(x: f32) -> Angle {
  if absolute(x) < 8192.0 {
    // pi / 2 in two parts of 11 digits and a rest: n has at most 13.
    let n = round(x * 0.636619772);
    return Angle(((x - n * 1.5703125) - n * 0.0004837512969970703) - n * 7.54978995e-08, i32(n));
  }
  // Payne & Hanek 1983, "Radian reduction for trigonometric functions": x = m 2^e with an integer
  // m, and of 2 / pi only 96 digits matter, from the one that counts two quarters on.
  let exponent = i32(magnitude(x) >> 23u) - 150;
  let m = (bitcast<u32>(x) & 0x007fffffu) | 0x00800000u;
  let place = u32(30 + exponent);
  let a = digits(place);
  let b = digits(place + 32u);
  let c = digits(place + 64u);
  let low = m * b;
  let carried = low + high_product(m, c);
  let high = m * a + high_product(m, b) + select(0u, 1u, carried < low);
  var quarter = i32(high >> 30u);
  var first = (high << 2u) | (carried >> 30u);
  var second = carried << 2u;
  let is_over = (first & 0x80000000u) != 0u;
  if is_over {  // nearer to the next quarter, from the other side
    quarter += 1;
    second = ~second + 1u;
    first = ~first + select(0u, 1u, second == 0u);
  }
  let part = f32(first) * 2.3283064365386963e-10 + f32(second) * 5.421010862427522e-20;
  let rest = part * 1.57079633;
  if is_negative(x) { return Angle(select(-rest, rest, is_over), -quarter); }
  return Angle(select(rest, -rest, is_over), quarter);
}

fn sine_near(r: f32) -> f32 {
  let z = r * r;
  return r + r * z * (-0.166666672 + z * (0.00833333191 + z * (-0.000198400361
    + z * 2.72434886e-06)));
}

fn cosine_near(r: f32) -> f32 {
  let z = r * r;
  return 1.0 - (0.5 * z - z * z * (0.0416666679 + z * (-0.00138888881 + z * (2.48005581e-05
    + z * -2.72955759e-07))));
}

fn sine_at(a: Angle, quarter: i32) -> f32 {
  let value = select(sine_near(a.rest), cosine_near(a.rest), (quarter & 1) == 1);
  return select(value, -value, (quarter & 2) == 2);
}

fn sin_(x: f32) -> f32 {
  if magnitude(x) < 0x39000000u { return x; }  // 2^-13, and the sign of zero
  if !is_finite(x) { return not_a_number(); }
  let a = angle(x);
  return sine_at(a, a.quarter);
}

fn cos_(x: f32) -> f32 {
  if !is_finite(x) { return not_a_number(); }
  let a = angle(x);
  return sine_at(a, a.quarter + 1);
}

fn tan_(x: f32) -> f32 {
  if magnitude(x) < 0x39000000u { return x; }  // 2^-13, and the sign of zero
  if !is_finite(x) { return not_a_number(); }
  let a = angle(x);
  return sine_at(a, a.quarter) / sine_at(a, a.quarter + 1);
}

fn asin_near(x: f32) -> f32 {
  let z = x * x;
  return x + x * z * (0.166666657 + z * (0.0750010312 + z * (0.0445965379 + z * (0.0311330371
    + z * (0.0170000792 + z * 0.0339311659)))));
}

fn asin_(x: f32) -> f32 {
  let a = absolute(x);
  if is_nan(x) || a > 1.0 { return not_a_number(); }
  if a <= 0.5 { return asin_near(x); }
  return with_sign(1.57079633 - 2.0 * asin_near(sqrt(0.5 * (1.0 - a))), x);
}

fn acos_(x: f32) -> f32 {
  let a = absolute(x);
  if is_nan(x) || a > 1.0 { return not_a_number(); }
  if a <= 0.5 { return 1.57079633 - asin_near(x); }
  let half = 2.0 * asin_near(sqrt(0.5 * (1.0 - a)));
  return select(half, 3.14159265 - half, is_negative(x));
}

// atan of a >= 0: about 0, pi / 4 or pi / 2, whichever is nearest.
fn atan_positive(a: f32) -> f32 {
  var t = a;
  var base = 0.0;
  if a > 1e20 { return 1.57079633; }
  if a > 2.41421356 {
    t = -1.0 / a;
    base = 1.57079633;
  } else if a > 0.414213562 {
    t = (a - 1.0) / (a + 1.0);
    base = 0.785398163;
  }
  let z = t * t;
  let rest = t * z * (-0.333333313 + z * (0.199995592 + z * (-0.142644987 + z * (0.107487582
    + z * -0.0646650195))));
  return base + (t + rest);
}

fn atan_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  return with_sign(atan_positive(absolute(x)), x);
}

fn atan2_(y: f32, x: f32) -> f32 {
  if is_nan(x) || is_nan(y) { return not_a_number(); }
  let a = absolute(x);
  let b = absolute(y);
  let largest = max(a, b);
  var turn = 0.0;
  if is_inf(a) && is_inf(b) {
    turn = 0.785398163;
  } else if largest > 0.0 && !(is_inf(a)) {
    turn = select(atan_positive(b / a), 1.57079633, is_inf(b) || a == 0.0);
  }
  return with_sign(select(turn, 3.14159265 - turn, is_negative(x)), y);
}

fn hypot_(x: f32, y: f32) -> f32 {
  if is_inf(x) || is_inf(y) { return infinity(); }
  if is_nan(x) || is_nan(y) { return not_a_number(); }
  let most = max(absolute(x), absolute(y));
  if most == 0.0 { return 0.0; }
  let ratio = min(absolute(x), absolute(y)) / most;
  return most * sqrt(1.0 + ratio * ratio);
}

fn logaddexp_(x: f32, y: f32) -> f32 {
  if is_nan(x) || is_nan(y) { return not_a_number(); }
  if x == y { return x + 0.693147181; }
  return max(x, y) + log1p_(exp_(-absolute(x - y)));
}

fn sqrt_(x: f32) -> f32 {
  if is_nan(x) || (is_negative(x) && magnitude(x) != 0u) { return not_a_number(); }
  if is_inf(x) || magnitude(x) == 0u { return x; }
  return sqrt(x);
}

fn sigmoid_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  let e = exp_(-absolute(x));
  return select(1.0, e, is_negative(x)) / (1.0 + e);
}

// Near 0 x times a polynomial of x^2; else 1 - e^(-x^2) times one of t = 1 / (1 + |x| / 2).
fn erf_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  let a = min(absolute(x), 4.0);
  let z = a * a;
  if a < 1.0 {
    return x * (1.12837911 + z * (-0.37612626 + z * (0.112836003 + z * (-0.0268544443
      + z * (0.00518953521 + z * (-0.000802084105 + z * 7.8891193e-05))))));
  }
  let t = 1.0 / (1.0 + 0.5 * a);
  let rest = 0.000593143573 + t * (0.273765028 + t * (0.330183327 + t * (0.102781095
    + t * (0.401967764 + t * (-0.0561804846 + t * -0.0538114756)))));
  return with_sign(1.0 - exp_(-z) * rest, x);
}

fn divide_(x: f32, y: f32) -> f32 {
  // x / 0 and x / inf are left open by WGSL.
  if magnitude(y) == 0u {
    if is_nan(x) || magnitude(x) == 0u { return not_a_number(); }
    return with_sign(infinity(), float_of((bitcast<u32>(x) ^ bitcast<u32>(y)) | 1u));
  }
  return x / y;
}

// The rest of |x| / |y| with the sign of x, exactly: long division of the mantissas.
fn fmod_(x: f32, y: f32) -> f32 {
  if is_nan(x) || is_nan(y) || is_inf(x) || magnitude(y) == 0u { return not_a_number(); }
  if magnitude(x) < magnitude(y) { return x; }
  var above = i32(magnitude(x) >> 23u);
  var below = i32(magnitude(y) >> 23u);
  let top = magnitude(x) & 0x007fffffu;
  let bottom = magnitude(y) & 0x007fffffu;
  var rest = select(top, top | 0x00800000u, above > 0);
  let divisor = select(bottom, bottom | 0x00800000u, below > 0);
  above = max(above, 1);
  below = max(below, 1);
  rest = rest % divisor;
  for (var left = above - below; left > 0; left--) {
    rest = (rest << 1u) % divisor;
    if rest == 0u { break; }
  }
  // rest 2^(below - 150): rest has at most 24 digits.
  if rest == 0u { return with_sign(0.0, x); }
  let lead = firstLeadingBit(rest);
  if i32(lead) - 23 + below > 0 {
    let word = (rest << (23u - lead)) & 0x007fffffu;
    return with_sign(float_of(word | (u32(i32(lead) - 23 + below) << 23u)), x);
  }
  return with_sign(float_of(rest << u32(below - 1)), x);
}

fn remainder_(x: f32, y: f32) -> f32 {
  let rest = fmod_(x, y);
  if is_nan(rest) { return rest; }
  if magnitude(rest) == 0u { return with_sign(0.0, y); }
  if is_negative(rest) == is_negative(y) { return rest; }
  return select(rest + y, y, is_inf(y));
}

fn floor_divide_(x: f32, y: f32) -> f32 {
  if magnitude(y) == 0u { return divide_(x, y); }
  let rest = fmod_(x, y);
  if is_nan(rest) { return rest; }
  var q = (x - rest) / y;
  if magnitude(rest) != 0u && is_negative(rest) != is_negative(y) { q -= 1.0; }
  if magnitude(q) == 0u { return with_sign(0.0, divide_(x, y)); }
  let down = floor(q);
  return select(down, down + 1.0, q - down > 0.5);
}

fn nextafter_(x: f32, y: f32) -> f32 {
  if is_nan(x) || is_nan(y) { return not_a_number(); }
  if x == y { return y; }
  if magnitude(x) == 0u { return with_sign(float_of(1u), y); }
  let word = bitcast<u32>(x);
  return float_of(select(word - 1u, word + 1u, (x < y) != is_negative(x)));
}

fn sign_(x: f32) -> f32 {
  if is_nan(x) { return x; }
  return select(select(0.0, 1.0, x > 0.0), -1.0, x < 0.0);
}

// Half to even, as WGSL has it, and the sign of zero as IEEE has it.
fn round_(x: f32) -> f32 {
  if magnitude(x) >= 0x4b000000u { return x; }
  return with_sign(round(x), x);
}
fn trunc_(x: f32) -> f32 {
  if magnitude(x) >= 0x4b000000u { return x; }
  return with_sign(trunc(x), x);
}
fn floor_(x: f32) -> f32 {
  if magnitude(x) >= 0x4b000000u || magnitude(x) == 0u { return x; }
  return floor(x);
}
fn ceil_(x: f32) -> f32 {
  if magnitude(x) >= 0x4b000000u { return x; }
  return with_sign(ceil(x), x);
}

// Whether a finite y is an integer, and whether that is odd.
fn is_whole(y: f32) -> bool { return magnitude(y) >= 0x4b000000u || trunc(y) == y; }
fn is_odd(y: f32) -> bool {
  return magnitude(y) < 0x4b800000u && is_whole(y) && (i32(y) & 1) == 1;
}

// a^y for a > 0 and finite: 2^(y log2 a), the logarithm in two parts. With s = f / (2 + f) in two
// parts, log m = 2 s + s z R(z), and log2 m is that times 1.4423828125 + 0.000312228389.
fn power(a: f32, y: f32) -> f32 {
  let b = binary(a);
  let f = b.mantissa - 1.0;
  let t = 2.0 + f;
  let s = leading(f / t);
  let t_high = leading(t);
  let t_low = f - (t_high - 2.0);
  let s_low = ((f - s * t_high) - s * t_low) / t;
  let whole = s + s_low;
  let high = 2.0 * s * 1.4423828125;
  let low = 2.0 * s * 0.000312228389
    + (2.0 * s_low + whole * log_rest(whole * whole)) * 1.44269504;
  let estimate = y * (b.exponent + (high + low));
  if estimate > 130.0 { return infinity(); }
  if estimate < -160.0 { return 0.0; }
  let y_high = leading(y);
  let y_low = y - y_high;
  let high_lead = leading(high);
  let first = y_high * b.exponent;
  let second = y_high * high_lead;
  let small = (y_high * (high - high_lead) + y_low * high) + (y_low * b.exponent + y * low);
  let n = round(first + second + small);
  let r = (((first - n) + second) + small) * 0.693147181;
  return scaled(1.0 + (r + r * r * exp_rest(r)), i32(n));
}

fn pow_(x: f32, y: f32) -> f32 {
  if magnitude(y) == 0u || bitcast<u32>(x) == 0x3f800000u { return 1.0; }
  if is_nan(x) || is_nan(y) { return not_a_number(); }
  let a = absolute(x);
  let negative = is_negative(y);
  if is_inf(y) {
    if a == 1.0 { return 1.0; }
    return select(0.0, infinity(), (a > 1.0) != negative);
  }
  let odd = is_negative(x) && is_odd(y);
  let sign = select(1.0, -1.0, odd);
  if magnitude(x) == 0u { return with_sign(select(0.0, infinity(), negative), sign); }
  if is_inf(x) { return with_sign(select(infinity(), 0.0, negative), sign); }
  if is_negative(x) && !is_whole(y) { return not_a_number(); }
  return with_sign(power(a, y), sign);
}
