//! The definition's operators compiled for the vector units that a processor turns out to have.
//!
//! Not here: what the operators mean (`cpu.rs`), dot products by hand (`x86.rs`, `arm.rs`). Invariant: a level is used
//! only where the processor has its instructions, and no level differs from the definition in a bit.
#![allow(
    unsafe_code,
    reason = "vector instructions are called after the processor was asked whether it has them"
)]

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Range;

use crate::Profile;
#[cfg(target_arch = "aarch64")]
use crate::backend::arm;
use crate::backend::cpu;
#[cfg(target_arch = "x86_64")]
use crate::backend::pack::few_tokens;
use crate::backend::pack::{Filling, Lanes, Packed, TILE};
use crate::backend::rows::{Acts, Rows};
#[cfg(target_arch = "x86_64")]
use crate::backend::x86;
use crate::backend::{Activation, Batch, CacheShape, Heads, PAGE, Place};
use crate::math::canon;
use crate::rope::Pairs;
#[cfg(target_arch = "x86_64")]
use crate::weight::BLOCK;

/// Instructions that may be used: of the architecture that this was compiled for, each level with those of the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor has: the definition as it stands.
    Scalar,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with VNNI.
    #[cfg(target_arch = "x86_64")]
    Vnni,
    /// The same with AMX for many tokens at once.
    #[cfg(target_arch = "x86_64")]
    Amx,
    /// NEON, which every processor of 64 bits has.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// The same with dot products of bytes.
    #[cfg(target_arch = "aarch64")]
    Dotprod,
}

impl Level {
    /// All levels, plainest first.
    pub const ALL: &[Level] = &[
        Level::Scalar,
        #[cfg(target_arch = "x86_64")]
        Level::Avx2,
        #[cfg(target_arch = "x86_64")]
        Level::Vnni,
        #[cfg(target_arch = "x86_64")]
        Level::Amx,
        #[cfg(target_arch = "aarch64")]
        Level::Neon,
        #[cfg(target_arch = "aarch64")]
        Level::Dotprod,
    ];

    /// The best this processor has.
    #[cfg(target_arch = "x86_64")]
    pub fn best() -> Level {
        let vnni = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vnni")
            && is_x86_feature_detected!("avx2");
        match (vnni, is_x86_feature_detected!("avx2")) {
            (true, _) if x86::amx::lent() => Level::Amx,
            (true, _) => Level::Vnni,
            (false, true) => Level::Avx2,
            _ => Level::Scalar,
        }
    }

    /// The best this processor has.
    #[cfg(target_arch = "aarch64")]
    pub fn best() -> Level {
        match std::arch::is_aarch64_feature_detected!("dotprod") {
            // Codes are read as the bytes that lie in memory, lowest first.
            _ if cfg!(target_endian = "big") => Level::Scalar,
            true => Level::Dotprod,
            false => Level::Neon,
        }
    }

    /// The best this processor has.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    pub fn best() -> Level {
        Level::Scalar
    }

    /// Whether activations are laid out in lanes.
    fn has_lanes(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Level::Vnni | Level::Amx => true,
            #[cfg(target_arch = "aarch64")]
            Level::Dotprod => true,
            _ => false,
        }
    }

    /// Whether a matrix unit multiplies tiles of sixteen tokens.
    fn has_unit(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self == Level::Amx;
        #[cfg(not(target_arch = "x86_64"))]
        false
    }
}

