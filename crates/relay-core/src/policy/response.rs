//! What the relay does with a destination's response: one table for every send path.

use crate::delivery::{DeliveryKind, ReasonCode};

/// Outcome of a call to a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallOutcome {
    /// The destination responded with this status.
    Responded(u16),
    /// The destination did not respond in time; whether it processed the request is not known.
    TimedOut,
    /// No connection could be made, so nothing was sent.
    Unreachable,
    /// The connection broke; whether the destination processed the request is not known.
    ConnectionLost,
    /// The destination's certificate is not trusted, so nothing was sent.
    CertificateUntrusted,
}

impl CallOutcome {
    /// Whether the destination may have processed the request although it did not say so: it did not answer, or it failed
    /// (5xx) at some point of the processing.
    pub const fn is_unknown(self) -> bool {
        matches!(self, Self::TimedOut | Self::ConnectionLost | Self::Responded(500..))
    }
}

/// The ways in which a delivery is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendPath {
    /// A worker sends a row to Clay.
    ClayWorker,
    /// A handler sends a row to Loops while Clay waits for the response.
    LoopsFastPath,
    /// A worker sends a stored row to Loops.
    LoopsWorker,
}

/// What the relay does with a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is delivered.
    Delivered,
    /// It was delivered before.
    Duplicate,
    /// The secret is read again and the call is repeated once. If that does not help, a worker holds the delivery, and
    /// a handler responds that Loops rejects the relay's key.
    RefreshSecret,
    /// The next webhook of the pool is tried. If none is left, the delivery is held.
    NextWebhook,
    /// The caller gets an error response.
    Reject,
    /// It becomes a dead letter.
    DeadLetter,
    /// The handler tries twice while the caller waits, then queues the row.
    RetryThenQueue,
    /// A worker retries it later.
    RetryLater,
}

/// Class of a response. Clay: "webhook guide", status codes; Loops: API reference, errors and "Rate limiting".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ResponseClass {
    /// 2xx.
    Accepted,
    /// 409 on what has a key: this key was processed before.
    Duplicate,
    /// 409 on the creation of a contact and 404 on its deletion: it is as the call would make it.
    AlreadyDone,
    /// 401.
    Unauthorized,
    /// 403, 404, 410: at Clay the webhook is used up or gone, at Loops the call is rejected.
    Gone,
    /// Any other 4xx that will be the same next time.
    Rejected,
    /// 429: the destination asks for fewer calls.
    Throttled,
    /// 408, 425, 3xx, 5xx, no response, no connection: it should pass.
    Transient,
}

/// Returns the class of an outcome of a call that carried this kind of delivery.
const fn classify(outcome: CallOutcome, kind: &DeliveryKind) -> ResponseClass {
    match outcome {
        CallOutcome::Responded(200..=299) => ResponseClass::Accepted,
        CallOutcome::Responded(409) if kind.idempotency_key().is_some() => ResponseClass::Duplicate,
        CallOutcome::Responded(409) if matches!(kind, DeliveryKind::LoopsCreate) => ResponseClass::AlreadyDone,
        CallOutcome::Responded(404) if matches!(kind, DeliveryKind::LoopsDelete) => ResponseClass::AlreadyDone,
        CallOutcome::Responded(401) => ResponseClass::Unauthorized,
        CallOutcome::Responded(403 | 404 | 410) => ResponseClass::Gone,
        CallOutcome::Responded(429) => ResponseClass::Throttled,
        CallOutcome::Responded(400..=407 | 409..=424 | 426..=499) => ResponseClass::Rejected,
        CallOutcome::Responded(_)
        | CallOutcome::TimedOut
        | CallOutcome::Unreachable
        | CallOutcome::ConnectionLost
        | CallOutcome::CertificateUntrusted => ResponseClass::Transient,
    }
}

