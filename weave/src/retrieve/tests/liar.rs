//! Gateways that lie: each lie has a name, is refused for its own reason, and a gateway that tells the truth beside the
//! liar is enough.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use serde_json::{Value, json};
use spec::contract::Answer;
use spec::ids::{base64url, from_base64url};
use spec::{Bundle, ItemId, Refusal};

use super::super::{Error, Source, Sources};
use super::world::{World, limits, rebuild};
use crate::network::Transport;
use crate::testing::{Faults, transport};

/// What a gateway does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// A bit of a bundle is another one.
    WrongByte,
    /// The bundle ends early.
    Truncated,
    /// Bytes follow the bundle.
    Longer,
    /// Two items of the bundle change places.
    Reordered,
    /// An older carrier's bundle.
    Replayed,
    /// Another wallet's bundle of another node's items.
    Strangers,
    /// An item of the bundle is signed by somebody else, under its old id in the table.
    ForgedId,
    /// Nothing but zeros, of the right length.
    Zeros,
    /// Another transaction under the id asked for.
    OtherTransaction,
    /// The transaction with another tag.
    ForgedTags,
    /// The transaction with another owner.
    ForgedOwner,
    /// The transaction with another data root.
    ForgedRoot,
    /// Older carriers are not there.
    HiddenTransaction,
    /// The wallet's newest transaction is an old one.
    OldHead,
    /// The wallet's newest transaction is another wallet's.
    OtherHead,
    /// The wallet never did anything.
    NoHead,
    /// The search lists a newer carrier that is none.
    InventedCarrier,
    /// The search lists another wallet's carrier as the wallet's.
    OtherWallet,
    /// The search lists nothing.
    HiddenSearch,
    /// The search lists carriers under each other's sequence.
    WrongOrder,
    /// The search answers what was not asked.
    Nonsense,
    /// The same page for ever.
    EndlessPages,
    /// The data lies elsewhere on the weave.
    WrongOffset,
    /// A chunk with another bit.
    WrongChunk,
    /// Another chunk with its own proof.
    OtherChunk,
    /// 429 with `Retry-After`.
    Busy,
    /// No answer.
    Dead,
}

pub const LIES: [Lie; 27] = [
    Lie::WrongByte,
    Lie::Truncated,
    Lie::Longer,
    Lie::Reordered,
    Lie::Replayed,
    Lie::Strangers,
    Lie::ForgedId,
    Lie::Zeros,
    Lie::OtherTransaction,
    Lie::ForgedTags,
    Lie::ForgedOwner,
    Lie::ForgedRoot,
    Lie::HiddenTransaction,
    Lie::OldHead,
    Lie::OtherHead,
    Lie::NoHead,
    Lie::InventedCarrier,
    Lie::OtherWallet,
    Lie::HiddenSearch,
    Lie::WrongOrder,
    Lie::Nonsense,
    Lie::EndlessPages,
    Lie::WrongOffset,
    Lie::WrongChunk,
    Lie::OtherChunk,
    Lie::Busy,
    Lie::Dead,
];

impl Lie {
    /// Where it is told.
    fn is_about(self, path: &str) -> bool {
        let is_data = path.starts_with("/raw/") || path.ends_with("/data");
        let is_offset = path.ends_with("/offset");
        match self {
            Lie::WrongByte
            | Lie::Truncated
            | Lie::Longer
            | Lie::Reordered
            | Lie::Replayed
            | Lie::Strangers
            | Lie::ForgedId
            | Lie::Zeros => is_data,
            Lie::OtherTransaction
            | Lie::ForgedTags
            | Lie::ForgedOwner
            | Lie::ForgedRoot
            | Lie::HiddenTransaction => path.starts_with("/tx/") && !is_data && !is_offset,
            Lie::OldHead | Lie::OtherHead | Lie::NoHead => path.ends_with("/last_tx"),
            Lie::InventedCarrier
            | Lie::OtherWallet
            | Lie::HiddenSearch
            | Lie::WrongOrder
            | Lie::Nonsense
            | Lie::EndlessPages => path == "/graphql",
            Lie::WrongOffset => is_offset,
            Lie::WrongChunk | Lie::OtherChunk => path.starts_with("/chunk/"),
            Lie::Busy | Lie::Dead => true,
        }
    }

