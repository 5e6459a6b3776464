// Integers of 64 bits in two words, the low one first, two's complement; exact, and wrapping around
// as NumPy's do. Names end in s where the sign matters and in u where there is none.

alias Wide = vec2<u32>;

fn wide_from_i32(x: i32) -> Wide { return Wide(bitcast<u32>(x), bitcast<u32>(x >> 31u)); }
fn wide_from_u32(x: u32) -> Wide { return Wide(x, 0u); }
fn wide_is_zero(x: Wide) -> bool { return (x.x | x.y) == 0u; }
fn wide_is_negative(x: Wide) -> bool { return (x.y & 0x80000000u) != 0u; }
fn wide_equal(x: Wide, y: Wide) -> bool { return x.x == y.x && x.y == y.y; }
fn wide_less_u(x: Wide, y: Wide) -> bool { return select(x.y < y.y, x.x < y.x, x.y == y.y); }
fn wide_less_s(x: Wide, y: Wide) -> bool {
  return wide_less_u(Wide(x.x, x.y ^ 0x80000000u), Wide(y.x, y.y ^ 0x80000000u));
}

fn wide_add(x: Wide, y: Wide) -> Wide {
  let low = x.x + y.x;
  return Wide(low, x.y + y.y + select(0u, 1u, low < x.x));
}
fn wide_subtract(x: Wide, y: Wide) -> Wide {
  return Wide(x.x - y.x, x.y - y.y - select(0u, 1u, x.x < y.x));
}
fn wide_negative(x: Wide) -> Wide { return wide_subtract(Wide(0u, 0u), x); }
fn wide_absolute(x: Wide) -> Wide {
  if wide_is_negative(x) { return wide_negative(x); }
  return x;
}

// The product of two words, from halves of 16 bits.
fn product_of_words(x: u32, y: u32) -> Wide {
  let low = (x & 0xffffu) * (y & 0xffffu);
  let first = (x >> 16u) * (y & 0xffffu) + (low >> 16u);
  let second = (x & 0xffffu) * (y >> 16u) + (first & 0xffffu);
  return Wide(x * y, (x >> 16u) * (y >> 16u) + (first >> 16u) + (second >> 16u));
}
fn wide_multiply(x: Wide, y: Wide) -> Wide {
  let low = product_of_words(x.x, y.x);
  return Wide(low.x, low.y + x.x * y.y + x.y * y.x);
}

fn wide_left(x: Wide, n: u32) -> Wide {
  if n >= 64u { return Wide(0u, 0u); }
  if n >= 32u { return Wide(0u, x.x << (n - 32u)); }
  if n == 0u { return x; }
  return Wide(x.x << n, (x.y << n) | (x.x >> (32u - n)));
}
fn wide_right_u(x: Wide, n: u32) -> Wide {
  if n >= 64u { return Wide(0u, 0u); }
  if n >= 32u { return Wide(x.y >> (n - 32u), 0u); }
  if n == 0u { return x; }
  return Wide((x.x >> n) | (x.y << (32u - n)), x.y >> n);
}
fn wide_right_s(x: Wide, n: u32) -> Wide {
  let moved = wide_right_u(x, n);
  if !wide_is_negative(x) || n == 0u { return moved; }
  if n >= 64u { return Wide(0xffffffffu, 0xffffffffu); }
  let filled = wide_left(Wide(0xffffffffu, 0xffffffffu), 64u - n);
  return moved | filled;
}
// By how much to shift: all beyond 64 is one.
fn shift_of(y: Wide) -> u32 { return select(min(y.x, 64u), 64u, y.y != 0u); }

// Quotient and rest by long division, a digit at a time; 0 and 0 for a divisor of 0, as in NumPy.
struct Parts { quotient: Wide, rest: Wide }
fn wide_parts_u(x: Wide, y: Wide) -> Parts {
  var quotient = Wide(0u, 0u);
  var rest = Wide(0u, 0u);
  if wide_is_zero(y) { return Parts(quotient, rest); }
  if (x.y | y.y) == 0u { return Parts(Wide(x.x / y.x, 0u), Wide(x.x % y.x, 0u)); }
  for (var left = 64u; left > 0u; left--) {
    let carry = rest.y >> 31u;
    rest = wide_left(rest, 1u) | Wide(wide_right_u(x, left - 1u).x & 1u, 0u);
    quotient = wide_left(quotient, 1u);
    if carry == 1u || !wide_less_u(rest, y) {
      rest = wide_subtract(rest, y);
      quotient.x |= 1u;
    }
  }
  return Parts(quotient, rest);
}
// Towards minus infinity; the rest has the sign of the divisor.
fn wide_parts_s(x: Wide, y: Wide) -> Parts {
  let found = wide_parts_u(wide_absolute(x), wide_absolute(y));
  var quotient = found.quotient;
  var rest = found.rest;
  if wide_is_negative(x) != wide_is_negative(y) {
    quotient = wide_negative(quotient);
    if !wide_is_zero(rest) {
      quotient = wide_subtract(quotient, Wide(1u, 0u));
      rest = wide_subtract(wide_absolute(y), rest);
    }
  }
  if wide_is_negative(y) { rest = wide_negative(rest); }
  return Parts(quotient, rest);
}

fn wide_power(x: Wide, y: Wide) -> Wide {
  var base = x;
  var left = y;
  var result = Wide(1u, 0u);
  for (var i = 0u; i < 64u; i++) {
    if wide_is_zero(left) { break; }
    if (left.x & 1u) == 1u { result = wide_multiply(result, base); }
    base = wide_multiply(base, base);
    left = wide_right_u(left, 1u);
  }
  return result;
}

// The nearest float, ties to even.
fn float_from_wide_u(x: Wide) -> f32 {
  if wide_is_zero(x) { return 0.0; }
  let zeros = select(countLeadingZeros(x.y), 32u + countLeadingZeros(x.x), x.y == 0u);
  let top = wide_left(x, zeros);
  var mantissa = top.y >> 8u;
  let cut = top.y & 0xffu;
  let is_odd_one = (mantissa & 1u) == 1u;
  if cut > 0x80u || (cut == 0x80u && (top.x != 0u || is_odd_one)) { mantissa += 1u; }
  return f32(mantissa) * bitcast<f32>((127u + 40u - zeros) << 23u);
}
fn float_from_wide_s(x: Wide) -> f32 {
  let found = float_from_wide_u(wide_absolute(x));
  return select(found, -found, wide_is_negative(x));
}
// Towards zero; what no such integer is gives the smallest, as on x86.
fn wide_from_float(x: f32) -> Wide {
  let word = bitcast<u32>(x);
  let exponent = i32((word >> 23u) & 0xffu) - 150;
  if exponent >= 40 { return Wide(0u, 0x80000000u); }
  if exponent < -23 { return Wide(0u, 0u); }
  var found = Wide((word & 0x007fffffu) | 0x00800000u, 0u);
  if exponent < 0 { found.x = found.x >> u32(-exponent); }
  else { found = wide_left(found, u32(exponent)); }
  if (word & 0x80000000u) != 0u { found = wide_negative(found); }
  return found;
}
// The same without a sign, up to 2^64.
fn wide_from_float_u(x: f32) -> Wide {
  let word = bitcast<u32>(x);
  if (word >> 23u) == 190u {  // 2^63 <= x < 2^64
    return wide_left(Wide((word & 0x007fffffu) | 0x00800000u, 0u), 40u);
  }
  return wide_from_float(x);
}

// y where the condition holds, else x.
fn wide_select(x: Wide, y: Wide, condition: bool) -> Wide {
  if condition { return y; }
  return x;
}
