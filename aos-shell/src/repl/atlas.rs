//! What a process holds, as the prompt knows it: a graph of its tables, fetched by one dry run.
//!
//! A graph, not a list of paths: a path of any length, through cycles too, is answered from it.
//! Not here: when it is fetched (`refresh`), what is offered (`complete`). The invariant: reading a
//! listing never fails half way; what is not understood is left out.

use std::collections::HashMap;

/// The Lua program that lists a process. It reads and returns; it assigns no global.
pub(crate) const LISTING: &str = include_str!("atlas.lua");

/// Marks the first line of a listing.
const HEAD: &str = "weft-atlas";

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// A string key.
    Text(String),
    /// An integer key.
    Index(i64),
}

/// What Lua says a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A function; the note holds its parameters.
    Function,
    /// A table.
    Table,
    /// A string; the note holds its start.
    Text,
    /// A number; the note holds it.
    Number,
    /// A boolean; the note holds it.
    Boolean,
    /// A coroutine or a userdata.
    Other,
}

/// What one key of a table holds.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// The key.
    pub(crate) key: Key,
    /// The kind of its value.
    pub(crate) kind: Kind,
    /// Which table, if it is one that was listed.
    child: Option<usize>,
    /// More about the value, see `Kind`.
    note: String,
}

impl Entry {
    /// One line about the value.
    pub(crate) fn about(&self) -> String {
        match self.kind {
            Kind::Function => format!("function{}", self.note),
            Kind::Table => "table".to_owned(),
            Kind::Text => format!("{:?}", self.note),
            Kind::Number | Kind::Boolean => self.note.clone(),
            Kind::Other => "value".to_owned(),
        }
    }
}

#[derive(Debug, Clone, Default)]
struct Table {
    /// The table behind `__index`.
    behind: Option<usize>,
    entries: Vec<Entry>,
}

/// A handler as far as completion needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Handler {
    /// Its name.
    pub(crate) name: String,
    /// The `Action` it asks for, if it asks for one text.
    pub(crate) action: Option<String>,
    /// What its function is, so that a new one under the same name can be told.
    pub(crate) mark: String,
}

/// What a process held at some slot.
#[derive(Debug, Clone, Default)]
pub(crate) struct Atlas {
    tables: Vec<Table>,
    /// Its handlers in their order.
    pub(crate) handlers: Vec<Handler>,
}

impl Atlas {
    /// Reads a listing out of what a process printed; text around it is ignored.
    pub(crate) fn parse(text: &str) -> Option<Atlas> {
        let body = &text[text.find(HEAD)? + HEAD.len()..];
        let mut atlas = Atlas::default();
        for line in body.lines().skip(1) {
            match line.strip_prefix('!') {
                Some(handler) => atlas.handlers.extend(parse_handler(handler)),
                None if line.contains('|') => atlas.tables.push(parse_table(line)),
                None => break,
            }
        }
        (!atlas.tables.is_empty()).then_some(atlas)
    }

    /// The globals.
    pub(crate) fn globals(&self) -> Vec<&Entry> {
        self.entries_of(Some(0))
    }

    /// The entry at a path from `_G`.
    pub(crate) fn find(&self, path: &[Key]) -> Option<&Entry> {
        let (last, before) = path.split_last()?;
        let mut table = 0;
        for key in before {
            table = self.entry(table, key)?.child?;
        }
        self.entry(table, last)
    }

    /// What can stand after a path: the entries of its table, or the string library after a string.
    pub(crate) fn fields(&self, path: &[Key]) -> Vec<&Entry> {
        match self.find(path) {
            Some(entry) if entry.kind == Kind::Text => self.text_methods(),
            Some(entry) => self.entries_of(entry.child),
            None => Vec::new(),
        }
    }

    /// The functions of the string library.
    pub(crate) fn text_methods(&self) -> Vec<&Entry> {
        self.fields(&[Key::Text("string".to_owned())])
    }

