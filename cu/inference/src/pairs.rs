//! Byte pairs: a text cut into words, their bytes written as characters, neighbours merged in the order of a file's list.
//!
//! Not here: control tokens and what a maker defined (`vocabulary.rs`). Invariant: a text costs its length times the
//! logarithm of its longest word, whatever it spells.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::Regex;
use unicode_normalization::UnicodeNormalization;

use crate::error::Error;
use crate::merge::merge;

/// How families cut a text into words before byte pairs are merged; no file's own pattern is run.
pub const PATTERNS: [&str; 3] = [GPT_2, LLAMA_3, QWEN_2];
const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN_2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The part of them that looks ahead: [`Cut::words`] does it by hand, so that no text can make it go back and forth.
const AHEAD: &str = r"\s+(?!\S)|";

/// Byte pairs of a vocabulary.
pub struct Pairs {
    cut: Cut,
    /// Tokens by their pieces, which spell bytes as [`spell`] does.
    numbers: HashMap<Box<str>, u32>,
    /// Places in the list of merges, by both halves with a space between: no piece has a space of its own.
    ranks: HashMap<Box<str>, u32>,
}

/// A way to cut words.
struct Cut {
    pattern: Regex,
    /// Whether blanks with an end of line among them were cut by a part before the one that looks ahead.
    lines: bool,
    /// Whether the text is composed (NFC) first.
    composed: bool,
    /// Whether a word that is a piece is left whole, whatever the merges.
    whole: bool,
}

impl Cut {
    /// The way that files call so.
    fn named(name: &str) -> Result<Cut, Error> {
        let pattern = match name {
            "llama-bpe" | "llama3" | "llama-v3" => LLAMA_3,
            "qwen2" => QWEN_2,
            "gpt-2" | "default" => GPT_2,
            other => return Err(Error::Unsupported(format!("words cut as {other} does"))),
        };
        Ok(Cut {
            pattern: Regex::new(&pattern.replace(AHEAD, "")).expect("the patterns are right"),
            lines: pattern != GPT_2,
            composed: pattern == QWEN_2,
            whole: pattern == LLAMA_3,
        })
    }

    /// A text's words, all of it.
    fn words<'a>(&self, text: &'a str) -> impl Iterator<Item = &'a str> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let found = self.pattern.find_at(text, at)?;
            let word = self.before_next(text, found.as_str(), found.end());
            at = found.start() + word.len();
            Some(word)
        })
    }

    /// Blanks leave their last one to the word that follows.
    fn before_next<'a>(&self, text: &str, word: &'a str, end: usize) -> &'a str {
        let blank = word.chars().all(char::is_whitespace) && !(self.lines && word.contains(['\r', '\n']));
        match word.char_indices().next_back() {
            Some((last, _)) if blank && last > 0 && end < text.len() => &word[..last],
            _ => word,
        }
    }
}

/// The characters that stand for bytes: visible ones of Latin-1 for themselves, for the others those from U+0100 on, in order.
static SIGNS: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100..;
    std::array::from_fn(|byte| match byte as u8 {
        visible @ (b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff) => char::from(visible),
        _ => next.next().and_then(char::from_u32).expect("below U+0200"),
    })
});
/// And back.
static BYTES: LazyLock<HashMap<char, u8>> = LazyLock::new(|| SIGNS.iter().copied().zip(0..=255).collect());

fn spell(byte: u8) -> char {
    SIGNS[usize::from(byte)]
}

/// The bytes that a piece stands for: those its characters do, or where one stands for none, the characters themselves.
pub fn bytes(piece: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = piece.chars().map(|c| BYTES.get(&c).copied()).collect();
    bytes.unwrap_or_else(|| piece.as_bytes().to_vec())
}

impl Pairs {
    /// A vocabulary of pieces with their numbers, merges in their order and the name of a way to cut words. Of equal pieces
    /// and merges the first counts.
    ///
    /// # Errors
    /// An unknown way.
    pub fn new<'a>(
        pieces: impl DoubleEndedIterator<Item = (u32, &'a str)>,
        merges: &[&str],
        cut: &str,
    ) -> Result<Pairs, Error> {
        let merges = merges.iter().enumerate().rev();
        Ok(Pairs {
            cut: Cut::named(cut)?,
            numbers: pieces
                .rev()
                .map(|(number, piece)| (piece.into(), number))
                .collect(),
            ranks: merges
                .map(|(rank, merge)| ((*merge).into(), rank as u32))
                .collect(),
        })
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// A byte that no token stands for.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, Error> {
        let composed: String;
        let text = match self.cut.composed {
            true => {
                composed = text.nfc().collect();
                &composed
            }
            false => text,
        };
        let mut tokens = vec![];
        for word in self.cut.words(text) {
            self.word(&word.bytes().map(spell).collect::<String>(), &mut tokens)?;
        }
        Ok(tokens)
    }

