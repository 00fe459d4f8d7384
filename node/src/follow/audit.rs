//! `weft verify --process`: a whole log replayed from its first message, and held against every checkpoint known of it.
//!
//! Not here: the replay (`cu`). The invariant: no checkpoint and no cached outcome decides what the state is.

use std::path::Path;

use aos_shell::error::Problem;
use cu::permanent::{Audit, Known};
use spec::contract::{Answer, Class, Permanent};
use spec::{Address, ProcessId, Refusal};

use super::{Ended, Follower, TemporaryFolder, caught, gather};
use crate::client::{Done, Outlet};
use crate::proof::args::VerifyArgs;
use crate::{gateways, wallet};

/// `weft verify --process ID --full`
pub async fn verify(process: ProcessId, args: &VerifyArgs, outlet: &Outlet) -> Done {
    let peers = gateways::named(&args.from)?;
    if peers.is_empty() && args.data.is_none() {
        let text = "the log is read from a stopped node's folder or from gateways, and neither was named";
        return Err(Problem::new("no-log-source", text));
    }
    let temporary = TemporaryFolder::new()?;
    let data = args.data.as_deref().unwrap_or(temporary.path());
    if !data.is_dir() {
        let text = format!("{} is no folder", data.display());
        return Err(Problem::new("file", text));
    }
    let scheduler = args.scheduler.or_else(|| own_scheduler(data));
    let mut follower =
        Follower::open_with(process, scheduler, peers, data, &temporary.path().join("cu")).await?;
    let done = outlet.wait("replaying", audit(&mut follower)).await;
    follower.close().await;
    let audit = match done {
        Ok(audit) => audit,
        Err(Ended::Refused(refusal)) => return Err(refusal.into()),
        Err(Ended::Fraud(fraud)) => return Err(caught(&fraud, Path::new("."))),
    };
    tell(&audit, args.json, outlet)
}

/// The account of the scheduler whose folder it is.
fn own_scheduler(data: &Path) -> Option<Address> {
    let key = wallet::read(&data.join("keys").join("su.json")).ok()?;
    Some(key.address())
}

/// Reads what there is of the log, replays all of it, and compares.
pub(super) async fn audit(follower: &mut Follower) -> Result<Audit, Ended> {
    follower.look().await?;
    if follower.next_slot() == 0 {
        let complaints = follower.complaints().iter().map(|text| format!("; {text}"));
        let complaints: String = complaints.collect();
        let text = format!(
            "no assignment of the process by scheduler {}{complaints}",
            follower.scheduler
        );
        return Err(Refusal::not_found("no-log", text).into());
    }
    follower.bring_checkpoints().await?;
    let audited = follower.compute.audit(follower.process, &|_| {}).await;
    Ok(audited?)
}

impl Follower {
    /// Takes the checkpoints that gateways list onto this disk: their signatures hold, their states are what is asked.
    async fn bring_checkpoints(&mut self) -> Answer<()> {
        let mut new = Vec::new();
        for gateway in &self.gateways {
            match gather::checkpoints(&gateway.peer, self.process).await {
                Ok(items) => new.extend(items),
                Err(refusal) => self.complaints.push(refusal.to_string()),
            }
        }
        new.sort_by_key(spec::DataItem::id);
        new.dedup_by_key(|item| item.id());
        for item in new {
            if self.store.item(item.id()).await?.is_none() {
                self.store.append(vec![item], Class::Local).await?;
            }
        }
        Ok(())
    }
}

fn line(known: &Known, verdict: &str) -> String {
    format!(
        "  checkpoint {} at slot {} by {}: {verdict}",
        known.id, known.slot, known.signer
    )
}

/// What became of each checkpoint.
fn verdicts(audit: &Audit) -> Vec<(&Known, String)> {
    let hex = spec::signature::hex;
    let differs = |is: &Option<[u8; 32]>| match is {
        Some(root) => format!("DIFFERS, the state is {}", hex(root)),
        None => "DIFFERS, the log never stands there".into(),
    };
    let agree = audit.agree.iter().map(|known| (known, "agrees".to_owned()));
    let differ = audit.differ.iter().map(|(known, is)| (known, differs(is)));
    let unreadable = audit.unreadable.iter();
    let unreadable = unreadable.map(|(known, why)| (known, format!("agrees, and cannot be read: {why}")));
    let foreign = audit.foreign.iter();
    let foreign = foreign.map(|known| (known, "of another engine: nothing can be said".to_owned()));
    agree.chain(differ).chain(unreadable).chain(foreign).collect()
}

fn tell(audit: &Audit, json: bool, outlet: &Outlet) -> Done {
    let hex = spec::signature::hex;
    if json {
        let row = |(known, verdict): (&Known, String)| {
            serde_json::json!({
                "id": known.id, "slot": known.slot, "signer": known.signer, "root": hex(&known.root), "verdict": verdict,
            })
        };
        outlet.json(&serde_json::json!({
            "ok": audit.differ.is_empty(), "process": audit.process, "slot": audit.slot, "root": hex(&audit.root),
            "evaluated": audit.evaluated, "checkpoints": verdicts(audit).into_iter().map(row).collect::<Vec<_>>(),
        }));
    } else {
        outlet.value(&format!("slot {}  {}", audit.slot, hex(&audit.root)));
        for (known, verdict) in verdicts(audit) {
            outlet.note(&line(known, &verdict));
        }
    }
    // Differing checkpoints are what a script asks for.
    Ok(u8::from(!audit.differ.is_empty()))
}
