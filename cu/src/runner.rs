//! Runs one process's log: wakes its machine, evaluates entries and crons in order, keeps checkpoints.
//!
//! A runner has a machine of its own and is used by one task at a time: the owner's runner records
//! outcomes, a scratch runner (an earlier state, for a question) records nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use spec::contract::{Answer, Content, Evaluated, LogEntry, Span};
use spec::{Continuity, ProcessId, Refusal};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::watch;

use crate::checkpoint::{Checkpoints, Kept, Stand};
use crate::config::Config;
use crate::cron::{Due, Order};
use crate::error::Error;
use crate::eval;
use crate::following;
use crate::message;
use crate::permanent::confirm::{self, Report};
use crate::permanent::item::Place;
use crate::permanent::publish::{self, Made, Making, Since};
use crate::program::Program;
use crate::results::Results;
use crate::runtime::{self, Machine};
use crate::shared::Shared;

/// Code of the refusal that only means "ask again".
pub const EVALUATIONS_DUE: &str = "evaluations-due";

/// How far to evaluate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Up to a slot, no crons after it.
    Slot(u64),
    /// Up to the latest slot, no crons after it.
    Latest,
    /// Up to the scheduler's present, crons included.
    Now,
    /// Up to a slot, and the crons after it up to a moment, that of the given order being the last.
    Cron(u64, u64, Order),
}

/// The last cron to evaluate after the last message: a moment in ms, and a place within it.
type CronsUntil = Option<(u64, Order)>;

/// Keeps what is evaluated.
#[derive(Clone)]
pub struct Recorder {
    /// Whether this is the process's owner: it keeps checkpoints and is as far as it can be. Who fills a gap in the
    /// outcomes is not.
    pub is_owner: bool,
    /// Where outcomes go.
    pub results: Arc<Results>,
    /// Where checkpoints go.
    pub checkpoints: Checkpoints,
    /// Tells waiters the newest slot.
    pub progress: watch::Sender<Option<u64>>,
}

/// A process's machine and how far it is.
pub struct Live {
    /// The machine.
    pub machine: Machine,
    /// How far; `None` before the boot.
    pub stand: Option<Stand>,
    /// Evaluations since the last checkpoint.
    unsaved: u64,
    /// Evaluation time since the last checkpoint, in ms.
    unsaved_ms: u64,
    /// Since the last permanent checkpoint.
    since: Since,
}

/// A second machine of a process, to ask questions that change nothing.
pub struct Fork {
    /// The machine.
    pub machine: Machine,
    /// How far it is.
    pub stand: Stand,
    /// What it runs.
    pub program: Arc<Program>,
}

/// One process, run.
pub struct Runner {
    shared: Arc<Shared>,
    process: ProcessId,
    recorder: Option<Recorder>,
    program: Option<Arc<Program>>,
    live: Option<Live>,
    /// The permanent checkpoint under way.
    making: Option<Making>,
    /// What came of looking for permanent checkpoints at the last waking.
    report: Report,
    /// Evaluations done, in all.
    pub evaluated: u64,
    /// Where the log stands, as far as it was read.
    log: Option<Continuity>,
}

/// A log entry and the message it becomes.
struct Work {
    entry: LogEntry,
    message: Vec<u8>,
}

impl Runner {
    /// A sleeping process.
    pub fn new(shared: Arc<Shared>, process: ProcessId, recorder: Option<Recorder>) -> Runner {
        Runner {
            shared,
            process,
            recorder,
            program: None,
            live: None,
            making: None,
            report: Report::default(),
            evaluated: 0,
            log: None,
        }
    }

    /// A process awake in a given state, that records nothing.
    pub fn standing(shared: Arc<Shared>, program: Arc<Program>, live: Live) -> Runner {
        let mut runner = Runner::new(shared, program.key.process, None);
        (runner.program, runner.live) = (Some(program), Some(live));
        runner
    }

