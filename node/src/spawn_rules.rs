//! What a node decides about a process when it is spawned, for slot 0's assignment.
//!
//! Not here: what comes of it: the scheduler writes it, the compute unit reads it. The invariant:
//! a decision is taken once, at spawn, and stands in the log; neither bytes that come later nor
//! configuration change it. A process about which anything was decided never leaves this machine.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use spec::assignment::{ADOPTED_FROM, MODULE_USED};
use spec::contract::Answer;
use spec::{Address, DataItem, ModuleId, Refusal, Tag, Tags};
use weave::Weave;
use weave::http::{StandIn, StandIns};

/// Longest name of a foreign scheduler that is written down, in bytes.
const SCHEDULER_LEN_MAX: usize = 64;

/// Modules that the field's clients name without anybody having them at hand: aos 2.0.0 to 2.0.4 as
/// published, without extensions. What needs more than plain aos (sqlite, llama) is not among them.
const PUBLISHED: [&str; 5] = [
    "ISShJH1ij-hPPt9St5UFFr_8Ys3Kj5cyg7zrMGt7H9s",
    "URgYpPQzvxxfYQtjrIQ116bl3YBfcImo3JEnNo8Hlrk",
    "JArYBF-D8q2OmZ4Mok00sD2Y_6SYEQ7Hjx-6VZ_jl3g",
    "Do_Uc2Sju_ffp6Ev0AnLVdPtot15rvMjP-a9VVaA5fM",
    "bkjb55i07GUCUSWROtKK4HU1mBS_X0TyH3M5jMV6aPg",
];

/// What decides.
pub struct SpawnRules {
    /// Accounts that are this node: its scheduler's, and its messenger's, which clients of the
    /// mainnet routes are told.
    pub own: Vec<Address>,
    /// Keys of its scheduler before this one; known once the scheduler has read its log.
    pub before: Arc<OnceLock<Vec<Address>>>,
    /// Where the node listens.
    pub listen: SocketAddr,
    /// Whose bytes are at hand.
    pub weave: Arc<Weave>,
    /// What runs a process whose published module is not at hand.
    pub kernel: ModuleId,
    /// Whether what is permanent is uploaded: then nothing is decided that only this machine could follow.
    pub uploads: bool,
}

impl SpawnRules {
    /// The notes on a process.
    ///
    /// # Errors
    /// A foreign scheduler where others than this machine's users may spawn; a failing weave.
    pub async fn notes(&self, process: &DataItem) -> Answer<Tags> {
        let mut notes = vec![Tag::new("Engine-Epoch", cu::engine_epoch())];
        let decided = notes.len();
        notes.extend(
            self.adopted_from(process)?
                .map(|named| Tag::new(ADOPTED_FROM, named)),
        );
        notes.extend(
            self.module_used(process)
                .await?
                .map(|id| Tag::new(MODULE_USED, id.to_string())),
        );
        if notes.len() > decided {
            notes.push(Tag::new("Storage", "local"));
        }
        Ok(notes)
    }

    /// The foreign scheduler that a process names, if it does.
    fn adopted_from(&self, process: &DataItem) -> Answer<Option<String>> {
        // That there is one is checked already.
        let named = process.tag("Scheduler").unwrap_or("");
        let before = self.before.get().map_or(&[][..], Vec::as_slice);
        let is_own = |named: &Address| self.own.contains(named) || before.contains(named);
        if named.parse().is_ok_and(|named| is_own(&named)) {
            return Ok(None);
        }
        if named.len() > SCHEDULER_LEN_MAX {
            let text = format!(
                "the tag Scheduler has {} bytes; it must be a scheduler's address",
                named.len()
            );
            return Err(Refusal::invalid("invalid-scheduler", text));
        }
        if self.listen.ip().is_loopback() {
            return Ok(Some(named.to_owned()));
        }
        let own = self.own.first().map(ToString::to_string).unwrap_or_default();
        let text = format!(
            "the process names the scheduler {named}, this one is {own}: spawn with the tag Scheduler={own}, or \
             at a node that listens on this machine only ({} is open to others)",
            self.listen
        );
        Err(Refusal::invalid("other-scheduler", text))
    }

    /// What runs a process that names a published module which nobody has added.
    async fn module_used(&self, process: &DataItem) -> Answer<Option<ModuleId>> {
        if self.uploads {
            return Ok(None);
        }
        let named = process.tag("Module").unwrap_or("");
        let Some(named) = published().find(|id| id.to_string() == named) else {
            return Ok(None);
        };
        let held = self.weave.lookup(named.into()).await?;
        Ok(held.is_none().then_some(self.kernel))
    }
}

