//! The messenger's routes, relative to its own root, in the shapes of the legacy network.
//!
//! Not here: limits of bodies and time, CORS and path clean-up, which the server puts around all
//! routes. A POST is never redirected: clients cannot replay a binary body.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use spec::contract::{Answer, Field, Messenger, TraceQuery};
use spec::{ItemId, ProcessId, Refusal};
use wire::messenger::{Accepted, Connection, Spawned};
use wire::server::{Params, Reject};

use crate::Mu;

/// Entries of a page of traces, unless the query says otherwise.
const PAGE_SIZE: usize = 10;

/// The routes.
pub fn router(mu: Arc<Mu>) -> Router {
    Router::new()
        .route("/", get(root).post(accept))
        .route("/monitor/{process}", post(monitor).delete(unmonitor))
        .with_state(mu)
}

async fn root(State(mu): State<Arc<Mu>>, params: Params) -> Result<Response, Reject> {
    if !params.has("debug") {
        return Ok("ao messenger unit".into_response());
    }
    let page = mu.traces(trace_query(&params)?).await?;
    Ok(Json(Connection::from(page)).into_response())
}

fn trace_query(params: &Params) -> Answer<TraceQuery> {
    let names: Vec<_> = ["message", "assign", "spawn"]
        .into_iter()
        .filter(|name| params.has(name))
        .collect();
    if let [first, second, ..] = names[..] {
        let text = format!("ask for `{first}` or for `{second}`, not for both");
        return Err(Refusal::invalid("ambiguous-query", text));
    }
    let item = names.first().map(|name| params.id::<ItemId>(name)).transpose()?;
    let process = params
        .has("process")
        .then(|| params.id::<ProcessId>("process"))
        .transpose()?;
    Ok(TraceQuery {
        process,
        item,
        wallet: params.get("wallet").map(str::to_owned),
        page: params.number("page")?.unwrap_or(1),
        page_size: params.number("page-size")?.unwrap_or(PAGE_SIZE),
    })
}

async fn accept(
    State(mu): State<Arc<Mu>>,
    params: Params,
    body: Bytes,
) -> Result<(StatusCode, HeaderMap, Json<Accepted>), Reject> {
    let accepted = match (params.has("process-id"), params.has("assign")) {
        (true, true) => assign(&mu, &params).await?,
        (false, false) => {
            let pushed = mu.push(mu.read_item(body)?).await?;
            let spawned = match pushed.process {
                Some(process) => mu.spawned(process).await?,
                None => Spawned::default(),
            };
            Accepted {
                message: "Processing DataItem".into(),
                id: pushed.id,
                process_id: pushed.process,
                spawned,
            }
        }
        _ => {
            let text = "You must set both process-id and assign, or neither to post a data item";
            return Err(Refusal::invalid("half-an-assignment", text).into());
        }
    };
    Ok((StatusCode::ACCEPTED, accepted.spawned.headers(), Json(accepted)))
}

async fn assign(mu: &Mu, params: &Params) -> Answer<Accepted> {
    let (process, id) = (params.id("process-id")?, params.id("assign")?);
    let base_layer = params.has("base-layer") && params.get("base-layer") != Some("false");
    let exclude = Field::parse_list(params.get("exclude").unwrap_or(""))?;
    let id = mu.assign(process, id, base_layer, exclude).await?;
    Ok(Accepted {
        message: "Processing Assignment".into(),
        id,
        process_id: None,
        spawned: Spawned::default(),
    })
}

async fn monitor(
    State(mu): State<Arc<Mu>>,
    Path(process): Path<String>,
    body: Bytes,
) -> Result<&'static str, Reject> {
    mu.monitor(process_id(&process)?, mu.read_item(body)?).await?;
    Ok("Monitoring process")
}

async fn unmonitor(
    State(mu): State<Arc<Mu>>,
    Path(process): Path<String>,
    body: Bytes,
) -> Result<&'static str, Reject> {
    mu.unmonitor(process_id(&process)?, mu.read_item(body)?).await?;
    Ok("Process deleted")
}

fn process_id(text: &str) -> Answer<ProcessId> {
    Ok(text.parse()?)
}
