//! Signature types 1-7 and 101: lengths, and the rule by which each verifies.
//!
//! Source: ANS-104 and the field's signers; the vectors in `spec/vectors/items` pin each rule.
//! Where the field's common verifier is too lax (a multi-signature that nobody signed), we refuse.

use aws_lc_rs::digest::{SHA256, digest};
use sha3::{Digest as _, Keccak256};

use crate::deep_hash::DeepHash;
use crate::ids::Address;
use crate::pss;

/// How an item is signed; the first two bytes of every data item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureType {
    /// 1: RSA-PSS with SHA-256, any salt length, exponent 65537; the owner is the modulus.
    Arweave,
    /// 2: Ed25519 over the deep hash.
    Ed25519,
    /// 3: secp256k1 over the EIP-191 form of the deep hash.
    Ethereum,
    /// 4: Ed25519 over the lower-case hex text of the deep hash.
    Solana,
    /// 5: Ed25519 over a wallet's sentence that contains the hex text.
    InjectedAptos,
    /// 6: up to 32 Ed25519 signatures with a bitmap and a threshold.
    MultiAptos,
    /// 7: secp256k1 over an EIP-712 structure; the owner is the address text.
    TypedEthereum,
    /// 101: sized and verified like Ethereum.
    Kyve,
}

/// Slots of a multi-signature.
const MULTI_SLOTS: usize = 32;

impl SignatureType {
    /// Every type, for tests and tables.
    pub const ALL: [SignatureType; 8] = [
        Self::Arweave,
        Self::Ed25519,
        Self::Ethereum,
        Self::Solana,
        Self::InjectedAptos,
        Self::MultiAptos,
        Self::TypedEthereum,
        Self::Kyve,
    ];

    /// The type of a number on the wire.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// The number on the wire.
    pub const fn number(self) -> u16 {
        match self {
            Self::Arweave => 1,
            Self::Ed25519 => 2,
            Self::Ethereum => 3,
            Self::Solana => 4,
            Self::InjectedAptos => 5,
            Self::MultiAptos => 6,
            Self::TypedEthereum => 7,
            Self::Kyve => 101,
        }
    }

    /// The number as the decimal text that enters the deep hash.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Arweave => "1",
            Self::Ed25519 => "2",
            Self::Ethereum => "3",
            Self::Solana => "4",
            Self::InjectedAptos => "5",
            Self::MultiAptos => "6",
            Self::TypedEthereum => "7",
            Self::Kyve => "101",
        }
    }

    /// Signature length in bytes.
    pub const fn signature_len(self) -> usize {
        match self {
            Self::Arweave => 512,
            Self::Ed25519 | Self::Solana | Self::InjectedAptos => 64,
            Self::Ethereum | Self::TypedEthereum | Self::Kyve => 65,
            Self::MultiAptos => 64 * MULTI_SLOTS + 4,
        }
    }

    /// Owner (public key) length in bytes.
    pub const fn owner_len(self) -> usize {
        match self {
            Self::Arweave => 512,
            Self::Ed25519 | Self::Solana | Self::InjectedAptos => 32,
            Self::Ethereum | Self::Kyve => 65,
            Self::MultiAptos => 32 * MULTI_SLOTS + 1,
            Self::TypedEthereum => 42,
        }
    }

    /// Whether `signature` by `owner` is valid for what was hashed.
    pub fn verify(self, owner: &[u8], signature: &[u8], hash: &DeepHash) -> bool {
        if owner.len() != self.owner_len() || signature.len() != self.signature_len() {
            return false;
        }
        match self {
            Self::Arweave => pss::verify(owner, signature, hash),
            Self::Ed25519 => ed25519(owner, signature, hash),
            Self::Solana => ed25519(owner, signature, hex(hash).as_bytes()),
            Self::InjectedAptos => {
                let sentence = format!("APTOS\nmessage: {}\nnonce: bundlr", hex(hash));
                ed25519(owner, signature, sentence.as_bytes())
            }
            Self::MultiAptos => multi(owner, signature, hash),
            Self::Ethereum | Self::Kyve => ethereum(owner, signature, hash),
            Self::TypedEthereum => typed_ethereum(owner, signature, hash),
        }
    }
}

/// The account behind a public key: SHA-256 of its bytes, for every type.
pub fn address(owner: &[u8]) -> Address {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, owner).as_ref());
    Address(bytes)
}

/// Keccak-256, Ethereum's hash.
pub fn keccak256(bytes: &[u8]) -> [u8; 32] {
    Keccak256::digest(bytes).into()
}

/// What an Ethereum wallet signs for a message of 48 bytes (EIP-191).
pub(crate) fn eip191(hash: &DeepHash) -> [u8; 32] {
    let mut message = b"\x19Ethereum Signed Message:\n48".to_vec();
    message.extend_from_slice(hash);
    keccak256(&message)
}

/// What an Ethereum wallet signs for type 7 (EIP-712): domain Bundlr version 1, one structure of
/// the hash and the signer's address.
pub(crate) fn eip712(hash: &DeepHash, address: &[u8; 20]) -> [u8; 32] {
    let domain_type = keccak256(b"EIP712Domain(string name,string version)");
    let domain = keccak256(&[domain_type, keccak256(b"Bundlr"), keccak256(b"1")].concat());
    let structure_type = keccak256(b"Bundlr(bytes Transaction hash,address address)");
    let mut padded = [0; 32];
    padded[12..].copy_from_slice(address);
    let structure = keccak256(&[structure_type, keccak256(hash), padded].concat());
    keccak256(&[b"\x19\x01".as_slice(), &domain, &structure].concat())
}

