//! The route over the base layer: a transaction of our own, its chunks at several peers, and a watch over both.
//!
//! Not here: when a carrier takes this route. The invariant: the signed transaction is durable before anybody sees
//! it; another one is signed only once it can never be mined; the bytes stay the same.

use std::collections::BTreeSet;

use spec::carrier::CarrierTags;
use spec::contract::Answer;
use spec::transaction::Content;
use spec::{Refusal, Transaction};

use super::bundle::Bundle;
use super::confirm::{self, Round, Spot};
use super::crowd::Verdict;
use super::ledger::{Carrier, Stage, Trip};
use super::note::{Route, Signed, Step, Told, Vehicle};
use super::report::Alarm;
use super::uploader::Uploader;
use crate::network::ChunkAccepted;

/// Confirmations at which the chunks are looked for the first time: early enough to bring missing ones.
const LOOK_CONFIRMATIONS: u64 = 2;

impl Uploader {
    /// What a route asks for so many bytes.
    pub(super) async fn price(&mut self, route: &Route, bytes: u64) -> Answer<u128> {
        let price = match route {
            Route::L1 => self.crowd.price(bytes).await?,
            Route::Bundler(name) => {
                let price = self.service(name)?.price(bytes).await;
                self.crowd.heard(price)?
            }
        };
        let margin = match route {
            Route::L1 => price.saturating_mul(self.config.price_margin_percent.into()) / 100,
            Route::Bundler(_) => 0,
        };
        Ok(price.saturating_add(margin))
    }

    /// What the wallet has on a route.
    pub(super) async fn balance(&mut self, route: &Route) -> Answer<u128> {
        let address = match self.wallet.transaction_owner() {
            Some(owner) if *route == Route::L1 => owner.address(),
            _ => self.wallet.address(),
        };
        match route {
            Route::L1 => self.crowd.balance(address).await,
            Route::Bundler(name) => {
                let balance = self.service(name)?.balance(address).await;
                self.crowd.heard(balance)
            }
        }
    }

    /// Signs a transaction for a carrier, if money and the chain allow it.
    pub(super) async fn sign_transaction(&mut self, carrier: &Carrier) -> Answer<()> {
        let Some(height) = self.height else { return Ok(()) };
        let too_many = || {
            let text = "more carriers are led to by none than a transaction can name: upstreams do not prove what they hold";
            Refusal::upstream("too-few-peers", text)
        };
        let previous = self.ledger.previous_on_l1().ok_or_else(too_many)?;
        // What was withheld since it was bundled must not be signed for.
        let bundle = self.load(carrier).await?;
        assert_eq!(
            (bundle.root(), bundle.len()),
            (carrier.data_root, carrier.bundle_len),
            "the note is of these bytes"
        );
        let cost = self.price(&Route::L1, carrier.bundle_len).await?;
        if !self.is_in_budget(cost) || !self.is_affordable(cost).await? {
            return Ok(());
        }
        let tags = CarrierTags {
            epoch: self.epoch_of(carrier)?,
            sequence: carrier.sequence,
            segment_item: carrier.segment_item,
            previous,
        };
        let content = Content {
            last_tx: self.crowd.anchor().await?.into(),
            tags: tags
                .encode()
                .map_err(|error| Refusal::internal(error.to_string()))?,
            reward: cost,
            data_size: carrier.bundle_len,
            data_root: Some(carrier.data_root),
            ..Content::default()
        };
        let transaction = content.sign(&self.wallet);
        let transaction = transaction.map_err(|error| Refusal::internal(error.to_string()))?;
        tracing::info!(sequence = carrier.sequence, id = %transaction.id, %cost, height, "a transaction is signed");
        let signed = Signed {
            sequence: carrier.sequence,
            route: Route::L1,
            height,
            cost,
            id: transaction.id,
            vehicle: Vehicle::Transaction(Box::new(transaction)),
        };
        self.tell(Told::Signed(signed)).await?;
        Ok(())
    }

