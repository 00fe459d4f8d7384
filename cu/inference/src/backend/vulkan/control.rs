//! The control of the conformance suite: sums of floats in free order, which must not equal the sums in order.
//!
//! Not here: anything that DIN-1 uses. If the control agreed, the suite could not see an order of adding at all.

use crate::backend::Backend;
use crate::backend::vulkan::Vulkan;
use crate::error::Error;

/// Dot products, and the length of each.
const ROWS: usize = 4096;
const COLS: usize = 1024;

impl Vulkan {
    /// How many of how many float dot products differ from the same products added in order.
    ///
    /// # Errors
    /// The device failed.
    pub fn control(&self) -> Result<[u64; 2], Error> {
        let value = |i: usize| ((i * 2_654_435_761) >> 7 & 0xffff) as f32 * 1.37e-3 - 40.0;
        let a: Vec<f32> = (0..ROWS * COLS).map(value).collect();
        let b: Vec<f32> = (0..COLS).map(|i| value(i + 77)).collect();
        let [x, y] = [(COLS, a.clone()), (COLS, b.clone())].map(|(cols, values)| self.rows(cols, values));
        let out = self.new_rows(ROWS, 1);
        let bound = [&x.slot.words, &y.slot.words, &out.slot.words];
        self.run("control", &[], &bound, &[COLS as u32], [ROWS as u32, 1, 1]);
        let ordered = a.chunks_exact(COLS).map(|row| {
            let products = row.iter().zip(&b).map(|(a, b)| a * b);
            products.fold(0.0_f32, |sum, product| sum + product)
        });
        let free = self.read(&out)?;
        let differing = free
            .iter()
            .zip(ordered)
            .filter(|(free, ordered)| free.to_bits() != ordered.to_bits());
        Ok([differing.count() as u64, ROWS as u64])
    }
}
