//! SHA-256 and SHA-384 that stop at a block and go on from there, so that the end of something long can be shown
//! against its hash without the beginning.
//!
//! Pure. Not here: what is shown (`proof`); whole hashes, for which the crypto library is there. The invariant: a state
//! taken after some blocks, gone on with over the rest, is the hash of the whole.
//! Source: FIPS 180-4, sections 5 and 6; constants are computed roots of primes.

/// Fractional parts of the cube roots of the first 80 primes; the upper halves of the first 64 are SHA-256's.
pub(crate) const K: [u64; 80] = [
    0x428a_2f98_d728_ae22,
    0x7137_4491_23ef_65cd,
    0xb5c0_fbcf_ec4d_3b2f,
    0xe9b5_dba5_8189_dbbc,
    0x3956_c25b_f348_b538,
    0x59f1_11f1_b605_d019,
    0x923f_82a4_af19_4f9b,
    0xab1c_5ed5_da6d_8118,
    0xd807_aa98_a303_0242,
    0x1283_5b01_4570_6fbe,
    0x2431_85be_4ee4_b28c,
    0x550c_7dc3_d5ff_b4e2,
    0x72be_5d74_f27b_896f,
    0x80de_b1fe_3b16_96b1,
    0x9bdc_06a7_25c7_1235,
    0xc19b_f174_cf69_2694,
    0xe49b_69c1_9ef1_4ad2,
    0xefbe_4786_384f_25e3,
    0x0fc1_9dc6_8b8c_d5b5,
    0x240c_a1cc_77ac_9c65,
    0x2de9_2c6f_592b_0275,
    0x4a74_84aa_6ea6_e483,
    0x5cb0_a9dc_bd41_fbd4,
    0x76f9_88da_8311_53b5,
    0x983e_5152_ee66_dfab,
    0xa831_c66d_2db4_3210,
    0xb003_27c8_98fb_213f,
    0xbf59_7fc7_beef_0ee4,
    0xc6e0_0bf3_3da8_8fc2,
    0xd5a7_9147_930a_a725,
    0x06ca_6351_e003_826f,
    0x1429_2967_0a0e_6e70,
    0x27b7_0a85_46d2_2ffc,
    0x2e1b_2138_5c26_c926,
    0x4d2c_6dfc_5ac4_2aed,
    0x5338_0d13_9d95_b3df,
    0x650a_7354_8baf_63de,
    0x766a_0abb_3c77_b2a8,
    0x81c2_c92e_47ed_aee6,
    0x9272_2c85_1482_353b,
    0xa2bf_e8a1_4cf1_0364,
    0xa81a_664b_bc42_3001,
    0xc24b_8b70_d0f8_9791,
    0xc76c_51a3_0654_be30,
    0xd192_e819_d6ef_5218,
    0xd699_0624_5565_a910,
    0xf40e_3585_5771_202a,
    0x106a_a070_32bb_d1b8,
    0x19a4_c116_b8d2_d0c8,
    0x1e37_6c08_5141_ab53,
    0x2748_774c_df8e_eb99,
    0x34b0_bcb5_e19b_48a8,
    0x391c_0cb3_c5c9_5a63,
    0x4ed8_aa4a_e341_8acb,
    0x5b9c_ca4f_7763_e373,
    0x682e_6ff3_d6b2_b8a3,
    0x748f_82ee_5def_b2fc,
    0x78a5_636f_4317_2f60,
    0x84c8_7814_a1f0_ab72,
    0x8cc7_0208_1a64_39ec,
    0x90be_fffa_2363_1e28,
    0xa450_6ceb_de82_bde9,
    0xbef9_a3f7_b2c6_7915,
    0xc671_78f2_e372_532b,
    0xca27_3ece_ea26_619c,
    0xd186_b8c7_21c0_c207,
    0xeada_7dd6_cde0_eb1e,
    0xf57d_4f7f_ee6e_d178,
    0x06f0_67aa_7217_6fba,
    0x0a63_7dc5_a2c8_98a6,
    0x113f_9804_bef9_0dae,
    0x1b71_0b35_131c_471b,
    0x28db_77f5_2304_7d84,
    0x32ca_ab7b_40c7_2493,
    0x3c9e_be0a_15c9_bebc,
    0x431d_67c4_9c10_0d4c,
    0x4cc5_d4be_cb3e_42b6,
    0x597f_299c_fc65_7e2a,
    0x5fcb_6fab_3ad6_faec,
    0x6c44_198c_4a47_5817,
];

