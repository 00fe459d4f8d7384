//! The compute part of the field's conformance checklist (spec/outcome.md), one test per item.
//!
//! On fakes and a fixture module; items that need a published module are in `aos.rs`.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod fakes;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fakes::*;
use serde_json::{Value, json};
use spec::contract::{Compute, Content, Field};
use spec::{DataItem, ItemParts, ModuleId, ProcessId, Signer};

fn count(outcome: &Value) -> u64 {
    outcome["Output"]["count"]
        .as_u64()
        .unwrap_or_else(|| panic!("{outcome}"))
}

fn cursors(page: &Value) -> Vec<String> {
    let edges = page["edges"].as_array().unwrap_or_else(|| panic!("{page}"));
    edges
        .iter()
        .map(|edge| edge["cursor"].as_str().unwrap().to_owned())
        .collect()
}

fn decoded(cursor: &str) -> Value {
    serde_json::from_slice(&STANDARD.decode(cursor).unwrap()).unwrap()
}

fn ordinates(page: &Value) -> Vec<u64> {
    cursors(page)
        .iter()
        .map(|cursor| decoded(cursor)["ordinate"].as_str().unwrap().parse().unwrap())
        .collect()
}

fn encoded(cursor: &str) -> String {
    wire::server::encode(cursor)
}

/// A process with some evaluated messages; names of actions that fail are given as they are.
async fn evaluated(world: &World, actions: &[&str]) -> ProcessId {
    let process = world.scheduler.spawn(MODULE, &[]);
    for action in actions {
        let message = world.scheduler.send(process, action, &[]);
        world.outcome(process, message).await;
    }
    process
}

#[tokio::test]
async fn item_59_result_waits_until_the_message_is_evaluated() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let messages: Vec<_> = (0..300)
        .map(|_| world.scheduler.send(process, "x", &[]))
        .collect();
    // Nothing was evaluated yet: the last one waits for all before it, the boot included.
    assert_eq!(count(&world.outcome(process, messages[299]).await), 301);
    assert_eq!(count(&world.outcome(process, messages[7]).await), 9);
}

#[tokio::test]
async fn item_60_the_result_of_the_process_is_its_boot() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let boot = world.outcome(process, process).await;
    assert_eq!(count(&boot), 1);
    assert_eq!(boot["Output"]["message"]["Id"], process.to_string());
    assert_eq!(boot["Output"]["message"]["Target"], process.to_string());
    assert_eq!(boot["Output"]["message"]["Data"], "boot");
}

#[tokio::test]
async fn item_61_a_missing_process_id_is_a_json_error() {
    let world = World::new();
    let (status, body) = world.get(&format!("/result/{}", ProcessId([5; 32]))).await;
    assert_eq!(status, 400);
    assert_eq!(
        body,
        json!({"error": "'processId': a process-id query parameter is required."})
    );
    let (status, body) = world.get("/result/nonsense?process-id=nonsense").await;
    assert!(status == 400 && body["error"].as_str().unwrap().contains("nonsense"));
    let unknown = ProcessId([5; 32]);
    let (status, body) = world
        .get(&format!("/result/{unknown}?process-id={unknown}"))
        .await;
    assert!(status == 404 && body["error"].is_string(), "{body}");
}

#[tokio::test]
async fn item_62_no_busy_is_accepted() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let (status, _) = world
        .get(&format!("/result/{process}?process-id={process}&no-busy=1"))
        .await;
    assert_eq!(status, 200);
}

#[tokio::test]
async fn item_63_the_result_of_an_assigned_message_is_per_process() {
    let world = World::new();
    let (first, second) = (
        world.scheduler.spawn(MODULE, &[]),
        world.scheduler.spawn(MODULE, &[]),
    );
    let message = world.scheduler.send(first, "x", &[]);
    let item = world.scheduler.entry(first, 1).item().unwrap().clone();
    world.scheduler.send(second, "y", &[]);
    world.permanent.hold(item);
    world
        .scheduler
        .put(second, Content::Elsewhere, Some(message), vec![]);

    let (own, assigned) = (
        world.outcome(first, message).await,
        world.outcome(second, message).await,
    );
    assert_eq!((count(&own), count(&assigned)), (2, 3));
    let seen = &assigned["Output"]["message"];
    assert_eq!(seen["Id"], message.to_string());
    assert_eq!(
        seen["Target"],
        first.to_string(),
        "an assignment shows the item's own target"
    );
    // The assignment's own id names the same evaluation.
    let assignment = world.scheduler.entry(second, 2).assignment.item.id();
    assert_eq!(world.outcome(second, assignment).await, assigned);
}

