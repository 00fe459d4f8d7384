// The float operations of DIN-1 ("Numbers") where the device rounds as it should: one rounding each, named, so that
// nothing reads as an expression that a compiler might fuse.
fn add(a: f32, b: f32) -> f32 { return a + b; }
fn sub(a: f32, b: f32) -> f32 { return a - b; }
fn mul(a: f32, b: f32) -> f32 { return a * b; }
fn real(n: i32) -> f32 { return f32(n); }
