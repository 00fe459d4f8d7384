//! The one thread that gives slots: takes a batch, drafts, signs, appends, and answers once durable.
//!
//! Not here: checks that need no order (signatures, tags), which run in the callers' tasks. The
//! invariants: at most one append is under way per class, and nothing is appended after a failure
//! before the heads are read again from what is durable, so no slot is skipped or reused; an answer
//! leaves only after what it tells is durable and visible; a tick leaves only after every
//! assignment before it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use futures_util::future::{JoinAll, join_all};
use spec::assignment::AssignmentError;
use spec::contract::{Answer, Class, Scheduled, Tick};
use spec::{Address, Assignment, DataItem, ItemId, ProcessId, Refusal};
use tokio::sync::{mpsc, oneshot};
use weave::{Piece, Position, Record};

use crate::assign::{Ask, Head};
use crate::authority::Authority;
use crate::belongings::Belongings;
use crate::clock::Clock;
use crate::config::Config;
use crate::copies::{self, Plan};
use crate::error::{Error, Result};
use crate::index::{Change, Index, Key, Placed, Row, View};
use crate::journal::{Journal, Pending};
use crate::note::{Mark, Told};
use crate::read;
use crate::read::Reader;

/// Requests drafted before the writer looks up again.
const DRAFT_MAX: usize = 16;

/// Local processes that are copied at once.
const WIDENING_MAX: usize = 4;
/// How long copying waits after a failure: the spool may be full.
const COPY_AGAIN: Duration = Duration::from_secs(1);

/// Asked once: the answer is read from files.
static CORES: LazyLock<usize> = LazyLock::new(|| std::thread::available_parallelism().map_or(1, usize::from));

/// What wants a slot, checked as far as it can be without knowing the order.
#[derive(Debug)]
pub struct Work {
    /// Whose log.
    pub process: ProcessId,
    /// What is assigned: the message, or the process item itself.
    pub subject: ItemId,
    /// The item to store beside the assignment; `None` for one that lives elsewhere.
    pub item: Option<DataItem>,
    /// Set for the process item: where its log goes.
    pub spawn: Option<Class>,
    /// By what a pushed message is known again.
    pub pushed: Option<Key>,
    /// Whether the message turns its process permanent.
    pub widens: bool,
    /// What else the assignment says.
    pub ask: Ask,
}

impl Work {
    fn bytes(&self) -> usize {
        self.item.as_ref().map_or(0, |item| item.bytes().len())
    }
}

/// Somebody waiting for an answer.
type Reply<T> = oneshot::Sender<Answer<T>>;

enum Request {
    Slot(Box<Work>, Reply<Scheduled>),
    Tick(Reply<Tick>),
}

/// The writer's front: hands requests in and waits for answers.
pub struct Writer {
    queue: mpsc::Sender<Request>,
    queued_bytes: Arc<AtomicUsize>,
    queue_bytes_max: usize,
}

impl Writer {
    /// Starts the thread. It ends when this is dropped and all requests are answered.
    pub fn start(parts: Parts, config: &Config) -> Result<(Writer, std::thread::JoinHandle<()>)> {
        let (queue, requests) = mpsc::channel(config.queue_max.max(1));
        let queued_bytes = Arc::new(AtomicUsize::new(0));
        let widening = parts.index.view()?.widening()?.into_iter().collect();
        let desk = Desk {
            parts,
            config: config.clone(),
            heads: HashMap::new(),
            lost: false,
            widening,
            arrived: HashSet::new(),
            // What an earlier run left unfinished goes on at once.
            copy_after: Some(Instant::now()),
            requests,
            queued_bytes: queued_bytes.clone(),
        };
        let thread = std::thread::Builder::new().name("su-writer".into());
        // Only to wait on two things at once: no other task runs on it.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        let runtime = runtime.map_err(|error| Error::Thread(error.to_string().into()))?;
        let thread = thread.spawn(move || runtime.block_on(desk.run()));
        let thread = thread.map_err(|error| Error::Thread(error.to_string().into()))?;
        let queue_bytes_max = config.queue_bytes_max;
        Ok((
            Writer {
                queue,
                queued_bytes,
                queue_bytes_max,
            },
            thread,
        ))
    }

