//! Asks that wait, each asker in its own line: the one that had the least of the machine is next.
//!
//! Not here: evaluation. Invariant: nobody's line moves another's; the queue never holds more than its limits.

use std::collections::{HashMap, VecDeque};

/// What waits.
pub trait Waits {
    /// Who asks.
    fn asker(&self) -> &str;
    /// Whether it was taken back.
    fn cancelled(&self) -> bool;
}

/// Lines of asks.
pub struct Queue<J> {
    askers: HashMap<String, Line<J>>,
    waiting: usize,
    turn: u64,
}

/// What one asker has waiting, and what it had.
struct Line<J> {
    jobs: VecDeque<J>,
    /// Tokens evaluated for it since it became active, from where the others stood.
    served: u64,
    /// Of its asks, those being evaluated.
    running: usize,
    /// When it was last taken from: the longest ago is first of equals.
    turn: u64,
}

impl<J: Waits> Queue<J> {
    pub fn new() -> Queue<J> {
        Queue {
            askers: HashMap::new(),
            waiting: 0,
            turn: 0,
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// How many of one asker wait.
    pub fn waiting_of(&self, asker: &str) -> usize {
        self.askers.get(asker).map_or(0, |line| line.jobs.len())
    }

    /// Puts an ask at the end of its asker's line.
    pub fn push(&mut self, job: J) {
        self.line(job.asker()).jobs.push_back(job);
        self.waiting += 1;
    }

    /// Puts an ask back to the front of its line.
    pub fn put_back(&mut self, job: J) {
        let line = self.line(job.asker());
        line.running = line.running.saturating_sub(1);
        line.jobs.push_front(job);
        self.waiting += 1;
    }

    fn line(&mut self, asker: &str) -> &mut Line<J> {
        // One that was not here starts where the least served stands: it neither waits for others' past nor profits from it.
        if !self.askers.contains_key(asker) {
            let served = self.askers.values().map(|line| line.served).min().unwrap_or(0);
            self.turn += 1;
            let line = Line {
                jobs: VecDeque::new(),
                served,
                running: 0,
                turn: self.turn,
            };
            self.askers.insert(asker.to_owned(), line);
        }
        self.askers.get_mut(asker).expect("it was just put there")
    }

    /// Who is next, and how many asks of it are being evaluated.
    pub fn next(&self) -> Option<(&str, usize)> {
        let lines = self.askers.iter().filter(|(_, line)| !line.jobs.is_empty());
        let first = lines.min_by_key(|(_, line)| (line.running, line.served, line.turn));
        first.map(|(asker, line)| (asker.as_str(), line.running))
    }

    /// Takes the next ask; its asker has one more being evaluated.
    pub fn pop(&mut self) -> Option<J> {
        let asker = self.next()?.0.to_owned();
        self.turn += 1;
        let turn = self.turn;
        let line = self.line(&asker);
        let job = line.jobs.pop_front().expect("only lines with asks are next");
        (line.running, line.turn) = (line.running + 1, turn);
        self.waiting -= 1;
        Some(job)
    }

    /// Notes tokens evaluated for an asker.
    pub fn charge(&mut self, asker: &str, tokens: usize) {
        self.line(asker).served += tokens as u64;
    }

    /// What an asker had, beside others.
    pub fn served(&self, asker: &str) -> u64 {
        self.askers.get(asker).map_or(0, |line| line.served)
    }

    /// An ask of this asker ended.
    pub fn ended(&mut self, asker: &str) {
        let line = self.line(asker);
        line.running = line.running.saturating_sub(1);
        if line.running == 0 && line.jobs.is_empty() {
            self.askers.remove(asker);
        }
    }

    /// The asker with the most asks being evaluated, and how many.
    pub fn busiest(&self) -> Option<(&str, usize)> {
        let most = self
            .askers
            .iter()
            .max_by_key(|(asker, line)| (line.running, asker.as_str()));
        most.map(|(asker, line)| (asker.as_str(), line.running))
    }

    /// Takes out what was taken back.
    pub fn cancelled(&mut self) -> Vec<J> {
        let mut out = vec![];
        for line in self.askers.values_mut() {
            let jobs = std::mem::take(&mut line.jobs);
            let (gone, stay): (VecDeque<J>, VecDeque<J>) = jobs.into_iter().partition(Waits::cancelled);
            line.jobs = stay;
            out.extend(gone);
        }
        self.waiting -= out.len();
        self.askers
            .retain(|_, line| line.running > 0 || !line.jobs.is_empty());
        out
    }

    /// Takes out everything.
    pub fn drain(&mut self) -> Vec<J> {
        self.waiting = 0;
        self.askers.drain().flat_map(|(_, line)| line.jobs).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Waits for (&'static str, u32) {
        fn asker(&self) -> &str {
            self.0
        }

        fn cancelled(&self) -> bool {
            self.1 == 99
        }
    }

    #[test]
    fn one_asker_with_many_does_not_hold_up_another() {
        let mut queue = Queue::new();
        for n in 0..5 {
            queue.push(("many", n));
        }
        queue.push(("one", 7));
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order[..3], [("many", 0), ("one", 7), ("many", 1)]);
        assert_eq!(order.len(), 6);
        assert_eq!(queue.busiest(), Some(("many", 5)));
    }

    #[test]
    fn who_had_less_is_next() {
        let mut queue = Queue::new();
        for asker in ["a", "b"] {
            queue.push((asker, 0));
            queue.push((asker, 1));
        }
        let first = queue.pop().unwrap();
        queue.charge(first.0, 100);
        queue.ended(first.0);
        let other = if first.0 == "a" { "b" } else { "a" };
        for n in 0..2 {
            assert_eq!(queue.pop(), Some((other, n)));
            queue.charge(other, 30);
            queue.ended(other);
        }
        assert_eq!(queue.pop(), Some((first.0, 1)));
        queue.ended(first.0);
        assert!(queue.pop().is_none() && queue.askers.is_empty());
    }

    #[test]
    fn what_was_taken_back_leaves() {
        let mut queue = Queue::new();
        queue.push(("a", 99));
        queue.push(("a", 1));
        queue.push(("b", 99));
        assert_eq!(queue.cancelled().len(), 2);
        assert_eq!(
            (queue.waiting(), queue.waiting_of("a"), queue.waiting_of("b")),
            (1, 1, 0)
        );
        assert_eq!(queue.pop(), Some(("a", 1)));
    }
}
