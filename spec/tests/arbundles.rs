//! The field's common library as a second judge: generated items of types 1 to 7, whole and damaged, are
//! accepted or refused alike and get the same id, but for the written list of its defects.
//!
//! `WEFT_ITEMS` and `WEFT_SEED` change count and seed. A disagreement prints the item and how it was made.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use bytes::Bytes;
use spec::signature::{hex, keccak256};
use spec::tags::encode_unchecked;
use spec::{DataItem, SignatureType, Signer, Tag, Tags, deep_hash};

/// Items of one run of the judge.
const BATCH: usize = 5_000;
/// RSA signatures cost milliseconds: this many are made, and damaged in many ways.
const RSA_ITEMS: usize = 60;

/// Where it is wrong, and we are not. Anything else that differs fails the test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Defect {
    /// It takes any presence byte but 1 for "absent".
    PresenceByte,
    /// It takes an item that ends inside its numbers or tags, as if zeros followed.
    CutOff,
    /// It takes tag bytes that do not end where their length says, or stand there without a count.
    TagBytes,
    /// It takes a secp256k1 signature whose `s` lies in the upper half, or another `v`: a second id for one content.
    SecondSignature,
    /// It takes a multi-signature with an empty bitmap, too few signatures, filled unused slots, or a bitmap that names an
    /// unused slot: a key and a signature of zeros, points of small order both, verify for every message.
    MultiSignature,
}

/// SplitMix64.
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

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self, len_max: usize) -> String {
        (0..1 + self.below(len_max))
            .map(|_| char::from(b'a' + self.below(26) as u8))
            .collect()
    }
}

/// A key of each kind.
struct Keys {
    rsa: Signer,
    ed25519: Vec<Ed25519KeyPair>,
    secp256k1: secp256k1::SecretKey,
}

impl Keys {
    fn new() -> Keys {
        let keys = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/keys.json")).unwrap();
        let keys: serde_json::Value = serde_json::from_slice(&keys).unwrap();
        let pair = |seed: u8| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap();
        Keys {
            rsa: Signer::from_jwk(&keys["keys"][0]["jwk"].to_string()).unwrap(),
            ed25519: (1..=3).map(pair).collect(),
            secp256k1: secp256k1::SecretKey::from_byte_array([9; 32]).unwrap(),
        }
    }

    fn owner(&self, kind: SignatureType) -> Vec<u8> {
        let public = self
            .secp256k1
            .public_key(secp256k1::SECP256K1)
            .serialize_uncompressed();
        let key = |n: usize| self.ed25519[n].public_key().as_ref().to_vec();
        match kind {
            SignatureType::Arweave => self.rsa.owner().to_vec(),
            SignatureType::Ed25519 | SignatureType::Solana | SignatureType::InjectedAptos => key(0),
            SignatureType::Ethereum | SignatureType::Kyve => public.to_vec(),
            SignatureType::TypedEthereum => format!("0x{}", hex(&keccak256(&public[1..])[12..])).into_bytes(),
            SignatureType::MultiAptos => {
                let mut owner = vec![0; kind.owner_len()];
                (0..3).for_each(|n| owner[32 * n..32 * n + 32].copy_from_slice(&key(n)));
                *owner.last_mut().unwrap() = 2;
                owner
            }
        }
    }

    fn sign(&self, kind: SignatureType, hash: &[u8; 48]) -> Vec<u8> {
        let ed25519 = |n: usize, message: &[u8]| self.ed25519[n].sign(message).as_ref().to_vec();
        match kind {
            SignatureType::Arweave => self.rsa.sign(hash).unwrap(),
            SignatureType::Ed25519 => ed25519(0, hash),
            SignatureType::Solana => ed25519(0, hex(hash).as_bytes()),
            SignatureType::InjectedAptos => ed25519(
                0,
                format!("APTOS\nmessage: {}\nnonce: bundlr", hex(hash)).as_bytes(),
            ),
            SignatureType::MultiAptos => {
                let mut signature = vec![0; kind.signature_len()];
                (0..2).for_each(|n| signature[64 * n..64 * n + 64].copy_from_slice(&ed25519(n, hash)));
                signature[64 * 32] = 0b1100_0000;
                signature
            }
            SignatureType::Ethereum | SignatureType::Kyve => self.recoverable(&keccak256(
                &[b"\x19Ethereum Signed Message:\n48", &hash[..]].concat(),
            )),
            SignatureType::TypedEthereum => self.recoverable(&self.typed(hash)),
        }
    }