    /// Gives a slot.
    pub async fn slot(&self, work: Work) -> Answer<Scheduled> {
        let bytes = work.bytes();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if queued > 0 && queued + bytes > self.queue_bytes_max {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return Err(busy("queue_bytes_max"));
        }
        let (reply, answer) = oneshot::channel();
        self.send(Request::Slot(Box::new(work), reply)).inspect_err(|_| {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        })?;
        answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    /// Tells the time.
    pub async fn tick(&self) -> Answer<Tick> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Tick(reply))?;
        answer.await.unwrap_or_else(|_| Err(Error::Closed.into()))
    }

    fn send(&self, request: Request) -> Answer<()> {
        use mpsc::error::TrySendError;
        self.queue.try_send(request).map_err(|error| match error {
            TrySendError::Full(_) => busy("queue_max"),
            TrySendError::Closed(_) => Error::Closed.into(),
        })
    }
}

/// The item has a slot in the process.
pub fn message_exists() -> Refusal {
    Refusal::invalid("message-exists", "Message already exists")
}

/// The pushed message has a slot in the process, under another id.
pub fn deep_hash_exists() -> Refusal {
    Refusal::invalid("deep-hash-exists", "Deep hash already exists")
}

fn busy(limit: &str) -> Refusal {
    Refusal::busy(
        "scheduler-busy",
        format!("the scheduler's queue is full ({limit}); try again"),
    )
}

/// What the writer works with.
pub struct Parts {
    /// Who gives slots.
    pub authority: Arc<Authority>,
    /// Finds what must be permanent beside the log.
    pub belongings: Arc<dyn Belongings>,
    /// The log.
    pub journal: Arc<dyn Journal>,
    /// Where things stand in it.
    pub index: Arc<Index>,
    /// Time.
    pub clock: Clock,
}

/// A request that got a slot.
struct Placement {
    work: Box<Work>,
    reply: Reply<Scheduled>,
    tick: Tick,
    /// Set once signed.
    assignment: Option<Assignment>,
}

/// The placements of one process in one batch, in order.
struct Lane {
    head: Head,
    /// The tick of the last placement.
    last: Tick,
    placements: Vec<Placement>,
}

impl Lane {
    fn check(&self, process: ProcessId) {
        let last = self
            .placements
            .last()
            .and_then(|placement| placement.assignment.as_ref());
        let next = last.map(|last| (last.process, last.slot + 1));
        assert_eq!(
            next,
            Some((process, self.head.next_slot)),
            "a lane ends where its head begins"
        );
    }

    /// Whether items that live elsewhere must be made permanent for it.
    fn needs_others(&self) -> bool {
        let is_elsewhere = |placement: &Placement| placement.work.item.is_none();
        self.head.class == Class::Permanent && self.placements.iter().any(is_elsewhere)
    }
}

/// Requests with what will be answered, before it is durable.
#[derive(Default)]
struct Batch {
    lanes: HashMap<ProcessId, Lane>,
    refused: Vec<(Box<Work>, Reply<Scheduled>, Refusal)>,
    ticks: Vec<(Reply<Tick>, Tick)>,
    /// What the index does not know yet.
    fresh: HashSet<Key>,
    /// Why nothing of it can be appended: the key failed.
    failed: Option<Refusal>,
    /// Requests in it, and the bytes of their items.
    count: usize,
    bytes: usize,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether another request may join.
    fn room(&self, config: &Config) -> bool {
        self.count < config.batch_max && self.bytes < config.batch_bytes_max
    }