/// Returns what to do with an outcome on a send path.
pub const fn decide(path: SendPath, outcome: CallOutcome, kind: &DeliveryKind) -> Decision {
    use Decision::{DeadLetter, Delivered, Duplicate, NextWebhook, RefreshSecret, Reject, RetryLater, RetryThenQueue};
    let (clay_worker, loops_fast_path, loops_worker) = match classify(outcome, kind) {
        ResponseClass::Accepted => (Delivered, Delivered, Delivered),
        // Clay knows no keys, so this class does not arise there.
        ResponseClass::Duplicate => (DeadLetter, Duplicate, Duplicate),
        // A caller gets Loops' own answer.
        ResponseClass::AlreadyDone => (DeadLetter, Reject, Delivered),
        ResponseClass::Unauthorized => (RefreshSecret, RefreshSecret, RefreshSecret),
        ResponseClass::Gone => (NextWebhook, Reject, DeadLetter),
        ResponseClass::Rejected => (DeadLetter, Reject, DeadLetter),
        ResponseClass::Throttled | ResponseClass::Transient => (RetryLater, RetryThenQueue, RetryLater),
    };
    match path {
        SendPath::ClayWorker => clay_worker,
        SendPath::LoopsFastPath => loops_fast_path,
        SendPath::LoopsWorker => loops_worker,
    }
}

/// Returns the reason code for an outcome that did not deliver.
pub const fn reason_for(path: SendPath, outcome: CallOutcome) -> ReasonCode {
    let to_clay = matches!(path, SendPath::ClayWorker);
    match (outcome, classify(outcome, &DeliveryKind::LoopsContact)) {
        (CallOutcome::TimedOut, _) => ReasonCode::TimedOut,
        (CallOutcome::Unreachable | CallOutcome::ConnectionLost, _) => ReasonCode::Unreachable,
        (CallOutcome::CertificateUntrusted, _) => ReasonCode::CertificateUntrusted,
        (_, ResponseClass::Throttled) => ReasonCode::DestinationThrottled,
        (_, ResponseClass::Unauthorized) if to_clay => ReasonCode::ClayTokenRejected,
        (_, ResponseClass::Unauthorized) => ReasonCode::LoopsKeyRejected,
        (_, ResponseClass::Gone) if to_clay => ReasonCode::ClayWebhooksExhausted,
        (_, ResponseClass::Rejected | ResponseClass::Duplicate | ResponseClass::AlreadyDone) if to_clay => {
            ReasonCode::ClayRejected
        }
        (_, ResponseClass::Rejected | ResponseClass::Gone | ResponseClass::Duplicate | ResponseClass::AlreadyDone) => {
            ReasonCode::LoopsRejected
        }
        (_, ResponseClass::Accepted | ResponseClass::Transient) => ReasonCode::DestinationFailed,
    }
}

