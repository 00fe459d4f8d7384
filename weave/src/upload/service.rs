//! The route through a bundling service: an item, its promise, and our own look at the chain for what it carried.
//!
//! Not here: believing it. The invariant: a service's word makes nothing permanent; the item is found byte for byte in
//! a transaction that a quorum has in a block. Until then the next route stays open.

use spec::carrier::CarrierTags;
use spec::contract::Answer;
use spec::{DataItem, ItemId, Refusal, Transaction};

use super::confirm::{self, Round, Spot};
use super::crowd::Verdict;
use super::ledger::{Carrier, Stage, Trip};
use super::note::{Promised, Route, Signed, Step, Told, Vehicle};
use super::uploader::Uploader;
use crate::network::{BundlerService, ItemState};

/// Bytes of a bundle's item count.
const COUNT_LEN: u64 = 32;
/// Bytes of a row of its table: size, id.
const ROW_LEN: u64 = 64;

impl Uploader {
    pub(super) fn service(&self, name: &str) -> Answer<BundlerService> {
        let service = self.bundlers.iter().find(|service| service.name() == name);
        let gone = || {
            Refusal::upstream(
                "no-route",
                format!("the bundler {name} is not configured any more"),
            )
        };
        service.cloned().ok_or_else(gone)
    }

    /// Signs a bundler's item for a carrier, if the budget allows it.
    pub(super) async fn sign_item(&mut self, carrier: &Carrier, name: &str) -> Answer<()> {
        let bundle = self.load(carrier).await?;
        let route = Route::Bundler(name.into());
        let cost = self.price(&route, carrier.bundle_len).await?;
        if !self.is_in_budget(cost) {
            return Ok(());
        }
        let tags = CarrierTags {
            epoch: self.epoch_of(carrier)?,
            sequence: carrier.sequence,
            segment_item: carrier.segment_item,
            previous: self.ledger.previous_at_bundlers(),
        };
        let tags = tags
            .encode()
            .map_err(|error| Refusal::internal(error.to_string()))?;
        let item = bundle.sign_as_item(tags, &self.wallet)?;
        let head_len = item.bytes().len() - bundle.len() as usize;
        tracing::info!(sequence = carrier.sequence, id = %item.id(), route = name, %cost, "an item is signed");
        let signed = Signed {
            sequence: carrier.sequence,
            route,
            height: self.height.unwrap_or(0),
            cost,
            id: item.id(),
            vehicle: Vehicle::Item(bytes::Bytes::copy_from_slice(&item.bytes()[..head_len])),
        };
        self.tell(Told::Signed(signed)).await?;
        Ok(())
    }

    /// Does for a bundler's item what is due.
    pub(super) async fn tend_item(&mut self, carrier: &Carrier, trip: &Trip, name: &str) -> Answer<()> {
        match trip.stage {
            Stage::Signed if carrier.is_settled() && self.service(name).is_err() => {
                self.give_up(carrier, trip, name).await
            }
            Stage::Signed => self.post_item(carrier, trip, name).await,
            Stage::Posted | Stage::Seeded => self.watch_promise(carrier, trip, name).await,
            Stage::Mined => self.watch_carried(carrier, trip).await,
            Stage::Permanent | Stage::Archived => Ok(()),
        }
    }

