//! The lane past the queue, for many sandboxes at once.
//!
//! A contact's item says who has its lane (`holder`, for as long as a caller can wait) and which of its deliveries wait
//! in the queue (`waiting`). Who wants the lane gets it only where nobody has it and nothing waits. What comes meanwhile
//! joins the queue; if the holder then has to wait after all, its delivery is kept in the item as the one that goes
//! `first_message`, because a FIFO queue has no place in front of what it holds already. The worker that meets one of the others
//! delivers that one before.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relay::ports::clock::Ambient;
use relay::ports::queue::{Admission, DirectEnd, DirectLane, Queue as _, StoreFault, Wish};
use relay::telemetry::event::{Became, Signal};
use relay_core::contact::ContactKey;
use relay_core::delivery::{Cargo, Delivery, Reason, ReasonCode};
use tracing::warn;

use crate::ledger::deliveries::{Ledger, Postponed, Standing};
use crate::ledger::table::{Change, Item, text, time};
use crate::sqs::dead_letter::Death;
use crate::sqs::message;
use crate::sqs::queue::{NotSent, SqsQueue};

/// How long a caller may hold a lane: longer than any caller is let wait. One who holds it longer is gone.
const LEASE: SignedDuration = SignedDuration::from_secs(40);

/// How far the order of arrival and the order in the queue may be apart: clocks differ, and sandboxes are frozen.
const SLACK: Duration = Duration::from_secs(600);

/// The lane, the queue behind it, and the ledger.
#[derive(Debug, Clone)]
pub struct AwsLane<A> {
    queue: SqsQueue,
    ledger: Ledger,
    ambient: A,
}

/// What stands before a message of a contact.
#[derive(Debug)]
pub enum Before {
    /// Nothing.
    Clear,
    /// Nothing: it is the one that goes first.
    Itself,
    /// A caller is sending for this contact right now.
    Held,
    /// This delivery goes first.
    First(Box<Delivery>),
}

impl<A: Ambient> AwsLane<A> {
    /// A lane.
    pub const fn new(queue: SqsQueue, ledger: Ledger, ambient: A) -> Self {
        Self { queue, ledger, ambient }
    }

    /// What a worker has to mind before it sends a delivery of this contact.
    ///
    /// # Errors
    /// When the table cannot be read.
    pub async fn before(&self, delivery: &Delivery) -> Result<Before, StoreFault> {
        let item = self.ledger.table().get(&contact_key(&delivery.contact)).await?;
        if is_held(&item, self.ambient.now()) {
            return Ok(Before::Held);
        }
        match text(&item, "first_id") {
            Some(id) if id == delivery.id.as_str() => Ok(Before::Itself),
            Some(_) => {
                let first = text(&item, "first_message").and_then(|first| message::open(first).ok());
                Ok(first.map_or(Before::Clear, |first| Before::First(Box::new(first))))
            }
            None => Ok(Before::Clear),
        }
    }

    /// Keeps what died as a dead letter that has, perhaps, no message of its own.
    ///
    /// # Errors
    /// When SQS does not take it.
    pub async fn bury(&self, delivery: &Delivery, death: Death) -> Result<(), StoreFault> {
        self.queue.bury_delivery(delivery, death).await
    }