    /// The requests again, in an order that keeps each process's.
    fn undo(self) -> Vec<Request> {
        let lanes = self.lanes.into_values().flat_map(|lane| lane.placements);
        let placed = lanes.map(|placement| Request::Slot(placement.work, placement.reply));
        let refused = self
            .refused
            .into_iter()
            .map(|(work, reply, _)| Request::Slot(work, reply));
        let ticks = self.ticks.into_iter().map(|(reply, _)| Request::Tick(reply));
        placed.chain(refused).chain(ticks).collect()
    }
}

/// What one append carries.
struct Group {
    /// Copies that come first: of the one lane, if there is one.
    copies: Option<Plan>,
    lanes: Vec<Lane>,
    lease: Option<u64>,
}

impl Group {
    fn of(copies: Option<Plan>, lanes: Vec<Lane>) -> Group {
        Group {
            copies,
            lanes,
            lease: None,
        }
    }

    /// The process whose log this copies, and nothing else.
    fn is_background(&self) -> bool {
        self.copies.is_some() && self.lanes.is_empty()
    }

    /// Items that live elsewhere and must be in the group's class before it.
    fn needs(&self, class: Class) -> Vec<ItemId> {
        if class == Class::Local {
            return Vec::new();
        }
        let copied = self.copies.iter().flat_map(|plan| plan.needs.iter().copied());
        let placements = self.lanes.iter().flat_map(|lane| &lane.placements);
        let elsewhere = placements.filter(|placement| placement.work.item.is_none());
        copied
            .chain(elsewhere.map(|placement| placement.work.subject))
            .collect()
    }
}

/// A batch whose appends are under way.
struct Flight {
    /// Ends when all appends have; their answers in the order of the groups.
    landing: JoinAll<Pending>,
    groups: Vec<Group>,
    rest: Batch,
}

/// What the writer turns to next.
enum Event {
    /// Requests came in.
    Requests(Vec<Request>),
    /// The flight's appends have ended.
    Landed(Vec<weave::error::Result<Vec<Position>>>),
    /// It is time to copy again.
    Copy,
    /// All callers are gone, and nothing is under way.
    Closed,
}

/// The writer's thread.
struct Desk {
    parts: Parts,
    config: Config,
    heads: HashMap<ProcessId, Head>,
    /// The index missed something that is in the log; only a restart can tell where logs end.
    lost: bool,
    /// Local processes that are being copied into the permanent class.
    widening: BTreeSet<ProcessId>,
    /// Those that arrived there since the start: heads drafted before do not know it.
    arrived: HashSet<ProcessId>,
    /// Copying failed and waits until then.
    copy_after: Option<Instant>,
    requests: mpsc::Receiver<Request>,
    queued_bytes: Arc<AtomicUsize>,
}

impl Desk {
    /// While one batch becomes durable, the next is drafted and signed as its requests come in.
    async fn run(mut self) {
        let mut flight: Option<Flight> = None;
        let mut batch = Batch::default();
        loop {
            match self.next(flight.as_mut(), batch.room(&self.config)).await {
                Event::Requests(requests) => {
                    let in_flight = flight.as_ref().map(|flight| &flight.rest.fresh);
                    self.draft(&mut batch, requests, in_flight);
                }
                Event::Landed(answers) => {
                    let landed = flight.take().expect("only a flight lands");
                    if !self.settle(landed, answers) {
                        // Drafted on heads that never became durable.
                        let again = std::mem::take(&mut batch).undo();
                        self.draft(&mut batch, again, None);
                    }
                }
                Event::Copy => {}
                Event::Closed => return,
            }
            if flight.is_none() && (!batch.is_empty() || self.is_copying()) {
                flight = Some(self.launch(std::mem::take(&mut batch)));
            }
        }
    }

