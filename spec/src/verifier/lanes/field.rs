//! Eight elements of the field of 2^255 - 19 side by side, one in each lane of AVX-512 registers.
//!
//! An element is five limbs of 51 bits. Not here: points (`point`), bytes of keys and signatures (`table`). The
//! invariant: every limb of an [`Element`] is below 2^52, which is all that the multiplier's inputs need; nothing here
//! branches on a value.
//!
//! Bounds. An element is *tight* if its limbs are below 2^51 + 2^18. The multiplier reads 52 bits of each limb and gives
//! the low and the high 52 bits of a product, so both are below 2^52. A column of a product is a sum of at most 5 low
//! halves and twice 5 high ones, below 15 * 2^52, and the five upper columns count 19 times beside the lower: a limb of
//! a [`Wide`] product is below 20 * 15 * 2^52 < 2^61. Sums and differences of two such are below 2^61 + 2^62 < 2^63, and
//! carrying brings what is below 2^64 to 2^51 + 19 * 2^13 < 2^51 + 2^18: tight again.

use std::arch::x86_64::*;

/// Limbs of an element.
pub const LIMBS: usize = 5;
/// Bits of a limb.
const BITS: u32 = 51;
const MASK: u64 = (1 << BITS) - 1;

/// Eight elements: limbs below 2^52.
#[derive(Clone, Copy)]
pub struct Element(pub [__m512i; LIMBS]);

/// Eight elements whose limbs were not carried yet: below 2^61 from a product, below 2^64 in any case.
#[derive(Clone, Copy)]
pub struct Wide([__m512i; LIMBS]);

/// The same limbs of 51 bits in all lanes.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn constant(limbs: [u64; LIMBS]) -> Element {
    assert!(limbs.iter().all(|limb| *limb <= MASK), "limbs have 51 bits");
    let mut all = [_mm512_setzero_si512(); LIMBS];
    for (to, limb) in all.iter_mut().zip(limbs) {
        *to = _mm512_set1_epi64(limb as i64);
    }
    Element(all)
}

/// The product, not carried.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn product(a: &Element, b: &Element) -> Wide {
    let zero = _mm512_setzero_si512();
    // `low[k]` weighs 2^(51 k), `high[k]` twice 2^(51 (k + 1)): a high half is above 52 bits, not 51.
    let (mut low, mut high) = ([zero; 2 * LIMBS], [zero; 2 * LIMBS]);
    for i in 0..LIMBS {
        for j in 0..LIMBS {
            low[i + j] = _mm512_madd52lo_epu64(low[i + j], a.0[i], b.0[j]);
            high[i + j + 1] = _mm512_madd52hi_epu64(high[i + j + 1], a.0[i], b.0[j]);
        }
    }
    let mut out = [zero; LIMBS];
    for (k, to) in out.iter_mut().enumerate() {
        let upper = twice_and(high[k + LIMBS], low[k + LIMBS]);
        // 2^255 is 19: once beside the low halves, twice beside the high ones, and 16 times.
        let once = _mm512_add_epi64(low[k], upper);
        let twice = _mm512_add_epi64(high[k], upper);
        let most = _mm512_slli_epi64::<4>(upper);
        *to = _mm512_add_epi64(twice_and(twice, once), most);
    }
    Wide(out)
}

/// `2 a + b` in 64 bits.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn twice_and(a: __m512i, b: __m512i) -> __m512i {
    _mm512_add_epi64(_mm512_add_epi64(a, a), b)
}

/// The product, tight.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn mul(a: &Element, b: &Element) -> Element {
    carry(&product(a, b))
}

/// Carries once, all limbs at the same time. Tight, from limbs below 2^64.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn carry(a: &Wide) -> Element {
    let mask = _mm512_set1_epi64(MASK as i64);
    let mut out = a.0;
    for (k, to) in out.iter_mut().enumerate() {
        *to = _mm512_and_si512(*to, mask);
        if k > 0 {
            *to = _mm512_add_epi64(*to, _mm512_srli_epi64::<BITS>(a.0[k - 1]));
        }
    }
    // What leaves the top is below 2^13 and counts 19 times; this instruction multiplies and adds.
    let top = _mm512_srli_epi64::<BITS>(a.0[LIMBS - 1]);
    out[0] = _mm512_madd52lo_epu64(out[0], top, _mm512_set1_epi64(19));
    Element(out)
}

/// The sum, not carried: limbs below the sum of the bounds.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn add(a: &Wide, b: &Wide) -> Wide {
    let mut out = a.0;
    for (k, to) in out.iter_mut().enumerate() {
        *to = _mm512_add_epi64(a.0[k], b.0[k]);
    }
    Wide(out)
}