/// Compiles a function of the definition once per level whose instructions not every processor of its architecture has.
/// The level was checked when it was made: `Host` takes none above [`Level::best`].
macro_rules! levels {
    ($(#[$doc:meta])* $name:ident($($arg:ident: $type:ty),*) $(-> $out:ty)? { $body:expr }) => {
        $(#[$doc])*
        pub fn $name(level: Level, $($arg: $type),*) $(-> $out)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2")]
            fn avx2($($arg: $type),*) $(-> $out)? { $body }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl,avx512dq")]
            fn avx512($($arg: $type),*) $(-> $out)? { $body }
            debug_assert!(level <= Level::best());
            match level {
                // SAFETY: a level above Scalar exists only where the processor has these instructions.
                #[cfg(target_arch = "x86_64")]
                Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                Level::Vnni | Level::Amx => unsafe { avx512($($arg),*) },
                _ => $body,
            }
        }
    };
}

levels! {
    /// [`cpu::quantise`].
    quantise_plain(x: &[f32], cols: usize, profile: Profile) -> cpu::Acts { cpu::quantise(x, cols, profile) }
}
levels! {
    /// [`cpu::rms_norm`] of any length.
    rms_norm_any(x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) { cpu::rms_norm(x, gain, eps, out) }
}
levels! {
    /// [`cpu::layer_norm`] of any length.
    layer_norm_any(x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
        cpu::layer_norm(x, gain, bias, eps, out)
    }
}
levels! {
    /// [`cpu::activate`] of any function.
    activate_any(f: Activation, x: &mut [f32]) { cpu::activate(f, x) }
}
levels! {
    /// [`cpu::gate`] of any function.
    gate_any(f: Activation, x: &mut [f32], up: &[f32]) { cpu::gate(f, x, up) }
}
levels! {
    /// [`cpu::attend`] of any head.
    attend_any(q: &[f32], cache: &cpu::Cache, seen: &[usize], heads: &Heads, out: &mut [f32]) {
        cpu::attend(q, cache, seen, heads, out)
    }
}
levels! {
    /// [`cpu::put`] of any length.
    put_any(codes: &mut [i8], x: &[f32]) -> f32 { cpu::put(codes, x) }
}
levels! {
    /// x += y.
    add(x: &mut [f32], y: &[f32]) { x.iter_mut().zip(y).for_each(|(x, y)| *x = canon(*x + y)) }
}
levels! {
    /// [`cpu::rotate`] of a head of any size.
    rotate_any(head: &mut [f32], angles: &[f32], pairs: Pairs) { cpu::rotate(head, angles, pairs) }
}
levels! {
    /// [`crate::math::soft_cap`] of any number of numbers.
    soft_cap_any(x: &mut [f32], cap: f32) {
        x.iter_mut().for_each(|x| *x = crate::math::soft_cap(*x, cap, 2.0 / cap))
    }
}

/// Whether a vector is of whole sixteens, and the level takes them by hand.
#[cfg(target_arch = "x86_64")]
fn in_sixteens(level: Level, length: usize) -> bool {
    level >= Level::Vnni && length.is_multiple_of(16)
}

/// [`cpu::rms_norm`] of each run of the gain's length.
pub fn rms_norm(level: Level, x: &[f32], gain: &[f32], eps: f32, out: &mut [f32]) {
    let n = gain.len();
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        #[cfg(target_arch = "x86_64")]
        if in_sixteens(level, n) {
            // SAFETY: the level was checked when it was made.
            unsafe { x86::norm::rms_norm(x, gain, eps, out) };
            continue;
        }
        rms_norm_any(level, x, gain, eps, out);
    }
}

/// [`cpu::layer_norm`] of each row.
pub fn layer_norm(level: Level, x: &[f32], gain: &[f32], bias: &[f32], eps: f32, out: &mut [f32]) {
    let n = gain.len();
    for (x, out) in x.chunks_exact(n).zip(out.chunks_exact_mut(n)) {
        #[cfg(target_arch = "x86_64")]
        if in_sixteens(level, n) {
            out.copy_from_slice(x);
            // SAFETY: the level was checked when it was made.
            unsafe { x86::norm::layer_norm_in_place(out, gain, bias, eps) };
            continue;
        }
        layer_norm_any(level, x, gain, bias, eps, out);
    }
}

/// [`cpu::layer_norm`] of a row, where it stands.
pub fn layer_norm_in_place(level: Level, x: &mut [f32], gain: &[f32], bias: &[f32], eps: f32) {
    #[cfg(target_arch = "x86_64")]
    if in_sixteens(level, gain.len()) {
        // SAFETY: the level was checked when it was made.
        return unsafe { x86::norm::layer_norm_in_place(x, gain, bias, eps) };
    }
    let before = x.to_vec();
    layer_norm_any(level, &before, gain, bias, eps, x);
}

