//! What Tab offers at a place of a line: names of the process, its handlers, actions, files, commands.
//!
//! Pure: a line, a position and an atlas in, offers out. Not here: the fetching (`refresh`), the menu
//! (`line`). The invariant: an offer replaces whole characters of the line, never more than the word.

use std::collections::BTreeSet;
use std::path::Path;

use super::atlas::{Atlas, Entry, Key, Kind};
use super::commands;
use super::shape::{is_name, text};
use crate::token::{self, KEYWORDS, Token, tokens};

/// Offers of one Tab.
const OFFERS_MAX: usize = 2000;

/// One thing to put on the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    /// What is put there.
    pub(crate) text: String,
    /// What the menu shows.
    pub(crate) name: String,
    /// What it is, for the menu.
    pub(crate) about: String,
    /// First byte of the line that it replaces.
    pub(crate) start: usize,
    /// One past the last.
    pub(crate) end: usize,
}

/// What the prompt knows besides the atlas.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// Ids with a word about each: processes, messages of this sitting.
    pub(crate) ids: Vec<(String, String)>,
    /// Blueprints that can be loaded by name.
    pub(crate) blueprints: Vec<String>,
}

/// What the cursor stands in.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// A word of its own.
    Global,
    /// After `path.` or `path:`.
    Field { path: Option<Vec<Key>>, method: bool },
    /// Inside a string: what it is an argument or a value of.
    Text(Within),
    /// Nothing can be offered.
    Nothing,
}

/// What a string is for.
#[derive(Debug, PartialEq, Eq)]
enum Within {
    /// `path["`.
    Index(Vec<Key>),
    /// First argument of a function.
    Argument(Vec<Key>),
    /// `name = "`.
    Value(String),
    /// Anything else.
    Other,
}

/// Functions of `Handlers` whose first argument names a handler that is there.
const NAMES_A_HANDLER: [&str; 6] = ["remove", "before", "after", "add", "append", "prepend"];

/// Tag and field names of messages.
const MESSAGE_WORDS: [(&str, &str); 9] = [
    ("Action", "what the message asks for"),
    ("Target", "whom it is for"),
    ("Data", "its data"),
    ("Tags", "more tags"),
    ("Recipient", "whom a transfer is for"),
    ("Quantity", "how much"),
    ("Content-Type", "what the data is"),
    ("Assignments", "processes that see it too"),
    ("X-Reference", "which message it answers"),
];

/// What can be put at `position` of a line.
pub(crate) fn offers(line: &str, position: usize, atlas: &Atlas, known: &Known) -> Vec<Offer> {
    let before = &line[..position];
    if before.trim_start().starts_with('.') && !before.contains('\n') {
        return command_offers(before, known, atlas);
    }
    let (place, start) = place(before);
    let word = &before[start..];
    let found = match &place {
        Place::Global => globals(before, word, atlas),
        Place::Field { path, method } => fields(atlas, path.as_deref(), *method, start),
        Place::Text(within) => texts(within, atlas, known),
        Place::Nothing => Vec::new(),
    };
    let close = closing(&place, line, position);
    let candidates = found.into_iter().map(|c| c.at(start, position, &close));
    ranked(candidates, word)
}

/// A thing to offer before it has a place.
struct Candidate {
    /// What the typed word is compared with.
    word: String,
    about: String,
    /// What is put instead of the word, and how far before the word it begins.
    put: Option<(String, usize)>,
}

impl Candidate {
    fn new(word: impl Into<String>, about: impl Into<String>) -> Candidate {
        Candidate {
            word: word.into(),
            about: about.into(),
            put: None,
        }
    }

    fn at(self, start: usize, end: usize, close: &str) -> (String, Offer) {
        let (text, back) = match self.put {
            Some((text, back)) => (text, back),
            None => (format!("{}{close}", self.word), 0),
        };
        let offer = Offer {
            text,
            name: self.word.clone(),
            about: self.about,
            start: start - back,
            end,
        };
        (self.word, offer)
    }
}

