//! What goes wrong, how often, and the dice that decide it.
//!
//! The invariant: each kind of fault has its own stream, so the same seed and the same questions of one kind give the
//! same answers, whatever else is asked in between.

use aws_lc_rs::digest::{SHA256, digest};

/// Something that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A posted transaction is answered 200 and dropped.
    DropTransaction,
    /// A posted chunk is answered 200 and not kept: a header may be mined without data.
    LoseChunk,
    /// A posted chunk is kept only until its transaction is mined (303).
    TemporaryChunk,
    /// A block is preceded by a fork that takes some blocks back; half of their transactions are lost.
    Fork,
    /// Data or a chunk is answered with a wrong byte.
    Lie,
    /// Data or a chunk is answered cut off.
    Truncate,
    /// An answer is late.
    Delay,
    /// A request is refused with 429.
    TooMany,
    /// A request is refused with 503.
    Unavailable,
    /// A peer answers nothing for some blocks; half of them come back with nothing of what they held.
    LosePeer,
    /// The bundler acknowledges an item and forgets it.
    ForgetItem,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 11] = [
        Fault::DropTransaction,
        Fault::LoseChunk,
        Fault::TemporaryChunk,
        Fault::Fork,
        Fault::Lie,
        Fault::Truncate,
        Fault::Delay,
        Fault::TooMany,
        Fault::Unavailable,
        Fault::LosePeer,
        Fault::ForgetItem,
    ];
}

/// How often each fault happens, and its bounds.
#[derive(Debug, Clone)]
pub struct Faults {
    /// What the dice are made of.
    pub seed: u64,
    /// Of a thousand occasions, by kind.
    rates: [u16; Fault::ALL.len()],
    /// Blocks that a fork takes back at most.
    pub fork_blocks_max: u64,
    /// Blocks that a peer is away at most.
    pub away_blocks_max: u64,
    /// How late an answer is at most, ms.
    pub delay_ms_max: u64,
    /// From this height on nothing goes wrong any more.
    pub heal_height: u64,
}

impl Faults {
    /// Nothing goes wrong.
    pub fn none() -> Faults {
        Faults {
            seed: 0,
            rates: [0; Fault::ALL.len()],
            fork_blocks_max: 6,
            away_blocks_max: 20,
            delay_ms_max: 2_000,
            heal_height: u64::MAX,
        }
    }

    /// About half of all faults, each at a rate of its own, as the seed says. Block faults are rarer than others.
    pub fn seeded(seed: u64) -> Faults {
        let mut faults = Faults {
            seed,
            ..Faults::none()
        };
        for (at, fault) in Fault::ALL.into_iter().enumerate() {
            let number = hashed(seed, 1_000 + at as u64, 0);
            let most = if matches!(fault, Fault::Fork | Fault::LosePeer) {
                60
            } else {
                250
            };
            if number.is_multiple_of(2) {
                faults = faults.with(fault, (1 + (number >> 8) % most) as u16);
            }
        }
        faults.fork_blocks_max = 1 + hashed(seed, 2_000, 0) % 12;
        faults
    }

    /// The same, with a fault happening so often of a thousand occasions; 0 switches it off.
    pub fn with(mut self, fault: Fault, of_thousand: u16) -> Faults {
        assert!(of_thousand <= 1_000, "a rate is of a thousand");
        self.rates[fault as usize] = of_thousand;
        self
    }

    /// The same, with nothing going wrong from a height on.
    pub fn until(mut self, heal_height: u64) -> Faults {
        self.heal_height = heal_height;
        self
    }
}

/// The dice of one double.
#[derive(Debug)]
pub(super) struct Dice {
    pub(super) faults: Faults,
    thrown: [u64; Fault::ALL.len()],
}

impl Dice {
    pub(super) fn new(faults: Faults) -> Dice {
        Dice {
            faults,
            thrown: [0; Fault::ALL.len()],
        }
    }

    /// Whether it happens this time.
    pub(super) fn roll(&mut self, fault: Fault, height: u64) -> bool {
        let rate = self.faults.rates[fault as usize];
        rate > 0 && height < self.faults.heal_height && self.pick(fault, 1_000) < u64::from(rate)
    }

    /// A number below `below`, from the fault's own stream.
    pub(super) fn pick(&mut self, fault: Fault, below: u64) -> u64 {
        let thrown = &mut self.thrown[fault as usize];
        *thrown += 1;
        hashed(self.faults.seed, fault as u64, *thrown) % below.max(1)
    }
}

fn hashed(seed: u64, stream: u64, count: u64) -> u64 {
    let numbers = [seed, stream, count].map(u64::to_le_bytes).concat();
    let digest = digest(&SHA256, &numbers);
    u64::from_le_bytes(*digest.as_ref().first_chunk().expect("a digest has 32 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_throws_the_same_whatever_is_asked_in_between() {
        let faults = Faults::none().with(Fault::Lie, 500).with(Fault::Delay, 500);
        let (mut one, mut other) = (Dice::new(faults.clone()), Dice::new(faults));
        let lies: Vec<bool> = (0..64).map(|_| one.roll(Fault::Lie, 0)).collect();
        let mixed = (0..64).map(|_| (other.roll(Fault::Delay, 0), other.roll(Fault::Lie, 0)).1);
        assert_eq!(lies, mixed.collect::<Vec<bool>>());
        assert!(lies.contains(&true) && lies.contains(&false));
        assert!(!one.roll(Fault::Fork, 0), "what is switched off never happens");
        let mut healed = Dice::new(Faults::none().with(Fault::Lie, 1_000).until(5));
        assert!(healed.roll(Fault::Lie, 4) && !healed.roll(Fault::Lie, 5));
    }
}
