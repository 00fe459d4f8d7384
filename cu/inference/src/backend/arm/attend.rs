//! Attention by NEON: a query at a time, a page of positions after the other. Not here: who may call, functions of single
//! numbers (the definition's, in loops that the compiler makes vectors of). Invariant: that of `arm.rs`; a position
//! that a query does not see has weight 0 and is in no maximum, whatever the cache holds there.
#![allow(unsafe_code, reason = "loads and stores of vector registers")]
#![allow(
    clippy::needless_range_loop,
    reason = "closures and iterators are not compiled for vector units here"
)]

use std::arch::aarch64::*;
use std::ops::Range;

use super::dot::sdot;
use super::element::{FOUR, bytes, codes};
use crate::Profile;
use crate::backend::cpu::{self, EXACT};
use crate::backend::vector::{Grid, Group, Level};
use crate::backend::{Heads, PAGE, Place};
use crate::math::{pow2, rcp};

/// Numbers of a head that are multiplied at a time.
pub const PART: usize = 16;
/// Positions whose weights share a register.
const EIGHT: usize = 8;

/// The sums of the lanes of four vectors.
#[target_feature(enable = "neon")]
#[inline]
fn totals(sums: [int32x4_t; FOUR]) -> int32x4_t {
    vpaddq_s32(vpaddq_s32(sums[0], sums[1]), vpaddq_s32(sums[2], sums[3]))
}

/// Sixteen codes of a vector of a page, each `dim` codes after the one before.
///
/// # Safety
/// The vector and these codes of it are there.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load(codes: &[i8], dim: usize, vector: usize, part: usize) -> int8x16_t {
    debug_assert!((part + 1) * PART <= dim && (vector + 1) * dim <= codes.len());
    // SAFETY: sixteen readable bytes, as the caller says.
    unsafe { vld1q_s8(codes.as_ptr().add(vector * dim + PART * part)) }
}

/// A query's codes, a part each.
struct Query {
    /// As numbers of 16 bits.
    codes: Vec<[int16x8_t; 2]>,
    /// Their high and low bytes.
    bytes: Vec<[int8x16_t; 2]>,
    /// What one unit of them counts in scores.
    step: f32,
}

impl Query {
    #[target_feature(enable = "neon")]
    fn new(q: &[f32], group: &Group<'_>) -> Query {
        let unit = cpu::unit(cpu::most(q), group.heads.profile);
        let parts = q.chunks_exact(PART);
        let codes: Vec<_> = parts
            .map(|part| [0, 8].map(|at| codes(&part[at..], pow2(-unit))))
            .collect();
        Query {
            bytes: codes.iter().map(|codes| bytes(*codes)).collect(),
            codes,
            step: cpu::step(unit, group.heads),
        }
    }

    /// Dot products with four keys, which stand one after the other.
    #[target_feature(enable = "neon")]
    #[inline]
    fn dots(&self, keys: &[i8]) -> int32x4_t {
        let dim = PART * self.codes.len();
        assert!(keys.len() >= FOUR * dim);
        let mut sums = [vdupq_n_s32(0); FOUR];
        for (part, codes) in self.codes.iter().enumerate() {
            for at in 0..FOUR {
                // SAFETY: there are four keys, of as many parts as the query has.
                let key = unsafe { load(keys, dim, at, part) };
                let key = [vmovl_s8(vget_low_s8(key)), vmovl_high_s8(key)];
                for half in 0..2 {
                    let low = [key[half], codes[half]].map(|codes| vget_low_s16(codes));
                    sums[at] = vmlal_s16(sums[at], low[0], low[1]);
                    sums[at] = vmlal_high_s16(sums[at], key[half], codes[half]);
                }
            }
        }
        totals(sums)
    }

    /// The same by dot products of bytes; those above are zero unless the codes are `WIDE`.
    #[target_feature(enable = "neon,dotprod")]
    #[inline]
    fn byte_dots<const WIDE: bool>(&self, keys: &[i8]) -> int32x4_t {
        let dim = PART * self.bytes.len();
        assert!(keys.len() >= FOUR * dim);
        let (mut high, mut low) = ([vdupq_n_s32(0); FOUR], [vdupq_n_s32(0); FOUR]);
        for (part, bytes) in self.bytes.iter().enumerate() {
            for at in 0..FOUR {
                // SAFETY: as above.
                let key = unsafe { load(keys, dim, at, part) };
                if WIDE {
                    high[at] = sdot(high[at], key, bytes[0]);
                }
                low[at] = sdot(low[at], key, bytes[1]);
            }
        }
        vaddq_s32(vshlq_n_s32::<8>(totals(high)), totals(low))
    }
}

