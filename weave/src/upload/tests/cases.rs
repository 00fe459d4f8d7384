//! One thing at a time: money, lies, forks, data that is lost or withheld, a bundler that forgets.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use serde_json::json;
use spec::contract::Answer;
use spec::{Bundle, carrier};

use super::torture::block_on;
use super::world::World;
use crate::network::{Peer, Transport};
use crate::testing::{Double, Fault, Faults, PEERS, Rules, loopback};
use crate::upload::crowd::{Crowd, Verdict};
use crate::upload::note::{Step, Told};
use crate::upload::{Alarm, Config, Find, State};

fn config() -> Config {
    Config {
        seal_bytes_min: 2_000,
        seal_age_l1_ms: 60_000,
        poll_ms: 30_000,
        audit_ms: 60_000,
        ..Config::default()
    }
}

fn world(faults: Faults, config: Config, with_bundler: bool) -> World {
    World::new(5, faults, Rules::default(), config, with_bundler)
}

/// Turns until a carrier is in a state.
async fn until(world: &mut World, sequence: u64, state: State) {
    let last = world.height() + 400;
    while world.uploader().ledger().carrier(sequence).is_none() || world.state_of(sequence) != state {
        world.turn().await;
        world.pass(30_000);
        assert!(world.height() < last, "carrier {sequence} never got {state:?}");
    }
}

/// Turns for some blocks.
async fn blocks(world: &mut World, count: u64) {
    let last = world.height() + count;
    while world.height() < last {
        world.turn().await;
        world.pass(30_000);
    }
}

#[test]
fn a_carrier_goes_through_every_state_and_is_proved_at_eighteen() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false);
        for _ in 0..3 {
            world.schedule(1_000).await;
        }
        let report = world.uploader().report().unwrap();
        assert_eq!(
            (report.states.appended.items, report.oldest_unsettled_ms),
            (6, Some(0))
        );
        for state in [State::Posted, State::Mined, State::Permanent] {
            until(&mut world, 0, state).await;
            let mut states = world.uploader().report().unwrap().states;
            assert_eq!(states.of(state).items, 6);
        }
        let carrier = &world.uploader().ledger().carrier(0).unwrap().clone();
        let trip = carrier.settled_trip().unwrap();
        let depth = world.height() + 1 - trip.height;
        assert!((18..=20).contains(&depth), "permanent at {depth}");
        let report = world.uploader().report().unwrap();
        assert_eq!((report.cost.spent, report.cost.committed), (trip.cost, 0));
        assert_eq!(report.cost_today, trip.cost);
        blocks(&mut world, 30).await;
        world.check_all();
    });
}

#[test]
fn a_fork_throws_a_carrier_back_and_it_settles_again() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false);
        blocks(&mut world, 3).await;
        world.schedule(3_000).await;
        until(&mut world, 0, State::Mined).await;
        world.double.lock().fork(2);
        until(&mut world, 0, State::Posted).await;
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
    });
}

#[test]
fn data_that_all_peers_lost_is_not_permanent_until_it_was_brought_again() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Permanent).await;
        for peer in 0..PEERS {
            world.double.lock().lose(peer, 1, true);
        }
        // Where it can be brought at once, it stays what it is.
        blocks(&mut world, 5).await;
        assert_eq!(world.state_of(0), State::Permanent);
        for peer in 0..PEERS {
            world.double.lock().lose(peer, 1, true);
        }
        world
            .fuse
            .no_chunks
            .store(true, std::sync::atomic::Ordering::Relaxed);
        until(&mut world, 0, State::Mined).await;
        assert!(!world.is_done(), "it counts as not settled");
        world
            .fuse
            .no_chunks
            .store(false, std::sync::atomic::Ordering::Relaxed);
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
    });
}

#[test]
fn a_header_mined_without_chunks_is_never_permanent_until_they_are_there() {
    block_on(async {
        let lose = Faults::none().with(Fault::LoseChunk, 1_000).until(60);
        let mut world = world(lose, config(), false);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Mined).await;
        while world.height() < 60 {
            blocks(&mut world, 1).await;
            assert_eq!(world.state_of(0), State::Mined);
        }
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
    });
}

