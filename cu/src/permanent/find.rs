//! Finds a process's permanent checkpoints in the weave, and unpacks one.
//!
//! Not here: whether its state is the process's; only the log shows that (`confirm`). Invariant: a state that was
//! unpacked has the root that its item was signed with.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use spec::contract::{Answer, Query, Span, Stored, TagFilter};
use spec::{Address, DataItem, ItemId, ProcessId, Refusal};

use super::item::{self, NAMING, PROTOCOL, Statement, TYPE};
use crate::checkpoint::Stand;
use crate::program::Program;
use crate::runtime::State;
use crate::shared::Shared;

/// Hits asked for at once: each may be megabytes.
const PAGE: usize = 16;
/// Items looked through for one process.
const ITEMS_MAX: usize = 65_536;
/// Compute units that a scheduler's items can name.
const NAMED_MAX: usize = 16;

/// A checkpoint that was found.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Its item.
    pub id: ItemId,
    /// Who signed it.
    pub signer: Address,
    /// What it says.
    pub says: Statement,
    /// Bytes of its data.
    pub bytes: u64,
}

fn tag(name: &str, value: String) -> TagFilter {
    TagFilter {
        name: name.into(),
        values: vec![value],
    }
}

/// The checkpoints of a process, newest place first: of these signers, or of all. `enough` ends the search.
pub async fn candidates(
    shared: &Shared,
    process: ProcessId,
    signers: Option<&BTreeSet<Address>>,
    enough: usize,
) -> Answer<Vec<Candidate>> {
    let mut query = Query {
        owners: signers.into_iter().flatten().copied().collect(),
        tags: vec![
            tag("Data-Protocol", PROTOCOL.into()),
            tag("Type", TYPE.into()),
            tag("Process", process.to_string()),
        ],
        first: PAGE,
        ..Query::default()
    };
    let mut found: Vec<Candidate> = Vec::new();
    let (mut seen, mut next) = (0, true);
    while next && found.len() < enough && seen < ITEMS_MAX {
        let page = shared.permanent.find(query.clone()).await?;
        seen += page.hits.len();
        next = page.has_next_page && !page.hits.is_empty();
        query.after = page.hits.last().map(|hit| hit.cursor.clone());
        for hit in page.hits {
            found.extend(
                hit.stored
                    .item()
                    .and_then(|item| candidate(item, process, signers)),
            );
        }
    }
    found.sort_by_cached_key(|one| Reverse((one.says.place.rank(), one.id)));
    found.dedup_by_key(|one| one.id);
    Ok(found)
}

/// What answers a search proves nothing: its signature, its signer and its process are looked at here.
fn candidate(item: &DataItem, process: ProcessId, signers: Option<&BTreeSet<Address>>) -> Option<Candidate> {
    let signer = item.owner_address();
    let is_wanted = signers.is_none_or(|signers| signers.contains(&signer));
    let says = Statement::read(item).ok()?;
    (is_wanted && says.process == process && item.verify().is_ok()).then(|| Candidate {
        id: item.id(),
        signer,
        says,
        bytes: item.data_len(),
    })
}

/// The compute units that a scheduler names.
pub async fn named_by(shared: &Shared, scheduler: Address) -> Answer<Vec<Address>> {
    let query = Query {
        owners: vec![scheduler],
        tags: vec![tag("Data-Protocol", PROTOCOL.into()), tag("Type", NAMING.into())],
        first: NAMED_MAX,
        ..Query::default()
    };
    let page = shared.permanent.find(query).await?;
    let items = page.hits.iter().filter_map(|hit| hit.stored.item());
    let own = items.filter(|item| item.owner_address() == scheduler && item.verify().is_ok());
    Ok(own.filter_map(item::named).collect())
}

/// An item of the weave, whole and verified.
async fn fetch(shared: &Shared, id: ItemId) -> Answer<DataItem> {
    let stored = shared.fetch(id).await?;
    let Stored::Item(item) = stored else {
        let text = format!("the checkpoint {id} was withheld, or is no signed item");
        return Err(Refusal::not_found("checkpoint-withheld", text));
    };
    let max = shared.config.permanent.item_bytes_max;
    match item.data_len() <= max {
        true => Ok(item),
        false => Err(unfit(
            id,
            &format!("it has {} bytes, more than {max}", item.data_len()),
        )),
    }
}