    fn recoverable(&self, digest: &[u8; 32]) -> Vec<u8> {
        let message = secp256k1::Message::from_digest(*digest);
        let signature = secp256k1::SECP256K1.sign_ecdsa_recoverable(message, &self.secp256k1);
        let (id, compact) = signature.serialize_compact();
        [&compact[..], &[27 + i32::from(id) as u8]].concat()
    }

    /// What a wallet signs for type 7 (EIP-712).
    fn typed(&self, hash: &[u8; 48]) -> [u8; 32] {
        let domain_type = keccak256(b"EIP712Domain(string name,string version)");
        let domain = keccak256(&[domain_type, keccak256(b"Bundlr"), keccak256(b"1")].concat());
        let structure_type = keccak256(b"Bundlr(bytes Transaction hash,address address)");
        let public = self
            .secp256k1
            .public_key(secp256k1::SECP256K1)
            .serialize_uncompressed();
        let mut address = [0; 32];
        address[12..].copy_from_slice(&keccak256(&public[1..])[12..]);
        let structure = keccak256(&[structure_type, keccak256(hash), address].concat());
        keccak256(&[b"\x19\x01".as_slice(), &domain, &structure].concat())
    }
}

/// A signed item of a type. Nothing in it comes from our parser: what we cannot read may be signed too.
fn item(random: &mut Random, keys: &Keys, kind: SignatureType) -> Vec<u8> {
    let owner = keys.owner(kind);
    let [target, anchor] = [(); 2].map(|()| {
        let present = random.below(2);
        random.bytes(32 * present)
    });
    let (count, raw) = tag_bytes(random);
    let len = random.below(120);
    let data = random.bytes(len);
    let parts = [
        b"dataitem".as_slice(),
        b"1",
        kind.text().as_bytes(),
        &owner,
        &target,
        &anchor,
        &raw,
        &data,
    ];
    let signature = keys.sign(kind, &deep_hash::list(&parts));
    let number = |number: usize| (number as u64).to_le_bytes();
    let (there, here) = ([u8::from(!target.is_empty())], [u8::from(!anchor.is_empty())]);
    let (count, len) = (number(count), number(raw.len()));
    let kind = kind.number().to_le_bytes();
    [
        &kind[..],
        &signature,
        &owner,
        &there,
        &target,
        &here,
        &anchor,
        &count,
        &len,
        &raw,
        &data,
    ]
    .concat()
}

/// A count of tags and their bytes: mostly as signers write them, sometimes as the encoding also allows, and
/// sometimes as it does not.
fn tag_bytes(random: &mut Random) -> (usize, Vec<u8>) {
    let count = match random.below(12) {
        0 => 126 + random.below(5),
        _ => random.below(6),
    };
    let tags: Tags = (0..count).map(|_| tag(random, count)).collect();
    let plain = |tags: &Tags| match tags.is_empty() {
        true => Vec::new(),
        false => encode_unchecked(tags).to_vec(),
    };
    let mut raw = plain(&tags);
    match random.below(16) {
        // Two blocks.
        0 if count >= 2 => {
            let (first, second) = (plain(&tags[..1].to_vec()), plain(&tags[1..].to_vec()));
            raw = [&first[..first.len() - 1], &second].concat();
        }
        // A block that says its size.
        1 if (1..64).contains(&count) => {
            let body = &raw[1..raw.len() - 1];
            let mut size = body.len() << 1;
            let mut head = vec![(2 * count - 1) as u8];
            while size >= 0x80 {
                head.push(size as u8 | 0x80);
                size >>= 7;
            }
            head.push(size as u8);
            raw = [&head[..], body, &[0]].concat();
        }
        // A number longer than it need be.
        2 if (1..64).contains(&count) => raw = [&[raw[0] | 0x80, 0][..], &raw[1..]].concat(),
        // No end, or something behind it.
        3 => drop(raw.pop()),
        4 => raw.push(random.next() as u8),
        5 => raw = random.bytes(8),
        6 if raw.is_empty() => raw = vec![0],
        _ => {}
    }
    (count, raw)
}