    /// Notes that a delivery of the queue has ended. What is still noted from long before it has ended as well, or never
    /// got into the queue: a group is worked on in order. What was delivered is remembered as the contact's latest.
    ///
    /// # Errors
    /// When the table cannot be written.
    pub async fn leave(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreFault> {
        let (key, id, place) = (contact_key(&delivery.contact), delivery.id.as_str(), place(delivery));
        let now = self.ambient.now();
        let first = Change::new(if delivered {
            "SET delivered_through = :through REMOVE first_id, first_message DELETE waiting :ids"
        } else {
            "REMOVE first_id, first_message DELETE waiting :ids"
        });
        let first = first.only_if("first_id = :id").text(":id", id).set(":ids", [place.clone()]);
        let first = if delivered { through(first, delivery) } else { first };
        let mut left = self.ledger.table().change(&key, first, now).await?;
        if left.is_none() && delivered {
            let latest = Change::new("SET delivered_through = :through DELETE waiting :ids")
                .only_if("attribute_not_exists(delivered_through) OR delivered_through < :through")
                .set(":ids", [place.clone()]);
            left = self.ledger.table().change(&key, through(latest, delivery), now).await?;
        }
        if left.is_none() {
            left =
                self.ledger.table().change(&key, Change::new("DELETE waiting :ids").set(":ids", [place]), now).await?;
        }
        let over = left.map(|left| over_before(&left, delivery)).unwrap_or_default();
        if over.is_empty() {
            return Ok(());
        }
        self.ledger.table().change(&key, Change::new("DELETE waiting :ids").set(":ids", over), now).await.map(drop)
    }

    /// Puts a delivery that can come again on record; or says what is known of it, where it is known.
    async fn set_out(&self, delivery: &Delivery) -> Result<Option<Admission>, StoreFault> {
        let now = self.ambient.now();
        if !repeats(delivery) || self.ledger.set_out(delivery, &self.ambient.unique(), until(now), now).await? {
            return Ok(None);
        }
        let (standing, is_another) = self.ledger.standing_of_key(delivery).await?;
        let known = match standing {
            Some(Standing::Done) => Admission::DeliveredBefore,
            Some(Standing::Queued) => Admission::Queued,
            // It was, or is just being, sent for another caller.
            Some(Standing::Direct | Standing::Dead) | None => return Ok(Some(Admission::Busy)),
        };
        if is_another {
            self.keep_beside(delivery).await?;
        }
        Ok(Some(known))
    }

    /// Keeps another event under a known key as a dead letter, once: its caller is answered as for a repeat.
    async fn keep_beside(&self, delivery: &Delivery) -> Result<(), StoreFault> {
        let (other, reason) = (delivery.other_event(), Reason::own(ReasonCode::IdConflict));
        if self.ledger.standing(&other.id).await?.is_some() {
            return Ok(());
        }
        // The letter first: what is on record is not kept again. It dies as it comes, as its letter says.
        self.queue.put_dead(&other, reason).await?;
        self.ledger.bury(&other, Timestamp::UNIX_EPOCH, reason, other.received_at).await?;
        Signal { reason: Some(reason), ..Signal::of_work(&other, Became::Dead) }.tell();
        Ok(())
    }

    async fn take_lane(&self, delivery: &Delivery) -> Result<bool, StoreFault> {
        let now = self.ambient.now();
        let take = Change::new("SET holder = :id, lease_until = :until")
            // Who has it already is this one: it was taken, the answer was lost, and the SDK has asked once more.
            .only_if(
                "attribute_not_exists(waiting) \
                 AND (attribute_not_exists(holder) OR lease_until < :now OR holder = :id)",
            )
            .text(":id", delivery.id.as_str())
            .number(":until", until(now).as_millisecond())
            .number(":now", now.as_millisecond());
        Ok(self.ledger.table().change(&contact_key(&delivery.contact), take, now).await?.is_some())
    }

    async fn admit_new(&self, delivery: &Delivery, wish: Wish) -> Result<Admission, StoreFault> {
        if wish == Wish::Direct && self.take_lane(delivery).await? {
            return Ok(Admission::Direct);
        }
        self.enqueue(delivery).await.map(|()| Admission::Queued)
    }

    /// Takes the lane for what could not be stored, where nothing is known of it: it may be in the queue all the same, and
    /// a worker may have been faster than the news that its storing failed.
    async fn admit_where_nothing_is_known(&self, delivery: &Delivery) -> Result<Admission, StoreFault> {
        let has_lane = self.take_lane(delivery).await?;
        let admission = match self.ledger.standing(&delivery.id).await {
            Ok(Some(Standing::Done)) => Ok(Admission::DeliveredBefore),
            Ok(Some(Standing::Queued)) => Ok(Admission::Queued),
            Ok(Some(Standing::Direct | Standing::Dead) | None) if has_lane => return Ok(Admission::Direct),
            Ok(Some(Standing::Direct | Standing::Dead) | None) => Ok(Admission::Busy),
            Err(fault) => Err(fault),
        };
        if has_lane {
            self.give_back(delivery, false).await?;
        }
        admission
    }

    /// Takes what was neither sent nor begun by a worker off the record, so that the next run of its row does not wait for
    /// this one.
    async fn forget(&self, delivery: &Delivery) -> Result<(), StoreFault> {
        if repeats(delivery) { self.ledger.forget(&delivery.id).await } else { Ok(()) }
    }

    async fn give_back(&self, delivery: &Delivery, delivered: bool) -> Result<(), StoreFault> {
        let change = Change::new(if delivered {
            "SET delivered_through = :through REMOVE holder, lease_until"
        } else {
            "REMOVE holder, lease_until"
        });
        let change = change.only_if("holder = :id").text(":id", delivery.id.as_str());
        let change = if delivered { through(change, delivery) } else { change };
        self.ledger.table().change(&contact_key(&delivery.contact), change, self.ambient.now()).await.map(drop)
    }

    async fn enqueue(&self, delivery: &Delivery) -> Result<(), StoreFault> {
        // The lane is closed before the message is on its way: nothing may pass it.
        let wait = Change::new("ADD waiting :ids").set(":ids", [place(delivery)]);
        self.ledger.table().change(&contact_key(&delivery.contact), wait, self.ambient.now()).await?;
        if let Err(NotSent { fault, may_be_there }) = self.queue.send(delivery, &self.ambient.unique()).await {
            // What may be in the queue keeps the lane closed: nothing newer may pass it.
            if !may_be_there {
                self.leave(delivery, false).await?;
            }
            return Err(fault);
        }
        // It is stored: that the record of it is missing only means that a repeat is stored once more, and sent once.
        if let Err(fault) = self.ledger.queued(delivery, self.ambient.now()).await {
            warn!(delivery.id = %delivery.id, %fault, "a stored delivery could not be recorded");
        }
        Ok(())
    }

    /// Puts the holder of the lane into the queue, in front of everything.
    async fn postpone(&self, delivery: &Delivery, postponed: Postponed) -> Result<(), StoreFault> {
        let now = self.ambient.now();
        let id = delivery.id.as_str();
        // On record first: a worker must not take it before its time.
        self.ledger.postpone(delivery, postponed, now).await?;
        // In front also where nothing waits yet: what comes from here on may be in the queue before this one is.
        let first = message::seal(delivery).map_err(|fault| StoreFault(fault.to_string()))?;
        let in_front =
            Change::new("SET first_id = :id, first_message = :first REMOVE holder, lease_until ADD waiting :ids")
                .only_if("holder = :id")
                .text(":id", id)
                .text(":first", &first)
                .set(":ids", [place(delivery)]);
        let in_front = self.ledger.table().change_or_see(&contact_key(&delivery.contact), in_front, now).await?;
        // What waits already has only lost the answer to the change.
        if in_front.is_err_and(|item| !waiting(&item).any(|waits| *waits == place(delivery))) {
            return Err(StoreFault("the lane was given to somebody else".to_owned()));
        }
        if let Err(NotSent { fault, may_be_there }) = self.queue.send(delivery, &self.ambient.unique()).await {
            if !may_be_there {
                self.leave(delivery, false).await?;
            }
            self.ledger.forget(&delivery.id).await?;
            return Err(fault);
        }
        self.ledger.queued(delivery, self.ambient.now()).await
    }
}

impl<A: Ambient> DirectLane for AwsLane<A> {
    /// Others see in the table for how long a caller can still be there: nothing has to be kept here.
    type Guard = ();