/// The published modules.
fn published() -> impl Iterator<Item = ModuleId> {
    PUBLISHED.into_iter().map(|id| id.parse().expect("constant ids"))
}

/// How the gateway describes the published modules while nobody has added them: clients look up a
/// module's tags before they spawn.
pub fn stand_ins(kernel: ModuleId, by: Address) -> StandIns {
    let described: Tags = vec![
        Tag::new("Data-Protocol", "ao"),
        Tag::new("Variant", "ao.TN.1"),
        Tag::new("Type", "Module"),
        Tag::new("Module-Format", "lua@5.3a"),
        Tag::new("Input-Encoding", "JSON-1"),
        Tag::new("Output-Encoding", "JSON-1"),
        Tag::new(MODULE_USED, kernel.to_string()),
    ];
    published()
        .map(|id| StandIn {
            id: id.into(),
            by,
            tags: described.clone(),
        })
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]
mod tests {
    use bytes::Bytes;
    use spec::{ItemParts, Signer};

    use super::*;

    const OWN: Address = Address([7; 32]);

    fn rules(folder: &std::path::Path, listen: &str) -> SpawnRules {
        SpawnRules {
            own: vec![OWN],
            before: Arc::default(),
            listen: listen.parse().unwrap(),
            weave: Weave::open(weave::Config::default(), folder).unwrap(),
            kernel: cu::kernel_id(),
            uploads: false,
        }
    }

    fn process(module: &str, scheduler: &str) -> DataItem {
        let tags = vec![
            Tag::new("Module", module.to_owned()),
            Tag::new("Scheduler", scheduler.to_owned()),
            Tag::new("Storage", "permanent"),
        ];
        let parts = ItemParts {
            tags,
            ..ItemParts::default()
        };
        DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap()
    }

    async fn noted(rules: &SpawnRules, item: &DataItem) -> Vec<(String, String)> {
        let notes = rules.notes(item).await.unwrap();
        let text = |tag: &Tag| (tag.name_text().into_owned(), tag.value_text().into_owned());
        notes
            .iter()
            .map(text)
            .filter(|(name, _)| name != "Engine-Epoch")
            .collect()
    }

    #[tokio::test]
    async fn a_foreign_scheduler_is_adopted_on_this_machine_only() {
        let folder = tempfile::tempdir().unwrap();
        let mut rules = rules(folder.path(), "127.0.0.1:1");
        let (module, foreign) = (Address([1; 32]).to_string(), Address([2; 32]).to_string());
        assert_eq!(noted(&rules, &process(&module, &OWN.to_string())).await, []);
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted = [pair("Adopted-From", &foreign), pair("Storage", "local")];
        assert_eq!(noted(&rules, &process(&module, &foreign)).await, wanted);
        rules.before.set(vec![Address([2; 32])]).unwrap();
        assert_eq!(
            noted(&rules, &process(&module, &foreign)).await,
            [],
            "a key of ours"
        );
        let foreign = Address([3; 32]).to_string();
        let long = rules.notes(&process(&module, &"x".repeat(65))).await.unwrap_err();
        assert_eq!(long.code, "invalid-scheduler");
        rules.listen = "0.0.0.0:1".parse().unwrap();
        let refusal = rules.notes(&process(&module, &foreign)).await.unwrap_err();
        assert_eq!(refusal.code, "other-scheduler");
        assert!(refusal.text.contains(&format!("Scheduler={OWN}")), "{refusal}");
        assert_eq!(noted(&rules, &process(&module, &OWN.to_string())).await, []);
    }

    #[tokio::test]
    async fn a_published_module_is_answered_until_its_bytes_come() {
        let folder = tempfile::tempdir().unwrap();
        let rules = rules(folder.path(), "127.0.0.1:1");
        let item = process(PUBLISHED[0], &OWN.to_string());
        let kernel = cu::kernel_id().to_string();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let wanted = [pair("Module-Used", &kernel), pair("Storage", "local")];
        assert_eq!(noted(&rules, &item).await, wanted);
        let uploading = SpawnRules {
            uploads: true,
            ..super::tests::rules(&folder.path().join("uploading"), "127.0.0.1:1")
        };
        assert_eq!(
            noted(&uploading, &item).await,
            [],
            "others must be able to follow"
        );
        let unpublished = process(&Address([3; 32]).to_string(), &OWN.to_string());
        assert_eq!(noted(&rules, &unpublished).await, []);
        let (id, data) = (PUBLISHED[0].parse().unwrap(), Bytes::from_static(b"bytes"));
        rules.weave.register(id, Tags::new(), data, OWN).await.unwrap();
        assert_eq!(noted(&rules, &item).await, []);
    }
}