/// Those that begin with the word; if none does, in any case; if none does, those that hold it.
fn ranked(candidates: impl Iterator<Item = (String, Offer)>, word: &str) -> Vec<Offer> {
    let all: Vec<(String, Offer)> = candidates.collect();
    let lower = word.to_lowercase();
    let exact = |name: &str| name.starts_with(word);
    let folded = |name: &str| name.to_lowercase().starts_with(&lower);
    let inside = |name: &str| name.to_lowercase().contains(&lower);
    let tests: [&dyn Fn(&str) -> bool; 3] = [&exact, &folded, &inside];
    for test in tests {
        let hits = all.iter().filter(|(name, _)| test(name));
        let mut hits: Vec<&(String, Offer)> = hits.collect();
        if !hits.is_empty() {
            hits.sort_by(|a, b| a.0.cmp(&b.0));
            hits.dedup_by(|a, b| a.1.text == b.1.text);
            return hits
                .into_iter()
                .take(OFFERS_MAX)
                .map(|(_, o)| o.clone())
                .collect();
        }
    }
    Vec::new()
}

// ---- Where the cursor stands ----

/// The place at the end of a text, and where the word to complete begins.
fn place(before: &str) -> (Place, usize) {
    let all = tokens(before);
    let end = before.len();
    let Some(last) = all.last().copied() else {
        return (Place::Global, end);
    };
    let at_end = last.end == end;
    let long = before[last.start..].starts_with("--[");
    let code: Vec<Token> = all
        .into_iter()
        .filter(|token| token.kind != token::Kind::Comment)
        .collect();
    match last.kind {
        token::Kind::Comment if at_end && (last.is_open || !long) => (Place::Nothing, end),
        token::Kind::Text if at_end && last.is_open => in_text(before, &code, &last),
        token::Kind::Number if at_end => (Place::Nothing, end),
        token::Kind::Name | token::Kind::Keyword if at_end => {
            (after(before, &code[..code.len() - 1]), last.start)
        }
        _ => (after(before, &code), end),
    }
}

/// What a word after these tokens is.
fn after(source: &str, code: &[Token]) -> Place {
    let Some((last, before)) = code.split_last() else {
        return Place::Global;
    };
    match text(last, source) {
        dot @ ("." | ":") => Place::Field {
            path: path_at_end(source, before),
            method: dot == ":",
        },
        "local" | "function" | "goto" | "::" => Place::Nothing,
        _ => Place::Global,
    }
}

/// What an open string at the end is for.
fn in_text(source: &str, code: &[Token], string: &Token) -> (Place, usize) {
    let quoted = !source[string.start..].starts_with('[');
    let start = string.start + 1;
    let Some(before) = code.split_last().map(|(_, before)| before).filter(|_| quoted) else {
        return (Place::Nothing, source.len());
    };
    let Some((last, earlier)) = before.split_last() else {
        return (Place::Text(Within::Other), start);
    };
    let within = match text(last, source) {
        "[" => path_at_end(source, earlier).map(Within::Index),
        "(" => path_at_end(source, earlier).map(Within::Argument),
        "=" => earlier
            .last()
            .map(|key| Within::Value(key_text(source, key, earlier))),
        _ if last.kind == token::Kind::Name => path_at_end(source, before).map(Within::Argument),
        _ => None,
    };
    (Place::Text(within.unwrap_or(Within::Other)), start)
}

/// The key that a value is given to: a name, or a text in brackets.
fn key_text(source: &str, last: &Token, earlier: &[Token]) -> String {
    let bracketed = text(last, source) == "]" && earlier.len() >= 2;
    match bracketed {
        true => unquote(text(&earlier[earlier.len() - 2], source)),
        false => text(last, source).to_owned(),
    }
}

fn unquote(text: &str) -> String {
    text.trim_matches(|c| c == '"' || c == '\'').to_owned()
}

