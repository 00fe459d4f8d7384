//! A live process: one instance, and the way back to the state before the last call.
//!
//! The way back is an anchor (a saved state) and the journal of calls since. Going back resumes the anchor and runs
//! the journal again; then a new anchor is taken, so that no work is repeated twice. Anchors are also taken whenever
//! the journal's work passes a bound that grows with the anchor's own cost.
//!
//! Not here: what an outcome means. Invariant: the state is always that of the anchor followed by the journal
//! (followed by the pending call, if there is one).

use super::anchor::Anchor;
use super::host::oracle::{Asking, Oracle};
use super::live::{Ended, Live};
use super::lua::sha256;
use super::module::Module;
use super::packed::{self, State};
use super::pages::stack_left;
use super::{Error, Limits, STACK_BYTES, Verdict, image, root};
use bytes::Bytes;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Work since the anchor after which a new one is taken.
const ANCHOR_AFTER: Duration = Duration::from_millis(100);
/// Anchoring may take this part of the time.
const ANCHOR_SHARE: u32 = 20;
/// Calls, and bytes of messages, that a journal holds.
const JOURNAL_CALLS_MAX: usize = 1024;
const JOURNAL_BYTES_MAX: usize = 16 << 20;
/// Gas that no machine gets through in a second: what the watch allows before the gas build decides.
const GAS_PER_SECOND_MAX: u64 = 100_000_000_000;
/// Below this much gas the watch is too coarse, and the gas build runs at once.
const WATCHED_GAS_MIN: u64 = 5_000_000_000;
/// Stack that a call may need.
const STACK_NEEDED: usize = STACK_BYTES - (2 << 20);

/// Runs work that may recurse deeply: here if the stack allows, else on a thread of its own.
pub(super) fn on_big_stack<R: Send>(work: impl FnOnce() -> Result<R, Error> + Send) -> Result<R, Error> {
    if stack_left() >= STACK_NEEDED {
        return work();
    }
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("cu-call".into())
            .stack_size(STACK_BYTES);
        let thread = thread
            .spawn_scoped(scope, work)
            .map_err(|e| Error::Host(e.to_string()))?;
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// One call that can be run again.
struct Entry {
    id: [u8; 32],
    message: Box<[u8]>,
    env: Arc<[u8]>,
}

struct Pending {
    entry: Entry,
    spent: Duration,
    /// It was answered; only then may its effect stay.
    answered: bool,
}

/// Whether the live instance is in the state it should be in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Health {
    Good,
    /// To be rebuilt from anchor and journal before the next use.
    Lost,
    /// The anchor itself could not be written: only an image or the log is a way back.
    Dead,
}

/// A live process: one instance, its state, and the way back to the state before the last call. `Send`, not `Sync`.
pub struct Machine {
    module: Module,
    limits: Limits,
    live: Live,
    anchor: Anchor,
    anchor_cost: Duration,
    journal: Vec<Entry>,
    journal_bytes: usize,
    spent: Duration,
    pending: Option<Pending>,
    health: Health,
    oracle: Option<Arc<dyn Oracle>>,
}

impl Machine {
    /// A fresh process: constructors have run, no message has.
    pub fn start(module: &Module, limits: Limits) -> Result<Machine, Error> {
        if limits.memory_bytes_max < module.0.boot.memory_bytes {
            let needed = module.0.boot.memory_bytes;
            return Err(Error::Refused(format!(
                "it starts with {needed} bytes of memory, more than {}",
                limits.memory_bytes_max
            )));
        }
        Machine::at(module, limits, module.0.boot.clone())
    }

    /// A process from an image made by [`Machine::encode`] of the same module and engine epoch.
    pub fn restore(module: &Module, limits: Limits, image: &Bytes) -> Result<Machine, Error> {
        let anchor = image::decode(module, image)?;
        if limits.memory_bytes_max < anchor.memory_bytes {
            return Err(Error::Image(
                "it has more memory than the process may have".into(),
            ));
        }
        Machine::at(module, limits, anchor)
    }

