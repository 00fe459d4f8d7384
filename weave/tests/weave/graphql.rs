//! Every GraphQL query that clients of the field send (legacynet.md 5.1), with the exact answers.

use std::sync::Arc;

use crate::common::*;
use serde_json::{Value, json};
use spec::contract::{Class, Permanent};
use spec::ids::base64url;
use spec::{DataItem, ItemId};
use weave::Weave;

/// A module, a process, a scheduler's location, messages; one block apart from each other.
struct World {
    weave: Arc<Weave>,
    module: DataItem,
    process: DataItem,
    location: DataItem,
    _data: tempfile::TempDir,
}

async fn world() -> World {
    let (data, time) = (tempfile::tempdir().unwrap(), Time::new());
    let weave = open(data.path(), &time);
    let module = item(
        1,
        &[
            ("Data-Protocol", "ao"),
            ("Type", "Module"),
            ("Name", "sqlite"),
            ("Module-Format", "wasm64-unknown-emscripten-draft_2024_02_15"),
        ],
        "wasm",
    );
    let scheduler = signer(3).address().to_string();
    let process = item(
        2,
        &[
            ("Data-Protocol", "ao"),
            ("Variant", "ao.TN.1"),
            ("Type", "Process"),
            ("Name", "default"),
            ("Scheduler", &scheduler),
            ("aos-Version", "2.0.1"),
        ],
        "1984",
    );
    let location = item(
        3,
        &[
            ("Data-Protocol", "ao"),
            ("Type", "Scheduler-Location"),
            ("Url", "http://su"),
            ("Time-To-Live", "3600000"),
        ],
        " ",
    );
    let target = *process.id().bytes();
    let message = item_to(
        2,
        Some(target),
        &[("Data-Protocol", "ao"), ("Type", "Message"), ("Action", "Eval")],
        "1 + 1",
    );
    for item in [&module, &process, &location, &message] {
        weave.append(vec![item.clone()], Class::Permanent).await.unwrap();
        time.pass(10_000);
    }
    World {
        weave,
        module,
        process,
        location,
        _data: data,
    }
}

fn tags(item: &DataItem) -> Value {
    let tag = |tag: &spec::Tag| json!({ "name": tag.name_text(), "value": tag.value_text() });
    item.tags().iter().map(tag).collect()
}

fn block(world: &World, height: u64) -> Value {
    let block = world.weave.chain().block(height);
    json!({ "id": block.id, "height": height, "timestamp": block.timestamp_ms / 1000 })
}

#[tokio::test]
async fn item_88_aoconnect_reads_a_module_before_it_spawns() {
    let world = world().await;
    let query = "query GetTransactions ($transactionIds: [ID!]!) { transactions(ids: $transactionIds) { edges { node { owner { address } tags { name value } block { id height timestamp } } } } }";
    let answer = ask(
        &world.weave,
        query,
        json!({ "transactionIds": [world.module.id()] }),
    )
    .await;
    let node = json!({
        "owner": { "address": world.module.owner_address() },
        "tags": tags(&world.module),
        "block": block(&world, 1),
    });
    assert_eq!(answer, json!({ "transactions": { "edges": [{ "node": node }] } }));
    let unknown = ask(
        &world.weave,
        query,
        json!({ "transactionIds": [ItemId([1; 32]), "no id"] }),
    )
    .await;
    assert_eq!(unknown, json!({ "transactions": { "edges": [] } }));
}

