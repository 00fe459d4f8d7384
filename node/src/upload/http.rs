//! `GET /status`, which anybody may ask, and what the operator asks of the uploader.
//!
//! Not here: who the operator is (`admin`).

use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use wire::server::{Params, Reject};

use super::Board;

/// The public route.
pub fn router(board: Arc<Board>) -> Router {
    Router::new().route("/status", get(status)).with_state(board)
}

async fn status(State(board): State<Arc<Board>>, params: Params) -> Result<Response, Reject> {
    if params.has("process-id") {
        let process = board.process(params.id("process-id")?).await?;
        return Ok(Json(process).into_response());
    }
    if let Some(most) = params.number("carriers")? {
        let carriers = board.carriers(most).await?;
        return Ok(Json(serde_json::json!({ "carriers": carriers })).into_response());
    }
    Ok(Json(board.status().await?).into_response())
}