    /// A process at its log's beginning, that records nothing and builds on no checkpoint.
    pub async fn from_the_beginning(shared: Arc<Shared>, process: ProcessId) -> Answer<Runner> {
        let program = Arc::new(Program::load(&shared, process).await?);
        let starting = program.clone();
        let live = shared.pool.run(move || start(&starting)).await??;
        Ok(Runner::standing(shared, program, live))
    }

    /// What it runs, once it is awake.
    pub fn program(&self) -> Answer<&Arc<Program>> {
        let program = self.program.as_ref();
        program.ok_or_else(|| Refusal::internal("a process is awake while it is evaluated"))
    }

    /// Its machine and how far it is.
    pub fn into_live(self) -> Option<Live> {
        self.live
    }

    /// What came of looking for permanent checkpoints, once.
    pub fn take_report(&mut self) -> Report {
        std::mem::take(&mut self.report)
    }

    /// How far it is, if awake and booted.
    pub fn stand(&self) -> Option<&Stand> {
        self.live.as_ref()?.stand.as_ref()
    }

    /// Whether a machine is held.
    pub fn is_live(&self) -> bool {
        self.live.is_some()
    }

    /// Evaluates everything up to `target` that is not evaluated yet.
    ///
    /// # Errors
    /// What the scheduler or the weave refuse; busy once one request has waited for too many evaluations.
    pub async fn catch_up(&mut self, target: Target) -> Answer<()> {
        let (last, crons_until) = self.bounds(target).await?;
        if let (Target::Slot(slot), Some(stand)) = (target, self.stand())
            && stand.slot >= slot
        {
            return Ok(());
        }
        self.wake(last).await?;
        if self.stand().is_some_and(|stand| stand.slot > last) {
            return Ok(());
        }
        let mut evaluated = 0;
        loop {
            let work = self.page(last).await?;
            let reaches_last = work
                .back()
                .map_or(self.next_slot(), |work| work.entry.assignment.slot + 1)
                > last;
            let crons_until = crons_until.filter(|_| reaches_last);
            evaluated += self.work_off(work, crons_until, evaluated).await?;
            if reaches_last {
                return Ok(());
            }
        }
    }

    /// The last slot to evaluate, and until when crons after it.
    async fn bounds(&self, target: Target) -> Answer<(u64, CronsUntil)> {
        let scheduler = &self.shared.scheduler;
        match target {
            Target::Slot(slot) => Ok((slot, None)),
            Target::Latest => Ok((scheduler.latest(self.process).await?.assignment.slot, None)),
            Target::Now => {
                // The tick first: every entry given out after it is later than it.
                let now = scheduler.tick().await?;
                let last = scheduler.latest(self.process).await?.assignment.slot;
                let before = now.timestamp_ms.checked_sub(1);
                Ok((last, before.map(|before| (before, Order::LAST))))
            }
            Target::Cron(slot, ms, order) => Ok((slot, Some((ms, order)))),
        }
    }

    /// The first slot that is not evaluated yet.
    pub fn next_slot(&self) -> u64 {
        self.stand().map_or(0, |stand| stand.slot + 1)
    }

    /// Takes the machine from its checkpoint on this machine, or else from a permanent one, or starts a fresh one.
    pub async fn wake(&mut self, last: u64) -> Answer<()> {
        if self.live.is_some() {
            return Ok(());
        }
        let program = match &self.program {
            Some(program) => program.clone(),
            None => Arc::new(Program::load(&self.shared, self.process).await?),
        };
        self.program = Some(program.clone());
        let mut found = None;
        if let Some(upto) = self.latest_beginning(last) {
            found = self.resume(&program, upto).await?;
            if found.is_none() {
                found = self.begin(&program, upto).await?;
            }
        }
        let live = match found {
            Some(live) => live,
            None => self.shared.pool.run(move || start(&program)).await??,
        };
        self.live = Some(live);
        Ok(())
    }

    /// The latest slot that a checkpoint may be of. The owner is as far as it can be; who fills a gap needs the
    /// outcome of `last` too; who records nothing wants the state there.
    fn latest_beginning(&self, last: u64) -> Option<u64> {
        match &self.recorder {
            Some(recorder) if recorder.is_owner => Some(u64::MAX),
            Some(_) => last.checked_sub(1),
            None => Some(last),
        }
    }