fn ed25519(owner: &[u8], signature: &[u8], message: &[u8]) -> bool {
    // A key or nonce of small order verifies for messages nobody signed; strict rules refuse it.
    if is_small_order(owner) || is_small_order(&signature[..32]) {
        return false;
    }
    let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, owner);
    key.verify(message, signature).is_ok()
}

/// Whether a compressed Edwards point has an order of at most 8. All such points, with their
/// non-canonical encodings, have one of these y coordinates (sign bit aside).
pub(crate) fn is_small_order(point: &[u8]) -> bool {
    const Y: [[u8; 32]; 7] = {
        let mut one = [0u8; 32];
        one[0] = 1;
        let mut p = [0xffu8; 32];
        p[0] = 0xed;
        p[31] = 0x7f;
        let (mut p_less_one, mut p_plus_one) = (p, p);
        p_less_one[0] = 0xec;
        p_plus_one[0] = 0xee;
        [
            [0; 32],
            one,
            p_less_one,
            p,
            p_plus_one,
            ORDER_EIGHT_A,
            ORDER_EIGHT_B,
        ]
    };
    let mut y: [u8; 32] = point.try_into().expect("both callers pass 32 bytes");
    y[31] &= 0x7f;
    Y.contains(&y)
}

/// The two y coordinates of the points of order 8 on Curve25519's Edwards form.
const ORDER_EIGHT_A: [u8; 32] = [
    0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
    0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
];
const ORDER_EIGHT_B: [u8; 32] = [
    0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
    0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
];

/// Owner: 32 keys and a threshold. Signature: 32 slots and a bitmap, highest bit first. Every slot
/// whose bit is set must verify, and there must be enough of them: an empty bitmap is no signature.
/// The other slots must be zero, as signers leave them, or anybody could give the item another id.
fn multi(owner: &[u8], signature: &[u8], hash: &DeepHash) -> bool {
    let (keys, threshold) = owner.split_at(32 * MULTI_SLOTS);
    let (slots, bitmap) = signature.split_at(64 * MULTI_SLOTS);
    let threshold = usize::from(threshold[0]);
    let set = |slot: &usize| bitmap[slot / 8] & (0x80 >> (slot % 8)) != 0;
    let (signed, unused): (Vec<usize>, Vec<usize>) = (0..MULTI_SLOTS).partition(set);
    let is_zero = |slot: usize| slots[64 * slot..][..64].iter().all(|byte| *byte == 0);
    threshold >= 1
        && unused.into_iter().all(is_zero)
        && signed.len() >= threshold
        && signed.iter().all(|&slot| {
            // The same key in two slots would count twice towards the threshold.
            let key = &keys[32 * slot..][..32];
            let first = signed.iter().find(|&&other| keys[32 * other..][..32] == *key);
            first == Some(&slot) && ed25519(key, &slots[64 * slot..][..64], hash)
        })
}

fn ethereum(owner: &[u8], signature: &[u8], hash: &DeepHash) -> bool {
    // `v` plays no part in the check against a known key, but every other value of it is another
    // encoding of the same signature, and so another id for the same content.
    recover(&eip191(hash), signature).is_some_and(|key| key == owner)
}

fn typed_ethereum(owner: &[u8], signature: &[u8], hash: &DeepHash) -> bool {
    let Some(address) = parse_address(owner) else {
        return false;
    };
    let key = recover(&eip712(hash, &address), signature);
    key.is_some_and(|key| ethereum_address(&key) == address)
}

/// The 20 bytes of a `0x…` text of 42 characters, any case.
fn parse_address(text: &[u8]) -> Option<[u8; 20]> {
    let digits = text.strip_prefix(b"0x")?;
    let mut address = [0; 20];
    for (byte, pair) in address.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
        if !pair.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
    }
    (digits.len() == 40).then_some(address)
}

/// The last 20 bytes of the hash of an uncompressed key.
pub(crate) fn ethereum_address(key: &[u8; 65]) -> [u8; 20] {
    let hash = keccak256(&key[1..]);
    hash[12..].try_into().expect("20 of 32 bytes")
}

/// The key that made a signature of 65 bytes; `None` if there is none. `v` is 27 or 28 (never 0 or 1, as some
/// wallets write it): one content must not have two ids.
fn recover(digest: &[u8; 32], signature: &[u8]) -> Option<[u8; 65]> {
    let v = signature[64].checked_sub(27)?;
    Some(recover_key(digest, &signature[..64], v)?.serialize_uncompressed())
}

/// The key that made a signature of 64 bytes, with the bit that tells two candidates apart. Its `s` must lie in
/// the lower half: the other one would be a second signature, and so a second id, for the same content.
pub(crate) fn recover_key(
    digest: &[u8; 32],
    signature: &[u8],
    candidate: u8,
) -> Option<secp256k1::PublicKey> {
    use secp256k1::ecdsa::{RecoverableSignature, RecoveryId};
    let id = RecoveryId::try_from(i32::from(candidate))
        .ok()
        .filter(|_| candidate <= 1)?;
    let recoverable = RecoverableSignature::from_compact(signature, id).ok()?;
    let mut normal = recoverable.to_standard();
    normal.normalize_s();
    if normal != recoverable.to_standard() {
        return None;
    }
    let message = secp256k1::Message::from_digest(*digest);
    secp256k1::SECP256K1.recover_ecdsa(message, &recoverable).ok()
}

/// Lower-case hex text.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes
        .iter()
        .flat_map(|b| [DIGITS[usize::from(b >> 4)], DIGITS[usize::from(b & 15)]]);
    digits.map(char::from).collect()
}
