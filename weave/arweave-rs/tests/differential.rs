//! arweave-rs 0.2.0 and our code, side by side: addresses, signatures of format 2, data roots and proofs, `/info`,
//! and an upload to the double.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use arweave_rs::crypto::base64::Base64;
use arweave_rs::crypto::merkle::{generate_data_root, generate_leaves, resolve_proofs};
use arweave_rs::network::NetworkInfoClient;
use arweave_rs::transaction::Tx;
use arweave_rs::{Arweave, ArweaveSigner};
use bytes::Bytes;
use serde_json::{Value, json};
use spec::chunks::Tree;
use spec::transaction::Content;
use spec::{Address, Signer, Tag, Transaction};
use weave::testing::{Double, Faults, Handle, Rules, serve};

const KIB: usize = 1024;

/// The first of the published test keys, RSA, as text and as a wallet file.
fn key(folder: &Path) -> (Signer, PathBuf) {
    let keys: Value = serde_json::from_str(include_str!("../../../spec/vectors/keys.json")).unwrap();
    let jwk = keys["keys"][0]["jwk"].to_string();
    let path = folder.join("wallet.json");
    std::fs::write(&path, &jwk).unwrap();
    (Signer::from_jwk(&jwk).unwrap(), path)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + (i >> 9)) as u8).collect()
}

#[test]
fn addresses_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, path) = key(folder.path());
    let theirs = ArweaveSigner::from_keypair_path(path).unwrap();
    assert_eq!(theirs.wallet_address().to_string(), ours.address().to_string());
    assert_eq!(theirs.keypair_modulus().0, ours.owner());
}

#[test]
fn data_roots_and_proofs_are_the_same_around_every_boundary() {
    let mut sizes = vec![1, 31 * KIB, 2048 * KIB];
    for chunks in 1..=5 {
        for around in [-32i64, -16, 0, 16, 32] {
            for step in [-1i64, 0, 1] {
                sizes.push((chunks * 256 * KIB as i64 + around * KIB as i64 + step) as usize);
            }
        }
    }
    for len in sizes {
        let (data, tree) = (pattern(len), Tree::of(&pattern(len)));
        let leaves = generate_leaves(data).unwrap();
        let root = generate_data_root(leaves).unwrap();
        assert_eq!(root.id, tree.root(), "{len} bytes");
        let theirs = resolve_proofs(root, None).unwrap();
        let ours: Vec<_> = tree.chunks().collect();
        // Theirs tells of the empty leaf behind whole chunks, too; it is never uploaded.
        let empty = usize::from(len % (256 * KIB) == 0);
        assert_eq!(theirs.len(), ours.len() + empty, "{len} bytes");
        for (theirs, chunk) in theirs.iter().zip(ours) {
            assert_eq!(
                theirs.proof,
                tree.proof(chunk.start).unwrap(),
                "{len} bytes at {}",
                chunk.start
            );
        }
    }
}

fn content(last_tx: &[u8], data: &[u8]) -> Content {
    Content {
        last_tx: last_tx.to_vec(),
        reward: 1_000_000,
        target: Some(Address([7; 32])),
        quantity: 12,
        tags: vec![Tag::new("App", "weft"), Tag::new("Ünï", "")],
        ..Content::carrying(data)
    }
}

#[test]
fn each_takes_the_others_signatures_and_refuses_forged_ones() {
    let folder = tempfile::tempdir().unwrap();
    let (signer, path) = key(folder.path());
    let theirs = ArweaveSigner::from_keypair_path(path).unwrap();
    for len in [0, 10, 300 * KIB] {
        let ours = content(&[5; 48], &pattern(len)).sign(&signer).unwrap();
        let read = Tx::from_str(&ours.to_json(None)).unwrap();
        assert!(ArweaveSigner::verify_transaction(&read).is_ok(), "{len} bytes");
        let forged = ours.to_json(None).replace("\"12\"", "\"13\"");
        assert!(ArweaveSigner::verify_transaction(&Tx::from_str(&forged).unwrap()).is_err());

        let made = Tx::new(
            theirs.get_provider(),
            Base64(vec![9; 32]),
            pattern(len),
            3,
            77,
            Base64(vec![1; 48]),
            vec![],
            true,
        );
        let signed = theirs.sign_transaction(made.unwrap()).unwrap();
        let json = serde_json::to_vec(&signed).unwrap();
        let (mut read, data) = Transaction::from_json(&json).unwrap();
        read.verify().unwrap();
        assert_eq!(read.id.0, signed.id.0[..]);
        read.verify_data(&data.unwrap_or_default()).unwrap();
        read.content.reward += 1;
        assert!(read.verify().is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn info_is_read_and_a_file_is_uploaded_but_chunks_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (signer, path) = key(folder.path());
    let mut double = Double::new(Rules::default(), Faults::none());
    double.mint(signer.address(), 1 << 90);
    let handle = Handle::new(double);
    let listeners = serve::listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let url = url::Url::parse(&format!("http://{}", listeners[0].local_addr().unwrap())).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let served = tokio::spawn(serve::run(handle.clone(), listeners, None, async {
        drop(stopped.await)
    }));

    (0..3).for_each(|_| handle.lock().mine_block());
    let info = NetworkInfoClient::new(url.clone()).network_info().await.unwrap();
    assert_eq!((info.network.as_str(), info.height), ("weft.double", 3));

    let file = folder.path().join("page.txt");
    std::fs::write(&file, pattern(300 * KIB)).unwrap();
    let arweave = Arweave::from_keypair_path(path, url.clone()).unwrap();
    let fee = arweave
        .get_fee(Base64::empty(), pattern(300 * KIB))
        .await
        .unwrap();
    let (id, _) = arweave.upload_file_from_path(file, vec![], fee).await.unwrap();
    handle.lock().mine_block();
    let reply = handle.lock().get(0, &format!("/raw/{id}"));
    assert_eq!((reply.status, &reply.content_type[..]), (200, "text/plain"));
    assert_eq!(reply.body, Bytes::from(pattern(300 * KIB)));

    // Its chunks carry numbers where the network wants texts: the reason why it is no way to upload for us.
    let tree = Tree::of(&pattern(10));
    let chunk = json!({ "data_root": spec::ids::base64url(&tree.root()), "data_size": 10, "data_path": "", "offset": 9, "chunk": "" });
    let as_theirs: arweave_rs::types::Chunk = serde_json::from_value(chunk).unwrap();
    let body = serde_json::to_vec(&as_theirs).unwrap();
    let refused = handle.apply(&weave::testing::Input::Chunk(0, body.into()));
    assert_eq!(
        (refused.status, &refused.body[..]),
        (400, &br#"{"error":"invalid_json"}"#[..])
    );
    drop(stop);
    served.await.unwrap().unwrap();
}
