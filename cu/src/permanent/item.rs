//! The item of a permanent checkpoint: what its tags say. Pure; drawn in spec/checkpoint.md.
//!
//! Not here: whether any of it is true. Invariant: what was read signs back to the same tags.

use bytes::Bytes;
use spec::contract::Tick;
use spec::ids::{base64url, from_base64url};
use spec::{Address, DataItem, ItemError, ItemId, ItemParts, ModuleId, ProcessId, Signer, Tag, Tags, tags};

use crate::cron::Order;

/// `Data-Protocol` of everything that only we read: lookups of `ao` never see it.
pub const PROTOCOL: &str = "Weft";
/// `Variant` of this layout.
pub const VARIANT: &str = "weft.1";
/// `Content-Type`: no memory dump.
pub const CONTENT_TYPE: &str = "application/x-weft-checkpoint";
/// `Type`.
pub const TYPE: &str = "Checkpoint";
/// `Type` of the item by which a scheduler names a compute unit, and the tag that names it.
pub const NAMING: &str = "Compute-Unit";
/// Longest chain of checkpoints that are packed one against the other. Part of the format: longer ones are refused.
pub const DEPTH_MAX: u32 = 16;

/// Where a state stands in a log: after a message, or after a cron that came later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The last message's slot.
    pub slot: u64,
    /// That message's assignment.
    pub assignment: ItemId,
    /// The last evaluation's moment.
    pub tick: Tick,
    /// The cron it was, if it was one.
    pub cron: Option<String>,
}

impl Place {
    /// Places sort as the evaluations happened.
    pub fn rank(&self) -> (u64, u64, Order) {
        let order = self.cron.as_deref().and_then(Order::of_name);
        (self.slot, self.tick.timestamp_ms, order.unwrap_or(Order::MESSAGE))
    }
}

/// What a packed state was packed against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Before {
    /// The checkpoint before.
    pub id: ItemId,
    /// The root of its state.
    pub root: [u8; 32],
}

/// What a checkpoint says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Whose state it is.
    pub process: ProcessId,
    /// The module that ran.
    pub module: ModuleId,
    /// What that module is, in hex: SHA-256 of its binary; of a Lua module, of engine and source.
    pub module_sha256: String,
    /// The engine epoch.
    pub epoch: String,
    /// Where the state stands.
    pub place: Place,
    /// Its root.
    pub root: [u8; 32],
    /// What it is packed against; `None`: the module's dictionary.
    pub before: Option<Before>,
    /// Checkpoints before it in its chain.
    pub depth: u32,
}

impl Statement {
    /// The tags, in order.
    fn tags(&self) -> Tags {
        let place = &self.place;
        let mut tags: Vec<(&str, String)> = vec![
            ("Data-Protocol", PROTOCOL.into()),
            ("Variant", VARIANT.into()),
            ("Type", TYPE.into()),
            ("Content-Type", CONTENT_TYPE.into()),
            ("Process", self.process.to_string()),
            ("Nonce", place.slot.to_string()),
            ("Timestamp", place.tick.timestamp_ms.to_string()),
            ("Block-Height", place.tick.block_height.to_string()),
            ("Assignment", place.assignment.to_string()),
            ("Module", self.module.to_string()),
            ("Module-SHA256", self.module_sha256.clone()),
            ("Engine-Epoch", self.epoch.clone()),
            ("State-Root", base64url(&self.root)),
            ("Depth", self.depth.to_string()),
        ];
        tags.extend(place.cron.clone().map(|cron| ("Cron", cron)));
        if let Some(before) = &self.before {
            tags.push(("Base", before.id.to_string()));
            tags.push(("Base-Root", base64url(&before.root)));
        }
        tags.into_iter()
            .map(|(name, value)| Tag::new(name, value))
            .collect()
    }

    /// The signed item.
    ///
    /// # Errors
    /// If the key cannot sign.
    pub fn sign(&self, data: Bytes, signer: &Signer) -> Result<DataItem, ItemError> {
        let parts = ItemParts {
            target: None,
            anchor: None,
            tags: self.tags(),
            data,
        };
        DataItem::sign(&parts, signer)
    }

    /// Reads an item's tags.
    ///
    /// # Errors
    /// Names the tag that is missing or unreadable.
    pub fn read(item: &DataItem) -> Result<Statement, &'static str> {
        let tags = item.tags();
        for (name, value) in [
            ("Data-Protocol", PROTOCOL),
            ("Variant", VARIANT),
            ("Type", TYPE),
            ("Content-Type", CONTENT_TYPE),
        ] {
            if tags::first(tags, name) != Some(value) {
                return Err(name);
            }
        }
        let depth = number(tags, "Depth")?;
        let depth = u32::try_from(depth).ok().filter(|depth| *depth <= DEPTH_MAX);
        let (depth, before) = (depth.ok_or("Depth")?, before(tags)?);
        if before.is_some() != (depth > 0) {
            return Err("Base");
        }
        Ok(Statement {
            process: id(tags, "Process")?,
            module: id(tags, "Module")?,
            module_sha256: text(tags, "Module-SHA256")?.into(),
            epoch: text(tags, "Engine-Epoch")?.into(),
            place: place(tags)?,
            root: root(tags, "State-Root")?,
            before,
            depth,
        })
    }
}

fn text<'a>(tags: &'a [Tag], name: &'static str) -> Result<&'a str, &'static str> {
    tags::first(tags, name).ok_or(name)
}

