//! `GET /events?process=ID&from=SLOT`: the outcomes of a process as they happen, as server-sent events.
//!
//! A reader who connects again with `Last-Event-ID` loses nothing. A slow reader slows only itself: what
//! it has not taken is not read. Not here: the form of an event, which `wire::events` has.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use futures_util::stream::unfold;
use spec::contract::{Answer, Compute, Scheduler};
use spec::{ProcessId, Refusal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use wire::events::{CONTENT_TYPE, Follower, From, frame, heartbeat, refusal_frame};
use wire::server::{Params, Reject};

/// The streams of a node.
pub struct Feeds {
    compute: Arc<dyn Compute>,
    scheduler: Arc<dyn Scheduler>,
    /// Places for readers.
    places: Arc<Semaphore>,
    stop: watch::Sender<bool>,
}

/// One reader.
struct Reader {
    follower: Follower,
    stop: watch::Receiver<bool>,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Feeds {
    /// Streams from these units, to at most so many readers at once.
    pub fn new(compute: Arc<dyn Compute>, scheduler: Arc<dyn Scheduler>, readers_max: usize) -> Feeds {
        Feeds {
            compute,
            scheduler,
            places: Arc::new(Semaphore::new(readers_max)),
            stop: watch::channel(false).0,
        }
    }

    /// Ends every stream: a node that stops must not wait for readers who would stay for ever.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    async fn open(&self, process: ProcessId, from: From) -> Answer<Reader> {
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| {
            let text = "too many readers follow processes of this node; try again later";
            Refusal::busy("feeds-open", text)
        })?;
        self.catch_up(process).await?;
        Ok(Reader {
            follower: Follower::open(self.compute.clone(), &*self.scheduler, process, from).await?,
            stop: self.stop.subscribe(),
            is_over: false,
            _place: place,
        })
    }

    /// Outcomes that were lost with the cache are evaluated again while the reader waits for them.
    async fn catch_up(&self, process: ProcessId) -> Answer<()> {
        let latest = self.scheduler.latest(process).await?.assignment.subject();
        let compute = self.compute.clone();
        tokio::spawn(async move { compute.result(process, latest).await });
        Ok(())
    }
}

impl Reader {
    /// The next bytes; `None` once the stream is over.
    async fn next(mut self) -> Option<(Result<Bytes, std::convert::Infallible>, Reader)> {
        if self.is_over || *self.stop.borrow() {
            return None;
        }
        let found = tokio::select! {
            _ = self.stop.changed() => return None,
            found = self.follower.next() => found,
        };
        let bytes = match found {
            Ok(found) if found.is_empty() => heartbeat(),
            Ok(found) => found.iter().map(frame).collect::<Vec<_>>().concat().into(),
            Err(refusal) => {
                self.is_over = true;
                refusal_frame(&refusal)
            }
        };
        Some((Ok(bytes), self))
    }
}

/// The route.
pub fn router(feeds: Arc<Feeds>) -> Router {
    Router::new().route("/events", get(events)).with_state(feeds)
}

async fn events(
    State(feeds): State<Arc<Feeds>>,
    params: Params,
    headers: HeaderMap,
) -> Result<Response, Reject> {
    let process = params.id("process")?;
    let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let reader = feeds.open(process, From::read(&params, last)?).await?;
    let body = Body::from_stream(unfold(reader, Reader::next));
    let headers = [
        (header::CONTENT_TYPE, CONTENT_TYPE),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, body).into_response())
}