    /// Text values that look like an id, with the global that holds them.
    pub(crate) fn ids(&self) -> Vec<(String, String)> {
        let owner = |table: usize| self.name_of(table);
        let entries = self.tables.iter().enumerate();
        let flat = entries.flat_map(|(at, table)| table.entries.iter().map(move |e| (at, e)));
        let texts = flat.filter(|(_, e)| e.kind == Kind::Text && looks_like_id(&e.note));
        texts
            .filter_map(|(at, e)| Some((e.note.clone(), label(owner(at)?, &e.key))))
            .collect()
    }

    fn entry(&self, table: usize, key: &Key) -> Option<&Entry> {
        let mut at = Some(table);
        for _ in 0..CHAIN_MAX {
            let table = self.tables.get(at?)?;
            if let Some(entry) = table.entries.iter().find(|entry| entry.key == *key) {
                return Some(entry);
            }
            at = table.behind;
        }
        None
    }

    fn entries_of(&self, table: Option<usize>) -> Vec<&Entry> {
        let mut seen = HashMap::new();
        let mut at = table;
        for _ in 0..CHAIN_MAX {
            let Some(table) = at.and_then(|at| self.tables.get(at)) else {
                break;
            };
            for entry in &table.entries {
                seen.entry(&entry.key).or_insert(entry);
            }
            at = table.behind;
        }
        seen.into_values().collect()
    }

    /// The short name of a table: "" for `_G`, the key for a table that a global holds.
    fn name_of(&self, table: usize) -> Option<String> {
        if table == 0 {
            return Some(String::new());
        }
        let globals = &self.tables.first()?.entries;
        let holder = globals.iter().find(|entry| entry.child == Some(table))?;
        Some(label(String::new(), &holder.key))
    }
}

/// How many `__index` tables are followed.
const CHAIN_MAX: usize = 8;

fn label(owner: String, key: &Key) -> String {
    match key {
        Key::Text(name) if owner.is_empty() => name.clone(),
        Key::Text(name) => format!("{owner}.{name}"),
        Key::Index(index) => format!("{owner}[{index}]"),
    }
}

fn looks_like_id(text: &str) -> bool {
    let id_byte = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    text.len() == 43 && text.bytes().all(id_byte)
}

fn parse_table(line: &str) -> Table {
    let (behind, entries) = line.split_once('|').unwrap_or(("", line));
    Table {
        behind: parse_table_id(behind),
        entries: entries.split(';').filter_map(parse_entry).collect(),
    }
}

/// Tables are counted from 1 in a listing.
fn parse_table_id(text: &str) -> Option<usize> {
    text.parse::<usize>().ok()?.checked_sub(1)
}

fn parse_entry(text: &str) -> Option<Entry> {
    let mut parts = text.split(',');
    let key = parse_key(&unescape(parts.next()?))?;
    let kind = parse_kind(parts.next()?);
    let child = parse_table_id(parts.next()?);
    let note = unescape(parts.next()?);
    Some(Entry {
        key,
        kind,
        child,
        note,
    })
}

fn parse_key(text: &str) -> Option<Key> {
    match text.strip_prefix('s') {
        Some(name) => Some(Key::Text(name.to_owned())),
        None => Some(Key::Index(text.strip_prefix('i')?.parse().ok()?)),
    }
}

fn parse_kind(letter: &str) -> Kind {
    match letter {
        "f" => Kind::Function,
        "t" => Kind::Table,
        "s" => Kind::Text,
        "n" => Kind::Number,
        "b" => Kind::Boolean,
        _ => Kind::Other,
    }
}

fn parse_handler(text: &str) -> Option<Handler> {
    let mut parts = text.split(',').map(unescape);
    let (name, action) = (parts.next()?, parts.next()?);
    Some(Handler {
        name,
        action: (!action.is_empty()).then_some(action),
        mark: parts.next().unwrap_or_default(),
    })
}