#[test]
fn a_dropped_transaction_is_signed_again_over_the_same_bytes() {
    block_on(async {
        let drop = Faults::none().with(Fault::DropTransaction, 1_000).until(100);
        let mut world = world(drop, config(), false);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Posted).await;
        let first = world.uploader().ledger().carrier(0).unwrap().clone();
        until(&mut world, 0, State::Permanent).await;
        let last = world.uploader().ledger().carrier(0).unwrap().clone();
        assert_ne!(last.trips[0].id, first.trips[0].id);
        assert_eq!(last.data_root, first.data_root);
        assert!(last.trips[0].signed_height > first.trips[0].signed_height + 50);
        let cost = world.uploader().report().unwrap().cost;
        assert_eq!(cost.spent, last.trips[0].cost, "what expired costs nothing");
        world.check_all();
    });
}

#[test]
fn what_is_withheld_before_it_is_posted_never_goes_up() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false);
        world.fuse.cut.store(true, std::sync::atomic::Ordering::Relaxed);
        world.schedule(3_000).await;
        world.pass(3_600_000);
        world.turn().await;
        world.withhold();
        world.fuse.cut.store(false, std::sync::atomic::Ordering::Relaxed);
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
        let carrier = world.uploader().ledger().carrier(0).unwrap().clone();
        let double = world.double.lock();
        let (_, mined) = double.mined(&carrier.trips[0].id).unwrap();
        let bundle = Bundle::parse(&double.data(&mined.transaction).unwrap()).unwrap();
        let withheld = carrier::unwrap(&bundle.items[0]).unwrap();
        assert!(world.withheld.contains(&withheld.id()));
        assert_eq!(withheld.data_len(), 3_000);
    });
}

#[test]
fn what_is_withheld_while_it_waits_makes_the_bundle_again() {
    block_on(async {
        let drop = Faults::none().with(Fault::DropTransaction, 1_000).until(20);
        let mut world = world(drop, config(), false);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Posted).await;
        let before = world.uploader().ledger().carrier(0).unwrap().clone();
        world.withhold();
        until(&mut world, 0, State::Permanent).await;
        let after = world.uploader().ledger().carrier(0).unwrap().clone();
        assert_ne!(after.data_root, before.data_root);
        assert_eq!(
            after.sunk, before.trips[0].cost,
            "money may be gone for the first one"
        );
        world.check_all();
    });
}

#[test]
fn what_is_withheld_while_later_carriers_are_on_their_way_leaves_one_chain() {
    block_on(async {
        let forget = Faults::none().with(Fault::ForgetItem, 1_000).until(8);
        let mut world = world(forget, config(), true);
        for sequence in 0..3 {
            world.schedule(3_000).await;
            until(&mut world, sequence, State::Posted).await;
        }
        let before = world.uploader().ledger().carrier(0).unwrap().segment_item;
        world.withhold_of(1);
        world.withhold_of(0);
        for sequence in 0..3 {
            until(&mut world, sequence, State::Permanent).await;
        }
        let after = world.uploader().ledger().carrier(0).unwrap().segment_item;
        assert_ne!(after, before, "it was made again");
        world.check_all();
        world.check_comes_back().await;
    });
}

#[test]
fn a_bundlers_item_is_found_in_its_bundle_or_goes_over_the_base_layer_in_time() {
    block_on(async {
        let mut world = world(Faults::none(), config(), true);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Permanent).await;
        let carrier = world.uploader().ledger().carrier(0).unwrap();
        assert_eq!(carrier.trips.len(), 1);
        let trip = &carrier.trips[0];
        assert!(trip.deadline.is_some() && trip.transaction.is_some_and(|id| id != trip.id));
        world.check_all();
    });
    block_on(async {
        let forget = Faults::none().with(Fault::ForgetItem, 1_000);
        let mut world = world(forget, config(), true);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Posted).await;
        let deadline = world.uploader().ledger().carrier(0).unwrap().trips[0]
            .deadline
            .unwrap();
        until(&mut world, 0, State::Permanent).await;
        let settled = world
            .uploader()
            .ledger()
            .carrier(0)
            .unwrap()
            .settled_trip()
            .unwrap()
            .clone();
        assert_eq!(settled.route, crate::upload::note::Route::L1);
        assert!(settled.signed_height + 50 >= deadline && settled.height < deadline);
        world.check_all();
    });
}

#[test]
fn both_routes_at_once_are_followed_to_their_ends() {
    block_on(async {
        let config = Config {
            routes_at_once: 2,
            ..config()
        };
        let mut world = world(Faults::none(), config, true);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Permanent).await;
        blocks(&mut world, 30).await;
        let trips = &world.uploader().ledger().carrier(0).unwrap().trips;
        assert_eq!(trips.len(), 2);
        assert!(
            trips
                .iter()
                .all(|trip| trip.stage >= crate::upload::ledger::Stage::Permanent)
        );
        world.check_all();
    });
}

