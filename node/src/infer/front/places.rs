//! Places of the routes: how much goes on at once, and how much of it is one address's.
//!
//! Not here: who is next at a model (`inference::service`). Invariant: whatever one address does, others find a place as
//! long as fewer than all together may have are taken; a place is free when the last of its holders is gone.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wire::server::Peer;

use super::error::Error;

/// What one address may have where nothing is set: this part of all places, or so many at least.
const SHARE: usize = 4;
const SHARE_MIN: usize = 8;

/// Places of one kind.
pub struct Places {
    /// What they are for, in refusals.
    what: &'static str,
    most: usize,
    /// Of one address.
    share: usize,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    by_address: HashMap<String, usize>,
}

/// Some places, held.
pub struct Place {
    places: Arc<Places>,
    address: String,
    count: usize,
}

impl Places {
    /// So many places, and of one address `share`, or what is fair where that is 0.
    pub fn new(what: &'static str, most: usize, share: usize) -> Arc<Places> {
        let share = match share {
            0 => (most / SHARE).max(SHARE_MIN),
            share => share,
        };
        Arc::new(Places {
            what,
            most,
            share: share.min(most),
            taken: Mutex::default(),
        })
    }

    /// Places that one address may have.
    pub fn share(&self) -> usize {
        self.share
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Each change of it is whole before anything can panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes places, to be tried again later where there are none.
    pub fn take(self: &Arc<Self>, address: &str, count: usize) -> Result<Place, Error> {
        let mut taken = self.lock();
        if taken.all + count > self.most {
            let text = format!("{} of {} {} at once are taken", taken.all, self.most, self.what);
            return Err(Error::busy(text + "; try again later"));
        }
        let own = taken.by_address.get(address).copied().unwrap_or(0);
        if own + count > self.share {
            let text = format!(
                "this address has {own} of its {} {} at once",
                self.share, self.what
            );
            return Err(Error::crowded(text + "; try again when one has ended"));
        }
        taken.all += count;
        taken.by_address.insert(address.to_owned(), own + count);
        drop(taken);
        Ok(Place {
            places: self.clone(),
            address: address.to_owned(),
            count,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= self.count;
        let own = taken.by_address.get_mut(&self.address);
        let own = own.map_or(0, |own| {
            *own -= self.count;
            *own
        });
        if own == 0 {
            taken.by_address.remove(&self.address);
        }
    }
}

/// Who asks: the address, so that one that asks much does not hold up others.
pub fn address(peer: Option<Peer>) -> String {
    let address = peer.and_then(|Peer(address)| address);
    address.map_or(String::new(), |address| of_one(address.ip()).to_string())
}

/// Of addresses of IPv6 whoever has one has all that begin alike.
fn of_one(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;

    use super::*;

    #[test]
    fn one_address_leaves_places_to_others() {
        let places = Places::new("answers", 40, 0);
        let status = |address: &str, count| places.take(address, count).err().map(|error| error.status);
        let held: Vec<Place> = (0..10).map(|_| places.take("a", 1).unwrap()).collect();
        assert_eq!(status("a", 1), Some(StatusCode::TOO_MANY_REQUESTS));
        let others = ["b", "c", "d"].map(|address| places.take(address, 10).unwrap());
        assert_eq!(status("e", 1), Some(StatusCode::SERVICE_UNAVAILABLE));
        drop(others);
        assert_eq!(
            (status("b", 10), status("b", 11)),
            (None, Some(StatusCode::TOO_MANY_REQUESTS))
        );
        drop(held);
        assert_eq!(status("a", 10), None);
        let taken = places.lock();
        assert!(taken.all == 0 && taken.by_address.is_empty());
    }

    #[test]
    fn what_one_may_have_is_set_or_fair() {
        let share = |most, set| Places::new("answers", most, set).share();
        assert_eq!([share(256, 0), share(20, 0), share(4, 0)], [64, 8, 4]);
        assert_eq!([share(256, 100), share(256, 1000)], [100, 256]);
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        let of = |address: &str| address_of(address);
        assert_eq!(of("[2001:db8:1:2::1]:9"), of("[2001:db8:1:2:ff::7]:8"));
        assert_ne!(of("[2001:db8:1:2::1]:9"), of("[2001:db8:1:3::1]:9"));
        assert_eq!(of("[::ffff:10.0.0.1]:9"), "10.0.0.1");
        assert_ne!(of("10.0.0.1:9"), of("10.0.0.2:9"));
        assert_eq!(address(None), "");
    }

    fn address_of(text: &str) -> String {
        address(Some(Peer(Some(text.parse().unwrap()))))
    }
}
