//! The verifier decides as the single check does, on every kind of path that the processor can run.

use aws_lc_rs::digest::{Context, SHA512};
use bytes::Bytes;

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::traits::Identity;

use super::*;
use crate::item::ItemParts;
use crate::keys::Signer;
use crate::tags::Tag;

fn item(key: u8, number: u64) -> DataItem {
    let parts = ItemParts {
        data: Bytes::from(format!("message {number} of {key}")),
        ..ItemParts::default()
    };
    let signed = DataItem::sign(&parts, &Signer::ed25519(&[key; 32])).expect("a signed item");
    DataItem::parse(signed.bytes().clone()).expect("it reads back")
}

/// The same items, not verified yet.
fn copies(items: &[DataItem]) -> Vec<DataItem> {
    let copy = |item: &DataItem| DataItem::parse(item.bytes().clone()).expect("as before");
    items.iter().map(copy).collect()
}

fn changed(item: &DataItem, at: usize, flip: u8) -> DataItem {
    let mut bytes = item.bytes().to_vec();
    bytes[at] ^= flip;
    DataItem::parse(bytes.into()).expect("only signature, key or data are changed")
}

/// One of each kind that this processor can run.
fn verifiers() -> Vec<Verifier> {
    let mut all = vec![Verifier(Engine::Single(Tables::new()))];
    #[cfg(target_arch = "x86_64")]
    if lanes::is_supported() {
        all.push(Verifier(Engine::Lanes(Tables::new())));
    }
    all
}

impl Verifier {
    /// Steps of a key's table, if one was made.
    fn bits_of(&self, key: &[u8]) -> Option<usize> {
        fn bits<T: Multiples>(tables: &Tables<T>, key: &[u8]) -> Option<usize> {
            let keys = tables.keys.read().expect("no panic before");
            keys.get(key)?.as_ref().map(|owner| owner.table.bits())
        }
        match &self.0 {
            Engine::Single(tables) => bits(tables, key),
            #[cfg(target_arch = "x86_64")]
            Engine::Lanes(tables) => bits(tables, key),
        }
    }

    fn accept(&self, items: &[DataItem]) {
        match &self.0 {
            Engine::Single(tables) => tables.accept(items),
            #[cfg(target_arch = "x86_64")]
            Engine::Lanes(tables) => tables.accept(items),
        }
    }

    fn tables_for(&self, items: &[DataItem]) -> Vec<Key> {
        match &self.0 {
            Engine::Single(tables) => tables.owners_of(items).into_keys().collect(),
            #[cfg(target_arch = "x86_64")]
            Engine::Lanes(tables) => tables.owners_of(items).into_keys().collect(),
        }
    }
}

/// Scalars whose digits are at every value and at all bounds.
fn scalars() -> Vec<Scalar> {
    let uniform = (0..=255u8).map(|byte| {
        let mut bytes = [byte; 32];
        bytes[31] &= 0x0f;
        Scalar::from_canonical_bytes(bytes).expect("below 2^252")
    });
    let mut seed = Scalar::from(0x5eed_u64);
    let others = (0..40).map(|_| {
        seed = seed * seed + Scalar::ONE;
        seed
    });
    uniform
        .chain([-Scalar::ONE, Scalar::ONE, Scalar::from(2u8)])
        .chain(others)
        .collect()
}

fn sums_are_right<T: Multiples>() {
    let base = T::of(ED25519_BASEPOINT_POINT, WIDE_BITS);
    let odd = EdwardsPoint::mul_base(&Scalar::from(12_345u64)) + EIGHT_TORSION[3];
    let points = [
        ED25519_BASEPOINT_POINT,
        odd,
        -odd,
        EIGHT_TORSION[1],
        EdwardsPoint::identity(),
    ];
    let tables: Vec<(EdwardsPoint, T)> = points
        .into_iter()
        .flat_map(|point| [NARROW_BITS, WIDE_BITS].map(|bits| (point, T::of(point, bits))))
        .collect();
    let scalars = scalars();
    let (mut terms, mut expected) = (Vec::new(), Vec::new());
    for (at, hash) in scalars.iter().enumerate() {
        // Opposite points come out as the neutral one where the table is the base point's.
        for scalar in [scalars[(at * 7 + 3) % scalars.len()], -hash, *hash] {
            let (point, table) = &tables[terms.len() % tables.len()];
            terms.push(Term {
                scalar,
                hash: *hash,
                table,
            });
            let sum = EdwardsPoint::mul_base(&scalar) + point * hash;
            expected.push(sum.compress().0);
        }
    }
    assert_eq!(T::sums(&base, &terms), expected);
    for few in 0..10 {
        assert_eq!(T::sums(&base, &terms[..few]), expected[..few]);
    }
}