    /// Also tells these, or nobody would notice the lie itself: without the whole bundle chunks are asked for.
    fn needs(self, path: &str) -> bool {
        let is_whole = path.starts_with("/raw/") || path.ends_with("/data");
        let is_of_chunks = matches!(self, Lie::WrongOffset | Lie::WrongChunk | Lie::OtherChunk);
        let is_of_wholes = self.is_about("/raw/");
        (is_of_chunks && is_whole) || (is_of_wholes && path.starts_with("/chunk/"))
    }

    /// Words of the reason for which it is refused, where it is all that can be had; `None`: it hides things, and the
    /// log is found without what it hides, or not at all.
    fn reason(self) -> Option<&'static str> {
        Some(match self {
            Lie::WrongByte
            | Lie::Truncated
            | Lie::Longer
            | Lie::Reordered
            | Lie::Replayed
            | Lie::Strangers
            | Lie::ForgedId
            | Lie::Zeros => "its data_root does not cover",
            Lie::OtherTransaction => "another transaction than the one asked for",
            // The wallet's key is told by the signature: what is forged verifies, as somebody else's.
            Lie::ForgedTags | Lie::ForgedRoot => "which another wallet signed",
            Lie::ForgedOwner => "the transaction's",
            Lie::WrongOffset => "bytes 0 to",
            Lie::WrongChunk => "its bytes are not the ones proved",
            Lie::OtherChunk => "the proof does not lead from the data root",
            Lie::Busy => "429",
            Lie::Dead => "nobody answers",
            _ => return None,
        })
    }
}

/// A gateway that lies at times.
pub struct Liar {
    inner: Arc<dyn Transport>,
    lie: Option<Lie>,
    dice: AtomicU64,
    /// Of a thousand occasions.
    rate: u64,
    world: Known,
    told: Arc<Mutex<BTreeMap<Lie, u64>>>,
}

/// What a liar knows to lie with.
#[derive(Clone)]
pub struct Known {
    carriers: Vec<(ItemId, Bytes)>,
    stranger: Bytes,
    other_wallet: ItemId,
    wallet: String,
}

impl Known {
    pub fn of(world: &World) -> Known {
        let stranger = World::new(1, Faults::none());
        let mut double = world.handle.lock();
        let ids: Vec<ItemId> = world.publisher.previous.iter().rev().copied().collect();
        let carriers = ids.into_iter().map(|id| {
            let transaction = double.mined(&id).unwrap().1.transaction.clone();
            (id, double.data(&transaction).unwrap())
        });
        let carriers = carriers.collect();
        let other = stranger.publisher.previous[0];
        let other_transaction = stranger
            .handle
            .lock()
            .mined(&other)
            .unwrap()
            .1
            .transaction
            .clone();
        let bundle = stranger.handle.lock().data(&other_transaction).unwrap();
        let wallet = spec::Signer::ethereum(&[77; 32]).unwrap();
        double.mint(wallet.transaction_owner().unwrap().address(), 1 << 80);
        let tags = other_transaction.content.tags.clone();
        let posted = crate::testing::publisher::post(&mut double, &wallet, tags, &bundle);
        Known {
            carriers,
            stranger: bundle,
            other_wallet: posted.id,
            wallet: world.wallet.to_string(),
        }
    }
}

impl Liar {
    fn pick(&self, below: u64) -> u64 {
        let count = self.dice.fetch_add(1, Ordering::Relaxed);
        let digest = spec::chunks::sha256(&[&count.to_le_bytes()]);
        u64::from_le_bytes(*digest.first_chunk().unwrap()) % below.max(1)
    }

    fn is_lying(&self, path: &str) -> Option<Lie> {
        let lie = match self.lie {
            Some(lie) => lie,
            None => LIES[self.pick(LIES.len() as u64) as usize],
        };
        let tells = (lie.is_about(path) || lie.needs(path)) && self.pick(1000) < self.rate;
        tells.then_some(lie)
    }

