//! A pass over SPIR-V that pins float semantics: NoContraction on every float operation, and the execution modes
//! RoundingModeRTE and SignedZeroInfNanPreserve for 32 bits. Not here: any change of what is computed.
//! Invariant: nothing is removed and no id changes; only decorations, capabilities and modes are added.

const EXTENSION: u32 = 10;
const ENTRY_POINT: u32 = 15;
const EXECUTION_MODE: u32 = 16;
const CAPABILITY: u32 = 17;
const DECORATE: u32 = 71;
const NO_CONTRACTION: u32 = 42;
/// Capability and mode: SignedZeroInfNanPreserve, RoundingModeRTE.
const MODES: [(u32, u32); 2] = [(4466, 4461), (4467, 4462)];
/// ConvertSToF, ConvertUToF, FAdd, FSub, FMul: one rounding each. FNegate is exact.
const ARITHMETIC: [u32; 5] = [111, 112, 129, 131, 133];
/// FDiv, FRem, FMod, vector and matrix products, Dot: their rounding or order is the device's.
const FORBIDDEN: [u32; 10] = [136, 140, 141, 142, 143, 144, 145, 146, 147, 148];
const EXTENDED: u32 = 12;
/// Of GLSL.std.450: FAbs, Floor, minima, maxima, clamps, FindILsb, FindSMsb, FindUMsb. All exact.
const EXACT: [u32; 17] = [4, 8, 37, 38, 39, 40, 41, 42, 43, 44, 45, 73, 74, 75, 79, 80, 81];

/// Instructions as (opcode, words), after the header of five words.
pub fn instructions(words: &[u32]) -> impl Iterator<Item = (u32, &[u32])> {
    let mut rest = &words[5..];
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        let (this, next) = rest.split_at((first >> 16) as usize);
        rest = next;
        Some((first & 0xffff, this))
    })
}

/// The sections of a module in their order; each addition goes to the end of its section.
fn section(opcode: u32) -> u32 {
    match opcode {
        CAPABILITY => 0,
        EXTENSION => 1,
        11 | 14 | ENTRY_POINT => 2,
        EXECUTION_MODE | 331 => 3,
        3..=8 | 330 => 4,
        DECORATE | 72 => 5,
        _ => 6,
    }
}

/// The module with its floats pinned.
pub fn pin(words: &[u32]) -> Vec<u32> {
    let entry = instructions(words)
        .find(|(op, _)| *op == ENTRY_POINT)
        .expect("an entry point")
        .1[2];
    let mut added: [Vec<u32>; 7] = Default::default();
    for (capability, mode) in MODES {
        added[0].extend([2 << 16 | CAPABILITY, capability]);
        added[3].extend([4 << 16 | EXECUTION_MODE, entry, mode, 32]);
    }
    added[1] = extension(b"SPV_KHR_float_controls\0\0");
    for (op, this) in instructions(words) {
        if ARITHMETIC.contains(&op) {
            added[5].extend([3 << 16 | DECORATE, this[2], NO_CONTRACTION]);
        }
    }
    let (mut out, mut at) = (words[..5].to_vec(), 0);
    for (op, this) in instructions(words) {
        while at < section(op) {
            out.append(&mut added[at as usize]);
            at += 1;
        }
        out.extend(this);
    }
    out
}

fn extension(name: &[u8; 24]) -> Vec<u32> {
    let words = name
        .chunks(4)
        .map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]]));
    std::iter::once(7 << 16 | EXTENSION).chain(words).collect()
}

/// What a module's floats are.
#[derive(Debug, Default)]
pub struct Found {
    /// Pinning execution modes.
    pub modes: usize,
    /// Float operations with one rounding.
    pub arithmetic: usize,
    /// Results decorated NoContraction.
    pub decorated: usize,
    /// Float operations that DIN-1 does not allow.
    pub forbidden: usize,
}

/// Counts what [`pin`] should have pinned.
pub fn inspect(words: &[u32]) -> Found {
    let mut found = Found::default();
    for (op, this) in instructions(words) {
        found.modes += usize::from(op == EXECUTION_MODE && MODES.iter().any(|(_, mode)| this[2] == *mode));
        found.arithmetic += usize::from(ARITHMETIC.contains(&op));
        found.decorated += usize::from(op == DECORATE && this[2] == NO_CONTRACTION);
        let inexact = op == EXTENDED && !EXACT.contains(&this[4]);
        found.forbidden += usize::from(inexact || FORBIDDEN.contains(&op));
    }
    found
}