    /// From a permanent checkpoint, where the log is long enough to look for one.
    async fn begin(&mut self, program: &Arc<Program>, upto: u64) -> Answer<Option<Live>> {
        let settings = &self.shared.config.permanent;
        if !settings.reads {
            return Ok(None);
        }
        let latest = self.shared.scheduler.latest(self.process).await?.assignment.slot;
        let is_long = upto.min(latest) >= settings.lookup_slots_min;
        if !is_long && program.schedule.is_empty() {
            return Ok(None);
        }
        let (live, report) = confirm::begin(&self.shared, program, upto).await;
        self.evaluated += report.evaluated;
        self.report = report;
        Ok(live)
    }

    async fn resume(&self, program: &Arc<Program>, last: u64) -> Answer<Option<Live>> {
        let (checkpoints, program) = (self.shared.checkpoints.clone(), program.clone());
        let live = self
            .shared
            .pool
            .run(move || restore(&checkpoints, &program, last))
            .await?;
        let Some(stand) = live.as_ref().and_then(|live| live.stand.as_ref()) else {
            return Ok(None);
        };
        let page = self
            .shared
            .scheduler
            .log(self.process, Span::Slots(stand.slot, stand.slot), 1)
            .await?;
        let is_of_this_log = page
            .entries
            .first()
            .is_some_and(|entry| entry.assignment.item.id() == stand.assignment);
        if !is_of_this_log {
            tracing::warn!(process = %self.process, slot = stand.slot, "checkpoint of another log left out");
        }
        Ok(live.filter(|_| is_of_this_log))
    }

