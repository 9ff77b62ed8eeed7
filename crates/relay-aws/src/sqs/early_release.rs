//! Where messages are hidden until their time, and how they are shown before it: when one of those that wait for the same
//! thing gets through.
//!
//! SQS cannot be asked to show what it hides, but who has a message's receipt can end the time. So the ledger keeps the
//! receipt of each delivery that is parked, by what it waits for. What waits for a person is shown as well when the secret
//! is found changed: by a worker here, and by `relayctl setup` after it has written it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use relay::ports::clock::Ambient;
use relay::rate_limit::limiter::Readiness;
use relay_core::delivery::{Cargo, Delivery, Direction};
use tokio::time::Instant;
use tracing::warn;

use crate::ledger::deliveries::Ledger;
use crate::secrets::rotation::Mended;

/// How often a place is looked at while deliveries get through: about as long as a page of them takes.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// What a parked delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaitsFor {
    /// The far end, which fails.
    FarEnd,
    /// A person.
    Person,
}

/// The parked deliveries of one queue.
#[derive(Debug, Default)]
pub struct Parking {
    places: Mutex<BTreeMap<String, Place>>,
    mended: Mended,
}

#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// Whether something was parked there when it was last looked at.
    more: bool,
    looked_at: Option<Instant>,
}

impl Parking {
    /// That of a worker whose secret tells of its changes.
    #[must_use]
    pub fn minding(mended: Mended) -> Self {
        Self { mended, ..Self::default() }
    }

    /// Notes by which receipt a delivery can be shown before its time. What is parked while its far end is down is shown as
    /// soon as anything gets through, whether that had waited or not.
    pub async fn park<A: Ambient>(
        &self,
        ledger: &Ledger,
        ambient: &A,
        delivery: &Delivery,
        waits_for: WaitsFor,
        end: Readiness,
        receipt: &str,
    ) {
        let place = place(delivery, waits_for);
        if let Err(fault) = ledger.park(delivery, &place, receipt, ambient.now()).await {
            // It comes back by itself, only later.
            warn!(delivery.id = %delivery.id, %fault, "what is parked could not be noted");
        } else if waits_for == WaitsFor::FarEnd && end != Readiness::Ready {
            self.lock().entry(place).or_default().more = true;
        }
    }

    /// The receipts to show now that a delivery has got through, which had waited for that, or for nothing: as soon as one
    /// that had waited gets through, and from then on again and again, until none is left.
    pub async fn freed_by(&self, ledger: &Ledger, delivery: &Delivery, waited: Option<WaitsFor>) -> Vec<String> {
        let mut receipts = Vec::new();
        for waits_for in [WaitsFor::FarEnd, WaitsFor::Person] {
            let place = place(delivery, waits_for);
            if !self.is_to_be_looked_at(&place, waited == Some(waits_for)) {
                continue;
            }
            receipts.extend(self.look_at(ledger, place).await);
        }
        receipts
    }

    /// The receipts to show now that the secret was found changed: a first page. Those that get through show the next.
    pub async fn freed_by_mending<A: Ambient>(&self, ledger: &Ledger, ambient: &A) -> Vec<String> {
        let Some(new) = self.mended.take() else { return Vec::new() };
        match ledger.uses_another(new.direction, &new.version, ambient.now()).await {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(fault) => {
                warn!(%fault, "the secret's version could not be noted: that is tried with the next delivery");
                self.mended.leave(new);
                return Vec::new();
            }
        }
        let mut receipts = Vec::new();
        for place in new.places {
            let now = Place { more: false, looked_at: Some(Instant::now()) };
            self.lock().insert(place.clone(), now);
            receipts.extend(self.look_at(ledger, place).await);
        }
        receipts
    }

    async fn look_at(&self, ledger: &Ledger, place: String) -> Vec<String> {
        let found = ledger.parked(&place).await.unwrap_or_else(|fault| {
            warn!(%fault, "what is parked could not be listed: it comes back by itself");
            Vec::new()
        });
        self.lock().entry(place).or_default().more = !found.is_empty();
        found
    }

    fn is_to_be_looked_at(&self, place: &str, waited: bool) -> bool {
        let mut places = self.lock();
        let known = places.get(place).copied().unwrap_or_default();
        let just_looked = known.looked_at.is_some_and(|at| at.elapsed() < LOOK_EVERY);
        if (!waited && !known.more) || just_looked {
            return false;
        }
        places.insert(place.to_owned(), Place { looked_at: Some(Instant::now()), ..known });
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a delivery is parked. An end that fails fails for everybody; what a person has to mend is mended for a route.
fn place(delivery: &Delivery, waits_for: WaitsFor) -> String {
    let direction = delivery.cargo.direction();
    match (waits_for, &delivery.cargo) {
        (WaitsFor::FarEnd, _) => format!("{} far-end", direction.as_str()),
        (WaitsFor::Person, Cargo::ClayRow { route, .. }) => person_place(direction, Some(route)),
        (WaitsFor::Person, _) => person_place(direction, None),
    }
}

/// Where what waits for a person is parked: each route of its own, and all that goes to Loops together.
#[must_use]
pub fn person_place(direction: Direction, route: Option<&str>) -> String {
    let direction = direction.as_str();
    route.map_or_else(|| format!("{direction} person"), |route| format!("{direction} person {route}"))
}
