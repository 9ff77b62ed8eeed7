//! A row each way, for real: only where a person has asked for it, and with the address that the person gave.

use std::time::{Duration, Instant};

use http::Method;
use relay_core::policy::response::CallOutcome as Heard;
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::webhook::event::CONTACT_CREATED;
use relay_core::webhook::selection::EventSelection;
use relay_core::webhook::signature::SigningSecret;
use serde_json::json;

use crate::doctor::check::Check;
use crate::doctor::endpoint::{EndpointChecks, NOT_CONFIGURED, new_id, string_field, unexpected};
use crate::doctor::finding::Finding;
use crate::error::Error;

/// How long a row is followed on its way to Clay.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(30);
/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What is written as the contact's source, so that the row is known for what it is.
const SOURCE: &str = "relayctl doctor";

/// Where a row stands that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendStatus {
    /// It is on its way.
    Waiting,
    /// The far end has it.
    Delivered,
    /// It is a dead letter.
    Dead,
}

/// `send-to-clay`: a signed event becomes a row in Clay. `delivered` tells where the deliveries of an event stand.
pub async fn to_clay(
    door: &EndpointChecks<'_>,
    secret: Option<&SecretString>,
    events: &str,
    address: &str,
    delivered: impl AsyncFn(&str, &str) -> Result<SendStatus, Error>,
) -> Finding {
    const CHECK: Check = Check::SendToClay;
    let Some(Ok(secret)) = secret.map(|secret| SigningSecret::parse(secret.expose_secret())) else {
        return Finding::fail(CHECK, "there is no signing secret to sign with", "fill it in with `relayctl setup`");
    };
    let (id, name) = (new_id(), event_of(events));
    let contact = json!({"id": "relayctl-doctor", "email": address, "source": SOURCE, "subscribed": false});
    let event = json!({
        "eventName": name, "eventTime": jiff::Timestamp::now().as_second(), "webhookSchemaVersion": "1.0.0",
        "contactIdentity": {"id": "relayctl-doctor", "email": address, "userId": null}, "contact": contact,
    });
    let answer = door.webhook(&secret, &id, &event.to_string()).await;
    match (answer.outcome, string_field(&answer, "status").as_str()) {
        (Heard::Responded(200), "queued") => wait_for_delivery(CHECK, &name, &id, delivered).await,
        (Heard::Responded(200), "rejected") => Finding::fail(
            CHECK,
            format!("the relay takes {name} and makes a dead letter of it ({id})"),
            "see `relayctl dead-letters list` for why: no_route means that no route of the secret takes this event",
        ),
        (Heard::Responded(200), _) => Finding::warn(
            CHECK,
            format!("the relay ignores {name}"),
            "look at RelayedEvents: it does not have this event",
        ),
        _ => unexpected(CHECK, &format!("a signed {name}"), &answer),
    }
}

async fn wait_for_delivery(
    check: Check,
    name: &str,
    id: &str,
    delivered: impl AsyncFn(&str, &str) -> Result<SendStatus, Error>,
) -> Finding {
    let began = Instant::now();
    loop {
        match delivered(name, id).await {
            Ok(SendStatus::Delivered) => return Finding::ok(check, format!("{name} was delivered to Clay as {id}")),
            Ok(SendStatus::Dead) => {
                let to_do = "see `relayctl dead-letters list` for why";
                return Finding::fail(check, format!("{name} became a dead letter ({id})"), to_do);
            }
            Ok(SendStatus::Waiting) if began.elapsed() < FOLLOW_TIMEOUT => tokio::time::sleep(LOOK_EVERY).await,
            Ok(SendStatus::Waiting) => {
                let seen = format!("{name} still waits after {} s ({id})", FOLLOW_TIMEOUT.as_secs());
                return Finding::warn(check, seen, "see `relayctl deliveries --state waiting` for why");
            }
            Err(error) => return Finding::of(check, &error),
        }
    }
}

/// `send-to-loops`: a row becomes a contact in Loops.
pub async fn to_loops(door: &EndpointChecks<'_>, token: Option<&SecretString>, address: &str) -> Finding {
    const CHECK: Check = Check::SendToLoops;
    let Some(token) = token else {
        return Finding::fail(CHECK, "there is no relay token", "make one with `relayctl setup --add-relay-token`");
    };
    let row = json!({"email": address}).to_string();
    let answer = door.row(Method::PUT, &door.paste().clay_contact_url, token, &row).await;
    match answer.outcome {
        Heard::Responded(200) => Finding::ok(CHECK, "Loops has taken the contact"),
        Heard::Responded(202) => Finding::warn(
            CHECK,
            "the contact is stored, because Loops had no room or did not answer",
            "see `relayctl deliveries --direction clay-to-loops` for what becomes of it",
        ),
        Heard::Responded(503) if string_field(&answer, "code") == NOT_CONFIGURED => door
            .pending_refresh(CHECK, "a row with that address", door.written().api_key)
            .unwrap_or_else(|| unexpected(CHECK, "a row with that address", &answer)),
        _ => unexpected(CHECK, "a row with that address", &answer),
    }
}

/// An event that is relayed: `contact.created` where it is, else the first that is named.
fn event_of(events: &str) -> String {
    let relayed = events.parse::<EventSelection>().is_ok_and(|selection| selection.selects(CONTACT_CREATED));
    let named = events.split(',').map(str::trim).find(|name| !name.is_empty() && !name.contains('*'));
    if relayed { CONTACT_CREATED } else { named.unwrap_or(CONTACT_CREATED) }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_sent_that_is_relayed() {
        for (events, sent) in [
            ("email.*,contact.*", "contact.created"),
            ("*", "contact.created"),
            ("email.*,email.opened", "email.opened"),
            ("", "contact.created"),
        ] {
            assert_eq!(event_of(events), sent);
        }
    }
}
