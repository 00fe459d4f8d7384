//! The mainnet routes: what clients of a HyperBEAM node ask, at the root, in terms of the four
//! contracts. Served wherever the messenger runs; scheduler and compute unit may be elsewhere.
//!
//! Not here: devices, codecs and signatures of messages other than ANS-104 items. The invariant: an
//! answer is about the slot that was asked for.

mod answer;
mod path;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::value::RawValue;
use spec::contract::{Answer, Compute, DryRun, LogEntry, Messenger, Scheduler, Span};
use spec::{DataItem, ItemId, ProcessId, Refusal};
use wire::server::Reject;

use answer::{Evaluation, Facts, Pushed};
use path::{Ask, At, What};

/// Who a dry run without a signed item is from: the name the field's client uses for nobody.
const NOBODY: &str = "1234";

/// A handler's answer.
type Handled = Result<Response, Reject>;

/// What the routes speak to.
pub struct Mainnet {
    /// The messenger, which signs what it pushes.
    pub messenger: Arc<mu::Mu>,
    /// The scheduler.
    pub scheduler: Arc<dyn Scheduler>,
    /// The compute unit.
    pub compute: Arc<dyn Compute>,
    /// The scheduler's account, if it is this node's.
    pub scheduler_address: Option<spec::Address>,
}

/// The routes, for the root.
pub fn router(mainnet: Arc<Mainnet>) -> Router {
    Router::new()
        .route("/~meta@1.0/info", get(info))
        .route("/~meta@1.0/info/address", get(address).post(address))
        .route("/push", post(push))
        .route("/{process}/{*what}", get(resolve).post(resolve))
        .with_state(mainnet)
}

async fn info(State(mainnet): State<Arc<Mainnet>>) -> Response {
    let facts = Facts {
        address: mainnet.messenger.address(),
        scheduler: mainnet.scheduler_address,
        version: env!("CARGO_PKG_VERSION"),
    };
    axum::Json(facts).into_response()
}

/// The messenger's account: clients make it the `Authority` of what they spawn.
async fn address(State(mainnet): State<Arc<Mainnet>>) -> String {
    mainnet.messenger.address().to_string()
}

/// Reads the item in a body.
fn item(headers: &HeaderMap, body: Bytes) -> Answer<DataItem> {
    if headers.contains_key("signature-input") {
        let text = "this node takes signed ANS-104 items, not HTTP message signatures: set the client's \
                    signing format to ans104";
        return Err(Refusal::invalid("no-http-signatures", text));
    }
    if body.is_empty() {
        let text = "the request has no body: post a signed ANS-104 item, as application/ans104";
        return Err(Refusal::invalid("no-item", text));
    }
    Ok(DataItem::parse_verified(body)?)
}

async fn push(State(mainnet): State<Arc<Mainnet>>, headers: HeaderMap, body: Bytes) -> Handled {
    mainnet.push(item(&headers, body)?).await
}

async fn resolve(
    State(mainnet): State<Arc<Mainnet>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Handled {
    let Some(ask) = path::parse(uri.path(), uri.query())? else {
        let text = format!(
            "there is no route {}; see the README for the routes of each unit",
            uri.path()
        );
        return Err(Refusal::not_found("no-route", text).into());
    };
    if method == Method::GET && matches!(ask.what, What::Push | What::Schedule) {
        let text = "push and schedule take a POST with a signed item";
        let refusal = Reject(Refusal::invalid("not-a-post", text));
        return Ok((StatusCode::METHOD_NOT_ALLOWED, refusal).into_response());
    }
    mainnet.answer(ask, &headers, body).await
}

impl Mainnet {
    async fn answer(&self, ask: Ask, headers: &HeaderMap, body: Bytes) -> Handled {
        let process = ask.process;
        match ask.what {
            What::Push => self.push(addressed(item(headers, body)?, process)?).await,
            What::Schedule => {
                let item = addressed(item(headers, body)?, process)?;
                let scheduled = self.scheduler.schedule(item).await?;
                Ok(answer::scheduled(&scheduled))
            }
            What::Slot => Ok(self
                .entry(process, At::Latest)
                .await?
                .assignment
                .slot
                .to_string()
                .into_response()),
            What::AtSlot(at) => Ok(self
                .entry(process, at)
                .await?
                .assignment
                .slot
                .to_string()
                .into_response()),
            What::Outcome(at) => {
                let subject = self.entry(process, at).await?.assignment.subject();
                let evaluated = self.compute.result(process, subject).await?;
                Ok(answer::evaluated(Evaluation::of(process, &evaluated)))
            }
            What::DryRun(tags) => self.dry_run(process, tags, headers, body).await,
        }
    }

    /// Accepts an item; of a message answers once it is evaluated, of a process once it is durable.
    async fn push(&self, item: DataItem) -> Handled {
        let (id, target) = (item.id(), item.target().copied());
        let pushed = self.messenger.push(item).await?;
        match (pushed.process, target) {
            (Some(process), _) => {
                let spawned = self.messenger.spawned(process).await?;
                Ok(answer::spawned(process, spawned))
            }
            (None, Some(target)) => Ok(answer::pushed(self.pushed(ProcessId(target), id).await?)),
            (None, None) => Err(Refusal::internal("the messenger took a message for nobody").into()),
        }
    }

    /// What became of a message. It has its slot, whatever its evaluation says.
    async fn pushed(&self, process: ProcessId, id: ItemId) -> Answer<Pushed> {
        let slot = self.scheduler.message(process, id).await?.assignment.slot;
        let evaluated = self.compute.result(process, id).await;
        Ok(Pushed {
            process,
            id,
            slot,
            evaluated,
        })
    }

    async fn entry(&self, process: ProcessId, at: At) -> Answer<LogEntry> {
        match at {
            At::Latest => self.scheduler.latest(process).await,
            At::Message(id) if id == ItemId::from(process) => self.scheduler.process(process).await,
            At::Message(id) => self.scheduler.message(process, id).await,
            At::Slot(slot) => {
                let page = self.scheduler.log(process, Span::Slots(slot, slot), 1).await?;
                page.entries.into_iter().next().ok_or_else(|| {
                    let text = format!("the log of {process} has no slot {slot} yet; its highest is at /{process}/slot/current");
                    Refusal::not_found("no-such-slot", text)
                })
            }
        }
    }

    /// Evaluates without a slot. The item's own tags are the client's talk with its node: the
    /// message's tags are those of the path.
    async fn dry_run(
        &self,
        process: ProcessId,
        tags: Vec<(String, String)>,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Handled {
        let item = match body.is_empty() {
            true => None,
            false => Some(item(headers, body)?),
        };
        let message = answer::dry_message(process, item.as_ref(), NOBODY, &tags);
        let message = RawValue::from_string(message).map_err(|error| Refusal::internal(error.to_string()))?;
        let outcome = self
            .compute
            .dry_run(process, DryRun { message, to: None })
            .await?;
        Ok(answer::dry(process, &outcome))
    }
}

/// The item, if it is for the process that the path names.
fn addressed(item: DataItem, process: ProcessId) -> Answer<DataItem> {
    if item.target().is_none_or(|target| *target == process.0) {
        return Ok(item);
    }
    let text = format!("the item's target is another than the process {process} of the path");
    Err(Refusal::invalid("other-target", text))
}
