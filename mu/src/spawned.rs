//! What the owner of a new process should know, read from its log's first entry.
//!
//! Pure. Not here: the decisions themselves, which the scheduler's node takes and writes there.

use spec::Address;
use spec::contract::LogEntry;
use spec::tags;
use wire::messenger::Spawned;

/// Decisions and notices about a process whose messages `messenger` will sign.
pub fn of(slot0: &LogEntry, messenger: Address) -> Spawned {
    let assignment = &slot0.assignment;
    let adopted_from = assignment.adopted_from().map(str::to_owned);
    let module_used = assignment.module_used().ok().flatten();
    let item_tags = slot0.item().map_or(&[][..], |item| item.tags());
    let mut notices = Vec::new();
    if let Some(named) = &adopted_from {
        notices.push(format!(
            "this node keeps the log, although the process names the scheduler {named}; nothing of it leaves this machine"
        ));
    }
    if let Some(used) = module_used {
        let named = tags::first(item_tags, "Module").unwrap_or("");
        notices.push(format!(
            "nobody has added the bytes of the module {named} here, so this node's own kernel {used} runs the process; \
             to run those bytes, add them with `weft module add FILE --id {named}` and spawn again"
        ));
    }
    let authorities: Vec<&str> = tags::all(item_tags, "Authority").collect();
    if !authorities.is_empty() && !authorities.contains(&&*messenger.to_string()) {
        notices.push(format!(
            "the process trusts {} and not this node's messenger, so it drops what other processes send it; \
             evaluate `table.insert(ao.authorities, \"{messenger}\")` in it, or spawn it with the tag Authority={messenger}",
            authorities.join(", ")
        ));
    }
    Spawned {
        adopted_from,
        module_used,
        notices,
    }
}
