//! 100,000 damaged data items, bundles, tag blocks and withheld items from one seed: none panics,
//! and none verifies that is not, byte for byte, what a key signed.
//!
//! `WEFT_MUTATIONS` and `WEFT_SEED` change the count and the seed; a failure prints the input.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::HashSet;
use std::path::Path;

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use spec::item::ItemParts;
use spec::tags::{Tags, encode_unchecked};
use spec::{Assignment, Bundle, DataItem, Signer, Tag, Withheld, tags};

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

/// What is damaged, and everything that may be accepted afterwards.
struct Corpus {
    items: Vec<Bytes>,
    bundles: Vec<Bytes>,
    tag_blocks: Vec<Bytes>,
    withheld: Vec<Bytes>,
    signed: HashSet<Bytes>,
}

fn vectors() -> Vec<Bytes> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/items");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|e| e == "bin"))
        .collect();
    paths.sort();
    let items = paths
        .into_iter()
        .map(|path| Bytes::from(std::fs::read(path).unwrap()));
    items
        .filter(|bytes| DataItem::parse_verified(bytes.clone()).is_ok())
        .collect()
}

fn random_parts(random: &mut Random) -> ItemParts {
    let text = |random: &mut Random, len: usize| -> String {
        (0..random.below(len))
            .map(|_| char::from(b'a' + random.below(26) as u8))
            .collect()
    };
    let count = random.below(6);
    let tags = (0..count).map(|n| Tag::new(format!("n{n}{}", text(random, 90)), text(random, 200)));
    let tags: Tags = tags.collect();
    ItemParts {
        target: (random.below(2) == 0).then_some([random.next() as u8; 32]),
        anchor: (random.below(2) == 0).then_some([random.next() as u8; 32]),
        tags,
        data: vec![random.next() as u8; random.below(300)].into(),
    }
}

fn corpus(random: &mut Random) -> Corpus {
    let signers = [Signer::ed25519(&[3; 32]), Signer::ethereum(&[3; 32]).unwrap()];
    let mut signed: Vec<DataItem> = vectors()
        .into_iter()
        .map(|b| DataItem::parse(b).unwrap())
        .collect();
    assert!(signed.len() >= 14, "the vectors were not found");
    signed.extend((0..40).map(|n| DataItem::sign(&random_parts(random), &signers[n % 2]).unwrap()));
    let mut bundles = vec![
        Bundle::encode(&[]),
        Bundle::encode(&signed[..6]),
        Bundle::encode(&signed[14..]),
    ];
    for depth in 0..3 {
        let tags = vec![
            Tag::new("Bundle-Format", "binary"),
            Tag::new("Bundle-Version", "2.0.0"),
        ];
        let parts = ItemParts {
            tags,
            data: bundles[2 + depth].clone(),
            ..ItemParts::default()
        };
        signed.push(DataItem::sign(&parts, &signers[depth % 2]).unwrap());
        bundles.push(Bundle::encode(&signed[signed.len() - 3..]));
    }
    let mut tag_blocks: Vec<Bytes> = signed.iter().map(DataItem::raw_tags).collect();
    tag_blocks.push(Bytes::from_static(&[
        0x01, 0x08, 0x02, 0x61, 0x02, 0x62, 0x82, 0x00, 0x02, 0x63, 0x00, 0x00,
    ]));
    Corpus {
        items: signed.iter().map(|item| item.bytes().clone()).collect(),
        withheld: signed.iter().map(|item| item.withhold().encode()).collect(),
        signed: signed.iter().map(|item| item.bytes().clone()).collect(),
        bundles,
        tag_blocks,
    }
}

/// Damages `bytes` in one way; `other` lends bytes for splices.
fn damage(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len() + 1);
    let len = random.below(64).min(bytes.len() - at);
    match random.below(8) {
        0 | 1 if at < bytes.len() => bytes[at] ^= 1 << random.below(8),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..at + len)),
        4 => drop(bytes.splice(at..at, (0..random.below(40)).map(|n| n as u8))),
        5 => {
            let from = random.below(other.len());
            let taken = &other[from..from + random.below(other.len() - from + 1)];
            bytes.splice(at..at + len, taken.iter().copied());
        }
        6 => drop(bytes.splice(at..at, bytes[at..at + len].to_vec())),
        _ => length_field(random, bytes),
    }
}

