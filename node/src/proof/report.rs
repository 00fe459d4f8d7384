//! What a proof shows, in words and as JSON.
//!
//! The invariant: what is only claimed is never said as if it were shown.

use std::path::Path;

use aos_shell::error::Problem;
use serde_json::{Value, json};
use spec::fraud::Fraud;
use spec::proof::{Placed, Refused, Shown, ShownPlace, ShownSlot};

use super::make::Agreed;

/// A proof that is none.
pub fn refused(refused: Refused) -> Problem {
    Problem {
        place: Some(refused.place.into()),
        ..Problem::new("proof-refused", refused.to_string())
    }
}

/// `weft prove --json`
pub fn written(path: &Path, len: usize, shown: &Shown) -> Value {
    json!({ "ok": true, "file": path.display().to_string(), "bytes": len, "shown": shown })
}

/// `weft verify --json`
pub fn verified(shown: &Shown, agreed: &[Agreed]) -> Value {
    json!({ "ok": true, "shown": shown, "block_confirmed_by": agreed })
}

/// For people.
pub fn text(shown: &Shown, agreed: &[Agreed]) -> String {
    let data = match shown.has_data {
        true => "whole in this file".into(),
        false => format!("not in this file; its SHA-384 is {}", shown.data_sha384),
    };
    let mut lines = vec![
        format!(
            "item {} of {} bytes, signed by {}",
            shown.id, shown.size, shown.signer
        ),
        format!("  data        {data}"),
    ];
    lines.extend(shown.slot.iter().flat_map(|one| slot(one, agreed)));
    lines.push(format!("  place       {}", placed(shown)));
    if let Some(digest) = &shown.digest {
        lines.push(format!(
            "  bundle      carrier {} of {}, {} items, digest {}",
            digest.sequence, digest.signer, digest.count, digest.id
        ));
    }
    if shown.by_bundler {
        lines.push(format!(
            "  bundler     the bundle is the data of item {}",
            shown.carrier
        ));
    }
    match &shown.place {
        Some(place) => lines.extend(weave(place, agreed)),
        None => lines.push(
            "  NOT SHOWN   that anything is on the weave: the upload wallet signed this bundle, no more"
                .into(),
        ),
    }
    lines.join("\n")
}

fn slot(slot: &ShownSlot, agreed: &[Agreed]) -> [String; 4] {
    let chain = match (slot.follows, slot.followed) {
        (true, true) => "holds from the slot before to the slot after",
        (true, false) => "holds from the slot before",
        (false, true) => "holds to the slot after",
        (false, false) => "neither neighbour is in this file",
    };
    let told = agreed.iter().find(|one| one.scheduler_named == Some(true));
    let whose = match (slot.scheduler_named, told) {
        (true, _) => "  scheduler   the process item names it".into(),
        (false, Some(one)) => format!("  scheduler   the process item at {} leads to it", one.gateway),
        (false, None) => format!(
            "  NOT SHOWN   that {} schedules this process: anybody can sign assignments; `--from GATEWAY` asks for the process item",
            slot.scheduler
        ),
    };
    [
        format!("  slot        {} of process {}", slot.slot, slot.process),
        format!(
            "  assignment  {} by scheduler {}, epoch {}, at {} ms",
            slot.assignment, slot.scheduler, slot.epoch, slot.timestamp_ms
        ),
        whose,
        format!("  hash chain  {chain}"),
    ]
}

fn placed(shown: &Shown) -> &'static str {
    match shown.placed {
        Placed::Bytes => "its own bytes are in the data's chunks",
        Placed::Digest => "stated by the digest, which is in the data's last chunk",
        Placed::Elsewhere => "it lies elsewhere; its assignment is shown",
    }
}

fn weave(place: &ShownPlace, agreed: &[Agreed]) -> Vec<String> {
    let block = format!("{} {}", place.height, place.block);
    let mut lines = vec![format!(
        "  weave       transaction {} of wallet {}, {} bytes up to place {}",
        place.transaction, place.wallet, place.data_size, place.end
    )];
    match agreed {
        [] => lines.push(format!(
            "  CLAIMED     block {block} with root {}: any node can tell, `weft verify FILE --from GATEWAY`",
            place.tx_root
        )),
        agreed => lines.extend(agreed.iter().map(|one| {
            format!(
                "  block       {block}: {} has it, {} confirmations",
                one.gateway, one.confirmations
            )
        })),
    }
    lines
}

/// `weft verify --json` of a fraud file.
pub fn fraud_json(fraud: &Fraud) -> Value {
    let told = fraud.contradiction().may_be_told();
    json!({ "ok": true, "fraud": fraud.shown(), "unless_told_by_resume_item": told })
}

/// A fraud file for people.
pub fn fraud_text(fraud: &Fraud) -> String {
    let shown = fraud.shown();
    let mut lines = vec![
        format!("scheduler {} contradicts itself", shown.scheduler),
        format!("  process     {}", shown.process),
        format!("  how         {}", shown.contradiction),
    ];
    for (assignment, subject) in shown.statements.iter().zip(shown.subjects) {
        lines.push(format!("  signed      assignment {assignment} of {subject}"));
    }
    if shown.contradiction.may_be_told() {
        let caveat = "that no resume item of the scheduler tells of slots it lost: then this is no fraud";
        lines.push(format!("  NOT SHOWN   {caveat}"));
    }
    lines.join("\n")
}
