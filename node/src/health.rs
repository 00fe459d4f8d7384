//! Whether the node lives and is ready, and its metrics.

use axum::Json;
use axum::Router;
use axum::http::header;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;

/// `/` (what the ready line says, without the data folder), `/health/live`, `/health/ready` and `/metrics`. Routes are served only once every unit is open,
/// so an answer at all means ready; a process that hangs gives none.
pub fn router(metrics: Option<PrometheusHandle>, ready: serde_json::Value) -> Router {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    let render = move || {
        let text = metrics.as_ref().map(PrometheusHandle::render).unwrap_or_default();
        std::future::ready((content_type, text))
    };
    Router::new()
        .route("/", get(move || std::future::ready(Json(ready.clone()))))
        .route("/health/live", get(|| async { "live\n" }))
        .route("/health/ready", get(|| async { "ready\n" }))
        .route("/metrics", get(render))
}