#[tokio::test]
async fn item_63_excluded_fields_are_not_there() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let parts = ItemParts {
        tags: tags(&[("From-Process", "P")]),
        anchor: Some([b'x'; 32]),
        data: "d".into(),
        target: None,
    };
    let item = DataItem::sign(&parts, &user()).unwrap();
    let owner = item.signer_text().to_string();
    let id = world.permanent.hold(item);
    world
        .scheduler
        .put(process, Content::Elsewhere, Some(id), Field::ALL.to_vec());
    let outcome = world.outcome(process, id).await;
    let seen = outcome["Output"]["message"].as_object().unwrap().clone();
    for key in ["Data", "Signature", "Anchor", "Forwarded-By"] {
        assert!(!seen.contains_key(key), "{key}");
    }
    assert_eq!(
        (&seen["Tags"], &seen["Target"], &seen["From"]),
        (&json!([]), &json!(""), &json!(owner))
    );
}

#[tokio::test]
async fn item_64_an_error_is_answered_and_changes_nothing() {
    let world = World::new();
    let process = evaluated(&world, &["x"]).await;
    let before = world.root(process).await;
    let failed = world.scheduler.send(process, "fail", &[]);
    let outcome = world.outcome(process, failed).await;
    let expected = json!({"Messages": [], "Assignments": [], "Spawns": [], "Output": "lost", "GasUsed": 0, "Error": "boom"});
    assert_eq!(outcome, expected);
    assert_eq!(world.root(process).await, before);
    let next = world.scheduler.send(process, "x", &[]);
    assert_eq!(count(&world.outcome(process, next).await), 3);
}

#[tokio::test]
async fn item_65_traps_no_gas_and_no_memory_are_outcomes() {
    let world = World::new();
    let process = world.scheduler.spawn(METERED, &[]);
    world.outcome(process, process).await;
    for action in ["trap", "spin", "hog", "throw", "rubbish"] {
        let before = world.root(process).await;
        let message = world.scheduler.send(process, action, &[]);
        let outcome = world.outcome(process, message).await;
        assert!(outcome["Error"].is_string(), "{action}: {outcome}");
        assert_eq!(world.root(process).await, before, "{action}");
        if action == "spin" {
            assert_eq!(outcome["Error"], "out of gas!");
        }
    }
    let next = world.scheduler.send(process, "x", &[]);
    assert_eq!(count(&world.outcome(process, next).await), 2);
}

#[tokio::test]
async fn item_65_a_message_too_big_for_the_module_is_an_outcome() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let parts = ItemParts {
        target: Some(process.0),
        data: vec![b'x'; 2 << 20].into(),
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &user()).unwrap();
    let id = item.id();
    world
        .scheduler
        .put(process, Content::Item(item), Some(id), vec![]);
    assert!(world.outcome(process, id).await["Error"].is_string());
    let next = world.scheduler.send(process, "x", &[]);
    assert_eq!(count(&world.outcome(process, next).await), 2);
}

