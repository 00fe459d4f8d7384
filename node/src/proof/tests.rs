//! Proofs made from the double: honest, lying, through blocks and through its bundler.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

use bytes::Bytes;
use spec::proof::{Placed, Proof};
use spec::{DataItem, Kind, Refusal};
use weave::testing::{self, Fault, Faults, Handle};

use super::make::{compare, proof};
use crate::staged::{Log, Node, double, message, publish_plain};

const MARGIN_BYTES: usize = 64 << 10;

async fn proved(handle: &Handle, item: &DataItem, full: bool) -> Result<Proof, Refusal> {
    proof(&[testing::peer(handle, 0)], item.id(), None, full).await
}

/// A log in two carriers, the second of some chunks; the item is in the second.
async fn world(handle: &Handle) -> (Log, DataItem) {
    let (mut log, mut node) = (Log::named("proof"), Node::default());
    log.grow(5);
    node.publish(handle, log.take()).await;
    let item = message(log.process, vec![7; 1024]);
    log.grow(300);
    log.put(item.clone());
    log.grow(600);
    node.publish(handle, log.take()).await;
    (log, item)
}

#[tokio::test]
async fn an_item_in_a_block_is_proved_small_and_any_gateway_confirms_the_block() {
    let handle = double(Faults::none());
    let (log, item) = world(&handle).await;
    let proof = proved(&handle, &item, false).await.unwrap();
    let file = proof.encode();
    assert!(file.len() <= MARGIN_BYTES, "{} bytes", file.len());
    let (read, shown) = Proof::read_verified(&file).unwrap();
    let slot = shown.slot.unwrap();
    assert_eq!((slot.process, slot.slot), (log.process, 306));
    assert!(slot.follows && slot.followed);
    let agreed = compare(&testing::peer(&handle, 2), &read).await.unwrap();
    assert_eq!(agreed.confirmations, 1);
    assert_eq!(agreed.scheduler_named, Some(true));
}

#[tokio::test]
async fn a_full_proof_has_the_items_own_bytes() {
    let handle = double(Faults::none());
    let (_, item) = world(&handle).await;
    let proof = proved(&handle, &item, true).await.unwrap();
    let shown = proof.verify().unwrap();
    assert_eq!(
        (shown.placed, shown.slot.unwrap().placed),
        (Placed::Bytes, Placed::Bytes)
    );
}

#[tokio::test]
async fn through_a_bundler_the_carriers_signature_and_the_chunks_show_it() {
    let handle = double(Faults::none());
    let (mut log, mut node) = (Log::named("bundled"), Node::default());
    log.grow(20);
    let item = log.records[10].clone();
    let carrier = node.publish_by_bundler(&handle, log.take()).await;
    let proof = proved(&handle, &item, false).await.unwrap();
    let shown = proof.verify().unwrap();
    assert!(shown.by_bundler && shown.place.is_some());
    assert_eq!(shown.carrier, carrier);
    compare(&testing::peer(&handle, 1), &proof).await.unwrap();
}

/// Anybody can sign assignments of anybody's process, and bring them to the weave.
#[tokio::test]
async fn a_slot_by_who_is_not_the_processs_scheduler_is_denied_by_the_process_item() {
    let handle = double(Faults::none());
    let mut log = Log::named("somebody's");
    log.grow(1);
    publish_plain(&handle, &log.take()).await;
    let message = message(log.process, "never scheduled");
    let draft = log.draft(&message);
    let assignment = draft.sign(&spec::Signer::ed25519(&[99; 32])).unwrap().item;
    publish_plain(&handle, &[message.clone(), assignment]).await;
    let proof = proved(&handle, &message, false).await.unwrap();
    let shown = proof.verify().unwrap();
    assert!(!shown.slot.as_ref().unwrap().scheduler_named);
    assert!(super::report::text(&shown, &[]).contains("NOT SHOWN"));
    let refusal = compare(&testing::peer(&handle, 1), &proof).await.unwrap_err();
    assert_eq!(&*refusal.code, "proof-denied");
    assert!(refusal.text.contains("no succession"), "{refusal}");
}

#[tokio::test]
async fn anybodys_bundle_is_proved_by_its_chunks() {
    let handle = double(Faults::none());
    let mut log = Log::named("foreign");
    log.grow(3);
    let records = log.take();
    publish_plain(&handle, &records).await;
    let shown = proved(&handle, &records[4], false)
        .await
        .unwrap()
        .verify()
        .unwrap();
    assert_eq!((shown.placed, shown.digest), (Placed::Bytes, None));
    assert_eq!(shown.slot.unwrap().slot, 2);
}

#[tokio::test]
async fn what_is_in_no_block_is_not_proved() {
    let handle = double(Faults::none());
    let (log, _) = world(&handle).await;
    let refusal = proved(&handle, &message(log.process, "never sent"), false)
        .await
        .unwrap_err();
    assert_eq!(
        (refusal.kind, &*refusal.code),
        (Kind::NotFound, "not-on-the-weave")
    );
}

#[tokio::test]
async fn a_gateway_that_lies_makes_no_proof_and_no_file_that_verifies() {
    for fault in [Fault::Lie, Fault::Truncate] {
        let handle = double(Faults::none().with(fault, 700));
        let (_, item) = world(&handle).await;
        let mut refused = 0;
        for _ in 0..8 {
            match proved(&handle, &item, false).await {
                Ok(proof) => assert!(proof.verify().is_ok()),
                Err(refusal) => refused += usize::from(!refusal.text.is_empty()),
            }
        }
        assert!(refused > 0, "{fault:?} happened");
    }
}

#[tokio::test]
async fn another_chain_denies_the_block() {
    let (here, elsewhere) = (double(Faults::none()), double(Faults::none()));
    let (_, item) = world(&here).await;
    publish_plain(&elsewhere, &[message(Log::named("x").process, "x")]).await;
    let proof = proved(&here, &item, false).await.unwrap();
    let refusal = compare(&testing::peer(&elsewhere, 0), &proof).await.unwrap_err();
    assert!(
        ["proof-denied", "not-found"].contains(&&*refusal.code),
        "{refusal}"
    );
    let mut claimed = proof;
    claimed.place.as_mut().unwrap().block.hash = Bytes::from_static(&[1; 48]);
    claimed.verify().unwrap();
    let refusal = compare(&testing::peer(&here, 0), &claimed).await.unwrap_err();
    assert_eq!(&*refusal.code, "proof-denied");
}