    fn body(&self, lie: Lie, path: &str, truth: &[u8]) -> Option<Vec<u8>> {
        if lie.needs(path) {
            return Some(b"no bundle".to_vec());
        }
        match lie {
            Lie::WrongByte
            | Lie::Truncated
            | Lie::Longer
            | Lie::Reordered
            | Lie::Replayed
            | Lie::Strangers
            | Lie::ForgedId
            | Lie::Zeros => {
                let is_text = path.ends_with("/data");
                let data = if is_text {
                    from_base64url(std::str::from_utf8(truth).ok()?)?
                } else {
                    truth.to_vec()
                };
                let data = self.bundle(lie, data);
                Some(if is_text {
                    base64url(&data).into_bytes()
                } else {
                    data
                })
            }
            Lie::OtherTransaction | Lie::ForgedTags | Lie::ForgedOwner | Lie::ForgedRoot => {
                self.transaction(lie, truth)
            }
            Lie::OldHead => Some(self.carriers(0).to_string().into_bytes()),
            Lie::OtherHead => Some(self.world.other_wallet.to_string().into_bytes()),
            Lie::NoHead => Some(Vec::new()),
            Lie::WrongOffset => {
                let mut known: Value = serde_json::from_slice(truth).ok()?;
                let offset: u64 = known["offset"].as_str()?.parse().ok()?;
                known["offset"] = (offset + 262_144 * (1 + self.pick(3))).to_string().into();
                Some(known.to_string().into_bytes())
            }
            Lie::WrongChunk => {
                let mut known: Value = serde_json::from_slice(truth).ok()?;
                let mut chunk = from_base64url(known["chunk"].as_str()?)?;
                let at = self.pick(chunk.len() as u64) as usize;
                chunk[at] ^= 1 << self.pick(8);
                known["chunk"] = base64url(&chunk).into();
                Some(known.to_string().into_bytes())
            }
            Lie::InventedCarrier
            | Lie::OtherWallet
            | Lie::HiddenSearch
            | Lie::WrongOrder
            | Lie::Nonsense
            | Lie::EndlessPages => self.search(lie, truth),
            _ => None,
        }
    }

    fn carriers(&self, at: usize) -> ItemId {
        self.world.carriers[at].0
    }

    fn bundle(&self, lie: Lie, mut data: Vec<u8>) -> Vec<u8> {
        match lie {
            Lie::WrongByte => {
                let at = self.pick(data.len() as u64) as usize;
                data[at] ^= 1 << self.pick(8);
                data
            }
            Lie::Truncated => {
                data.truncate(self.pick(data.len() as u64) as usize);
                data
            }
            Lie::Longer => {
                data.extend_from_slice(&vec![0; 1 + self.pick(300) as usize]);
                data
            }
            Lie::Zeros => vec![0; data.len()],
            Lie::Strangers => self.world.stranger.to_vec(),
            Lie::Replayed => {
                let other = self.world.carriers.iter().find(|(_, bundle)| *bundle != data);
                other.map_or(Vec::new(), |(_, bundle)| bundle.to_vec())
            }
            Lie::Reordered | Lie::ForgedId => self.rebundled(lie, data.into()),
            _ => unreachable!("no lie about bundles"),
        }
    }

    fn rebundled(&self, lie: Lie, data: Bytes) -> Vec<u8> {
        let Ok(mut items) = Bundle::parse(&data).map(|bundle| bundle.items) else {
            return Vec::new();
        };
        let ids: Vec<ItemId> = items.iter().map(|item| item.id()).collect();
        let mut listed = ids.clone();
        if lie == Lie::Reordered {
            let last = items.len() - 1;
            items.swap(0, last - self.pick(last as u64) as usize);
            listed = items.iter().map(|item| item.id()).collect();
        } else {
            let at = self.pick(items.len() as u64) as usize;
            items[at] = super::world::item(55, &[("Forged", "1")], vec![b'f'; items[at].data_len() as usize]);
        }
        let rows = items
            .iter()
            .zip(listed)
            .map(|(item, id)| (item.bytes().len() as u64, id));
        let mut out = Bundle::table(rows.collect::<Vec<_>>().into_iter()).to_vec();
        items.iter().for_each(|item| out.extend_from_slice(item.bytes()));
        out
    }

