//! SHA-512 and SHA-384 of eight messages at once, one in each lane of AVX-512 registers.
//!
//! Not here: what is hashed (`challenge`). The invariant: a lane's hash does not depend on the other lanes' messages.
//! Source: FIPS 180-4, sections 5 and 6.

use std::arch::x86_64::*;

use super::field::words;
use super::table::LANES;
use crate::midstate::{K, Sha384};

/// Bytes of a block, and of what the last one ends in: a bit and the length.
const BLOCK: usize = 128;
const ENDING: usize = 17;

/// Fractional parts of the square roots of the first eight primes.
const SHA512: [u64; 8] = [
    0x6a09_e667_f3bc_c908,
    0xbb67_ae85_84ca_a73b,
    0x3c6e_f372_fe94_f82b,
    0xa54f_f53a_5f1d_36f1,
    0x510e_527f_ade6_82d1,
    0x9b05_688c_2b3e_6c1f,
    0x1f83_d9ab_fb41_bd6b,
    0x5be0_cd19_137e_2179,
];

/// SHA-384 of each message.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn sha384(messages: [&[u8]; LANES]) -> [[u8; 48]; LANES] {
    let mut first = [0; 8];
    for (word, bytes) in first.iter_mut().zip(Sha384::FIRST.bytes().as_chunks().0) {
        *word = u64::from_be_bytes(*bytes);
    }
    let mut out = [[0; 48]; LANES];
    for (short, long) in out.iter_mut().zip(digests(first, messages)) {
        short.copy_from_slice(&long[..48]);
    }
    out
}

/// SHA-512 of each message.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn sha512(messages: [&[u8]; LANES]) -> [[u8; 64]; LANES] {
    digests(SHA512, messages)
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn digests(first: [u64; 8], messages: [&[u8]; LANES]) -> [[u8; 64]; LANES] {
    let mut state = [_mm512_setzero_si512(); 8];
    for (to, word) in state.iter_mut().zip(first) {
        *to = _mm512_set1_epi64(word as i64);
    }
    let counts = messages.map(|message| (message.len() + ENDING).div_ceil(BLOCK));
    for number in 0..counts.into_iter().max().unwrap_or(0) {
        let mut active = 0;
        let mut words = [[0i64; LANES]; 16];
        for lane in 0..LANES {
            if number < counts[lane] {
                active |= 1 << lane;
                fill(&mut words, lane, &block(messages[lane], number));
            }
        }
        let after = compress(&state, &words);
        for (old, new) in state.iter_mut().zip(after) {
            *old = _mm512_mask_blend_epi64(active, *old, new);
        }
    }
    let mut out = [[0; 64]; LANES];
    for (at, word) in state.into_iter().enumerate() {
        for (out, word) in out.iter_mut().zip(words(word)) {
            out[8 * at..][..8].copy_from_slice(&word.to_be_bytes());
        }
    }
    out
}

/// A block of a message with its padding.
fn block(message: &[u8], number: usize) -> [u8; BLOCK] {
    let rest = &message[message.len().min(number * BLOCK)..];
    if let Some(whole) = rest.first_chunk() {
        return *whole;
    }
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    // The bit behind the message stands in the block before if there was room for it, but not for the length.
    if number * BLOCK <= message.len() {
        block[rest.len()] = 0x80;
    }
    if rest.len() + ENDING <= BLOCK {
        let bits = 8 * message.len() as u128;
        block[BLOCK - 16..].copy_from_slice(&bits.to_be_bytes());
    }
    block
}

/// A block's words into their lane.
#[inline]
fn fill(words: &mut [[i64; LANES]; 16], lane: usize, block: &[u8; BLOCK]) {
    for (word, bytes) in words.iter_mut().zip(block.as_chunks().0) {
        word[lane] = i64::from_be_bytes(*bytes);
    }
}