fn tag(random: &mut Random, count: usize) -> Tag {
    let long = |random: &mut Random, len| if random.below(40) == 0 { len } else { 20 };
    let (name, value) = match random.below(30) {
        0 => (String::new(), random.text(9)),
        1 => (random.text(9), String::new()),
        2 => ("ü€".into(), "\u{0}".into()),
        _ if count > 100 => (random.text(9), random.text(9)),
        _ => {
            let (name, value) = (long(random, 1100), long(random, 3300));
            (random.text(name), random.text(value))
        }
    };
    Tag::new(name, value)
}

/// Puts the right signature over whatever the bytes say now; false if they cannot be read.
fn resign(keys: &Keys, kind: SignatureType, bytes: &mut [u8]) -> bool {
    let Ok(item) = DataItem::parse(Bytes::copy_from_slice(bytes)) else {
        return false;
    };
    let signature = keys.sign(kind, &item.deep_hash());
    bytes[2..2 + signature.len()].copy_from_slice(&signature);
    true
}

/// One item to judge, and how it came about.
struct Case {
    kind: SignatureType,
    bytes: Vec<u8>,
    how: &'static str,
}

/// Whether some block of tag bytes, read as the judge reads it, claims more than anybody writes.
fn blocks_without_end(raw: &[u8]) -> bool {
    let mut at = 0;
    loop {
        let count = number(raw, &mut at);
        if count < 0 {
            number(raw, &mut at);
        }
        match count.unsigned_abs() {
            0 => return false,
            count @ 1..=1_000 => {
                for _ in 0..2 * count {
                    let len = number(raw, &mut at);
                    // A text of negative length takes it backwards, for ever.
                    if !(0..1 << 20).contains(&len) {
                        return true;
                    }
                    at += len as usize;
                }
            }
            _ => return true,
        }
    }
}

/// A folded number of variable length. Behind the end stand zeros.
fn number(raw: &[u8], at: &mut usize) -> i128 {
    let (mut value, mut shift) = (0u128, 0);
    loop {
        let byte = raw.get(*at).copied().unwrap_or(0);
        *at += 1;
        value |= u128::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 || shift > 70 {
            return (value >> 1) as i128 ^ -((value & 1) as i128);
        }
    }
}

/// Damages an item in one way, said in a word.
fn damage(random: &mut Random, keys: &Keys, kind: SignatureType, bytes: &mut Vec<u8>) -> &'static str {
    let (signature, owner) = (kind.signature_len(), kind.owner_len());
    let fields = 2 + signature + owner;
    let flip = |random: &mut Random, bytes: &mut Vec<u8>, from: usize, len: usize| {
        let at = from + random.below(len);
        if at < bytes.len() {
            bytes[at] ^= 1 << random.below(8);
        }
    };
    match random.below(16) {
        0 => "whole",
        1 => {
            flip(random, bytes, 2, signature);
            "signature bit"
        }
        2 => {
            flip(random, bytes, 2 + signature, owner);
            "owner bit"
        }
        3 => {
            let len = bytes.len() - fields;
            flip(random, bytes, fields, len);
            "content bit"
        }
        4 => {
            let len = bytes.len() - fields;
            flip(random, bytes, fields, len);
            // An odd item that its owner did sign.
            if kind != SignatureType::Arweave && resign(keys, kind, bytes) {
                "content bit, signed"
            } else {
                "content bit"
            }
        }
        5 => {
            let len = random.below(bytes.len());
            bytes.truncate(len);
            "cut off"
        }
        6 => {
            let len = 1 + random.below(40);
            bytes.extend(random.bytes(len));
            "longer"
        }
        7 => {
            bytes[0] = random.below(10) as u8;
            "another type"
        }
        8 => {
            bytes[fields] = random.next() as u8;
            "presence byte"
        }
        9 => numbers(random, fields, bytes),
        10 if signature == 65 => upper_half(bytes),
        11 if kind == SignatureType::MultiAptos => multi(random, bytes),
        _ => "whole",
    }
}