/// The difference plus 2^11 times the prime, not carried: limbs below `a`'s bound plus 2^62. `b`'s are below 2^61.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn sub(a: &Wide, b: &Wide) -> Wide {
    // The least of these limbs, 2^11 * (2^51 - 19), is above 2^61: nothing borrows.
    let first = _mm512_set1_epi64(((MASK - 18) << 11) as i64);
    let other = _mm512_set1_epi64((MASK << 11) as i64);
    let mut out = a.0;
    for (k, to) in out.iter_mut().enumerate() {
        let spare = _mm512_add_epi64(a.0[k], if k == 0 { first } else { other });
        *to = _mm512_sub_epi64(spare, b.0[k]);
    }
    Wide(out)
}

/// Twice the element, not carried.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn twice(a: &Element) -> Wide {
    add(&Wide(a.0), &Wide(a.0))
}

/// The element's limbs as they stand.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn widen(a: &Element) -> Wide {
    Wide(a.0)
}

/// The negative in the lanes of the mask; `a` is tight, so twice the prime is more and the rest below 2^52.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn negate_where(lanes: __mmask8, a: &Element) -> Element {
    let first = _mm512_set1_epi64(((MASK - 18) << 1) as i64);
    let other = _mm512_set1_epi64((MASK << 1) as i64);
    let mut out = a.0;
    for (k, to) in out.iter_mut().enumerate() {
        let twice_prime = if k == 0 { first } else { other };
        *to = _mm512_mask_sub_epi64(a.0[k], lanes, twice_prime, a.0[k]);
    }
    Element(out)
}

/// `b` in the lanes of the mask, `a` in the others.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn choose(lanes: __mmask8, a: &Element, b: &Element) -> Element {
    let mut out = a.0;
    for (k, to) in out.iter_mut().enumerate() {
        *to = _mm512_mask_blend_epi64(lanes, a.0[k], b.0[k]);
    }
    Element(out)
}

/// The element squared `times` times.
#[target_feature(enable = "avx512f,avx512ifma")]
fn squared(a: &Element, times: usize) -> Element {
    let mut out = *a;
    for _ in 0..times {
        out = mul(&out, &out);
    }
    out
}

/// One over each element, by Fermat: its power of 2^255 - 21. Zero stays zero.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn invert(a: &Element) -> Element {
    // `ones(n)` is the power of 2^n - 1.
    let two = mul(a, a);
    let nine = mul(&squared(&two, 2), a);
    let eleven = mul(&nine, &two);
    let ones_5 = mul(&squared(&eleven, 1), &nine);
    let ones_10 = mul(&squared(&ones_5, 5), &ones_5);
    let ones_20 = mul(&squared(&ones_10, 10), &ones_10);
    let ones_40 = mul(&squared(&ones_20, 20), &ones_20);
    let ones_50 = mul(&squared(&ones_40, 10), &ones_10);
    let ones_100 = mul(&squared(&ones_50, 50), &ones_50);
    let ones_200 = mul(&squared(&ones_100, 100), &ones_100);
    let ones_250 = mul(&squared(&ones_200, 50), &ones_50);
    mul(&squared(&ones_250, 5), &eleven)
}

/// One over each element, lane by lane, by one inversion for all of them. None may be zero.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn invert_all(elements: &[Element]) -> Vec<Element> {
    let one = constant([1, 0, 0, 0, 0]);
    // `before[i]` is the product of those before `i`.
    let mut before = Vec::with_capacity(elements.len());
    let mut all = one;
    for element in elements {
        before.push(all);
        all = mul(&all, element);
    }
    let mut rest = invert(&all);
    for (product, element) in before.iter_mut().zip(elements).rev() {
        *product = mul(product, &rest);
        rest = mul(&rest, element);
    }
    before
}

/// Limbs below 2^51 of the one number below the prime. Takes a tight element.
#[target_feature(enable = "avx512f,avx512ifma")]
fn reduced(a: &Element) -> Element {
    let mask = _mm512_set1_epi64(MASK as i64);
    let nineteen = _mm512_set1_epi64(19);
    // A tight element is below twice the prime: it is at least the prime if 19 more carry out of the top.
    let mut carry = nineteen;
    for limb in a.0 {
        carry = _mm512_srli_epi64::<BITS>(_mm512_add_epi64(limb, carry));
    }
    let mut carry = _mm512_madd52lo_epu64(_mm512_setzero_si512(), carry, nineteen);
    let mut out = a.0;
    for limb in &mut out {
        let sum = _mm512_add_epi64(*limb, carry);
        carry = _mm512_srli_epi64::<BITS>(sum);
        *limb = _mm512_and_si512(sum, mask);
    }
    Element(out)
}