#[test]
fn the_budget_and_the_wallet_are_bounds() {
    block_on(async {
        let poor = Config {
            budget_winston_per_day: Some(400_000_000),
            ..config()
        };
        let mut world = world(Faults::none(), poor, false);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Mined).await;
        world.schedule(3_000).await;
        blocks(&mut world, 10).await;
        let report = world.uploader().report().unwrap();
        assert!(report.alarms.contains(&Alarm::Budget), "{:?}", report.alarms);
        assert_eq!(world.state_of(1), State::Sealed);
        assert!(report.cost_today <= 400_000_000);
        // The next day has a budget of its own.
        blocks(&mut world, 720).await;
        assert_eq!(world.state_of(1), State::Permanent);
    });
    block_on(async {
        let rules = Rules {
            winston_per_byte: 1 << 90,
            ..Rules::default()
        };
        let rich = Config {
            budget_winston_per_day: None,
            ..config()
        };
        let mut world = World::new(5, Faults::none(), rules, rich, false);
        world.schedule(3_000).await;
        world.pass(3_600_000);
        blocks(&mut world, 2).await;
        let report = world.uploader().report().unwrap();
        assert!(report.alarms.contains(&Alarm::Balance), "{:?}", report.alarms);
        assert_eq!((report.states.sealed.items, report.cost.committed), (2, 0));
    });
}

#[test]
fn a_budget_is_one_budget_whatever_the_clock_does() {
    block_on(async {
        let poor = Config {
            budget_winston_per_day: Some(400_000_000),
            ..config()
        };
        let mut world = world(Faults::none(), poor, false);
        let now_ms = world.now_ms();
        // One record under a clock that is days ahead: all later ones are dated so.
        world.clock_is(now_ms + 3 * 24 * 3_600_000);
        world.schedule(3_000).await;
        world.clock_is(now_ms);
        for _ in 0..4 {
            world.schedule(3_000).await;
            blocks(&mut world, 40).await;
        }
        let report = world.uploader().report().unwrap();
        let total = report.cost.spent + report.cost.committed;
        assert!(total > 0 && total <= 400_000_000, "{total} winston in a day");
        assert_eq!(report.cost_today, total);
        assert!(report.alarms.contains(&Alarm::Budget), "{:?}", report.alarms);
    });
}

#[test]
fn a_clock_that_was_ahead_for_a_moment_stops_nothing() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Mined).await;
        let now_ms = world.now_ms();
        let ten_years_ms = 10 * 365 * 24 * 3_600_000;
        world.clock_is(now_ms + ten_years_ms);
        world.turn().await;
        world.clock_is(now_ms);
        world.turn().await;
        let next_ms = world.next_ms();
        assert!(
            next_ms <= now_ms + world.config.poll_ms,
            "next in {} ms",
            next_ms - now_ms
        );
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
    });
}

#[test]
fn what_peers_refused_counts_and_keeps_the_next_one_waiting_until_it_is_dead() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false);
        world.schedule(3_000).await;
        world
            .fuse
            .is_refusing
            .store(true, std::sync::atomic::Ordering::Relaxed);
        world.pass(60_000);
        world.turn().await;
        let first = world.uploader().ledger().carrier(0).unwrap().trips[0].clone();
        while world.height() < first.signed_height + 45 {
            blocks(&mut world, 1).await;
            let trips = &world.uploader().ledger().carrier(0).unwrap().trips;
            assert_eq!(
                (trips.len(), trips[0].id),
                (1, first.id),
                "no other one is signed"
            );
            assert_eq!(world.uploader().report().unwrap().cost.committed, first.cost);
        }
        world
            .fuse
            .is_refusing
            .store(false, std::sync::atomic::Ordering::Relaxed);
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
    });
}

#[test]
fn a_bundlers_item_signed_while_no_peer_answers_is_not_paid_twice() {
    block_on(async {
        let mut world = world(Faults::none(), config(), true);
        blocks(&mut world, 300).await;
        world.schedule(3_000).await;
        // Nobody tells the height, the bundler answers.
        world
            .fuse
            .is_silent
            .store(true, std::sync::atomic::Ordering::Relaxed);
        until(&mut world, 0, State::Posted).await;
        world
            .fuse
            .is_silent
            .store(false, std::sync::atomic::Ordering::Relaxed);
        until(&mut world, 0, State::Permanent).await;
        let carrier = world.uploader().ledger().carrier(0).unwrap();
        assert_eq!(carrier.trips[0].signed_height, 0);
        assert_eq!(carrier.trips.len(), 1, "{:?}", carrier.trips);
        world.check_all();
    });
}