/// Undoes percent-encoding; bytes that are no UTF-8 become the replacement sign.
pub(crate) fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        bytes.extend_from_slice(&rest.as_bytes()[..at]);
        let code = rest.get(at + 1..at + 3);
        bytes.extend(code.and_then(|hex| u8::from_str_radix(hex, 16).ok()));
        rest = rest.get(at + 3..).unwrap_or("");
    }
    bytes.extend_from_slice(rest.as_bytes());
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The atlas of a native Lua in which `setup` ran.
    pub(crate) fn of(setup: &str) -> Atlas {
        let lua = mlua::Lua::new();
        lua.load(setup).exec().expect("the set-up runs");
        let listing: String = lua.load(LISTING).eval().expect("the listing runs");
        Atlas::parse(&listing).expect("a listing parses")
    }

    fn key(name: &str) -> Key {
        Key::Text(name.to_owned())
    }

    #[test]
    fn tables_functions_and_values_are_listed() {
        let atlas = of("A = { b = { c = 1 }, f = function(x, y, ...) end, ['a b'] = 'text', 'one' }");
        let c = atlas.find(&[key("A"), key("b"), key("c")]).expect("listed");
        assert_eq!((c.kind, c.about()), (Kind::Number, "1".to_owned()));
        let f = atlas.find(&[key("A"), key("f")]).expect("listed");
        assert_eq!(f.kind, Kind::Function);
        let odd = atlas.find(&[key("A"), key("a b")]).expect("listed");
        assert_eq!(odd.about(), "\"text\"");
        assert!(atlas.find(&[key("A"), Key::Index(1)]).is_some());
    }

    #[test]
    fn parameters_are_shown_where_lua_tells_them() {
        let lua = mlua::Lua::new();
        let unguarded = unguarded_listing(&lua);
        let atlas = Atlas::parse(&unguarded).expect("parses");
        let f = atlas.find(&[key("f")]).expect("listed");
        assert_eq!(f.about(), "function(msg, ...)");
    }

    /// A stand-in for the `debug` library, which a safe native Lua does not carry.
    fn unguarded_listing(lua: &mlua::Lua) -> String {
        let stand_in = "debug = { getinfo = function() return { nparams = 1, isvararg = true } end,
            getlocal = function() return 'msg' end }
            f = function(msg, ...) end";
        lua.load(stand_in).exec().expect("runs");
        lua.load(LISTING).eval().expect("the listing runs")
    }

    #[test]
    fn cycles_and_shared_tables_are_found_on_every_path() {
        let atlas = of("T = {}; T.self = T; T.also = { T = T }");
        let path = ["_G", "T", "self", "also", "T", "self"].map(key);
        assert_eq!(atlas.find(&path).expect("listed").kind, Kind::Table);
    }

    #[test]
    fn what_stands_behind_index_is_offered() {
        let atlas = of("O = setmetatable({ own = 1 }, { __index = { method = print } })");
        let names: Vec<_> = atlas.fields(&[key("O")]).iter().map(|e| e.key.clone()).collect();
        assert_eq!(names.len(), 2);
        assert!(names.contains(&key("method")));
    }

    #[test]
    fn strings_offer_the_string_library() {
        let atlas = of("Name = 'x'");
        let fields = atlas.fields(&[key("Name")]);
        assert!(fields.iter().any(|entry| entry.key == key("upper")));
    }

    #[test]
    fn handlers_bring_their_actions() {
        let atlas = of("Handlers = { list = {
            { name = 'one', pattern = { Action = 'Ping' } }, { name = 'two, 2', pattern = 'Pong' },
            { name = 'three', pattern = function() end } } }");
        let actions: Vec<_> = atlas.handlers.iter().map(|h| h.action.as_deref()).collect();
        assert_eq!(actions, [Some("Ping"), Some("Pong"), None]);
        assert_eq!(atlas.handlers[1].name, "two, 2");
    }

    #[test]
    fn ids_are_found_with_their_place() {
        let id = "A".repeat(43);
        let atlas = of(&format!("Owner = '{id}'; ao = {{ id = '{id}' }}"));
        let mut ids = atlas.ids();
        ids.sort();
        assert_eq!(ids, [(id.clone(), "Owner".into()), (id, "ao.id".into())]);
    }

    #[test]
    fn broken_listings_are_refused_or_cut() {
        assert!(Atlas::parse("").is_none());
        assert!(Atlas::parse("weft-atlas\nweft-end").is_none());
        let cut = Atlas::parse("noise weft-atlas\n|sA,n,,1;sB;;sC,t,99,\n!x");
        let cut = cut.expect("a table is there");
        assert_eq!(cut.globals().len(), 2);
        assert!(cut.fields(&[key("C")]).is_empty());
    }
}
