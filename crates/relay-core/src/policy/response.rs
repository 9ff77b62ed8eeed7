//! What is done with a far end's answer: one table for every lane.

use crate::delivery::ReasonCode;

/// What came back from a far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It answered with this status.
    Answered(u16),
    /// It did not answer in time; whether it did what was asked is not known.
    TimedOut,
    /// The connection failed or broke; whether it did what was asked is not known.
    Unreachable,
    /// Its certificate is not trusted, so nothing was sent.
    CertificateUntrusted,
}

/// The lanes in which something is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// A worker sends a row to Clay.
    ClayWorker,
    /// A row's call to Loops, while Clay waits for the answer.
    LoopsDirect,
    /// A worker sends a stored row to Loops.
    LoopsWorker,
}

/// What an answer means to the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// 2xx.
    Taken,
    /// 409 on an event: this key was processed before.
    TakenBefore,
    /// 401.
    KeyRefused,
    /// 403, 404, 410: at Clay the webhook is used up or gone, at Loops a refusal.
    Gone,
    /// Any other 4xx that will be the same next time.
    Refused,
    /// 429: the far end has no room now.
    Full,
    /// 408, 425, 3xx, 5xx, no answer, no connection: it should pass.
    Failed,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It is delivered.
    Delivered,
    /// It was delivered before.
    Duplicate,
    /// The secret is read again and the call repeated, once; after that, this.
    RereadSecretThen(Final),
    /// The next webhook of the pool is tried; when none is left, it is held.
    NextWebhook,
    /// The caller is told that it is refused.
    Refuse,
    /// It is kept as a dead letter.
    DeadLetter,
    /// A caller who waits is spared: two quick tries, then it is stored.
    RetryThenStore,
    /// It is tried again later.
    TryLater,
}

/// What is left when a re-read secret does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Final {
    /// It is held, and a person is told.
    Hold,
    /// The caller is told that the relay's key is refused.
    KeyRejected,
}

struct Rule {
    meaning: Meaning,
    clay_worker: Decision,
    loops_direct: Decision,
    loops_worker: Decision,
}

/// The table. Clay: "webhook guide", status codes; Loops: API reference, errors and "Rate limiting".
const RULES: [Rule; 7] = [
    Rule {
        meaning: Meaning::Taken,
        clay_worker: Decision::Delivered,
        loops_direct: Decision::Delivered,
        loops_worker: Decision::Delivered,
    },
    Rule {
        meaning: Meaning::TakenBefore,
        // Clay knows no keys, so this meaning does not arise there.
        clay_worker: Decision::DeadLetter,
        loops_direct: Decision::Duplicate,
        loops_worker: Decision::Duplicate,
    },
    Rule {
        meaning: Meaning::KeyRefused,
        clay_worker: Decision::RereadSecretThen(Final::Hold),
        loops_direct: Decision::RereadSecretThen(Final::KeyRejected),
        loops_worker: Decision::RereadSecretThen(Final::Hold),
    },
    Rule {
        meaning: Meaning::Gone,
        clay_worker: Decision::NextWebhook,
        loops_direct: Decision::Refuse,
        loops_worker: Decision::DeadLetter,
    },
    Rule {
        meaning: Meaning::Refused,
        clay_worker: Decision::DeadLetter,
        loops_direct: Decision::Refuse,
        loops_worker: Decision::DeadLetter,
    },
    Rule {
        meaning: Meaning::Full,
        clay_worker: Decision::TryLater,
        loops_direct: Decision::RetryThenStore,
        loops_worker: Decision::TryLater,
    },
    Rule {
        meaning: Meaning::Failed,
        clay_worker: Decision::TryLater,
        loops_direct: Decision::RetryThenStore,
        loops_worker: Decision::TryLater,
    },
];

/// What an outcome means. `event`: whether the call carried an event and its key.
#[must_use]
pub const fn meaning(outcome: Outcome, event: bool) -> Meaning {
    match outcome {
        Outcome::Answered(status) => match status {
            200..=299 => Meaning::Taken,
            409 if event => Meaning::TakenBefore,
            401 => Meaning::KeyRefused,
            403 | 404 | 410 => Meaning::Gone,
            429 => Meaning::Full,
            408 | 425 => Meaning::Failed,
            400..=499 => Meaning::Refused,
            _ => Meaning::Failed,
        },
        Outcome::TimedOut | Outcome::Unreachable | Outcome::CertificateUntrusted => Meaning::Failed,
    }
}

/// What is done with an outcome in a lane.
#[must_use]
pub fn decide(lane: Lane, outcome: Outcome, event: bool) -> Decision {
    let meaning = meaning(outcome, event);
    let rule = RULES.iter().find(|rule| rule.meaning == meaning);
    match (rule, lane) {
        (Some(rule), Lane::ClayWorker) => rule.clay_worker,
        (Some(rule), Lane::LoopsDirect) => rule.loops_direct,
        (Some(rule), Lane::LoopsWorker) => rule.loops_worker,
        // Every meaning has its rule (a test counts them); what had none would be tried again, not lost.
        (None, _) => Decision::TryLater,
    }
}