/// Writes an awkward number of tags or of tag bytes.
fn numbers(random: &mut Random, fields: usize, bytes: &mut [u8]) -> &'static str {
    let mut at = fields;
    for _ in 0..2 {
        at += if bytes.get(at) == Some(&1) { 33 } else { 1 };
    }
    at += 8 * random.below(2);
    let awkward = [0, 1, 2, 128, 4096, 4097, 1 << 32, (1 << 32) + 1, u64::MAX];
    let number = awkward[random.below(awkward.len())];
    if let Some(place) = bytes.get_mut(at..at + 8) {
        place.copy_from_slice(&number.to_le_bytes());
    }
    "tag numbers"
}

/// The other signature of the same content.
fn upper_half(bytes: &mut [u8]) -> &'static str {
    let order: [u8; 32] = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe, 0xba,
        0xae, 0xdc, 0xe6, 0xaf, 0x48, 0xa0, 0x3b, 0xbf, 0xd2, 0x5e, 0x8c, 0xd0, 0x36, 0x41, 0x41,
    ];
    let mut borrow = 0;
    for i in (0..32).rev() {
        let digit = i16::from(order[i]) - i16::from(bytes[2 + 32 + i]) - borrow;
        borrow = i16::from(digit < 0);
        bytes[2 + 32 + i] = digit.rem_euclid(256) as u8;
    }
    bytes[2 + 64] ^= 0b111;
    "upper half"
}

fn multi(random: &mut Random, bytes: &mut [u8]) -> &'static str {
    let bitmap = 2 + 64 * 32;
    match random.below(4) {
        0 => bytes[bitmap] = 0,
        1 => bytes[bitmap] = 0b1000_0000,
        2 => bytes[bitmap + random.below(4)] |= 1 << random.below(8),
        _ => bytes[2 + 64 * 9] ^= 1,
    }
    "multi-signature"
}

fn cases(random: &mut Random, keys: &Keys, count: usize) -> Vec<Case> {
    let rsa: Vec<Vec<u8>> = (0..RSA_ITEMS.min(count))
        .map(|_| item(random, keys, SignatureType::Arweave))
        .collect();
    let make = |n: usize| {
        let kind = SignatureType::ALL[n % 7];
        let mut bytes = match kind {
            SignatureType::Arweave => rsa[random.below(rsa.len())].clone(),
            kind => item(random, keys, kind),
        };
        let how = damage(random, keys, kind, &mut bytes);
        Case { kind, bytes, how }
    };
    let cases = (0..count).map(make);
    cases.filter(|case| !exhausts_the_judge(&case.bytes)).collect()
}

/// Its last defect keeps items from it: a block that claims more tags than there are bytes makes it read until
/// memory ends. We refuse every such item.
fn exhausts_the_judge(bytes: &[u8]) -> bool {
    let claims = || {
        let number = u16::from_le_bytes(bytes.get(..2)?.try_into().ok()?);
        let kind = SignatureType::from_number(number)?;
        let mut at = 2 + kind.signature_len() + kind.owner_len();
        for _ in 0..2 {
            at += if *bytes.get(at)? == 1 { 33 } else { 1 };
        }
        let len = u64::from_le_bytes(bytes.get(at + 8..at + 16)?.try_into().ok()?);
        let raw = &bytes[at + 16..];
        let raw = &raw[..raw.len().min(len as usize)];
        Some(blocks_without_end(raw))
    };
    let exhausts = claims().unwrap_or(false);
    assert!(
        !exhausts || DataItem::parse_verified(Bytes::copy_from_slice(bytes)).is_err(),
        "no item has so many tags"
    );
    exhausts
}

fn compat() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../node/tests/compat");
    let there = folder.join("node_modules/@dha-team/arbundles").exists();
    assert!(
        there || std::env::var_os("CI").is_none(),
        "run `npm ci` in {}",
        folder.display()
    );
    if !there {
        eprintln!("SKIPPED: `npm ci` was not run in {}", folder.display());
    }
    there.then_some(folder)
}

