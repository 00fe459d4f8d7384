//! What an item must look like before it may ask for a slot.
//!
//! Pure, and blind to everything but the tags the scheduler must understand. Not here: signatures,
//! duplicates, and whether a process exists. The checks stand in the order in which the field's
//! scheduler makes them, so that of several faults the same one is named.

use spec::assignment::MODULE_USED;
use spec::contract::{Answer, Class};
use spec::{Address, Assignment, DataItem, ItemId, ProcessId, Refusal, Tag};

/// What an item wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be the process item at slot 0 of a new log.
    Spawn,
    /// A slot in this process's log.
    Message(ProcessId),
}

/// Reads what an item wants from its tags and target.
///
/// # Errors
/// Names the tag that is missing or wrong.
pub fn wish(item: &DataItem) -> Answer<Wish> {
    let wish = kind(item)?;
    protocol(item)?;
    no_links(item)?;
    if wish == Kind::Process {
        return spawnable(item).map(|()| Wish::Spawn);
    }
    let target = item.target().ok_or_else(|| {
        Refusal::invalid(
            "no-target",
            "the message has no target; set it to the id of the process it is for",
        )
    })?;
    Ok(Wish::Message(ProcessId(*target)))
}

#[derive(PartialEq, Eq)]
enum Kind {
    Process,
    Message,
}

/// The first tag named `Type` or `type` decides.
fn kind(item: &DataItem) -> Answer<Kind> {
    let is_type = |tag: &&Tag| tag.name == b"Type"[..] || tag.name == b"type"[..];
    let Some(tag) = item.tags().iter().find(is_type) else {
        return Err(Refusal::invalid("no-type", "Type tag not present"));
    };
    match &tag.value[..] {
        b"Process" => Ok(Kind::Process),
        b"Message" => Ok(Kind::Message),
        _ => {
            let text = format!(
                "Unsupported Type tag value: {}; Process and Message can be scheduled",
                tag.value_text()
            );
            Err(Refusal::invalid("unsupported-type", text))
        }
    }
}

fn protocol(item: &DataItem) -> Answer<()> {
    let mut protocols = item.tags().iter().filter(|tag| tag.name == b"Data-Protocol"[..]);
    match protocols.any(|tag| tag.value == b"ao"[..]) {
        true => Ok(()),
        false => Err(Refusal::invalid(
            "no-data-protocol",
            "Data-Protocol tag not present: it must be `ao`",
        )),
    }
}

/// Other nodes resolve a name ending in `+link` to content of the sender's choice.
fn no_links(item: &DataItem) -> Answer<()> {
    let linked = |tag: &&Tag| tag.name.ends_with(b"+link") || tag.value.ends_with(b"+link");
    match item.tags().iter().find(linked) {
        None => Ok(()),
        Some(tag) => {
            let text = format!(
                "the tag `{}` is refused: names and values must not end in `+link`",
                tag.name_text()
            );
            Err(Refusal::invalid("link-tag", text))
        }
    }
}

fn spawnable(item: &DataItem) -> Answer<()> {
    for name in ["Module", "Scheduler"] {
        if item.tag(name).is_none_or(str::is_empty) {
            let text = format!("{name} tag not present: a process names its module and its scheduler");
            return Err(Refusal::invalid("incomplete-process", text));
        }
    }
    Ok(())
}

/// Whether a process may name another scheduler than the one that keeps its log.
pub fn names_scheduler(item: &DataItem, address: Address) -> Answer<()> {
    let named = item.tag("Scheduler").unwrap_or("");
    match named.parse() == Ok(address) {
        true => Ok(()),
        false => {
            let text = format!("the process names the scheduler `{named}`, this one is `{address}`");
            Err(Refusal::invalid("other-scheduler", text))
        }
    }
}

/// Where a new process's items go: its own tag `Storage`, else the node's default.
pub fn class(item: &DataItem, default: Class) -> Answer<Class> {
    match item.tag("Storage") {
        None => Ok(default),
        Some(text) => class_of(text).ok_or_else(|| {
            let text = format!("the tag Storage is `{text}`; it can be `local` or `permanent`");
            Refusal::invalid("invalid-storage", text)
        }),
    }
}

