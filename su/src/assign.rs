//! What comes next in a process's log: (head, subject, tick) to an assignment and the next head.
//!
//! Pure: no clock, no file, no key but the one handed in. The invariant: from a head come only
//! assignments with its slot, its chain value, and a later timestamp.

use spec::assignment::{AssignmentError, Chain};
use spec::contract::{Class, Field, Tick};
use spec::{Address, Assignment, Draft, ItemId, ProcessId, Tags};

use crate::authority::Authority;

/// Where a process's log ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Whose log.
    pub process: ProcessId,
    /// The slot the next assignment takes.
    pub next_slot: u64,
    /// The chain value the next assignment carries.
    pub chain: Chain,
    /// The last assignment's tick; zero before the first.
    pub tick: Tick,
    /// Where the process's items go; local ones may become permanent.
    pub class: Class,
    /// The last assignment's epoch; the first one before there is any.
    pub epoch: u64,
    /// Who signed the last assignment; before the first, who may be expected to.
    pub signer: Address,
    /// The last assignment.
    pub last: Option<ItemId>,
}

/// What asks for a slot.
#[derive(Debug, Clone, Default)]
pub struct Ask {
    /// What is assigned; absent for the process item at slot 0.
    pub message: Option<ItemId>,
    /// Fields the process must not see.
    pub exclude: Vec<Field>,
    /// Further tags.
    pub notes: Tags,
}

impl Head {
    /// The head of a process that has no log yet.
    pub fn unborn(process: ProcessId, class: Class, signer: Address) -> Head {
        let (chain, tick) = (Chain::first(process), Tick::default());
        Head {
            process,
            next_slot: 0,
            chain,
            tick,
            class,
            epoch: 0,
            signer,
            last: None,
        }
    }

    /// The head after the last assignment of a log.
    pub fn after(last: &Assignment, class: Class) -> Head {
        Head {
            process: last.process,
            next_slot: last.slot + 1,
            chain: last.chain.next(last.item.id()),
            tick: last.tick,
            class,
            epoch: last.epoch,
            signer: last.item.owner_address(),
            last: Some(last.item.id()),
        }
    }

    /// Signs the assignment that takes the next slot, and moves on.
    ///
    /// # Errors
    /// Only the key's: then the head is as it was.
    pub fn assign(
        &mut self,
        ask: Ask,
        tick: Tick,
        authority: &Authority,
    ) -> Result<Assignment, AssignmentError> {
        assert_eq!(
            ask.message.is_none(),
            self.next_slot == 0,
            "the process item has slot 0, and only it"
        );
        assert!(
            tick.timestamp_ms > self.tick.timestamp_ms,
            "timestamps strictly increase in a process"
        );
        assert!(
            tick.block_height >= self.tick.block_height,
            "heights never decrease"
        );
        assert!(self.epoch <= authority.epoch(), "epochs never fall");
        let is_turn = self.epoch != authority.epoch() || self.signer != authority.address();
        let mut notes = ask.notes;
        if is_turn {
            notes.extend(authority.evidence(self));
        }
        let draft = Draft {
            process: self.process,
            slot: self.next_slot,
            chain: self.chain,
            tick,
            message: ask.message,
            exclude: ask.exclude,
            notes,
            anchor: anchor(self.next_slot),
        };
        let assignment = draft.sign_in(authority.epoch(), authority.signer())?;
        *self = Head {
            next_slot: self.next_slot + 1,
            chain: self.chain.next(assignment.item.id()),
            tick,
            epoch: authority.epoch(),
            signer: authority.address(),
            last: Some(assignment.item.id()),
            ..*self
        };
        Ok(assignment)
    }
}

/// The slot in decimal, padded to 32 bytes: process, slot and chain make an assignment unique
/// already, and a signer that is deterministic then gives the same id again.
fn anchor(slot: u64) -> [u8; 32] {
    let mut anchor = [b'0'; 32];
    let (mut at, mut rest) = (anchor.len(), slot);
    while rest > 0 {
        at -= 1;
        anchor[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    anchor
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use spec::Signer;

    fn authority() -> Authority {
        Authority::first(Arc::new(Signer::ed25519(&[1; 32])))
    }

    fn ask(n: u8) -> Ask {
        Ask {
            message: Some(ItemId([n; 32])),
            ..Ask::default()
        }
    }

    fn tick(timestamp_ms: u64) -> Tick {
        Tick {
            timestamp_ms,
            block_height: 1,
        }
    }

    #[test]
    fn slots_follow_each_other_and_the_chain_covers_them() {
        let signer = authority();
        let process = ProcessId([9; 32]);
        let mut head = Head::unborn(process, Class::Local, signer.address());
        let first = head.assign(Ask::default(), tick(5), &signer).unwrap();
        let second = head.assign(ask(1), tick(6), &signer).unwrap();
        assert_eq!((first.slot, second.slot, head.next_slot), (0, 1, 2));
        assert_eq!(first.chain, Chain::first(process));
        assert_eq!(second.chain, first.chain.next(first.item.id()));
        assert_eq!(second.item.anchor().unwrap(), b"00000000000000000000000000000001");
        assert_eq!(
            Head::after(&second, Class::Local),
            head,
            "a head is a function of the last assignment"
        );
    }

    #[test]
    #[should_panic(expected = "strictly increase")]
    fn a_timestamp_never_repeats() {
        let signer = authority();
        let mut head = Head::unborn(ProcessId([9; 32]), Class::Local, signer.address());
        head.assign(Ask::default(), tick(5), &signer).unwrap();
        let _ = head.assign(ask(1), tick(5), &signer);
    }
}