#[target_feature(enable = "avx512f,avx512ifma")]
fn compress(state: &[__m512i; 8], words: &[[i64; LANES]; 16]) -> [__m512i; 8] {
    let mut w = [_mm512_setzero_si512(); 16];
    for (to, &[a, b, c, d, e, f, g, h]) in w.iter_mut().zip(words) {
        *to = _mm512_set_epi64(h, g, f, e, d, c, b, a);
    }
    let mut s = *state;
    let (last, others) = K.as_chunks::<16>().0.split_last().expect("eighty rounds");
    for sixteen in others {
        for (t, k) in sixteen.iter().enumerate() {
            s = round(s, _mm512_add_epi64(w[t], _mm512_set1_epi64(*k as i64)));
            // The word of sixteen rounds on takes its place.
            let near = _mm512_add_epi64(small_1(w[(t + 14) % 16]), w[(t + 9) % 16]);
            w[t] = _mm512_add_epi64(_mm512_add_epi64(near, small_0(w[(t + 1) % 16])), w[t]);
        }
    }
    for (word, k) in w.into_iter().zip(last) {
        s = round(s, _mm512_add_epi64(word, _mm512_set1_epi64(*k as i64)));
    }
    for (after, before) in s.iter_mut().zip(state) {
        *after = _mm512_add_epi64(*after, *before);
    }
    s
}

/// One round with its word and constant.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn round([a, b, c, d, e, f, g, h]: [__m512i; 8], word: __m512i) -> [__m512i; 8] {
    let (e14, e18, e41) = (
        _mm512_ror_epi64::<14>(e),
        _mm512_ror_epi64::<18>(e),
        _mm512_ror_epi64::<41>(e),
    );
    let (a28, a34, a39) = (
        _mm512_ror_epi64::<28>(a),
        _mm512_ror_epi64::<34>(a),
        _mm512_ror_epi64::<39>(a),
    );
    let chosen = _mm512_ternarylogic_epi64::<0xca>(e, f, g);
    let most = _mm512_ternarylogic_epi64::<0xe8>(a, b, c);
    let first = _mm512_add_epi64(
        _mm512_add_epi64(h, word),
        _mm512_add_epi64(chosen, xor(e14, e18, e41)),
    );
    let second = _mm512_add_epi64(most, xor(a28, a34, a39));
    let (new_a, new_e) = (_mm512_add_epi64(first, second), _mm512_add_epi64(d, first));
    [new_a, a, b, c, new_e, e, f, g]
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn small_0(w: __m512i) -> __m512i {
    xor(
        _mm512_ror_epi64::<1>(w),
        _mm512_ror_epi64::<8>(w),
        _mm512_srli_epi64::<7>(w),
    )
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn small_1(w: __m512i) -> __m512i {
    xor(
        _mm512_ror_epi64::<19>(w),
        _mm512_ror_epi64::<61>(w),
        _mm512_srli_epi64::<6>(w),
    )
}

#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn xor(a: __m512i, b: __m512i, c: __m512i) -> __m512i {
    _mm512_ternarylogic_epi64::<0x96>(a, b, c)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA384, SHA512, digest};

    use super::super::where_supported;
    use super::*;

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn all_lengths() {
        let bytes: Vec<u8> = (0..700u32).map(|i| (i * 7 + (i >> 3)) as u8).collect();
        for len in 0..bytes.len() {
            // Neighbours of other lengths: longer, shorter, empty.
            let lengths = [len, len / 2, 0, (len * 3) % 700, 699 - len, len, 111, 128];
            let messages = lengths.map(|len| &bytes[700 - len - 1..][..len]);
            for (hash, message) in sha512(messages).iter().zip(messages) {
                assert_eq!(
                    hash[..],
                    *digest(&SHA512, message).as_ref(),
                    "{} bytes",
                    message.len()
                );
            }
            for (hash, message) in sha384(messages).iter().zip(messages) {
                assert_eq!(
                    hash[..],
                    *digest(&SHA384, message).as_ref(),
                    "{} bytes",
                    message.len()
                );
            }
        }
    }

    #[test]
    fn every_length_beside_others_gives_the_librarys_hash() {
        where_supported(all_lengths);
    }
}
