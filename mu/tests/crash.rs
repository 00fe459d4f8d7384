//! Checklist item 34: the messenger dies at every step of its way, and is opened again with the
//! same queue, an old one, or none. Each message of each outbox is delivered exactly once.
//!
//! A crash is a call that never answers, before or after its effect, and then the end of the whole
//! runtime without any shutdown.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::world::{Fault, World, quick, settle, until};
use mu::Config;
use serde_json::json;
use spec::contract::Messenger;
use spec::{ProcessId, Signer};
use tokio::runtime::Runtime;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// What the run must come to, however often it is cut.
struct Plot {
    world: Arc<World>,
    sender: ProcessId,
    relay: ProcessId,
    end: ProcessId,
    wallet: ProcessId,
}

const PUSHES: usize = 3;

impl Plot {
    async fn new() -> Plot {
        let world = World::new();
        let (sender, relay, end) = (
            world.process().await,
            world.process().await,
            world.process().await,
        );
        let to_end =
            json!({ "Messages": [{ "Target": end.to_string(), "Tags": [], "Data": "{}" }] }).to_string();
        world.script(relay, move |item, _| match item.tag("Relay") {
            Some(_) => to_end.clone(),
            None => "{}".into(),
        });
        Plot {
            world,
            sender,
            relay,
            end,
            wallet: ProcessId([0x44; 32]),
        }
    }

    /// Messages to two processes and a wallet, a spawn, an assignment, all in one outbox.
    fn outcome(&self, n: usize) -> String {
        let number = json!({ "name": "Number", "value": n });
        let relay = json!({ "name": "Relay", "value": "yes" });
        let module = json!({ "name": "Module", "value": "m" });
        json!({
            "Messages": [
                { "Target": self.relay.to_string(), "Tags": [number, relay], "Data": "{}" },
                { "Target": self.wallet.to_string(), "Tags": [number], "Data": "{}" },
                { "Target": self.relay.to_string(), "Tags": [number], "Data": "{}" },
            ],
            "Spawns": [{ "Data": "{}", "Tags": [number, module] }],
            "Assignments": [{ "Processes": [self.end.to_string()], "Message": self.sender.to_string() }],
        })
        .to_string()
    }

    async fn push_all(&self, mu: &mu::Mu) {
        for n in 0..PUSHES {
            // The client posts again what it got no answer for: the scheduler knows it.
            let _ = mu.push(self.message(n)).await;
        }
    }

    fn message(&self, n: usize) -> spec::DataItem {
        let number = n.to_string();
        let tags = [
            ("Data-Protocol", "ao"),
            ("Type", "Message"),
            ("Number", number.as_str()),
        ];
        let tags = tags.map(|(name, value)| spec::Tag::new(name, value)).to_vec();
        let data = self.outcome(n).into();
        let parts = spec::ItemParts {
            target: Some(self.sender.0),
            anchor: None,
            tags,
            data,
        };
        spec::DataItem::sign(&parts, &self.world.user).unwrap()
    }

    fn check(&self, case: &str) {
        let world = &self.world;
        let number = |item: &spec::DataItem| item.tag("Number").unwrap().parse::<usize>().unwrap();
        let relayed: Vec<_> = world.log_of(self.relay).iter().map(number).collect();
        assert_eq!(relayed, [0, 0, 1, 1, 2, 2], "{case}: the relay");
        let end = world.log_of(self.end);
        let assigned = end.iter().filter(|item| item.id() == self.sender.into()).count();
        assert_eq!((end.len() - assigned, assigned), (PUSHES, 1), "{case}: the end");
        let sent = world.log_of(self.sender);
        let replies: Vec<_> = sent
            .iter()
            .filter(|item| item.tag("Action") == Some("Spawned"))
            .map(number)
            .collect();
        assert_eq!(replies, [0, 1, 2], "{case}: the spawner");
        assert_eq!(world.processes().len(), 3 + PUSHES, "{case}: the children");
        let weave = world.weave();
        let kept = weave.iter().filter(|item| item.target() == Some(&self.wallet.0));
        let mut kept: Vec<_> = kept.map(number).collect();
        kept.sort_unstable();
        assert_eq!(kept, [0, 1, 2], "{case}: the wallet");
    }
}