/// The path of names and constant keys that ends here, e.g. `a.b["c"][1]:d`; `None` after a call or
/// an operator. A text literal is the string library.
fn path_at_end(source: &str, code: &[Token]) -> Option<Vec<Key>> {
    let mut path = Vec::new();
    let mut rest = code;
    loop {
        let (last, before) = rest.split_last()?;
        if last.kind == token::Kind::Name {
            path.push(Key::Text(text(last, source).to_owned()));
            match before.last().map(|token| text(token, source)) {
                Some("." | ":") => rest = &before[..before.len() - 1],
                _ => break,
            }
        } else if text(last, source) == "]" {
            let [.., open, key, _] = rest else { return None };
            path.push(constant_key(source, open, key)?);
            rest = &rest[..rest.len() - 3];
        } else if last.kind == token::Kind::Text && path.is_empty() {
            return Some(vec![Key::Text("string".to_owned())]);
        } else {
            return None;
        }
    }
    path.reverse();
    Some(path)
}

fn constant_key(source: &str, open: &Token, key: &Token) -> Option<Key> {
    if text(open, source) != "[" {
        return None;
    }
    match key.kind {
        token::Kind::Text => Some(Key::Text(unquote(text(key, source)))),
        token::Kind::Number => text(key, source).parse().ok().map(Key::Index),
        _ => None,
    }
}

/// What closes a string that an offer fills: its quote, unless it stands there.
fn closing(place: &Place, line: &str, position: usize) -> String {
    let Place::Text(within) = place else {
        return String::new();
    };
    let string = tokens(&line[..position]).last().copied();
    let quote = string.and_then(|token| text(&token, line).chars().next());
    let Some(quote @ ('"' | '\'')) = quote else {
        return String::new();
    };
    if line[position..].starts_with(quote) {
        return String::new();
    }
    match within {
        Within::Index(_) => format!("{quote}]"),
        _ => quote.to_string(),
    }
}

// ---- What is offered there ----

fn globals(before: &str, word: &str, atlas: &Atlas) -> Vec<Candidate> {
    let mut found: Vec<Candidate> = atlas.globals().into_iter().filter_map(global).collect();
    let known: BTreeSet<String> = found.iter().map(|c| c.word.clone()).collect();
    let own = own_names(before, word).into_iter();
    let own = own.filter(|name| !known.contains(name));
    found.extend(own.map(|name| Candidate::new(name, "in this text")));
    if !word.is_empty() {
        found.extend(KEYWORDS.map(|word| Candidate::new(word, "keyword")));
        found.extend(
            MESSAGE_WORDS
                .iter()
                .filter(|(w, _)| is_name(w))
                .map(|(word, about)| Candidate::new(*word, *about)),
        );
    }
    found
}

/// A global; one that is no name is reached through `_G`.
fn global(entry: &Entry) -> Option<Candidate> {
    let Key::Text(name) = &entry.key else {
        return None;
    };
    let mut candidate = Candidate::new(name, entry.about());
    if !is_name(name) {
        candidate.put = Some((format!("_G[{}]", quoted(name)), 0));
    }
    Some(candidate)
}

/// Names that the text itself uses, the one being typed excepted.
fn own_names(before: &str, word: &str) -> BTreeSet<String> {
    let names = tokens(before).into_iter();
    let names = names.filter(|token| token.kind == token::Kind::Name && token.end < before.len());
    let texts = names.map(|token| text(&token, before).to_owned());
    texts.filter(|name| name != word).collect()
}

fn fields(atlas: &Atlas, path: Option<&[Key]>, method: bool, start: usize) -> Vec<Candidate> {
    let entries = path.map(|path| atlas.fields(path)).unwrap_or_default();
    let wanted = entries
        .into_iter()
        .filter(|e| !method || e.kind == Kind::Function);
    wanted.filter_map(|entry| field(entry, method, start)).collect()
}

/// A field; a key that is no name replaces the dot before the word by brackets.
fn field(entry: &Entry, method: bool, start: usize) -> Option<Candidate> {
    let (word, key) = match &entry.key {
        Key::Text(name) if is_name(name) => {
            return Some(Candidate::new(name, entry.about()));
        }
        Key::Text(name) => (name.clone(), quoted(name)),
        Key::Index(index) => (index.to_string(), index.to_string()),
    };
    let mut candidate = Candidate::new(word, entry.about());
    candidate.put = Some((format!("[{key}]"), 1));
    (!method && start > 0).then_some(candidate)
}

