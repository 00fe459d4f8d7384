//! `/v1/…`: the node's models in the form that clients of OpenAI's API speak, for people and agents.
//!
//! Not here: evaluation (`inference::service`). Invariant: a request holds a place while it is answered and no longer
//! (`places.rs`); a client that goes away takes its ask back.

mod ask;
mod error;
mod places;
mod reply;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::RecvTimeoutError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::body::Body as HttpBody;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use axum::{Extension, Json, Router};
use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::stream::unfold;
use inference::service::{Cancel, Embed, Generate, ModelRef, Refusal, Service, Token, Watch};
use serde_json::Value;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::sync::watch;
use wire::server::Peer;

use super::settings::Limits;
use super::shelf::file_id;
use ask::{Body, EmbedBody, Route};
use error::Error;
use places::{Place, Places};
use reply::Head;

/// Pieces of a stream that wait for a slow reader.
const PIECES_WAITING: usize = 64;
/// How long a watcher's thread waits before it looks whether the reader is still there.
const WATCH_TURN: Duration = Duration::from_secs(5);

/// What the routes speak to.
pub struct Front {
    service: Service,
    /// Ids by the names that clients use.
    names: BTreeMap<String, String>,
    /// Whether content ids are known here, too.
    by_id: bool,
    answers: Arc<Places>,
    watches: Arc<Places>,
    limits: Limits,
    stop: watch::Sender<bool>,
}

type Answer = Result<Response, Error>;

impl Front {
    /// A front of files by name, and of whatever lies in permanent storage where that is here.
    pub fn new<'a>(
        service: Service,
        names: impl IntoIterator<Item = &'a String>,
        by_id: bool,
        limits: Limits,
    ) -> Front {
        let names = names.into_iter().map(|name| (name.clone(), file_id(name)));
        Front {
            service,
            names: names.collect(),
            by_id,
            answers: Places::new("answers", limits.requests_max, limits.address_max),
            watches: Places::new("watches", limits.watches_max, limits.address_max),
            limits,
            stop: watch::channel(false).0,
        }
    }

    /// Ends every answer: a node that stops does not wait for models.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// The model a client names, with or without a profile.
    fn model(&self, name: &str) -> Result<ModelRef, Error> {
        let mut model = ModelRef::named(name);
        match self.names.get(&model.id) {
            Some(id) => model.id.clone_from(id),
            None if self.by_id && model.id.parse::<spec::ItemId>().is_ok() => {}
            None => return Err(self.unknown(name)),
        }
        Ok(model)
    }

    fn unknown(&self, name: &str) -> Error {
        if name.is_empty() {
            return Error::invalid(
                "model",
                "`model` is missing; `GET /v1/models` lists those of this node",
            );
        }
        let text = match self.names.is_empty() {
            true => format!("no model `{name}`: this node was given none; start it with `--model NAME=PATH`"),
            false => {
                let names: Vec<&str> = self.names.keys().map(String::as_str).collect();
                format!("no model `{name}` here; there are: {}", names.join(", "))
            }
        };
        Error {
            status: StatusCode::NOT_FOUND,
            code: "model_not_found",
            param: Some("model".to_owned()),
            text,
        }
    }

    /// What computes a model now.
    fn device(&self, model: &ModelRef) -> String {
        let mut loaded = self.service.loaded().into_iter();
        loaded
            .find(|standing| standing.is(model))
            .map_or(String::new(), |standing| standing.device)
    }

    /// Waits for work on a thread of its own; the work is taken back if the client goes away or the node stops.
    async fn wait<T: Send + 'static>(
        &self,
        cancel: Cancel,
        work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Error> {
        let _taken_back = TakesBack(cancel);
        let mut stop = self.stop.subscribe();
        let done = tokio::task::spawn_blocking(work);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => Err(Error::busy("the node stops")),
            done = done => match done {
                Ok(done) => Ok(done?),
                Err(error) => Err(Error::busy(format!("the answer was given up: {error}"))),
            },
        }
    }
}

/// Takes an ask back when nobody waits for it any more.
struct TakesBack(Cancel);

