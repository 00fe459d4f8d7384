//! Where the words of a Lua text stand: enough to point at one, and to colour them while they are typed.
//!
//! It never fails and never judges: what is Lua is decided by Lua itself in `lua.rs`. The invariant:
//! tokens come in order, do not overlap, and every byte outside of them is white space.

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A name that is no keyword.
    Name,
    /// A keyword, `nil`, `true` and `false` included.
    Keyword,
    /// A number.
    Number,
    /// A text in quotes or long brackets; perhaps without its end.
    Text,
    /// A comment; perhaps without its end.
    Comment,
    /// An operator or bracket.
    Sign,
    /// A character that Lua has no use for.
    Unknown,
}

/// One token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// What it is.
    pub kind: Kind,
    /// First byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
    /// Whether a text or a long comment lacks its end.
    pub is_open: bool,
}

/// The words that are not names.
pub const KEYWORDS: [&str; 22] = [
    "and", "break", "do", "else", "elseif", "end", "false", "for", "function", "goto", "if", "in", "local",
    "nil", "not", "or", "repeat", "return", "then", "true", "until", "while",
];

/// Operators and brackets of more than one character, longest first.
const LONG_SIGNS: [&str; 11] = ["...", "..", "==", "~=", "<=", ">=", "//", "::", "<<", ">>", "->"];

/// The tokens of a text, comments included.
pub fn tokens(source: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(rest) = source.get(at..).filter(|rest| !rest.is_empty()) {
        let blank = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_whitespace()).len();
        if blank > 0 {
            at += blank;
            continue;
        }
        let (kind, length, is_open) = one(rest);
        debug_assert!(
            length > 0 && source.is_char_boundary(at + length),
            "a token ends on a character"
        );
        tokens.push(Token {
            kind,
            start: at,
            end: at + length,
            is_open,
        });
        at += length;
    }
    tokens
}

/// Kind, length and openness of the token that a text starts with.
fn one(rest: &str) -> (Kind, usize, bool) {
    let first = rest.chars().next().expect("the caller passes some text");
    match first {
        'a'..='z' | 'A'..='Z' | '_' => {
            let length = rest
                .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
                .unwrap_or(rest.len());
            let kind = match KEYWORDS.contains(&&rest[..length]) {
                true => Kind::Keyword,
                false => Kind::Name,
            };
            (kind, length, false)
        }
        '"' | '\'' => quoted(rest, first),
        '[' => match long_bracket(rest) {
            Some((length, is_open)) => (Kind::Text, length, is_open),
            None => (Kind::Sign, 1, false),
        },
        '-' if rest.starts_with("--") => comment(rest),
        '.' if rest[1..].starts_with(|c: char| c.is_ascii_digit()) => (Kind::Number, number(rest), false),
        '0'..='9' => (Kind::Number, number(rest), false),
        _ => sign(rest, first),
    }
}

fn sign(rest: &str, first: char) -> (Kind, usize, bool) {
    if let Some(long) = LONG_SIGNS.iter().find(|long| rest.starts_with(**long)) {
        return (Kind::Sign, long.len(), false);
    }
    let kind = match "+-*/%^#&~|<>=(){}[];:,.".contains(first) {
        true => Kind::Sign,
        false => Kind::Unknown,
    };
    (kind, first.len_utf8(), false)
}

/// As Lua reads numbers: digits of any base, points, and exponents with their sign.
fn number(rest: &str) -> usize {
    let exponent: &[u8] = match rest.as_bytes() {
        [b'0', b'x' | b'X', ..] => b"pP",
        _ => b"eE",
    };
    let mut length = 0;
    for (at, byte) in rest.bytes().enumerate() {
        let follows_exponent = at > 0 && exponent.contains(&rest.as_bytes()[at - 1]);
        let is_part = byte.is_ascii_hexdigit()
            || byte == b'.'
            || (at == 1 && matches!(byte, b'x' | b'X'))
            || exponent.contains(&byte)
            || (matches!(byte, b'+' | b'-') && follows_exponent);
        if !is_part {
            break;
        }
        length = at + 1;
    }
    length
}

/// A text in quotes: ends at its quote, or open at the end of the line.
fn quoted(rest: &str, quote: char) -> (Kind, usize, bool) {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => {
                // `\z` swallows line ends too; any other escape takes one character.
                if let Some((at, 'z')) = characters.next() {
                    let blank = rest[at + 1..].len() - rest[at + 1..].trim_start().len();
                    let end = at + blank;
                    while characters.clone().next().is_some_and(|(next, _)| next <= end) {
                        characters.next();
                    }
                }
            }
            '\n' => return (Kind::Text, at, true),
            _ if character == quote => return (Kind::Text, at + 1, false),
            _ => {}
        }
    }
    (Kind::Text, rest.len(), true)
}

fn comment(rest: &str) -> (Kind, usize, bool) {
    if let Some((length, is_open)) = long_bracket(&rest[2..]) {
        return (Kind::Comment, 2 + length, is_open);
    }
    (Kind::Comment, rest.find('\n').unwrap_or(rest.len()), false)
}

/// Length of the long bracket that a text starts with, and whether it lacks its end.
fn long_bracket(rest: &str) -> Option<(usize, bool)> {
    let level = rest.strip_prefix('[')?.bytes().take_while(|b| *b == b'=').count();
    if rest.as_bytes().get(1 + level) != Some(&b'[') {
        return None;
    }
    let close = format!("]{}]", "=".repeat(level));
    let body = 2 + level;
    match rest[body..].find(&close) {
        Some(at) => Some((body + at + close.len(), false)),
        None => Some((rest.len(), true)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        let spans = tokens(source).into_iter();
        spans.map(|token| &source[token.start..token.end]).collect()
    }

    #[test]
    fn words_stand_where_lua_sees_them() {
        let source = "local a_1 = 0x1p-4..'it\\'s' --[[x\ny]] ~= [==[ ]] ]==]";
        let expected = [
            "local",
            "a_1",
            "=",
            "0x1p-4..",
            "'it\\'s'",
            "--[[x\ny]]",
            "~=",
            "[==[ ]] ]==]",
        ];
        assert_eq!(words(source), expected);
        assert_eq!(words("a.b:c(1)"), ["a", ".", "b", ":", "c", "(", "1", ")"]);
        assert_eq!(words("é§\"ü\""), ["é", "§", "\"ü\""]);
        assert_eq!(words("x='a\\z  \n b'y"), ["x", "=", "'a\\z  \n b'", "y"]);
    }

    #[test]
    fn what_lacks_its_end_is_open() {
        for source in ["'abc", "\"a\\", "[[a\nb", "--[==[ a ]]", "'a\\z  \n"] {
            assert!(tokens(source).last().unwrap().is_open, "{source}");
        }
        for source in ["'abc'", "-- a", "[[a\nb]]", "--[a"] {
            assert!(!tokens(source).last().unwrap().is_open, "{source}");
        }
        assert!(tokens("'abc\nd'")[0].is_open);
    }
}
