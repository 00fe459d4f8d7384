//! `weft verify --process`: a whole log replayed from its first message, and held against every checkpoint known of it.
//!
//! Not here: the replay (`cu`). The invariant: no checkpoint and no cached outcome decides what the state is.

use std::collections::HashSet;
use std::path::Path;

use aos_shell::error::Problem;
use cu::permanent::{Audit, Known};
use spec::contract::Answer;
use spec::{Address, ItemId, ProcessId, Refusal};
use weave::network::Peer;

use super::{Ended, Follower, TemporaryFolder, caught, gather};
use crate::client::{Done, Outlet};
use crate::proof::args::VerifyArgs;
use crate::{gateways, wallet};

/// Bytes of checkpoints that are brought for one comparison.
const CHECKPOINTS_BYTES_MAX: usize = 4 << 30;

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
    let scheduler = [args.scheduler, own_account(data, "su.json")];
    let beside = temporary.path().join("beside");
    let mut follower = Follower::open_with(process, scheduler, peers, data, &beside).await?;
    follower.compute.trust_checkpoints(own_account(data, "cu.json"));
    let done = outlet.wait("replaying", audit(&mut follower)).await;
    follower.close().await;
    let audit = match done {
        Ok(audit) => audit,
        Err(Ended::Refused(refusal)) => return Err(refusal.into()),
        Err(Ended::Fraud(fraud)) => return Err(caught(&fraud, Path::new("."))),
    };
    tell(&audit, args.json, outlet)
}

/// The account of a unit whose folder it is.
fn own_account(data: &Path, file: &str) -> Option<Address> {
    let key = wallet::read(&data.join("keys").join(file)).ok()?;
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
    /// Takes the checkpoints that gateways list beside the log: their signatures hold, their states are what is asked.
    async fn bring_checkpoints(&mut self) -> Answer<()> {
        let (mut seen, mut bytes) = (HashSet::new(), 0);
        for at in 0..self.gateways.len() {
            let peer = self.gateways[at].peer.clone();
            let listed = gather::checkpoints(&peer, self.process).await;
            let listed = listed.unwrap_or_else(|refusal| {
                self.complaints.push(refusal.to_string());
                Vec::new()
            });
            for id in listed.into_iter().filter(|id| seen.insert(*id)) {
                if bytes >= CHECKPOINTS_BYTES_MAX {
                    self.complaints
                        .push(format!("checkpoints beyond {bytes} bytes are left out"));
                    return Ok(());
                }
                bytes += self.bring(&peer, id).await?;
            }
        }
        Ok(())
    }

    /// Takes one checkpoint, if it is to be had. Answers its bytes.
    async fn bring(&mut self, peer: &Peer, id: ItemId) -> Answer<usize> {
        if self.store.item(id).await?.is_some() {
            return Ok(0);
        }
        match gather::item(peer, id).await {
            Ok(item) => {
                let len = item.bytes().len();
                self.store.keep(vec![item]).await?;
                Ok(len)
            }
            Err(refusal) => {
                tracing::info!(peer = peer.name(), %refusal, "a checkpoint is not to be had");
                Ok(0)
            }
        }
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
            let trusted = audit.trusted.contains(&known.signer);
            serde_json::json!({
                "id": known.id, "slot": known.slot, "signer": known.signer, "root": hex(&known.root), "verdict": verdict,
                "trusted": trusted,
            })
        };
        outlet.json(&serde_json::json!({
            "ok": !audit.is_wrong(), "process": audit.process, "slot": audit.slot, "root": hex(&audit.root),
            "evaluated": audit.evaluated, "checkpoints": verdicts(audit).into_iter().map(row).collect::<Vec<_>>(),
        }));
    } else {
        outlet.value(&format!("slot {}  {}", audit.slot, hex(&audit.root)));
        for (known, verdict) in verdicts(audit) {
            let is_stranger = !audit.trusted.contains(&known.signer);
            let of_whom = if is_stranger {
                " (nobody builds on this signer's)"
            } else {
                ""
            };
            outlet.note(&format!("{}{of_whom}", line(known, &verdict)));
        }
    }
    // Differing checkpoints that somebody would build on are what a script asks for; anybody can sign others.
    Ok(u8::from(audit.is_wrong()))
}