    fn transaction(&self, lie: Lie, truth: &[u8]) -> Option<Vec<u8>> {
        let mut json: Value = serde_json::from_slice(truth).ok()?;
        match lie {
            Lie::ForgedTags => {
                let tags = json["tags"].as_array_mut()?;
                let at = self.pick(tags.len() as u64) as usize;
                tags[at]["value"] = base64url(b"7").into();
            }
            // Its owner is told by the signature: another quantity makes it another owner's.
            Lie::ForgedOwner => json["owner"] = base64url(&[7; 512]).into(),
            _ => json["data_root"] = base64url(&[9; 32]).into(),
        }
        Some(json.to_string().into_bytes())
    }

    fn search(&self, lie: Lie, truth: &[u8]) -> Option<Vec<u8>> {
        let mut json: Value = serde_json::from_slice(truth).ok()?;
        let page = json["data"].get_mut("transactions")?;
        match lie {
            Lie::HiddenSearch => page["edges"] = json!([]),
            Lie::Nonsense => *page = json!({ "edges": [{ "node": 7 }] }),
            Lie::EndlessPages => page["pageInfo"] = json!({ "hasNextPage": true }),
            _ => {
                let edges = page["edges"].as_array_mut()?;
                let mut edge = edges.first().cloned()?;
                match lie {
                    Lie::InventedCarrier => {
                        edge["node"]["id"] = ItemId(spec::chunks::sha256(&[&self.pick(99).to_le_bytes()]))
                            .to_string()
                            .into();
                        edge["node"]["bundledIn"] = json!({ "id": self.carriers(0) });
                        edge["node"]["owner"]["address"] = self.world.wallet.clone().into();
                        set_tag(&mut edge["node"], "Sequence", &(40 + self.pick(9)).to_string());
                    }
                    Lie::OtherWallet => edge["node"]["id"] = self.world.other_wallet.to_string().into(),
                    _ => edges.iter_mut().enumerate().for_each(|(at, edge)| {
                        set_tag(&mut edge["node"], "Sequence", &at.to_string());
                        edge["node"]["bundledIn"] = json!({ "id": self.world.other_wallet });
                    }),
                }
                if lie != Lie::WrongOrder {
                    edges.insert(0, edge);
                }
            }
        }
        Some(json.to_string().into_bytes())
    }
}

fn set_tag(node: &mut Value, name: &str, value: &str) {
    for tag in node["tags"].as_array_mut().into_iter().flatten() {
        if tag["name"] == name {
            tag["value"] = value.into();
        }
    }
}

#[async_trait]
impl Transport for Liar {
    async fn send(&self, mut request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        let path = request.uri().path().to_owned();
        let Some(lie) = self.is_lying(&path) else {
            return self.inner.send(request, bytes_max).await;
        };
        *self.told.lock().unwrap().entry(lie).or_default() += 1;
        match lie {
            Lie::Dead => return Err(Refusal::upstream("unreachable", "nobody answers")),
            Lie::Busy => {
                let answer = Response::builder()
                    .status(StatusCode::TOO_MANY_REQUESTS)
                    .header("retry-after", "0");
                return Ok(answer.body(Bytes::from_static(b"later")).unwrap());
            }
            Lie::HiddenTransaction
                if !path.contains(&self.carriers(self.world.carriers.len() - 1).to_string()) =>
            {
                return Ok(Response::builder().status(404).body(Bytes::new()).unwrap());
            }
            Lie::OtherTransaction => {
                *request.uri_mut() = format!("/tx/{}", self.world.other_wallet).parse().unwrap();
            }
            Lie::OtherChunk if path.starts_with("/chunk/") => {
                let offset: u64 = path.trim_start_matches("/chunk/").parse().unwrap();
                let other = if offset > 300_000 {
                    offset - 262_144
                } else {
                    offset + 262_144
                };
                *request.uri_mut() = format!("/chunk/{other}").parse().unwrap();
            }
            _ => {}
        }
        let response = self.inner.send(request, bytes_max).await?;
        if response.status() != 200 {
            return Ok(response);
        }
        let body = self.body(lie, &path, response.body());
        let (head, truth) = response.into_parts();
        Ok(Response::from_parts(head, body.map_or(truth, Bytes::from)))
    }
}

