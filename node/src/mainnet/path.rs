//! What a path of the mainnet routes asks: `/PROCESS~process@1.0/compute/results=7` and its kin.
//!
//! Pure, and total: any text is an ask or is none. Not here: how an ask is answered. The invariant:
//! a slot that a path names is in the ask; it is never replaced by the latest.

use spec::contract::Answer;
use spec::{ItemId, ProcessId, Refusal};
use wire::server::decode;

/// One request about a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// Which process.
    pub process: ProcessId,
    /// What of it.
    pub what: What,
}

/// What is asked of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// Schedule the body's item, evaluate it, push what it causes.
    Push,
    /// Schedule the body's item, no more.
    Schedule,
    /// The highest slot, as text.
    Slot,
    /// The outcome at a place of the log.
    Outcome(At),
    /// The slot that a place of the log is, as text.
    AtSlot(At),
    /// Evaluate the body's data with these tags, without a slot.
    DryRun(Vec<(String, String)>),
}

/// A place in a process's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// The highest slot.
    Latest,
    /// A slot.
    Slot(u64),
    /// Where a message is.
    Message(ItemId),
}

/// One segment between slashes: `key~device=value&name=value`.
#[derive(Debug, Default)]
struct Segment {
    key: String,
    value: Option<String>,
    params: Vec<(String, String)>,
}

/// Reads a path and its query.
///
/// # Errors
/// The path is about a process, but asks nothing that is served. `Ok(None)`: it names no process.
pub fn parse(path: &str, query: Option<&str>) -> Answer<Option<Ask>> {
    let path = path.trim_start_matches('/');
    let (first, rest) = path.split_once('/').unwrap_or((path, ""));
    let (id, _device) = first.split_once('~').unwrap_or((first, ""));
    let Ok(process) = id.parse() else {
        return Ok(None);
    };
    let what = match dry_run(rest, query) {
        Some(tags) => What::DryRun(tags),
        None => asked(rest, query)?,
    };
    Ok(Some(Ask { process, what }))
}

/// The tags of a dry run stand in the path, as clients write them: unescaped, so slashes are theirs.
fn dry_run(rest: &str, query: Option<&str>) -> Option<Vec<(String, String)>> {
    let tail = rest.strip_prefix("as=execution/compute")?;
    if !(tail.is_empty() || tail.starts_with('&')) {
        return None;
    }
    Some(pairs(tail).chain(pairs(query.unwrap_or(""))).collect())
}

fn pairs(text: &str) -> impl Iterator<Item = (String, String)> + '_ {
    let parts = text.split('&').filter(|part| !part.is_empty());
    parts.map(|part| {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        (plain(name), plain(value))
    })
}

/// Decodes escapes; in a path a plus is a plus.
fn plain(text: &str) -> String {
    decode(&text.replace('+', "%2B"))
}

fn segment(text: &str) -> Segment {
    let (head, params) = text.split_once('&').unwrap_or((text, ""));
    let (key, value) = match head.split_once('=') {
        Some((key, value)) => (key, Some(plain(value))),
        None => (head, None),
    };
    let (key, device) = key.split_once('~').unwrap_or((key, ""));
    // `~scheduler@1.0` alone names a device, not a key.
    let key = if key.is_empty() {
        format!("~{device}")
    } else {
        plain(key)
    };
    Segment {
        key,
        value,
        params: pairs(params).collect(),
    }
}

fn asked(rest: &str, query: Option<&str>) -> Answer<What> {
    let segments = rest.split('/').filter(|text| !text.is_empty()).map(segment);
    let mut segments: Vec<Segment> = segments.collect();
    // Every answer is JSON already, whichever way it is asked for.
    segments.retain(|segment| !["serialize", "~json@1.0", "~scheduler@1.0"].contains(&&*segment.key));
    let keys: Vec<&str> = segments.iter().map(|segment| segment.key.as_str()).collect();
    match keys[..] {
        ["push"] => Ok(What::Push),
        ["schedule"] => Ok(What::Schedule),
        ["slot"] | ["slot", "current"] => Ok(What::Slot),
        ["compute" | "now" | "latest"]
        | ["compute" | "now" | "latest", "results"]
        | ["compute" | "now" | "latest", "results", "raw"] => place(&segments, query).map(What::Outcome),
        ["compute" | "now" | "latest", "at-slot"] => place(&segments, query).map(What::AtSlot),
        _ => Err(unknown(rest)),
    }
}

fn unknown(rest: &str) -> Refusal {
    let text = format!(
        "`{}` cannot be asked of a process here; served are push, schedule, slot/current, compute, now, \
         compute/results=SLOT and as=execution/compute&TAG=VALUE (a dry run, which also reads state)",
        rest.chars().take(80).collect::<String>()
    );
    Refusal::not_found("no-such-key", text)
}