fn id<T: std::str::FromStr>(tags: &[Tag], name: &'static str) -> Result<T, &'static str> {
    text(tags, name)?.parse().map_err(|_| name)
}

fn number(tags: &[Tag], name: &'static str) -> Result<u64, &'static str> {
    let text = text(tags, name)?;
    let is_canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_canonical.then(|| text.parse().ok()).flatten().ok_or(name)
}

fn root(tags: &[Tag], name: &'static str) -> Result<[u8; 32], &'static str> {
    let bytes = from_base64url(text(tags, name)?);
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(name)
}

fn place(tags: &[Tag]) -> Result<Place, &'static str> {
    let cron = tags::first(tags, "Cron").map(ToOwned::to_owned);
    if cron.as_deref().is_some_and(|name| Order::of_name(name).is_none()) {
        return Err("Cron");
    }
    Ok(Place {
        slot: number(tags, "Nonce")?,
        assignment: id(tags, "Assignment")?,
        tick: Tick {
            timestamp_ms: number(tags, "Timestamp")?,
            block_height: number(tags, "Block-Height")?,
        },
        cron,
    })
}

fn before(tags: &[Tag]) -> Result<Option<Before>, &'static str> {
    if tags::first(tags, "Base").is_none() {
        return Ok(None);
    }
    Ok(Some(Before {
        id: id(tags, "Base")?,
        root: root(tags, "Base-Root")?,
    }))
}

/// The item by which a log's scheduler names the compute unit whose checkpoints may be built on.
///
/// # Errors
/// If the key cannot sign.
pub fn naming(scheduler: &Signer, compute_unit: Address) -> Result<DataItem, ItemError> {
    let account = compute_unit.to_string();
    let all = [
        ("Data-Protocol", PROTOCOL),
        ("Variant", VARIANT),
        ("Type", NAMING),
        (NAMING, &account),
    ];
    let tags = all
        .into_iter()
        .map(|(name, value)| Tag::new(name, value))
        .collect();
    let parts = ItemParts {
        tags,
        ..ItemParts::default()
    };
    DataItem::sign(&parts, scheduler)
}

/// The compute unit that such an item names.
pub fn named(item: &DataItem) -> Option<Address> {
    let tags = item.tags();
    let is_naming =
        tags::first(tags, "Data-Protocol") == Some(PROTOCOL) && tags::first(tags, "Type") == Some(NAMING);
    let account = tags::first(tags, NAMING).filter(|_| is_naming)?;
    account.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(depth: u32) -> Statement {
        Statement {
            process: ProcessId([1; 32]),
            module: ModuleId([2; 32]),
            module_sha256: "ab".repeat(32),
            epoch: "epoch".into(),
            place: Place {
                slot: 7,
                assignment: ItemId([3; 32]),
                tick: Tick {
                    timestamp_ms: 1_700_000_000_123,
                    block_height: 9,
                },
                cron: (depth > 0).then(|| "0-10-seconds".into()),
            },
            root: [4; 32],
            before: (depth > 0).then_some(Before {
                id: ItemId([5; 32]),
                root: [6; 32],
            }),
            depth,
        }
    }

    fn item_with(tags: Tags) -> DataItem {
        let parts = ItemParts {
            tags,
            ..ItemParts::default()
        };
        DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap()
    }

    #[test]
    fn a_statement_reads_back_as_it_was_signed() {
        for depth in [0, 1, DEPTH_MAX] {
            let item = sample(depth)
                .sign("data".into(), &Signer::ed25519(&[1; 32]))
                .unwrap();
            assert_eq!(Statement::read(&item), Ok(sample(depth)));
        }
    }

    /// An item of the first version reads, and is what is signed today.
    #[test]
    fn version_1_reads() {
        let vector = Bytes::from_static(include_bytes!("../../../spec/vectors/checkpoint_v1.item"));
        let item = DataItem::parse_verified(vector).unwrap();
        assert_eq!(Statement::read(&item), Ok(sample(3)));
        let again = sample(3)
            .sign("state".into(), &Signer::ed25519(&[1; 32]))
            .unwrap();
        assert_eq!((again.bytes(), &again.data()[..]), (item.bytes(), &b"state"[..]));
    }

    #[test]
    fn a_missing_or_changed_tag_is_named() {
        let tags = sample(1).tags();
        for (index, tag) in tags.iter().enumerate() {
            let name = tag.name_text().into_owned();
            let mut without = tags.clone();
            without.remove(index);
            if name != "Cron" {
                assert!(Statement::read(&item_with(without)).is_err(), "without {name}");
            }
            let mut other = tags.clone();
            other[index] = Tag::new(name.clone(), "0x");
            let read = Statement::read(&item_with(other));
            assert!(
                read.is_err() || ["Module-SHA256", "Engine-Epoch"].contains(&&*name),
                "{name}"
            );
        }
        let mut deep = sample(1);
        deep.depth = DEPTH_MAX + 1;
        assert_eq!(Statement::read(&item_with(deep.tags())), Err("Depth"));
    }

    #[test]
    fn a_lookup_of_ao_does_not_match() {
        let tags = sample(0).tags();
        assert_eq!(tags::first(&tags, "Data-Protocol"), Some("Weft"));
        assert!(
            tags::all(&tags, "Data-Protocol").count() == 1
                && tags::first(&tags, "Content-Encoding").is_none()
        );
    }

    #[test]
    fn places_sort_as_evaluations_happened() {
        let (message, cron) = (sample(0).place, sample(1).place);
        let next = Place {
            slot: 8,
            ..message.clone()
        };
        assert!(message.rank() < cron.rank() && cron.rank() < next.rank());
    }

    #[test]
    fn a_scheduler_names_a_compute_unit() {
        let item = naming(&Signer::ed25519(&[1; 32]), Address([8; 32])).unwrap();
        assert_eq!(named(&item), Some(Address([8; 32])));
        assert_eq!(
            named(&sample(0).sign(Bytes::new(), &Signer::ed25519(&[1; 32])).unwrap()),
            None
        );
    }
}