type Told = Arc<Mutex<BTreeMap<Lie, u64>>>;

fn liar(world: &World, known: &Known, lie: Option<Lie>, rate: u64, seed: u64, told: &Told) -> Source {
    let liar = Liar {
        inner: transport(&world.handle, 0),
        lie,
        dice: (seed << 20).into(),
        rate,
        world: known.clone(),
        told: told.clone(),
    };
    let mut limits = limits();
    limits.carriers_max = 60;
    Source::new("liar", Arc::new(liar), &limits)
}

fn sources(all: Vec<Source>, rounds_max: usize) -> Sources {
    let mut limits = limits();
    (limits.rounds_max, limits.carriers_max) = (rounds_max, 60);
    Sources::new(all, limits)
}

#[tokio::test]
async fn each_lie_alone_is_refused_for_its_own_reason_and_leaves_nothing() {
    let world = World::new(4, Faults::none());
    let known = Known::of(&world);
    let mut refused = 0;
    for lie in LIES {
        for seed in 0..6 {
            let told = Told::default();
            let folder = tempfile::tempdir().unwrap();
            let sources = sources(vec![liar(&world, &known, Some(lie), 1000, seed, &told)], 2);
            let done = rebuild(&sources, world.wallet, folder.path()).await;
            assert!(
                told.lock().unwrap().get(&lie).is_some_and(|told| *told > 0),
                "{lie:?} was told"
            );
            match (done, lie.reason()) {
                (Err(error), Some(reason)) => {
                    let text = reasons(&error);
                    // A newest carrier that is listed and cannot be had ends the search before reasons are told.
                    let is_newest = text.contains("the newest that gateways list, and cannot be had");
                    assert!(text.contains(reason) || is_newest, "{lie:?}: {text}");
                    assert!(!folder.path().join("log").exists(), "{lie:?}");
                    refused += 1;
                }
                (Err(_), None) => {
                    assert!(!folder.path().join("log").exists(), "{lie:?}");
                    refused += 1;
                }
                // What only hides or adds is found out by the carriers themselves.
                (Ok(_), None) => world.assert_same(folder.path()),
                (Ok(_), Some(_)) => panic!("{lie:?} was believed"),
            }
        }
    }
    assert!(refused > 75, "most lies leave nothing to go by: {refused}");
}

/// An error with what each gateway said; a transaction that cannot be had shows as a note, so it is asked for again.
fn reasons(error: &Error) -> String {
    error.to_string()
}

#[tokio::test]
async fn lies_beside_one_honest_gateway_change_nothing() {
    beside_one_honest_gateway(60, 150).await;
}

#[tokio::test]
#[ignore = "thousands of lies take a minute; run it before a release: --run-ignored all"]
async fn thousands_of_lies_beside_one_honest_gateway_change_nothing() {
    beside_one_honest_gateway(1_000, 3_000).await;
}

/// Two liars and one that tells the truth, by seeds; liars come last once they lied, so there are a few lies each time.
async fn beside_one_honest_gateway(seeds: u64, least: u64) {
    let world = World::new(4, Faults::none());
    let known = Known::of(&world);
    let told = Told::default();
    for seed in 0..seeds {
        let folder = tempfile::tempdir().unwrap();
        let honest = Source::new("honest", transport(&world.handle, 1), &limits());
        let mut all = vec![liar(&world, &known, None, 900, 1_000 + seed, &told), honest];
        all.push(liar(&world, &known, None, 900, 5_000 + seed, &told));
        let sources = sources(all, 30);
        if let Err(error) = rebuild(&sources, world.wallet, folder.path()).await {
            panic!("seed {seed}: {error}");
        }
        world.assert_same(folder.path());
    }
    let told = told.lock().unwrap();
    let total: u64 = told.values().sum();
    assert!(total > least, "{total} lies: {told:?}");
    let never: Vec<_> = LIES.iter().filter(|lie| !told.contains_key(lie)).collect();
    assert!(
        never.len() <= 3,
        "nearly every kind was told beside the honest one; not {never:?}"
    );
}