impl Drop for TakesBack {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// The routes.
pub fn router(front: Arc<Front>) -> Router {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{name}", get(model))
        .route("/v1/chat/completions", post(chat))
        .route("/v1/completions", post(completions))
        .route("/v1/embeddings", post(embeddings))
        .route("/v1/watch/{process}", get(watch))
        .route("/v1/{*rest}", any(no_route))
        .method_not_allowed_fallback(no_method)
        .with_state(front)
}

async fn no_route(uri: Uri) -> Error {
    let text = format!(
        "there is no {}: models are asked at /v1/chat/completions, /v1/completions and /v1/embeddings",
        uri.path()
    );
    Error {
        status: StatusCode::NOT_FOUND,
        code: "no-route",
        ..Error::form(text)
    }
}

async fn no_method(method: Method, uri: Uri) -> Error {
    Error {
        status: StatusCode::METHOD_NOT_ALLOWED,
        code: "method",
        ..Error::form(format!("{} does not take {method}", uri.path()))
    }
}

async fn models(State(front): State<Arc<Front>>) -> Json<Value> {
    let names: Vec<(String, String)> = front.names.clone().into_iter().collect();
    Json(reply::models(&names, &front.service))
}

async fn model(State(front): State<Arc<Front>>, Path(name): Path<String>) -> Answer {
    let id = front.model(&name)?.id;
    let mut all = reply::models(&[(name, id)], &front.service);
    Ok(Json(all["data"][0].take()).into_response())
}

/// A request's body, whole.
type Sent = Result<Bytes, BytesRejection>;

async fn chat(State(front): State<Arc<Front>>, peer: Option<Extension<Peer>>, body: Sent) -> Answer {
    front.answer(Route::Chat, peer, body?).await
}

async fn completions(State(front): State<Arc<Front>>, peer: Option<Extension<Peer>>, body: Sent) -> Answer {
    front.answer(Route::Completions, peer, body?).await
}

async fn embeddings(State(front): State<Arc<Front>>, peer: Option<Extension<Peer>>, body: Sent) -> Answer {
    let asked = EmbedBody::read(&body?)?;
    let (model, asker) = (front.model(&asked.model)?, asker(peer));
    let place = front.answers.take(&asker, 1)?;
    let ask = Embed {
        model: model.clone(),
        texts: asked.texts,
        gas_max: None,
        asker,
    };
    let service = front.service.clone();
    let embed = move || {
        let _place = place;
        service.embed(&ask)
    };
    let answer = front.wait(Cancel::default(), embed).await;
    let answer = answer.map_err(|error| error.about("input"))?;
    let size = answer.vectors.first().map_or(0, Vec::len);
    if asked.dimensions.is_some_and(|wanted| wanted != size) {
        let text = format!("`dimensions` is {size} for this model: its vectors come whole");
        return Err(Error::invalid("dimensions", text));
    }
    let reply = reply::embedded(&asked.model, &answer, asked.base64, &front.device(&model));
    Ok(Json(reply).into_response())
}

/// What a process's answers are, as they are written: its state commits once, when they are whole.
async fn watch(
    State(front): State<Arc<Front>>,
    peer: Option<Extension<Peer>>,
    Path(process): Path<String>,
) -> Answer {
    // Only processes are watched: other askers are people.
    if process.parse::<spec::ProcessId>().is_err() {
        return Err(Error::invalid(
            "process",
            "only a process is watched: give its id",
        ));
    }
    let place = front.watches.take(&asker(peer), 1)?;
    let watch = front.service.watch(&process)?;
    let (pieces, heard) = channel(PIECES_WAITING);
    let cancel = Cancel::default();
    let taken_back = TakesBack(cancel.clone());
    tokio::task::spawn_blocking(move || {
        let _place = place;
        tell_watched(&watch, &pieces, &cancel);
    });
    let state = (
        Some(Bytes::from_static(b": watching\n\n")),
        heard,
        front.stop.subscribe(),
        taken_back,
    );
    Ok(streamed(state))
}

/// Hands on what is seen until the reader is gone.
fn tell_watched(watch: &Watch, pieces: &Sender<Piece>, cancel: &Cancel) {
    while !cancel.is_cancelled() {
        let bytes = match watch.seen.recv_timeout(WATCH_TURN) {
            Ok(watched) => event(&reply::watched(&watched)),
            Err(RecvTimeoutError::Timeout) => Bytes::from_static(b": still here\n\n"),
            Err(RecvTimeoutError::Disconnected) => return,
        };
        if pieces.blocking_send(Ok(bytes)).is_err() {
            return;
        }
    }
}

fn streamed(state: Streaming) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, HttpBody::from_stream(unfold(state, next))).into_response()
}

/// Who asks.
fn asker(peer: Option<Extension<Peer>>) -> String {
    places::address(peer.map(|Extension(peer)| peer))
}