/// [`cpu::rotate`] of each head.
pub fn rotate(level: Level, row: &mut [f32], dim: usize, angles: &[f32], pairs: Pairs) {
    for head in row.chunks_exact_mut(dim) {
        #[cfg(target_arch = "x86_64")]
        if in_sixteens(level, angles.len() / 2) {
            // SAFETY: the level was checked when it was made.
            match pairs {
                Pairs::Adjacent => unsafe { x86::rotate::adjacent(head, angles) },
                // SAFETY: as above.
                Pairs::Halves => unsafe { x86::rotate::halves(head, angles) },
            }
            continue;
        }
        rotate_any(level, head, angles, pairs);
    }
}

/// x = cap tanh(x / cap).
pub fn soft_cap(level: Level, x: &mut [f32], cap: f32) {
    #[cfg(target_arch = "x86_64")]
    let x = match level >= Level::Vnni {
        // SAFETY: the level was checked when it was made.
        true => unsafe { x86::math::soft_cap_all(x, cap) },
        false => x,
    };
    soft_cap_any(level, x, cap);
}

/// [`cpu::activate`].
pub fn activate(level: Level, f: Activation, x: &mut [f32]) {
    #[cfg(target_arch = "x86_64")]
    if by_hand(level, f, x, None) {
        return;
    }
    activate_any(level, f, x);
}

/// [`cpu::gate`].
pub fn gate(level: Level, f: Activation, x: &mut [f32], up: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    if by_hand(level, f, x, Some(up)) {
        return;
    }
    gate_any(level, f, x, up);
}

/// Functions of AVX-512 written by hand; false where there is none.
#[cfg(target_arch = "x86_64")]
fn by_hand(level: Level, f: Activation, x: &mut [f32], up: Option<&[f32]>) -> bool {
    if level < Level::Vnni {
        return false;
    }
    match f {
        // SAFETY: the level was checked when it was made.
        Activation::Silu => unsafe { x86::math::silu_all(x, up) },
        // SAFETY: as above.
        Activation::GeluErf => unsafe { x86::math::gelu_erf_all(x, up) },
        // SAFETY: as above.
        Activation::GeluTanh => unsafe { x86::math::gelu_tanh_all(x, up) },
    }
    true
}

/// What shares the parts of a job.
pub trait Share {
    /// How many threads do.
    fn threads(&self) -> usize;

    /// Runs parts 0 to `parts` - 1, each once; which thread has which does not change from job to job if it need not.
    fn run(&self, parts: usize, job: &(dyn Fn(usize) + Sync));

    /// Runs a job on ranges that make up 0 to `count` - 1: equal counts are cut equally.
    fn split(&self, count: usize, job: &(dyn Fn(Range<usize>) + Sync)) {
        let parts = match self.threads() {
            1 => 1,
            threads => count.min(PARTS * threads),
        };
        self.run(parts, &|part| {
            job(count * part / parts..count * (part + 1) / parts)
        });
    }
}

/// [`cpu::quantise`], laid out as the level wants it.
pub fn quantise(level: Level, x: &Rows, profile: Profile, share: &impl Share) -> Acts {
    if !level.has_lanes() {
        return Acts::Plain(quantise_plain(level, &x.values, x.cols, profile));
    }
    let mut lanes = Lanes::new(x.values.len() / x.cols, x.cols, profile, level.has_unit());
    let filling = lanes.filling();
    share.split(filling.tokens, &|tokens| fill(level, &x.values, tokens, &filling));
    // SAFETY: ranges make up all tokens, and `fill` sets all blocks of each.
    unsafe { lanes.filled() };
    Acts::Lanes(lanes)
}

/// Quantises some tokens.
fn fill(level: Level, x: &[f32], tokens: Range<usize>, filling: &Filling<'_>) {
    assert!(level <= Level::best());
    #[cfg(target_arch = "x86_64")]
    // SAFETY: the level, which was checked above, is at least VNNI.
    unsafe {
        x86::element::quantise(x, tokens, filling)
    };
    #[cfg(target_arch = "aarch64")]
    // SAFETY: the level is above Scalar.
    unsafe {
        arm::element::quantise(x, tokens, filling)
    };
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    unreachable!("no level with lanes: {tokens:?} {} {}", x.len(), filling.cols);
}

/// Outputs of a product, of which threads write disjoint places.
pub struct Grid<'a> {
    start: *mut f32,
    rows: usize,
    cols: usize,
    values: PhantomData<&'a mut [MaybeUninit<f32>]>,
}