#[tokio::test]
async fn item_88_scheduler_utils_find_a_location_and_a_process() {
    let world = world().await;
    let query = "query GetSchedulerLocation ($owner: String!) {
        transactions (
          owners: [$owner]
          tags: [
            { name: \"Data-Protocol\", values: [\"ao\"] },
            { name: \"Type\", values: [\"Scheduler-Location\"] }
          ]
          # Only need the most recent Scheduler-Location
          sort: HEIGHT_DESC
          first: 1
        ) { edges { node { tags { name value } } } } }";
    let owner = world.location.owner_address().to_string();
    let found = json!({ "transactions": { "edges": [{ "node": { "tags": tags(&world.location) } }] } });
    assert_eq!(ask(&world.weave, query, json!({ "owner": owner })).await, found);
    // An owner may be given as the public key, too.
    let key = base64url(world.location.owner());
    let none = json!({ "transactions": { "edges": [] } });
    assert_eq!(
        ask(&world.weave, query, json!({ "owner": ItemId([1; 32]) })).await,
        none
    );
    let by_rsa_key = ask(&world.weave, query, json!({ "owner": base64url(&[5; 512]) })).await;
    assert_eq!(by_rsa_key, none);
    assert_eq!(
        key.len(),
        43,
        "an Ed25519 key reads like an address, so it is taken for one"
    );

    let query = "query GetTransactions ($transactionIds: [ID!]!) { transactions(ids: $transactionIds, tags: [{ name: \"Data-Protocol\", values: [\"ao\"] }]) { edges { node { tags { name value } } } } }";
    let found = ask(
        &world.weave,
        query,
        json!({ "transactionIds": [world.process.id()] }),
    )
    .await;
    assert_eq!(
        found["transactions"]["edges"][0]["node"]["tags"],
        tags(&world.process)
    );
}

#[tokio::test]
async fn item_88_scheduler_utils_read_every_field_of_a_process() {
    let world = world().await;
    let query = "query ($processId: ID!) { transactions(ids: [$processId]) {
        pageInfo { hasNextPage }
        edges { cursor node { id anchor signature recipient block { timestamp id height previous } owner { address key }
          fee { winston ar } quantity { winston ar } data { size type } tags { name value } block { id } parent { id } bundledIn { id } signatureType } } } }";
    let answer = ask(&world.weave, query, json!({ "processId": world.process.id() })).await;
    let edge = &answer["transactions"]["edges"][0];
    assert_eq!(answer["transactions"]["pageInfo"]["hasNextPage"], false);
    assert!(edge["cursor"].is_string());
    let (process, chain) = (&world.process, world.weave.chain());
    let mut expected_block = block(&world, 2);
    expected_block["previous"] = json!(chain.block(1).id);
    let nothing = json!({ "winston": "0", "ar": "0.000000000000" });
    assert_eq!(
        edge["node"],
        json!({
            "id": process.id(),
            "anchor": "",
            "signature": base64url(process.signature()),
            "recipient": "",
            "block": expected_block,
            "owner": { "address": process.owner_address(), "key": base64url(process.owner()) },
            "fee": nothing,
            "quantity": nothing,
            "data": { "size": "4", "type": null },
            "tags": tags(process),
            "parent": null,
            "bundledIn": null,
            "signatureType": 2,
        })
    );
}

#[tokio::test]
async fn item_88_aos_finds_its_process_by_name_lists_all_and_finds_modules() {
    let world = world().await;
    let query = "query ($owners: [String!]!) { transactions(first: 10, owners: $owners, tags: [
        { name: \"Data-Protocol\", values: [\"ao\"] }, { name: \"Type\", values: [\"Process\"]}, { name: \"Name\", values: [\"default\"]}
      ]) { edges { node { id tags { name value } } } } }";
    let owner = world.process.owner_address().to_string();
    let answer = ask(&world.weave, query, json!({ "owners": [owner, ""] })).await;
    let node = json!({ "id": world.process.id(), "tags": tags(&world.process) });
    assert_eq!(answer, json!({ "transactions": { "edges": [{ "node": node }] } }));
    let nobody = ask(&world.weave, query, json!({ "owners": ["", ""] })).await;
    assert_eq!(nobody, json!({ "transactions": { "edges": [] } }));

    let query = "query ($owners: [String!]!) { transactions(first: 100, owners: $owners, tags: [{ name: \"Data-Protocol\", values: [\"ao\"] }, { name: \"Type\", values: [\"Process\"] }]) { edges { node { id owner { address } tags { name value } } } } }";
    let answer = ask(&world.weave, query, json!({ "owners": [owner] })).await;
    assert_eq!(
        answer["transactions"]["edges"][0]["node"]["owner"]["address"],
        json!(owner)
    );

    let query = "query FindAoModuleByName($name: String!) { transactions(tags: [{ name: \"Type\", values: [\"Module\"] }, { name: \"Data-Protocol\", values: [\"ao\"] }, { name: \"Name\", values: [$name] }] sort: HEIGHT_DESC first: 100) { edges { node { id tags { name value } block { timestamp } } } } }";
    let answer = ask(&world.weave, query, json!({ "name": "sqlite" })).await;
    let node = &answer["transactions"]["edges"][0]["node"];
    assert_eq!(
        (&node["id"], &node["block"]),
        (
            &json!(world.module.id()),
            &json!({ "timestamp": GENESIS_MS / 1000 })
        )
    );
}

