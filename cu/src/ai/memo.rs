//! Answers kept for a while: a message that is run again (under gas, after an error, by a dry run) does not compute
//! them again. Not here: what they are. Invariant: never more bytes than the bound; the oldest go first.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::runtime::Answered;

/// What an entry takes beside its reply.
const ENTRY_BYTES: usize = 128;

/// The answers.
pub struct Memo {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    answers: HashMap<[u8; 32], Answered>,
    order: VecDeque<[u8; 32]>,
    bytes: usize,
}

impl Memo {
    /// None yet.
    pub fn new(bytes_max: usize) -> Memo {
        Memo {
            bytes_max,
            inner: Mutex::default(),
        }
    }

    /// What was answered before.
    pub fn get(&self, key: &[u8; 32]) -> Option<Answered> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.answers.get(key).cloned()
    }

    /// Keeps an answer, if it is not too large for it.
    pub fn put(&self, key: [u8; 32], answered: Answered) {
        let bytes = answered.reply.len() + ENTRY_BYTES;
        if bytes > self.bytes_max {
            return;
        }
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.answers.insert(key, answered).is_some() {
            return;
        }
        inner.bytes += bytes;
        inner.order.push_back(key);
        while inner.bytes > self.bytes_max {
            let oldest = inner.order.pop_front().expect("what has bytes is in the order");
            let gone = inner
                .answers
                .remove(&oldest)
                .expect("what is in the order is there");
            inner.bytes -= gone.reply.len() + ENTRY_BYTES;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let memo = Memo::new(3 * (ENTRY_BYTES + 10));
        let answered = Answered {
            reply: vec![7; 10],
            gas: 1,
        };
        for key in 0..5 {
            memo.put([key; 32], answered.clone());
            memo.put([key; 32], answered.clone());
        }
        let there: Vec<bool> = (0..5).map(|key| memo.get(&[key; 32]).is_some()).collect();
        assert_eq!(there, [false, false, true, true, true]);
        memo.put(
            [9; 32],
            Answered {
                reply: vec![0; 4096],
                gas: 1,
            },
        );
        assert!(memo.get(&[9; 32]).is_none() && memo.get(&[4; 32]).is_some());
    }
}
