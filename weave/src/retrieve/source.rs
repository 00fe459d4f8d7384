//! The gateways that are asked: which one next, and when one that asked for patience is asked again.
//!
//! Not here: what is asked, and whether an answer is true; the asker says so by refusing it. The invariant: a gateway
//! that lied, was late or is busy comes after those that did not and are not, and none is given up for good.

use std::fmt::Display;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use spec::contract::Answer;
use spec::{Kind, Refusal};

use super::{Error, Limits, Result};
use crate::network::{Peer, Transport};

/// One gateway.
#[derive(Clone)]
pub struct Source {
    peer: Peer,
    /// How often it answered what is not so, or nothing.
    faults: Arc<AtomicUsize>,
    quiet: Quiet,
}

/// Until when a gateway wants to be left alone.
type Quiet = Arc<Mutex<Option<Instant>>>;

impl Source {
    /// A gateway by its name and the way to it.
    pub fn new(name: &str, transport: Arc<dyn Transport>, limits: &Limits) -> Source {
        let quiet = Quiet::default();
        let patient = Patient {
            inner: transport,
            quiet: quiet.clone(),
            wait_max: Duration::from_millis(limits.wait_ms_max),
        };
        let most = usize::try_from(limits.bundle_bytes_max).unwrap_or(usize::MAX);
        Source {
            peer: Peer::new(name, Arc::new(patient)).with_data_bytes_max(most),
            faults: Arc::default(),
            quiet,
        }
    }

    fn quiet_for(&self) -> Duration {
        let until = *self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }
}

/// Notes how long a gateway wants to be left alone.
struct Patient {
    inner: Arc<dyn Transport>,
    quiet: Quiet,
    wait_max: Duration,
}

#[async_trait]
impl Transport for Patient {
    async fn send(&self, request: Request<Bytes>, bytes_max: usize) -> Answer<Response<Bytes>> {
        let response = self.inner.send(request, bytes_max).await?;
        let is_busy = matches!(
            response.status(),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        );
        let after = response.headers().get(header::RETRY_AFTER);
        // A date instead of seconds is left to the rounds' own waits.
        let seconds = after.and_then(|after| after.to_str().ok()?.trim().parse().ok());
        if let Some(seconds) = seconds.filter(|_| is_busy) {
            let wait = Duration::from_secs(seconds).min(self.wait_max);
            *self.quiet.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + wait);
        }
        Ok(response)
    }
}

/// All gateways. Cloning shares what is known of them.
#[derive(Clone)]
pub struct Sources {
    all: Arc<[Source]>,
    limits: Limits,
    turn: Arc<AtomicUsize>,
}

impl Sources {
    /// These gateways.
    ///
    /// # Panics
    /// Without any: who asks names one.
    pub fn new(all: Vec<Source>, limits: Limits) -> Sources {
        assert!(!all.is_empty(), "somebody must be asked");
        Sources {
            all: all.into(),
            limits,
            turn: Arc::default(),
        }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How often each gateway answered what is not so, or nothing; by name.
    pub fn faults(&self) -> Vec<(String, usize)> {
        let fault = |source: &Source| {
            (
                source.peer.name().to_owned(),
                source.faults.load(Ordering::Relaxed),
            )
        };
        self.all.iter().map(fault).collect()
    }

    /// The best first; equals take turns.
    fn order(&self) -> Vec<&Source> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let mut order: Vec<&Source> = self.all.iter().collect();
        order.rotate_left(turn % self.all.len());
        order.sort_by_key(|source| {
            (
                source.quiet_for() > Duration::ZERO,
                source.faults.load(Ordering::Relaxed),
            )
        });
        order
    }

    /// Asks one gateway after the other until an answer is taken. What `ask` refuses counts against the gateway.
    pub(super) async fn first<T, F>(
        &self,
        what: &(dyn Display + Sync),
        rounds_max: usize,
        ask: impl Fn(Peer) -> F,
    ) -> Result<T>
    where
        F: Future<Output = Answer<T>>,
    {
        let mut tried = Vec::new();
        for round in 0..rounds_max.max(1) {
            let mut may_help = false;
            tried.clear();
            for source in self.order() {
                // All that are not quiet were asked before.
                tokio::time::sleep(source.quiet_for()).await;
                match ask(source.peer.clone()).await {
                    Ok(answer) => return Ok(answer),
                    Err(refusal) => {
                        let is_fault = refusal.kind != Kind::NotFound;
                        source.faults.fetch_add(usize::from(is_fault), Ordering::Relaxed);
                        may_help |= refusal.is_retryable();
                        tried.push((source.peer.name().to_owned(), refusal.text));
                    }
                }
            }
            if !may_help || round + 1 == rounds_max {
                break;
            }
            self.wait(round).await;
        }
        let what = what.to_string();
        Err(Error::NotHad { what, tried })
    }

    /// Asks every gateway; answers with what they said, and why some said nothing.
    pub(super) async fn each<T, F>(
        &self,
        rounds_max: usize,
        ask: impl Fn(Peer) -> F,
    ) -> (Vec<T>, Vec<(String, String)>)
    where
        F: Future<Output = Answer<T>>,
    {
        let (answers, tried) = self.each_by_number(rounds_max, ask).await;
        (answers.into_iter().map(|(_, answer)| answer).collect(), tried)
    }

    /// The same, with the number of the gateway that said it.
    pub(super) async fn each_by_number<T, F>(
        &self,
        rounds_max: usize,
        ask: impl Fn(Peer) -> F,
    ) -> (Vec<(usize, T)>, Vec<(String, String)>)
    where
        F: Future<Output = Answer<T>>,
    {
        let (mut answers, mut tried) = (Vec::new(), Vec::new());
        for (number, source) in self.all.iter().enumerate() {
            for round in 0..rounds_max.max(1) {
                tokio::time::sleep(source.quiet_for()).await;
                match ask(source.peer.clone()).await {
                    Ok(answer) => {
                        answers.push((number, answer));
                        break;
                    }
                    Err(refusal) if !refusal.is_retryable() || round + 1 >= rounds_max => {
                        tried.push((source.peer.name().to_owned(), refusal.text));
                        break;
                    }
                    Err(_) => self.wait(round).await,
                }
            }
        }
        (answers, tried)
    }

    async fn wait(&self, round: usize) {
        let wait = self.limits.round_wait_ms.saturating_mul(1 << round.min(16));
        tokio::time::sleep(Duration::from_millis(wait.min(self.limits.wait_ms_max))).await;
    }
}

/// What an answer that is not so is refused with.
pub(super) fn lie(why: impl Display) -> Refusal {
    Refusal::upstream("not-so", why.to_string())
}