    /// A process in an unpacked state of the same module and engine epoch.
    pub fn stand_on(module: &Module, limits: Limits, state: &State) -> Result<Machine, Error> {
        if limits.memory_bytes_max < state.memory_bytes() {
            return Err(Error::Image(
                "it has more memory than the process may have".into(),
            ));
        }
        Machine::at(module, limits, state.anchor())
    }

    fn at(module: &Module, limits: Limits, anchor: Anchor) -> Result<Machine, Error> {
        let live = anchor.resume(&module.0.plain, &limits)?;
        Ok(Machine {
            module: module.clone(),
            limits,
            live,
            anchor,
            anchor_cost: Duration::ZERO,
            journal: Vec::new(),
            journal_bytes: 0,
            spent: Duration::ZERO,
            pending: None,
            health: Health::Good,
            oracle: None,
        })
    }

    /// Lets the process ask; its forks may too. Before its first call, and the same one for all of its life.
    pub fn asks(mut self, oracle: Option<Arc<dyn Oracle>>) -> Machine {
        self.oracle = oracle;
        self
    }

    /// Runs one message; both arguments are JSON text without NUL. [`Machine::commit`] or [`Machine::roll_back`] must
    /// follow. `Err` says that the host failed: the state is as before the call, nothing may be recorded.
    /// The message is known by the hash of its bytes.
    pub fn call(&mut self, message: &[u8], env: &[u8]) -> Result<Verdict, Error> {
        self.call_known(sha256(&[message]), message, env)
    }

    /// The same for a message known by an id: whatever it draws by chance is of that id.
    pub fn call_known(&mut self, id: [u8; 32], message: &[u8], env: &[u8]) -> Result<Verdict, Error> {
        assert!(
            self.pending.is_none(),
            "the call before is neither committed nor rolled back"
        );
        self.settle()?;
        let started = Instant::now();
        let verdict = on_big_stack(|| self.judge(id, message, env));
        let answered = match &verdict {
            Ok(verdict) => verdict.is_ok(),
            Err(_) => {
                self.health = Health::Lost;
                return verdict;
            }
        };
        let env = match self.journal.last() {
            Some(last) if *last.env == *env => last.env.clone(),
            _ => env.into(),
        };
        let entry = Entry {
            id,
            message: message.into(),
            env,
        };
        self.pending = Some(Pending {
            entry,
            spent: started.elapsed(),
            answered,
        });
        verdict
    }

    /// At full speed under the watch; if that stops it, again under gas.
    fn judge(&mut self, id: [u8; 32], message: &[u8], env: &[u8]) -> Result<Verdict, Error> {
        if self.limits.gas_max >= WATCHED_GAS_MIN {
            let seconds = self.limits.gas_max as f64 / GAS_PER_SECOND_MAX as f64;
            self.live
                .watched
                .begin(Duration::from_secs_f64(seconds.min(3600.0)));
            let asking = Asking::of(&self.oracle, id);
            if let Ended::Verdict(verdict) = self.live.run(message, env, asking, &self.limits, u64::MAX)? {
                return Ok(verdict);
            }
        }
        self.judge_by_gas(id, message, env)
    }

    fn judge_by_gas(&mut self, id: [u8; 32], message: &[u8], env: &[u8]) -> Result<Verdict, Error> {
        let build = self.module.fueled()?;
        let mut live = self.anchor.resume(&build, &self.limits)?;
        replay(&mut live, &self.journal, &self.limits, &self.oracle)?;
        let asking = Asking::of(&self.oracle, id);
        let ended = live.run(message, env, asking, &self.limits, self.limits.gas_max)?;
        self.live = live;
        match ended {
            Ended::Verdict(verdict) => Ok(verdict),
            Ended::Stopped => Err(Error::Host("stopped without a watch".into())),
        }
    }