/// What one of the two hash functions is made of.
macro_rules! state {
    ($(#[$doc:meta])* $name:ident, $word:ty, $length:ty, $block:literal, $rounds:literal, $digest:literal,
     first: $first:expr, k: $k:expr, big: $big0:expr, $big1:expr, small: $small0:expr, $small1:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct $name([$word; 8]);

        impl $name {
            /// Bytes of a block: states are taken at its multiples.
            pub const BLOCK: usize = $block;
            /// Bytes of a written state.
            pub const LEN: usize = 8 * size_of::<$word>();
            const WORD: usize = size_of::<$word>();

            /// Before any byte.
            pub const FIRST: $name = $name($first);

            /// As written: the words, highest byte first.
            pub fn bytes(&self) -> [u8; 8 * size_of::<$word>()] {
                let mut out = [0; 8 * size_of::<$word>()];
                for (to, word) in out.chunks_exact_mut(Self::WORD).zip(self.0) {
                    to.copy_from_slice(&word.to_be_bytes());
                }
                out
            }

            /// Reads what [`Self::bytes`] wrote. Every value is a state.
            pub fn from_bytes(bytes: &[u8; 8 * size_of::<$word>()]) -> $name {
                $name(words(bytes, <$word>::from_be_bytes))
            }

            /// After these bytes too.
            ///
            /// # Panics
            /// If they are not whole blocks.
            pub fn after(mut self, bytes: &[u8]) -> $name {
                assert_eq!(bytes.len() % Self::BLOCK, 0, "a state is taken between blocks");
                for block in bytes.chunks_exact(Self::BLOCK) {
                    self.compress(block);
                }
                self
            }

            /// The hash of `before + rest.len()` bytes, the last of which are these.
            ///
            /// # Panics
            /// If `before` is not whole blocks.
            pub fn finish(self, before: u64, rest: &[u8]) -> [u8; $digest] {
                assert_eq!(before % Self::BLOCK as u64, 0, "a state is taken between blocks");
                let whole = rest.len() - rest.len() % Self::BLOCK;
                let state = self.after(&rest[..whole]);
                let mut last = rest[whole..].to_vec();
                let bits = (before as $length + rest.len() as $length) * 8;
                last.push(0x80);
                let filled = (last.len() + size_of::<$length>()).next_multiple_of(Self::BLOCK);
                last.resize(filled - size_of::<$length>(), 0);
                last.extend_from_slice(&bits.to_be_bytes());
                let state = state.after(&last).bytes();
                *state.first_chunk().expect("a hash is no longer than its state")
            }

            fn compress(&mut self, block: &[u8]) {
                let mut w = [0; $rounds];
                let first: [$word; 16] = words(block, <$word>::from_be_bytes);
                w[..16].copy_from_slice(&first);
                for t in 16..$rounds {
                    let mixed = $small1(w[t - 2]).wrapping_add(w[t - 7]);
                    w[t] = mixed.wrapping_add($small0(w[t - 15])).wrapping_add(w[t - 16]);
                }
                let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = self.0;
                for t in 0..$rounds {
                    let t1 = h.wrapping_add($big1(e)).wrapping_add((e & f) ^ (!e & g));
                    let t1 = t1.wrapping_add($k(t)).wrapping_add(w[t]);
                    let t2 = $big0(a).wrapping_add((a & b) ^ (a & c) ^ (b & c));
                    (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
                }
                for (word, mixed) in self.0.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                    *word = word.wrapping_add(mixed);
                }
            }
        }
    };
}

fn words<W: Copy + Default, const N: usize, const LEN: usize>(
    bytes: &[u8],
    read: fn([u8; LEN]) -> W,
) -> [W; N] {
    let mut out = [W::default(); N];
    for (word, bytes) in out.iter_mut().zip(bytes.chunks_exact(LEN)) {
        *word = read(bytes.try_into().expect("chunks of a word's length"));
    }
    out
}

state!(
    /// A state of SHA-256.
    Sha256, u32, u64, 64, 64, 32,
    first: [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19],
    k: |t: usize| (K[t] >> 32) as u32,
    big: |x: u32| x.rotate_right(2) ^ x.rotate_right(13) ^ x.rotate_right(22),
         |x: u32| x.rotate_right(6) ^ x.rotate_right(11) ^ x.rotate_right(25),
    small: |x: u32| x.rotate_right(7) ^ x.rotate_right(18) ^ (x >> 3),
           |x: u32| x.rotate_right(17) ^ x.rotate_right(19) ^ (x >> 10)
);

state!(
    /// A state of SHA-384.
    Sha384, u64, u128, 128, 80, 48,
    first: [
        0xcbbb_9d5d_c105_9ed8, 0x629a_292a_367c_d507, 0x9159_015a_3070_dd17, 0x152f_ecd8_f70e_5939,
        0x6733_2667_ffc0_0b31, 0x8eb4_4a87_6858_1511, 0xdb0c_2e0d_64f9_8fa7, 0x47b5_481d_befa_4fa4,
    ],
    k: |t: usize| K[t],
    big: |x: u64| x.rotate_right(28) ^ x.rotate_right(34) ^ x.rotate_right(39),
         |x: u64| x.rotate_right(14) ^ x.rotate_right(18) ^ x.rotate_right(41),
    small: |x: u64| x.rotate_right(1) ^ x.rotate_right(8) ^ (x >> 7),
           |x: u64| x.rotate_right(19) ^ x.rotate_right(61) ^ (x >> 6)
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunks::sha256;
    use crate::deep_hash::sha384;

    #[test]
    fn every_length_and_every_cut_gives_the_librarys_hash() {
        let bytes: Vec<u8> = (0..700u32).map(|i| (i * 7 + (i >> 3)) as u8).collect();
        for len in 0..bytes.len() {
            let all = &bytes[..len];
            for cut in (0..=len).step_by(Sha256::BLOCK) {
                let state = Sha256::FIRST.after(&all[..cut]);
                let state = Sha256::from_bytes(&state.bytes());
                assert_eq!(
                    state.finish(cut as u64, &all[cut..]),
                    sha256(&[all]),
                    "{cut} of {len}"
                );
            }
            for cut in (0..=len).step_by(Sha384::BLOCK) {
                let state = Sha384::FIRST.after(&all[..cut]);
                let state = Sha384::from_bytes(&state.bytes());
                assert_eq!(
                    state.finish(cut as u64, &all[cut..]),
                    sha384(all),
                    "{cut} of {len}"
                );
            }
        }
    }
}