/// Writes an awkward number where a length or count may stand.
fn length_field(random: &mut Random, bytes: &mut [u8]) {
    let awkward = [
        0,
        1,
        0x7f,
        0x80,
        0xffff,
        4096,
        4097,
        u64::from(u32::MAX),
        1 << 63,
        u64::MAX,
        u64::MAX - 63,
    ];
    let number = random.pick(&awkward).to_le_bytes();
    let width = *random.pick(&[1, 2, 4, 8]);
    let at = random.below(bytes.len());
    for (byte, new) in bytes[at..].iter_mut().zip(&number[..width]) {
        *byte = *new;
    }
}

fn damaged(random: &mut Random, from: &[Bytes]) -> Bytes {
    let mut bytes = random.pick(from).to_vec();
    // One in 64 stays whole, so that accepting is tested too.
    for _ in 0..(random.below(64).min(1) * (1 + random.below(3))) {
        let other = random.pick(from).clone();
        damage(random, &mut bytes, &other);
    }
    bytes.into()
}

#[derive(Default, Debug)]
struct Seen {
    parsed: usize,
    verified: usize,
    tags: usize,
    bundles: usize,
    withheld: usize,
}

fn check_item(corpus: &Corpus, bytes: Bytes, seen: &mut Seen) {
    let Ok(item) = DataItem::parse(bytes.clone()) else {
        return;
    };
    seen.parsed += 1;
    assert_eq!(
        rebuilt(&item),
        bytes,
        "the fields are the item, in order and without a gap"
    );
    assert_eq!(item.id().bytes()[..], *digest(&SHA256, item.signature()).as_ref());
    assert_eq!(naive_tags(&item.raw_tags()).unwrap(), item.tags());
    let verified = item.verify().is_ok();
    seen.verified += usize::from(verified);
    assert!(
        !verified || corpus.signed.contains(&bytes),
        "verified, and nobody signed it: {bytes:02x?}"
    );
    assert_eq!(
        item.withhold().verify().is_ok(),
        verified,
        "withholding changes no verdict"
    );
    assert_eq!(
        Withheld::decode(&item.withhold().encode()).unwrap(),
        item.withhold()
    );
    // Nothing of these may panic on an item, believed or not.
    let _ = (
        Assignment::read(item.clone()),
        item.signer_text(),
        spec::push_hash::push_hash(&item),
    );
}

/// The item's bytes, put together again from what its methods say.
fn rebuilt(item: &DataItem) -> Vec<u8> {
    let mut bytes = item.signature_type().number().to_le_bytes().to_vec();
    bytes.extend_from_slice(item.signature());
    bytes.extend_from_slice(item.owner());
    for field in [item.target(), item.anchor()] {
        bytes.push(u8::from(field.is_some()));
        bytes.extend(field.into_iter().flatten());
    }
    bytes.extend((item.tags().len() as u64).to_le_bytes());
    bytes.extend((item.raw_tags().len() as u64).to_le_bytes());
    bytes.extend(item.raw_tags());
    bytes.extend(item.data());
    assert_eq!(item.data_len(), item.data().len() as u64);
    bytes
}

fn check_bundle(corpus: &Corpus, bytes: Bytes, seen: &mut Seen) {
    let Ok(bundle) = Bundle::parse(&bytes) else {
        assert!(
            Bundle::parse_nested(&bytes).is_err(),
            "nothing is unfolded from what is no bundle"
        );
        return;
    };
    seen.bundles += 1;
    assert_eq!(Bundle::encode(&bundle.items), bytes, "a bundle has one form");
    let all = Bundle::parse_nested(&bytes).unwrap();
    assert_eq!(all[..bundle.items.len()], bundle.items);
    for item in all.iter().filter(|item| !corpus.signed.contains(item.bytes())) {
        assert!(
            item.verify().is_err(),
            "verified, and nobody signed it: {:02x?}",
            item.bytes()
        );
    }
}

