//! Attention by AVX-512: all queries that look at the same keys, a page of positions at a time. Not here: who may call.
//!
//! A page's codes are brought into pairs of 16-bit lanes once: of keys, two numbers of one position in a lane and
//! positions side by side; of values, two positions of one number and numbers side by side. Every query then takes a
//! multiplication per pair. Invariant: that of `x86.rs`; a position that a query does not see has weight 0 and is in
//! no maximum, whatever the cache holds there.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "an index that counts in several arrays at once reads better than their zip"
)]

use std::arch::x86_64::*;
use std::cell::RefCell;
use std::ops::Range;

use super::element::{code, load};
use super::math::{canon, exp, soft_cap, store};
use crate::backend::cpu::{self, EXACT};
use crate::backend::vector::{Grid, Group};
use crate::backend::{Heads, PAGE, Place};
use crate::math::{pow2, rcp, wide};

/// Numbers of a head that are brought into lanes at a time.
const PART: usize = 32;
/// Pairs of numbers in a part, and of positions in a page.
const PAIRS: usize = 16;
/// Queries that one multiplication loop takes.
const QUERIES: usize = 4;

/// Thirty-two codes.
#[target_feature(enable = "avx512f")]
#[inline]
fn bytes(codes: &[i8]) -> __m256i {
    assert!(codes.len() >= PART);
    // SAFETY: 32 readable bytes.
    unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) }
}

/// Sums over pairs: of each query's pair times the pairs of the first `HALVES` of two vectors.
#[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
#[inline]
fn dots<const N: usize, const HALVES: usize>(
    pairs: &[[__m512i; 2]],
    queries: [&[i32]; N],
) -> [[__m512i; 2]; N] {
    let queries = queries.map(|query| &query[..pairs.len()]);
    let mut sums = [[_mm512_setzero_si512(); 2]; N];
    for (at, pair) in pairs.iter().enumerate() {
        for n in 0..N {
            let query = _mm512_set1_epi32(queries[n][at]);
            for half in 0..HALVES {
                sums[n][half] = _mm512_dpwssd_epi32(sums[n][half], pair[half], query);
            }
        }
    }
    sums
}

/// Four vectors of rows, in each of their four lanes, to four of columns.
#[target_feature(enable = "avx512f")]
#[inline]
fn turn(rows: [__m512i; 4]) -> [__m512i; 4] {
    let [a, b] = [
        _mm512_unpacklo_epi32(rows[0], rows[1]),
        _mm512_unpackhi_epi32(rows[0], rows[1]),
    ];
    let [c, d] = [
        _mm512_unpacklo_epi32(rows[2], rows[3]),
        _mm512_unpackhi_epi32(rows[2], rows[3]),
    ];
    [
        _mm512_unpacklo_epi64(a, c),
        _mm512_unpackhi_epi64(a, c),
        _mm512_unpacklo_epi64(b, d),
        _mm512_unpackhi_epi64(b, d),
    ]
}

/// A part's numbers of sixteen keys, each `dim` codes after the one before, as pairs in the order of [`query`]:
/// of four numbers the first and third, and the second and fourth.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn sixteen_keys(keys: &[i8], dim: usize, half: usize, out: &mut [[__m512i; 2]]) {
    let two = |at: usize| {
        let [a, b] = [bytes(&keys[at * dim..]), bytes(&keys[(at + 4) * dim..])];
        _mm512_inserti64x4::<1>(_mm512_castsi256_si512(a), b)
    };
    let low = turn([two(0), two(1), two(2), two(3)]);
    let high = turn([two(8), two(9), two(10), two(11)]);
    for at in 0..4 {
        let fours = [
            _mm512_shuffle_i64x2::<0x88>(low[at], high[at]),
            _mm512_shuffle_i64x2::<0xdd>(low[at], high[at]),
        ];
        for (part, four) in fours.into_iter().enumerate() {
            let place = 2 * (4 * part + at);
            out[place][half] = _mm512_srai_epi16::<8>(_mm512_slli_epi16::<8>(four));
            out[place + 1][half] = _mm512_srai_epi16::<8>(four);
        }
    }
}