/// The judge's word on each: the id it accepts it under.
fn judged(folder: &Path, cases: &[Case]) -> Vec<Result<String, String>> {
    let mut child = Command::new("node")
        .arg("arbundles.mjs")
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes: Vec<u8> = cases
        .iter()
        .flat_map(|case| [&(case.bytes.len() as u32).to_le_bytes()[..], &case.bytes].concat())
        .collect();
    let writer = std::thread::spawn(move || input.write_all(&bytes).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    let lines = String::from_utf8(output.stdout).unwrap();
    let read = |line: &str| match line.strip_prefix("- ") {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(line.to_owned()),
    };
    lines.lines().map(read).collect()
}

/// Which defect explains that it accepts what we refuse, if one does.
fn defect(case: &Case) -> Option<Defect> {
    use spec::ItemError::{CutOff, PresenceByte, Signature, Tags};
    match DataItem::parse_verified(Bytes::copy_from_slice(&case.bytes)).err()? {
        PresenceByte { .. } => Some(Defect::PresenceByte),
        CutOff(_) => Some(Defect::CutOff),
        Tags(_) => Some(Defect::TagBytes),
        Signature(3 | 7 | 101) => is_second_signature(&case.bytes).then_some(Defect::SecondSignature),
        Signature(6) => is_lax_multi(&case.bytes).then_some(Defect::MultiSignature),
        _ => None,
    }
}

/// Whether the one canonical form of its signature is one that we accept.
fn is_second_signature(bytes: &[u8]) -> bool {
    let mut signature = secp256k1::ecdsa::Signature::from_compact(&bytes[2..66]).unwrap();
    signature.normalize_s();
    (27..=28u8).any(|v| {
        let mut canonical = bytes.to_vec();
        canonical[2..66].copy_from_slice(&signature.serialize_compact());
        canonical[66] = v;
        DataItem::parse_verified(canonical.into()).is_ok()
    })
}

/// Whether every signature that the bitmap names is good, or nothing but zeros: the threshold and the other slots are
/// not looked at.
fn is_lax_multi(bytes: &[u8]) -> bool {
    let item = DataItem::parse(Bytes::copy_from_slice(bytes)).unwrap();
    let (keys, signature, hash) = (item.owner(), item.signature(), item.deep_hash());
    let named = |slot: &usize| signature[64 * 32 + slot / 8] & (0x80 >> (slot % 8)) != 0;
    (0..32).filter(named).all(|slot| {
        let (key, signature) = (
            &keys[32 * slot..32 * slot + 32],
            &signature[64 * slot..64 * slot + 64],
        );
        let is_nothing = key.iter().chain(signature).all(|byte| *byte == 0);
        is_nothing
            || UnparsedPublicKey::new(&ED25519, key)
                .verify(&hash, signature)
                .is_ok()
    })
}

#[test]
fn items_are_judged_as_arbundles_judges_them() {
    let Some(folder) = compat() else { return };
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
    };
    let (count, seed) = (number("WEFT_ITEMS", 20_000) as usize, number("WEFT_SEED", 1));
    let (keys, mut random) = (Keys::new(), Random(seed));
    let (mut accepted, mut defects) = (BTreeMap::new(), BTreeMap::<Defect, usize>::new());
    let mut left = count;
    while left > 0 {
        let batch = cases(&mut random, &keys, left.min(BATCH));
        left -= batch.len();
        let judged = judged(&folder, &batch);
        assert_eq!(judged.len(), batch.len(), "one word on each");
        for (case, theirs) in batch.iter().zip(judged) {
            let ours = DataItem::parse_verified(Bytes::copy_from_slice(&case.bytes));
            match (&ours, &theirs) {
                (Ok(item), Ok(id)) => {
                    assert_eq!(item.id().to_string(), *id);
                    *accepted.entry(case.kind.number()).or_insert(0usize) += 1;
                }
                (Err(_), Err(_)) => {}
                (Err(_), Ok(_)) if defect(case).is_some() => {
                    *defects.entry(defect(case).unwrap()).or_default() += 1;
                }
                _ => panic!(
                    "{:?}, {}: ours {:?}, theirs {theirs:?}\n{}",
                    case.kind,
                    case.how,
                    ours.map(|item| item.id()),
                    hex(&case.bytes)
                ),
            }
        }
    }
    println!("{count} items; accepted by both {accepted:?}; its defects {defects:?}");
    assert_eq!(accepted.len(), 7, "each type was accepted by both: {accepted:?}");
}
