//! The routes of `/v1` on a real node: answers, streams, refusals, and what a client that goes away leaves behind.
#![allow(clippy::unwrap_used, reason = "a test stops at its first surprise")]

#[path = "../../cu/inference/tests/support/mod.rs"]
mod models;
mod support;

use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use models::forge::{self, Shape};
use serde_json::{Value, json};
use support::{Node, compat, installed_in};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A model whose vocabulary has ChatML's tokens.
fn model(folder: &Path) -> String {
    let path = folder.join("tiny.gguf");
    std::fs::write(&path, forge::llama(&Shape::tiny(), "Q8_0")).unwrap();
    format!("tiny={}", path.display())
}

fn node(folder: &Path, flags: &[&str]) -> Node {
    let model = model(folder);
    let flags = [&["--model", &model, "--infer-device", "cpu"], flags].concat();
    Node::start_with(&folder.join("data"), &flags)
}

/// Status and body of a request.
async fn ask(node: &Node, path: &str, body: Value) -> (u16, Value) {
    let reply = node
        .http("url")
        .post(path, "application/json", body.to_string().into())
        .await
        .unwrap();
    (reply.status, serde_json::from_slice(&reply.body).unwrap())
}

fn chat(more: Value) -> Value {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 12, "seed": 3});
    body.as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    body
}

/// The events of a stream.
fn events(body: &[u8]) -> Vec<String> {
    let text = String::from_utf8(body.to_vec()).unwrap();
    let lines = text.lines().filter_map(|line| line.strip_prefix("data: "));
    lines.map(str::to_owned).collect()
}

#[tokio::test]
async fn an_answer_its_stream_and_its_receipt_agree() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), &[]);
    let (status, answer) = ask(
        &node,
        "/v1/chat/completions",
        chat(json!({"logprobs": true, "top_logprobs": 2})),
    )
    .await;
    assert_eq!(status, 200, "{answer}");
    let choice = &answer["choices"][0];
    assert_eq!(answer["usage"]["completion_tokens"], 12);
    assert_eq!(choice["finish_reason"], "length");
    assert_eq!(choice["logprobs"]["content"].as_array().unwrap().len(), 12);
    assert!(answer["weft"]["device"].as_str().unwrap().starts_with("cpu"));
    let body = chat(json!({"stream": true, "stream_options": {"include_usage": true}}));
    let reply = node
        .http("url")
        .post(
            "/v1/chat/completions",
            "application/json",
            body.to_string().into(),
        )
        .await
        .unwrap();
    let mut events = events(&reply.body);
    assert_eq!(events.pop().unwrap(), "[DONE]");
    let events: Vec<Value> = events
        .iter()
        .map(|event| serde_json::from_str(event).unwrap())
        .collect();
    let said: String = events
        .iter()
        .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
        .collect();
    assert_eq!(json!(said), choice["message"]["content"]);
    assert_eq!(events.last().unwrap()["usage"], answer["usage"]);
    assert_eq!(
        events[events.len() - 2]["choices"][0]["receipt"],
        choice["receipt"]
    );
    let receipt = folder.path().join("r.json");
    std::fs::write(&receipt, choice["receipt"].to_string()).unwrap();
    let mut verify = Command::new(env!("CARGO_BIN_EXE_weft"));
    verify
        .args(["infer", "verify"])
        .arg(&receipt)
        .arg("--model")
        .arg(folder.path().join("tiny.gguf"));
    assert!(verify.status().unwrap().success());
    assert!(node.terminate() < Duration::from_secs(10));
}

