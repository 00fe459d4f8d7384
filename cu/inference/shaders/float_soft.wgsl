// The float operations of DIN-1 ("Numbers") in integers, for devices that do not promise round-to-nearest-even.
// Operands are zero or normal; a result below the normal range is zero, which canon makes of it anyway.

// significand * 2^(exponent - 150), three bits wider than f32's, the lowest sticky, rounded once.
fn pack(sign: u32, exponent: i32, significand: u32) -> f32 {
  if (significand == 0u) { return bitcast<f32>(sign); }
  let up = i32(countLeadingZeros(significand)) - 5;
  var m = significand;
  if (up > 0) { m = m << u32(up); } else if (up < 0) { m = (m >> 1u) | (m & 1u); }
  let e = exponent - up;
  var q = m >> 3u;
  let rest = m & 7u;
  if (rest > 4u || (rest == 4u && (q & 1u) == 1u)) { q += 1u; }
  if (e <= 0) { return bitcast<f32>(sign); }
  if (e >= 255) { return bitcast<f32>(sign | 0x7f800000u); }
  // A carry out of the significand moves into the exponent by itself.
  return bitcast<f32>(sign | ((u32(e) << 23u) + q - 0x800000u));
}

fn add(a: f32, b: f32) -> f32 {
  var x = bitcast<u32>(a);
  var y = bitcast<u32>(b);
  if ((x & 0x7fffffffu) < (y & 0x7fffffffu)) { let z = x; x = y; y = z; }
  if ((y & 0x7f800000u) == 0u) {
    if ((x & 0x7f800000u) == 0u) { return bitcast<f32>(x & y); }
    return bitcast<f32>(x);
  }
  let e = i32((x >> 23u) & 255u);
  let far = u32(e) - ((y >> 23u) & 255u);
  let p = ((x & 0x7fffffu) | 0x800000u) << 3u;
  let q = ((y & 0x7fffffu) | 0x800000u) << 3u;
  var r = 1u;
  if (far < 27u) {
    r = q >> far;
    if ((r << far) != q) { r |= 1u; }
  }
  if (((x ^ y) >> 31u) == 0u) { return pack(x & 0x80000000u, e, p + r); }
  if (p == r) { return 0.0; }
  return pack(x & 0x80000000u, e, p - r);
}

fn sub(a: f32, b: f32) -> f32 { return add(a, bitcast<f32>(bitcast<u32>(b) ^ 0x80000000u)); }

fn mul(a: f32, b: f32) -> f32 {
  let x = bitcast<u32>(a);
  let y = bitcast<u32>(b);
  let sign = (x ^ y) & 0x80000000u;
  let ex = (x >> 23u) & 255u;
  let ey = (y >> 23u) & 255u;
  if (ex == 0u || ey == 0u) { return bitcast<f32>(sign); }
  let p = (x & 0x7fffffu) | 0x800000u;
  let q = (y & 0x7fffffu) | 0x800000u;
  let middle = (p >> 12u) * (q & 0xfffu) + (p & 0xfffu) * (q >> 12u);
  let low = (p & 0xfffu) * (q & 0xfffu) + ((middle & 0xfffu) << 12u);
  let high = (p >> 12u) * (q >> 12u) + (middle >> 12u) + (low >> 24u);
  // 48 bits: high above the low 24. Keep 27 and a sticky bit.
  var m = (high << 3u) | ((low & 0xffffffu) >> 21u);
  if ((low & 0x1fffffu) != 0u) { m |= 1u; }
  return pack(sign, i32(ex + ey) - 126, m);
}

fn real(n: i32) -> f32 {
  var size = u32(n);
  var sign = 0u;
  if (n < 0) { size = 0u - size; sign = 0x80000000u; }
  if (size == 0u) { return 0.0; }
  let top = 31u - countLeadingZeros(size);
  if (top <= 26u) { return pack(sign, i32(top) + 127, size << (26u - top)); }
  let down = top - 26u;
  var m = size >> down;
  if ((m << down) != size) { m |= 1u; }
  return pack(sign, i32(top) + 127, m);
}