/// The slot named anywhere: `compute=7`, `compute&slot=7`, `results=7`, `?slot=7`.
fn place(segments: &[Segment], query: Option<&str>) -> Answer<At> {
    let values = segments.iter().filter_map(|segment| segment.value.clone());
    let in_query: Vec<_> = pairs(query.unwrap_or("")).collect();
    let params = segments
        .iter()
        .flat_map(|segment| &segment.params)
        .chain(&in_query);
    let is_slot = |name: &str| name == "slot" || name.starts_with("slot+int");
    let params = params
        .filter(|(name, _)| is_slot(name))
        .map(|(_, value)| value.clone());
    match values.chain(params).next() {
        None => Ok(At::Latest),
        Some(text) => at(&text),
    }
}

fn at(text: &str) -> Answer<At> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        let slot = text.parse().map(At::Slot);
        return slot.map_err(|_| Refusal::not_found("no-such-slot", format!("no log has a slot {text}")));
    }
    text.parse().map(At::Message).map_err(|_| {
        let text = format!(
            "`{}` is neither a slot nor a message's id",
            text.chars().take(80).collect::<String>()
        );
        Refusal::invalid("invalid-slot", text)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

    fn what(rest: &str) -> What {
        let (path, query) = rest
            .split_once('?')
            .map_or((rest, None), |(path, query)| (path, Some(query)));
        let ask = parse(&format!("/{ID}{path}"), query).unwrap().unwrap();
        assert_eq!(ask.process, ID.parse().unwrap());
        ask.what
    }

    #[test]
    fn the_shapes_that_clients_send() {
        assert_eq!(what("~process@1.0/push"), What::Push);
        assert_eq!(what("/push"), What::Push);
        assert_eq!(what("/~scheduler@1.0/schedule"), What::Schedule);
        assert_eq!(what("~process@1.0/schedule"), What::Schedule);
        assert_eq!(what("/slot/current"), What::Slot);
        assert_eq!(what("~process@1.0/slot/current"), What::Slot);
        for path in [
            "~process@1.0/compute/results=7",
            "/compute/results=7",
            "/compute=7",
            "/compute&slot=7/results",
            "/compute&slot+integer=7",
            "/compute/results/raw?slot=7",
            "/compute=7/results/serialize~json@1.0",
            "/compute=7/~json@1.0/serialize",
        ] {
            assert_eq!(what(path), What::Outcome(At::Slot(7)), "{path}");
        }
        let id = ItemId([0; 32]);
        assert_eq!(
            what(&format!("/compute/results={id}")),
            What::Outcome(At::Message(id))
        );
        assert_eq!(what("/now"), What::Outcome(At::Latest));
        assert_eq!(what("/compute/at-slot"), What::AtSlot(At::Latest));
    }

    #[test]
    fn tags_of_a_dry_run_are_taken_as_they_stand() {
        let tags = |rest: &str| match what(&format!("~process@1.0/as=execution/compute{rest}")) {
            What::DryRun(tags) => tags,
            what => panic!("{what:?}"),
        };
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(tags(""), []);
        assert_eq!(
            tags("&Action=Info&Url=http://x/y&Sum=1+1=2&Two=a%20b"),
            [
                pair("Action", "Info"),
                pair("Url", "http://x/y"),
                pair("Sum", "1+1=2"),
                pair("Two", "a b")
            ]
        );
        assert_eq!(tags("?Action=Info"), [pair("Action", "Info")]);
    }

    #[test]
    fn rubbish_is_refused_or_none() {
        assert_eq!(parse("/favicon.ico/x", None), Ok(None));
        assert_eq!(parse(&format!("/{}/push", "P".repeat(43)), None), Ok(None));
        assert_eq!(parse("", None), Ok(None));
        let code = |rest: &str| {
            parse(&format!("/{ID}{rest}"), None)
                .unwrap_err()
                .code
                .into_owned()
        };
        assert_eq!(code("/now/balances"), "no-such-key");
        assert_eq!(code("/compute/results=abc"), "invalid-slot");
        assert_eq!(code("/compute/results=99999999999999999999999"), "no-such-slot");
        assert_eq!(code("/as=execution/computeX"), "no-such-key");
        // Every byte may follow the id.
        let mut seed = 1u64;
        for _ in 0..20_000 {
            let mut text = format!("/{ID}");
            for _ in 0..8 {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let parts = [
                    "/",
                    "&",
                    "=",
                    "%",
                    "~",
                    "compute",
                    "results",
                    "as=execution",
                    "é",
                    "slot",
                    "+",
                    "\u{0}",
                ];
                text.push_str(parts[(seed >> 40) as usize % parts.len()]);
            }
            let _ = parse(&text, Some(&text));
        }
    }
}