    /// Waits for the flight to land or, where the batch has room, for requests.
    async fn next(&mut self, flight: Option<&mut Flight>, room: bool) -> Event {
        let Some(flight) = flight else {
            return self.requests_or_copies().await;
        };
        if !room {
            return Event::Landed((&mut flight.landing).await);
        }
        tokio::select! {
            biased;
            answers = &mut flight.landing => Event::Landed(answers),
            requests = self.requests() => match requests {
                Some(requests) => Event::Requests(requests),
                None => Event::Landed((&mut flight.landing).await),
            },
        }
    }

    /// Waits for requests or, if copying failed, until it may be tried again.
    async fn requests_or_copies(&mut self) -> Event {
        let at = self.copy_after.filter(|_| !self.widening.is_empty());
        let Some(at) = at else {
            return self.requests().await.map_or(Event::Closed, Event::Requests);
        };
        tokio::select! {
            biased;
            requests = self.requests() => requests.map_or(Event::Closed, Event::Requests),
            () = tokio::time::sleep_until(at.into()) => Event::Copy,
        }
    }

    /// Whether there is something to copy now. Whoever closes the scheduler does not wait for it.
    fn is_copying(&self) -> bool {
        !self.widening.is_empty()
            && !self.requests.is_closed()
            && self.copy_after.is_none_or(|at| at <= Instant::now())
    }

    /// Some requests: few enough that a flight which lands meanwhile does not wait long. `None`: all
    /// callers are gone.
    async fn requests(&mut self) -> Option<Vec<Request>> {
        let mut requests = Vec::new();
        let most = DRAFT_MAX.min(self.config.batch_max).max(1);
        if self.requests.recv_many(&mut requests, most).await == 0 {
            return None;
        }
        let bytes = requests.iter().map(size).sum::<usize>();
        self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        Some(requests)
    }

    /// Gives each request its slot or its refusal, and signs.
    fn draft(&mut self, batch: &mut Batch, requests: Vec<Request>, in_flight: Option<&HashSet<Key>>) {
        let index = self.parts.index.clone();
        let view = index.view().map_err(Refusal::from);
        batch.count += requests.len();
        batch.bytes += requests.iter().map(size).sum::<usize>();
        for request in requests {
            match request {
                Request::Tick(reply) => batch.ticks.push((reply, self.parts.clock.tick())),
                Request::Slot(work, reply) => {
                    let lane = view.as_ref().map_err(Refusal::clone);
                    let lane = lane.and_then(|view| self.admit(&work, batch, in_flight, view));
                    match lane {
                        Ok(()) => self.place(work, reply, batch),
                        Err(refusal) => batch.refused.push((work, reply, refusal)),
                    }
                }
            }
        }
        let signed = sign(&mut batch.lanes, &self.parts.authority);
        batch.failed = batch
            .failed
            .take()
            .or(signed.err().map(|error| Error::from(error).into()));
        for (process, lane) in &batch.lanes {
            self.heads.insert(*process, lane.head);
        }
    }

    /// Whether a request may have a slot; if so its lane is there afterwards.
    fn admit(
        &self,
        work: &Work,
        batch: &mut Batch,
        in_flight: Option<&HashSet<Key>>,
        view: &View<'_>,
    ) -> Answer<()> {
        let known = |key: Key, batch: &Batch| -> Answer<bool> {
            let fresh = batch.fresh.contains(&key) || in_flight.is_some_and(|fresh| fresh.contains(&key));
            Ok(fresh || view.place(key)?.is_some())
        };
        let id = Key::of_id(work.process, work.subject);
        if known(id, batch)? {
            return Err(message_exists());
        }
        if let Some(pushed) = work.pushed
            && known(pushed, batch)?
        {
            return Err(deep_hash_exists());
        }
        if let Entry::Vacant(vacant) = batch.lanes.entry(work.process) {
            let head = self.head(work, view)?;
            let (last, placements) = (head.tick, Vec::new());
            vacant.insert(Lane {
                head,
                last,
                placements,
            });
        }
        batch.fresh.insert(id);
        batch.fresh.extend(work.pushed);
        Ok(())
    }

