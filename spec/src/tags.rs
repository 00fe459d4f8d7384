//! Tags: name/value pairs on an item, in Avro's array encoding.
//!
//! The raw bytes are what is signed, so they are kept and never re-encoded: several encodings of
//! the same tags are legal on the wire. Not here: what any tag means.
//!
//! Source: ANS-104 section 1.3; the limits are those that reference implementations enforce.

use std::borrow::Cow;

use bytes::Bytes;

/// Most raw tag bytes accepted on an item.
pub const RAW_TAGS_LEN_MAX: usize = 4096;
/// Most tags written on an item.
pub const TAGS_MAX: usize = 128;
/// Longest name written, in bytes.
pub const NAME_LEN_MAX: usize = 1024;
/// Longest value written, in bytes.
pub const VALUE_LEN_MAX: usize = 3072;

/// One name/value pair. Bytes, because the wire promises no more; nearly always UTF-8.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tag {
    /// The name's bytes.
    pub name: Bytes,
    /// The value's bytes.
    pub value: Bytes,
}

impl Tag {
    /// A tag made from texts.
    pub fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: Bytes::from(name.into()),
            value: Bytes::from(value.into()),
        }
    }

    /// The name as text, invalid UTF-8 replaced.
    pub fn name_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.name)
    }

    /// The value as text, invalid UTF-8 replaced.
    pub fn value_text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.value)
    }
}

/// An ordered list of tags. Names may repeat; the first one of a name usually decides.
pub type Tags = Vec<Tag>;

/// Finds the value of the first tag of a name, matched exactly; `None` too if it is not UTF-8.
pub fn first<'a>(tags: &'a [Tag], name: &str) -> Option<&'a str> {
    let tag = tags.iter().find(|tag| tag.name == name.as_bytes())?;
    std::str::from_utf8(&tag.value).ok()
}

/// All UTF-8 values of the tags of a name, in order.
pub fn all<'a>(tags: &'a [Tag], name: &'a str) -> impl Iterator<Item = &'a str> {
    let named = tags.iter().filter(move |tag| tag.name == name.as_bytes());
    named.filter_map(|tag| std::str::from_utf8(&tag.value).ok())
}

/// Why tag bytes could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagsError {
    /// More raw bytes than any node of the network takes.
    #[error("tags take {0} bytes, the limit is {RAW_TAGS_LEN_MAX}")]
    TooLong(usize),
    /// The bytes end inside a value, or a length is negative or absurd.
    #[error("tags are cut off or malformed at byte {0}")]
    Malformed(usize),
    /// Bytes follow the terminator.
    #[error("{0} bytes follow the end of the tags")]
    Trailing(usize),
    /// The item's header promises another number of tags.
    #[error("the item's header counts {header} tags, its tag bytes hold {decoded}")]
    Count {
        /// What the header says.
        header: u64,
        /// What the bytes hold.
        decoded: usize,
    },
    /// A tag that may be read, but must not be written.
    #[error("tag {index}: {why}")]
    Unwritable {
        /// Which tag, from 0.
        index: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// Reads tags; names and values are slices of `raw`.
pub fn decode(raw: &Bytes) -> Result<Tags, TagsError> {
    if raw.len() > RAW_TAGS_LEN_MAX {
        return Err(TagsError::TooLong(raw.len()));
    }
    let mut tags = Tags::new();
    let mut reader = Reader { raw, at: 0 };
    if raw.is_empty() {
        return Ok(tags);
    }
    loop {
        let count = reader.varint()?;
        if count == 0 {
            break;
        }
        // A negative count is followed by the block's size in bytes, for readers that skip.
        let size = if count < 0 { Some(reader.varint()?) } else { None };
        let start = reader.at;
        for _ in 0..count.unsigned_abs() {
            // Each tag takes at least two bytes, so a huge count ends at the bytes' end.
            let (name, value) = (reader.bytes()?, reader.bytes()?);
            tags.push(Tag { name, value });
        }
        // A false size would show other tags to readers that skip by it.
        if size.is_some_and(|size| size != (reader.at - start) as i64) {
            return Err(TagsError::Malformed(start));
        }
    }
    match raw.len() - reader.at {
        0 => Ok(tags),
        trailing => Err(TagsError::Trailing(trailing)),
    }
}

struct Reader<'a> {
    raw: &'a Bytes,
    at: usize,
}