fn check_tags(raw: Bytes, seen: &mut Seen) {
    let decoded = tags::decode(&raw).ok();
    assert_eq!(decoded, naive_tags(&raw), "two readers disagree on {raw:02x?}");
    let Some(list) = decoded else { return };
    seen.tags += 1;
    let canonical = Bytes::from(encode_unchecked(&list));
    if canonical.len() <= tags::RAW_TAGS_LEN_MAX {
        assert_eq!(tags::decode(&canonical).unwrap(), list);
    }
    let _ = tags::encode(&list);
}

/// A second reader of tag blocks, slow and plain, to hold the first one against.
fn naive_tags(raw: &[u8]) -> Option<Tags> {
    let mut list = Tags::new();
    let mut rest = raw;
    if raw.len() > 4096 {
        return None;
    }
    while !raw.is_empty() {
        let count = naive_number(&mut rest)?;
        if count == 0 {
            return rest.is_empty().then_some(list);
        }
        let promised = if count < 0 {
            Some(naive_number(&mut rest)?)
        } else {
            None
        };
        let before = rest.len();
        for _ in 0..count.abs() {
            let (name, value) = (naive_text(&mut rest)?, naive_text(&mut rest)?);
            list.push(Tag { name, value });
        }
        if promised.is_some_and(|promised| promised != (before - rest.len()) as i128) {
            return None;
        }
    }
    Some(list)
}

fn naive_number(rest: &mut &[u8]) -> Option<i128> {
    let len = 1 + rest.iter().position(|byte| byte & 0x80 == 0)?;
    let (number, after) = rest.split_at(len);
    *rest = after;
    let folded = number
        .iter()
        .rev()
        .take(11)
        .fold(0u128, |n, byte| n << 7 | u128::from(byte & 0x7f));
    let fits = len <= 10 && folded <= u128::from(u64::MAX);
    fits.then(|| {
        if folded % 2 == 0 {
            folded as i128 / 2
        } else {
            -(folded as i128 / 2) - 1
        }
    })
}

fn naive_text(rest: &mut &[u8]) -> Option<Bytes> {
    let len = usize::try_from(naive_number(rest)?)
        .ok()
        .filter(|len| *len <= rest.len())?;
    let (text, after) = rest.split_at(len);
    *rest = after;
    Some(Bytes::copy_from_slice(text))
}

fn check_withheld(corpus: &Corpus, bytes: Bytes, seen: &mut Seen) {
    let Ok(withheld) = Withheld::decode(&bytes) else {
        return;
    };
    seen.withheld += 1;
    assert_eq!(withheld.encode(), bytes);
    assert!(withheld.tags().is_ok());
    let verified = withheld.verify().is_ok();
    assert!(
        !verified || corpus.withheld.contains(&bytes),
        "verified, and nobody signed it: {bytes:02x?}"
    );
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .map_or(default, |text| text.parse().unwrap())
}

#[test]
fn damaged_input_neither_panics_nor_verifies() {
    let mut random = Random(setting("WEFT_SEED", 10));
    let corpus = corpus(&mut random);
    let mut seen = Seen::default();
    let count = setting("WEFT_MUTATIONS", 100_000);
    for _ in 0..count {
        match random.below(10) {
            0..5 => check_item(&corpus, damaged(&mut random, &corpus.items), &mut seen),
            5..7 => check_bundle(&corpus, damaged(&mut random, &corpus.bundles), &mut seen),
            7..9 => check_tags(damaged(&mut random, &corpus.tag_blocks), &mut seen),
            _ => check_withheld(&corpus, damaged(&mut random, &corpus.withheld), &mut seen),
        }
    }
    println!("{count} inputs: {seen:?}");
    // The damage must reach every check, or this test shows nothing.
    let reached = [seen.parsed, seen.verified, seen.tags, seen.bundles, seen.withheld];
    assert!(reached.iter().all(|n| *n as u64 >= count / 1000), "{seen:?}");
}