// SAFETY: a place is written by the one thread that computes its tile.
unsafe impl Sync for Grid<'_> {}

impl Grid<'_> {
    fn new(values: &mut [MaybeUninit<f32>], cols: usize) -> Grid<'_> {
        Grid {
            start: values.as_mut_ptr().cast(),
            rows: values.len() / cols,
            cols,
            values: PhantomData,
        }
    }

    /// Sets `count` outputs of a row from `from` on.
    #[inline(always)]
    fn place(&self, row: usize, from: usize, count: usize) -> *mut f32 {
        assert!(row < self.rows && from + count <= self.cols);
        // SAFETY: inside the values.
        unsafe { self.start.add(row * self.cols + from) }
    }

    /// Sets up to sixteen outputs of a row.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub fn put(&self, row: usize, from: usize, count: usize, values: std::arch::x86_64::__m512) {
        let mask = ((1_u32 << count) - 1) as u16;
        // SAFETY: `place` has checked the range; the mask keeps inside it.
        unsafe { std::arch::x86_64::_mm512_mask_storeu_ps(self.place(row, from, count), mask, values) };
    }

    /// Outputs that were set.
    ///
    /// # Safety
    /// They were, by the thread that asks, and it does not ask for them again while it has them.
    #[allow(clippy::mut_from_ref, reason = "threads have disjoint outputs")]
    unsafe fn written(&self, row: usize, from: usize, count: usize) -> &mut [f32] {
        // SAFETY: `place` has checked the range; the caller's for the rest.
        unsafe { std::slice::from_raw_parts_mut(self.place(row, from, count), count) }
    }

    /// Sets up to four outputs of a row.
    #[cfg(target_arch = "aarch64")]
    #[target_feature(enable = "neon")]
    #[inline]
    pub fn put(&self, row: usize, from: usize, count: usize, values: std::arch::aarch64::float32x4_t) {
        let place = self.place(row, from, count);
        if count == 4 {
            // SAFETY: `place` has checked the range.
            return unsafe { std::arch::aarch64::vst1q_f32(place, values) };
        }
        let mut all = [0.0; 4];
        // SAFETY: four writable numbers, of which `place` has checked a range for the first.
        unsafe {
            std::arch::aarch64::vst1q_f32(all.as_mut_ptr(), values);
            std::ptr::copy_nonoverlapping(all.as_ptr(), place, count);
        }
    }

    /// Sets some outputs of a row.
    pub fn set(&self, row: usize, from: usize, values: &[f32]) {
        let place = self.place(row, from, values.len());
        // SAFETY: `place` has checked the range.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), place, values.len()) };
    }
}

/// Runs a job on all rows, some at a time, with the first one's index.
pub fn split_rows(x: &mut [f32], cols: usize, share: &impl Share, job: impl Fn(usize, &mut [f32]) + Sync) {
    let count = x.len() / cols;
    assert_eq!(x.len(), count * cols);
    let all = Whole(x.as_mut_ptr(), PhantomData);
    share.split(count, &|rows| {
        // SAFETY: ranges make up all rows, none is in two.
        let part = unsafe { all.part(rows.start * cols, rows.len() * cols) };
        job(rows.start, part);
    });
}

/// Numbers of which threads have disjoint parts.
struct Whole<'a>(*mut f32, PhantomData<&'a mut [f32]>);

// SAFETY: a part is handed to one thread.
unsafe impl Sync for Whole<'_> {}

impl Whole<'_> {
    /// A part of them.
    ///
    /// # Safety
    /// Inside, and nobody else's.
    #[allow(clippy::mut_from_ref, reason = "parts are disjoint")]
    unsafe fn part(&self, from: usize, count: usize) -> &mut [f32] {
        // SAFETY: the caller's.
        unsafe { std::slice::from_raw_parts_mut(self.0.add(from), count) }
    }
}

/// Queries that look at the same keys together, at most; more rows of a sequence are several groups.
const QUERIES: usize = 32;

/// Rows of one sequence, one after the other in a batch, and the query heads that share a key head.
pub struct Group<'a> {
    /// Queries of the whole batch.
    pub queries: &'a Rows,
    /// Keys and values.
    pub cache: &'a cpu::Cache,
    /// The layer.
    pub layer: usize,
    /// Heads.
    pub heads: &'a Heads,
    /// The sequence's pages.
    pub table: &'a [u32],
    /// The rows' places.
    pub places: &'a [Place],
    /// The first row in the batch.
    pub first: usize,
    /// The key head.
    pub head: usize,
}