    /// Keeps the last call's effect.
    pub fn commit(&mut self) -> Result<(), Error> {
        let pending = self.pending.take().expect("a call came before");
        assert!(pending.answered, "the effect of a fault cannot be kept");
        self.spent += pending.spent;
        self.journal_bytes += pending.entry.message.len();
        self.journal.push(pending.entry);
        let due = self.spent > ANCHOR_AFTER.max(self.anchor_cost * ANCHOR_SHARE)
            || self.journal.len() >= JOURNAL_CALLS_MAX
            || self.journal_bytes >= JOURNAL_BYTES_MAX;
        if due || self.live.fueled {
            self.take_anchor()
        } else {
            Ok(())
        }
    }

    /// Takes the last call's effect back. Costs what the calls since the last anchor cost, about 100 ms at most
    /// (more where anchors themselves are expensive), and never repeats the same work twice.
    pub fn roll_back(&mut self) -> Result<(), Error> {
        assert!(self.pending.take().is_some(), "a call came before");
        self.health = Health::Lost;
        self.settle()
    }

    /// Rebuilds the live instance from anchor and journal if it was lost.
    fn settle(&mut self) -> Result<(), Error> {
        match self.health {
            Health::Good => return Ok(()),
            Health::Dead => return Err(Error::Host("the process's state is lost; restore it".into())),
            Health::Lost => {}
        }
        self.live = self.anchor.resume(&self.module.0.plain, &self.limits)?;
        let (live, journal, limits, oracle) = (&mut self.live, &self.journal, &self.limits, &self.oracle);
        on_big_stack(|| replay(live, journal, limits, oracle))?;
        self.health = Health::Good;
        if self.journal.is_empty() {
            Ok(())
        } else {
            self.take_anchor()
        }
    }

    fn take_anchor(&mut self) -> Result<(), Error> {
        let started = Instant::now();
        // A half-written anchor is no way back.
        self.health = Health::Dead;
        self.anchor.update(&mut self.live)?;
        if self.live.fueled {
            self.live = self.anchor.resume(&self.module.0.plain, &self.limits)?;
        }
        self.health = Health::Good;
        self.journal.clear();
        self.journal_bytes = 0;
        self.spent = Duration::ZERO;
        self.anchor_cost = started.elapsed();
        Ok(())
    }

    /// A second machine in the same state, for dry runs beside the live one.
    pub fn fork(&mut self) -> Result<Machine, Error> {
        assert!(
            self.pending.is_none(),
            "the call before is neither committed nor rolled back"
        );
        self.settle()?;
        if !self.journal.is_empty() {
            self.take_anchor()?;
        }
        let fork = Machine::at(&self.module, self.limits, self.anchor.clone())?;
        Ok(fork.asks(self.oracle.clone()))
    }

    /// The state as bytes to keep: the pages that differ from the module's boot image, compressed.
    pub fn encode(&mut self) -> Result<Bytes, Error> {
        self.at_rest()?;
        image::encode(&self.module, &mut self.live, &self.anchor)
    }

    /// The state as bytes to keep for ever: what differs from the module's dictionary, or from a state packed before.
    pub fn pack(&mut self, base: Option<&State>) -> Result<Bytes, Error> {
        self.at_rest()?;
        packed::pack(&self.module, &mut self.live, &self.anchor, base)
    }

    /// The state root: BLAKE3 Merkle tree over pages, with memory size, mutable globals and host state.
    pub fn state_root(&mut self) -> Result<[u8; 32], Error> {
        self.at_rest()?;
        let runs = self.anchor.live_runs(&self.live);
        Ok(root::of(&mut self.live, &runs))
    }

    fn at_rest(&mut self) -> Result<(), Error> {
        assert!(
            self.pending.is_none(),
            "the call before is neither committed nor rolled back"
        );
        self.settle()
    }

