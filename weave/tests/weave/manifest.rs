//! Manifests on the gateway: which paths lead where, and what wins over them.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::routing::get as route;
use serde_json::json;
use spec::DataItem;
use spec::contract::{Class, Permanent};
use weave::Weave;
use weave::http::{router, with_manifests};
use weave::manifest::CONTENT_TYPE;

use crate::common::*;

fn page(text: &str) -> DataItem {
    item(1, &[("Content-Type", "text/html")], text.to_string())
}

fn manifest(index: &DataItem, other: &DataItem) -> DataItem {
    let json = json!({
        "manifest": "arweave/paths",
        "version": "0.2.0",
        "index": { "path": "index.html" },
        "fallback": { "id": other.id() },
        "paths": { "index.html": { "id": index.id() }, "a b/c.html": { "id": other.id() } },
    });
    item(1, &[("content-type", CONTENT_TYPE)], json.to_string())
}

async fn held(weave: &Arc<Weave>) -> (DataItem, DataItem, DataItem) {
    let (index, other) = (page("index"), page("other"));
    let manifest = manifest(&index, &other);
    let all = vec![index.clone(), other.clone(), manifest.clone()];
    weave.append(all, Class::Local).await.unwrap();
    (index, other, manifest)
}

async fn ask(weave: &Arc<Weave>, path: &str) -> Reply {
    let routes = with_manifests(router(weave.clone()), weave.clone());
    send_to(routes, Request::get(path).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn paths_below_a_manifest_lead_to_its_items() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let (index, _, manifest) = held(&weave).await;
    let id = manifest.id();
    for (path, body) in [
        (format!("/{id}"), "index"),
        (format!("/{id}/"), "index"),
        (format!("/{id}/index.html"), "index"),
        (format!("/{id}/index.html/"), "index"),
        (format!("/{id}/a%20b/c.html?x=1"), "other"),
        (format!("/{id}/nowhere"), "other"),
    ] {
        let reply = ask(&weave, &path).await;
        assert_eq!(
            (reply.status.as_u16(), &reply.body[..]),
            (200, body.as_bytes()),
            "{path}"
        );
        assert_eq!(reply.header("content-type"), "text/html");
    }
    let reply = ask(&weave, &format!("/{id}/index.html")).await;
    assert_eq!(reply.header("etag"), format!("\"{}\"", index.id()));
    let raw = ask(&weave, &format!("/raw/{id}")).await;
    assert_eq!(raw.body, manifest.data());
    assert_eq!(raw.header("content-type"), CONTENT_TYPE);
    assert_eq!(ask(&weave, &format!("/raw/{id}/index.html")).await.status, 404);
    assert_eq!(
        ask(&weave, &format!("/{}/index.html", index.id())).await.status,
        404
    );
    assert_eq!(ask(&weave, "/short/index.html").await.status, 404);
}

#[tokio::test]
async fn parts_of_a_path_are_served_and_heads_have_no_body() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let (_, _, manifest) = held(&weave).await;
    let routes = with_manifests(router(weave.clone()), weave.clone());
    let path = format!("/{}/index.html", manifest.id());
    let head = Request::head(&path).body(Body::empty()).unwrap();
    let head = send_to(routes.clone(), head).await;
    assert_eq!(
        (
            head.status.as_u16(),
            head.header("content-length"),
            head.body.len()
        ),
        (200, "5", 0)
    );
    let part = Request::get(&path)
        .header("range", "bytes=1-2")
        .body(Body::empty());
    let part = send_to(routes.clone(), part.unwrap()).await;
    assert_eq!((part.status.as_u16(), &part.body[..]), (206, &b"nd"[..]));
    let post = Request::post(&path).body(Body::empty()).unwrap();
    assert_eq!(send_to(routes, post).await.status, 404);
}

#[tokio::test]
async fn any_other_route_wins_and_what_is_no_manifest_says_so() {
    let data = tempfile::tempdir().unwrap();
    let weave = open(data.path(), &Time::new());
    let (_, _, manifest) = held(&weave).await;
    let own = Router::new().route("/{process}/slot/current", route(|| async { "7" }));
    let routes = with_manifests(router(weave.clone()).merge(own), weave.clone());
    let asked = Request::get(format!("/{}/slot/current", manifest.id())).body(Body::empty());
    assert_eq!(send_to(routes, asked.unwrap()).await.body, "7");

    let broken = item(1, &[("Content-Type", CONTENT_TYPE)], "{}");
    let dangling = json!({ "manifest": "arweave/paths", "version": "0.1.0", "index": { "path": "x" },
        "paths": { "x": { "id": spec::ItemId([9; 32]) } } });
    let dangling = item(1, &[("Content-Type", CONTENT_TYPE)], dangling.to_string());
    weave
        .append(vec![broken.clone(), dangling.clone()], Class::Local)
        .await
        .unwrap();
    for (id, code) in [(broken.id(), "invalid-manifest"), (dangling.id(), "unknown-id")] {
        for path in [format!("/{id}"), format!("/{id}/x")] {
            let reply = ask(&weave, &path).await;
            assert_eq!(
                (reply.status.as_u16(), reply.header("x-weft-code")),
                (404, code),
                "{path}"
            );
        }
    }
    let reply = ask(&weave, &format!("/{}/nowhere", dangling.id())).await;
    assert_eq!(reply.header("x-weft-code"), "unknown-path");
}