    /// Where the log of a request's process ends.
    fn head(&self, work: &Work, view: &View<'_>) -> Answer<Head> {
        if self.lost {
            return Err(Refusal::internal(
                "the scheduler lost track of its log; restart the node",
            ));
        }
        if let Some(head) = self.heads.get(&work.process) {
            return Ok(*head);
        }
        if let Some(class) = work.spawn {
            return Ok(Head::unborn(work.process, class, self.named_by(work)));
        }
        let head = read::head(&*self.parts.journal, view, work.process)?;
        if let Some(head) = &head {
            self.parts.authority.check(head)?;
        }
        head.ok_or_else(|| {
            let text = format!(
                "Process {} is not scheduled here; spawn it here, or ask its own scheduler",
                work.process
            );
            Refusal::not_found("unknown-process", text)
        })
    }

    /// Who may be expected to sign slot 0: the scheduler that the process names, if its key led to ours.
    fn named_by(&self, work: &Work) -> Address {
        let named = work.item.as_ref().and_then(|item| item.tag("Scheduler"));
        let named = named.and_then(|text| text.parse().ok());
        let authority = &self.parts.authority;
        named
            .filter(|named| authority.steps_from(*named).is_some())
            .unwrap_or(authority.address())
    }

    fn place(&mut self, work: Box<Work>, reply: Reply<Scheduled>, batch: &mut Batch) {
        let lane = batch.lanes.get_mut(&work.process).expect("admitted just now");
        let tick = self.parts.clock.stamp(lane.last);
        assert!(tick > lane.last, "a lane moves forward in time");
        lane.last = tick;
        lane.placements.push(Placement {
            work,
            reply,
            tick,
            assignment: None,
        });
    }

    /// Starts the appends of a batch: one per class, and one for each process that needs more than that.
    fn launch(&mut self, mut batch: Batch) -> Flight {
        if batch.failed.is_some() {
            return Flight {
                landing: join_all([]),
                groups: Vec::new(),
                rest: batch,
            };
        }
        if self.heads.len() > self.config.heads_max {
            // All but those of this batch can be read again: nothing else is under way.
            self.heads.retain(|process, _| batch.lanes.contains_key(process));
        }
        let mut plans = self.plans();
        let mut lanes: HashMap<Class, Vec<Lane>> = HashMap::new();
        let mut groups = Vec::new();
        for (process, mut lane) in batch.lanes.drain() {
            lane.check(process);
            if !self.arrived.is_empty() && self.arrived.contains(&process) {
                lane.head.class = Class::Permanent;
            }
            // The last copies and what comes next are one group: either all is permanent or nothing.
            let arrives = |plan: &Plan| plan.process == process && plan.stage.is_done;
            let copies = plans.extract_if(.., |plan| arrives(plan)).next();
            if copies.is_some() || lane.needs_others() {
                let class = copies.as_ref().map_or(lane.head.class, |_| Class::Permanent);
                groups.push((class, Group::of(copies, vec![lane])));
            } else {
                lanes.entry(lane.head.class).or_default().push(lane);
            }
        }
        let mut lease = self.parts.clock.lease().filter(|_| !batch.ticks.is_empty());
        if lease.is_some() {
            lanes.entry(Class::Local).or_default();
        }
        for (class, lanes) in lanes {
            let lease = lease.take_if(|_| class == Class::Local);
            let group = Group {
                lease,
                ..Group::of(None, lanes)
            };
            groups.push((class, group));
        }
        groups.extend(
            plans
                .into_iter()
                .map(|plan| (Class::Permanent, Group::of(Some(plan), Vec::new()))),
        );
        let appends: Vec<Pending> = groups
            .iter_mut()
            .map(|(class, group)| self.append(group, *class))
            .collect();
        Flight {
            landing: join_all(appends),
            groups: groups.into_iter().map(|(_, group)| group).collect(),
            rest: batch,
        }
    }