    async fn is_affordable(&mut self, cost: u128) -> Answer<bool> {
        let balance = self.balance(&Route::L1).await?;
        if balance < cost {
            self.alarms.insert(Alarm::Balance);
        }
        Ok(balance >= cost)
    }

    /// Does for a transaction what is due.
    pub(super) async fn tend_l1(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        match trip.stage {
            Stage::Signed => self.post(carrier, trip).await,
            Stage::Posted | Stage::Seeded => {
                self.seed(carrier, trip).await?;
                self.watch_waiting(carrier, trip).await
            }
            Stage::Mined => self.watch_mined(carrier, trip).await,
            Stage::Permanent | Stage::Archived => Ok(()),
        }
    }

    fn transaction(&self, trip: &Trip) -> Answer<Transaction> {
        match self.signed(trip)?.vehicle {
            Vehicle::Transaction(transaction) => Ok(*transaction),
            Vehicle::Item(_) => Err(Refusal::internal("a transaction's note holds an item")),
        }
    }

    /// Posts the header to the next peer that takes it.
    async fn post(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        if self.is_dead(trip) {
            return self.expire(carrier, trip).await;
        }
        // Nothing of a bundle that is void already shall become known.
        self.load(carrier).await?;
        let transaction = self.transaction(trip)?;
        let mut refused = None;
        for at in self.crowd.rotation() {
            let posted = self.crowd.peer(at).post_transaction(&transaction).await;
            match self.crowd.heard(posted) {
                Ok(_) => {
                    let (height, name) = (self.height, self.crowd.peer(at).name().to_owned());
                    let pending = self.pending(trip.id);
                    pending.posted_at = height.or(pending.posted_at);
                    pending.seeded.clear();
                    pending.temporary.clear();
                    self.pending.remove(&carrier.segment_item);
                    return self.move_to(carrier, trip, Step::Posted, name, None).await;
                }
                Err(refusal) => refused = Some(refusal),
            }
        }
        // Who refuses it may have kept it all the same: it counts, and keeps the next one waiting, until it is dead.
        refused.map_or(Ok(()), Err)
    }

    /// Whether the chain has gone on too long for it.
    fn is_dead(&self, trip: &Trip) -> bool {
        let last = trip.signed_height + self.config.expiry_blocks;
        self.height.is_some_and(|height| height > last)
    }

    /// Gives a transaction up: it can never be mined.
    async fn expire(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        self.move_to(carrier, trip, Step::Expired, String::new(), None)
            .await
    }

    /// Posts each chunk to enough peers that have not taken it yet.
    async fn seed(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        let wanted = self.config.seed_peers.min(self.crowd.takers());
        let places: BTreeSet<u64> = confirm::sample(trip.id, carrier.bundle_len, usize::MAX)
            .into_iter()
            .collect();
        let peers = self.crowd.all();
        let pending = self.pending(trip.id);
        let lacks = |peer: &usize| {
            let taken = [pending.seeded.get(peer), pending.temporary.get(peer)];
            let is_taken = |place: &u64| taken.iter().flatten().any(|taken| taken.contains(place));
            places
                .iter()
                .copied()
                .filter(|place| !is_taken(place))
                .collect::<Vec<u64>>()
        };
        let lacking: Vec<(usize, Vec<u64>)> = peers.iter().map(|peer| (*peer, lacks(peer))).collect();
        let full = lacking.iter().filter(|(_, places)| places.is_empty()).count();
        if full < wanted {
            let bundle = self.load(carrier).await?;
            let (mut full, mut lacking) =
                (full, lacking.into_iter().filter(|(_, places)| !places.is_empty()));
            while let Some((peer, places)) = lacking.next().filter(|_| full < wanted) {
                full += usize::from(self.seed_peer(&bundle, trip, peer, &places).await);
            }
        }
        let pending = self.pending(trip.id);
        let seeded = pending
            .seeded
            .values()
            .filter(|taken| taken.len() == places.len())
            .count();
        match seeded >= wanted && trip.stage == Stage::Posted {
            true => {
                let by = format!("{seeded} peers");
                self.move_to(carrier, trip, Step::Seeded, by, None).await
            }
            false => Ok(()),
        }
    }