#[tokio::test]
async fn completions_embeddings_and_models() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), &[]);
    let body = json!({"model": "tiny", "prompt": ["Once", "Twice"], "temperature": 0, "logprobs": 1});
    let (status, several) = ask(&node, "/v1/completions", body).await;
    assert_eq!(status, 200, "{several}");
    assert_eq!(several["choices"].as_array().unwrap().len(), 2);
    let one = ask(
        &node,
        "/v1/completions",
        json!({"model": "tiny", "prompt": "Twice", "temperature": 0}),
    )
    .await
    .1;
    assert_eq!(one["choices"][0]["text"], several["choices"][1]["text"]);
    assert_eq!(
        several["choices"][0]["logprobs"]["token_logprobs"]
            .as_array()
            .unwrap()
            .len(),
        16
    );
    let fast = ask(
        &node,
        "/v1/completions",
        json!({"model": "tiny:a8", "prompt": "Twice", "temperature": 0}),
    )
    .await
    .1;
    assert_eq!(fast["choices"][0]["receipt"]["profile"], "din1-a8");
    let floats = ask(
        &node,
        "/v1/embeddings",
        json!({"model": "tiny", "input": ["a b", "c"], "dimensions": Shape::tiny().width}),
    )
    .await
    .1;
    let packed = ask(
        &node,
        "/v1/embeddings",
        json!({"model": "tiny", "input": "a b", "encoding_format": "base64"}),
    )
    .await
    .1;
    assert_eq!(
        floats["data"][0]["embedding"].as_array().unwrap().len(),
        Shape::tiny().width
    );
    // Four bytes a number, three of them in four letters.
    assert_eq!(
        packed["data"][0]["embedding"].as_str().unwrap().len(),
        (Shape::tiny().width * 4).div_ceil(3) * 4
    );
    let models = node.http("url").get("/v1/models").await.unwrap();
    let models: Value = serde_json::from_slice(&models.body).unwrap();
    assert_eq!(models["data"][0]["id"], "tiny");
    assert_eq!(models["data"][0]["weft"]["loaded"].as_array().unwrap().len(), 2);
}

/// Requests that are refused, each with status and code.
fn refused() -> Vec<(&'static str, Value, u16, &'static str)> {
    vec![
        (
            "/v1/chat/completions",
            chat(json!({"model": "other"})),
            404,
            "model_not_found",
        ),
        ("/v1/chat/completions", chat(json!({"n": 2})), 400, "invalid"),
        (
            "/v1/chat/completions",
            chat(json!({"messages": [{"role": "root", "content": "x"}]})),
            400,
            "invalid",
        ),
        (
            "/v1/chat/completions",
            chat(json!({"max_tokens": 60000})),
            400,
            "too-long",
        ),
        ("/v1/chat/completions", json!({"model": 1}), 400, "invalid"),
        ("/v1/chat/completions", json!([]), 400, "invalid"),
        ("/v1/chat/completions", json!({"messages": []}), 400, "invalid"),
        (
            "/v1/chat/completions",
            chat(json!({"max_tokens": -1})),
            400,
            "invalid",
        ),
        (
            "/v1/responses",
            json!({"model": "tiny", "input": "x"}),
            404,
            "no-route",
        ),
        ("/v1/models", json!({}), 405, "method"),
        (
            "/v1/completions",
            json!({"model": "tiny", "prompt": "x".repeat(40 << 20)}),
            413,
            "body",
        ),
        ("/v1/completions", json!({"model": "tiny"}), 400, "invalid"),
        (
            "/v1/completions",
            json!({"model": "tiny", "prompt": [999]}),
            400,
            "invalid",
        ),
        (
            "/v1/completions",
            json!({"model": "tiny", "prompt": "x", "stream": true, "max_tokens": 60000}),
            400,
            "too-long",
        ),
        (
            "/v1/embeddings",
            json!({"model": "tiny", "input": [1, 2]}),
            400,
            "invalid",
        ),
    ]
}

