// Division and conversion of signed integers of 32 bits.

// Quotient towards minus infinity, and the rest, which has the sign of y; 0 and 0 for y = 0.
fn integer_parts(x: i32, y: i32) -> vec2<i32> {
  if y == 0 { return vec2<i32>(0, 0); }
  if y == -1 { return vec2<i32>(-x, 0); }
  var quotient = x / y;
  var rest = x - quotient * y;
  if rest != 0 && ((rest ^ y) < 0) {
    quotient -= 1;
    rest += y;
  }
  return vec2<i32>(quotient, rest);
}

// Towards zero; what no such integer is gives the smallest, as on x86.
fn integer_from_float(x: f32) -> i32 {
  if (bitcast<u32>(x) & 0x7fffffffu) >= 0x4f000000u { return bitcast<i32>(0x80000000u); }
  return i32(x);
}
