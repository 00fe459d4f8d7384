//! Choosing a token from logits: integer probabilities, a ChaCha20 draw, ties to the lower token.
//! Not here: logits. Invariant: the choice is a function of (logits, settings, seed, index), nothing else.

use crate::error::Error;
use crate::math::{canon, exp, key};

/// How a token is chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// 0 takes the likeliest token; else logits are divided by it. At most 100.
    pub temperature: f32,
    /// Only this many of the likeliest tokens; 0 for all.
    pub top_k: u32,
    /// Only the likeliest tokens that together have this share of the probability; 1 for all.
    pub top_p: f32,
    /// The key of the draws.
    pub seed: [u8; 32],
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            seed: [0; 32],
        }
    }
}

impl Settings {
    /// Refuses settings outside their ranges.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<(), Error> {
        let bad = |what: &str| Err(Error::Invalid(what.to_owned()));
        if !(self.temperature == 0.0 || (0.001..=100.0).contains(&self.temperature)) {
            return bad("temperature must be 0 or from 0.001 to 100");
        }
        if !(0.0..=1.0).contains(&self.top_p) {
            return bad("top_p must be from 0 to 1");
        }
        Ok(())
    }
}

/// The token chosen at place `index` of an answer.
///
/// # Panics
/// On no logits at all; a model has at least one token.
pub fn choose(logits: &[f32], settings: &Settings, index: u64) -> u32 {
    assert!(!logits.is_empty());
    if settings.temperature == 0.0 {
        return likeliest(logits);
    }
    let scale = Scale::new(logits, settings.temperature);
    let kept: Vec<(u32, u32)> = if settings.top_k > 0 || settings.top_p < 1.0 {
        keep(logits, settings, &scale)
    } else {
        let weight = |(token, logit)| (token as u32, scale.weight(logit));
        logits.iter().copied().enumerate().map(weight).collect()
    };
    let total: u64 = kept.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let mut left = ((u128::from(draw(&settings.seed, index)) * u128::from(total)) >> 64) as u64;
    for (token, weight) in kept {
        match left.checked_sub(u64::from(weight)) {
            None => return token,
            Some(rest) => left = rest,
        }
    }
    unreachable!("the draw is below the total")
}

/// The token with the largest logit, the lowest of equals.
pub fn likeliest(logits: &[f32]) -> u32 {
    let top = logits.iter().map(|logit| key(*logit)).max();
    let at = logits.iter().position(|logit| Some(key(*logit)) == top);
    at.unwrap_or(0) as u32
}

/// Logits as unnormalised probabilities of 24 bits: 2^24 for the likeliest token.
struct Scale {
    top: f32,
    inverse: f32,
}

impl Scale {
    fn new(logits: &[f32], temperature: f32) -> Scale {
        Scale {
            top: logits[likeliest(logits) as usize],
            inverse: 1.0 / temperature,
        }
    }

    fn weight(&self, logit: f32) -> u32 {
        let e = exp(canon(canon(logit - self.top) * self.inverse));
        (e * 16_777_216.0 + 0.5).floor() as u32
    }
}

/// Natural logarithms of the probabilities of some tokens at temperature 1; at least one logit.
pub fn logprobs(logits: &[f32], tokens: impl IntoIterator<Item = u32>) -> Vec<f32> {
    let scale = Scale::new(logits, 1.0);
    let total: u64 = logits.iter().map(|logit| u64::from(scale.weight(*logit))).sum();
    let (top, all) = (scale.top, logarithm(total));
    let one = |token: u32| canon(canon(logits[token as usize] - top) - all);
    tokens.into_iter().map(one).collect()
}

/// The natural logarithm of a sum of weights in units of 2^-24, from 1 to 2^20.
fn logarithm(total: u64) -> f32 {
    assert!((1 << 24..=1 << 44).contains(&total));
    let whole = 63 - total.leading_zeros();
    let (mut y, mut log) = ((total << (63 - whole)) >> 32, u64::from(whole - 24));
    for _ in 0..32 {
        y = (y * y) >> 31;
        log = log << 1 | y >> 32;
        if y >> 32 == 1 {
            y >>= 1;
        }
    }
    // ln 2 in units of 2^-32.
    let natural = (u128::from(log) * 2_977_044_472) >> 32;
    (natural >> 12) as i32 as f32 * (1.0 / 1_048_576.0)
}

/// The tokens that `top_k` and `top_p` leave, in the order of tokens, with their weights.
fn keep(logits: &[f32], settings: &Settings, scale: &Scale) -> Vec<(u32, u32)> {
    let mut order = match settings.top_k as usize {
        0 => (0..logits.len() as u32).collect(),
        count => best(logits, count),
    };
    order.sort_unstable_by_key(|token| rank(logits, *token));
    let weigh = |token: u32| (token, scale.weight(logits[token as usize]));
    let mut kept: Vec<(u32, u32)> = order.into_iter().map(weigh).collect();
    let total: u64 = kept.iter().map(|(_, weight)| u64::from(*weight)).sum();
    let share = (settings.top_p * 16_777_216.0).floor() as u64;
    let enough = (u128::from(total) * u128::from(share)).div_ceil(1 << 24) as u64;
    let (mut sum, mut count) = (0, 0);
    while count < kept.len() && (count == 0 || sum < enough) {
        sum += u64::from(kept[count].1);
        count += 1;
    }
    kept.truncate(count);
    kept.sort_unstable();
    kept
}

/// Where a token stands among all: by falling logit, then rising token.
fn rank(logits: &[f32], token: u32) -> (u32, u32) {
    (!key(logits[token as usize]), token)
}