    /// Posts these of a bundle's chunks to a peer. Whether it took all of them; what it refuses is tried again later.
    async fn seed_peer(&mut self, bundle: &Bundle, trip: &Trip, at: usize, places: &[u64]) -> bool {
        for chunk in bundle.chunks().filter(|chunk| places.contains(&chunk.start)) {
            let post = bundle.post_of(&chunk);
            let posted = self.crowd.peer(at).post_chunk(&post).await;
            let accepted = match self.crowd.heard(posted) {
                Ok(accepted) => accepted,
                Err(refusal) => {
                    // The transaction's header may be on its way to it.
                    if refusal.code != "data-root-not-found" {
                        self.crowd.dismiss(at);
                    }
                    return false;
                }
            };
            let pending = self.pending(trip.id);
            let taken = match accepted {
                ChunkAccepted::Stored => &mut pending.seeded,
                // No promise: it is looked for once the transaction is mined.
                ChunkAccepted::Temporary => &mut pending.temporary,
            };
            taken.entry(at).or_default().insert(chunk.start);
        }
        true
    }

    /// Looks whether a transaction was mined; posts it again if nobody knows it, and gives it up in the end.
    async fn watch_waiting(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        let verdict = self.crowd.verdict(trip.id, None).await;
        let Some(height) = self.height else {
            return Ok(());
        };
        match verdict {
            Verdict::Mined { height, .. } => {
                let mined = Some((trip.id, height));
                self.pending(trip.id).looked_at = None;
                self.move_to(carrier, trip, Step::Mined, String::new(), mined)
                    .await
            }
            Verdict::Unmined { .. } if self.is_dead(trip) => self.expire(carrier, trip).await,
            Verdict::Unmined { is_missing: true } => {
                let posted_at = *self.pending(trip.id).posted_at.get_or_insert(height);
                match height >= posted_at + self.config.repost_blocks {
                    true => self.post(carrier, trip).await,
                    false => Ok(()),
                }
            }
            Verdict::Unmined { .. } | Verdict::Unclear => Ok(()),
        }
    }

    /// Watches over a transaction in a block: that it stays there, that its chunks are there, and how deep it is.
    async fn watch_mined(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        let Some(confirmations) = self.confirmations(carrier, trip).await? else {
            return Ok(());
        };
        if !self.is_look_due(trip, confirmations) {
            return Ok(());
        }
        let spot = Spot::find(
            &mut self.crowd,
            trip.id,
            trip.height,
            carrier.data_root,
            carrier.bundle_len,
        );
        let Some(spot) = spot.await else { return Ok(()) };
        let places = confirm::sample(trip.id, carrier.bundle_len, self.config.proof_chunks_max);
        let witnesses = self.witnesses(trip, confirmations);
        let due = self.unproved(trip, &places);
        let round = spot.round(&mut self.crowd, &witnesses, &due).await;
        let is_whole = self.looked(trip, &places, &round);
        self.mend(carrier, trip, &round).await?;
        match is_whole && confirmations >= self.config.confirmations {
            true => self.settle(carrier, trip, &round).await,
            false => Ok(()),
        }
    }

    /// Peers that are to prove the data: others than the one it was posted to, when there are; of guests rather those
    /// that took it. Guests that none of it ever comes from do not keep it waiting for ever.
    fn witnesses(&mut self, trip: &Trip, confirmations: u64) -> Vec<usize> {
        let mut others = self.crowd.others(&trip.posted_to);
        let own = self.crowd.own();
        let seeded = &self.pending(trip.id).seeded;
        others.sort_by_key(|at| *at >= own && !seeded.contains_key(at));
        others.truncate(self.config.seed_peers.max(2) - 1);
        let is_late = confirmations >= self.config.confirmations + self.config.expiry_blocks;
        if is_late && !self.crowd.has_other_own(&trip.posted_to) {
            others.extend(self.crowd.rotation());
            others.sort_unstable();
            others.dedup();
        }
        others
    }

