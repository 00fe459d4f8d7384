//! Which modules a process may run with which limits, read from tags alone.
//!
//! Pure. The limits of a process are part of it or its module; configuration only refuses what asks
//! for more than this node gives (invariant 6). Codes starting with `module-` are answered with 422.

use spec::contract::Answer;
use spec::tags;
use spec::{Refusal, Tag};

use crate::ai;
use crate::config::Config;
use crate::runtime::{Limits, MEMORY_BYTES_MAX, ModuleFormat};

/// Memory of a process whose Lua module names no limit: scripts of the field carry no such tag. Part of the protocol.
const LUA_MEMORY_BYTES: u64 = 256 << 20;

/// What a process runs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The module's format.
    pub format: ModuleFormat,
    /// The process's limits.
    pub limits: Limits,
    /// What it may ask of models, if it may.
    pub asks: Option<ai::Limits>,
}

/// Reads a process's and its module's tags.
///
/// # Errors
/// `module-…` where the module can never run here; a limit where the process asks for too much.
pub fn admit(process: &[Tag], module: &[Tag], config: &Config) -> Answer<Admitted> {
    let format = format(module)?;
    for name in ["Input-Encoding", "Output-Encoding"] {
        check_encoding(name, tags::first(module, name), format)?;
    }
    check_extensions(process, module)?;
    let (memory, compute) = match format {
        format if format.is_lua() => (Some(LUA_MEMORY_BYTES), Some(Limits::default().metered_gas_max)),
        _ => (None, None),
    };
    let memory = limit(process, module, "Memory-Limit", &BYTES, memory)?;
    let compute = limit(process, module, "Compute-Limit", &GAS, compute)?;
    within(
        "Memory-Limit",
        memory,
        config.memory_limit_bytes_max.min(MEMORY_BYTES_MAX),
        "bytes",
    )?;
    within("Compute-Limit", compute, config.compute_limit_max, "gas")?;
    let limits = Limits {
        memory_bytes_max: memory,
        metered_gas_max: compute,
        ..Limits::default()
    };
    let asks = asks(process, module, config)?;
    Ok(Admitted { format, limits, asks })
}

/// The format a module's tags name. Which of our Lua engines it runs on is the module's own affair: the one that can
/// ask is chosen by the module's extension, so whatever was published before runs as before.
pub fn format(module: &[Tag]) -> Answer<ModuleFormat> {
    let name = tags::first(module, "Module-Format").unwrap_or("");
    match ModuleFormat::from_name(name) {
        Some(ModuleFormat::Lua) if !extends(module) => Ok(ModuleFormat::LuaFirst),
        format => format.ok_or_else(|| unsupported_format(name)),
    }
}

fn extends(tags: &[Tag]) -> bool {
    tags::all(tags, "Extension").any(|name| name == ai::EXTENSION)
}

/// What a process or module with the extension may ask.
fn asks(process: &[Tag], module: &[Tag], config: &Config) -> Answer<Option<ai::Limits>> {
    if !extends(process) && !extends(module) {
        return Ok(None);
    }
    let gas_max = limit(process, module, "Inference-Limit", &GAS, Some(ai::GAS_DEFAULT))?;
    within(
        "Inference-Limit",
        gas_max,
        config.inference.gas_max.max(ai::GAS_DEFAULT),
        "gas",
    )?;
    let tokens = limit(
        process,
        module,
        "Inference-Tokens",
        &TOKENS,
        Some(ai::TOKENS_DEFAULT),
    )?;
    let models = tags::all(process, "Inference-Model").chain(tags::all(module, "Inference-Model"));
    Ok(Some(ai::Limits {
        gas_max,
        tokens_max: tokens.min(inference::generate::TOKENS_MAX as u64),
        models: models.map(model).collect::<Answer<_>>()?,
    }))
}

/// A model's name. One that is none would refuse every model, at every question anew.
fn model(name: &str) -> Answer<String> {
    match ai::is_model(name) {
        true => Ok(name.to_owned()),
        false => Err(unreadable(
            "Inference-Model",
            name,
            "the id of an item, alone or followed by :a16 or :a8",
        )),
    }
}

fn unsupported_format(format: &str) -> Refusal {
    let known: Vec<_> = ModuleFormat::ALL.iter().map(|format| format.name()).collect();
    let text = format!(
        "the module's tag `Module-Format` is `{format}`, which is not supported; supported are {}",
        known.join(", ")
    );
    Refusal::invalid("module-format", text)
}

