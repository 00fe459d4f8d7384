//! A request's body whose rest is read even when the handler has already answered.
//!
//! A connection closed with unread bytes is reset, and a reset takes the answer with it: the client
//! of a refused upload would see a broken pipe instead of the reason. Not here: how long a body may
//! be, or how long a handler may wait for it.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// Longest that the rest of an answered request is read.
const TOTAL_MAX: Duration = Duration::from_secs(30);
/// Longest wait for the next bytes of it.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The body of a request, read to its end in the background when it is dropped before.
pub(crate) struct Lingering {
    /// Empty only while it is dropped.
    body: Option<Incoming>,
    /// The client waits for leave to send (`Expect: 100-continue`): without it nothing comes.
    asks_first: bool,
}

impl Lingering {
    pub(crate) fn new(body: Incoming, asks_first: bool) -> Lingering {
        Lingering {
            body: Some(body),
            asks_first,
        }
    }
}

impl Body for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(body).poll_frame(cx);
        self.asks_first = false;
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.body = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let body = self.body.as_ref();
        body.map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        if self.asks_first || body.is_end_stream() {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(TOTAL_MAX, read_out(body)));
        }
    }
}

/// Reads a body to its end, or until its client stops sending.
async fn read_out(mut body: Incoming) {
    while let Ok(Some(Ok(_))) = tokio::time::timeout(IDLE_MAX, body.frame()).await {}
}