/// What eight registers hold, rows for columns: word `i` of row `j` becomes word `j` of row `i`.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
pub fn transpose(rows: &[__m512i; 8]) -> [__m512i; 8] {
    let mut out = *rows;
    for odd in 0..2 {
        let mut pairs = [rows[0]; 4];
        for (k, pair) in pairs.iter_mut().enumerate() {
            let (a, b) = (rows[2 * k], rows[2 * k + 1]);
            *pair = match odd {
                0 => _mm512_unpacklo_epi64(a, b),
                _ => _mm512_unpackhi_epi64(a, b),
            };
        }
        let even_quarters = [
            quarters::<0x88>(pairs[0], pairs[1]),
            quarters::<0x88>(pairs[2], pairs[3]),
        ];
        let odd_quarters = [
            quarters::<0xdd>(pairs[0], pairs[1]),
            quarters::<0xdd>(pairs[2], pairs[3]),
        ];
        out[odd] = quarters::<0x88>(even_quarters[0], even_quarters[1]);
        out[odd + 2] = quarters::<0x88>(odd_quarters[0], odd_quarters[1]);
        out[odd + 4] = quarters::<0xdd>(even_quarters[0], even_quarters[1]);
        out[odd + 6] = quarters::<0xdd>(odd_quarters[0], odd_quarters[1]);
    }
    out
}

/// The even (0x88) or odd (0xdd) quarters of two registers.
#[target_feature(enable = "avx512f,avx512ifma")]
#[inline]
fn quarters<const WHICH: i32>(a: __m512i, b: __m512i) -> __m512i {
    _mm512_shuffle_i64x2::<WHICH>(a, b)
}

/// Eight words of a register.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn words(a: __m512i) -> [u64; 8] {
    let (low, high) = (_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64::<1>(a));
    [
        _mm256_extract_epi64::<0>(low),
        _mm256_extract_epi64::<1>(low),
        _mm256_extract_epi64::<2>(low),
        _mm256_extract_epi64::<3>(low),
        _mm256_extract_epi64::<0>(high),
        _mm256_extract_epi64::<1>(high),
        _mm256_extract_epi64::<2>(high),
        _mm256_extract_epi64::<3>(high),
    ]
    .map(|word| word as u64)
}

/// The numbers below the prime as 32 bytes, lowest first. Takes a tight element.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn to_bytes(a: &Element) -> [[u8; 32]; 8] {
    let reduced = reduced(a);
    let mut out = [[0; 32]; 8];
    let mut limbs = [[0; 8]; LIMBS];
    for (to, limb) in limbs.iter_mut().zip(reduced.0) {
        *to = words(limb);
    }
    for (lane, bytes) in out.iter_mut().enumerate() {
        let [a, b, c, d, e] = limbs.map(|limb| limb[lane]);
        let packed = [
            a | b << 51,
            b >> 13 | c << 38,
            c >> 26 | d << 25,
            d >> 39 | e << 12,
        ];
        for (to, word) in bytes.chunks_exact_mut(8).zip(packed) {
            to.copy_from_slice(&word.to_le_bytes());
        }
    }
    out
}

/// Reads 255 bits of each lane's bytes, lowest first; the 256th is left out.
#[target_feature(enable = "avx512f,avx512ifma")]
pub fn from_bytes(bytes: &[[u8; 32]; 8]) -> Element {
    let mut limbs = [[0i64; 8]; LIMBS];
    for (lane, bytes) in bytes.iter().enumerate() {
        let word = |at: usize| u64::from_le_bytes(*bytes[8 * at..].first_chunk().expect("32 bytes"));
        let [a, b, c, d] = [word(0), word(1), word(2), word(3)];
        let parts = [
            a,
            a >> 51 | b << 13,
            b >> 38 | c << 26,
            c >> 25 | d << 39,
            d >> 12,
        ];
        for (limb, part) in limbs.iter_mut().zip(parts) {
            limb[lane] = (part & MASK) as i64;
        }
    }
    let mut out = [_mm512_setzero_si512(); LIMBS];
    for (to, [a, b, c, d, e, f, g, h]) in out.iter_mut().zip(limbs) {
        *to = _mm512_set_epi64(h, g, f, e, d, c, b, a);
    }
    Element(out)
}

#[cfg(test)]
mod tests {
    use super::super::where_supported;
    use super::*;