    /// Bytes of linear memory.
    pub fn memory_bytes(&self) -> u64 {
        self.live.memory_bytes()
    }

    /// The raw linear memory (`/state`, ao Checkpoint). Mostly untouched zero pages: do not copy it lightly.
    pub fn memory(&self) -> &[u8] {
        self.live.memory()
    }

    pub(super) fn parts(&mut self) -> (&mut Live, &Anchor) {
        (&mut self.live, &self.anchor)
    }
}

/// Runs calls whose effect was kept before: unwatched, as they are known to end.
fn replay(
    live: &mut Live,
    journal: &[Entry],
    limits: &Limits,
    oracle: &Option<Arc<dyn Oracle>>,
) -> Result<(), Error> {
    for entry in journal {
        let asking = Asking::of(oracle, entry.id);
        let ended = live.run(&entry.message, &entry.env, asking, limits, u64::MAX)?;
        // A kept call had an answer; anything else now means that the state is not what it was.
        assert!(
            matches!(ended, Ended::Verdict(Ok(_))),
            "a kept call fails when it is run again"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::pages::tests::HIDDEN;
    use crate::runtime::{Config, Engine, ModuleFormat};
    use std::sync::atomic::Ordering;

    /// Writes its own place to a new page at each message.
    const WRITER: &str = r#"(module (memory (export "memory") 4 300)
      (global $sp (mut i32) (i32.const 65536)) (global $next (mut i32) (i32.const 131072))
      (data (i32.const 256) "{\"ok\":true,\"response\":{}}\00")
      (func (export "stackSave") (result i32) (global.get $sp))
      (func (export "stackRestore") (param i32) (global.set $sp (local.get 0)))
      (func (export "stackAlloc") (param i32) (result i32)
        (global.set $sp (i32.sub (global.get $sp) (local.get 0))) (global.get $sp))
      (func (export "handle") (param i32 i32) (result i32)
        (i32.store (global.get $next) (global.get $next))
        (global.set $next (i32.add (global.get $next) (i32.const 12288)))
        (i32.const 256)))"#;

    fn run(machine: &mut Machine, calls: usize) {
        for i in 0..calls {
            machine.call(b"{}", b"{}").unwrap().unwrap();
            if i % 3 == 2 {
                machine.roll_back().unwrap()
            } else {
                machine.commit().unwrap()
            }
        }
    }

    #[test]
    fn states_are_kept_where_the_page_map_is_hidden() {
        let wasm = Bytes::from(wat::parse_str(WRITER).unwrap());
        let module = Engine::new(Config::default())
            .unwrap()
            .load(&wasm, ModuleFormat::Emscripten2)
            .unwrap();
        let mut seen = Machine::start(&module, Limits::default()).unwrap();
        run(&mut seen, 10);
        HIDDEN.store(true, Ordering::Relaxed);
        let mut blind = Machine::start(&module, Limits::default()).unwrap();
        run(&mut blind, 10);
        let mut restored = Machine::restore(&module, Limits::default(), &blind.encode().unwrap()).unwrap();
        let roots = [&mut seen, &mut blind, &mut restored].map(|m| m.state_root().unwrap());
        HIDDEN.store(false, Ordering::Relaxed);
        assert!(roots.iter().all(|r| *r == seen.state_root().unwrap()));
        assert_eq!(root::slow_tree(seen.memory()), root::slow_tree(blind.memory()));
    }

    #[test]
    #[should_panic(expected = "neither committed nor rolled back")]
    fn calls_do_not_overlap() {
        let wasm = Bytes::from(wat::parse_str(WRITER).unwrap());
        let module = Engine::new(Config::default())
            .unwrap()
            .load(&wasm, ModuleFormat::Emscripten2)
            .unwrap();
        let mut machine = Machine::start(&module, Limits::default()).unwrap();
        machine.call(b"{}", b"{}").unwrap().unwrap();
        machine.call(b"{}", b"{}").ok();
    }
}