impl Front {
    async fn answer(self: Arc<Self>, route: Route, peer: Option<Extension<Peer>>, body: Bytes) -> Answer {
        let body = Body::read(&body)?;
        let name = body.model.clone();
        let (model, asker) = (self.model(&name)?, asker(peer));
        let head = Head {
            route,
            id: id(route)?,
            created: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |t| t.as_secs()),
            model: name,
        };
        let (stream, counts) = (body.stream == Some(true), body.counts());
        let asks = body.asks(route, &model, &asker)?;
        let prompts_max = self.limits.prompts_max.min(self.answers.share());
        if asks.len() > prompts_max {
            let text = format!("to {prompts_max} prompts in one request");
            return Err(Error::invalid("prompt", text));
        }
        if stream && asks.len() != 1 {
            return Err(Error::invalid("stream", "one prompt per stream"));
        }
        // A place for each: every one is an answer that a thread waits for.
        let place = self.answers.take(&asker, asks.len())?;
        match stream {
            true => self.stream(head, asks, counts, place).await,
            false => self.whole(head, &model, asks, place).await,
        }
        .map_err(|error| error.about(route.input()))
    }

    /// All answers, at once.
    async fn whole(&self, head: Head, model: &ModelRef, asks: Vec<Generate>, place: Place) -> Answer {
        let place = Arc::new(place);
        let generate = |ask: Generate| {
            let (service, cancel, place) = (self.service.clone(), Cancel::default(), place.clone());
            self.wait(cancel.clone(), move || {
                let _place = place;
                service.generate_with(&ask, &cancel, &mut |_| ())
            })
        };
        let answers = try_join_all(asks.into_iter().map(generate)).await?;
        let (service, model, device) = (self.service.clone(), model.clone(), self.device(model));
        let form = move || {
            let spell = |token| service.detokenize(&model, &[token]).unwrap_or_default();
            Ok(head.whole(&answers, &device, &spell))
        };
        Ok(Json(self.wait(Cancel::default(), form).await?).into_response())
    }

    /// Pieces of one answer as they come. A refusal that comes before the first is an answer of its own.
    async fn stream(
        self: &Arc<Self>,
        head: Head,
        mut asks: Vec<Generate>,
        counts: bool,
        place: Place,
    ) -> Answer {
        let ask = asks.remove(0);
        let (pieces, mut heard) = channel(PIECES_WAITING);
        let cancel = Cancel::default();
        let taken_back = TakesBack(cancel.clone());
        let telling = Telling {
            service: self.service.clone(),
            front: Arc::clone(self),
            head,
            counts,
            pieces,
            cancel,
        };
        tokio::task::spawn_blocking(move || {
            let _place = place;
            telling.tell(&ask);
        });
        let mut stop = self.stop.subscribe();
        let first = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => None,
            first = heard.recv() => first,
        };
        let first = first.unwrap_or_else(|| Err(Error::busy("the node stops")))?;
        let state = (Some(first), heard, stop, taken_back);
        Ok(streamed(state))
    }
}

type Piece = Result<Bytes, Error>;
type Streaming = (Option<Bytes>, Receiver<Piece>, watch::Receiver<bool>, TakesBack);

/// The next bytes of a stream; an error is its last event.
async fn next(
    (first, mut heard, mut stop, taken_back): Streaming,
) -> Option<(Result<Bytes, std::convert::Infallible>, Streaming)> {
    let piece = match first {
        Some(first) => Ok(first),
        None => tokio::select! {
            _ = stop.wait_for(|stop| *stop) => None,
            piece = heard.recv() => piece,
        }?,
    };
    let bytes = piece.unwrap_or_else(|error| event(&error.json()));
    Some((Ok(bytes), (None, heard, stop, taken_back)))
}

fn event(value: &Value) -> Bytes {
    format!("data: {value}\n\n").into()
}

/// What a streamed answer's thread needs.
struct Telling {
    service: Service,
    front: Arc<Front>,
    head: Head,
    counts: bool,
    pieces: Sender<Piece>,
    cancel: Cancel,
}

impl Telling {
    /// Asks, and sends each piece on as it comes.
    fn tell(self, ask: &Generate) {
        let spell = |token| self.service.detokenize(&ask.model, &[token]).unwrap_or_default();
        let mut opening = self.head.opening();
        let answer = self
            .service
            .generate_with(ask, &self.cancel, &mut |token: &Token| {
                if let Some(opening) = opening.take() {
                    self.send(&opening);
                }
                // A token that adds no whole character is told with one that does.
                if !token.text.is_empty() || token.logprob.is_some() {
                    self.send(&self.head.piece(token, &spell));
                }
            });
        match answer {
            Err(refusal) => {
                let _heard = self.pieces.blocking_send(Err(refusal.into()));
            }
            Ok(answer) => {
                self.send(&self.head.closing(&answer, &self.front.device(&ask.model)));
                if self.counts {
                    self.send(&self.head.counts(&answer));
                }
                let _heard = self
                    .pieces
                    .blocking_send(Ok(Bytes::from_static(b"data: [DONE]\n\n")));
            }
        }
    }

    fn send(&self, value: &Value) {
        if self.pieces.blocking_send(Ok(event(value))).is_err() {
            self.cancel.cancel();
        }
    }
}

/// A new answer's id.
fn id(route: Route) -> Result<String, Error> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(|error| Error::busy(format!("no randomness: {error}")))?;
    let prefix = match route {
        Route::Chat => "chatcmpl",
        Route::Completions => "cmpl",
    };
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{prefix}-{hex}"))
}
