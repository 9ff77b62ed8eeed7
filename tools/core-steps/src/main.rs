//! Repeats one step of relay-core on the examples of the folder `events`. The difference between two counts is what the step
//! needs, without the start of the program.
//!
//! usage: core-steps verify|clean|derive|decide COUNT

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use relay_core::delivery::{AttemptHistory, DeliveryKind, Reason};
use relay_core::idempotency::IdempotencyKey;
use relay_core::policy::response::{CallOutcome, SendPath, decide, reason_for};
use relay_core::policy::retry::retry_or_dead_letter;
use relay_core::row::{Row, RowKind, RowOptions};
use relay_core::webhook::signature::{SigningSecret, UnverifiedWebhook};
use serde_json::Value;

const WEBHOOK: &str = include_str!("../../../events/api-gateway/loops-webhook.json");
const ROW: &str = include_str!("../../../events/api-gateway/event-send.json");
/// A secret of the form that Loops gives out: with every webhook, one signature is checked against it.
const SIGNING_SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let done = match arguments.as_slice() {
        [step, count] => count.parse().ok().and_then(|count| repeat(step, count)),
        _ => None,
    };
    if done.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Repeats a step. None if there is no such step, or it does not succeed.
fn repeat(step: &str, count: u32) -> Option<()> {
    match step {
        "verify" => verify(count),
        "clean" => clean(count),
        "derive" => derive(count),
        "decide" => decide_on_failure(count),
        _ => None,
    }
}

fn body_of(event: &str) -> Option<Bytes> {
    let event: Value = serde_json::from_str(event).ok()?;
    Some(Bytes::from(event.get("body")?.as_str()?.to_owned()))
}

/// The headers, and the signature over id, time and body.
fn verify(count: u32) -> Option<()> {
    let body = body_of(WEBHOOK)?;
    let secrets = [SigningSecret::parse(SIGNING_SECRET).ok()?];
    let (id, now) = ("msg_2abcLoopsExample0000000001", Timestamp::from_second(1_734_425_918).ok()?);
    let (signed_at, [secret]) = ("1734425918", &secrets);
    let signature = secret.sign(id, signed_at, &body);
    for _ in 0..count {
        let headers = black_box((id, signed_at, &signature));
        let request =
            UnverifiedWebhook::new(Some(headers.0.as_bytes()), Some(headers.1.as_bytes()), Some(headers.2.as_bytes()));
        black_box(request.ok()?.verify(&body, &secrets, now, None).ok()?);
    }
    Some(())
}

/// A row from its bytes to the body that Loops gets.
fn clean(count: u32) -> Option<()> {
    let row = body_of(ROW)?;
    for _ in 0..count {
        let cleaned = Row::clean(RowKind::Event, black_box(&row), RowOptions::default(), None).ok()?;
        black_box(cleaned.to_body());
    }
    Some(())
}

/// The key of an event whose row is cleaned.
fn derive(count: u32) -> Option<()> {
    let row = Row::clean(RowKind::Event, &body_of(ROW)?, RowOptions::default(), None).ok()?;
    for _ in 0..count {
        let row = black_box(&row);
        black_box(IdempotencyKey::derive(row.event_name()?, row.email(), row.user_id(), row.event_properties()));
    }
    Some(())
}

/// What to do after a response that asks to come back later, and when.
fn decide_on_failure(count: u32) -> Option<()> {
    let now = Timestamp::from_second(1_734_425_918).ok()?;
    let kind = DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") };
    for _ in 0..count {
        let (path, outcome) = black_box((SendPath::LoopsWorker, CallOutcome::Responded(503)));
        black_box(decide(path, outcome, &kind));
        let reason = Reason::without_status(reason_for(path, outcome));
        let retry_after = Some(Duration::from_secs(2));
        black_box(retry_or_dead_letter(AttemptHistory::default(), reason, retry_after, now, 0.5));
    }
    Some(())
}