#[tokio::test]
async fn item_88_the_compute_unit_skips_fields_and_pages_blocks() {
    let world = world().await;
    let query = "query GetProcesses ($processIds: [ID!]!, $skipTags: Boolean!, $skipSignature: Boolean!, $skipAnchor: Boolean!) {
        transactions(ids: $processIds) { edges { node { id
          signature @skip(if: $skipSignature) anchor @skip(if: $skipAnchor) owner { address key } tags @skip(if: $skipTags) { name value } recipient } } } }";
    let variables = json!({ "processIds": [world.process.id()], "skipTags": true, "skipSignature": false, "skipAnchor": true });
    let answer = ask(&world.weave, query, variables).await;
    let node = &answer["transactions"]["edges"][0]["node"];
    let owner = json!({ "address": world.process.owner_address(), "key": base64url(world.process.owner()) });
    assert_eq!(
        node,
        &json!({ "id": world.process.id(), "signature": base64url(world.process.signature()), "owner": owner, "recipient": "" })
    );

    let query = "query GetBlocks($min: Int, $limit: Int) { blocks(height: { min: $min }, first: $limit, sort: HEIGHT_ASC) { pageInfo { hasNextPage } edges { node { timestamp height } } } }";
    let answer = ask(&world.weave, query, json!({ "min": 2, "limit": 2 })).await;
    let node = |height: u64| json!({ "node": { "timestamp": GENESIS_MS / 1000 + 10 * (height - 1), "height": height } });
    assert_eq!(
        answer,
        json!({ "blocks": { "pageInfo": { "hasNextPage": true }, "edges": [node(2), node(3)] } })
    );
    let answer = ask(&world.weave, query, json!({ "min": 4, "limit": 90 })).await;
    assert_eq!(
        answer,
        json!({ "blocks": { "pageInfo": { "hasNextPage": false }, "edges": [node(4), node(5)] } })
    );
}