/// Dot products of a query with some keys of a page, in whole fours.
#[target_feature(enable = "neon")]
#[inline]
fn page_dots(query: &Query, keys: &[i8], fours: Range<usize>, out: &mut [i32; PAGE]) {
    let dim = PART * query.codes.len();
    for at in fours.step_by(FOUR) {
        let out: &mut [i32] = &mut out[at..][..FOUR];
        // SAFETY: four writable numbers.
        unsafe { vst1q_s32(out.as_mut_ptr(), query.dots(&keys[at * dim..])) };
    }
}

/// The same by dot products of bytes.
#[target_feature(enable = "neon,dotprod")]
fn page_byte_dots<const WIDE: bool>(query: &Query, keys: &[i8], fours: Range<usize>, out: &mut [i32; PAGE]) {
    let dim = PART * query.codes.len();
    for at in fours.step_by(FOUR) {
        let out: &mut [i32] = &mut out[at..][..FOUR];
        // SAFETY: four writable numbers.
        unsafe { vst1q_s32(out.as_mut_ptr(), query.byte_dots::<WIDE>(&keys[at * dim..])) };
    }
}

/// The largest of some numbers on the grid.
#[target_feature(enable = "neon")]
fn largest(values: &[f32], least: f32) -> f32 {
    let (fours, rest) = values.as_chunks::<FOUR>();
    let mut most = vdupq_n_f32(least);
    for four in fours {
        // SAFETY: four readable numbers.
        most = vmaxq_f32(most, unsafe { vld1q_f32(four.as_ptr()) });
    }
    rest.iter().fold(vmaxvq_f32(most), |most, v| most.max(*v))
}

/// Adds the part of a position's value times weight `AT` of eight.
#[target_feature(enable = "neon")]
#[inline]
fn weighted<const AT: i32>(sums: &mut [int32x4_t; 4], value: int8x16_t, weights: int16x8_t) {
    let wide = [vmovl_s8(vget_low_s8(value)), vmovl_high_s8(value)];
    for half in 0..2 {
        let low = vget_low_s16(wide[half]);
        sums[2 * half] = vmlal_laneq_s16::<AT>(sums[2 * half], low, weights);
        sums[2 * half + 1] = vmlal_high_laneq_s16::<AT>(sums[2 * half + 1], wide[half], weights);
    }
}

/// Adds the weighted values of some positions of a page, in whole eights, to the sums.
#[target_feature(enable = "neon")]
fn add(values: &[i8], weights: &[i16; PAGE], eights: Range<usize>, sums: &mut [i32]) {
    let dim = sums.len();
    assert!(values.len() >= PAGE * dim && eights.end <= PAGE);
    for (part, sums) in sums.chunks_exact_mut(PART).enumerate() {
        let mut all = [vdupq_n_s32(0); 4];
        for at in 0..4 {
            // SAFETY: four readable numbers from there on, of sixteen.
            all[at] = unsafe { vld1q_s32(sums[4 * at..].as_ptr()) };
        }
        for position in eights.clone().step_by(EIGHT) {
            let some: &[i16] = &weights[position..][..EIGHT];
            // SAFETY: eight readable numbers.
            let some = unsafe { vld1q_s16(some.as_ptr()) };
            // SAFETY: eight positions of the page from there on.
            let value = |at: usize| unsafe { load(values, dim, position + at, part) };
            weighted::<0>(&mut all, value(0), some);
            weighted::<1>(&mut all, value(1), some);
            weighted::<2>(&mut all, value(2), some);
            weighted::<3>(&mut all, value(3), some);
            weighted::<4>(&mut all, value(4), some);
            weighted::<5>(&mut all, value(5), some);
            weighted::<6>(&mut all, value(6), some);
            weighted::<7>(&mut all, value(7), some);
        }
        for at in 0..4 {
            // SAFETY: four writable numbers from there on, of sixteen.
            unsafe { vst1q_s32(sums[4 * at..].as_mut_ptr(), all[at]) };
        }
    }
}

/// Pages of which a place sees some positions, and which.
#[target_feature(enable = "neon")]
fn pages(place: &Place) -> impl Iterator<Item = (usize, Range<usize>)> + use<> {
    let (from, to) = (place.from as usize, place.to as usize);
    (from / PAGE..to.div_ceil(PAGE)).map(move |page| {
        let start = page * PAGE;
        (page, from.saturating_sub(start)..(to - start).min(PAGE))
    })
}

/// Positions in whole runs of some.
#[target_feature(enable = "neon")]
fn whole(seen: &Range<usize>, run: usize) -> Range<usize> {
    seen.start / run * run..seen.end.next_multiple_of(run)
}

/// Scores from dot products and the scales of keys: [`cpu::score`] of each. Like what follows no function of vector
/// instructions, for those do not take iterators in.
fn scores(dots: &[i32], scales: &[f32], step: f32, heads: &Heads, out: &mut [f32]) {
    for ((out, dot), scale) in out.iter_mut().zip(dots).zip(scales) {
        *out = cpu::score(*dot, *scale, step, heads);
    }
}

