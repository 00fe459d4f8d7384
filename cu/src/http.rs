//! The compute unit's routes: the field's legacy ones with their exact shapes, and `/contract`, which
//! carries the contract whole for our own clients. Not here: any decision about a message.

use std::str::FromStr;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::value::RawValue;
use spec::contract::{Answer, Compute, DryRun, OutcomesPage, OutcomesQuery};
use spec::{ItemId, ProcessId, Refusal};
use wire::compute::{self, EdgesJson, EvaluatedJson, PageJson, SlotJson};
use wire::server::{Params, Reject};

use crate::Cu;

/// Outcomes of a page of `/results` where the caller does not say.
const RESULTS_LIMIT: usize = 25;
/// Outcomes of a page of `/cron` where the caller does not say.
const CRONS_LIMIT: usize = 500;

/// The unit's routes, relative to its root.
pub fn router(unit: Arc<Cu>) -> Router {
    Router::new()
        .route("/", get(root))
        .route("/result/{message}", get(result))
        .route("/results/{process}", get(results))
        .route("/cron/{process}", get(crons))
        .route("/state/{process}", get(state))
        .route("/dry-run", post(dry_run))
        .route("/contract/result/{process}/{message}", get(contract_result))
        .route("/contract/results/{process}", get(contract_results))
        .route("/contract/crons/{process}", get(contract_crons))
        .route("/contract/state/{process}", get(contract_state))
        .route("/contract/watch/{process}", get(contract_watch))
        .with_state(unit)
}

/// A refusal; a module that cannot run here is 422, as the field answers it.
struct Refused(Refusal);

impl<E: Into<Refusal>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let is_module = self.0.kind == spec::Kind::Invalid && self.0.code.starts_with("module-");
        let mut response = Reject(self.0).into_response();
        if is_module {
            *response.status_mut() = StatusCode::UNPROCESSABLE_ENTITY;
        }
        response
    }
}

type Reply<T> = Result<T, Refused>;
type Unit = State<Arc<Cu>>;

fn id<T: FromStr>(text: &str, name: &str) -> Answer<T> {
    text.parse().map_err(|_| {
        let text = format!("'{name}': `{text}` is not an id of 43 characters.");
        Refusal::invalid("invalid-id", text)
    })
}

fn process_param(params: &Params) -> Answer<ProcessId> {
    let text = params.get("process-id").filter(|text| !text.is_empty());
    let missing = "'processId': a process-id query parameter is required.";
    id(
        text.ok_or_else(|| Refusal::invalid("missing-parameter", missing))?,
        "processId",
    )
}

/// Reads `from`, `to`, `limit` and `sort`. What the query says about the direction counts before what a
/// cursor says.
fn page_query(params: &Params, limit: usize, sorts: bool) -> Answer<OutcomesQuery> {
    let position = |name| {
        params
            .get(name)
            .filter(|text| !text.is_empty())
            .map(compute::parse_position)
            .transpose()
    };
    let (from, to) = (position("from")?, position("to")?);
    let sort = params
        .get("sort")
        .filter(|text| !text.is_empty())
        .map(compute::parse_sort)
        .transpose()?;
    let of_cursor = from.as_ref().and_then(|(_, sort)| *sort);
    let limit = params
        .number("limit")?
        .filter(|limit| *limit > 0)
        .unwrap_or(limit);
    Ok(OutcomesQuery {
        descending: sorts && sort.or(of_cursor).unwrap_or(false),
        from: from.map(|(position, _)| position),
        to: to.map(|(position, _)| position),
        limit,
        failed: false,
    })
}

async fn root(State(unit): Unit) -> Reply<Json<serde_json::Value>> {
    let timestamp = unit.tick().await?.timestamp_ms;
    Ok(Json(
        serde_json::json!({ "address": unit.address(), "timestamp": timestamp }),
    ))
}