/// Which queue the next life finds.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Queue {
    Same,
    Deleted,
}

/// Runs the plot, cut at call `at`; `true` if the run got that far.
fn run(at: u32, before: bool, queue: Queue, config: &Config, key: fn() -> Signer) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let first = runtime();
    let plot = first.block_on(Plot::new());
    let reached = Arc::new(AtomicU32::new(0));
    let calls = reached.clone();
    plot.world
        .fault(move |_, _| match calls.fetch_add(1, Ordering::SeqCst) {
            n if n < at => Fault::None,
            n if n == at && before => Fault::HangBefore,
            n if n == at => Fault::HangAfter,
            _ => Fault::HangBefore,
        });
    let got_there = first.block_on(async {
        let mu = plot.world.messenger_with(dir.path(), config.clone(), key());
        let pushing = plot.push_all(&mu);
        let cut = async {
            until("it ends or is cut", || reached.load(Ordering::SeqCst) > at).await;
        };
        tokio::select! {
            () = cut => true,
            () = async { pushing.await; settle(&mu).await } => false,
        }
    });
    first.shutdown_timeout(Duration::from_secs(10));
    plot.world.heal();
    second_life(&plot, dir.path(), queue, config, key);
    plot.check(&format!(
        "cut at call {at}, before its effect: {before}, {queue:?}"
    ));
    got_there
}

fn second_life(plot: &Plot, dir: &Path, queue: Queue, config: &Config, key: fn() -> Signer) {
    if queue == Queue::Deleted {
        std::fs::remove_file(dir.join(mu::QUEUE_FILE)).unwrap();
    }
    let second = runtime();
    second.block_on(async {
        let mu = plot.world.messenger_with(dir, config.clone(), key());
        plot.push_all(&mu).await;
        settle(&mu).await;
        mu.close().await;
    });
    second.shutdown_timeout(Duration::from_secs(10));
}

fn every_cut(queue: Queue, config: &Config, key: fn() -> Signer, step: usize) {
    let mut cuts = 0;
    for at in (0..).step_by(step) {
        let before = run(at, true, queue, config, key);
        let after = run(at, false, queue, config, key);
        cuts += 1;
        if !before && !after {
            break;
        }
        assert!(cuts < 500, "the run never comes to its end");
    }
    assert!(cuts * step > 40, "the plot has more steps than {}", cuts * step);
}

fn ed25519() -> Signer {
    Signer::ed25519(&[9; 32])
}

/// Signs the same thing differently each time, so only hashes and look-ups tell copies apart.
fn rsa() -> Signer {
    static JWK: OnceLock<String> = OnceLock::new();
    let jwk = JWK.get_or_init(|| Signer::generate_rsa_jwk().unwrap().to_string());
    Signer::from_jwk(jwk).unwrap()
}

/// Cursors are never written in time.
fn slow_flush() -> Config {
    Config {
        flush_interval_ms: 3_600_000,
        ..quick()
    }
}

#[test]
fn item_34_cut_anywhere_each_message_is_delivered_once() {
    every_cut(
        Queue::Same,
        &Config {
            flush_interval_ms: 0,
            ..quick()
        },
        ed25519,
        1,
    );
}

#[test]
fn item_34_cut_anywhere_with_cursors_that_are_behind() {
    every_cut(Queue::Same, &slow_flush(), ed25519, 2);
}

#[test]
fn item_34_cut_anywhere_and_the_queue_deleted() {
    every_cut(Queue::Deleted, &quick(), ed25519, 1);
}

#[test]
fn item_34_cut_anywhere_with_a_key_that_never_signs_twice_alike() {
    every_cut(Queue::Deleted, &quick(), rsa, 5);
}
