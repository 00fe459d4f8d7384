//! Any text as a GraphQL query, or as the request around one, to the gateway's route: no panic, always JSON,
//! never our fault.
#![no_main]

use std::sync::LazyLock;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use libfuzzer_sys::fuzz_target;
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// Longest answer read, in bytes.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Items the queries can find.
const ITEMS: [&[u8]; 3] = [
    include_bytes!("../../spec/vectors/items/ed25519.bin"),
    include_bytes!("../../spec/vectors/items/ethereum.bin"),
    include_bytes!("../../spec/vectors/items/arweave_salt32.bin"),
];

struct Gateway {
    runtime: Runtime,
    router: Router,
    _data: tempfile::TempDir,
}

static GATEWAY: LazyLock<Gateway> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime starts");
    let data = tempfile::tempdir().expect("a folder can be made");
    let weave = runtime.block_on(async { weave::Weave::open(weave::Config::default(), data.path()) });
    let router = weave::http::router(weave.expect("an empty folder opens"));
    let gateway = Gateway {
        runtime,
        router,
        _data: data,
    };
    for item in ITEMS {
        assert_eq!(gateway.post("/tx", Body::from(item)).0, StatusCode::OK);
    }
    gateway
});

impl Gateway {
    fn post(&self, path: &str, body: Body) -> (StatusCode, serde_json::Value) {
        let request = Request::post(path)
            .header("content-type", "application/json")
            .body(body);
        let request = request.expect("a constant head");
        self.runtime.block_on(async {
            let response = self.router.clone().oneshot(request).await.expect("routes answer");
            let status = response.status();
            let body = to_bytes(response.into_body(), ANSWER_BYTES_MAX)
                .await
                .expect("answers are bounded");
            (
                status,
                serde_json::from_slice(&body).expect("every answer is JSON"),
            )
        })
    }
}

fuzz_target!(|text: &str| {
    // A text that begins like JSON is the whole request, any other one the query in it.
    let body = match text.starts_with("{\"") {
        true => text.to_owned(),
        false => serde_json::json!({ "query": text }).to_string(),
    };
    let (status, _) = GATEWAY.post("/graphql", Body::from(body));
    assert!(!status.is_server_error(), "{status}");
});
