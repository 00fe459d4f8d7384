//! The uploader at work in a node: one task that takes its turns, and answers what others ask in between.
//!
//! Not here: what a turn does (`weave::upload`). The invariant: one task owns the uploader; who asks while a turn is
//! under way is answered after it, or with the report of the turn before.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use spec::Refusal;
use spec::contract::Answer;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use weave::upload::{Preview, Report, Uploader};

/// Questions that wait at most.
const ASKS_MAX: usize = 64;
/// How long a turn that is under way is waited for before its predecessor's report is answered, ms.
const LOOK_TIME_MS: u64 = 500;
/// After a turn that failed.
const FAILED_PAUSE_MS: u64 = 5_000;
/// Longest pause between turns, whatever the uploader's clock says.
const PAUSE_MS_MAX: u64 = 60 * 60 * 1000;
/// Shortest pause between turns.
const PAUSE_MS_MIN: u64 = 20;
/// How long a turn under way is waited for when the node stops, ms. The uploader goes on from the log anyhow.
const STOP_TIME_MS: u64 = 500;

type Look = Box<dyn FnOnce(&Uploader) + Send>;

enum Ask {
    Look(Look),
    Seal(oneshot::Sender<Answer<()>>),
    Preview(oneshot::Sender<Answer<Preview>>),
}

/// The handle of a running uploader.
pub struct Upload {
    asks: Mutex<Option<mpsc::Sender<Ask>>>,
    last: Arc<Mutex<Report>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// Now, ms since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_millis() as u64)
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Changed by whole assignments; a panic elsewhere leaves it usable.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn stopped() -> Refusal {
    Refusal::busy("upload-stopped", "the uploader has stopped; restart the node")
}

impl Upload {
    /// Sets an uploader to work.
    ///
    /// # Errors
    /// If its first report cannot be made.
    pub async fn start(uploader: Uploader) -> Answer<Upload> {
        // What was sealed before the start is read once, to count it.
        let reported = tokio::task::spawn_blocking(move || (uploader.report(), uploader)).await;
        let (report, uploader) =
            reported.map_err(|error| Refusal::internal(format!("the upload's report: {error}")))?;
        let last = Arc::new(Mutex::new(report?));
        let (asks, asked) = mpsc::channel(ASKS_MAX);
        let task = tokio::spawn(run(uploader, asked, last.clone()));
        Ok(Upload {
            asks: Mutex::new(Some(asks)),
            last,
            task: Mutex::new(Some(task)),
        })
    }

    /// The upload at a glance.
    pub async fn report(&self) -> Answer<Report> {
        let looked = self.look(Uploader::report);
        match tokio::time::timeout(Duration::from_millis(LOOK_TIME_MS), looked).await {
            Ok(report) => report?,
            Err(_) => Ok(locked(&self.last).clone()),
        }
    }

    /// What somebody sees of the uploader between two turns.
    pub async fn look<T: Send + 'static>(
        &self,
        see: impl FnOnce(&Uploader) -> T + Send + 'static,
    ) -> Answer<T> {
        let (told, answer) = oneshot::channel();
        let look = move |uploader: &Uploader| {
            // Whoever asked may be gone.
            let _ = told.send(see(uploader));
        };
        self.ask(Ask::Look(Box::new(look))).await?;
        answer.await.map_err(|_| stopped())
    }

    /// Seals the open segment, so that it goes up at once.
    pub async fn seal(&self) -> Answer<()> {
        let (told, answer) = oneshot::channel();
        self.ask(Ask::Seal(told)).await?;
        answer.await.map_err(|_| stopped())?
    }

    /// What would be paid now for all that waits.
    pub async fn preview(&self) -> Answer<Preview> {
        let (told, answer) = oneshot::channel();
        self.ask(Ask::Preview(told)).await?;
        answer.await.map_err(|_| stopped())?
    }

    async fn ask(&self, ask: Ask) -> Answer<()> {
        let asks = locked(&self.asks).clone().ok_or_else(stopped)?;
        asks.send(ask).await.map_err(|_| stopped())
    }

    /// Ends the task after the turn under way, or in the middle of a long one.
    pub async fn close(&self) {
        drop(locked(&self.asks).take());
        let task = locked(&self.task).take();
        let Some(mut task) = task else { return };
        if tokio::time::timeout(Duration::from_millis(STOP_TIME_MS), &mut task)
            .await
            .is_err()
        {
            task.abort();
            // The log is closed after this.
            let _ = task.await;
        }
    }
}

async fn run(mut uploader: Uploader, mut asked: mpsc::Receiver<Ask>, last: Arc<Mutex<Report>>) {
    loop {
        // How long to wait is told by the clock, and measured by one that nobody sets.
        let rest_ms = match uploader.turn(now_ms()).await {
            Ok(next) => next.at_ms.saturating_sub(now_ms()).max(PAUSE_MS_MIN),
            Err(refusal) => {
                tracing::error!(code = &*refusal.code, "the upload is stuck: {refusal}");
                FAILED_PAUSE_MS
            }
        };
        let due = Instant::now() + Duration::from_millis(rest_ms.min(PAUSE_MS_MAX));
        match uploader.report() {
            Ok(report) => *locked(&last) = report,
            Err(refusal) => tracing::error!("the upload's report cannot be made: {refusal}"),
        }
        if !wait(&mut uploader, &mut asked, due).await {
            break;
        }
    }
    uploader.save();
}

/// Answers until the next turn is due; `false` once nobody can ask any more.
async fn wait(uploader: &mut Uploader, asked: &mut mpsc::Receiver<Ask>, due: Instant) -> bool {
    loop {
        match tokio::time::timeout_at(due, asked.recv()).await {
            Err(_) => return true,
            Ok(None) => return false,
            Ok(Some(Ask::Look(look))) => look(uploader),
            Ok(Some(Ask::Preview(told))) => {
                // Whoever asked may be gone; the same below.
                let _ = told.send(uploader.preview().await);
            }
            Ok(Some(Ask::Seal(told))) => {
                let _ = told.send(uploader.seal().await);
                return true;
            }
        }
    }
}