/// Weights of positions from their scores and the scales of values, and their sum in the total: [`cpu::weigh`] of each;
/// `top` is the largest score, `inverse` that of the largest scale.
fn weights(scores: &[f32], scales: &[f32], (top, inverse): (f32, f32), out: &mut [i16]) -> i64 {
    let mut total = 0;
    for ((out, score), scale) in out.iter_mut().zip(scores).zip(scales) {
        let [p, w] = cpu::weigh(*score, top, *scale, inverse);
        total += p;
        *out = w as i16;
    }
    i64::from(total)
}

/// Moves the sums of some positions to those of positions before, before they could overflow.
fn flush(part: &mut [i32], sums: &mut [i64]) {
    for (sum, part) in sums.iter_mut().zip(part) {
        *sum += i64::from(std::mem::take(part));
    }
}

/// A group at work.
struct Work<'a> {
    group: &'a Group<'a>,
    level: Level,
    /// Per page and position that a query sees.
    scores: Vec<f32>,
    /// Of up to [`EXACT`] positions.
    part: Vec<i32>,
    sums: Vec<i64>,
    values: Vec<f32>,
}

impl Work<'_> {
    /// The first vector of a page in the cache.
    #[target_feature(enable = "neon")]
    fn at(&self, page: usize) -> usize {
        let group = self.group;
        group.cache.at(group.layer, group.head, group.table, page * PAGE)
    }

    /// Scores of all positions seen.
    #[target_feature(enable = "neon")]
    fn score(&mut self, query: &Query, place: &Place) {
        let (heads, cache) = (self.group.heads, self.group.cache);
        self.scores.clear();
        for (page, seen) in pages(place) {
            let first = self.at(page);
            let keys = &cache.keys[first * heads.dim..][..PAGE * heads.dim];
            let (mut dots, fours) = ([0; PAGE], whole(&seen, FOUR));
            match (self.level, heads.profile) {
                (Level::Dotprod, Profile::A16) => {
                    // SAFETY: the level was checked when it was made.
                    unsafe { page_byte_dots::<true>(query, keys, fours, &mut dots) }
                }
                (Level::Dotprod, Profile::A8) => {
                    // SAFETY: as above.
                    unsafe { page_byte_dots::<false>(query, keys, fours, &mut dots) }
                }
                _ => page_dots(query, keys, fours, &mut dots),
            }
            let (scales, done) = (&cache.key_scales[first..][seen.clone()], self.scores.len());
            self.scores.resize(done + seen.len(), 0.0);
            scores(&dots[seen], scales, query.step, heads, &mut self.scores[done..]);
        }
    }

    /// The largest scale of the values seen.
    #[target_feature(enable = "neon")]
    fn largest_scale(&self, place: &Place) -> f32 {
        let mut most = 0;
        for (page, seen) in pages(place) {
            // Scales are positive, so the order of their bits is theirs.
            let scales = &self.group.cache.value_scales[self.at(page)..][seen];
            most = most.max(cpu::most(scales));
        }
        f32::from_bits(most)
    }

    /// Weighs the values of all positions seen: [`cpu::attend`] from the scores on.
    #[target_feature(enable = "neon")]
    fn weigh(&mut self, place: &Place) {
        let (dim, cache) = (self.group.heads.dim, self.group.cache);
        let (top, most) = (largest(&self.scores, f32::MIN), self.largest_scale(place));
        let bounds = (top, rcp(most));
        let (mut total, mut done) = (0, 0);
        self.sums.fill(0);
        for (count, (page, seen)) in pages(place).enumerate() {
            if count % (EXACT / PAGE) == 0 {
                flush(&mut self.part, &mut self.sums);
            }
            let first = self.at(page);
            let scales = &cache.value_scales[first..][seen.clone()];
            let (eights, mut own) = (whole(&seen, EIGHT), [0; PAGE]);
            let scores = &self.scores[done..][..seen.len()];
            total += weights(scores, scales, bounds, &mut own[seen]);
            done += scores.len();
            add(
                &cache.values[first * dim..][..PAGE * dim],
                &own,
                eights,
                &mut self.part,
            );
        }
        flush(&mut self.part, &mut self.sums);
        cpu::finish(&self.sums, total, most, &mut self.values);
    }
}

/// [`cpu::attend`] of a group of queries, each of which sees a position at least; heads are of whole parts.
#[target_feature(enable = "neon")]
pub fn attend(group: &Group<'_>, level: Level, out: &Grid<'_>) {
    let dim = group.heads.dim;
    assert!(dim.is_multiple_of(PART) && group.places.iter().all(|place| place.from < place.to));
    let mut work = Work {
        group,
        level,
        scores: vec![],
        part: vec![0; dim],
        sums: vec![0; dim],
        values: vec![0.0; dim],
    };
    for (row, place) in group.places.iter().enumerate() {
        for head in 0..group.heads_per_key() {
            work.score(&Query::new(group.query(row, head), group), place);
            work.weigh(place);
            out.set(group.first + row, group.column(head), &work.values);
        }
    }
}
