//! Roles split over programs speak `wire` to each other and behave as one node does.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

mod support;

use support::{Node, add_outcome_module, get, message_item, post, process_item, signer};

#[tokio::test]
async fn three_programs_make_one_node() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let su = Node::start_with(&path("su"), &["--roles", "su,gateway"]);
    let (su_url, gateway) = (su.text("su").to_string(), su.text("gateway").to_string());
    assert!(su.ready["mu"].is_null() && su.ready["cu_address"].is_null());
    let cu_flags = ["--roles", "cu", "--su-url", &su_url, "--gateway-url", &gateway];
    let cu = Node::start_with(&path("cu"), &cu_flags);
    let cu_url = cu.text("cu").to_string();
    let mu_flags = [
        "--roles",
        "mu",
        "--su-url",
        &su_url,
        "--cu-url",
        &cu_url,
        "--gateway-url",
        &gateway,
    ];
    let mu = Node::start_with(&path("mu"), &mu_flags);

    let module = add_outcome_module(&su);
    let key = signer(1);
    let [from, to] =
        ["from", "to"].map(|name| process_item(&key, &module, su.text("su_address"), &[("Name", name)]));
    let messenger = mu.http("mu");
    post(&messenger, &from).await;
    post(&messenger, &to).await;
    let push = format!(
        r#"{{"Messages":[{{"Target":"{}","Anchor":"{:032}","Data":"hello","Tags":[]}}]}}"#,
        to.id(),
        1
    );
    let message = message_item(&key, &from.id().to_string(), &push, &[]);
    post(&messenger, &message).await;

    let compute = cu.http("cu");
    let (status, outcome) = get(
        &compute,
        &format!("/result/{}?process-id={}", message.id(), from.id()),
    )
    .await;
    assert_eq!(status, 200, "{outcome}");
    assert_eq!(outcome["Messages"].as_array().unwrap().len(), 1);
    // The mainnet routes stand beside the messenger, wherever the others are.
    let front = mu.http("url");
    let results = format!("/{}~process@1.0/compute/results=1", from.id());
    let (status, answer) = get(&front, &results).await;
    assert_eq!((status, &answer["slot"]), (200, &1.into()), "{answer}");
    assert_eq!(answer["raw"], outcome);
    let (status, _) = get(&front, &format!("/{}/compute/results=9", from.id())).await;
    assert_eq!(status, 404);
    let log = format!("/{0}?process-id={0}&from-nonce=0&limit=10", to.id());
    for _ in 0..200 {
        let (_, page) = get(&su.http("su"), &log).await;
        if let Some(edge) = page["edges"].as_array().and_then(|edges| edges.first()) {
            assert_eq!(edge["node"]["message"]["data"], "hello");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the pushed message never arrived");
}