impl Reader<'_> {
    /// A zig-zag varint of at most 64 bits.
    fn varint(&mut self) -> Result<i64, TagsError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = *self.raw.get(self.at).ok_or(TagsError::Malformed(self.at))?;
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(TagsError::Malformed(self.at));
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        Err(TagsError::Malformed(self.at))
    }

    fn bytes(&mut self) -> Result<Bytes, TagsError> {
        let len = usize::try_from(self.varint()?).map_err(|_| TagsError::Malformed(self.at))?;
        let end = self.at.checked_add(len).filter(|end| *end <= self.raw.len());
        let end = end.ok_or(TagsError::Malformed(self.at))?;
        let bytes = self.raw.slice(self.at..end);
        self.at = end;
        Ok(bytes)
    }
}

/// Writes tags in the canonical form: one block, minimal varints; nothing at all for no tags.
///
/// # Errors
/// The standard's limits, which are stricter than what is read: see the constants of this page.
pub fn encode(tags: &[Tag]) -> Result<Vec<u8>, TagsError> {
    for (index, tag) in tags.iter().enumerate() {
        check_writable(tag).map_err(|why| TagsError::Unwritable { index, why })?;
    }
    if tags.len() > TAGS_MAX {
        return Err(TagsError::Unwritable {
            index: TAGS_MAX,
            why: "more than 128 tags",
        });
    }
    let raw = encode_unchecked(tags);
    if raw.len() > RAW_TAGS_LEN_MAX {
        return Err(TagsError::TooLong(raw.len()));
    }
    debug_assert_eq!(decode(&Bytes::from(raw.clone())).as_deref(), Ok(tags));
    Ok(raw)
}

/// Writes tags without the standard's limits: for hashing what others wrote.
pub fn encode_unchecked(tags: &[Tag]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(64 * tags.len());
    if tags.is_empty() {
        return raw;
    }
    write_varint(&mut raw, tags.len() as i64);
    for part in tags.iter().flat_map(|tag| [&tag.name, &tag.value]) {
        write_varint(&mut raw, part.len() as i64);
        raw.extend_from_slice(part);
    }
    raw.push(0);
    raw
}

fn check_writable(tag: &Tag) -> Result<(), &'static str> {
    match (tag.name.len(), tag.value.len()) {
        (0, _) => Err("the name is empty"),
        (NAME_LEN_MAX.., _) if tag.name.len() > NAME_LEN_MAX => Err("the name is over 1,024 bytes"),
        (_, VALUE_LEN_MAX..) if tag.value.len() > VALUE_LEN_MAX => Err("the value is over 3,072 bytes"),
        _ => Ok(()),
    }
}

fn write_varint(out: &mut Vec<u8>, value: i64) {
    let mut zigzag = ((value << 1) ^ (value >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_the_known_bytes_and_reads_them_back() {
        let tags = vec![Tag::new("a", "b")];
        let raw = encode(&tags).unwrap();
        assert_eq!(raw, [0x02, 0x02, 0x61, 0x02, 0x62, 0x00]);
        assert_eq!(decode(&raw.into()).unwrap(), tags);
        assert!(encode(&[]).unwrap().is_empty());
    }

    #[test]
    fn reads_blocks_negative_counts_and_wide_varints() {
        let expected = vec![Tag::new("a", "b"), Tag::new("c", "")];
        // Block of -1 with its size, then block of 1 written in two varint bytes, then the end.
        let raw = [
            0x01, 0x08, 0x02, 0x61, 0x02, 0x62, 0x82, 0x00, 0x02, 0x63, 0x00, 0x00,
        ];
        assert_eq!(decode(&Bytes::copy_from_slice(&raw)).unwrap(), expected);
    }

    #[test]
    fn refuses_what_is_cut_off_or_goes_on() {
        let raw = encode(&[Tag::new("name", "value"), Tag::new("x", "y")]).unwrap();
        for end in 1..raw.len() {
            assert!(
                decode(&Bytes::copy_from_slice(&raw[..end])).is_err(),
                "cut at {end}"
            );
        }
        let mut longer = raw.clone();
        longer.push(0);
        assert_eq!(decode(&longer.into()), Err(TagsError::Trailing(1)));
        let huge_count = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
        assert!(decode(&Bytes::copy_from_slice(&huge_count)).is_err());
        assert_eq!(decode(&vec![0; 4097].into()), Err(TagsError::TooLong(4097)));
    }

    #[test]
    fn writes_no_tag_beyond_the_standard() {
        assert!(encode(&[Tag::new("", "v")]).is_err());
        assert!(encode(&[Tag::new("n".repeat(1025), "v")]).is_err());
        assert!(encode(&[Tag::new("n", "v".repeat(3073))]).is_err());
        assert!(encode(&vec![Tag::new("n", "v"); 129]).is_err());
    }
}