#[test]
fn sums_equal_the_librarys() {
    sums_are_right::<single::Table>();
    #[cfg(target_arch = "x86_64")]
    if lanes::is_supported() {
        sums_are_right::<lanes::Table>();
    }
}

fn hashes_are_right<T: Multiples>() {
    let signer = Signer::ed25519(&[1; 32]);
    let lengths = [0, 1, 90, 127, 128, 300, 1023, 1024, 1025, 5000, 7];
    let items: Vec<DataItem> = (0..50usize)
        .map(|at| {
            let tags = (0..at % 7).map(|tag| Tag::new(format!("name {tag}"), "value ".repeat(at + 1)));
            let parts = ItemParts {
                target: (at % 2 == 0).then_some([at as u8; 32]),
                anchor: (at % 3 == 0).then_some([at as u8 + 1; 32]),
                tags: tags.collect(),
                data: vec![at as u8; lengths[at % lengths.len()]].into(),
            };
            DataItem::sign(&parts, &signer).expect("a signed item")
        })
        .collect();
    let opening = Header::opening_of(SignatureType::Ed25519, signer.owner());
    let nonce = &[9; 32];
    for count in [0, 1, 7, 8, 9, 50] {
        let signed = items[..count].iter().map(|item| Signed {
            item,
            nonce,
            opening: &opening,
        });
        let expected = items[..count].iter().map(|item| {
            let mut context = Context::new(&SHA512);
            [&nonce[..], item.owner(), &item.deep_hash()]
                .iter()
                .for_each(|part| context.update(part));
            *context.finish().as_ref().first_chunk().expect("64 bytes")
        });
        let expected: Vec<[u8; 64]> = expected.collect();
        assert_eq!(T::hashes(&signed.collect::<Vec<_>>()), expected);
    }
    // Those with one kind of field only, and none at all.
    for item in &items {
        let alike: Vec<_> = (0..8)
            .map(|_| Signed {
                item,
                nonce,
                opening: &opening,
            })
            .collect();
        let hash = T::hashes(&alike);
        assert!(hash.iter().all(|one| *one == T::hashes(&alike[..1])[0]));
    }
}

#[test]
fn hashes_are_those_of_the_deep_hash() {
    hashes_are_right::<single::Table>();
    #[cfg(target_arch = "x86_64")]
    if lanes::is_supported() {
        hashes_are_right::<lanes::Table>();
    }
}

#[test]
fn it_accepts_what_single_checks_accept_for_frequent_and_rare_keys() {
    let frequent = (0..WIDE_FROM as u64 + 3).map(|number| item(1, number));
    let some = (0..NARROW_FROM as u64).map(|number| item(2, number));
    let signed: Vec<DataItem> = frequent.chain(some).chain([item(3, 0)]).collect();
    for verifier in verifiers() {
        let items = copies(&signed);
        verifier.accept(&items);
        let (fast, single) = items.split_at(items.len() - 1);
        assert!(fast.iter().all(DataItem::is_verified), "the fast path takes them");
        assert!(!single[0].is_verified(), "a key that comes once has no table");
        assert_eq!(verifier.verify(&items), Ok(()));
        assert!(items.iter().all(DataItem::is_verified));
        let bits = [1, 2, 3].map(|n| verifier.bits_of(Signer::ed25519(&[n; 32]).owner()));
        assert_eq!(bits, [Some(WIDE_BITS), Some(NARROW_BITS), None]);
    }
}

#[test]
fn every_changed_bit_of_a_signature_is_refused_by_its_place() {
    // Two keys in one eight, and an eight that is not full.
    let good: Vec<DataItem> = (0..12).map(|number| item(1 + number as u8 % 2, number)).collect();
    for verifier in verifiers() {
        verifier.accept(&copies(&good));
        for bit in 0..64 * 8 {
            let mut items = copies(&good);
            let at = bit % items.len();
            items[at] = changed(&items[at], 2 + bit / 8, 1 << (bit % 8));
            verifier.accept(&items);
            for (other, item) in items.iter().enumerate() {
                assert_eq!(item.is_verified(), other != at, "bit {bit}, item {other}");
            }
            let refused = Err((at, ItemError::Signature(2)));
            assert_eq!(verifier.verify(&items), refused, "bit {bit}");
            assert!(!items[at].is_verified());
        }
    }
}