fn texts(within: &Within, atlas: &Atlas, known: &Known) -> Vec<Candidate> {
    match within {
        Within::Index(path) => indexes(atlas, path),
        Within::Argument(path) => arguments(atlas, known, path),
        Within::Value(name) if name.eq_ignore_ascii_case("Action") => actions(atlas),
        Within::Value(name) if names_somebody(name) => ids(atlas, known),
        Within::Value(_) => Vec::new(),
        Within::Other => ids(atlas, known),
    }
}

fn names_somebody(name: &str) -> bool {
    ["target", "recipient", "process", "from", "module", "message"]
        .iter()
        .any(|word| name.eq_ignore_ascii_case(word))
}

fn indexes(atlas: &Atlas, path: &[Key]) -> Vec<Candidate> {
    let entries = atlas.fields(path).into_iter();
    let named = entries.filter_map(|entry| match &entry.key {
        Key::Text(name) => Some((name, entry)),
        Key::Index(_) => None,
    });
    named
        .map(|(name, entry)| Candidate::new(escaped(name), entry.about()))
        .collect()
}

fn arguments(atlas: &Atlas, known: &Known, path: &[Key]) -> Vec<Candidate> {
    let names: Vec<&str> = path
        .iter()
        .map(|key| match key {
            Key::Text(name) => name.as_str(),
            Key::Index(_) => "",
        })
        .collect();
    match names.as_slice() {
        ["Handlers", function] if NAMES_A_HANDLER.contains(function) => handlers(atlas),
        ["require"] => indexes(atlas, &["package", "loaded"].map(|n| Key::Text(n.to_owned()))),
        ["Handlers", "utils", "hasMatchingTag"] => MESSAGE_WORDS
            .iter()
            .map(|(word, about)| Candidate::new(*word, *about))
            .collect(),
        _ => ids(atlas, known),
    }
}

fn handlers(atlas: &Atlas) -> Vec<Candidate> {
    let about = |action: Option<&String>| match action {
        Some(action) => format!("handler for Action = {action}"),
        None => "handler".to_owned(),
    };
    let all = atlas.handlers.iter();
    all.map(|handler| Candidate::new(escaped(&handler.name), about(handler.action.as_ref())))
        .collect()
}

fn actions(atlas: &Atlas) -> Vec<Candidate> {
    let handled = atlas.handlers.iter().filter_map(|handler| {
        let action = handler.action.as_ref()?;
        Some(Candidate::new(
            escaped(action),
            format!("handled by {}", handler.name),
        ))
    });
    handled
        .chain([Candidate::new("Eval", "run Lua in a process one owns")])
        .collect()
}

fn ids(atlas: &Atlas, known: &Known) -> Vec<Candidate> {
    let all = known.ids.iter().cloned().chain(atlas.ids());
    all.map(|(id, about)| Candidate::new(id, about)).collect()
}

/// Messages of this sitting.
fn sent(known: &Known) -> Vec<Candidate> {
    let sent = known.ids.iter().filter(|(_, about)| about.starts_with(SENT));
    sent.map(|(id, about)| Candidate::new(id, about)).collect()
}

/// How the word about a message of this sitting begins.
pub(crate) const SENT: &str = "sent: ";

/// A text as a Lua string.
fn quoted(text: &str) -> String {
    format!("\"{}\"", escaped(text))
}

/// A text as it stands between double quotes.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{{{:X}}}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

// ---- Commands ----