    /// The next entries of the log with everything they need; empty if there are none up to `last`.
    async fn page(&mut self, last: u64) -> Answer<VecDeque<Work>> {
        let first = self.next_slot();
        if first > last {
            return Ok(VecDeque::new());
        }
        let span = Span::Slots(first, last);
        let page = self
            .shared
            .scheduler
            .log(self.process, span, self.shared.config.log_page.max(1))
            .await?;
        if page.entries.is_empty() {
            let text = format!("the scheduler does not give slot {first} of {}", self.process);
            return Err(Refusal::upstream("log-incomplete", text));
        }
        let before = self.stand().map(|stand| (stand.slot, stand.assignment));
        let known = self.log.take();
        self.log = Some(following::follow(&self.shared, known, self.process, before, &page.entries).await?);
        let (mut work, mut bytes) = (VecDeque::with_capacity(page.entries.len()), 0);
        for entry in page.entries {
            if bytes > self.shared.config.log_page_bytes_max {
                break;
            }
            match self.complete(entry).await {
                Ok(done) => {
                    bytes += done.message.len();
                    work.push_back(done);
                }
                // What comes before it can be evaluated; the next page begins with the refusal.
                Err(_) if !work.is_empty() => break,
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(work)
    }

    async fn complete(&self, entry: LogEntry) -> Answer<Work> {
        // Free for what our own log holds; a scheduler or gateway elsewhere has to prove what it says.
        entry.assignment.item.verify()?;
        if let Some(item) = entry.item() {
            item.verify()?;
        }
        let elsewhere = match entry.content {
            Content::Elsewhere => Some(self.shared.fetch(entry.assignment.subject()).await?),
            _ => None,
        };
        let program = self.program.as_ref();
        let program = program.ok_or_else(|| Refusal::internal("a process is awake while its log is read"))?;
        let encoding = program.module.format().into();
        let message = message::scheduled(&entry, elsewhere.as_ref(), encoding)?;
        Ok(Work { entry, message })
    }

    /// Evaluates a page turn by turn, so that other processes get their turns too.
    async fn work_off(&mut self, work: VecDeque<Work>, crons_until: CronsUntil, before: u64) -> Answer<u64> {
        let (mut work, mut evaluated) = (work, 0);
        loop {
            let (Some(live), Some(program)) = (self.live.take(), self.program.clone()) else {
                return Err(Refusal::internal("a process is awake while it is evaluated"));
            };
            let config = &self.shared.config;
            let turn = Turn {
                live,
                program,
                recorder: self.recorder.clone(),
                work,
                crons_until,
                left: config.turn_evaluations_max.max(1),
                evaluated: 0,
                refused: None,
            };
            let config = config.clone();
            let done = self.shared.pool.run(move || turn.run(&config)).await??;
            self.live = Some(done.live);
            work = done.work;
            evaluated += done.evaluated;
            self.evaluated += done.evaluated;
            let slot = self.stand().map_or(0, |stand| stand.slot);
            self.shared.checkpointing.note(self.process, slot, done.evaluated);
            self.publish_if_due().await?;
            if let Some(refusal) = done.refused {
                return Err(refusal);
            }
            if done.left > 0 {
                return Ok(evaluated);
            }
            self.check_patience(before + evaluated)?;
        }
    }

    /// Has a permanent checkpoint made of a second machine, where one is due and may be made.
    async fn publish_if_due(&mut self) -> Answer<()> {
        if !self.is_owner() || !self.is_publishing_due() {
            return Ok(());
        }
        match self.making.as_mut().map(Making::try_recv) {
            Some(Err(TryRecvError::Empty)) => return Ok(()),
            Some(Ok(made)) => self.note_made(made),
            Some(Err(TryRecvError::Closed)) | None => {}
        }
        self.making = None;
        let program = self.program()?.clone();
        // The one before may have been larger than was known.
        let turn = self
            .is_publishing_due()
            .then(|| publish::turn(&self.shared, &program));
        let Some(turn) = turn.flatten() else {
            return Ok(());
        };
        let fork = self.fork().await?;
        let Some(live) = &mut self.live else { return Ok(()) };
        live.since.restart();
        self.making = Some(publish::start(&self.shared, fork, live.since.last, turn));
        Ok(())
    }

    fn is_publishing_due(&self) -> bool {
        let settings = &self.shared.config.permanent;
        let live = self.live.as_ref().filter(|_| settings.makes);
        live.is_some_and(|live| live.since.is_due(settings))
    }

    fn note_made(&mut self, made: Option<Made>) {
        if let (Some(live), Some((id, bytes))) = (&mut self.live, made) {
            (live.since.last, live.since.bytes) = (Some(id), bytes);
        }
    }

    fn is_owner(&self) -> bool {
        self.recorder.as_ref().is_some_and(|recorder| recorder.is_owner)
    }

    /// Evaluates to a place; whether the log stands there at all.
    pub async fn reach(&mut self, place: &Place) -> Answer<bool> {
        let (slot, ms, order) = place.rank();
        let target = match place.cron {
            None => Target::Slot(slot),
            Some(_) => Target::Cron(slot, ms, order),
        };
        self.patiently(target).await?;
        let stand = self.stand();
        Ok(stand.is_some_and(|stand| {
            let is_message = (stand.slot, stand.assignment) == (place.slot, place.assignment);
            is_message && stand.tick == place.tick && stand.cron == place.cron
        }))
    }

    /// Evaluates to a log's last message.
    pub async fn finish(&mut self, last: u64) -> Answer<()> {
        self.patiently(Target::Slot(last)).await
    }

    /// However many evaluations it takes: nobody else waits for this runner.
    async fn patiently(&mut self, target: Target) -> Answer<()> {
        loop {
            match self.catch_up(target).await {
                Err(refusal) if refusal.code == EVALUATIONS_DUE => {}
                done => return done,
            }
        }
    }

    /// The state root.
    pub async fn root(&mut self) -> Answer<[u8; 32]> {
        let live = self.live.take();
        let mut live = live.ok_or_else(|| Refusal::internal("a process is awake while its root is taken"))?;
        let root = move || live.machine.state_root().map(|root| (live, root));
        let (live, root) = self.shared.pool.run(root).await?.map_err(Error::from)?;
        self.live = Some(live);
        Ok(root)
    }

    fn check_patience(&self, evaluated: u64) -> Answer<()> {
        if self.shared.is_closing.load(Ordering::Relaxed) {
            return Err(Refusal::busy(
                "closing",
                "this node is being shut down; ask again when it is back",
            ));
        }
        if evaluated < self.shared.config.request_evaluations_max {
            return Ok(());
        }
        let slot = self.stand().map_or(0, |stand| stand.slot);
        let text = format!(
            "{evaluated} evaluations were done up to slot {slot} and more are due; ask again to go on"
        );
        Err(Refusal::busy(EVALUATIONS_DUE, text))
    }

    /// Lets the machine go, and the program: what a module is may have changed.
    pub fn give_up(&mut self) {
        (self.live, self.program) = (None, None);
    }

    /// Keeps the state in a checkpoint and lets the machine go.
    pub async fn sleep(&mut self) -> Answer<()> {
        let (live, program) = (self.live.take(), self.program.take());
        let (Some(mut live), Some(program), Some(recorder)) = (live, program, self.recorder.clone()) else {
            return Ok(());
        };
        let save = move || live.save(&program, &recorder);
        Ok(self.shared.pool.run(save).await??)
    }

    /// A second machine in the present state, which must be past the boot.
    pub async fn fork(&mut self) -> Answer<Fork> {
        let (Some(mut live), Some(program)) = (self.live.take(), self.program.clone()) else {
            return Err(Refusal::internal("a process is awake while it is forked"));
        };
        let fork = move || live.machine.fork().map(|machine| (live, machine));
        let (live, machine) = self.shared.pool.run(fork).await?.map_err(Error::from)?;
        let stand = live.stand.clone();
        self.live = Some(live);
        let stand = stand.ok_or_else(|| Refusal::internal("a process is booted before it is forked"))?;
        Ok(Fork {
            machine,
            stand,
            program,
        })
    }
}

fn start(program: &Program) -> Result<Live, Error> {
    let machine = Machine::start(&program.module, program.limits)?;
    Ok(Live {
        machine: machine.asks(program.oracle.clone()),
        stand: None,
        unsaved: 0,
        unsaved_ms: 0,
        since: Since::default(),
    })
}

fn restore(checkpoints: &Checkpoints, program: &Program, last: u64) -> Option<Live> {
    let Kept { stand, since, image } = checkpoints.load(&program.key)?;
    if stand.slot > last {
        return None;
    }
    match Machine::restore(&program.module, program.limits, &image) {
        Ok(machine) => Some(Live {
            machine: machine.asks(program.oracle.clone()),
            stand: Some(stand),
            unsaved: 0,
            unsaved_ms: 0,
            since,
        }),
        Err(error) => {
            tracing::warn!(process = %program.key.process, "checkpoint left out, the log is replayed: {error}");
            None
        }
    }
}

impl Live {
    /// A machine that stands at a permanent checkpoint.
    pub fn at(machine: Machine, stand: Stand) -> Live {
        Live {
            machine,
            stand: Some(stand),
            // There is nothing on this machine yet.
            unsaved: 1,
            unsaved_ms: 0,
            since: Since::default(),
        }
    }

    /// Writes a checkpoint, after every outcome up to it.
    fn save(&mut self, program: &Program, recorder: &Recorder) -> Result<(), Error> {
        let Some(stand) = &self.stand else { return Ok(()) };
        recorder.results.flush()?;
        if self.unsaved > 0 {
            let image = self.machine.encode()?;
            recorder
                .checkpoints
                .save(&program.key, stand, &self.since, &image)?;
        }
        (self.unsaved, self.unsaved_ms) = (0, 0);
        Ok(())
    }

    fn is_due_for_checkpoint(&self, config: &Config) -> bool {
        self.unsaved >= config.checkpoint_evaluations || self.unsaved_ms >= config.checkpoint_ms
    }
}

/// Evaluations of one process on one thread, until the work or the turn ends.
struct Turn {
    live: Live,
    program: Arc<Program>,
    recorder: Option<Recorder>,
    work: VecDeque<Work>,
    crons_until: CronsUntil,
    /// Evaluations left; if some are left at the end, the work is done.
    left: usize,
    evaluated: u64,
    /// Why the next one has to wait: what its message asks of this node is not to be had now.
    refused: Option<Refusal>,
}

impl Turn {
    /// Evaluates. An error means that the host is in trouble: the machine is gone, nothing wrong was recorded.
    fn run(mut self, config: &Config) -> Answer<Turn> {
        let begun = Instant::now();
        let spent_ms = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        while self.left > 0 {
            match self.step() {
                Ok(true) => {}
                Ok(false) => break,
                Err(Error::Runtime(runtime::Error::Unavailable(refusal))) => {
                    self.refused = Some(refusal);
                    break;
                }
                Err(error) => return Err(error.into()),
            }
            self.left -= 1;
            self.evaluated += 1;
            if spent_ms() >= config.turn_ms_max {
                self.left = 0;
            }
        }
        metrics::counter!("cu_evaluations_total").increment(self.evaluated);
        self.live.unsaved += self.evaluated;
        self.live.unsaved_ms += spent_ms();
        self.live.since.evaluations += self.evaluated;
        self.live.since.ms += spent_ms();
        if let Some(recorder) = self.recorder.as_ref().filter(|recorder| recorder.is_owner)
            && self.live.is_due_for_checkpoint(config)
        {
            self.live.save(&self.program, recorder)?;
        }
        Ok(self)
    }

    /// One evaluation: the cron that is due before the next entry, or else that entry.
    fn step(&mut self) -> Result<bool, Error> {
        // A message comes before the crons of its own moment.
        let next = self.work.front();
        let until = next.map(|work| (work.entry.assignment.tick.timestamp_ms, Order::MESSAGE));
        let program = self.program.clone();
        if let (Some(stand), Some(until)) = (&self.live.stand, until.or(self.crons_until))
            && let Some(due) = program.schedule.next(stand.tick, stand.order(), until)
        {
            self.cron(&due)?;
            return Ok(true);
        }
        let Some(work) = self.work.pop_front() else {
            return Ok(false);
        };
        self.entry(&work)?;
        Ok(true)
    }

    fn entry(&mut self, work: &Work) -> Result<(), Error> {
        let assignment = &work.entry.assignment;
        let id = assignment.subject().0;
        let outcome = eval::evaluate_known(&mut self.live.machine, id, &work.message, &self.program.env)?;
        self.live.stand = Some(Stand {
            slot: assignment.slot,
            assignment: assignment.item.id(),
            chain: assignment.chain,
            tick: assignment.tick,
            cron: None,
        });
        self.record(Evaluated {
            slot: assignment.slot,
            tick: assignment.tick,
            cron: None,
            message: Some(assignment.subject()),
            outcome: Arc::new(outcome),
        })
    }

    fn cron(&mut self, due: &Due<'_>) -> Result<(), Error> {
        let encoding = self.program.module.format().into();
        let message = message::cron(&self.program.process, &due.cron.tags, due.tick, encoding);
        // It has no id of its own, but name and moment are one cron's alone.
        let id = runtime::sha256(&[due.cron.name.as_bytes(), &message]);
        let outcome = eval::evaluate_known(&mut self.live.machine, id, &message, &self.program.env)?;
        let name: Arc<str> = due.cron.name.as_str().into();
        let stand = self.live.stand.as_mut().expect("crons come after the boot");
        assert!(
            (due.tick.timestamp_ms, due.cron.order()) > (stand.tick.timestamp_ms, stand.order()),
            "crons ascend"
        );
        (stand.tick, stand.cron) = (due.tick, Some(due.cron.name.clone()));
        let slot = stand.slot;
        self.record(Evaluated {
            slot,
            tick: due.tick,
            cron: Some(name),
            message: None,
            outcome: Arc::new(outcome),
        })
    }

    fn record(&mut self, at: Evaluated) -> Result<(), Error> {
        let Some(recorder) = &self.recorder else {
            return Ok(());
        };
        let slot = at.slot;
        recorder.results.put(self.program.key.process, at)?;
        if !recorder.is_owner {
            return Ok(());
        }
        recorder
            .progress
            .send_if_modified(|newest| std::mem::replace(newest, (*newest).max(Some(slot))) < Some(slot));
        Ok(())
    }
}
