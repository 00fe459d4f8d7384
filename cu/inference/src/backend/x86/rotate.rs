//! Rotary positions by AVX-512. Not here: who may call. Invariant: that of `x86.rs`.

use std::arch::x86_64::*;

use super::element::load;
use super::math::{canon, store};

/// [`crate::backend::cpu::rotate`] of neighbours, for a table of whole sixteens.
#[target_feature(enable = "avx512f")]
pub fn adjacent(head: &mut [f32], table: &[f32]) {
    for at in (0..table.len()).step_by(16) {
        let (v, angles) = (load(&head[at..]), load(&table[at..]));
        let own = canon(_mm512_mul_ps(v, _mm512_moveldup_ps(angles)));
        let other = _mm512_permute_ps::<0b10_11_00_01>(v);
        let other = canon(_mm512_mul_ps(other, _mm512_movehdup_ps(angles)));
        // x cos - y sin in even lanes, y cos + x sin in odd ones.
        let sums = _mm512_mask_sub_ps(_mm512_add_ps(own, other), 0x5555, own, other);
        store(&mut head[at..], canon(sums));
    }
}

/// [`crate::backend::cpu::rotate`] of halves, for a table of whole thirty-twos.
#[target_feature(enable = "avx512f")]
pub fn halves(head: &mut [f32], table: &[f32]) {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    let half = table.len() / 2;
    for at in (0..half).step_by(16) {
        let angles = [load(&table[2 * at..]), load(&table[2 * at + 16..])];
        let cos = _mm512_permutex2var_ps(angles[0], even, angles[1]);
        let sin = _mm512_permutex2var_ps(angles[0], odd, angles[1]);
        let (x, y) = (load(&head[at..]), load(&head[at + half..]));
        let times = |v, angle| canon(_mm512_mul_ps(v, angle));
        let a = _mm512_sub_ps(times(x, cos), times(y, sin));
        let b = _mm512_add_ps(times(x, sin), times(y, cos));
        store(&mut head[at..], canon(a));
        store(&mut head[at + half..], canon(b));
    }
}