    /// How deep a mined vehicle is by now. `None` if it is not known, or was thrown back.
    pub(super) async fn confirmations(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<Option<u64>> {
        let transaction = trip.transaction.unwrap_or(trip.id);
        let verdict = self.crowd.verdict(transaction, Some(trip.height)).await;
        match (verdict, self.height) {
            (Verdict::Mined { height, .. }, Some(now)) if height == trip.height => {
                Ok(Some((now + 1).saturating_sub(height)))
            }
            (Verdict::Mined { height, .. }, _) => {
                let mined = Some((transaction, height));
                let pending = self.pending(trip.id);
                pending.proved.clear();
                pending.looked_at = None;
                self.move_to(carrier, trip, Step::Mined, "another block".into(), mined)
                    .await?;
                Ok(None)
            }
            (Verdict::Unmined { .. }, Some(now)) => {
                let pending = self.pending(trip.id);
                pending.seeded.clear();
                pending.proved.clear();
                (pending.posted_at, pending.looked_at) = (Some(now), None);
                self.move_to(carrier, trip, Step::Unmined, String::new(), None)
                    .await?;
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether the chunks are to be looked for: early, in each block until they are all there, and at the depth that
    /// counts.
    pub(super) fn is_look_due(&mut self, trip: &Trip, confirmations: u64) -> bool {
        let (height, most) = (self.height, self.config.confirmations);
        let pending = self.pending(trip.id);
        let is_early = confirmations >= LOOK_CONFIRMATIONS.min(most) && !pending.is_whole;
        (is_early || confirmations >= most) && pending.looked_at != height
    }

    /// Those places whose chunks nobody proved lately.
    pub(super) fn unproved(&mut self, trip: &Trip, places: &[u64]) -> Vec<u64> {
        let (height, blocks) = (self.height.unwrap_or(0), self.config.proof_blocks);
        let pending = self.pending(trip.id);
        let is_fresh = |place: &u64| pending.proved.get(place).is_some_and(|at| at + blocks > height);
        places.iter().copied().filter(|place| !is_fresh(place)).collect()
    }

    /// Notes what a look found; whether every chunk was proved lately.
    pub(super) fn looked(&mut self, trip: &Trip, places: &[u64], round: &Round) -> bool {
        let height = self.height;
        let proved = round.proved.iter().map(|place| (*place, height.unwrap_or(0)));
        let pending = self.pending(trip.id);
        pending.proved.extend(proved);
        pending.looked_at = height;
        let is_whole = self.unproved(trip, places).is_empty();
        let pending = self.pending(trip.id);
        pending.is_whole = is_whole;
        match is_whole {
            true => pending.hollow_since = None,
            false => pending.hollow_since = pending.hollow_since.or(height),
        }
        is_whole
    }

    /// Brings the chunks that a look found missing.
    pub(super) async fn mend(&mut self, carrier: &Carrier, trip: &Trip, round: &Round) -> Answer<()> {
        if round.missing.is_empty() {
            return Ok(());
        }
        let bundle = self.load(carrier).await?;
        metrics::counter!("weave_upload_mended_chunks_total").increment(round.missing.len() as u64);
        for at in 0..self.crowd.len() {
            let of_peer = round.missing.iter().filter(|(peer, _)| *peer == at);
            let places: Vec<u64> = of_peer.map(|(_, place)| *place).collect();
            if !places.is_empty() {
                self.seed_peer(&bundle, trip, at, &places).await;
            }
        }
        Ok(())
    }

    /// It is permanent.
    pub(super) async fn settle(&mut self, carrier: &Carrier, trip: &Trip, round: &Round) -> Answer<()> {
        assert_eq!(
            trip.stage,
            Stage::Mined,
            "only what is in a block becomes permanent"
        );
        let provers = round.provers.iter().map(|at| self.crowd.peer(*at).name());
        let by = provers.collect::<Vec<_>>().join(" ");
        let mined = Some((trip.transaction.unwrap_or(trip.id), trip.height));
        self.move_to(carrier, trip, Step::Permanent, by, mined).await
    }
}