#[test]
fn a_bundler_that_is_gone_is_forgotten_once_another_route_settled_it() {
    block_on(async {
        let config = Config {
            routes_at_once: 2,
            ..config()
        };
        let forget = Faults::none().with(Fault::ForgetItem, 1_000);
        let mut world = world(forget, config, true);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Posted).await;
        blocks(&mut world, 1).await;
        assert_eq!(world.uploader().ledger().carrier(0).unwrap().trips.len(), 2);
        world.without_bundler();
        until(&mut world, 0, State::Permanent).await;
        blocks(&mut world, 10).await;
        let trips = &world.uploader().ledger().carrier(0).unwrap().trips;
        assert_eq!(trips.len(), 1, "{trips:?}");
        world.check_all();
    });
}

#[test]
fn a_dry_run_asks_prices_and_does_nothing() {
    block_on(async {
        let dry = Config {
            dry_run: true,
            ..config()
        };
        let mut world = world(Faults::none(), dry, false);
        world.schedule(3_000).await;
        world.pass(3_600_000);
        let before = world.double.lock().history_hash();
        world.turn().await;
        let report = world.uploader().report().unwrap();
        let preview = report.preview.unwrap();
        assert_eq!((preview.carriers, preview.route.as_str()), (1, "l1"));
        assert!(preview.winston > 0 && preview.balance > preview.winston);
        assert_eq!(report.states.appended.items, 2, "nothing is sealed");
        assert_eq!(world.double.lock().history_hash(), before, "nothing is posted");
        assert_eq!(world.uploader().ledger().next_sequence(), 0);
    });
}

#[test]
fn one_upstream_leads_to_others_that_take_the_data_and_prove_it() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false).with_upstreams(1);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Posted).await;
        let id = world.uploader().ledger().carrier(0).unwrap().trips[0].id;
        until(&mut world, 0, State::Mined).await;
        let seeded = world.told().into_iter().find_map(|told| match told {
            Told::Moved(moved) if moved.id == id && moved.step == Step::Seeded => Some(moved.by),
            _ => None,
        });
        assert_eq!(seeded.as_deref(), Some("3 peers"));
        until(&mut world, 0, State::Permanent).await;
        let provers = world.told().into_iter().find_map(|told| match told {
            Told::Moved(moved) if moved.id == id && moved.step == Step::Permanent => Some(moved.by),
            _ => None,
        });
        let provers = provers.unwrap();
        assert!(
            !provers.is_empty() && !provers.contains("127.0.0.1:0"),
            "proved by {provers}"
        );
        world.check_all();
    });
    // Peers of peers that have nothing keep nobody waiting for ever.
    block_on(async {
        let mut world = world(Faults::none(), config(), false).with_upstreams(1);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Mined).await;
        world
            .fuse
            .guests_lack_chunks
            .store(true, std::sync::atomic::Ordering::Relaxed);
        blocks(&mut world, 40).await;
        assert_eq!(world.state_of(0), State::Mined, "others are waited for");
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
    });
}

#[test]
fn one_liar_among_three_delays_nothing() {
    block_on(async {
        let drop = Faults::none().with(Fault::DropTransaction, 1_000).until(20);
        let mut world = world(drop, config(), false);
        world
            .fuse
            .is_lied
            .store(true, std::sync::atomic::Ordering::Relaxed);
        blocks(&mut world, 5).await;
        world.schedule(3_000).await;
        until(&mut world, 0, State::Posted).await;
        until(&mut world, 0, State::Permanent).await;
        assert!(world.height() < 50, "posted again once all but the liar lack it");
        world.check_all();
    });
    // Nor does one that says so of what can never be mined any more.
    block_on(async {
        let drop = Faults::none().with(Fault::DropTransaction, 1_000).until(100);
        let mut world = world(drop, config(), false);
        world
            .fuse
            .is_lied
            .store(true, std::sync::atomic::Ordering::Relaxed);
        blocks(&mut world, 5).await;
        world.schedule(3_000).await;
        until(&mut world, 0, State::Permanent).await;
        world.check_all();
    });
}