/// Reads the value of a tag `Storage`.
pub fn class_of(text: &str) -> Option<Class> {
    [Class::Local, Class::Permanent]
        .into_iter()
        .find(|class| class_name(*class) == text)
}

/// The value of the tag `Storage`.
pub const fn class_name(class: Class) -> &'static str {
    match class {
        Class::Local => "local",
        Class::Permanent => "permanent",
    }
}

/// Whether a message asks that its process be kept for ever. What a messenger pushed does not: a
/// process chose its tags, and everybody's pushes carry the messenger's signature.
pub fn asks_for_permanence(item: &DataItem) -> bool {
    item.tag("Storage") == Some(class_name(Class::Permanent)) && !is_pushed(item)
}

/// Whether a local process can become permanent, by its first assignment.
///
/// # Errors
/// An adopted one cannot.
pub fn widenable(first: &Assignment) -> Answer<()> {
    let why = match (first.adopted_from(), first.item.tag(MODULE_USED)) {
        (Some(named), _) => format!(
            "it names the scheduler {named}: what this node published of it would contradict that scheduler's own log"
        ),
        (None, Some(used)) => format!(
            "this node runs it on {used} in place of the module it names: nobody else would come to the same results"
        ),
        (None, None) => return Ok(()),
    };
    let text = format!(
        "the process {} cannot become permanent: {why}; spawn a new one",
        first.process
    );
    Err(Refusal::invalid("adopted-process", text))
}

/// The transaction a process wants to read when it boots, if it names one.
pub fn on_boot(item: &DataItem) -> Answer<Option<ItemId>> {
    match item.tag("On-Boot") {
        None | Some("Data") => Ok(None),
        Some(id) => id.parse().map(Some).map_err(|_| {
            let text = format!("the tag On-Boot is `{id}`; it can be `Data` or the id of a transaction");
            Refusal::invalid("invalid-on-boot", text)
        }),
    }
}

/// Whether an item says that a messenger pushed it for a process.
pub fn is_pushed(item: &DataItem) -> bool {
    item.tags().iter().any(|tag| tag.name == b"From-Process"[..])
}

#[cfg(test)]
mod tests {
    use spec::{ItemParts, Signer};

    use super::*;

    fn item(target: bool, tags: &[(&str, &str)]) -> DataItem {
        let tags = tags.iter().map(|(name, value)| Tag::new(*name, *value)).collect();
        let parts = ItemParts {
            target: target.then_some([1; 32]),
            tags,
            ..ItemParts::default()
        };
        DataItem::sign(&parts, &Signer::ed25519(&[1; 32])).unwrap()
    }

    fn code(tags: &[(&str, &str)]) -> String {
        wish(&item(true, tags)).unwrap_err().code.into_owned()
    }

    #[test]
    fn the_first_type_wins_in_either_spelling() {
        let ao = ("Data-Protocol", "ao");
        let message = Ok(Wish::Message(ProcessId([1; 32])));
        assert_eq!(
            wish(&item(true, &[ao, ("type", "Message"), ("Type", "Process")])),
            message
        );
        assert_eq!(
            code(&[ao, ("Type", "Module"), ("Type", "Message")]),
            "unsupported-type"
        );
        assert_eq!(code(&[ao]), "no-type");
        assert_eq!(
            wish(&item(false, &[ao, ("Type", "Message")])).unwrap_err().code,
            "no-target"
        );
    }

    #[test]
    fn faults_are_named_in_the_fields_order() {
        assert_eq!(code(&[("x+link", "1")]), "no-type");
        assert_eq!(code(&[("Type", "Message"), ("x+link", "1")]), "no-data-protocol");
        let ao = ("Data-Protocol", "ao");
        assert_eq!(code(&[ao, ("Type", "Process"), ("x", "y+link")]), "link-tag");
        assert_eq!(
            code(&[ao, ("Type", "Process"), ("Module", "m")]),
            "incomplete-process"
        );
        assert_eq!(
            code(&[ao, ("Type", "Process"), ("Module", ""), ("Scheduler", "s")]),
            "incomplete-process"
        );
    }
}