    /// The tokens of a word, spelled; what was merged to no piece is its characters again.
    fn word(&self, word: &str, tokens: &mut Vec<u32>) -> Result<(), Error> {
        if self.cut.whole
            && let Some(number) = self.numbers.get(word)
        {
            tokens.push(*number);
            return Ok(());
        }
        let mut listed = String::new();
        let pieces = merge(word, |both, right| {
            listed.clear();
            listed.extend([&both[..right], " ", &both[right..]]);
            Some(u32::MAX - self.ranks.get(listed.as_str())?)
        });
        for piece in pieces {
            match self.numbers.get(piece) {
                Some(number) => tokens.push(*number),
                None => tokens.extend(self.characters(piece)?),
            }
        }
        Ok(())
    }

    fn characters(&self, piece: &str) -> Result<Vec<u32>, Error> {
        let mut buffer = [0; 4];
        let number = |c: char| {
            let number = self.numbers.get(&*c.encode_utf8(&mut buffer)).copied();
            number
                .ok_or_else(|| Error::Invalid(format!("no token stands for the bytes {:02x?}", bytes(piece))))
        };
        piece.chars().map(number).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(cut: &str, text: &str) -> Vec<String> {
        Cut::named(cut).unwrap().words(text).map(str::to_owned).collect()
    }

    #[test]
    fn blanks_leave_one_to_the_next_word() {
        assert_eq!(
            words("gpt-2", "a   b  \n c  "),
            ["a", "  ", " b", "  \n", " c", "  "]
        );
        assert_eq!(words("gpt-2", "\u{a0}\u{a0}x"), ["\u{a0}", "\u{a0}", "x"]);
        assert_eq!(
            words("llama3", "a \n\n  b\t\tc 1234"),
            ["a", " \n\n", " ", " b", "\t", "\tc", " ", "123", "4"]
        );
        assert_eq!(
            words("qwen2", "I'LL x\r\n 12"),
            ["I", "'LL", " x", "\r\n", " ", "1", "2"]
        );
        assert_eq!(words("llama3", &" ".repeat(1 << 20)), [" ".repeat(1 << 20)]);
        assert!(words("gpt-2", "").is_empty());
        assert!(Cut::named("other").is_err());
    }

    #[test]
    fn every_byte_has_a_character_of_its_own() {
        let all: String = (0..=255).map(spell).collect();
        assert_eq!(bytes(&all), (0..=255).collect::<Vec<u8>>());
        assert_eq!(
            (spell(0), spell(b' '), spell(b'a'), spell(0xad)),
            ('Ā', 'Ġ', 'a', 'Ń')
        );
        assert_eq!(bytes("日"), "日".as_bytes(), "a piece that spells no bytes");
    }

    #[test]
    fn merges_are_in_the_order_of_the_list() {
        let pieces = ["a", "b", "c", "x", "y", "z", "bc", "abc", "yz", "Ġ"];
        let pieces = || (0..).zip(pieces);
        let with = |merges: &[&str], cut: &str, text: &str| {
            Pairs::new(pieces().collect::<Vec<_>>().into_iter(), merges, cut)
                .unwrap()
                .encode(text)
        };
        // Whole words and other pairs of the same piece are none of the list's; `ab` is no piece.
        assert_eq!(with(&["a b"], "gpt-2", "abc").unwrap(), [0, 1, 2]);
        assert_eq!(with(&["a b"], "gpt-2", "xbc yz").unwrap(), [3, 1, 2, 9, 4, 5]);
        assert_eq!(with(&["a b"], "llama3", "abc").unwrap(), [7]);
        assert_eq!(with(&["b c", "a b", "a bc"], "gpt-2", "abc").unwrap(), [7]);
        assert_eq!(with(&["a b", "b c", "a bc"], "gpt-2", "abc").unwrap(), [0, 1, 2]);
        assert!(with(&[], "gpt-2", "d").is_err());
    }
}
