//! The audit: what is permanent is looked at again, one carrier at a time, for as long as we hold its bytes.
//!
//! Not here: getting there (`l1`, `service`). The invariant: a carrier whose data nobody has, or whose block is gone,
//! is not called permanent any longer, and goes its way again.

use spec::contract::Answer;

use super::confirm::{self, Round, Spot};
use super::ledger::{Carrier, Stage, Trip};
use super::note::{Route, Step};
use super::uploader::Uploader;

impl Uploader {
    /// Looks at the carrier that was not looked at for the longest time, if one is due.
    pub(super) async fn audit(&mut self) -> Answer<()> {
        if self.height.is_none() || self.now_ms < self.audit_due_ms {
            return Ok(());
        }
        let settled = self.ledger.carriers().filter(|carrier| carrier.is_settled());
        let seen_ms = |carrier: &&Carrier| self.audited.get(&carrier.sequence).copied().unwrap_or(0);
        let Some(carrier) = settled.min_by_key(seen_ms).cloned() else {
            return Ok(());
        };
        let trip = carrier.settled_trip().expect("a vehicle settled it").clone();
        self.audited.insert(carrier.sequence, self.now_ms);
        self.audit_due_ms = self.now_ms + self.config.audit_ms;
        let audited = self.look_back(&carrier, &trip).await;
        self.absorb(carrier.segment_item, audited)
    }

    async fn look_back(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        let confirmations = self.confirmations(carrier, trip).await?;
        let Some(confirmations) = confirmations else {
            return Ok(());
        };
        let places = self.places(carrier, trip)?;
        let Some(round) = self.look_again(carrier, trip, &places).await? else {
            return Ok(());
        };
        metrics::counter!("weave_upload_audits_total").increment(1);
        if trip.route == Route::L1 {
            // What was withheld since cannot be brought again; that it is gone counts all the same.
            let mended = self.mend(carrier, trip, &round).await;
            self.absorb(carrier.segment_item, mended)?;
        }
        if !round.gone.is_empty() {
            return self.doubt(carrier, trip).await;
        }
        self.doubted.remove(&carrier.sequence);
        let is_old = confirmations >= self.config.archive_confirmations;
        match is_old && round.proved.len() == places.len() && trip.stage == Stage::Permanent {
            true => self.judge(carrier, trip, Step::Archived).await,
            false => Ok(()),
        }
    }

    fn places(&self, carrier: &Carrier, trip: &Trip) -> Answer<Vec<u64>> {
        match trip.route {
            Route::L1 => {
                let most = self.config.proof_chunks_max;
                Ok(confirm::sample(trip.id, carrier.bundle_len, most))
            }
            Route::Bundler(_) => self.places_of_item(carrier, trip),
        }
    }

    async fn look_again(&mut self, carrier: &Carrier, trip: &Trip, places: &[u64]) -> Answer<Option<Round>> {
        if trip.route != Route::L1 {
            return self.look_at_item(carrier, trip, places).await;
        }
        let (root, len) = (carrier.data_root, carrier.bundle_len);
        let spot = Spot::find(&mut self.crowd, trip.id, trip.height, root, len);
        let Some(spot) = spot.await else { return Ok(None) };
        let mut peers = self.crowd.all();
        peers.truncate(self.config.seed_peers.max(1));
        Ok(Some(spot.round(&mut self.crowd, &peers, places).await))
    }

    /// Nobody asked has some of it: looked at again next, and if it is so still, it is lost.
    async fn doubt(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        self.audited.remove(&carrier.sequence);
        match self.doubted.insert(carrier.sequence) {
            true => Ok(()),
            false => self.judge(carrier, trip, Step::Lost).await,
        }
    }

    async fn judge(&mut self, carrier: &Carrier, trip: &Trip, step: Step) -> Answer<()> {
        let mined = Some((trip.transaction.unwrap_or(trip.id), trip.height));
        self.doubted.remove(&carrier.sequence);
        self.move_to(carrier, trip, step, String::new(), mined).await
    }
}