    /// What is copied with the next flight. Nothing is under way: all slots given are durable.
    fn plans(&mut self) -> Vec<Plan> {
        if !self.is_copying() {
            return Vec::new();
        }
        let mut plans = Vec::new();
        let chosen: Vec<_> = self.widening.iter().copied().take(WIDENING_MAX).collect();
        for process in chosen {
            match copies::plan(&self.parts.index, &*self.parts.journal, process) {
                Ok(Some(plan)) => plans.push(plan),
                Ok(None) => drop(self.widening.remove(&process)),
                Err(error) => {
                    tracing::error!(%process, "its log cannot be copied into the permanent class: {error}");
                    self.copy_after = Some(Instant::now() + COPY_AGAIN);
                }
            }
        }
        plans
    }

    /// Starts the append of a group, after what it needs is where it must be.
    fn append(&self, group: &mut Group, class: Class) -> Pending {
        let needs = group.needs(class);
        let records = records(&group.lanes, group.lease);
        let Some(plan) = &mut group.copies else {
            if needs.is_empty() {
                return self.parts.journal.append(records, class);
            }
            let pieces = records.into_iter().map(Piece::New).collect();
            return self.append_after(needs, None, pieces, class);
        };
        let mut pieces = std::mem::take(&mut plan.pieces);
        plan.count = pieces.len();
        pieces.extend(records.into_iter().map(Piece::New));
        let sender = plan.is_first.then_some(plan.process);
        self.append_after(needs, sender, pieces, class)
    }

    fn reader(&self) -> Reader {
        Reader {
            journal: self.parts.journal.clone(),
            index: self.parts.index.clone(),
            page_bytes_max: 0,
        }
    }

    fn append_after(
        &self,
        needs: Vec<ItemId>,
        sender: Option<ProcessId>,
        pieces: Vec<Piece>,
        class: Class,
    ) -> Pending {
        let (belongings, journal) = (self.parts.belongings.clone(), self.parts.journal.clone());
        let reader = self.reader();
        Box::pin(async move {
            let mut needs = needs;
            if !needs.is_empty() && class == Class::Permanent {
                let is_local = |process| reader.is_local(process);
                let private = belongings.private(&needs, &is_local).await;
                let private = private.map_err(weave::Error::Refused)?;
                needs.retain(|id| !private.contains(id));
                for id in private {
                    // It was assigned while the process was local, too.
                    tracing::warn!(%id, "it belongs to a local process, and stays behind");
                }
            }
            if !needs.is_empty() {
                let kept = belongings.keep(needs, class).await;
                kept.map_err(weave::Error::Refused)?;
            }
            if let Some(process) = sender {
                let kept = belongings.keep_sent(process).await;
                kept.map_err(weave::Error::Refused)?;
            }
            journal.append_pieces(pieces, class).await
        })
    }

    /// Answers a batch whose appends have ended. False if any of it failed: heads are forgotten then,
    /// and read again from what is durable.
    fn settle(&mut self, flight: Flight, answers: Vec<weave::error::Result<Vec<Position>>>) -> bool {
        let Flight { groups, mut rest, .. } = flight;
        assert_eq!(groups.len(), answers.len(), "each append has its answer");
        let mut failure = rest.failed.take();
        let mut durable = Vec::new();
        for (group, answer) in groups.into_iter().zip(answers) {
            match answer {
                Ok(positions) => durable.push((group, positions)),
                Err(error) => {
                    if group.copies.is_some() {
                        tracing::warn!("copying into the permanent class waits: {error}");
                        self.copy_after = Some(Instant::now() + COPY_AGAIN);
                    }
                    if group.is_background() {
                        continue;
                    }
                    let refusal = Refusal::from(error);
                    refuse(group.lanes, &refusal);
                    failure = Some(refusal);
                }
            }
        }
        // All groups at once: the index's cursor must not pass one that is not in it.
        match self.enter(&durable) {
            Ok(()) => durable.into_iter().for_each(|(group, _)| answer(group.lanes)),
            Err(error) => {
                let refusal = Refusal::from(error);
                durable
                    .into_iter()
                    .for_each(|(group, _)| refuse(group.lanes, &refusal));
                failure = Some(refusal);
            }
        }
        answer_rest(rest, failure.as_ref());
        if failure.is_some() {
            self.heads.clear();
        }
        failure.is_none()
    }