/// A page's values as pairs of positions, as many as are needed: of each part and pair the numbers 8 j to 8 j + 3, and
/// 8 j + 4 to 8 j + 7.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn page_values(values: &[i8], dim: usize, pairs: usize, out: &mut [[__m512i; 2]]) {
    for part in 0..dim / PART {
        for pair in 0..pairs {
            let wide = |at: usize| _mm512_cvtepi8_epi16(bytes(&values[at * dim + PART * part..]));
            let [a, b] = [wide(2 * pair), wide(2 * pair + 1)];
            out[PAIRS * part + pair] = [_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b)];
        }
    }
}

/// A query's codes as pairs, and what one unit of them counts.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn query(q: &[f32], heads: &Heads, out: &mut [i32]) -> f32 {
    let unit = cpu::unit(cpu::most(q), heads.profile);
    let scale = _mm512_set1_ps(pow2(-unit));
    for part in 0..q.len() / PART {
        let half = |at: usize| _mm512_cvtepi32_epi16(code(load(&q[PART * part + at..]), scale));
        let all = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(0)), half(16));
        let all = _mm512_shufflehi_epi16::<0xd8>(_mm512_shufflelo_epi16::<0xd8>(all));
        let out = &mut out[PAIRS * part..][..PAIRS];
        // SAFETY: sixteen numbers are 64 writable bytes.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), all) };
    }
    cpu::step(unit, heads)
}

/// [`cpu::score`] of sixteen dot products.
#[target_feature(enable = "avx512f")]
#[inline]
fn score(dots: __m512i, scales: &[f32], step: f32, heads: &Heads) -> __m512 {
    let score = canon(_mm512_mul_ps(_mm512_cvtepi32_ps(dots), load(scales)));
    let score = canon(_mm512_mul_ps(score, _mm512_set1_ps(step)));
    match heads.cap == 0.0 {
        true => score,
        false => soft_cap(score, heads.cap, 2.0 / heads.cap),
    }
}

/// The positions of a page that a row sees, a bit each.
fn seen(place: &Place, page: usize) -> u32 {
    let below = |position: u32| {
        let count = (position as usize).saturating_sub(page * PAGE).min(PAGE);
        ((1_u64 << count) - 1) as u32
    };
    below(place.to) & !below(place.from)
}

/// The pages that places see any of.
fn pages(places: &[Place]) -> Range<usize> {
    let from = places.iter().map(|place| place.from).min().unwrap_or(0);
    let to = places.iter().map(|place| place.to).max().unwrap_or(0);
    from as usize / PAGE..(to as usize).div_ceil(PAGE)
}

/// What a group of queries needs on the way; kept by each thread for its next one.
#[derive(Default)]
struct Scratch {
    /// Per query its codes, in pairs.
    codes: Vec<i32>,
    /// Per query what one unit of its codes counts.
    steps: Vec<f32>,
    /// Per query and position.
    scores: Vec<f32>,
    /// Per query and pair of positions.
    weights: Vec<i32>,
    /// Per query the sum of weights, and the largest scale of a value.
    totals: Vec<(i64, f32)>,
    /// Keys or values of a page.
    pairs: Vec<[__m512i; 2]>,
    /// Per query and part: the sum of up to [`EXACT`] positions, and of those before in units of 2^15, and the rest.
    sums: Vec<[[__m512i; 2]; 3]>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// A group at work.
struct Work<'a> {
    group: &'a Group<'a>,
    /// Pages that some query sees.
    pages: Range<usize>,
    /// Queries: each row's, one head after the other.
    count: usize,
    scratch: Scratch,
}

