//! Names of the attributes of the ledger's items. Times are in Unix milliseconds, but for the two that say otherwise.

pub(crate) const PARTITION_KEY: &str = "pk";
/// When DynamoDB deletes an item, in Unix seconds.
pub(crate) const EXPIRES_AT: &str = "expires_at";

// A delivery.

/// State of a delivery. The name is reserved in expressions, which say [`STATE_NAME`] instead (DynamoDB Developer Guide,
/// "Reserved words").
pub(crate) const STATE: &str = "state";
pub(crate) const STATE_NAME: &str = "#state";
pub(crate) const SENDING: &str = "sending";
pub(crate) const QUEUED: &str = "queued";
pub(crate) const DELIVERED: &str = "delivered";
pub(crate) const DEAD: &str = "dead";
/// Kind of a delivery: row, contact, event, create, delete or email.
pub(crate) const KIND: &str = "kind";
pub(crate) const BODY_HASH: &str = "body_hash";
/// Content key of an event or e-mail. Empty if it has none; an older relay has left it empty where it was the event's own key.
pub(crate) const EVENT_HASH: &str = "event_hash";
pub(crate) const CONTACT_HASH: &str = "contact_hash";
/// Contact key of an event or e-mail.
pub(crate) const CONTACT: &str = "contact";
pub(crate) const RECEIVED_AT: &str = "received_at";
/// Id of the request whose caller waits.
pub(crate) const CALLER: &str = "caller";
pub(crate) const ATTEMPTS: &str = "attempts";
pub(crate) const ATTEMPT_ID: &str = "attempt_id";
pub(crate) const ATTEMPT_UNTIL: &str = "attempt_until";
pub(crate) const FIRST_ATTEMPT_AT: &str = "first_attempt_at";
pub(crate) const LAST_ATTEMPT_AT: &str = "last_attempt_at";
pub(crate) const NOT_BEFORE: &str = "not_before";
/// Start of the present series of failures.
pub(crate) const FAILING_SINCE: &str = "failing_since";
/// When an attempt failed last.
pub(crate) const FAILED_AT: &str = "failed_at";
/// When the first attempt at an event began whose outcome is not known. An attempt sets it at its begin, and its end removes
/// it again if the outcome is known.
pub(crate) const UNKNOWN_SINCE: &str = "unknown_since";
pub(crate) const HELD_SINCE: &str = "held_since";
pub(crate) const REASON: &str = "reason";
/// Status of the destination's latest response, 0 if there was none. What is delivered has it only if it was a duplicate.
pub(crate) const LAST_STATUS: &str = "last_status";
/// What the destination said when it refused a dead letter.
pub(crate) const MESSAGE: &str = "message";
pub(crate) const DIED_AT: &str = "died_at";
/// [`DIED_AT`] of the failure whose dead letter is in the dead-letter queue.
pub(crate) const DEAD_LETTER_OF: &str = "dead_letter_of";
/// Dead letter that an operator has redriven.
pub(crate) const RETRIED: &str = "retried";
pub(crate) const RETRIED_AT: &str = "retried_at";
/// Dead letter that an operator has deleted.
pub(crate) const DROPPED: &str = "dropped";
pub(crate) const DROPPED_AT: &str = "dropped_at";

/// The accounts that were served, as a JSON document.
pub(crate) const ACCOUNTS: &str = "accounts";

// A contact. A delivery has `LEASE_UNTIL` as well, for its caller.

pub(crate) const LOCK_HOLDER: &str = "lock_holder";
pub(crate) const LEASE_UNTIL: &str = "lease_until";
/// Arrival keys of the contact's deliveries in the queue.
pub(crate) const WAITING: &str = "waiting";
/// When the relay received the latest of the deliveries in the queue that [`WAITING`] had no room for.
pub(crate) const UNLISTED_UNTIL: &str = "unlisted_until";
pub(crate) const DEFERRED_ID: &str = "deferred_id";
/// The deferred delivery as bytes. A text is a message, as versions before wrote it.
pub(crate) const DEFERRED_MESSAGE: &str = "deferred_message";
/// When the relay received the latest of the contact's delivered deliveries.
pub(crate) const DELIVERED_THROUGH: &str = "delivered_through";

// A rate limiter. Its times are in Unix microseconds.

pub(crate) const NEXT_AT: &str = "next_at";
/// Until when the destination is throttled.
pub(crate) const PAUSED_UNTIL: &str = "paused_until";
pub(crate) const SLOW_UNTIL: &str = "slow_until";
/// When an operator paused this direction. Rows join the queue meanwhile, and its worker is stopped as well. It is not
/// [`PAUSED_UNTIL`], because a worker still sends the messages that it has received.
pub(crate) const PAUSED_AT: &str = "stopped_at";

// A Clay webhook.

pub(crate) const TAKEN: &str = "taken";
pub(crate) const REFUSED_AT: &str = "refused_at";
pub(crate) const REFUSED_STATUS: &str = "refused_status";