    /// Makes durable assignments visible.
    fn enter(&mut self, durable: &[(Group, Vec<Position>)]) -> Result<()> {
        let ends = durable.iter().filter_map(|(_, positions)| positions.last());
        let Some(end) = ends.max() else {
            return Ok(());
        };
        let placed = durable
            .iter()
            .flat_map(|(group, positions)| placed(group, positions));
        let placed: Vec<Placed> = placed.collect();
        let lease = durable.iter().find_map(|(group, _)| group.lease);
        let copies = durable.iter().filter_map(|(group, _)| group.copies.as_ref());
        let change = Change {
            lease,
            stages: copies.map(|plan| (plan.process, plan.stage)).collect(),
            ..Change::default()
        };
        let entered = self
            .parts
            .index
            .apply(&placed, &change, *end)
            .and_then(|()| self.parts.index.maintain());
        let widened = placed.iter().filter(|placed| placed.widens);
        self.widening.extend(widened.map(|placed| placed.process));
        for (process, _) in change.stages.iter().filter(|(_, stage)| stage.is_done) {
            self.arrive(*process);
        }
        // In the log but not in the index: a head read from the index would reuse slots.
        self.lost |= entered.is_err();
        if let Some(until_ms) = lease {
            self.parts.clock.leased(until_ms);
        }
        metrics::counter!("su_scheduled_total").increment(placed.len() as u64);
        metrics::histogram!("su_batch_assignments").record(placed.len() as f64);
        entered
    }
}

impl Desk {
    /// All of a process is permanent, and so is what comes next.
    fn arrive(&mut self, process: ProcessId) {
        self.widening.remove(&process);
        self.arrived.insert(process);
        if let Some(head) = self.heads.get_mut(&process) {
            head.class = Class::Permanent;
        }
        tracing::info!(%process, "the process is permanent now, with all that came before");
    }
}

fn size(request: &Request) -> usize {
    match request {
        Request::Slot(work, _) => work.bytes(),
        Request::Tick(_) => 0,
    }
}

/// Signs every lane: each in order, since each assignment covers the one before. A slow key (RSA)
/// signs several lanes at once.
fn sign(
    lanes: &mut HashMap<ProcessId, Lane>,
    authority: &Authority,
) -> std::result::Result<(), AssignmentError> {
    let slow = authority.signer().signature_type() == spec::SignatureType::Arweave;
    let threads = if slow { CORES.min(lanes.len()) } else { 1 };
    let next = std::sync::Mutex::new(lanes.values_mut());
    let take = || next.lock().expect("no holder of this lock panics").next();
    let work = || std::iter::from_fn(take).try_for_each(|lane| sign_lane(lane, authority));
    if threads < 2 {
        return work();
    }
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().expect("signing does not panic"))
    })
}

fn sign_lane(lane: &mut Lane, authority: &Authority) -> std::result::Result<(), AssignmentError> {
    let unsigned = lane
        .placements
        .iter_mut()
        .filter(|placement| placement.assignment.is_none());
    for placement in unsigned {
        // Kept, in case all this must be drafted again.
        let ask = placement.work.ask.clone();
        placement.assignment = Some(lane.head.assign(ask, placement.tick, authority)?);
    }
    Ok(())
}

