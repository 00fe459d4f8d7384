//! An answer's text as it grows: what is certain of it, and whether a text that ends it has come.
//!
//! Not here: vocabularies. Invariant: the pieces handed out, joined, are the text of the whole answer up to where it ended.

/// A growing text.
#[derive(Debug, Default)]
pub struct Text {
    bytes: Vec<u8>,
    /// Bytes that have been handed out.
    out: usize,
    stops: Vec<String>,
}

impl Text {
    /// An empty text that any of these ends; none of them is empty.
    pub fn new(stops: Vec<String>) -> Text {
        assert!(stops.iter().all(|stop| !stop.is_empty()));
        Text {
            stops,
            ..Text::default()
        }
    }

    /// Adds a token's bytes; tells whether a text has come that ends it: it is cut before the first.
    pub fn push(&mut self, bytes: &[u8]) -> bool {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let from = (self.bytes.len() + 1).saturating_sub(longest).max(self.out);
        self.bytes.extend(bytes);
        let new = &self.bytes[from.min(self.bytes.len())..];
        match self
            .stops
            .iter()
            .filter_map(|stop| find(new, stop.as_bytes()))
            .min()
        {
            Some(at) => {
                self.bytes.truncate(from + at);
                true
            }
            None => false,
        }
    }

    /// What has become certain since the last time: whole characters that no ending text may begin with.
    pub fn take(&mut self) -> String {
        let certain = self.bytes.len() - self.held();
        self.hand(whole(&self.bytes, self.out, certain))
    }

    /// All that is left, once the answer has ended.
    pub fn rest(&mut self) -> String {
        self.hand(self.bytes.len())
    }

    /// The whole text.
    pub fn whole(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn hand(&mut self, to: usize) -> String {
        let text = String::from_utf8_lossy(&self.bytes[self.out..to]).into_owned();
        self.out = to;
        text
    }

    /// Bytes at the end that may be the beginning of a text that ends it.
    fn held(&self) -> usize {
        let rest = &self.bytes[self.out..];
        let begins = |stop: &String| {
            let most = rest.len().min(stop.len() - 1);
            (1..=most)
                .rev()
                .find(|n| rest.ends_with(&stop.as_bytes()[..*n]))
                .unwrap_or(0)
        };
        self.stops.iter().map(begins).max().unwrap_or(0)
    }
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

/// The end of the last whole character up to `to`; what can become none counts as whole.
fn whole(bytes: &[u8], mut from: usize, to: usize) -> usize {
    while from < to {
        match std::str::from_utf8(&bytes[from..to]) {
            Ok(_) => return to,
            Err(error) => match error.error_len() {
                Some(length) => from += error.valid_up_to() + length,
                None => return from + error.valid_up_to(),
            },
        }
    }
    from
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The pieces of a text pushed part by part, and whether it ended.
    fn pieces(stops: &[&str], parts: &[&[u8]]) -> (Vec<String>, bool) {
        let mut text = Text::new(stops.iter().map(ToString::to_string).collect());
        let mut out = vec![];
        for part in parts {
            if text.push(part) {
                out.push(text.rest());
                assert_eq!(out.concat(), text.whole());
                return (out, true);
            }
            out.push(text.take());
        }
        out.push(text.rest());
        assert_eq!(out.concat(), text.whole());
        (out, false)
    }

    #[test]
    fn characters_come_whole() {
        let (out, ended) = pieces(&[], &[b"a\xc3", b"\xa9b", b"\xff\xe2\x82", b"\xac", b"\xe2"]);
        assert_eq!(out, ["a", "éb", "\u{fffd}", "€", "", "\u{fffd}"]);
        assert!(!ended);
    }

    #[test]
    fn what_may_end_it_is_held_back() {
        let (out, ended) = pieces(&["\n\nQ:", "END"], &[b"one\n", b"\n", b"two E", b"N", b"D three"]);
        assert_eq!(out, ["one", "", "\n\ntwo ", "", ""]);
        assert!(ended);
        let (out, ended) = pieces(&["ab", "b"], &[b"xa", b"b"]);
        assert_eq!((out.concat(), ended), ("x".to_owned(), true));
    }
}