/// The word for an outcome that did not deliver, in a lane.
#[must_use]
pub const fn reason_code(lane: Lane, outcome: Outcome) -> ReasonCode {
    let clay = matches!(lane, Lane::ClayWorker);
    match (outcome, meaning(outcome, false)) {
        (Outcome::TimedOut, _) => ReasonCode::TimedOut,
        (Outcome::Unreachable, _) => ReasonCode::Unreachable,
        (Outcome::CertificateUntrusted, _) => ReasonCode::CertificateUntrusted,
        (Outcome::Answered(_), Meaning::Full) => ReasonCode::FarEndFull,
        (Outcome::Answered(_), Meaning::KeyRefused) if clay => ReasonCode::ClayTokenRejected,
        (Outcome::Answered(_), Meaning::KeyRefused) => ReasonCode::LoopsKeyRejected,
        (Outcome::Answered(_), Meaning::Gone) if clay => ReasonCode::ClayWebhooksExhausted,
        (Outcome::Answered(_), Meaning::Refused | Meaning::TakenBefore) if clay => ReasonCode::ClayRejected,
        (Outcome::Answered(_), Meaning::Refused | Meaning::Gone | Meaning::TakenBefore) => ReasonCode::LoopsRejected,
        (Outcome::Answered(_), Meaning::Taken | Meaning::Failed) => ReasonCode::FarEndFailed,
    }
}

/// The status under which a refusal of Loops is passed on to Clay: its own where Clay takes it as final, else 400.
#[must_use]
pub const fn refusal_status(loops_status: u16) -> u16 {
    match loops_status {
        400 | 404 | 409 | 422 => loops_status,
        _ => 400,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVERY_STATUS: std::ops::Range<u16> = 100..1000;

    fn of(lane: Lane, status: u16) -> Decision {
        decide(lane, Outcome::Answered(status), false)
    }

    #[test]
    fn every_meaning_has_one_rule() {
        for status in EVERY_STATUS {
            for event in [false, true] {
                let meaning = meaning(Outcome::Answered(status), event);
                assert_eq!(RULES.iter().filter(|rule| rule.meaning == meaning).count(), 1, "{status}");
            }
        }
    }

    #[test]
    fn only_2xx_and_a_repeated_event_count_as_delivered() {
        for status in EVERY_STATUS {
            for lane in [Lane::ClayWorker, Lane::LoopsDirect, Lane::LoopsWorker] {
                assert_eq!(of(lane, status) == Decision::Delivered, (200..300).contains(&status), "{status}");
                assert_ne!(of(lane, status), Decision::Duplicate, "{status}");
            }
        }
        for lane in [Lane::LoopsDirect, Lane::LoopsWorker] {
            assert_eq!(decide(lane, Outcome::Answered(409), true), Decision::Duplicate);
        }
    }

    #[test]
    fn a_refused_key_is_read_again_first() {
        assert_eq!(of(Lane::ClayWorker, 401), Decision::RereadSecretThen(Final::Hold));
        assert_eq!(of(Lane::LoopsWorker, 401), Decision::RereadSecretThen(Final::Hold));
        assert_eq!(of(Lane::LoopsDirect, 401), Decision::RereadSecretThen(Final::KeyRejected));
    }

    #[test]
    fn a_used_up_webhook_makes_way_for_the_next() {
        for status in [403, 404, 410] {
            assert_eq!(of(Lane::ClayWorker, status), Decision::NextWebhook);
            assert_eq!(of(Lane::LoopsDirect, status), Decision::Refuse);
            assert_eq!(of(Lane::LoopsWorker, status), Decision::DeadLetter);
        }
    }

    #[test]
    fn any_other_refusal_is_final() {
        for status in (400..500).filter(|status| ![401, 403, 404, 408, 410, 425, 429].contains(status)) {
            assert_eq!(of(Lane::ClayWorker, status), Decision::DeadLetter, "{status}");
            assert_eq!(of(Lane::LoopsDirect, status), Decision::Refuse, "{status}");
            assert_eq!(of(Lane::LoopsWorker, status), Decision::DeadLetter, "{status}");
        }
    }

    #[test]
    fn what_should_pass_is_tried_again() {
        let passing = (300..400).chain(500..600).chain([408, 425, 429]).map(Outcome::Answered);
        for outcome in passing.chain([Outcome::TimedOut, Outcome::Unreachable, Outcome::CertificateUntrusted]) {
            assert_eq!(decide(Lane::ClayWorker, outcome, false), Decision::TryLater, "{outcome:?}");
            assert_eq!(decide(Lane::LoopsWorker, outcome, true), Decision::TryLater, "{outcome:?}");
            assert_eq!(decide(Lane::LoopsDirect, outcome, true), Decision::RetryThenStore, "{outcome:?}");
        }
    }

    #[test]
    fn a_refusal_reaches_clay_with_a_status_that_it_does_not_retry() {
        for status in 400..500 {
            assert!([400, 404, 409, 422].contains(&refusal_status(status)), "{status}");
        }
        assert_eq!(refusal_status(422), 422);
        assert_eq!(refusal_status(403), 400);
    }
}