/// The signed placements of lanes, in the order of their records.
fn signed(lanes: &[Lane]) -> impl Iterator<Item = (&Placement, &Assignment)> {
    let placements = lanes.iter().flat_map(|lane| &lane.placements);
    placements.map(|placement| {
        (
            placement,
            placement.assignment.as_ref().expect("unsigned ones were refused"),
        )
    })
}

/// A group: the lease, if one is due, then a note on what follows, then the items.
fn records(lanes: &[Lane], lease: Option<u64>) -> Vec<Record> {
    let mark = |(placement, _): (&Placement, _)| Mark {
        with_message: placement.work.item.is_some(),
        pushed: placement.work.pushed.map(|key| key.0),
        widens: placement.work.widens,
    };
    let marks: Vec<Mark> = signed(lanes).map(mark).collect();
    let mut records = Vec::with_capacity(2 + 2 * marks.len());
    records.extend(lease.map(|until_ms| Told::Lease(until_ms).record()));
    if !marks.is_empty() {
        records.push(Told::Scheduled(marks).record());
    }
    for (placement, assignment) in signed(lanes) {
        records.extend(placement.work.item.clone().map(Record::Item));
        records.push(Record::Item(assignment.item.clone()));
    }
    records
}

/// Where the records of a group landed.
fn placed(group: &Group, positions: &[Position]) -> Vec<Placed> {
    let Group { copies, lanes, lease } = group;
    let copies = copies.as_ref().map_or(0, |plan| plan.count);
    let notes = copies + usize::from(lease.is_some()) + usize::from(!lanes.is_empty());
    let mut positions = positions.iter().copied().skip(notes);
    let mut next = || {
        positions
            .next()
            .expect("the log answers with one position per record")
    };
    let place = |(placement, assignment): (&Placement, &Assignment)| {
        let message = placement.work.item.as_ref().map(|_| next());
        let row = Row {
            message,
            assignment: next(),
            timestamp_ms: assignment.tick.timestamp_ms,
        };
        let process = assignment.process;
        let ids = [placement.work.subject, assignment.item.id()].map(|id| Key::of_id(process, id));
        let (slot, tick, pushed) = (assignment.slot, assignment.tick, placement.work.pushed);
        Placed {
            process,
            slot,
            row,
            tick,
            ids,
            pushed,
            widens: placement.work.widens,
        }
    };
    let placed = signed(lanes).map(place).collect();
    assert!(
        positions.next().is_none(),
        "the log answers with one position per record"
    );
    placed
}

/// Answers what needed no place. After a failure even a refusal may be wrong: the message it calls
/// a duplicate may be the one that failed.
fn answer_rest(rest: Batch, failure: Option<&Refusal>) {
    if let Some(failure) = failure {
        refuse(rest.lanes.into_values().collect(), failure);
    }
    for (_, reply, refusal) in rest.refused {
        metrics::counter!("su_refused_total").increment(1);
        let _ = reply.send(Err(failure.cloned().unwrap_or(refusal)));
    }
    for (reply, tick) in rest.ticks {
        // A tick whose lease failed was never promised.
        let _ = reply.send(failure.map_or(Ok(tick), |refusal| Err(refusal.clone())));
    }
}

fn answer(lanes: Vec<Lane>) {
    for placement in lanes.into_iter().flat_map(|lane| lane.placements) {
        let assignment = placement.assignment.expect("unsigned ones were refused");
        assert_eq!(
            assignment.subject(),
            placement.work.subject,
            "everybody is told of his own message"
        );
        let scheduled = Scheduled {
            process: assignment.process,
            slot: assignment.slot,
            message: assignment.subject(),
            assignment: assignment.item.id(),
            tick: assignment.tick,
        };
        // Whoever asked may be gone; the slot is taken all the same.
        let _ = placement.reply.send(Ok(scheduled));
    }
}

fn refuse(lanes: Vec<Lane>, refusal: &Refusal) {
    for placement in lanes.into_iter().flat_map(|lane| lane.placements) {
        let _ = placement.reply.send(Err(refusal.clone()));
    }
}