/// Returns the status with which a rejection by Loops is passed on to Clay: its own if Clay takes that as final, else 400.
pub const fn status_for_clay(loops_status: u16) -> u16 {
    match loops_status {
        400 | 404 | 409 | 422 => loops_status,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::idempotency::IdempotencyKey;

    const EVERY_STATUS: std::ops::Range<u16> = 100..1000;

    fn decide_status(path: SendPath, status: u16) -> Decision {
        decide(path, CallOutcome::Responded(status), &DeliveryKind::LoopsContact)
    }

    #[test]
    fn only_2xx_or_event_conflict_is_delivered_or_duplicate() {
        for status in EVERY_STATUS {
            for path in [SendPath::ClayWorker, SendPath::LoopsFastPath, SendPath::LoopsWorker] {
                assert_eq!(
                    decide_status(path, status) == Decision::Delivered,
                    (200..300).contains(&status),
                    "{status}"
                );
                assert_ne!(decide_status(path, status), Decision::Duplicate, "{status}");
            }
        }
        for path in [SendPath::LoopsFastPath, SendPath::LoopsWorker] {
            assert_eq!(decide(path, CallOutcome::Responded(409), &event()), Decision::Duplicate);
        }
    }

    fn event() -> DeliveryKind {
        DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") }
    }

    #[test]
    fn stored_creation_and_deletion_that_are_done_are_delivered() {
        for (kind, done) in [(DeliveryKind::LoopsCreate, 409), (DeliveryKind::LoopsDelete, 404)] {
            for status in [404, 409] {
                let decide = |path| decide(path, CallOutcome::Responded(status), &kind);
                let stored = if status == done { Decision::Delivered } else { Decision::DeadLetter };
                assert_eq!(decide(SendPath::LoopsWorker), stored, "{kind:?} {status}");
                assert_eq!(decide(SendPath::LoopsFastPath), Decision::Reject, "{kind:?} {status}");
            }
        }
    }

    #[test]
    fn unauthorized_key_refreshes_secret_first() {
        for path in [SendPath::ClayWorker, SendPath::LoopsFastPath, SendPath::LoopsWorker] {
            assert_eq!(decide_status(path, 401), Decision::RefreshSecret);
        }
    }

    #[test]
    fn exhausted_clay_webhook_moves_to_next() {
        for status in [403, 404, 410] {
            assert_eq!(decide_status(SendPath::ClayWorker, status), Decision::NextWebhook);
            assert_eq!(decide_status(SendPath::LoopsFastPath, status), Decision::Reject);
            assert_eq!(decide_status(SendPath::LoopsWorker, status), Decision::DeadLetter);
        }
    }

    #[test]
    fn other_4xx_is_permanent_rejection() {
        for status in (400..500).filter(|status| ![401, 403, 404, 408, 410, 425, 429].contains(status)) {
            assert_eq!(decide_status(SendPath::ClayWorker, status), Decision::DeadLetter, "{status}");
            assert_eq!(decide_status(SendPath::LoopsFastPath, status), Decision::Reject, "{status}");
            assert_eq!(decide_status(SendPath::LoopsWorker, status), Decision::DeadLetter, "{status}");
        }
    }

    #[test]
    fn transient_outcome_is_retried() {
        let transient = (300..400).chain(500..600).chain([408, 425, 429]).map(CallOutcome::Responded);
        let without_response = [
            CallOutcome::TimedOut,
            CallOutcome::Unreachable,
            CallOutcome::ConnectionLost,
            CallOutcome::CertificateUntrusted,
        ];
        for outcome in transient.chain(without_response) {
            assert_eq!(
                decide(SendPath::ClayWorker, outcome, &DeliveryKind::LoopsContact),
                Decision::RetryLater,
                "{outcome:?}"
            );
            assert_eq!(decide(SendPath::LoopsWorker, outcome, &event()), Decision::RetryLater, "{outcome:?}");
            assert_eq!(decide(SendPath::LoopsFastPath, outcome, &event()), Decision::RetryThenQueue, "{outcome:?}");
        }
    }

    #[test]
    fn outcome_is_unknown_if_the_request_may_have_been_processed() {
        let unknown = [500, 502, 503, 504, 599].map(CallOutcome::Responded);
        for outcome in unknown.into_iter().chain([CallOutcome::TimedOut, CallOutcome::ConnectionLost]) {
            assert!(outcome.is_unknown(), "{outcome:?}");
        }
        let known = [200, 301, 400, 401, 408, 409, 425, 429, 499].map(CallOutcome::Responded);
        for outcome in known.into_iter().chain([CallOutcome::Unreachable, CallOutcome::CertificateUntrusted]) {
            assert!(!outcome.is_unknown(), "{outcome:?}");
        }
    }

    #[test]
    fn rejection_status_for_clay_is_not_retryable() {
        for status in 400..500 {
            assert!([400, 404, 409, 422].contains(&status_for_clay(status)), "{status}");
        }
        assert_eq!(status_for_clay(422), 422);
        assert_eq!(status_for_clay(403), 400);
    }
}