/// The first `count` tokens by rank, in any order; all there are, if fewer.
fn best(logits: &[f32], count: usize) -> Vec<u32> {
    let room = (2 * count).clamp(64, logits.len().max(64));
    let (mut kept, mut floor) = (Vec::with_capacity(room), 0);
    let cut = |kept: &mut Vec<u32>| {
        if kept.len() > count {
            kept.select_nth_unstable_by_key(count - 1, |token| rank(logits, *token));
            kept.truncate(count);
        }
    };
    for (token, logit) in logits.iter().enumerate() {
        // Of equals the earlier ones are kept; on the grid no key is 0.
        if key(*logit) > floor {
            kept.push(token as u32);
            if kept.len() == room && room > count {
                cut(&mut kept);
                floor = key(logits[kept[count - 1] as usize]);
            }
        }
    }
    cut(&mut kept);
    kept
}

/// The first eight bytes of ChaCha20's block `index` under the seed, little-endian.
pub fn draw(seed: &[u8; 32], index: u64) -> u64 {
    let block = chacha20(seed, index, 0);
    u64::from(block[0]) | u64::from(block[1]) << 32
}

/// One ChaCha20 block as words: 64-bit counter, 64-bit nonce.
fn chacha20(seed: &[u8; 32], counter: u64, nonce: u64) -> [u32; 16] {
    let mut start = [0_u32; 16];
    start[..4].copy_from_slice(&[0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574]);
    for (word, bytes) in start[4..12].iter_mut().zip(seed.as_chunks::<4>().0) {
        *word = u32::from_le_bytes(*bytes);
    }
    start[12..].copy_from_slice(&[
        counter as u32,
        (counter >> 32) as u32,
        nonce as u32,
        (nonce >> 32) as u32,
    ]);
    let mut state = start;
    for _ in 0..10 {
        for [a, b, c, d] in [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10, 14], [3, 7, 11, 15]] {
            quarter(&mut state, a, b, c, d);
        }
        for [a, b, c, d] in [[0, 5, 10, 15], [1, 6, 11, 12], [2, 7, 8, 13], [3, 4, 9, 14]] {
            quarter(&mut state, a, b, c, d);
        }
    }
    std::array::from_fn(|i| state[i].wrapping_add(start[i]))
}

fn quarter(s: &mut [u32; 16], a: usize, b: usize, c: usize, d: usize) {
    for (x, y, z, by) in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)] {
        s[x] = s[x].wrapping_add(s[y]);
        s[z] = (s[z] ^ s[x]).rotate_left(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_draws_are_chacha20() {
        // RFC 8439, 2.3.2: key 00..1f, block counter 1, nonce 000000090000004a00000000.
        let key: [u8; 32] = std::array::from_fn(|i| i as u8);
        let block = chacha20(&key, 1 | 0x0900_0000 << 32, 0x4a00_0000);
        assert_eq!(block[..4], [0xe4e7_f110, 0x1559_3bd1, 0x1fdd_0f50, 0xc471_20a3]);
        assert_eq!(block[15], 0x4e3c_50a2);
    }

    #[test]
    fn ties_go_to_the_lower_token() {
        assert_eq!(likeliest(&[-1.0, 2.0, 2.0, 0.0]), 1);
        assert_eq!(likeliest(&[-3.0, -2.0]), 1);
    }

    #[test]
    fn draws_follow_the_probabilities() {
        let logits = [1.0, 0.0, 2.0, -50.0];
        let settings = Settings {
            temperature: 1.0,
            seed: [7; 32],
            ..Settings::default()
        };
        let mut counts = [0_u32; 4];
        for index in 0..20_000 {
            counts[choose(&logits, &settings, index) as usize] += 1;
        }
        let truth = [0.2447, 0.09003, 0.66524, 0.0];
        for (count, share) in counts.iter().zip(truth) {
            assert!((f64::from(*count) / 20_000.0 - share).abs() < 0.01);
        }
    }

    #[test]
    fn logprobs_are_logarithms() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 * 0.13 - 5.0).collect();
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for (token, got) in logprobs(&logits, 0..1000).into_iter().enumerate() {
            let truth = f64::from(logits[token]) - total.ln();
            assert!((f64::from(got) - truth).abs() < 1e-5, "{got} for {truth}");
        }
        assert_eq!(logprobs(&[3.0], [0]), [0.0]);
    }

    #[test]
    fn the_best_are_those_of_a_whole_sort() {
        for (many, of) in [(1, 1), (3, 500), (40, 2000), (40, 40), (700, 900), (5000, 300)] {
            // Many equals, and many new largest ones.
            let logits: Vec<f32> = (0..of)
                .map(|i| ((i * 7919) % 613 / 3) as f32 - 80.0 + (i / 50) as f32)
                .collect();
            let mut order: Vec<u32> = (0..of as u32).collect();
            order.sort_by_key(|token| rank(&logits, *token));
            let mut found = best(&logits, many);
            found.sort_by_key(|token| rank(&logits, *token));
            assert_eq!(found, order[..many.min(of)]);
        }
    }

    #[test]
    fn cuts_leave_the_likeliest() {
        let logits = [1.0, 0.0, 2.0, 2.0];
        let chosen = |top_k, top_p| {
            let settings = Settings {
                temperature: 1.0,
                top_k,
                top_p,
                seed: [1; 32],
            };
            (0..500).fold([false; 4], |mut seen, i| {
                seen[choose(&logits, &settings, i) as usize] = true;
                seen
            })
        };
        assert_eq!(chosen(1, 1.0), [false, false, true, false]);
        assert_eq!(chosen(2, 1.0), [false, false, true, true]);
        assert_eq!(chosen(0, 0.0), [false, false, true, false]);
        assert_eq!(chosen(0, 0.9), [true, false, true, true]);
    }
}