fn unfit(id: ItemId, why: &str) -> Refusal {
    Refusal::invalid(
        "checkpoint-unfit",
        format!("the checkpoint {id} is left out: {why}"),
    )
}

/// The state of a checkpoint: its chain is fetched, unpacked from the oldest on, and its root compared.
///
/// # Errors
/// If a part of the chain is not there, damaged, of another signer, process or module, or the root is another.
pub async fn state(shared: &Shared, program: &Arc<Program>, id: ItemId) -> Answer<(Statement, State)> {
    let mut chain: Vec<(Statement, Bytes)> = Vec::new();
    let mut next = Some(id);
    while let Some(at) = next {
        let item = fetch(shared, at).await?;
        let says = Statement::read(&item).map_err(|tag| unfit(at, &format!("its tag {tag}")))?;
        if !says.is_of(program) {
            return Err(unfit(at, "it is of another process, module or engine epoch"));
        }
        if let Some((after, _)) = chain.last() {
            check_link(&says, after).map_err(|why| unfit(at, why))?;
        }
        next = says.before.as_ref().map(|before| before.id);
        chain.push((says, item.data()));
    }
    let says = chain.first().expect("one was fetched").0.clone();
    let program = program.clone();
    let unpack = move || unpack(&program, &chain);
    let state = shared.pool.run(unpack).await?;
    Ok((says, state.map_err(|why| unfit(id, &why))?))
}

/// Chains end: each part is one shallower and of an earlier place.
fn check_link(says: &Statement, after: &Statement) -> Result<(), &'static str> {
    let before = after.before.as_ref().ok_or("nothing is packed against it")?;
    match () {
        () if says.depth + 1 != after.depth => Err("its depth does not fit"),
        () if says.root != before.root => Err("its root is not the one that was packed against"),
        () if says.place.rank() >= after.place.rank() => {
            Err("it is not earlier than what was packed against it")
        }
        () => Ok(()),
    }
}

/// From the newest to the oldest part; unpacked the other way.
fn unpack(program: &Program, chain: &[(Statement, Bytes)]) -> Result<State, String> {
    let (mut state, max) = (None, program.limits.memory_bytes_max);
    for (_, data) in chain.iter().rev() {
        let unpacked = program.module.unpack(max, state.as_ref(), data);
        state = Some(unpacked.map_err(|error| error.to_string())?);
    }
    let state = state.ok_or("it is empty")?;
    match state.root() == chain[0].0.root {
        true => Ok(state),
        false => Err("its state has another root than it says".into()),
    }
}

/// The stand that a place is, if the log has it: the assignment at its slot, and for a cron a moment that is past and
/// comes before the next message.
pub async fn stand(shared: &Shared, says: &Statement) -> Answer<Option<Stand>> {
    let (slot, place) = (says.place.slot, &says.place);
    let Some(after) = slot.checked_add(1) else {
        return Ok(None);
    };
    let page = shared
        .scheduler
        .log(says.process, Span::Slots(slot, after), 2)
        .await?;
    let mut entries = page.entries.iter().map(|entry| &entry.assignment);
    let (at, next) = (entries.next(), entries.next());
    let Some(at) = at.filter(|at| at.slot == slot && at.item.id() == place.assignment) else {
        return Ok(None);
    };
    let is_there = match &place.cron {
        None => at.tick == place.tick,
        Some(_) => {
            let until = match next {
                Some(next) => next.tick,
                None => shared.scheduler.tick().await?,
            };
            (at.tick.timestamp_ms..until.timestamp_ms).contains(&place.tick.timestamp_ms)
        }
    };
    Ok(is_there.then(|| Stand {
        slot,
        assignment: place.assignment,
        chain: at.chain,
        tick: place.tick,
        cron: place.cron.clone(),
    }))
}

impl Statement {
    /// Whether it can be a state of this program at all.
    pub fn is_of(&self, program: &Program) -> bool {
        self.process == program.key.process
            && self.module_sha256 == program.key.module
            && self.module == program.module_id
            && self.epoch == program.key.epoch
    }
}