fn command_offers(before: &str, known: &Known, atlas: &Atlas) -> Vec<Offer> {
    let lead = before.len() - before.trim_start().len();
    let end = before.len();
    let text = &before[lead..];
    let Some((name, argument)) = text.split_once(char::is_whitespace) else {
        let all = commands::TABLE.iter();
        let candidates = all.map(|c| Candidate::new(c.name, c.about).at(lead, end, ""));
        return ranked(candidates, text);
    };
    let argument = argument.trim_start();
    let start = end - argument.len();
    let found = match commands::find(name).map(|command| command.takes) {
        Some(commands::Takes::File) => return file_offers(argument, start, false),
        Some(commands::Takes::Folder) => return file_offers(argument, start, true),
        Some(commands::Takes::Blueprint) => named(&known.blueprints, "blueprint"),
        Some(commands::Takes::Message) => sent(known),
        Some(commands::Takes::OnOff) => named(&["on".to_owned(), "off".to_owned()], ""),
        Some(commands::Takes::Code) => return code_offers(before, start, atlas, known),
        _ => Vec::new(),
    };
    ranked(found.into_iter().map(|c| c.at(start, end, "")), argument)
}

fn named(names: &[String], about: &str) -> Vec<Candidate> {
    names.iter().map(|name| Candidate::new(name, about)).collect()
}

/// Lua after a command is completed like Lua.
fn code_offers(before: &str, start: usize, atlas: &Atlas, known: &Known) -> Vec<Offer> {
    let inner = offers(&before[start..], before.len() - start, atlas, known);
    let shift = |offer: Offer| Offer {
        start: offer.start + start,
        end: offer.end + start,
        ..offer
    };
    inner.into_iter().map(shift).collect()
}

/// Files and folders that begin with what was typed; hidden ones only when a dot was typed.
fn file_offers(typed: &str, start: usize, folders_only: bool) -> Vec<Offer> {
    let (folder, word) = typed.rsplit_once('/').map_or(("", typed), |(f, w)| (f, w));
    let root = if typed.starts_with('/') && folder.is_empty() {
        "/"
    } else {
        folder
    };
    let root = if root.is_empty() { "." } else { root };
    let prefix = typed.len() - word.len();
    let Ok(entries) = std::fs::read_dir(Path::new(root)) else {
        return Vec::new();
    };
    let visible = |name: &str| !name.starts_with('.') || word.starts_with('.');
    let found = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        let is_folder = entry.path().is_dir();
        let wanted = visible(&name) && (is_folder || (!folders_only && name.ends_with(".lua")));
        let slash = if is_folder { "/" } else { "" };
        let about = if is_folder { "folder" } else { "file" };
        wanted.then(|| Candidate::new(format!("{name}{slash}"), about))
    });
    let end = start + typed.len();
    ranked(found.map(|c| c.at(start + prefix, end, "")), word)
}

#[cfg(test)]
mod tests {
    use super::super::atlas::tests::of;
    use super::*;

    const PROCESS: &str = r#"
        Name = "x"; Balances = { ["a b"] = 1, alice = 2, ["q\"q"] = 3, [1] = "one" }
        ao = { id = string.rep("i", 43), send = function() end, env = { Process = { Tags = {} } } }
        Handlers = { add = function() end, remove = function() end, list = {
            { name = "ping", pattern = { Action = "Ping" } }, { name = "my \"own\"", pattern = "Transfer" } } }
        package = { loaded = { [".process"] = {}, json = {} } }
    "#;

    /// The line after each offer at `|`, which marks the cursor.
    fn lines(marked: &str) -> Vec<String> {
        let position = marked.find('|').expect("the cursor is marked");
        let line = marked.replacen('|', "", 1);
        let known = Known {
            blueprints: vec!["token".into(), "chat".into()],
            ..Known::default()
        };
        let put = |o: &Offer| format!("{}{}{}", &line[..o.start], o.text, &line[o.end..]);
        offers(&line, position, &of(PROCESS), &known)
            .iter()
            .map(put)
            .collect()
    }

    fn offered(marked: &str, expected: &str) -> bool {
        lines(marked).iter().any(|line| line == expected)
    }

    #[test]
    fn globals_and_fields_are_offered() {
        assert_eq!(lines("Bal|"), ["Balances"]);
        assert_eq!(lines("x = ao.s|"), ["x = ao.send"]);
        assert_eq!(lines("ao.env.Process.T|"), ["ao.env.Process.Tags"]);
        assert_eq!(lines("f(_G.ao . i|)"), ["f(_G.ao . id)"]);
        assert!(offered("print(|", "print(Balances"));
    }

