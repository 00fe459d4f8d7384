//! An encoder shared by many asks: each pass takes texts of whoever is next, up to a pass's rows.
//!
//! Not here: texts. Invariant: a text's vector does not depend on what shares its pass, nor on a device that was lost.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use super::decoding::Reload;
use super::model::Status;
use super::queue::Waits;
use super::worker::Inbox;
use super::{Cancel, Refusal};
use crate::device::Embed as Encode;
use crate::encoder::ROWS_MAX;
use crate::error::Error;

/// Texts being worked on.
pub struct Texts {
    pub asker: String,
    pub cancel: Cancel,
    /// Tokens of each.
    pub texts: Vec<Vec<u32>>,
    pub vectors: Vec<Vec<f32>>,
    pub reply: Sender<Result<Vec<Vec<f32>>, Refusal>>,
}

impl Waits for Texts {
    fn asker(&self) -> &str {
        &self.asker
    }

    fn cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }
}

/// An encoder's worker.
pub struct Encoding {
    pub encoder: Box<dyn Encode>,
    pub reload: Reload<Box<dyn Encode>>,
    pub status: Arc<Status>,
}

impl Encoding {
    /// Works until the inbox is closed or the device lost.
    pub fn run(mut self, inbox: &Inbox<Texts>) {
        while let Some(mut state) = inbox.wait() {
            drop(state.queue.cancelled());
            let (mut jobs, mut rows) = (vec![], 0);
            while rows < ROWS_MAX {
                let Some(job) = state.queue.pop() else { break };
                let fits = job.fits(ROWS_MAX - rows);
                if fits == 0 && rows > 0 {
                    state.queue.put_back(job);
                    break;
                }
                let fits = fits.max(1);
                rows += job.length(fits);
                jobs.push((job, fits));
            }
            drop(state);
            if let Err(refusal) = self.pass(&mut jobs) {
                for (job, _) in jobs {
                    let _heard = job.reply.send(Err(refusal.clone()));
                }
                return;
            }
            settle(inbox, jobs);
        }
    }

    fn pass(&mut self, jobs: &mut [(Texts, usize)]) -> Result<(), Refusal> {
        let texts: Vec<&[u32]> = jobs.iter().flat_map(|(job, count)| job.next(*count)).collect();
        let vectors = match self.encoder.embed(&texts) {
            Err(error @ Error::Device { .. }) => {
                let reload = self.reload.take().ok_or(error)?;
                self.encoder = reload()?;
                self.status.renamed(self.encoder.device(), 0);
                self.encoder.embed(&texts)
            }
            other => other,
        };
        let vectors = vectors.map_err(|error| Refusal::evaluation(&error))?;
        let mut vectors = vectors.into_iter();
        for (job, count) in jobs {
            job.vectors.extend(vectors.by_ref().take(*count));
        }
        Ok(())
    }
}

/// Answers what is done and puts the rest back in line.
fn settle(inbox: &Inbox<Texts>, jobs: Vec<(Texts, usize)>) {
    let mut state = inbox.lock();
    for (mut job, count) in jobs {
        let rows = job.texts[job.vectors.len() - count..job.vectors.len()]
            .iter()
            .map(Vec::len)
            .sum();
        state.queue.charge(&job.asker, rows);
        match job.vectors.len() == job.texts.len() {
            false => state.queue.put_back(job),
            true => {
                state.queue.ended(&job.asker);
                let _heard = job.reply.send(Ok(std::mem::take(&mut job.vectors)));
            }
        }
    }
}

impl Texts {
    /// The texts that come next.
    fn next(&self, count: usize) -> impl Iterator<Item = &[u32]> {
        self.texts[self.vectors.len()..][..count]
            .iter()
            .map(Vec::as_slice)
    }

    /// How many of them fit into so many rows.
    fn fits(&self, rows: usize) -> usize {
        let mut sum = 0;
        let lengths = self.texts[self.vectors.len()..].iter().map(Vec::len);
        lengths
            .take_while(|length| {
                sum += length;
                sum <= rows
            })
            .count()
    }

    /// Rows that so many of them take.
    fn length(&self, count: usize) -> usize {
        self.next(count).map(<[u32]>::len).sum()
    }
}