/// Both encodings of the field are the same JSON. Lua modules need not name one.
fn check_encoding(name: &str, value: Option<&str>, format: ModuleFormat) -> Answer<()> {
    if value.is_none() && format.is_lua() {
        return Ok(());
    }
    let value = value.unwrap_or("");
    if value.eq_ignore_ascii_case("JSON-1") || value.eq_ignore_ascii_case("JSON-V1") {
        return Ok(());
    }
    let text =
        format!("the module's tag `{name}` is `{value}`, which is not supported; JSON-1 and JSON-V1 are");
    Err(Refusal::invalid("module-encoding", text))
}

/// WeaveDrive is what every module of the field may carry; its files are not served yet and read as absent. The other
/// one is ours.
fn check_extensions(process: &[Tag], module: &[Tag]) -> Answer<()> {
    let mut named = tags::all(module, "Extension").chain(tags::all(process, "Extension"));
    let Some(name) = named.find(|name| !["WeaveDrive", ai::EXTENSION].contains(name)) else {
        return Ok(());
    };
    let text = format!("the extension `{name}` is not supported; remove the tag `Extension`");
    Err(Refusal::invalid("module-extension", text))
}

/// How a limit is written.
struct Form {
    parse: fn(&str) -> Option<u64>,
    says: &'static str,
}

const BYTES: Form = Form {
    parse: parse_bytes,
    says: "a number of bytes, alone or with a unit, such as `1-gb`",
};
const GAS: Form = Form {
    parse: |text| text.trim().parse().ok(),
    says: "a whole number of gas",
};
const TOKENS: Form = Form {
    parse: |text| text.trim().parse().ok().filter(|tokens| *tokens > 0),
    says: "a whole number of tokens, at least 1",
};

/// A limit of the process, or else of its module, or else of its format.
fn limit(process: &[Tag], module: &[Tag], name: &str, form: &Form, default: Option<u64>) -> Answer<u64> {
    let Some(text) = tags::first(process, name).or_else(|| tags::first(module, name)) else {
        return default.ok_or_else(|| {
            let text = format!("neither the process nor its module has the tag `{name}`");
            Refusal::limit("limit-missing", text)
        });
    };
    (form.parse)(text).ok_or_else(|| unreadable(name, text, form.says))
}

fn unreadable(name: &str, text: &str, says: &str) -> Refusal {
    let text = format!("the tag `{name}` is `{text}`, which cannot be read: it must be {says}");
    Refusal::limit("limit-unreadable", text)
}

fn within(name: &str, asked: u64, max: u64, unit: &str) -> Answer<()> {
    if asked <= max {
        return Ok(());
    }
    let text = format!("the tag `{name}` asks for {asked} {unit}, this node gives at most {max}");
    Err(Refusal::limit("limit-exceeded", text))
}

/// Reads `1-gb`, `500-mb`, `64 kb`, `1.5-gb` or plain bytes; units are powers of 1,024.
fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim().replace(['-', ' '], "").to_ascii_lowercase();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(at);
    let shift = match unit {
        "" | "b" => 0,
        "kb" => 10,
        "mb" => 20,
        "gb" => 30,
        "tb" => 40,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    let bytes = number * (1u64 << shift) as f64;
    // Exact in f64 up to 2^53; whoever asks for more is refused all the same.
    (1.0..9e15).contains(&bytes).then_some(bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_may_ask_is_read_or_refused_by_name() {
        const ID: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let read = |name: &str, value: &str| {
            let process = [
                Tag::new("Extension", ai::EXTENSION),
                Tag::new(name.to_owned(), value.to_owned()),
            ];
            asks(&process, &[], &Config::default())
        };
        let models = |value: &str| read("Inference-Model", value).unwrap().unwrap().models;
        assert_eq!(models(ID), [ID]);
        assert_eq!(models(&format!("{ID}:a8")), [format!("{ID}:a8")]);
        for (name, value, says) in [
            ("Inference-Model", "tiny", "followed by :a16 or :a8"),
            ("Inference-Tokens", "0", "at least 1"),
            ("Inference-Limit", "1-gb", "a whole number of gas"),
        ] {
            let refusal = read(name, value).unwrap_err();
            assert_eq!(&*refusal.code, "limit-unreadable");
            assert!(
                refusal.text.contains(name) && refusal.text.contains(says),
                "{refusal}"
            );
        }
    }

    #[test]
    fn byte_counts_read_as_the_field_writes_them() {
        let cases = [
            ("1-gb", 1 << 30),
            ("500-mb", 500 << 20),
            ("64kb", 64 << 10),
            ("17", 17),
            ("1.5-GB", 3 << 29),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for text in ["", "gb", "x-gb", "1-zb", "-1-gb-", "inf", "nan", "1e99gb"] {
            assert_eq!(parse_bytes(text).filter(|_| text != "-1-gb-"), None, "{text}");
        }
    }
}
