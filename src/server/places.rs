//! How many connections one address may have at once, so that nobody takes the places of everybody.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Places by address. Cheap to clone.
#[derive(Clone)]
pub struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, u32>>>,
    most: u32,
}

/// A place of an address, given back on drop.
#[must_use]
pub struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    /// With at most so many for an address.
    pub fn new(most: u32) -> Self {
        Self { taken: Arc::default(), most }
    }

    /// A place; none while the address has too many.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let mut taken = self.lock();
        let count = taken.entry(address).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), address })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, u32>> {
        // Counts are whole between any two statements.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(count) = taken.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_counted_by_address() {
        let places = Places::new(3);
        let (one, other) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let taken: Vec<_> = (0..3).map_while(|_| places.take(one)).collect();
        assert_eq!(taken.len(), 3);
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        drop(taken);
        assert!(places.take(one).is_some());
        assert!(places.lock().is_empty(), "nothing is kept of those who have gone");
    }
}