#[tokio::test]
async fn item_88_the_compute_unit_finds_checkpoints() {
    let world = world().await;
    let process = world.process.id().to_string();
    let mut made = Vec::new();
    for nonce in ["7", "8"] {
        let tags = [
            ("Process", process.as_str()),
            ("Type", "Checkpoint"),
            ("Data-Protocol", "ao"),
            ("Nonce", nonce),
            ("Timestamp", "1700000000123"),
        ];
        let checkpoint = item(4, &tags, "memory");
        world
            .weave
            .append(vec![checkpoint.clone()], Class::Permanent)
            .await
            .unwrap();
        made.push(checkpoint);
    }
    let query = "query GetAoProcessCheckpoints($owners: [String!]!, $processId: String!, $limit: Int!) {
        transactions(tags: [{ name: \"Process\", values: [$processId] }, { name: \"Type\", values: [\"Checkpoint\"] }, { name: \"Data-Protocol\", values: [\"ao\"] }], owners: $owners, first: $limit, sort: HEIGHT_DESC) { edges { node { id owner { address } tags { name value } } } } }";
    let owner = made[0].owner_address().to_string();
    let answer = ask(
        &world.weave,
        query,
        json!({ "owners": [owner], "processId": process, "limit": 50 }),
    )
    .await;
    let ids: Vec<_> = answer["transactions"]["edges"]
        .as_array()
        .unwrap()
        .iter()
        .map(|edge| edge["node"]["id"].clone())
        .collect();
    assert_eq!(ids, [json!(made[1].id()), json!(made[0].id())]);

    let query = "query GetAoProcessCheckpoint($owner: String!, $processId: String!, $timestamp: String!, $nonce: String!) {
        transactions(tags: [{ name: \"Process\", values: [$processId] }, { name: \"Nonce\", values: [$nonce] }, { name: \"Timestamp\", values: [$timestamp] }, { name: \"Type\", values: [\"Checkpoint\"] }, { name: \"Data-Protocol\", values: [\"ao\"] }], owners: [$owner] first: 1) { edges { node { id } } } }";
    let answer = ask(
        &world.weave,
        query,
        json!({ "owner": owner, "processId": process, "timestamp": "1700000000123", "nonce": "7" }),
    )
    .await;
    assert_eq!(
        answer["transactions"]["edges"],
        json!([{ "node": { "id": made[0].id() } }])
    );
}

#[tokio::test]
async fn item_88_the_messenger_pages_all_locations_by_cursor() {
    let world = world().await;
    for n in 10..13 {
        let location = item(n, &[("Data-Protocol", "ao"), ("Type", "Scheduler-Location")], " ");
        world
            .weave
            .append(vec![location], Class::Permanent)
            .await
            .unwrap();
    }
    let query = "query ($cursor: String) { transactions(first: 2, after: $cursor, tags: [{ name: \"Type\", values: [\"Scheduler-Location\"], op: EQ }]) { pageInfo { hasNextPage } edges { cursor node { id owner { address } tags { name value } block { id height timestamp } } } } }";
    let (mut cursor, mut seen) = (Value::Null, Vec::new());
    loop {
        let page = ask(&world.weave, query, json!({ "cursor": cursor })).await["transactions"].take();
        for edge in page["edges"].as_array().unwrap() {
            seen.push(edge["node"]["id"].as_str().unwrap().to_string());
            cursor = edge["cursor"].clone();
        }
        if page["pageInfo"]["hasNextPage"] == false {
            break;
        }
    }
    assert_eq!(seen.len(), 4);
    assert_eq!(
        seen.last().unwrap(),
        &world.location.id().to_string(),
        "newest first"
    );
    assert_eq!(
        ask(&world.weave, query, json!({ "cursor": "" })).await["transactions"]["edges"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    let answer = graphql(&world.weave, query, json!({ "cursor": "mine" })).await;
    assert!(
        answer["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("cursor"),
        "{answer}"
    );
}

#[tokio::test]
async fn aliases_fragments_directives_and_several_operations_work() {
    let world = world().await;
    let query = "
        fragment Short on Transaction { id ...More @include(if: $more) }
        fragment More on Transaction { data { size } }
        query Other { block(id: \"x\") { id } }
        query Both($more: Boolean = true, $id: ID!) {
          one: transaction(id: $id) { ...Short }
          none: transaction(id: \"unknown\") { ...Short }
          some: transactions(recipients: [$to], first: 500) { edges { node { ... on Transaction { id } } } }
        }";
    let query = query.replace("$to", &format!("\"{}\"", world.process.id()));
    let body = json!({ "query": query, "variables": { "id": world.module.id() }, "operationName": "Both" });
    let request =
        axum::http::Request::post("/graphql").header("content-type", "application/json; charset=utf-8");
    let reply = send(&world.weave, request.body(body.to_string().into()).unwrap())
        .await
        .json();
    assert_eq!(
        reply["data"]["one"],
        json!({ "id": world.module.id(), "data": { "size": "4" } })
    );
    assert_eq!(reply["data"]["none"], Value::Null);
    assert_eq!(reply["data"]["some"]["edges"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn heights_sort_and_bound_the_answer() {
    let world = world().await;
    let query = "query ($block: BlockFilter, $sort: SortOrder) { transactions(block: $block, sort: $sort, tags: [{ name: \"Data-Protocol\", values: [\"ao\"] }]) { edges { node { block { height } } } } }";
    for settled in [false, true] {
        if settled {
            world.weave.settle();
        }
        for (filter, sort, expected) in [
            (json!({ "min": 2, "max": 3 }), "HEIGHT_ASC", vec![2, 3]),
            (json!({ "min": 3 }), "HEIGHT_DESC", vec![4, 3]),
            (json!({ "max": 1 }), "HEIGHT_DESC", vec![1]),
            (json!({ "min": 9 }), "HEIGHT_ASC", vec![]),
            (Value::Null, "HEIGHT_ASC", vec![1, 2, 3, 4]),
        ] {
            let answer = ask(&world.weave, query, json!({ "block": filter, "sort": sort })).await;
            let edges = answer["transactions"]["edges"].as_array().unwrap();
            let heights: Vec<_> = edges
                .iter()
                .map(|edge| edge["node"]["block"]["height"].as_u64().unwrap())
                .collect();
            assert_eq!(heights, expected, "{filter} {sort}");
        }
    }
    let bundled = ask(
        &world.weave,
        "query ($in: [ID!]) { transactions(bundledIn: $in) { edges { node { id } } } }",
        json!({ "in": [world.module.id()] }),
    )
    .await;
    assert_eq!(bundled["transactions"]["edges"], json!([]));
}

#[tokio::test]
async fn blocks_are_found_by_id() {
    let world = world().await;
    let chain = world.weave.chain();
    let (second, fourth) = (chain.block(2), chain.block(4));
    let query = "query ($id: String, $ids: [ID!]) { block(id: $id) { height previous } unknown: block(id: \"x\") { id } blocks(ids: $ids, sort: HEIGHT_DESC) { edges { cursor node { id } } } }";
    let answer = ask(
        &world.weave,
        query,
        json!({ "id": second.id, "ids": [second.id, fourth.id] }),
    )
    .await;
    assert_eq!(
        answer["block"],
        json!({ "height": 2, "previous": chain.block(1).id })
    );
    assert_eq!(answer["unknown"], Value::Null);
    let edges = answer["blocks"]["edges"].as_array().unwrap();
    let ids: Vec<_> = edges.iter().map(|edge| edge["node"]["id"].clone()).collect();
    assert_eq!(ids, [json!(fourth.id), json!(second.id)]);
    let after = "query ($after: String) { blocks(first: 2, after: $after) { edges { node { height } } } }";
    let answer = ask(&world.weave, after, json!({ "after": edges[0]["cursor"] })).await;
    assert_eq!(
        answer["blocks"]["edges"],
        json!([{ "node": { "height": 3 } }, { "node": { "height": 2 } }])
    );
}

#[tokio::test]
async fn queries_that_cannot_be_meant_are_refused() {
    let world = world().await;
    let nested = |depth: usize| {
        format!(
            "{{ __schema {{ types {{ fields {{ type {} }} }} }} }}",
            "{ ofType ".repeat(depth) + "{ name }" + &" }".repeat(depth)
        )
    };
    assert!(ask(&world.weave, &nested(6), json!({})).await["__schema"].is_object());
    let answer = graphql(&world.weave, &nested(15), json!({})).await;
    assert!(
        answer["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("nested too deep"),
        "{answer}"
    );
    let wide: String = (0..40)
        .map(|n| format!("a{n}: transactions {{ edges {{ node {{ id }} }} }} "))
        .collect();
    let answer = graphql(&world.weave, &format!("{{ {wide} }}"), json!({})).await;
    assert!(answer["errors"].is_array() && answer["data"].is_null());
    let answer = graphql(&world.weave, "{ nonsense }", json!({})).await;
    assert!(answer["errors"][0]["message"].is_string());

    let values: Vec<_> = (0..1_001).map(|n| n.to_string()).collect();
    let many = graphql(
        &world.weave,
        "query ($v: [String!]!) { transactions(tags: [{ name: \"N\", values: $v }]) { edges { cursor } } }",
        json!({ "v": values }),
    )
    .await;
    assert!(
        many["errors"][0]["message"]
            .as_str()
            .unwrap()
            .contains("limit is 1000"),
        "{many}"
    );

    let request = |kind: &str, body: &str| {
        axum::http::Request::post("/graphql")
            .header("content-type", kind)
            .body(body.to_string().into())
            .unwrap()
    };
    assert_eq!(send(&world.weave, request("text/plain", "{}")).await.status, 415);
    assert_eq!(
        send(&world.weave, request("application/json", "no json"))
            .await
            .status,
        400
    );
    let huge = format!("{{\"query\":\"{}\"}}", " ".repeat(300_000));
    assert_eq!(
        send(&world.weave, request("application/json", &huge))
            .await
            .status,
        413
    );
    assert_eq!(get(&world.weave, "/graphql").await.status, 200);
}

#[tokio::test]
async fn a_stand_in_is_found_by_its_id_until_something_is_held_under_it() {
    let world = world().await;
    let id = spec::ItemId([9; 32]);
    let described = weave::http::StandIn {
        id,
        by: signer(5).address(),
        tags: vec![
            spec::Tag::new("Type", "Module"),
            spec::Tag::new("Data-Protocol", "ao"),
        ],
    };
    let stand_ins: weave::http::StandIns = [described].into_iter().collect();
    let edges = async |conditions: &str| {
        let query = format!(
            "{{ transactions({conditions}) {{ edges {{ node {{ id tags {{ name value }} block {{ height }} }} }} }} }}"
        );
        let request = axum::http::Request::post("/graphql").header("content-type", "application/json");
        let request = request
            .body(axum::body::Body::from(json!({ "query": query }).to_string()))
            .unwrap();
        let router = weave::http::router_with(world.weave.clone(), stand_ins.clone());
        let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        answer["data"]["transactions"]["edges"]
            .as_array()
            .unwrap_or_else(|| panic!("{answer}"))
            .len()
    };
    let by_id = format!("ids: [\"{id}\"]");
    let with_tag = |value: &str| format!("{by_id}, tags: [{{ name: \"Type\", values: [\"{value}\"] }}]");
    assert_eq!(edges(&by_id).await, 1);
    assert_eq!(edges(&with_tag("Module")).await, 1);
    assert_eq!(edges(&with_tag("Process")).await, 0);
    assert_eq!(
        edges("tags: [{ name: \"Type\", values: [\"Module\"] }]").await,
        1,
        "the true module only"
    );
    assert_eq!(
        get(&world.weave, &format!("/{id}")).await.status,
        404,
        "it has no bytes"
    );
    let data = bytes::Bytes::from_static(b"bytes");
    world
        .weave
        .register(id, Vec::new(), data, signer(5).address())
        .await
        .unwrap();
    assert_eq!(edges(&with_tag("Module")).await, 0, "what is held counts");
    assert_eq!(edges(&by_id).await, 1);
}
