//! Intake: bytes of a stranger become a verified item of a known kind, or a refusal.
//!
//! Invariant: nothing passes whose signature does not verify. Not here: whether the target exists.

use bytes::Bytes;
use spec::contract::Answer;
use spec::{DataItem, ProcessId, Refusal, Tag};

/// What an accepted item is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message for a process.
    Message {
        /// Whom it is for.
        target: ProcessId,
    },
    /// A process to make.
    Process,
}

/// Parses and verifies.
///
/// # Errors
/// Bytes that are no data item, a signature that does not verify, or too many bytes.
pub fn read(bytes: Bytes, bytes_max: usize) -> Answer<DataItem> {
    if bytes.is_empty() {
        let text =
            "the body is empty: post a signed data item, or name `process-id` and `assign` in the query";
        return Err(Refusal::invalid("no-item", text));
    }
    check_len(bytes.len(), bytes_max)?;
    Ok(DataItem::parse_verified(bytes)?)
}

/// Verifies an item and tells what it is. The first tag named `Type` or `type` decides.
///
/// # Errors
/// Names the tag that is missing or wrong.
pub fn classify(item: &DataItem, bytes_max: usize) -> Answer<Kind> {
    check_len(item.bytes().len(), bytes_max)?;
    item.verify()?;
    let is_ao = |tag: &Tag| tag.name.eq_ignore_ascii_case(b"Data-Protocol") && tag.value == "ao";
    if !item.tags().iter().any(is_ao) {
        let text = "the item needs the tag `Data-Protocol` with the value `ao`";
        return Err(Refusal::invalid("invalid-data-protocol", text));
    }
    let kind = item
        .tags()
        .iter()
        .find(|tag| tag.name == "Type" || tag.name == "type");
    let kind = kind.ok_or_else(|| {
        let text = "the item needs the tag `Type` with the value `Message` or `Process`";
        Refusal::invalid("missing-type", text)
    })?;
    match &kind.value[..] {
        b"Process" => Ok(Kind::Process),
        b"Message" => target_of(item),
        _ => {
            let value = kind.value_text();
            let text = format!("the tag `Type` must be `Message` or `Process`, it is `{value}`");
            Err(Refusal::invalid("invalid-type", text))
        }
    }
}

fn target_of(item: &DataItem) -> Answer<Kind> {
    let missing = || Refusal::invalid("missing-target", "a message needs a target: the id of a process");
    let target = item.target().ok_or_else(missing)?;
    Ok(Kind::Message {
        target: ProcessId(*target),
    })
}

fn check_len(len: usize, max: usize) -> Answer<()> {
    let text = || format!("the item has {len} bytes, this messenger takes {max}");
    (len <= max)
        .then_some(())
        .ok_or_else(|| Refusal::limit("item-too-large", text()))
}

#[cfg(test)]
mod tests {
    use spec::{ItemParts, Signer};

    use super::*;

    const MAX: usize = 4096;

    fn item(tags: &[(&str, &str)], target: Option<[u8; 32]>) -> DataItem {
        let tags = tags.iter().map(|(name, value)| Tag::new(*name, *value)).collect();
        let parts = ItemParts {
            tags,
            target,
            ..ItemParts::default()
        };
        DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap()
    }

    fn refusal(tags: &[(&str, &str)], target: Option<[u8; 32]>) -> Refusal {
        classify(&item(tags, target), MAX).unwrap_err()
    }

    #[test]
    fn the_first_type_tag_of_either_case_decides() {
        let target = ProcessId([2; 32]);
        let tags = [("Data-Protocol", "ao"), ("type", "Message"), ("Type", "Process")];
        assert_eq!(
            classify(&item(&tags, Some(target.0)), MAX),
            Ok(Kind::Message { target })
        );
        let tags = [("Type", "Process"), ("Type", "Message"), ("Data-Protocol", "ao")];
        assert_eq!(classify(&item(&tags, None), MAX), Ok(Kind::Process));
    }

    #[test]
    fn refusals_name_the_tag_or_field() {
        assert!(
            refusal(&[("Type", "Message")], Some([2; 32]))
                .text
                .contains("`Data-Protocol`")
        );
        assert!(refusal(&[("Data-Protocol", "ao")], None).text.contains("`Type`"));
        let other = [("Data-Protocol", "ao"), ("Type", "Module")];
        assert!(refusal(&other, None).text.contains("`Module`"));
        let message = [("Data-Protocol", "ao"), ("Type", "Message")];
        assert!(refusal(&message, None).text.contains("target"));
    }

    #[test]
    fn garbage_forgeries_and_giants_are_refused() {
        assert!(read(Bytes::new(), MAX).is_err());
        assert!(read(Bytes::from_static(b"garbage"), MAX).is_err());
        let good = item(&[("Data-Protocol", "ao"), ("Type", "Process")], None);
        let mut forged = good.bytes().to_vec();
        forged[10] ^= 1;
        assert_eq!(read(forged.into(), MAX).unwrap_err().code, "invalid-item");
        assert_eq!(
            read(good.bytes().clone(), 10).unwrap_err().kind,
            spec::Kind::Limit
        );
        assert!(read(good.bytes().clone(), MAX).is_ok());
    }
}