    /// A number below 2^256, lowest word first.
    type Number = [u64; 4];
    const PRIME: Number = [u64::MAX - 18, u64::MAX, u64::MAX, u64::MAX >> 1];

    /// A number of any number of words, reduced: 2^256 is 38.
    fn modulo(mut words: Vec<u64>) -> Number {
        while words.len() > 4 {
            let high = words.split_off(4);
            let mut carry = 0u128;
            for at in 0..high.len().max(4) {
                words.resize(words.len().max(at + 1), 0);
                carry += u128::from(words[at]) + 38 * u128::from(high.get(at).copied().unwrap_or(0));
                words[at] = carry as u64;
                carry >>= 64;
            }
            words.push(carry as u64);
            while words.len() > 4 && words.last() == Some(&0) {
                words.pop();
            }
        }
        let mut number: Number = words.try_into().expect("four words");
        while number.iter().rev().ge(PRIME.iter().rev()) {
            let mut borrow = false;
            for (word, prime) in number.iter_mut().zip(PRIME) {
                let (less, first) = word.overflowing_sub(prime);
                let (less, second) = less.overflowing_sub(u64::from(borrow));
                (*word, borrow) = (less, first || second);
            }
        }
        number
    }

    fn plus(a: Number, b: Number) -> Number {
        let mut carry = 0u128;
        let mut sum: Vec<u64> = Vec::new();
        for (a, b) in a.into_iter().zip(b) {
            carry += u128::from(a) + u128::from(b);
            sum.push(carry as u64);
            carry >>= 64;
        }
        sum.push(carry as u64);
        modulo(sum)
    }

    fn times(a: Number, b: Number) -> Number {
        let mut out = vec![0u64; 8];
        for (i, a) in a.into_iter().enumerate() {
            let mut carry = 0u128;
            for (j, b) in b.into_iter().enumerate() {
                carry += u128::from(out[i + j]) + u128::from(a) * u128::from(b);
                out[i + j] = carry as u64;
                carry >>= 64;
            }
            out[i + 4] = carry as u64;
        }
        modulo(out)
    }

    fn negative(a: Number) -> Number {
        times(a, [PRIME[0] - 1, PRIME[1], PRIME[2], PRIME[3]])
    }

    /// What limbs stand for, by Horner's rule.
    fn value(limbs: [u64; LIMBS]) -> Number {
        let step = [1 << BITS, 0, 0, 0];
        let limbs = limbs.into_iter().rev();
        limbs.fold([0; 4], |sum, limb| plus(times(sum, step), [limb, 0, 0, 0]))
    }

    /// Limbs at their bounds, and some that a seed gives.
    fn samples() -> Vec<[u64; LIMBS]> {
        const TIGHT: u64 = (1 << 51) + (1 << 18) - 1;
        const MOST: u64 = (1 << 52) - 1;
        let mut samples = vec![
            [0; LIMBS],
            [1, 0, 0, 0, 0],
            [19, 0, 0, 0, 0],
            [MASK - 19, MASK, MASK, MASK, MASK],
            [MASK - 18, MASK, MASK, MASK, MASK],
            [MASK - 17, MASK, MASK, MASK, MASK],
            [MASK; LIMBS],
            [TIGHT; LIMBS],
            [MOST; LIMBS],
            [MOST, 0, MOST, 0, MOST],
            [0, MOST, 0, MOST, 0],
            [0, 0, 0, 0, MOST],
            [MASK + 1; LIMBS],
        ];
        let mut seed = 0x5eed_u64;
        for at in 0..19 {
            let limbs = [(); LIMBS].map(|()| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
                (seed >> 7) & if at % 2 == 0 { MASK } else { MOST }
            });
            samples.push(limbs);
        }
        samples
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn element(lanes: &[[u64; LIMBS]; 8]) -> Element {
        let mut out = [_mm512_setzero_si512(); LIMBS];
        for (k, to) in out.iter_mut().enumerate() {
            let [a, b, c, d, e, f, g, h] = lanes.map(|limbs| limbs[k] as i64);
            *to = _mm512_set_epi64(h, g, f, e, d, c, b, a);
        }
        Element(out)
    }