impl Group<'_> {
    /// Query heads that share a key head.
    pub fn heads_per_key(&self) -> usize {
        self.heads.query / self.heads.kv
    }

    /// The query of a row of the group, by the `at`th head of the key head's.
    pub fn query(&self, row: usize, at: usize) -> &[f32] {
        let from = (self.first + row) * self.queries.cols;
        &self.queries.values[from + self.column(at)..][..self.heads.dim]
    }

    /// Where in a row the `at`th head of the key head's begins.
    pub fn column(&self, at: usize) -> usize {
        (self.head * self.heads_per_key() + at) * self.heads.dim
    }

    /// One head of one row after the other.
    fn one_by_one(&self, level: Level, out: &Grid<'_>) {
        let mut values = vec![0.0; self.heads.dim];
        for (row, place) in self.places.iter().enumerate() {
            let at = |p| self.cache.at(self.layer, self.head, self.table, p as usize);
            let seen: Vec<usize> = (place.from..place.to).map(at).collect();
            for head in 0..self.heads_per_key() {
                let q = self.query(row, head);
                attend_any(level, q, self.cache, &seen, self.heads, &mut values);
                out.set(self.first + row, self.column(head), &values);
            }
        }
    }

    /// All of its heads, into their places among the outputs of the batch.
    fn attend(&self, level: Level, out: &Grid<'_>) {
        #[cfg(target_arch = "x86_64")]
        if level >= Level::Vnni
            && self.heads.dim.is_multiple_of(BLOCK)
            && self.places.iter().all(|place| place.from < place.to)
        {
            // SAFETY: the level was checked when it was made.
            return unsafe { x86::attend::attend(self, out) };
        }
        #[cfg(target_arch = "aarch64")]
        if level >= Level::Neon
            && self.heads.dim.is_multiple_of(arm::attend::PART)
            && self.places.iter().all(|place| place.from < place.to)
        {
            // SAFETY: the level was checked when it was made.
            return unsafe { arm::attend::attend(self, level, out) };
        }
        self.one_by_one(level, out);
    }
}

/// Runs of rows that follow each other in one sequence, of alike length, at most `most` each.
fn runs(places: &[Place], most: usize) -> Vec<Range<usize>> {
    let (mut runs, mut first) = (vec![], 0);
    for run in places.chunk_by(|a, b| a.sequence == b.sequence) {
        let size = run.len().div_ceil(run.len().div_ceil(most));
        let part = |at: usize| first + at..first + (at + size).min(run.len());
        runs.extend((0..run.len()).step_by(size).map(part));
        first += run.len();
    }
    runs
}

/// [`cpu::attend`] of every head of every row.
///
/// # Panics
/// If sizes do not fit.
pub fn attend(
    level: Level,
    queries: &Rows,
    (cache, layer): (&cpu::Cache, usize),
    heads: &Heads,
    batch: &Batch,
    share: &impl Share,
) -> Vec<f32> {
    let (rows, cols) = (batch.places.len(), heads.query * heads.dim);
    assert!(level <= Level::best() && queries.cols == cols && queries.values.len() == rows * cols);
    assert!(heads.kv == cache.shape.heads && heads.dim == cache.shape.dim);
    assert!(heads.query.is_multiple_of(heads.kv));
    let mut values = Vec::with_capacity(rows * cols);
    let grid = Grid::new(&mut values.spare_capacity_mut()[..rows * cols], cols);
    let runs = runs(&batch.places, (QUERIES * heads.kv / heads.query).max(1));
    // Head by head, as products and `store` cut the columns.
    share.run(heads.kv * runs.len(), &|part| {
        let run = runs[part % runs.len()].clone();
        let group = Group {
            queries,
            cache,
            layer,
            heads,
            table: &batch.tables[batch.places[run.start].sequence as usize],
            places: &batch.places[run.clone()],
            first: run.start,
            head: part / runs.len(),
        };
        group.attend(level, &grid);
    });
    // SAFETY: every row is in one run, and every key head wrote all query heads of its rows.
    unsafe { values.set_len(rows * cols) };
    values
}