impl Work<'_> {
    /// The place of a query's row.
    fn place(&self, query: usize) -> &Place {
        &self.group.places[query / self.group.heads_per_key()]
    }

    /// The first vector of a page in the cache.
    fn at(&self, page: usize) -> usize {
        let Group {
            cache,
            layer,
            head,
            table,
            ..
        } = *self.group;
        cache.at(layer, head, table, page * PAGE)
    }

    /// Where a query's sixteen pairs of a page are among all.
    fn spot(&self, query: usize, page: usize) -> usize {
        PAIRS * (query * self.pages.len() + page - self.pages.start)
    }

    /// Quantises the queries and makes room.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn begin(&mut self) {
        let (dim, per) = (self.group.heads.dim, self.group.heads_per_key());
        let scratch = &mut self.scratch;
        let places = self.count * self.pages.len();
        scratch.codes.resize(self.count * dim / 2, 0);
        scratch.steps.resize(self.count, 0.0);
        // These are read only where they were written, so what they held does not matter.
        scratch
            .scores
            .resize((places * PAGE).max(scratch.scores.len()), 0.0);
        scratch
            .weights
            .resize((places * PAIRS).max(scratch.weights.len()), 0);
        scratch.totals.resize(self.count, (0, 0.0));
        let none = [_mm512_setzero_si512(); 2];
        scratch.pairs.resize(dim / PART * PAIRS, none);
        scratch.sums.clear();
        scratch.sums.resize(self.count * dim / PART, [none; 3]);
        for at in 0..self.count {
            let q = self.group.query(at / per, at % per);
            scratch.steps[at] = query(q, self.group.heads, &mut scratch.codes[at * dim / 2..][..dim / 2]);
        }
    }

    /// The first queries, at most [`QUERIES`], from `at` on; `None` if none of them sees anything of the page.
    fn next(&self, at: usize, page: usize) -> (usize, bool) {
        let count = (self.count - at).min(QUERIES);
        (count, (at..at + count).any(|at| seen(self.place(at), page) != 0))
    }

    /// Positions of a page up to the last that any query sees.
    fn length(&self, page: usize) -> usize {
        let bits = self
            .group
            .places
            .iter()
            .fold(0, |bits, place| bits | seen(place, page));
        (u32::BITS - bits.leading_zeros()) as usize
    }

    /// Scores of all queries at the positions of a page.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn score(&mut self, page: usize) {
        let (dim, first) = (self.group.heads.dim, self.at(page));
        let keys = &self.group.cache.keys[first * dim..][..PAGE * dim];
        let both = self.length(page) > PAGE / 2;
        for part in 0..dim / PART {
            for half in 0..1 + usize::from(both) {
                let keys = &keys[PAGE / 2 * half * dim + PART * part..];
                sixteen_keys(keys, dim, half, &mut self.scratch.pairs[PAIRS * part..][..PAIRS]);
            }
        }
        let mut at = 0;
        while at < self.count {
            let (count, sees) = self.next(at, page);
            match (count, both) {
                _ if !sees => {}
                (4, true) => self.scores::<4, 2>(at, page, first),
                (3, true) => self.scores::<3, 2>(at, page, first),
                (2, true) => self.scores::<2, 2>(at, page, first),
                (_, true) => self.scores::<1, 2>(at, page, first),
                (4, false) => self.scores::<4, 1>(at, page, first),
                (3, false) => self.scores::<3, 1>(at, page, first),
                (2, false) => self.scores::<2, 1>(at, page, first),
                (_, false) => self.scores::<1, 1>(at, page, first),
            }
            at += count;
        }
    }

    /// Scores of `N` queries.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn scores<const N: usize, const HALVES: usize>(&mut self, at: usize, page: usize, first: usize) {
        let heads = self.group.heads;
        let spots: [usize; N] = std::array::from_fn(|n| self.spot(at + n, page));
        let Scratch {
            codes,
            steps,
            scores,
            pairs,
            ..
        } = &mut self.scratch;
        let sums = dots::<N, HALVES>(pairs, std::array::from_fn(|n| &codes[(at + n) * heads.dim / 2..]));
        let scales = &self.group.cache.key_scales[first..][..PAGE];
        for n in 0..N {
            for half in 0..HALVES {
                let values = score(sums[n][half], &scales[16 * half..], steps[at + n], heads);
                store(&mut scores[2 * spots[n] + 16 * half..], values);
            }
        }
    }

    /// A query's weights from its scores: [`cpu::weigh`] of each position.
    #[target_feature(enable = "avx512f,avx512bw")]
    fn weigh(&mut self, query: usize) {
        const DOWN: i32 = _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC;
        let place = *self.place(query);
        let (mut top, mut most) = (_mm512_set1_ps(f32::MIN), _mm512_setzero_ps());
        let own = pages(&[place]);
        for page in own.clone() {
            let (spot, first, bits) = (2 * self.spot(query, page), self.at(page), seen(&place, page));
            for half in 0..2 {
                let mask = (bits >> (16 * half)) as u16;
                let scores = load(&self.scratch.scores[spot + 16 * half..]);
                top = _mm512_mask_max_ps(top, mask, top, scores);
                let scales = load(&self.group.cache.value_scales[first + 16 * half..]);
                most = _mm512_mask_max_ps(most, mask, most, scales);
            }
        }
        let top = _mm512_set1_ps(_mm512_reduce_max_ps(top));
        let most = _mm512_reduce_max_ps(most);
        let inverse = _mm512_set1_ps(rcp(most));
        let [half_one, one] = [0.5, cpu::WEIGHT_ONE].map(|v| _mm512_set1_ps(v));
        let mut total = 0;
        for page in own {
            let (spot, first, bits) = (self.spot(query, page), self.at(page), seen(&place, page));
            let mut sum = _mm512_setzero_si512();
            let mut weights = [_mm256_setzero_si256(); 2];
            for half in 0..2 {
                let mask = (bits >> (16 * half)) as u16;
                let scores = load(&self.scratch.scores[2 * spot + 16 * half..]);
                // What would not be on the grid here gives the same weights: differences too small for it e^ 1, too
                // large ones 0, and a share too small for it a weight of 0.
                let e = _mm512_mul_ps(exp(_mm512_sub_ps(scores, top)), one);
                let scales = load(&self.group.cache.value_scales[first + 16 * half..]);
                let w = _mm512_mul_ps(e, _mm512_mul_ps(scales, inverse));
                let p = _mm512_maskz_cvt_roundps_epi32::<DOWN>(mask, _mm512_add_ps(e, half_one));
                let w = _mm512_maskz_cvt_roundps_epi32::<DOWN>(mask, _mm512_add_ps(w, half_one));
                sum = _mm512_add_epi32(sum, p);
                weights[half] = _mm512_cvtepi32_epi16(w);
            }
            total += i64::from(_mm512_reduce_add_epi32(sum));
            let both = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(weights[0]), weights[1]);
            let out = &mut self.scratch.weights[spot..][..PAIRS];
            // SAFETY: sixteen numbers are 64 writable bytes.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), both) };
        }
        self.scratch.totals[query] = (total, most);
    }

    /// Adds the weighted values of a page to the sums of all queries.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    fn add(&mut self, page: usize) {
        let dim = self.group.heads.dim;
        let values = &self.group.cache.values[self.at(page) * dim..][..PAGE * dim];
        let pairs = self.length(page).div_ceil(2);
        page_values(values, dim, pairs, &mut self.scratch.pairs);
        let mut at = 0;
        while at < self.count {
            let (count, sees) = self.next(at, page);
            match count {
                _ if !sees => {}
                4 => self.added::<4>(at, page, pairs),
                3 => self.added::<3>(at, page, pairs),
                2 => self.added::<2>(at, page, pairs),
                _ => self.added::<1>(at, page, pairs),
            }
            at += count;
        }
    }

    /// Adds to the sums of `N` queries, those that see nothing of the page excepted.
    #[target_feature(enable = "avx512f,avx512bw,avx512vnni")]
    #[inline]
    fn added<const N: usize>(&mut self, at: usize, page: usize, pairs: usize) {
        let parts = self.group.heads.dim / PART;
        let spots: [usize; N] = std::array::from_fn(|n| self.spot(at + n, page));
        let sees: [bool; N] = std::array::from_fn(|n| seen(self.place(at + n), page) != 0);
        let scratch = &mut self.scratch;
        for part in 0..parts {
            let values = &scratch.pairs[PAIRS * part..][..pairs];
            let new = dots::<N, 2>(values, spots.map(|spot| &scratch.weights[spot..]));
            for n in (0..N).filter(|n| sees[*n]) {
                let [sums, ..] = &mut scratch.sums[(at + n) * parts + part];
                for half in 0..2 {
                    sums[half] = _mm512_add_epi32(sums[half], new[n][half]);
                }
            }
        }
    }

    /// Moves the sums to those of positions before, before they could overflow.
    #[target_feature(enable = "avx512f")]
    fn flush(&mut self) {
        for [sums, many, rest] in &mut self.scratch.sums {
            for half in 0..2 {
                many[half] = _mm512_add_epi32(many[half], _mm512_srai_epi32::<15>(sums[half]));
                rest[half] = _mm512_add_epi32(
                    rest[half],
                    _mm512_and_si512(sums[half], _mm512_set1_epi32(0x7fff)),
                );
                sums[half] = _mm512_setzero_si512();
            }
        }
    }

    /// [`cpu::finish`] of a query.
    #[target_feature(enable = "avx512f")]
    fn finish(&self, query: usize, out: &Grid<'_>) {
        let (dim, per) = (self.group.heads.dim, self.group.heads_per_key());
        let (total, most) = self.scratch.totals[query];
        let [inverse, most, many] = [rcp(wide(total)), most, 32768.0].map(|v| _mm512_set1_ps(v));
        let order = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
        let next = _mm512_add_epi32(order, _mm512_set1_epi32(8));
        let from = (self.group.head * per + query % per) * dim;
        for part in 0..dim / PART {
            let [_, above, rest] = self.scratch.sums[query * (dim / PART) + part];
            let value = |half: usize| {
                let above = _mm512_add_epi32(above[half], _mm512_srai_epi32::<15>(rest[half]));
                let rest = _mm512_and_si512(rest[half], _mm512_set1_epi32(0x7fff));
                let above = _mm512_mul_ps(_mm512_cvtepi32_ps(above), many);
                let sum = _mm512_add_ps(above, _mm512_cvtepi32_ps(rest));
                canon(_mm512_mul_ps(canon(_mm512_mul_ps(sum, inverse)), most))
            };
            let [low, high] = [value(0), value(1)];
            let row = self.group.first + query / per;
            let both = [
                _mm512_permutex2var_ps(low, order, high),
                _mm512_permutex2var_ps(low, next, high),
            ];
            out.put(row, from + PART * part, 16, both[0]);
            out.put(row, from + PART * part + 16, 16, both[1]);
        }
    }
}