#[tokio::test]
async fn refusals_name_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), &[]);
    for (path, body, status, code) in refused() {
        let (got, answer) = ask(&node, path, body.clone()).await;
        assert_eq!(
            (got, answer["error"]["code"].as_str()),
            (status, Some(code)),
            "{path} {:.200}: {answer}",
            body.to_string()
        );
        assert!(answer["error"]["message"].as_str().unwrap().len() > 10);
        assert_eq!(answer["error"]["type"], "invalid_request_error");
        let is_of_a_field = code == "too-long" || code == "invalid" && body.is_object();
        assert!(!is_of_a_field || answer["error"]["param"].is_string(), "{answer}");
    }
    let input = [
        (
            "/v1/chat/completions",
            chat(json!({"max_tokens": 60000})),
            "messages",
        ),
        (
            "/v1/completions",
            json!({"model": "tiny", "prompt": [999]}),
            "prompt",
        ),
        (
            "/v1/embeddings",
            json!({"model": "tiny", "input": "a", "dimensions": 7}),
            "dimensions",
        ),
    ];
    for (path, body, param) in input {
        assert_eq!(ask(&node, path, body).await.1["error"]["param"], param, "{path}");
    }
    let bare = Node::start(&folder.path().join("bare"));
    let (status, answer) = ask(&bare, "/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(status, 404);
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("--model NAME=PATH"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_client_that_goes_away_takes_its_ask_back() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), &[]);
    ask(&node, "/v1/chat/completions", chat(json!({}))).await;
    let running = async || {
        let models = node.http("url").get("/v1/models/tiny").await.unwrap();
        let model: Value = serde_json::from_slice(&models.body).unwrap();
        let loaded = &model["weft"]["loaded"][0];
        loaded["running"].as_u64().unwrap() + loaded["waiting"].as_u64().unwrap()
    };
    let address = node.text("url").strip_prefix("http://").unwrap();
    for stream in [false, true] {
        let body = chat(json!({"max_tokens": 200, "stream": stream, "temperature": 1.5})).to_string();
        let mut left = TcpStream::connect(address).unwrap();
        let length = body.len();
        write!(
            left,
            "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        drop(left);
        let start = Instant::now();
        while running().await > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "the ask stays");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// What the node at an address says to a watcher from another address, head first, and its connection.
async fn watching(node: &Node, from: &str) -> (String, tokio::net::TcpStream) {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    let address = node.text("url").strip_prefix("http://").unwrap();
    let mut stream = socket.connect(address.parse().unwrap()).await.unwrap();
    let request = format!("GET /v1/watch/{} HTTP/1.1\r\nhost: x\r\n\r\n", "A".repeat(43));
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = [0; 1024];
    let length = stream.read(&mut head).await.unwrap();
    (String::from_utf8_lossy(&head[..length]).into_owned(), stream)
}

#[tokio::test]
async fn one_address_leaves_places_to_others() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), &[]);
    let mut held = vec![];
    for _ in 0..32 {
        let (head, stream) = watching(&node, "127.0.0.1").await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        held.push(stream);
    }
    let (head, _stream) = watching(&node, "127.0.0.1").await;
    assert!(head.starts_with("HTTP/1.1 429"), "{head}");
    assert!(head.to_ascii_lowercase().contains("retry-after: 1"), "{head}");
    assert!(head.contains("rate_limit_exceeded"), "{head}");
    let (head, _stream) = watching(&node, "127.0.0.2").await;
    assert!(
        head.starts_with("HTTP/1.1 200"),
        "another address watches: {head}"
    );
    let (status, answer) = ask(&node, "/v1/chat/completions", chat(json!({}))).await;
    assert_eq!(status, 200, "who watches asks all the same: {answer}");
    let prompts = json!({"model": "tiny", "prompt": vec!["a"; 65]});
    let (status, answer) = ask(&node, "/v1/completions", prompts).await;
    assert_eq!((status, &answer["error"]["param"]), (400, &json!("prompt")));
}

/// The unmodified client of the field.
#[tokio::test]
async fn the_openai_client_works() {
    let client = compat().join("openai");
    if !installed_in(&client) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let node = node(folder.path(), &[]);
    let mut given = node.ready.clone();
    given["width"] = json!(Shape::tiny().width);
    let script = Command::new("node")
        .arg("client.mjs")
        .arg(given.to_string())
        .current_dir(&client)
        .output()
        .unwrap();
    let out = String::from_utf8_lossy(&script.stdout);
    assert!(
        script.status.success(),
        "{out}\n{}",
        String::from_utf8_lossy(&script.stderr)
    );
    assert!(
        out.lines().filter(|line| line.starts_with("ok ")).count() >= 10,
        "{out}"
    );
}
