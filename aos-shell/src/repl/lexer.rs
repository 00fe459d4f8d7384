//! A Lua lexer that never refuses: it colours and measures text that is still being typed.
//!
//! Not here: whether the text is Lua; `lua::read` decides that. The invariant: the tokens cover the
//! source without gap or overlap.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A reserved word.
    Keyword,
    /// Any other word.
    Name,
    /// A number.
    Number,
    /// A string of either form.
    Text,
    /// A comment of either form.
    Comment,
    /// An operator or a bracket.
    Symbol,
    /// White space, line ends included.
    Space,
}

/// A piece of the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token {
    /// What it is.
    pub(crate) kind: Kind,
    /// First byte.
    pub(crate) start: usize,
    /// One past the last byte.
    pub(crate) end: usize,
    /// Whether a string or long comment is closed; other tokens always are.
    pub(crate) closed: bool,
}

impl Token {
    /// The text of the token.
    pub(crate) fn text<'a>(&self, source: &'a str) -> &'a str {
        &source[self.start..self.end]
    }
}

/// The reserved words of Lua 5.3, sorted.
pub(crate) const KEYWORDS: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in",
    "local", "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// Whether a word is reserved.
pub(crate) fn is_keyword(word: &str) -> bool {
    KEYWORDS.binary_search(&word).is_ok()
}

/// Whether a text can stand after a dot.
pub(crate) fn is_name(text: &str) -> bool {
    let mut bytes = text.bytes();
    let first = bytes.next().is_some_and(|b| starts_name(char::from(b)));
    first && bytes.all(|b| continues_name(char::from(b))) && !is_keyword(text)
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn continues_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Cuts a source into tokens.
pub(crate) fn lex(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let (kind, length, closed) = next(&source[at..]);
        assert!(length > 0, "a token has at least one byte");
        tokens.push(Token {
            kind,
            start: at,
            end: at + length,
            closed,
        });
        at += length;
    }
    tokens
}

/// The first token of a text that is not empty.
fn next(rest: &str) -> (Kind, usize, bool) {
    let first = rest.chars().next().expect("the caller checked: not empty");
    if first.is_whitespace() {
        return (Kind::Space, span(rest, char::is_whitespace), true);
    }
    if starts_name(first) {
        return word(rest);
    }
    if rest.starts_with("--") {
        return comment(rest);
    }
    if first == '"' || first == '\'' {
        let (length, closed) = quoted(rest, first);
        return (Kind::Text, length, closed);
    }
    if let Some((length, closed)) = long_bracket(rest) {
        return (Kind::Text, length, closed);
    }
    number_or_symbol(rest, first)
}

fn span(rest: &str, belongs: impl Fn(char) -> bool) -> usize {
    rest.find(|c: char| !belongs(c)).unwrap_or(rest.len())
}

fn word(rest: &str) -> (Kind, usize, bool) {
    let length = span(rest, continues_name);
    let kind = match is_keyword(&rest[..length]) {
        true => Kind::Keyword,
        false => Kind::Name,
    };
    (kind, length, true)
}

fn comment(rest: &str) -> (Kind, usize, bool) {
    match long_bracket(&rest[2..]) {
        Some((length, closed)) => (Kind::Comment, 2 + length, closed),
        None => (Kind::Comment, span(rest, |c| c != '\n'), true),
    }
}

/// Length of a quoted string; an unescaped line end ends it unclosed.
fn quoted(rest: &str, quote: char) -> (usize, bool) {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '\n' => return (at, false),
            _ if c == quote => return (at + 1, true),
            _ => {}
        }
    }
    (rest.len(), false)
}

/// Length of `[[...]]` or `[==[...]==]` at the start of a text, if there is one.
fn long_bracket(rest: &str) -> Option<(usize, bool)> {
    let level = rest.strip_prefix('[')?.bytes().take_while(|b| *b == b'=');
    let level = level.count();
    if rest.as_bytes().get(1 + level) != Some(&b'[') {
        return None;
    }
    let close = format!("]{}]", "=".repeat(level));
    let body = &rest[level + 2..];
    Some(match body.find(&close) {
        Some(at) => (level + 2 + at + close.len(), true),
        None => (rest.len(), false),
    })
}

fn number_or_symbol(rest: &str, first: char) -> (Kind, usize, bool) {
    let second = rest[first.len_utf8()..].chars().next();
    let dotted = first == '.' && second.is_some_and(|c| c.is_ascii_digit());
    if first.is_ascii_digit() || dotted {
        return (Kind::Number, number(rest), true);
    }
    const LONG: [&str; 11] = ["...", "..", "==", "~=", "<=", ">=", "//", "<<", ">>", "::", "->"];
    let long = LONG.iter().find(|symbol| rest.starts_with(**symbol));
    (Kind::Symbol, long.map_or(first.len_utf8(), |s| s.len()), true)
}