    /// The item, put together again.
    async fn item(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<DataItem> {
        let bundle = self.load(carrier).await?;
        match self.signed(trip)?.vehicle {
            Vehicle::Item(head) => {
                let item = bundle.behind(&head)?;
                assert_eq!(item.id(), trip.id, "the same head is the same item");
                Ok(item)
            }
            Vehicle::Transaction(_) => Err(Refusal::internal("an item's note holds a transaction")),
        }
    }

    /// Posts the item and keeps the receipt.
    async fn post_item(&mut self, carrier: &Carrier, trip: &Trip, name: &str) -> Answer<()> {
        let item = self.item(carrier, trip).await?;
        let posted = self.service(name)?.post(&item).await;
        let receipt = self.crowd.heard(posted)?;
        let height = self.height;
        self.pending(trip.id).posted_at = height;
        self.move_to(carrier, trip, Step::Posted, name.into(), None)
            .await?;
        // In flight already: there is no receipt yet.
        let Some(receipt) = receipt else { return Ok(()) };
        let promised = Promised {
            sequence: carrier.sequence,
            id: trip.id,
            deadline: receipt.deadline_height,
            receipt: bytes::Bytes::copy_from_slice(receipt.json.get().as_bytes()),
        };
        self.tell(Told::Promised(promised)).await?;
        Ok(())
    }

    /// Asks the service in what transaction the item is, and looks there.
    async fn watch_promise(&mut self, carrier: &Carrier, trip: &Trip, name: &str) -> Answer<()> {
        if carrier.is_settled() && self.service(name).is_err() {
            // Nobody can be asked, and nobody needs it any more.
            return self.give_up(carrier, trip, name).await;
        }
        let told = self.service(name)?.status(trip.id).await;
        let told = self.crowd.heard(told)?;
        let is_lost = told.as_ref().is_none_or(|told| told.state == ItemState::Failed);
        if let Some(transaction) = told.and_then(|told| told.bundle_id) {
            return self.look_in(carrier, trip, transaction).await;
        }
        let Some(height) = self.height else {
            return Ok(());
        };
        if carrier.is_settled() && trip.deadline.is_none_or(|deadline| height > deadline) {
            // Nobody needs it any more.
            return self.give_up(carrier, trip, name).await;
        }
        let wait = match is_lost {
            true => self.config.repost_blocks,
            false => self.config.bundler_repost_blocks,
        };
        let posted_at = *self.pending(trip.id).posted_at.get_or_insert(height);
        match height >= posted_at + wait {
            true => self.post_item(carrier, trip, name).await,
            false => Ok(()),
        }
    }

    async fn give_up(&mut self, carrier: &Carrier, trip: &Trip, name: &str) -> Answer<()> {
        self.move_to(carrier, trip, Step::Expired, name.into(), None)
            .await
    }

    /// Whether the item is in a mined transaction.
    async fn look_in(&mut self, carrier: &Carrier, trip: &Trip, transaction: ItemId) -> Answer<()> {
        let Verdict::Mined { height, .. } = self.crowd.verdict(transaction, None).await else {
            return Ok(());
        };
        let mined = Some((transaction, height));
        self.pending(trip.id).looked_at = None;
        self.move_to(carrier, trip, Step::Mined, trip.posted_to.clone(), mined)
            .await
    }

    /// Watches over the transaction that a service says carries the item: depth, and the item's own bytes in it.
    async fn watch_carried(&mut self, carrier: &Carrier, trip: &Trip) -> Answer<()> {
        let Some(confirmations) = self.confirmations(carrier, trip).await? else {
            return Ok(());
        };
        if !self.is_look_due(trip, confirmations) {
            return Ok(());
        }
        let places = self.places_of_item(carrier, trip)?;
        let due = self.unproved(trip, &places);
        let round = self.look_at_item(carrier, trip, &due).await?.unwrap_or_default();
        let is_whole = self.looked(trip, &places, &round);
        match is_whole && confirmations >= self.config.confirmations {
            true => self.settle(carrier, trip, &round).await,
            false => Ok(()),
        }
    }

    /// Places in the item whose bytes are to be found.
    pub(super) fn places_of_item(&self, carrier: &Carrier, trip: &Trip) -> Answer<Vec<u64>> {
        let len = match self.signed(trip)?.vehicle {
            Vehicle::Item(head) => head.len() as u64 + carrier.bundle_len,
            Vehicle::Transaction(_) => carrier.bundle_len,
        };
        Ok(confirm::sample(trip.id, len, self.config.proof_chunks_max))
    }

    /// Reads places of the item back from the transaction it is said to be in. `None` if it cannot be found there.
    pub(super) async fn look_at_item(
        &mut self,
        carrier: &Carrier,
        trip: &Trip,
        places: &[u64],
    ) -> Answer<Option<Round>> {
        let Some(id) = trip.transaction else {
            return Ok(None);
        };
        let Some(carried) = self.carrying(id).await else {
            return Ok(None);
        };
        let content = &carried.content;
        let Some(root) = content.data_root else {
            return Ok(None);
        };
        let spot = Spot::find(&mut self.crowd, id, trip.height, root, content.data_size).await;
        let Some(spot) = spot else { return Ok(None) };
        let item = self.item(carrier, trip).await?;
        let witnesses = self.crowd.all();
        let found = self.pending(trip.id).found_in.filter(|(found, _)| *found == id);
        let offset = match found {
            Some((_, offset)) => Some(offset),
            None => find_item(self, &spot, &witnesses, &item).await,
        };
        let Some(offset) = offset else { return Ok(None) };
        self.pending(trip.id).found_in = Some((id, offset));
        Ok(Some(self.compare(&spot, &witnesses, &item, offset, places).await))
    }

    /// The transaction of an id, whose signature was checked.
    async fn carrying(&mut self, id: ItemId) -> Option<Transaction> {
        for at in self.crowd.rotation() {
            let told = self.crowd.peer(at).transaction(id).await;
            if let Ok(Some(transaction)) = self.crowd.heard(told) {
                return Some(transaction);
            }
        }
        None
    }

    /// Compares the item's bytes with the proved chunks in which they lie.
    async fn compare(
        &mut self,
        spot: &Spot,
        witnesses: &[usize],
        item: &DataItem,
        offset: u64,
        places: &[u64],
    ) -> Round {
        let (len, mut round) = (item.bytes().len() as u64, Round::default());
        for place in places {
            let end = (place + spec::chunks::CHUNK_LEN_MAX).min(len);
            let read = spot.read(&mut self.crowd, witnesses, offset + place, offset + end);
            let own = &item.bytes()[*place as usize..end as usize];
            match read.await {
                Ok(Some((bytes, provers))) if bytes == own => {
                    round.proved.insert(*place);
                    round.provers.extend(provers);
                }
                Ok(_) => {
                    round.gone.insert(*place);
                }
                Err(_) => {}
            }
        }
        round
    }
}

/// Where an item lies in the bundle that a transaction carries, by the bundle's own table.
async fn find_item(
    uploader: &mut Uploader,
    spot: &Spot,
    witnesses: &[usize],
    item: &DataItem,
) -> Option<u64> {
    let count = read_table(uploader, spot, witnesses, 0, COUNT_LEN).await?;
    let count = u64::from_le_bytes(*count.first_chunk()?);
    let table_len = count.checked_mul(ROW_LEN)?;
    let is_possible = table_len <= spot.len.min(uploader.config.table_bytes_max);
    is_possible.then_some(())?;
    let table = read_table(uploader, spot, witnesses, COUNT_LEN, COUNT_LEN + table_len).await?;
    let mut at = COUNT_LEN + table_len;
    for row in table.chunks_exact(ROW_LEN as usize) {
        let size = u64::from_le_bytes(*row.first_chunk()?);
        if row[32..] == item.id().0 {
            let fits = size == item.bytes().len() as u64 && at.checked_add(size)? <= spot.len;
            return fits.then_some(at);
        }
        at = at.checked_add(size)?;
    }
    None
}

async fn read_table(
    uploader: &mut Uploader,
    spot: &Spot,
    witnesses: &[usize],
    from: u64,
    to: u64,
) -> Option<bytes::Bytes> {
    match to <= spot.len {
        true => {
            let read = spot.read(&mut uploader.crowd, witnesses, from, to).await.ok()?;
            read.map(|(bytes, _)| bytes)
        }
        false => None,
    }
}