/// [`cpu::put`].
fn put(level: Level, codes: &mut [i8], x: &[f32]) -> f32 {
    #[cfg(target_arch = "x86_64")]
    if in_sixteens(level, x.len()) {
        // SAFETY: the level was checked when it was made.
        return unsafe { x86::attend::put(codes, x) };
    }
    put_any(level, codes, x)
}

/// Keys or values of a cache, of which threads write different heads.
struct Shelf<'a> {
    codes: *mut i8,
    scales: *mut f32,
    /// Vectors, of `shape.dim` codes each.
    vectors: usize,
    shape: CacheShape,
    cache: PhantomData<&'a mut [i8]>,
}

// SAFETY: a vector is written by the one thread that has its head.
unsafe impl Sync for Shelf<'_> {}

impl Shelf<'_> {
    fn new<'a>(codes: &'a mut [i8], scales: &'a mut [f32], shape: CacheShape) -> Shelf<'a> {
        assert_eq!(codes.len(), scales.len() * shape.dim);
        Shelf {
            codes: codes.as_mut_ptr(),
            scales: scales.as_mut_ptr(),
            vectors: scales.len(),
            shape,
            cache: PhantomData,
        }
    }

    /// Quantises a vector of a head into its place.
    ///
    /// # Safety
    /// No other thread writes this head meanwhile.
    unsafe fn put(&self, level: Level, head: usize, at: usize, x: &[f32]) {
        assert!(at < self.vectors && at / PAGE % self.shape.heads == head);
        let dim = self.shape.dim;
        // SAFETY: in bounds, as asserted; the head, which nobody else writes, has this vector to itself.
        let codes = unsafe { std::slice::from_raw_parts_mut(self.codes.add(at * dim), dim) };
        let scale = put(level, codes, x);
        // SAFETY: as above.
        unsafe { *self.scales.add(at) = scale };
    }
}

/// Numbers of keys beyond which threads share the heads.
const STORED: usize = 2048;

/// [`cpu::put`] of each row's keys and values, head by head, at the rows' positions.
///
/// # Panics
/// If sizes do not fit.
pub fn store(
    level: Level,
    (cache, layer): (&mut cpu::Cache, usize),
    keys: &Rows,
    values: &Rows,
    batch: &Batch,
    share: &impl Share,
) {
    let CacheShape { heads, dim, .. } = cache.shape;
    let numbers = batch.places.len() * heads * dim;
    assert!(level <= Level::best() && keys.cols == heads * dim && values.cols == heads * dim);
    assert!(keys.values.len() == numbers && values.values.len() == numbers);
    let first = |place: &Place| {
        let table = &batch.tables[place.sequence as usize];
        cache.at(layer, 0, table, place.position as usize)
    };
    let firsts: Vec<usize> = batch.places.iter().map(first).collect();
    let shape = cache.shape;
    let shelves = [
        (keys, Shelf::new(&mut cache.keys, &mut cache.key_scales, shape)),
        (
            values,
            Shelf::new(&mut cache.values, &mut cache.value_scales, shape),
        ),
    ];
    let threads = if numbers > STORED { share.threads() } else { 1 };
    let parts = threads.min(heads);
    share.run(2 * parts, &|part| {
        let ((rows, shelf), part) = (&shelves[part % 2], part / 2);
        let own = heads * part / parts..heads * (part + 1) / parts;
        for (row, first) in rows.values.chunks_exact(rows.cols).zip(&firsts) {
            for head in own.clone() {
                let x = &row[head * dim..][..dim];
                // SAFETY: each part is run once, and it alone has these heads of the keys, or of the values.
                unsafe { shelf.put(level, head, first + head * PAGE, x) };
            }
        }
    });
}

/// Parts that each thread gets of rows, or of a product with many tokens, so that none waits long for another.
const PARTS: usize = 4;
/// Tokens of a product that is too short for that: setting a part up costs more.
const SHORT: usize = 64;
/// Tiles of matrix rows that one thread takes at a time of a product with few tokens.
const TILES: usize = 4;