/// Length of a number: digits, letters, dots, and a sign after an exponent.
fn number(rest: &str) -> usize {
    let hex = rest.starts_with("0x") || rest.starts_with("0X");
    let mut before = ' ';
    for (at, c) in rest.char_indices() {
        let exponent = match hex {
            true => matches!(before, 'p' | 'P'),
            false => matches!(before, 'e' | 'E'),
        };
        let signed = matches!(c, '+' | '-') && exponent;
        if !(c.is_ascii_alphanumeric() || c == '.' || signed) || rest[at..].starts_with("..") {
            return at.max(1);
        }
        before = c;
    }
    rest.len()
}

/// How many blocks and brackets are open at the end of a text; never below zero.
pub(crate) fn depth(source: &str) -> usize {
    let mut depth = 0_usize;
    for token in lex(source) {
        match (token.kind, token.text(source)) {
            (Kind::Keyword, "function" | "do" | "then" | "repeat") => depth += 1,
            (Kind::Keyword, "end" | "until" | "elseif") => depth = depth.saturating_sub(1),
            (Kind::Symbol, "(" | "{" | "[") => depth += 1,
            (Kind::Symbol, ")" | "}" | "]") => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}

/// Whether the end of a text lies inside a long string or a long comment, where spaces count.
pub(crate) fn ends_inside_long(source: &str) -> bool {
    lex(source).last().is_some_and(|token| !token.closed)
}

/// The bracket at a byte and its partner, as byte positions.
pub(crate) fn partners(source: &str, at: usize) -> Option<(usize, usize)> {
    let tokens = lex(source);
    let brackets: Vec<(usize, char)> = tokens
        .iter()
        .filter(|token| token.kind == Kind::Symbol)
        .filter_map(|token| Some((token.start, token.text(source).chars().next()?)))
        .filter(|(_, c)| "(){}[]".contains(*c))
        .collect();
    let mut open = Vec::new();
    for (position, c) in brackets {
        if "({[".contains(c) {
            open.push((position, c));
            continue;
        }
        let (start, opener) = open.pop()?;
        if !matches!((opener, c), ('(', ')') | ('{', '}') | ('[', ']')) {
            return None;
        }
        if start == at || position == at {
            return Some((start, position));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<(Kind, &str)> {
        let tokens = lex(source);
        let solid = tokens.iter().filter(|token| token.kind != Kind::Space);
        solid.map(|token| (token.kind, token.text(source))).collect()
    }

    #[test]
    fn every_kind_is_told_apart() {
        let source = "local a = \"x\\\"y\" .. 0x1p-3 -- end\n[==[ ] ]==]";
        let expected = vec![
            (Kind::Keyword, "local"),
            (Kind::Name, "a"),
            (Kind::Symbol, "="),
            (Kind::Text, "\"x\\\"y\""),
            (Kind::Symbol, ".."),
            (Kind::Number, "0x1p-3"),
            (Kind::Comment, "-- end"),
            (Kind::Text, "[==[ ] ]==]"),
        ];
        assert_eq!(kinds(source), expected);
    }

    #[test]
    fn tokens_cover_any_text_without_gap() {
        for source in ["", "'", "\"é\nü", "[[", "--[[ x", "1..2", "3..", "€ = @#$", "[=", "x[=[", "\u{2028}"] {
            let tokens = lex(source);
            let mut at = 0;
            for token in &tokens {
                assert_eq!(token.start, at, "{source:?}");
                at = token.end;
            }
            assert_eq!(at, source.len(), "{source:?}");
        }
    }

    #[test]
    fn unclosed_texts_are_told() {
        assert!(!lex("'abc").last().expect("one").closed);
        assert!(ends_inside_long("x = [[ a"));
        assert!(!ends_inside_long("x = [[ a ]]"));
    }

    #[test]
    fn depth_counts_blocks_and_brackets() {
        assert_eq!(depth("function f() if x then"), 2);
        assert_eq!(depth("if x then y() elseif z then"), 1);
        assert_eq!(depth("for i=1,2 do end end"), 0);
        assert_eq!(depth("Handlers.add('x', function(m)"), 2);
        assert_eq!(depth("t = { -- {\n '{'"), 1);
        assert_eq!(depth("repeat x() until y"), 0);
    }

    #[test]
    fn brackets_find_their_partners() {
        let source = "f({1, ')'})";
        assert_eq!(partners(source, 1), Some((1, 10)));
        assert_eq!(partners(source, 9), Some((2, 9)));
        assert_eq!(partners(source, 0), None);
        assert_eq!(partners("f(]", 1), None);
    }
}