    #[test]
    fn case_is_forgiven_when_nothing_else_fits() {
        assert_eq!(lines("balances.al|"), Vec::<String>::new());
        assert_eq!(lines("balan|"), ["Balances"]);
        assert_eq!(lines("ao.END|"), ["ao.send"]);
    }

    #[test]
    fn methods_are_functions_only() {
        assert!(lines("ao:|").iter().all(|line| line == "ao:send"));
        assert!(offered("Name:up|", "Name:upper"));
        assert!(offered("(\"x\").|", "(\"x\").") || lines("\"x\":re|").contains(&"\"x\":rep".to_owned()));
        assert!(!offered("Balances:|", "Balances:alice"));
    }

    #[test]
    fn keys_that_are_no_names_are_put_in_brackets() {
        assert!(offered("Balances.|", "Balances[\"a b\"]"));
        assert!(offered("Balances.q|", "Balances[\"q\\\"q\"]"));
        assert!(offered("Balances.|", "Balances[1]"));
        assert_eq!(
            lines("package.loaded.|"),
            ["package.loaded[\".process\"]", "package.loaded.json"]
        );
        assert_eq!(lines("Balances[\"al|"), ["Balances[\"alice\"]"]);
        assert_eq!(lines("Balances['al|']"), ["Balances['alice']"]);
    }

    #[test]
    fn handlers_actions_and_modules_are_offered_in_strings() {
        assert!(offered("Handlers.remove(\"|", "Handlers.remove(\"ping\""));
        assert!(offered("Handlers.remove('p|')", "Handlers.remove('ping')"));
        assert_eq!(lines("Send({ Action = \"Tr|"), ["Send({ Action = \"Transfer\""]);
        assert_eq!(
            lines("Send({ [\"Action\"] = 'Pi|"),
            ["Send({ [\"Action\"] = 'Ping'"]
        );
        assert_eq!(lines("require('js|"), ["require('json'"]);
        let id = "i".repeat(43);
        assert_eq!(lines("Send{Target = \"|"), [format!("Send{{Target = \"{id}\"")]);
    }

    #[test]
    fn names_of_the_text_itself_and_keywords_are_offered() {
        assert_eq!(
            lines("local account = 1 print(acc|"),
            ["local account = 1 print(account"]
        );
        assert_eq!(lines("whi|"), ["while"]);
        assert_eq!(lines("Send({ Act|"), ["Send({ Action"]);
    }

    #[test]
    fn nothing_is_offered_where_nothing_fits() {
        for marked in [
            "-- a|",
            "12|",
            "f().|",
            "local |",
            "x = [[ a|",
            "nope.|",
            "a.b().c.|",
        ] {
            assert_eq!(lines(marked), Vec::<String>::new(), "{marked}");
        }
    }

    #[test]
    fn commands_and_their_arguments_are_offered() {
        assert_eq!(lines(".load-|"), [".load-blueprint"]);
        assert_eq!(lines(".load-blueprint t|"), [".load-blueprint token"]);
        assert_eq!(lines(".dry x = ao.s|"), [".dry x = ao.send"]);
        assert_eq!(lines(".confirm o|"), [".confirm off", ".confirm on"]);
        assert!(lines(".|").len() > 20);
    }

    #[test]
    fn files_are_offered() {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("main.lua"), "").expect("written");
        std::fs::write(folder.path().join("notes.txt"), "").expect("written");
        std::fs::create_dir(folder.path().join("modules")).expect("made");
        let root = folder.path().display();
        let found = lines(&format!(".load {root}/m|"));
        assert_eq!(
            found,
            [format!(".load {root}/main.lua"), format!(".load {root}/modules/")]
        );
        assert_eq!(
            lines(&format!(".watch {root}/m|")),
            [format!(".watch {root}/modules/")]
        );
    }
}