    async fn admit(&self, delivery: &Delivery, wish: Wish) -> Result<Admission, StoreFault> {
        if let Some(known) = self.set_out(delivery).await? {
            return Ok(known);
        }
        let admitted = self.admit_new(delivery, wish).await;
        if admitted.is_err() {
            self.forget(delivery).await?;
        }
        admitted
    }

    /// The lane in the table is what sandboxes know of each other: nothing is sent without it.
    async fn admit_unstored(&self, delivery: &Delivery) -> Result<Admission, StoreFault> {
        if let Some(known) = self.set_out(delivery).await? {
            return Ok(known);
        }
        let admitted = self.admit_where_nothing_is_known(delivery).await;
        if !matches!(admitted, Ok(Admission::Direct)) {
            self.forget(delivery).await?;
        }
        admitted
    }

    fn guard(&self, _: &Delivery) {}

    async fn settle_direct(&self, delivery: &Delivery, end: DirectEnd) -> Result<(), StoreFault> {
        match end {
            DirectEnd::Delivered => {
                if repeats(delivery) {
                    self.ledger.done_directly(&delivery.id, self.ambient.now()).await?;
                }
                self.give_back(delivery, true).await
            }
            DirectEnd::Refused => {
                self.forget(delivery).await?;
                self.give_back(delivery, false).await
            }
            // Its message is not parked, so nobody shows it before its time.
            DirectEnd::Postponed { attempts, at, reason, firm: _ } => {
                self.postpone(delivery, Postponed { attempts, at, reason }).await
            }
        }
    }
}

/// Whether the same delivery can come again: a contact's update is another one each time.
fn repeats(delivery: &Delivery) -> bool {
    matches!(delivery.cargo, Cargo::LoopsEvent { .. })
}

fn is_held(item: &Item, now: Timestamp) -> bool {
    text(item, "holder").is_some() && time(item, "lease_until").is_some_and(|until| until > now)
}

/// Until when a lane that is taken now may be held.
fn until(now: Timestamp) -> Timestamp {
    now.checked_add(LEASE).unwrap_or(now)
}

/// Notes in a change up to when the contact's deliveries were delivered.
fn through(change: Change, delivery: &Delivery) -> Change {
    change.number(":through", delivery.received_at.as_millisecond())
}

/// How a delivery is noted in its contact's item: when it came, and its id.
#[must_use]
pub fn place(delivery: &Delivery) -> String {
    format!("{:015}#{}", delivery.received_at.as_millisecond(), delivery.id)
}

/// What is noted as waiting since so long before this delivery that it cannot be in the queue any more.
fn over_before(item: &Item, delivery: &Delivery) -> Vec<String> {
    let before = delivery.received_at.as_millisecond().saturating_sub(SLACK.as_millis().try_into().unwrap_or(i64::MAX));
    let first = text(item, "first_id");
    let over = waiting(item).filter(|place| {
        let (at, id) = place.split_once('#').unwrap_or_default();
        at.parse().is_ok_and(|at: i64| at < before) && first != Some(id)
    });
    over.cloned().collect()
}

/// The places of what waits in the queue.
fn waiting(item: &Item) -> impl Iterator<Item = &String> {
    item.get("waiting").and_then(|waiting| waiting.as_ss().ok()).into_iter().flatten()
}

/// The key of a contact's item, in which `waiting` has the places of what is in the queue, and `delivered_through` the time at
/// which the relay took the latest that was delivered.
#[must_use]
pub fn contact_key(contact: &ContactKey) -> String {
    format!("contact#{}", contact.as_str())
}
