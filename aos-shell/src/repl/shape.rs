//! The shape of Lua that is still being typed: how deep it nests, which brackets belong together.
//!
//! Not here: whether it is Lua; `lua::read` decides that. The invariant: any text has a shape.

use crate::token::{KEYWORDS, Kind, Token, tokens};

/// The text of a token.
pub(crate) fn text<'a>(token: &Token, source: &'a str) -> &'a str {
    &source[token.start..token.end]
}

/// Whether a text can stand after a dot.
pub(crate) fn is_name(text: &str) -> bool {
    let starts = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    starts && goes_on && !KEYWORDS.contains(&text)
}

/// How many blocks and brackets are open at the end of a text; never below zero.
pub(crate) fn depth(source: &str) -> usize {
    let mut depth = 0_usize;
    for token in tokens(source) {
        match (token.kind, text(&token, source)) {
            (Kind::Keyword, "function" | "do" | "then" | "repeat") => depth += 1,
            (Kind::Keyword, "end" | "until" | "elseif") => depth = depth.saturating_sub(1),
            (Kind::Sign, "(" | "{" | "[") => depth += 1,
            (Kind::Sign, ")" | "}" | "]") => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    depth
}

/// Whether a text ends inside a long string or comment, where spaces would be content.
pub(crate) fn ends_in_open_text(source: &str) -> bool {
    tokens(source).last().is_some_and(|token| token.is_open)
}

/// Whether a line is a word that closes a block, so that it belongs one step to the left.
pub(crate) fn closes_a_block(line: &str) -> bool {
    matches!(line.trim(), "end" | "else" | "elseif" | "until" | "}" | ")" | "]")
}

/// The bracket at a byte and its partner, as byte positions.
pub(crate) fn partners(source: &str, at: usize) -> Option<(usize, usize)> {
    let mut open = Vec::new();
    for token in tokens(source).iter().filter(|token| token.kind == Kind::Sign) {
        match text(token, source) {
            sign @ ("(" | "{" | "[") => open.push((token.start, sign)),
            sign @ (")" | "}" | "]") => {
                let (start, opener) = open.pop()?;
                if !matches!((opener, sign), ("(", ")") | ("{", "}") | ("[", "]")) {
                    return None;
                }
                if start == at || token.start == at {
                    return Some((start, token.start));
                }
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn names_are_told_from_other_keys() {
        assert!(is_name("a1_") && is_name("_"));
        assert!(!is_name("") && !is_name("1a") && !is_name("end") && !is_name("a.b") && !is_name("é"));
    }
}