/// [`cpu::attend`] of a group of queries, each of which sees a position at least; heads are of whole parts.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2")]
pub fn attend(group: &Group<'_>, out: &Grid<'_>) {
    assert!(group.heads.dim.is_multiple_of(PART) && group.places.iter().all(|place| place.from < place.to));
    let mut work = Work {
        group,
        pages: pages(group.places),
        count: group.places.len() * group.heads_per_key(),
        scratch: SCRATCH.take(),
    };
    work.begin();
    for page in work.pages.clone() {
        work.score(page);
    }
    for query in 0..work.count {
        work.weigh(query);
    }
    for (at, page) in work.pages.clone().enumerate() {
        if at > 0 && at % (EXACT / PAGE) == 0 {
            work.flush();
        }
        work.add(page);
    }
    work.flush();
    for query in 0..work.count {
        work.finish(query, out);
    }
    SCRATCH.set(work.scratch);
}

/// [`cpu::put`] of whole sixteens.
#[target_feature(enable = "avx512f")]
pub fn put(codes: &mut [i8], x: &[f32]) -> f32 {
    assert!(x.len().is_multiple_of(16) && codes.len() == x.len());
    let size = _mm512_set1_epi32(0x7fff_ffff);
    let mut most = _mm512_setzero_si512();
    for x in x.chunks_exact(16) {
        most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_castps_si512(load(x)), size));
    }
    let scale = cpu::cache_scale(_mm512_reduce_max_epi32(most) as u32);
    let inverse = _mm512_set1_ps(rcp(scale));
    for (codes, x) in codes.chunks_exact_mut(16).zip(x.chunks_exact(16)) {
        let values = _mm512_cvtepi32_epi8(code(load(x), inverse));
        // SAFETY: sixteen writable bytes.
        unsafe { _mm_storeu_si128(codes.as_mut_ptr().cast(), values) };
    }
    scale
}