/// Each row times the matrix, plus the bias, and a function of that.
///
/// # Panics
/// At [`Level::Scalar`], which has no packed form; if sizes do not fit.
pub fn linear(
    level: Level,
    w: &Packed,
    x: &Acts,
    (bias, then): (Option<&[f32]>, Option<Activation>),
    share: &impl Share,
) -> Vec<f32> {
    let (tokens, cols) = x.size();
    assert!(cols == w.cols && level <= Level::best() && bias.is_none_or(|bias| bias.len() == w.rows));
    let mut values = Vec::with_capacity(tokens * w.rows);
    let grid = Grid::new(&mut values.spare_capacity_mut()[..tokens * w.rows], w.rows);
    let size = match share.threads() {
        1 => w.tiles(),
        threads if tokens > SHORT => w.tiles().div_ceil(threads * PARTS),
        threads if tokens > crate::backend::pack::TOKENS => w.tiles().div_ceil(threads),
        _ => TILES,
    };
    share.run(w.tiles().div_ceil(size), &|part| {
        let tiles = part * size..((part + 1) * size).min(w.tiles());
        part_of(level, w, x, bias, tiles.clone(), &grid);
        if let Some(f) = then {
            let (from, to) = (tiles.start * TILE, (tiles.end * TILE).min(w.rows));
            for token in 0..tokens {
                // SAFETY: these outputs are this part's, which has just written them.
                activate(level, f, unsafe { grid.written(token, from, to - from) });
            }
        }
    });
    // SAFETY: every tile of every token was computed, and all were written.
    unsafe { values.set_len(tokens * w.rows) };
    values
}

/// The outputs of some tiles of rows.
fn part_of(level: Level, w: &Packed, x: &Acts, bias: Option<&[f32]>, tiles: Range<usize>, y: &Grid<'_>) {
    match (level, x) {
        // SAFETY: the level was checked above.
        #[cfg(target_arch = "x86_64")]
        (Level::Vnni | Level::Amx, Acts::Lanes(x)) => unsafe { x86::vnni::product(w, x, bias, tiles, y) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        (Level::Avx2, Acts::Plain(x)) => tiles.for_each(|tile| unsafe { avx2(w, x, bias, tile, y) }),
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        (Level::Dotprod, Acts::Lanes(x)) => unsafe { arm::dot::product(w, x, bias, tiles, y) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        (Level::Neon, Acts::Plain(x)) => unsafe { arm::neon::product(w, x, bias, tiles, y) },
        _ => unreachable!(
            "no tiles: {level:?}, {} rows from {tiles:?} of {bias:?}, {}",
            w.rows, y.rows
        ),
    }
}

/// A tile of rows for all tokens by AVX2.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn avx2(w: &Packed, x: &cpu::Acts, bias: Option<&[f32]>, tile: usize, y: &Grid<'_>) {
    let rows = tile * TILE..((tile + 1) * TILE).min(w.rows);
    let mut first = 0;
    while first < x.rows {
        let put = |sums: &[[i64; TILE]]| {
            for (t, sums) in sums.iter().enumerate() {
                let bias = bias.map(|bias| &bias[rows.clone()]);
                let mut out = [0.0; TILE];
                let out = &mut out[..rows.len()];
                let exponents = &w.exponents[tile * TILE..];
                finish(Level::Avx2, sums, x.exponents[first + t], exponents, bias, out);
                y.set(first + t, rows.start, out);
            }
        };
        let tokens = few_tokens(x.rows - first);
        match tokens {
            8 => put(&x86::avx2::avx2::<8>(w, tile, x, first)),
            4 => put(&x86::avx2::avx2::<4>(w, tile, x, first)),
            2 => put(&x86::avx2::avx2::<2>(w, tile, x, first)),
            _ => put(&x86::avx2::avx2::<1>(w, tile, x, first)),
        }
        first += tokens;
    }
}

#[cfg(target_arch = "x86_64")]
levels! {
    /// One tile's outputs of a token: [`cpu::finish_dot`] of each sum.
    finish(sums: &[i64; TILE], unit: i32, exponents: &[i16], bias: Option<&[f32]>, y: &mut [f32]) {
        for (row, y) in y.iter_mut().enumerate() {
            *y = cpu::finish_dot(sums[row], unit + i32::from(exponents[row]), bias.map(|bias| bias[row]));
        }
    }
}
