//! The messenger's items of the conformance checklist, each by its number, through its own routes.
//!
//! Not here: whole clients, and what needs a real scheduler or compute unit.

use std::sync::Arc;

use crate::world::{MODULE, World, settle, until};
use axum::body::Body;
use axum::http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use mu::Mu;
use serde_json::{Value, json};
use spec::contract::{Field, Scheduler};
use spec::{DataItem, ItemParts, ProcessId, Signer, Tag};
use tower::ServiceExt;

struct Stage {
    world: Arc<World>,
    mu: Arc<Mu>,
    _dir: tempfile::TempDir,
}

fn stage() -> Stage {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let mu = world.messenger(dir.path());
    Stage { world, mu, _dir: dir }
}

impl Stage {
    async fn send(&self, request: Request<Body>) -> Response<Body> {
        let limits = wire::server::Limits::default();
        wire::server::harden(mu::http::router(self.mu.clone()), &limits)
            .oneshot(request)
            .await
            .unwrap()
    }

    async fn call(&self, method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request
            .header("content-type", "application/octet-stream")
            .body(body.into())
            .unwrap();
        let response = self.send(request).await;
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn json(&self, method: &str, path: &str, body: impl Into<Body>) -> (StatusCode, Value) {
        let (status, text) = self.call(method, path, body).await;
        (
            status,
            serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")),
        )
    }

    /// Posts an item and waits until all that follows is done.
    async fn push(&self, item: &DataItem) {
        let (status, body) = self.json("POST", "/", item.bytes().clone()).await;
        assert_eq!(status, StatusCode::ACCEPTED, "{body}");
        settle(&self.mu).await;
    }

    /// Lets `from` send one message of this JSON, and gives what `to` received.
    async fn relay(&self, message: Value) -> (ProcessId, DataItem, DataItem) {
        let (from, to) = (self.world.process().await, self.world.process().await);
        let mut message = message;
        message["Target"] = json!(to.to_string());
        let cause = self
            .world
            .message(from, &json!({ "Messages": [message] }).to_string());
        self.push(&cause).await;
        let received = self.world.log_of(to);
        assert_eq!(received.len(), 1);
        (from, cause, received[0].clone())
    }
}

fn tags_of<'a>(item: &'a DataItem, name: &'a str) -> Vec<&'a str> {
    spec::tags::all(item.tags(), name).collect()
}

fn message_to(target: ProcessId, tags: Value) -> Value {
    json!({ "Target": target.to_string(), "Tags": tags, "Data": "x" })
}

#[tokio::test]
async fn item_09_post_answers_2xx_json_with_message_and_id() {
    let stage = stage();
    let item = stage.world.message(stage.world.process().await, "");
    let (status, body) = stage.json("POST", "/", item.bytes().clone()).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_eq!(
        body,
        json!({ "message": "Processing DataItem", "id": item.id().to_string() })
    );
}

#[tokio::test]
async fn item_10_the_assignment_exists_when_the_answer_comes() {
    let stage = stage();
    let process = stage.world.process().await;
    let item = stage.world.message(process, "");
    stage.json("POST", "/", item.bytes().clone()).await;
    let entry = Scheduler::message(&*stage.world, process, item.id())
        .await
        .unwrap();
    assert_eq!(entry.assignment.slot, 1);
}

#[tokio::test]
async fn item_11_a_spawn_answers_with_the_process_id() {
    let stage = stage();
    let item = stage.world.process_item(&[]);
    let (_, body) = stage.json("POST", "/", item.bytes().clone()).await;
    assert_eq!(
        (&body["processId"], &body["id"]),
        (&body["id"], &json!(item.id().to_string()))
    );
}

#[tokio::test]
async fn item_12_assign_answers_with_a_string_id() {
    let stage = stage();
    let (a, b) = (stage.world.process().await, stage.world.process().await);
    let item = stage.world.message(a, "");
    stage.push(&item).await;
    let path = format!("/?process-id={b}&assign={}", item.id());
    let (status, body) = stage.json("POST", &path, "").await;
    assert_eq!(
        (status, &body["message"]),
        (StatusCode::ACCEPTED, &json!("Processing Assignment"))
    );
    assert_eq!(
        body["id"],
        json!(stage.world.entries(b)[1].assignment.item.id().to_string())
    );
}

#[tokio::test]
async fn item_13_half_an_assignment_is_refused_in_json() {
    let stage = stage();
    let id = stage.world.process().await;
    for path in [format!("/?process-id={id}"), format!("/?assign={id}")] {
        let (status, body) = stage.json("POST", &path, "").await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(
            body["error"].as_str().unwrap().contains("process-id and assign"),
            "{body}"
        );
    }
}

#[tokio::test]
async fn item_14_base_layer_needs_no_value_and_exclude_is_a_list() {
    let stage = stage();
    let (a, b) = (stage.world.process().await, stage.world.process().await);
    let item = stage.world.message(a, "");
    stage.push(&item).await;
    let path = format!(
        "/?process-id={b}&assign={}&base-layer&exclude=Data,Tags",
        item.id()
    );
    assert_eq!(stage.json("POST", &path, "").await.0, StatusCode::ACCEPTED);
    assert_eq!(
        stage.world.entries(b)[1].assignment.exclude,
        [Field::Data, Field::Tags]
    );
    let path = format!("/?process-id={b}&assign={}&exclude=Nonsense", item.id());
    let (status, body) = stage.json("POST", &path, "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("`Nonsense`"));
}

#[tokio::test]
async fn item_15_a_post_is_never_redirected() {
    let stage = stage();
    let process = stage.world.process().await;
    let item = stage.world.message(process, "");
    for path in ["/", "/?a=b", "/nowhere", "/monitor/x"] {
        let (status, _) = stage.call("POST", path, item.bytes().clone()).await;
        assert!(!status.is_redirection(), "{path}: {status}");
    }
}

#[tokio::test]
async fn item_16_double_and_missing_slashes_reach_the_same_route() {
    let stage = stage();
    let process = stage.world.process().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let limits = wire::server::Limits::default();
    let router = wire::server::harden(mu::http::router(stage.mu.clone()), &limits);
    tokio::spawn(wire::server::serve(
        listener,
        router,
        limits,
        std::future::pending(),
    ));
    let http = wire::client::Http::new(&base, &Default::default()).unwrap();
    let item = stage.world.message(process, "");
    let monitor = format!("//monitor/{process}/");
    for path in ["", "/", "//", &monitor] {
        let item = if path.contains("monitor") {
            stage.world.item(Some(process), &[], " ")
        } else {
            item.clone()
        };
        let reply = http
            .post(path, "application/octet-stream", item.bytes().clone())
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(
            reply.status < 300 || text.contains("already exists"),
            "`{path}`: {} {text}",
            reply.status
        );
    }
}

#[tokio::test]
async fn item_17_monitor_twice_then_unmonitor_with_a_body() {
    let stage = stage();
    let (process, to) = (stage.world.process().await, stage.world.process().await);
    let path = format!("/monitor/{process}");
    let item = DataItem::sign(
        &ItemParts {
            target: Some(process.0),
            data: " ".into(),
            ..ItemParts::default()
        },
        &stage.world.user,
    )
    .unwrap();
    let expected = (StatusCode::OK, "Monitoring process".to_owned());
    assert_eq!(stage.call("POST", &path, item.bytes().clone()).await, expected);
    assert_eq!(stage.call("POST", &path, item.bytes().clone()).await, expected);
    let outcome = json!({ "Messages": [message_to(to, json!([]))] }).to_string();
    stage.world.fire(process, "0-1-second", &outcome);
    until("the cron is pushed", || stage.world.log_of(to).len() == 1).await;
    let expected = (StatusCode::OK, "Process deleted".to_owned());
    assert_eq!(stage.call("DELETE", &path, item.bytes().clone()).await, expected);
    let stranger = DataItem::sign(&ItemParts::default(), &Signer::ed25519(&[77; 32])).unwrap();
    assert_eq!(
        stage.call("POST", &path, item.bytes().clone()).await.0,
        StatusCode::OK
    );
    assert_eq!(
        stage.call("DELETE", &path, stranger.bytes().clone()).await.0,
        StatusCode::BAD_REQUEST
    );
    assert_eq!(
        stage.call("DELETE", &path, item.bytes().clone()).await.0,
        StatusCode::OK
    );
}

#[tokio::test]
async fn item_18_any_origin_may_call() {
    let stage = stage();
    for method in ["GET", "POST", "DELETE"] {
        let request = Request::builder()
            .method("OPTIONS")
            .uri("/")
            .header("origin", "https://example.org")
            .header("access-control-request-method", method)
            .header("access-control-request-headers", "content-type,accept");
        let response = stage.send(request.body(Body::empty()).unwrap()).await;
        assert!(response.status().is_success());
        let header = |name: &str| response.headers()[name].to_str().unwrap().to_lowercase();
        assert!(["*", "https://example.org"].contains(&header("access-control-allow-origin").as_str()));
        assert!(header("access-control-allow-headers").contains("content-type"));
        assert!(header("access-control-allow-methods").contains(&method.to_lowercase()));
    }
}

#[tokio::test]
async fn item_19_garbage_and_forgeries_are_refused_in_json() {
    let stage = stage();
    let good = stage.world.message(stage.world.process().await, "");
    let mut forged = good.bytes().to_vec();
    *forged.last_mut().unwrap() ^= 1;
    let mut forged_head = good.bytes().to_vec();
    forged_head[5] ^= 1;
    for body in [
        vec![],
        b"garbage".to_vec(),
        forged_head,
        good.bytes()[..90].to_vec(),
    ] {
        let (status, body) = stage.json("POST", "/", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(!body["error"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn item_20_the_wrong_tag_is_named() {
    let stage = stage();
    let process = stage.world.process().await;
    let cases: [(&[(&str, &str)], &str); 4] = [
        (&[("Type", "Message")], "`Data-Protocol`"),
        (
            &[("Data-Protocol", "zone"), ("Type", "Message")],
            "`Data-Protocol`",
        ),
        (&[("Data-Protocol", "ao")], "`Type`"),
        (&[("Data-Protocol", "ao"), ("Type", "Assignment")], "`Type`"),
    ];
    for (tags, named) in cases {
        let item = stage.world.item(Some(process), tags, "");
        let (status, body) = stage.json("POST", "/", item.bytes().clone()).await;
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(body["error"].as_str().unwrap().contains(named), "{body}");
    }
    assert_eq!(stage.world.log_of(process).len(), 0);
}

#[tokio::test]
async fn item_21_type_in_lower_case_is_accepted() {
    let stage = stage();
    let process = stage.world.process().await;
    let item = stage
        .world
        .item(Some(process), &[("Data-Protocol", "ao"), ("type", "Message")], "");
    stage.push(&item).await;
    assert_eq!(stage.world.log_of(process).len(), 1);
}

#[tokio::test]
async fn item_22_the_first_of_two_types_wins() {
    let stage = stage();
    let process = stage.world.process().await;
    let tags = [("Data-Protocol", "ao"), ("Type", "Message"), ("Type", "Process")];
    let (_, body) = stage
        .json(
            "POST",
            "/",
            stage.world.item(Some(process), &tags, "").bytes().clone(),
        )
        .await;
    assert!(
        body.get("processId").is_none() && body.get("id").is_some(),
        "{body}"
    );
}

#[tokio::test]
async fn item_23_an_unknown_target_is_an_error_for_users_and_an_upload_for_processes() {
    let stage = stage();
    let wallet = ProcessId([0x55; 32]);
    let (status, body) = stage
        .json("POST", "/", stage.world.message(wallet, "").bytes().clone())
        .await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(body["error"].as_str().unwrap().contains("not found"));

    let process = stage.world.process().await;
    let ethereum = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed";
    let to_ethereum = json!({ "Target": ethereum, "Tags": [], "Data": "hello" });
    let outcome = json!({ "Messages": [message_to(wallet, json!([])), to_ethereum] });
    stage
        .push(&stage.world.message(process, &outcome.to_string()))
        .await;
    let weave = stage.world.weave();
    let kept: Vec<_> = weave
        .iter()
        .filter(|item| item.tag("From-Process").is_some())
        .collect();
    assert_eq!(kept.len(), 2);
    assert!(kept.iter().any(|item| item.target() == Some(&wallet.0)));
    assert!(
        kept.iter()
            .any(|item| item.target().is_none() && item.tag("Target") == Some(ethereum))
    );
}

#[tokio::test]
async fn item_24_pushed_messages_carry_our_tags_once_and_keep_their_own() {
    let stage = stage();
    let own = json!([
        { "name": "Variant", "value": "ao.TN.1" }, { "name": "Reference", "value": "7" },
        { "name": "Custom", "value": "kept" }, { "name": "Data-Protocol", "value": "ao" },
        { "name": "Type", "value": "Message" }, { "name": "From-Process", "value": "liar" },
        { "name": "From-Module", "value": "liar" }, { "name": "Pushed-For", "value": "liar" },
        { "name": "From-Slot", "value": "liar" }, { "name": "Push-Depth", "value": "liar" },
    ]);
    let (from, cause, received) = stage.relay(json!({ "Tags": own, "Data": "x" })).await;
    assert_eq!(tags_of(&received, "Data-Protocol"), ["ao"]);
    assert_eq!(tags_of(&received, "Type"), ["Message"]);
    assert_eq!(tags_of(&received, "From-Process"), [from.to_string()]);
    assert_eq!(tags_of(&received, "From-Module"), [MODULE]);
    assert_eq!(tags_of(&received, "Pushed-For"), [cause.id().to_string()]);
    assert_eq!(tags_of(&received, "From-Slot"), ["1.0"]);
    assert_eq!(tags_of(&received, "Push-Depth"), ["1"]);
    assert_eq!(
        (received.tag("Variant"), received.tag("Reference")),
        (Some("ao.TN.1"), Some("7"))
    );
    assert_eq!(received.tag("Custom"), Some("kept"));
}

#[tokio::test]
async fn item_25_pushed_items_are_signed_by_the_messenger() {
    let stage = stage();
    let (_, _, received) = stage.relay(json!({ "Tags": [], "Data": "x" })).await;
    assert_eq!(received.owner_address(), stage.mu.address());
    assert!(DataItem::parse_verified(received.bytes().clone()).is_ok());
}

#[tokio::test]
async fn item_26_pushed_for_is_the_users_item_at_any_depth_and_absent_for_crons() {
    let stage = stage();
    let mut chain = Vec::new();
    for _ in 0..4 {
        chain.push(stage.world.process().await);
    }
    for pair in chain.windows(2) {
        let outcome = json!({ "Messages": [message_to(pair[1], json!([]))] }).to_string();
        stage.world.script(
            pair[0],
            move |_, slot| if slot == 0 { "{}".into() } else { outcome.clone() },
        );
    }
    // A stranger's own Pushed-For means nothing.
    let tags = [
        ("Data-Protocol", "ao"),
        ("Type", "Message"),
        ("Pushed-For", "liar"),
        ("Push-Depth", "999999"),
    ];
    let cause = stage.world.item(Some(chain[0]), &tags, "");
    stage.push(&cause).await;
    let last = stage.world.log_of(chain[3]);
    assert_eq!(tags_of(&last[0], "Pushed-For"), [cause.id().to_string()]);
    assert_eq!(last[0].tag("Push-Depth"), Some("3"));

    let item = stage.world.item(Some(chain[0]), &[], " ");
    stage
        .call("POST", &format!("/monitor/{}", chain[0]), item.bytes().clone())
        .await;
    let outcome = json!({ "Messages": [message_to(chain[1], json!([]))] }).to_string();
    stage.world.fire(chain[0], "0-1-second", &outcome);
    until("the cron's push arrives", || {
        stage.world.log_of(chain[3]).len() == 2
    })
    .await;
    for process in &chain[1..] {
        assert!(stage.world.log_of(*process)[1].tag("Pushed-For").is_none());
    }
    let first = &stage.world.log_of(chain[1])[1];
    let fired = first.tag("From-Slot").unwrap();
    assert!(
        fired.starts_with("1.0-1-second.") && fired.ends_with(".0"),
        "{fired}"
    );
    let deepest = &stage.world.log_of(chain[3])[1];
    assert_eq!(
        deepest.tag("Push-Depth"),
        Some(format!("3.{}", first.id()).as_str())
    );
}

#[tokio::test]
async fn item_27_numbers_and_booleans_arrive_as_texts() {
    let stage = stage();
    let own =
        json!([{ "name": "N", "value": 12.5 }, { "name": "B", "value": true }, { "name": 3, "value": 0 }]);
    let (_, _, received) = stage.relay(json!({ "Tags": own, "Data": 42 })).await;
    assert_eq!(
        (received.tag("N"), received.tag("B"), received.tag("3")),
        (Some("12.5"), Some("true"), Some("0"))
    );
    assert_eq!(received.data(), "42");
}

#[tokio::test]
async fn item_28_empty_data_arrives_as_one_space() {
    for message in [
        json!({ "Tags": [] }),
        json!({ "Tags": {}, "Data": "" }),
        json!({ "Tags": [], "Data": null }),
    ] {
        let (_, _, received) = stage().relay(message).await;
        assert_eq!(received.data(), " ");
    }
}

#[tokio::test]
async fn item_29_an_anchor_of_32_bytes_is_kept() {
    let anchor = "00000000000000000000000000000042";
    let (_, _, received) = stage()
        .relay(json!({ "Tags": [], "Anchor": anchor, "Data": "x" }))
        .await;
    assert_eq!(received.anchor().map(|a| &a[..]), Some(anchor.as_bytes()));
    let (_, _, received) = stage()
        .relay(json!({ "Tags": [], "Anchor": "short", "Data": "x" }))
        .await;
    assert_eq!(received.anchor(), None);
}

#[tokio::test]
async fn item_30_a_spawn_makes_a_process_and_tells_the_spawner() {
    let stage = stage();
    let spawner = stage.world.process().await;
    let own = json!([
        { "name": "Module", "value": "child-module" }, { "name": "Reference", "value": 9 },
        { "name": "From-Module", "value": "liar" }, { "name": "Name", "value": "child" },
    ]);
    let outcome = json!({ "Spawns": [{ "Data": "boot", "Anchor": "x", "Tags": own }] });
    let cause = stage.world.message(spawner, &outcome.to_string());
    stage.push(&cause).await;
    let reply = &stage.world.log_of(spawner)[1];
    let child: ProcessId = reply.tag("Process").unwrap().parse().unwrap();
    assert_eq!(
        (tags_of(reply, "Action"), tags_of(reply, "Type")),
        (vec!["Spawned"], vec!["Message"])
    );
    assert_eq!(
        (reply.tag("Reference"), reply.tag("Name")),
        (Some("9"), Some("child"))
    );
    assert_eq!(tags_of(reply, "From-Process"), [spawner.to_string()]);
    assert_eq!(
        (reply.data(), tags_of(reply, "Data-Protocol")),
        (" ".into(), vec!["ao"])
    );
    let entry = Scheduler::process(&*stage.world, child).await.unwrap();
    let item = entry.item().unwrap();
    assert_eq!(tags_of(item, "Type"), ["Process"]);
    assert_eq!(
        (tags_of(item, "Scheduler"), tags_of(item, "Module")),
        (vec!["the-su"], vec!["child-module"])
    );
    assert_eq!(
        (tags_of(item, "From-Module"), tags_of(item, "Variant")),
        (vec![MODULE], vec!["ao.TN.1"])
    );
    assert_eq!(tags_of(item, "From-Process"), [spawner.to_string()]);
    assert_eq!(tags_of(item, "Pushed-For"), [cause.id().to_string()]);
    assert_eq!(
        (item.data(), item.target(), item.anchor()),
        ("boot".into(), None, None)
    );
}

#[tokio::test]
async fn item_31_what_the_spawned_handler_sends_is_pushed() {
    let stage = stage();
    let (spawner, friend) = (stage.world.process().await, stage.world.process().await);
    stage
        .world
        .script(spawner, move |item, _| match item.tag("Action") {
            Some("Go") => json!({ "Spawns": [{ "Tags": [{ "name": "Module", "value": "m" }] }] }).to_string(),
            Some("Spawned") => json!({ "Messages": [message_to(friend, json!([]))] }).to_string(),
            _ => "{}".into(),
        });
    let tags = [("Data-Protocol", "ao"), ("Type", "Message"), ("Action", "Go")];
    let cause = stage.world.item(Some(spawner), &tags, "");
    stage.push(&cause).await;
    let received = stage.world.log_of(friend);
    assert_eq!(received.len(), 1);
    assert_eq!(
        received[0].tag("Pushed-For"),
        Some(cause.id().to_string().as_str())
    );
}

#[tokio::test]
async fn item_32_assignments_are_made_from_the_list_and_from_the_tag() {
    let stage = stage();
    let mut processes = Vec::new();
    for _ in 0..4 {
        processes.push(stage.world.process().await);
    }
    let [a, b, c, d] = processes[..] else {
        unreachable!()
    };
    let old = stage.world.message(b, "");
    stage.push(&old).await;
    let tag = json!([{ "name": "Assignments", "value": [c.to_string(), d.to_string()] }]);
    let outcome = json!({
        "Messages": [message_to(b, tag)],
        "Assignments": [{ "Processes": [c.to_string()], "Message": old.id().to_string(), "Exclude": ["Data"] }],
    });
    stage.push(&stage.world.message(a, &outcome.to_string())).await;
    let sent = stage.world.log_of(b)[1].clone();
    assert!(sent.tag("Assignments").is_none());
    let ids = |process| {
        stage
            .world
            .log_of(process)
            .iter()
            .map(DataItem::id)
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(d), [sent.id()]);
    assert!(ids(c).contains(&sent.id()) && ids(c).contains(&old.id()) && ids(c).len() == 2);
    let entries = stage.world.entries(c);
    let listed = entries
        .iter()
        .find(|entry| entry.assignment.subject() == old.id())
        .unwrap();
    assert_eq!(listed.assignment.exclude, [Field::Data]);
}

#[tokio::test]
async fn item_33_pushing_the_same_outbox_twice_gives_one_assignment() {
    let (world, dir) = (World::new(), tempfile::tempdir().unwrap());
    let (from, to) = (world.process().await, world.process().await);
    let mu = world.messenger(dir.path());
    let outcome = json!({ "Messages": [message_to(to, json!([]))], "Assignments": [
        { "Processes": [to.to_string()], "Message": from.to_string() }
    ]});
    let stage = Stage { world, mu, _dir: dir };
    stage.push(&stage.world.message(from, &outcome.to_string())).await;
    assert_eq!(stage.world.log_of(to).len(), 2);
    let before = stage.world.evaluations();
    // A messenger that remembers nothing cranks every outbox again.
    let fresh = tempfile::tempdir().unwrap();
    let again = stage.world.messenger(fresh.path());
    settle(&again).await;
    assert!(stage.world.evaluations() > before, "it did crank again");
    assert_eq!(stage.world.log_of(to).len(), 2);
}

// Item 34, the crash between schedule and push, has a file of its own: crash.rs.

#[tokio::test]
async fn item_35_root_is_text_and_debug_lists_traces() {
    let stage = stage();
    assert_eq!(
        stage.call("GET", "/", "").await,
        (StatusCode::OK, "ao messenger unit".into())
    );
    let (from, cause, received) = stage.relay(json!({ "Tags": [], "Data": "x" })).await;
    let (status, body) = stage.json("GET", &format!("/?debug=1&process={from}"), "").await;
    assert_eq!(
        (status, &body["pageInfo"]["hasNextPage"]),
        (StatusCode::OK, &json!(false))
    );
    let edges = body["edges"].as_array().unwrap();
    assert_eq!(edges.len(), 2);
    let (pushed, scheduled) = (&edges[0]["node"], &edges[1]["node"]);
    assert_eq!(pushed["messageId"], json!(received.id().to_string()));
    assert_eq!(
        (&pushed["type"], &pushed["parentId"]),
        (&json!("MESSAGE"), &scheduled["id"])
    );
    assert_eq!(scheduled["messageId"], json!(cause.id().to_string()));
    assert_eq!(edges[0]["cursor"], pushed["id"]);
    let (_, body) = stage
        .json("GET", &format!("/?debug=1&process={from}&page-size=1"), "")
        .await;
    assert_eq!(
        (
            body["edges"].as_array().unwrap().len(),
            &body["pageInfo"]["hasNextPage"]
        ),
        (1, &json!(true))
    );
    let path = format!("/?debug=1&message={}&spawn={from}", cause.id());
    assert_eq!(stage.json("GET", &path, "").await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_process_item_with_a_target_is_assigned_to_it() {
    let stage = stage();
    let parent = stage.world.process().await;
    let tags = ["Data-Protocol", "Type", "Module", "Scheduler"]
        .into_iter()
        .zip(["ao", "Process", "m", "s"]);
    let tags = tags.map(|(name, value)| Tag::new(name, value)).collect();
    let parts = ItemParts {
        target: Some(parent.0),
        tags,
        ..ItemParts::default()
    };
    let item = DataItem::sign(&parts, &stage.world.user).unwrap();
    stage.push(&item).await;
    assert_eq!(stage.world.log_of(parent), [item]);
}