#[test]
fn peers_that_forget_where_a_transaction_is_make_nothing_unmined() {
    block_on(async {
        let mut world = world(Faults::none(), config(), false);
        world.schedule(3_000).await;
        until(&mut world, 0, State::Mined).await;
        world
            .fuse
            .is_forgotten
            .store(true, std::sync::atomic::Ordering::Relaxed);
        until(&mut world, 0, State::Permanent).await;
        let before = world.uploader().ledger().carrier(0).unwrap().clone();
        blocks(&mut world, 120).await;
        let after = world.uploader().ledger().carrier(0).unwrap().clone();
        assert_eq!(
            (after.state(), &after.trips[0].id),
            (State::Permanent, &before.trips[0].id)
        );
        assert_eq!(after.trips.len(), 1, "it is paid once");
        world
            .fuse
            .is_forgotten
            .store(false, std::sync::atomic::Ordering::Relaxed);
        world.check_all();
    });
}

#[test]
fn peers_of_another_network_are_no_guests() {
    block_on(async {
        let handle = crate::testing::Handle::new(Double::new(Rules::default(), Faults::none()));
        let names = ["own", "guest", "liar", "gone"];
        handle
            .lock()
            .set_addresses(names.map(|name| format!("{name}:1")).into());
        let find = |handle: &crate::testing::Handle| -> Find {
            let handle = handle.clone();
            Arc::new(move |text: &str, namer: &str| {
                assert_eq!(namer, "own:1");
                let (name, transport) = (text, loopback::transport(&handle, 1));
                let transport: Arc<dyn Transport> = match name {
                    "liar:1" => Arc::new(Liar(transport)),
                    "gone:1" => return None,
                    _ => transport,
                };
                Some(Peer::new(name, transport))
            })
        };
        let mut crowd = Crowd::new(vec![Peer::new("own:1", loopback::transport(&handle, 0))]);
        assert_eq!(crowd.look_around(&find(&handle), 8).await, [1]);
        assert_eq!((crowd.takers(), crowd.own(), crowd.quorum()), (2, 1, 1));
        assert_eq!(crowd.peer(1).name(), "guest:1");
        assert_eq!(
            (crowd.others("own:1"), crowd.others("guest:1")),
            (vec![1], vec![0])
        );
        assert_eq!(crowd.rotation(), [0], "a guest's word counts for nothing");
        assert!(crowd.look_around(&find(&handle), 8).await.is_empty());
        assert_eq!(crowd.all(), [0, 1]);
    });
}

/// A peer that says what it likes of a transaction: mined long ago.
struct Liar(Arc<dyn Transport>);

#[async_trait]
impl Transport for Liar {
    async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        let path = request.uri().path().to_owned();
        let lie = match path.rsplit('/').next() {
            Some("status") => {
                json!({ "block_height": 3, "block_indep_hash": "AAAA", "number_of_confirmations": 99 })
            }
            Some("info") => json!({ "network": "x", "height": 1_000_000 }),
            _ if path.starts_with("/price/") => json!(u64::MAX),
            _ => return self.0.send(request, bytes_max).await,
        };
        Ok(Response::new(lie.to_string().into()))
    }
}

#[test]
fn one_liar_is_never_believed() {
    block_on(async {
        let handle = crate::testing::Handle::new(Double::new(Rules::default(), Faults::none()));
        let honest = |number| Peer::new("honest", loopback::transport(&handle, number));
        let liar = || Peer::new("liar", Arc::new(Liar(loopback::transport(&handle, 0))));
        let id = spec::ItemId([4; 32]);
        for peers in [
            vec![liar(), honest(1), honest(2)],
            vec![honest(1), liar(), honest(2)],
            vec![honest(2), honest(1), liar()],
        ] {
            let mut crowd = Crowd::new(peers);
            assert_eq!(crowd.height().await, Some(0));
            assert!(!matches!(crowd.verdict(id, None).await, Verdict::Mined { .. }));
            assert!(crowd.price(1).await.unwrap() < 1 << 40);
        }
        let mut two = Crowd::new(vec![liar(), honest(1)]);
        assert_eq!(two.height().await, Some(0));
        assert_eq!(two.verdict(id, None).await, Verdict::Unclear);
        assert!(two.price(1).await.unwrap() < 1 << 40);
        // Two that lie alike are a quorum, and still prove nothing: chunks do.
        let mut many = Crowd::new(vec![liar(), liar(), honest(1)]);
        assert!(matches!(
            many.verdict(id, None).await,
            Verdict::Mined { height: 3, .. }
        ));
        assert_eq!(many.block(3).await, None);
    });
}