#[tokio::test]
async fn item_66_gas_used_is_a_number() {
    let world = World::new();
    let (plain, metered) = (
        world.scheduler.spawn(MODULE, &[]),
        world.scheduler.spawn(METERED, &[]),
    );
    assert_eq!(world.outcome(plain, plain).await["GasUsed"], 0);
    assert!(world.outcome(metered, metered).await["GasUsed"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn item_67_results_have_the_shape_clients_read() {
    let world = World::new();
    let process = evaluated(&world, &["send"]).await;
    let (status, page) = world.get(&format!("/results/{process}")).await;
    assert_eq!(status, 200);
    assert_eq!(page["pageInfo"], json!({"hasNextPage": false}));
    let node = page["edges"][1]["node"].as_object().unwrap();
    let mut keys: Vec<_> = node.keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(keys, ["Assignments", "Messages", "Output", "Spawns"]);
    assert_eq!(node["Messages"][0]["Tags"], json!([{"name": "N", "value": 1}]));
    let at = world.scheduler.entry(process, 1).assignment.tick.timestamp_ms;
    let expected = json!({"timestamp": at, "ordinate": "1", "cron": null, "sort": "ASC"});
    assert_eq!(decoded(&cursors(&page)[1]), expected);
}

#[tokio::test]
async fn item_68_from_is_exclusive_and_the_last_cursor_gives_nothing() {
    let world = World::new();
    let process = evaluated(&world, &["a", "b", "c"]).await;
    let (_, page) = world.get(&format!("/results/{process}")).await;
    let cursors = cursors(&page);
    let (_, rest) = world
        .get(&format!("/results/{process}?from={}", encoded(&cursors[1])))
        .await;
    assert_eq!(ordinates(&rest), [2, 3]);
    for direction in ["", "&sort=ASC", "&sort=DESC"] {
        let (_, none) = world
            .get(&format!(
                "/results/{process}?from={}{direction}",
                encoded(&cursors[3])
            ))
            .await;
        assert_eq!(none, json!({"pageInfo": {"hasNextPage": false}, "edges": []}));
    }
    let (_, until) = world
        .get(&format!("/results/{process}?to={}", encoded(&cursors[1])))
        .await;
    assert_eq!(ordinates(&until), [0, 1]);
    let (status, error) = world.get(&format!("/results/{process}?from=nonsense")).await;
    assert!(status == 400 && error["error"].as_str().unwrap().contains("nonsense"));
}

#[tokio::test]
async fn item_69_a_feed_begun_at_the_newest_shows_each_entry_once() {
    let world = World::new();
    let process = evaluated(&world, &["a"; 8]).await;
    let (_, newest) = world.get(&format!("/results/{process}?limit=5&sort=DESC")).await;
    assert_eq!(ordinates(&newest), [8, 7, 6, 5, 4]);
    assert_eq!(newest["pageInfo"]["hasNextPage"], true);
    let mut cursor = cursors(&newest)[0].clone();
    assert_eq!(decoded(&cursor)["sort"], "DESC");
    let mut last = 0;
    for _ in 0..7 {
        last = world.scheduler.send(process, "b", &[]).0[0];
    }
    let latest = world.scheduler.entry(process, 15).assignment.message.unwrap();
    assert_eq!(latest.0[0], last);
    world.outcome(process, latest).await;
    let mut seen = Vec::new();
    for _ in 0..4 {
        let (_, page) = world
            .get(&format!(
                "/results/{process}?limit=3&sort=ASC&from={}",
                encoded(&cursor)
            ))
            .await;
        seen.extend(ordinates(&page));
        cursor = cursors(&page).last().unwrap_or(&cursor).clone();
    }
    assert_eq!(seen, [9, 10, 11, 12, 13, 14, 15]);
}

#[tokio::test]
async fn item_70_lists_leave_errors_out_before_they_are_cut() {
    let world = World::new();
    let process = evaluated(&world, &["fail", "a", "trap", "b", "throw"]).await;
    let (_, page) = world.get(&format!("/results/{process}?limit=2")).await;
    assert_eq!(
        (ordinates(&page), &page["pageInfo"]["hasNextPage"]),
        (vec![0, 2], &json!(true))
    );
    let (_, rest) = world
        .get(&format!(
            "/results/{process}?limit=2&from={}",
            encoded(&cursors(&page)[1])
        ))
        .await;
    assert_eq!(
        (ordinates(&rest), &rest["pageInfo"]["hasNextPage"]),
        (vec![4], &json!(false))
    );
}

#[tokio::test]
async fn item_71_slots_sort_as_numbers() {
    let world = World::new();
    let process = evaluated(&world, &["a"; 11]).await;
    let (_, page) = world.get(&format!("/results/{process}")).await;
    assert_eq!(ordinates(&page), (0..12).collect::<Vec<_>>());
}

#[tokio::test]
async fn item_72_a_page_reads_no_more_than_it_shows() {
    let world = World::new();
    let process = evaluated(&world, &["a"; 40]).await;
    let (_, all) = world.get(&format!("/results/{process}?limit=1000")).await;
    let cursor = encoded(&cursors(&all)[38]);
    for _ in 0..200 {
        let (_, page) = world
            .get(&format!("/results/{process}?from={cursor}&limit=1"))
            .await;
        assert_eq!(
            (ordinates(&page), &page["pageInfo"]["hasNextPage"]),
            (vec![39], &json!(true))
        );
    }
    let (_, capped) = world.get(&format!("/results/{process}?limit=99999999")).await;
    assert_eq!(capped["edges"].as_array().unwrap().len(), 41);
}

#[tokio::test]
async fn item_73_a_dry_run_sees_the_latest_state_and_changes_nothing() {
    let world = World::new();
    let process = evaluated(&world, &["a"]).await;
    // Not evaluated yet when the dry run comes.
    let message = world.scheduler.send(process, "b", &[]);
    let body = r#"{"Id":"1234","Owner":"me","Anchor":"0","Data":"1234","Tags":[{"name":"Action","value":"x"},{"name":"Owner","value":"you"}]}"#;
    let (status, first) = world.dry_run(process, "", body).await;
    assert_eq!((status, count(&first)), (200, 4));
    let before = world.root(process).await;
    let (_, again) = world.dry_run(process, "&x=1", body).await;
    assert_eq!(again, first);
    assert_eq!(world.root(process).await, before);
    assert_eq!(count(&world.outcome(process, message).await), 3);

    let tick = world.scheduler.entry(process, 2).assignment.tick;
    let seen = &first["Output"]["message"];
    let expected = json!({
        "Id": "1234", "Owner": "me", "From": "me", "Anchor": "0", "Data": "1234", "Target": process.to_string(),
        "Tags": [{"name": "Action", "value": "x"}], "Timestamp": tick.timestamp_ms,
        "Block-Height": tick.block_height, "Cron": false, "Read-Only": true,
    });
    assert_eq!(*seen, expected);
    for (body, names) in [
        ("{}", "'Owner': Required."),
        (r#"{"Owner":""}"#, "'Owner'"),
        ("[]", "object"),
        ("nonsense", "JSON"),
    ] {
        let (status, error) = world.dry_run(process, "", body).await;
        assert!(
            status == 400 && error["error"].as_str().unwrap().contains(names),
            "{error}"
        );
    }
}

#[tokio::test]
async fn item_73_a_dry_run_can_look_back_and_fails_without_a_trace() {
    let world = World::new();
    let process = evaluated(&world, &["a", "b"]).await;
    let first = world.scheduler.entry(process, 1).assignment.message.unwrap();
    let mine = r#"{"Owner":"me","Tags":[{"name":"From-Process","value":"Q"}]}"#;
    let (_, past) = world.dry_run(process, &format!("&to={first}"), mine).await;
    assert_eq!(count(&past), 3);
    let seen = &past["Output"]["message"];
    assert_eq!(
        (&seen["From"], &seen["Forwarded-By"]),
        (&json!("Q"), &json!("me"))
    );
    let (_, at_boot) = world.dry_run(process, &format!("&to={process}"), mine).await;
    assert_eq!(count(&at_boot), 2);
    let (status, _) = world
        .dry_run(process, &format!("&to={}", ModuleId([1; 32])), mine)
        .await;
    assert_eq!(status, 404);
    for action in ["trap", "fail", "throw"] {
        let body = format!(r#"{{"Owner":"me","Tags":[{{"name":"Action","value":"{action}"}}]}}"#);
        let (status, outcome) = world.dry_run(process, "", &body).await;
        assert!(status == 200 && outcome["Error"].is_string(), "{outcome}");
    }
    let (_, now) = world.dry_run(process, "", mine).await;
    assert_eq!(count(&now), 4);
}

#[tokio::test]
async fn item_74_errors_are_json() {
    let world = World::new();
    let unknown = ProcessId([9; 32]);
    for path in [
        format!("/result/{unknown}?process-id={unknown}"),
        format!("/results/{unknown}"),
        format!("/cron/{unknown}"),
        format!("/state/{unknown}"),
        "/results/short".into(),
        format!("/results/{unknown}?limit=many"),
        format!("/results/{unknown}?sort=up"),
    ] {
        let (status, body) = world.get(&path).await;
        assert!(
            (400..500).contains(&status) && body["error"].is_string(),
            "{path}: {status} {body}"
        );
    }
}

#[tokio::test]
async fn item_75_state_is_the_memory_with_three_headers() {
    let world = World::new();
    let process = evaluated(&world, &["a", "b"]).await;
    let (status, headers, memory) = world.raw(&format!("/state/{process}")).await;
    assert_eq!((status, memory.len() % 65_536), (200, 0));
    assert_eq!(memory[512], 3, "the fixture's count");
    let tick = world.scheduler.entry(process, 2).assignment.tick;
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/octet-stream");
    assert_eq!(header("last-timestamp"), tick.timestamp_ms.to_string());
    assert_eq!(header("last-ordinate"), "2");
    assert_eq!(header("last-block-height"), tick.block_height.to_string());

    let before = world.scheduler.entry(process, 1).assignment.tick.timestamp_ms;
    let (_, headers, memory) = world.raw(&format!("/state/{process}?to={before}")).await;
    assert_eq!(
        (memory[512], headers["last-ordinate"].to_str().unwrap()),
        (2, "1")
    );
    assert_eq!(world.raw(&format!("/state/{process}?to=5")).await.0, 400);
}

/// A process with crons, whose log has messages at 12 s and 25 s, and whose present is at 40 s.
async fn with_crons(world: &World) -> ProcessId {
    let process = world.scheduler.spawn(
        MODULE,
        &[
            ("Cron-Interval", "10-seconds"),
            ("Cron-Tag-Action", "Tick"),
            ("Cron-Interval", "1-block"),
            ("Cron-Tag-Action", "Block"),
            ("Cron-Interval", "5-seconds"),
        ],
    );
    world.scheduler.pass(12_000);
    world.scheduler.send(process, "a", &[]);
    world.scheduler.pass(13_000);
    world.scheduler.send(process, "b", &[]);
    world.scheduler.pass(15_000);
    process
}

#[tokio::test]
async fn item_76_the_cron_route_lists_crons_only() {
    let world = World::new();
    let process = with_crons(&world).await;
    let (status, page) = world.get(&format!("/cron/{process}")).await;
    assert_eq!(status, 200);
    let names: Vec<_> = cursors(&page)
        .iter()
        .map(|cursor| decoded(cursor)["cron"].clone())
        .collect();
    assert!(
        names.len() == 16 && names.iter().all(Value::is_string),
        "{names:?}"
    );
    let (_, two) = world.get(&format!("/cron/{process}?limit=2")).await;
    assert_eq!(two["pageInfo"]["hasNextPage"], true);
    let (_, rest) = world
        .get(&format!(
            "/cron/{process}?from={}&limit=5000",
            encoded(&cursors(&two)[1])
        ))
        .await;
    assert_eq!(rest["edges"].as_array().unwrap().len(), 14);
}

#[tokio::test]
async fn item_77_crons_fire_at_exact_offsets_blocks_first_shorter_first() {
    let world = World::new();
    let process = with_crons(&world).await;
    let (_, page) = world.get(&format!("/cron/{process}")).await;
    let origin = world.scheduler.entry(process, 0).assignment.tick.timestamp_ms;
    let fired: Vec<_> = cursors(&page)
        .iter()
        .map(|cursor| {
            let cursor = decoded(cursor);
            (
                cursor["timestamp"].as_u64().unwrap() - origin,
                cursor["ordinate"].as_str().unwrap().to_owned(),
                cursor["cron"].as_str().unwrap().to_owned(),
            )
        })
        .collect();
    let fired: Vec<_> = fired
        .iter()
        .map(|(ms, slot, cron)| (*ms, slot.as_str(), cron.as_str()))
        .collect();
    // Blocks begin every 10 s; the process begins 3.001 s into one.
    let expected = [
        (5_000, "0", "2-5-seconds"),
        (6_999, "0", "1-1-block"),
        (10_000, "0", "2-5-seconds"),
        (10_000, "0", "0-10-seconds"),
        (15_000, "1", "2-5-seconds"),
        (16_999, "1", "1-1-block"),
        (20_000, "1", "2-5-seconds"),
        (20_000, "1", "0-10-seconds"),
        (25_000, "1", "2-5-seconds"),
        (26_999, "2", "1-1-block"),
        (30_000, "2", "2-5-seconds"),
        (30_000, "2", "0-10-seconds"),
        (35_000, "2", "2-5-seconds"),
        (36_999, "2", "1-1-block"),
        (40_000, "2", "2-5-seconds"),
        (40_000, "2", "0-10-seconds"),
    ];
    assert_eq!(fired, expected);
}

#[tokio::test]
async fn item_77_live_catching_up_equals_a_replay() {
    let mut world = World::new();
    let process = world.scheduler.spawn(
        MODULE,
        &[("Cron-Interval", "1-second"), ("Cron-Interval", "1-block")],
    );
    for turn in 0..12 {
        world.scheduler.pass(1_700);
        world.get(&format!("/cron/{process}")).await;
        if turn % 3 == 0 {
            let action = if turn % 2 == 0 { "fail" } else { "x" };
            let message = world.scheduler.send(process, action, &[]);
            world.outcome(process, message).await;
        }
    }
    let live = world.get(&format!("/cron/{process}?limit=1000")).await;
    let (lived, root) = (
        world.get(&format!("/results/{process}?limit=1000")).await,
        world.root(process).await,
    );
    for keep_cache in [true, false] {
        world.restart(keep_cache).await;
        assert_eq!(world.get(&format!("/cron/{process}?limit=1000")).await, live);
        assert_eq!(world.get(&format!("/results/{process}?limit=1000")).await, lived);
        assert_eq!(world.root(process).await, root);
    }
}

#[tokio::test]
async fn item_78_a_cron_message_is_from_the_owner_and_has_no_id() {
    let world = World::new();
    let process = with_crons(&world).await;
    let (_, page) = world.get(&format!("/cron/{process}")).await;
    let owner = Signer::ed25519(&[7; 32]);
    let owner = DataItem::sign(&ItemParts::default(), &owner)
        .unwrap()
        .signer_text()
        .to_string();
    let output = &page["edges"][3]["node"]["Output"];
    let at = decoded(&cursors(&page)[3])["timestamp"].as_u64().unwrap();
    let expected = json!({
        "Owner": owner, "From": owner, "Target": process.to_string(), "Tags": [{"name": "Action", "value": "Tick"}],
        "Timestamp": at, "Block-Height": tick_at(at).block_height, "Cron": true,
    });
    assert_eq!(output["message"], expected);
    assert_eq!(output["env"]["Process"]["Id"], process.to_string());
}

#[tokio::test]
async fn item_79_a_message_has_exactly_its_keys_and_nobody_says_who_he_is() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let own = [
        ("From-Process", "Q"),
        ("Owner", "boss"),
        ("From", "boss"),
        ("owner", "kept"),
    ];
    let message = world.scheduler.send(process, "x", &own);
    let outcome = world.outcome(process, message).await;
    let entry = world.scheduler.entry(process, 1);
    let (item, assignment) = (entry.item().unwrap(), &entry.assignment);
    let owner = item.signer_text().to_string();
    let tag = |name: &str, value: &str| json!({"name": name, "value": value});
    let expected = json!({
        "Id": message.to_string(), "Signature": spec::ids::base64url(item.signature()), "Data": "data",
        "Owner": owner, "Target": process.to_string(), "Anchor": "a".repeat(32), "From": "Q", "Forwarded-By": owner,
        "Tags": [tag("Data-Protocol", "ao"), tag("Type", "Message"), tag("Action", "x"), tag("From-Process", "Q"),
            tag("owner", "kept"), tag("Count", "1")],
        "Epoch": 0, "Nonce": 1, "Timestamp": assignment.tick.timestamp_ms,
        "Block-Height": assignment.tick.block_height, "Hash-Chain": assignment.chain.to_string(),
        "Cron": false, "Read-Only": false,
    });
    assert_eq!(outcome["Output"]["message"], expected);
    let module = &outcome["Output"]["env"]["Module"];
    assert_eq!(module["Id"], MODULE.to_string());
    assert!(module["Owner"].is_string() && module["Tags"].is_array());
}

#[tokio::test]
async fn item_79_an_ethereum_owner_reads_as_its_address() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let signer = Signer::ethereum(&[5; 32]).unwrap();
    let message = world.scheduler.send_as(process, "x", &[], &signer);
    let outcome = world.outcome(process, message).await;
    let owner = outcome["Output"]["message"]["Owner"].as_str().unwrap();
    assert!(owner.starts_with("0x") && owner.len() == 42, "{owner}");
    assert_eq!(outcome["Output"]["message"]["From"], owner);
}

#[tokio::test]
async fn item_80_the_process_item_is_evaluated_first() {
    let world = World::new();
    let process = world.scheduler.spawn(MODULE, &[]);
    let message = world.scheduler.send(process, "x", &[]);
    assert_eq!(count(&world.outcome(process, message).await), 2);
    let (_, page) = world.get(&format!("/results/{process}")).await;
    assert_eq!(ordinates(&page), [0, 1]);
    assert_eq!(page["edges"][0]["node"]["Output"]["message"]["Nonce"], 0);
}

#[tokio::test]
async fn item_83_a_second_node_and_a_restart_have_the_same_memory() {
    let mut world = World::new();
    let process = evaluated(&world, &["a", "fail", "b", "trap", "hog", "c"]).await;
    let other = World {
        dir: tempfile::tempdir().unwrap(),
        ..World::new()
    };
    let other = fakes::open(
        &world.config,
        &world.scheduler,
        &world.permanent,
        other.dir.path(),
    );
    let state = world.cu.state(process, None).await.unwrap();
    let second = other.state(process, None).await.unwrap();
    assert_eq!((second.root, second.slot), (state.root, state.slot));
    assert!(second.memory == state.memory);
    for keep_cache in [true, false] {
        world.restart(keep_cache).await;
        let again = world.cu.state(process, None).await.unwrap();
        assert!(again.root == state.root && again.memory == state.memory);
    }
}

#[tokio::test]
async fn item_86_what_cannot_run_here_is_refused_with_413_or_422() {
    let world = World::new();
    let with = |name: &str, value: Option<&str>| {
        let mut all = module_tags("wasm32-unknown-emscripten4");
        all.retain(|tag| tag.name != name.as_bytes());
        all.extend(value.map(|value| spec::Tag::new(name.to_owned(), value)));
        all
    };
    let cases = [
        ("Module-Format", Some("wasm128"), 422),
        ("Module-Format", None, 422),
        ("Input-Encoding", Some("XML-1"), 422),
        ("Output-Encoding", None, 422),
        ("Extension", Some("Unheard-Of"), 422),
        ("Memory-Limit", None, 413),
        ("Memory-Limit", Some("9-tb"), 413),
        ("Memory-Limit", Some("lots"), 413),
        ("Compute-Limit", None, 413),
        ("Compute-Limit", Some("9000000000001"), 413),
    ];
    for (index, (name, value, expected)) in cases.into_iter().enumerate() {
        let module = ModuleId([100 + index as u8; 32]);
        world
            .permanent
            .register(module, fakes::module::wasm(), with(name, value));
        let process = world.scheduler.spawn(module, &[]);
        let (status, body) = world
            .get(&format!("/result/{process}?process-id={process}"))
            .await;
        assert_eq!(status, expected, "{name} {value:?}: {body}");
        assert!(body["error"].as_str().unwrap().contains(name), "{body}");
        // Nothing about it is remembered: once the module is right, the process runs.
        world.permanent.register(
            module,
            fakes::module::wasm(),
            module_tags("wasm32-unknown-emscripten4"),
        );
        assert_eq!(count(&world.outcome(process, process).await), 1);
    }
    let process = world.scheduler.spawn(MODULE, &[("Memory-Limit", "64-gb")]);
    assert_eq!(
        world
            .get(&format!("/result/{process}?process-id={process}"))
            .await
            .0,
        413
    );
}

#[tokio::test]
async fn root_shows_the_address() {
    let world = World::new();
    let (status, body) = world.get("/").await;
    assert_eq!(
        (status, body),
        (200, json!({"address": "address", "timestamp": BEGIN_MS}))
    );
}