async fn result(State(unit): Unit, Path(message): Path<String>, params: Params) -> Reply<Response> {
    let process = process_param(&params)?;
    let evaluated = unit.result(process, id(&message, "messageId")?).await?;
    Ok(Json(&*evaluated.outcome).into_response())
}

async fn results(State(unit): Unit, Path(process): Path<String>, params: Params) -> Reply<Response> {
    let query = page_query(&params, RESULTS_LIMIT, true)?;
    let descending = query.descending;
    let page = unit.results(id(&process, "processId")?, query).await?;
    Ok(edges(&page, descending))
}

async fn crons(State(unit): Unit, Path(process): Path<String>, params: Params) -> Reply<Response> {
    let query = page_query(&params, CRONS_LIMIT, false)?;
    let page = unit.crons(id(&process, "processId")?, query).await?;
    Ok(edges(&page, false))
}

fn edges(page: &OutcomesPage, descending: bool) -> Response {
    Json(EdgesJson::new(page, descending)).into_response()
}

async fn state(State(unit): Unit, Path(process): Path<String>, params: Params) -> Reply<Response> {
    let state = unit
        .state(id(&process, "processId")?, params.number("to")?)
        .await?;
    let text = |number: u64| number.to_string();
    let headers = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (
            HeaderName::from_static("last-timestamp"),
            text(state.tick.timestamp_ms),
        ),
        (HeaderName::from_static("last-ordinate"), text(state.slot)),
        (
            HeaderName::from_static("last-block-height"),
            text(state.tick.block_height),
        ),
    ];
    Ok((headers, state.memory).into_response())
}

async fn dry_run(State(unit): Unit, params: Params, body: Bytes) -> Reply<Response> {
    let process = process_param(&params)?;
    let max = unit.config().dry_run_bytes_max;
    if body.len() > max {
        let text = format!("the message of {} bytes is over {max}", body.len());
        return Err(Refusal::limit("dry-run-bytes", text).into());
    }
    let message: Box<RawValue> = serde_json::from_slice(&body).map_err(|error| {
        Refusal::invalid(
            "invalid-dry-run",
            format!("the body must be a message as JSON: {error}"),
        )
    })?;
    let to = params
        .get("to")
        .filter(|text| !text.is_empty())
        .map(|text| id(text, "to"))
        .transpose()?;
    let outcome = unit.dry_run(process, DryRun { message, to }).await?;
    Ok(Json(&*outcome).into_response())
}

async fn contract_result(
    State(unit): Unit,
    Path((process, message)): Path<(String, String)>,
) -> Reply<Response> {
    let (process, message): (ProcessId, ItemId) = (id(&process, "processId")?, id(&message, "messageId")?);
    let evaluated = unit.result(process, message).await?;
    Ok(Json(EvaluatedJson::from(&evaluated)).into_response())
}

async fn contract_results(State(unit): Unit, Path(process): Path<String>, params: Params) -> Reply<Response> {
    let mut query = page_query(&params, RESULTS_LIMIT, true)?;
    query.failed = params.has("failed");
    let page = unit.results(id(&process, "processId")?, query).await?;
    Ok(Json(PageJson::from(&page)).into_response())
}

async fn contract_crons(State(unit): Unit, Path(process): Path<String>, params: Params) -> Reply<Response> {
    let query = page_query(&params, CRONS_LIMIT, true)?;
    let page = unit.crons(id(&process, "processId")?, query).await?;
    Ok(Json(PageJson::from(&page)).into_response())
}

async fn contract_state(State(unit): Unit, Path(process): Path<String>, params: Params) -> Reply<Response> {
    let state = unit
        .state(id(&process, "processId")?, params.number("to")?)
        .await?;
    Ok(compute::frame_state(&state).into_response())
}

async fn contract_watch(State(unit): Unit, Path(process): Path<String>, params: Params) -> Reply<Response> {
    let slot = unit
        .watch(id(&process, "processId")?, params.number("after")?)
        .await?;
    Ok(Json(SlotJson { slot }).into_response())
}