#[test]
fn many_keys_share_a_bounded_number_of_tables() {
    let keys = 0..TABLES_MAX as u8 + 20;
    let signed: Vec<DataItem> = keys
        .flat_map(|key| (0..NARROW_FROM as u64 + u64::from(key == 83)).map(move |n| item(key, n)))
        .collect();
    let most = Signer::ed25519(&[83; 32]);
    for verifier in verifiers() {
        let items = copies(&signed);
        let keys = verifier.tables_for(&items);
        assert_eq!(keys.len(), TABLES_MAX);
        assert!(keys.iter().any(|key| key == most.owner()));
        assert_eq!(verifier.verify(&items), Ok(()));
    }
}

/// Points of small order and other odd forms must end as the single check ends them.
#[test]
fn odd_points_end_as_in_the_single_check() {
    let template = item(1, 7);
    let p_plus_one = {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (0xee, 0x7f);
        bytes
    };
    let torsion = EIGHT_TORSION.map(|point| point.compress().0);
    let odd: Vec<[u8; 32]> = torsion.into_iter().chain([p_plus_one, [0xff; 32]]).collect();
    for (at, bytes) in odd.iter().enumerate() {
        for field in [2, 2 + 64] {
            let mut raw = template.bytes().to_vec();
            raw[field..field + 32].copy_from_slice(bytes);
            let item = DataItem::parse(raw.into()).expect("it has the form");
            let eight = vec![item.clone(); 8];
            for verifier in verifiers() {
                let all = verifier.verify(&copies(&eight));
                assert_eq!(all.is_ok(), item.verify().is_ok(), "point {at} in field {field}");
            }
        }
    }
}

/// `s + l` signs the same as `s`, and must be refused.
#[test]
fn a_scalar_that_is_not_reduced_is_refused() {
    let order: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let mut raw = item(1, 7).bytes().to_vec();
    let mut carry = 0u16;
    for (byte, add) in raw[34..66].iter_mut().zip(order) {
        carry += u16::from(*byte) + u16::from(add);
        *byte = carry as u8;
        carry >>= 8;
    }
    let eight = vec![DataItem::parse(raw.into()).expect("it has the form"); 8];
    for verifier in verifiers() {
        assert_eq!(
            verifier.verify(&copies(&eight)),
            Err((0, ItemError::Signature(2)))
        );
    }
}

#[test]
fn a_signer_with_a_key_of_mixed_order_is_judged_alike() {
    // A = aB + T with T of order 8: whether (R, s) verifies depends on h, and both paths must agree on each.
    let (secret, nonce) = (Scalar::from(0x1234_5678_9abc_u64), Scalar::from(0xfeed_beef_u64));
    let key = (EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[1]).compress().0;
    let point = EdwardsPoint::mul_base(&nonce).compress().0;
    let mut outcomes = [0, 0];
    let items: Vec<DataItem> = (0..64u64)
        .map(|number| {
            let mut raw = item(1, number).bytes().to_vec();
            raw[66..98].copy_from_slice(&key);
            raw[2..34].copy_from_slice(&point);
            let unsigned = DataItem::parse(raw.clone().into()).expect("it has the form");
            let mut context = Context::new(&SHA512);
            [&point[..], &key, &unsigned.deep_hash()]
                .iter()
                .for_each(|part| context.update(part));
            let hash = context.finish();
            let hash = Scalar::from_bytes_mod_order_wide(hash.as_ref().first_chunk().expect("64 bytes"));
            raw[34..66].copy_from_slice((nonce + hash * secret).as_bytes());
            DataItem::parse(raw.into()).expect("it has the form")
        })
        .collect();
    // The fast path takes keys that come often: ask for each beside seven copies of itself.
    let verifiers = verifiers();
    for item in &items {
        let eight = vec![item.clone(); 8];
        let all = verifiers
            .iter()
            .map(|verifier| verifier.verify(&copies(&eight)).is_ok());
        let all: Vec<bool> = all.collect();
        let single = item.verify().is_ok();
        assert!(all.iter().all(|one| *one == single), "{all:?} beside {single}");
        outcomes[usize::from(single)] += 1;
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "both happen: {outcomes:?}");
}
