//! Lineage: which message of a user (or of a cron) a pushed item goes back to, and how far.
//!
//! Read from the item's own tags, which count only under our signature: anybody can write tags.
//! So a lineage is a function of the log and survives the loss of every cache.

use spec::{ItemId, Tag, tags};

/// The tag with the place of the outbox entry that became the item.
pub const FROM_SLOT: &str = "From-Slot";
/// The tag with the id of the user's message; absent on what crons cause.
pub const PUSHED_FOR: &str = "Pushed-For";
/// The tag with the number of pushes since the origin; `<depth>.<origin>` below a cron's item.
pub const PUSH_DEPTH: &str = "Push-Depth";

/// Where an item comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lineage {
    /// The user's message; `None` below a cron.
    pub root: Option<ItemId>,
    /// What is counted against the origin's limits: the root, or the first item below a cron.
    pub origin: ItemId,
    /// Pushes since the origin; 0 for a user's message.
    pub depth: u32,
}

impl Lineage {
    /// A message that somebody else sent: the origin of all that follows.
    pub fn user(id: ItemId) -> Lineage {
        Lineage {
            root: Some(id),
            origin: id,
            depth: 0,
        }
    }

    /// Reads the lineage of an item; `ours` says whether our own key signed it.
    pub fn of(id: ItemId, item_tags: &[Tag], ours: bool) -> Lineage {
        let depth = tags::first(item_tags, PUSH_DEPTH).filter(|_| ours);
        let Some(text) = depth else {
            return Lineage::user(id);
        };
        let (depth, origin) = text.split_once('.').unwrap_or((text, ""));
        let root = tags::first(item_tags, PUSHED_FOR).and_then(|text| text.parse().ok());
        Lineage {
            root,
            origin: root.or_else(|| origin.parse().ok()).unwrap_or(id),
            // We wrote it; were it no number, the cautious reading is that the item is very deep.
            depth: depth.parse().unwrap_or(u32::MAX),
        }
    }

    /// The tags of an item pushed because of `cause`; `None` is a cron.
    pub fn child_tags(cause: Option<&Lineage>) -> Vec<Tag> {
        let Some(cause) = cause else {
            return vec![Tag::new(PUSH_DEPTH, "1")];
        };
        let depth = cause.depth.saturating_add(1);
        match cause.root {
            Some(root) => vec![
                Tag::new(PUSHED_FOR, root.to_string()),
                Tag::new(PUSH_DEPTH, depth.to_string()),
            ],
            None => vec![Tag::new(PUSH_DEPTH, format!("{depth}.{}", cause.origin))],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lineage_is_carried_by_tags_under_our_signature_only() {
        let (user, pushed) = (ItemId([1; 32]), ItemId([2; 32]));
        let first = Lineage::of(user, &[Tag::new(PUSH_DEPTH, "7")], false);
        assert_eq!(first, Lineage::user(user));
        let second = Lineage::of(pushed, &Lineage::child_tags(Some(&first)), true);
        assert_eq!(
            second,
            Lineage {
                root: Some(user),
                origin: user,
                depth: 1
            }
        );
    }

    #[test]
    fn below_a_cron_the_first_item_is_the_origin_and_there_is_no_root() {
        let (first, second) = (ItemId([1; 32]), ItemId([2; 32]));
        let one = Lineage::of(first, &Lineage::child_tags(None), true);
        assert_eq!(
            one,
            Lineage {
                root: None,
                origin: first,
                depth: 1
            }
        );
        let tags = Lineage::child_tags(Some(&one));
        assert!(tags::first(&tags, PUSHED_FOR).is_none());
        assert_eq!(
            Lineage::of(second, &tags, true),
            Lineage {
                root: None,
                origin: first,
                depth: 2
            }
        );
    }
}
