//! Where messages are hidden until their time, and how they are shown before it: when one of those that wait for the same
//! thing gets through.
//!
//! SQS cannot be asked to show what it hides, but who has a message's receipt can end the time. So the ledger keeps the
//! receipt of each delivery that is parked, by what it waits for. What waits for a person is shown as well when the secret
//! is found changed: by a worker here, and by `relayctl setup` after it has written it.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use relay::ports::clock::Clock;
use relay::ports::rate_limiter::Readiness;
use relay_core::delivery::{Delivery, DeliveryKind, Direction};
use tokio::time::Instant;
use tracing::warn;

use crate::ledger::deliveries::Ledger;
use crate::secrets::rotation::RotationSlot;

/// How often a place is looked at while deliveries get through: about as long as a page of them takes.
const CHECK_INTERVAL: Duration = Duration::from_secs(10);

/// What a parked delivery waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlockedOn {
    /// The far end, which fails.
    Destination,
    /// A person.
    Operator,
}

/// The parked deliveries of one queue.
#[derive(Debug, Default)]
pub struct EarlyRelease {
    places: Mutex<BTreeMap<String, HeldGroup>>,
    mended: RotationSlot,
}

#[derive(Debug, Clone, Copy, Default)]
struct HeldGroup {
    /// Whether something was parked there when it was last looked at.
    more: bool,
    looked_at: Option<Instant>,
}

impl EarlyRelease {
    /// That of a worker whose secret tells of its changes.
    #[must_use]
    pub fn with_rotations(mended: RotationSlot) -> Self {
        Self { mended, ..Self::default() }
    }

    /// Notes by which receipt a delivery can be shown before its time. What is parked while its far end is down is shown as
    /// soon as anything gets through, whether that had waited or not.
    pub async fn defer<A: Clock>(
        &self,
        ledger: &Ledger,
        ambient: &A,
        delivery: &Delivery,
        waits_for: BlockedOn,
        end: Readiness,
        receipt: &str,
    ) {
        let place = place(delivery, waits_for);
        if let Err(error) = ledger.store_receipt(delivery, &place, receipt, ambient.now()).await {
            // It comes back by itself, only later.
            warn!(delivery.id = %delivery.id, %error, "what is parked could not be noted");
        } else if waits_for == BlockedOn::Destination && end != Readiness::Ready {
            self.lock().entry(place).or_default().more = true;
        }
    }

    /// The receipts to show now that a delivery has got through, which had waited for that, or for nothing: as soon as one
    /// that had waited gets through, and from then on again and again, until none is left.
    pub async fn release_after_success(
        &self,
        ledger: &Ledger,
        delivery: &Delivery,
        waited: Option<BlockedOn>,
    ) -> Vec<String> {
        let mut receipts = Vec::new();
        for waits_for in [BlockedOn::Destination, BlockedOn::Operator] {
            let place = place(delivery, waits_for);
            if !self.should_check(&place, waited == Some(waits_for)) {
                continue;
            }
            receipts.extend(self.fetch_receipts(ledger, place).await);
        }
        receipts
    }

    /// The receipts to show now that the secret was found changed: a first page. Those that get through show the next.
    pub async fn release_after_rotation<A: Clock>(&self, ledger: &Ledger, ambient: &A) -> Vec<String> {
        let Some(new) = self.mended.take() else { return Vec::new() };
        match ledger.record_secret_version(new.direction, &new.version, ambient.now()).await {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(error) => {
                warn!(%error, "the secret's version could not be noted: that is tried with the next delivery");
                self.mended.put(new);
                return Vec::new();
            }
        }
        let mut receipts = Vec::new();
        for place in new.places {
            let now = HeldGroup { more: false, looked_at: Some(Instant::now()) };
            self.lock().insert(place.clone(), now);
            receipts.extend(self.fetch_receipts(ledger, place).await);
        }
        receipts
    }

    async fn fetch_receipts(&self, ledger: &Ledger, place: String) -> Vec<String> {
        let found = ledger.deferred_receipts(&place).await.unwrap_or_else(|error| {
            warn!(%error, "what is parked could not be listed: it comes back by itself");
            Vec::new()
        });
        self.lock().entry(place).or_default().more = !found.is_empty();
        found
    }

    fn should_check(&self, place: &str, waited: bool) -> bool {
        let mut places = self.lock();
        let known = places.get(place).copied().unwrap_or_default();
        let just_looked = known.looked_at.is_some_and(|at| at.elapsed() < CHECK_INTERVAL);
        if (!waited && !known.more) || just_looked {
            return false;
        }
        places.insert(place.to_owned(), HeldGroup { looked_at: Some(Instant::now()), ..known });
        true
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, HeldGroup>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a delivery is parked. An end that fails fails for everybody; what a person has to mend is mended for a route.
fn place(delivery: &Delivery, waits_for: BlockedOn) -> String {
    let direction = delivery.kind.direction();
    match (waits_for, &delivery.kind) {
        (BlockedOn::Destination, _) => format!("{} far-end", direction.as_str()),
        (BlockedOn::Operator, DeliveryKind::ClayRow { route, .. }) => operator_key(direction, Some(route)),
        (BlockedOn::Operator, _) => operator_key(direction, None),
    }
}

/// Where what waits for a person is parked: each route of its own, and all that goes to Loops together.
#[must_use]
pub fn operator_key(direction: Direction, route: Option<&str>) -> String {
    let direction = direction.as_str();
    route.map_or_else(|| format!("{direction} person"), |route| format!("{direction} person {route}"))
}