    /// Asserts that the element is tight and has these values.
    #[target_feature(enable = "avx512f,avx512ifma")]
    fn assert_is(element: &Element, expected: [Number; 8], what: &str) {
        for limb in element.0 {
            let tight = words(limb).into_iter().all(|limb| limb < (1 << 51) + (1 << 18));
            assert!(tight, "{what} is tight");
        }
        let expected = expected.map(|number| {
            let mut bytes = [0; 32];
            for (to, word) in bytes.chunks_exact_mut(8).zip(number) {
                to.copy_from_slice(&word.to_le_bytes());
            }
            bytes
        });
        assert_eq!(to_bytes(element), expected, "{what}");
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn operations_are_right() {
        let samples = samples();
        for (at, a) in samples.iter().enumerate() {
            for eight in samples.as_chunks::<8>().0 {
                let (a, b) = (&[*a; 8], eight);
                let (first, second) = (element(a), element(b));
                let [a, b] = [a, b].map(|limbs| limbs.map(value));
                let each = |of: fn(Number, Number) -> Number| -> [Number; 8] {
                    std::array::from_fn(|lane| of(a[lane], b[lane]))
                };
                let what = format!("sample {at} beside {eight:x?}");
                assert_is(&mul(&first, &second), each(times), &what);
                assert_is(&mul(&second, &first), each(times), &what);
                let (wide, other) = (widen(&first), widen(&second));
                assert_is(&carry(&add(&wide, &other)), each(plus), &what);
                assert_is(
                    &carry(&sub(&wide, &other)),
                    each(|a, b| plus(a, negative(b))),
                    &what,
                );
                // Products that are not carried before they are added.
                let (square, other) = (product(&first, &first), product(&second, &second));
                let squares = |a, b| plus(times(a, a), negative(times(b, b)));
                assert_is(&carry(&sub(&square, &other)), each(squares), &what);
                let squares = |a, b| plus(times(a, a), times(b, b));
                assert_is(&carry(&add(&square, &other)), each(squares), &what);
                // A number in lanes of the mask only; carried first, for that is what it takes.
                let tight = carry(&widen(&second));
                let negated = mul(&negate_where(0b1010_0110, &tight), &constant([1, 0, 0, 0, 0]));
                let expected = std::array::from_fn(|lane| match 0b1010_0110 >> lane & 1 {
                    1 => negative(b[lane]),
                    _ => b[lane],
                });
                assert_is(&negated, expected, &what);
                let chosen = choose(0b0111_0001, &carry(&widen(&first)), &tight);
                let expected = std::array::from_fn(|lane| match 0b0111_0001 >> lane & 1 {
                    1 => b[lane],
                    _ => a[lane],
                });
                assert_is(&chosen, expected, &what);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn inverses_are_right() {
        let is_zero = |limbs: &[u64; LIMBS]| value(*limbs) == [0; 4];
        let samples: Vec<_> = samples().into_iter().filter(|limbs| !is_zero(limbs)).collect();
        let mut elements = Vec::new();
        for eight in samples.as_chunks::<8>().0 {
            elements.push(element(eight));
        }
        assert!(elements.len() > 2, "an inversion is shared");
        for (one, shared) in elements.iter().zip(invert_all(&elements)) {
            assert_is(&mul(one, &shared), [[1, 0, 0, 0]; 8], "a number by its inverse");
            assert_is(
                &mul(one, &invert(one)),
                [[1, 0, 0, 0]; 8],
                "a number by its inverse",
            );
        }
        assert_is(&invert(&constant([0; LIMBS])), [[0; 4]; 8], "zero stays");
    }

    #[target_feature(enable = "avx512f,avx512ifma")]
    fn rows_and_bytes_come_back() {
        let numbers: [[u64; 8]; 8] = std::array::from_fn(|i| std::array::from_fn(|j| (i * 8 + j) as u64));
        let mut rows = [_mm512_setzero_si512(); 8];
        for (row, [a, b, c, d, e, f, g, h]) in rows.iter_mut().zip(numbers.map(|row| row.map(|n| n as i64))) {
            *row = _mm512_set_epi64(h, g, f, e, d, c, b, a);
        }
        for (i, row) in transpose(&rows).into_iter().enumerate() {
            assert_eq!(words(row), numbers.map(|row| row[i]));
        }
        let bytes: [[u8; 32]; 8] = std::array::from_fn(|i| std::array::from_fn(|j| (i * 37 + j * 11) as u8));
        let without_top = bytes.map(|mut bytes| {
            bytes[31] &= 0x7f;
            bytes
        });
        assert_eq!(to_bytes(&from_bytes(&bytes)), without_top);
    }

    #[test]
    fn operations_equal_those_of_whole_numbers() {
        where_supported(operations_are_right);
    }

    #[test]
    fn a_number_by_its_inverse_is_one() {
        where_supported(inverses_are_right);
    }

    #[test]
    fn what_is_rearranged_comes_back() {
        where_supported(rows_and_bytes_come_back);
    }
}
