// Element-wise arithmetic: spec/inference.md, "Numbers" and the units of "Activations".
fn canon(v: f32) -> f32 {
  let bits = bitcast<u32>(v);
  let size = bits & 0x7fffffffu;
  if (size < 0x0d800000u) { return 0.0; }
  return bitcast<f32>(min(size, 0x5d800000u) | (bits & 0x80000000u));
}

fn product(a: f32, b: f32) -> f32 { return canon(mul(a, b)); }

fn pow2(x: i32) -> f32 {
  if (x < -126) { return 0.0; }
  return bitcast<f32>(u32(min(x, 61) + 127) << 23u);
}

fn rcp(v: f32) -> f32 {
  var y = bitcast<f32>(0x7ef311c3u - bitcast<u32>(v));
  for (var i = 0u; i < 4u; i++) { y = mul(y, sub(2.0, mul(v, y))); }
  return y;
}

fn rsqrt(v: f32) -> f32 {
  var y = bitcast<f32>(0x5f375a86u - (bitcast<u32>(v) >> 1u));
  let h = mul(0.5, v);
  for (var i = 0u; i < 4u; i++) { y = mul(y, sub(1.5, mul(mul(h, y), y))); }
  return y;
}

// floor(v) as an integer; v is in range.
fn whole(v: f32) -> i32 { return i32(floor(v)); }

fn exponential(v: f32) -> f32 {
  if (v < -64.0) { return 0.0; }
  let k = floor(add(mul(v, 1.44269502162933349609375), 0.5));
  let r = sub(sub(v, mul(k, 0.693359375)), mul(k, -2.12194442749023437500e-4));
  var p = add(mul(1.98756915051490068435669e-4, r), 1.39819994452409446239471e-3);
  p = add(mul(p, r), 8.33345185965299606323242e-3);
  p = add(mul(p, r), 4.16657961904048919677734e-2);
  p = add(mul(p, r), 1.66666656732559204101562e-1);
  p = add(mul(p, r), 0.5);
  let z = add(add(mul(p, mul(r, r)), r), 1.0);
  return bitcast<f32>(bitcast<u32>(z) + (u32(i32(k)) << 23u));
}

fn sigmoid(x: f32) -> f32 {
  let e = exponential(-abs(x));
  let r = rcp(add(1.0, e));
  if (x < 0.0) { return mul(e, r); }
  return r;
}

fn silu(x: f32) -> f32 { return product(x, canon(sigmoid(x))); }

fn gelu_tanh(x: f32) -> f32 {
  let c = clamp(x, -16.0, 16.0);
  let u = mul(1.59576904773712158203125, mul(c, add(1.0, mul(0.044714998453855514526367, product(c, c)))));
  return product(x, canon(sigmoid(canon(u))));
}

fn gelu_erf(x: f32) -> f32 {
  let a = abs(x);
  let t = rcp(add(1.0, mul(0.23164190351963043212891, a)));
  var p = add(mul(0.53070271015167236328125, t), -0.72657597064971923828125);
  p = add(mul(p, t), 0.71070688962936401367188);
  p = add(mul(p, t), -0.14224837720394134521484);
  p = add(mul(p, t), 0.127414792776107788085938);
  let tail = mul(mul(p, t), exponential(mul(product(a, a), -0.5)));
  if (x < 0.0) { return product(x, canon(tail)); }
  return product(x, canon(sub(1.0, tail)));
}

fn soft_cap(x: f32, cap: f32, inverse: f32) -> f32 {
  return product(cap, canon(sub(mul(2.0, canon(sigmoid(product(x, inverse)))), 1.0)));
}

// high * 2^15 + low, low not yet carried.
fn wide(high: i32, low: u32) -> f32 {
  return add(mul(real(high + i32(low >> 15u)), 32768.0), real(i32(low & 0x7fffu)));
}

fn key(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  return select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u);
}

fn unkey(k: u32) -> f32 { return bitcast<f32>(select(~k, k & 0x7fffffffu, (k >> 31u) == 1u)); }

// Bits without the sign: on the grid their order is the order of magnitudes.
fn size(v: f32) -> u32 { return bitcast<u32>(v) & 0x7fffffffu; }

fn unit16(most: u32) -> i32 { return i32((most + 0x101ffu) >> 23u) - 141; }

// What one code of a key or value stands for.
fn cache_scale(most: u32) -> f32 {
  let scale = product(bitcast<f32>(most), 0.007874015718698501586914);
  return bitcast<f32>(max(bitcast<u32>(scale), 0x0d800000u));
}

fn unit8(most: u32) -> i32 { return i32((most + 0x1ffffu) >> 23u) - 133; }

fn code(v: f32, scale: f32) -> i32 { return whole(add(mul(v, scale), 0.5)); }
