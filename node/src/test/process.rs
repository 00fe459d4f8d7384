//! A process under test: a machine for each open mark that it was changed under, so that going back is
//! dropping the newest. Not here: what other processes there are.
//!
//! Invariant: levels are ordered by depth, the first is the process as it was spawned, and none is deeper
//! than the marks that are open.

use std::sync::Arc;

use cu::eval;
use cu::runtime::Machine;
use spec::Outcome;

use super::message::Message;
use super::modules::Loaded;

/// A state, and the depth of marks it belongs to.
struct Level {
    depth: usize,
    machine: Machine,
    /// Messages it has had: the slot of the next one.
    slot: u64,
}

/// A process under test.
pub struct Process {
    /// How spec files hold it; never used again.
    pub serial: u64,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub owner: String,
    /// What it runs.
    pub module: Arc<Loaded>,
    env: Arc<[u8]>,
    levels: Vec<Level>,
}

/// What makes a process.
pub struct Parts {
    /// How spec files hold it.
    pub serial: u64,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Who owns it.
    pub owner: String,
    /// What it runs.
    pub module: Arc<Loaded>,
    /// Its environment.
    pub env: Arc<[u8]>,
}

fn host(error: cu::runtime::Error) -> String {
    format!("the engine failed: {error}")
}

impl Process {
    /// A process in a given state, born under `depth` marks.
    pub fn new(parts: Parts, depth: usize, machine: Machine, slot: u64) -> Process {
        let Parts {
            serial,
            id,
            name,
            owner,
            module,
            env,
        } = parts;
        let levels = vec![Level { depth, machine, slot }];
        Process {
            serial,
            id,
            name,
            owner,
            module,
            env,
            levels,
        }
    }

    fn top(&mut self) -> &mut Level {
        self.levels.last_mut().expect("a process has a state")
    }

    /// The slot of the next message.
    pub fn slot(&mut self) -> u64 {
        self.top().slot
    }

    /// Evaluates a message for good, as far as the marks that are open now.
    pub fn send(&mut self, message: &Message, depth: usize) -> Result<Outcome, String> {
        self.own(depth)?;
        let (env, message) = (self.env.clone(), message.encode(self.module.encoding));
        let level = self.top();
        level.slot += 1;
        eval::evaluate(&mut level.machine, &message, &env).map_err(host)
    }

    /// Makes sure that the newest state belongs to the newest mark.
    fn own(&mut self, depth: usize) -> Result<(), String> {
        let top = self.top();
        assert!(top.depth <= depth, "a state outlived its mark");
        if top.depth < depth {
            let (machine, slot) = (top.machine.fork().map_err(host)?, top.slot);
            self.levels.push(Level { depth, machine, slot });
        }
        Ok(())
    }

    /// Evaluates a message on a fork, which is then dropped.
    pub fn dry(&mut self, message: &Message) -> Result<Outcome, String> {
        let (env, message) = (self.env.clone(), message.encode(self.module.encoding));
        let mut fork = self.top().machine.fork().map_err(host)?;
        let verdict = fork.call(&message, &env).map_err(host)?;
        Ok(eval::judge(verdict).0)
    }

    /// Goes back to what it was under `depth` marks.
    pub fn restore(&mut self, depth: usize) {
        self.levels.retain(|level| level.depth <= depth);
        assert!(
            !self.levels.is_empty(),
            "a process that did not exist then is dropped, not restored"
        );
    }

    /// Whether it was changed under this many marks.
    pub fn is_changed(&self, depth: usize) -> bool {
        self.levels.last().is_some_and(|level| level.depth >= depth)
    }
}
