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
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// What is written as the contact's source, so that the row is known for what it is.
const CONTACT_SOURCE: &str = "relayctl doctor";

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
pub async fn check_send_to_clay(
    endpoint_checks: &EndpointChecks<'_>,
    secret: Option<&SecretString>,
    events: &str,
    address: &str,
    delivery_status: impl AsyncFn(&str, &str) -> Result<SendStatus, Error>,
) -> Finding {
    const CHECK: Check = Check::SendToClay;
    let Some(Ok(secret)) = secret.map(|secret| SigningSecret::parse(secret.expose_secret())) else {
        return Finding::fail(CHECK, "there is no signing secret to sign with", "fill it in with `relayctl setup`");
    };
    let (id, event_name) = (new_id(), pick_event(events));
    let contact = json!({"id": "relayctl-doctor", "email": address, "source": CONTACT_SOURCE, "subscribed": false});
    let event = json!({
        "eventName": event_name, "eventTime": jiff::Timestamp::now().as_second(), "webhookSchemaVersion": "1.0.0",
        "contactIdentity": {"id": "relayctl-doctor", "email": address, "userId": null}, "contact": contact,
    });
    let response = endpoint_checks.send_webhook(&secret, &id, &event.to_string()).await;
    match (response.outcome, string_field(&response, "status").as_str()) {
        (Heard::Responded(200), "queued") => wait_for_delivery(CHECK, &event_name, &id, delivery_status).await,
        (Heard::Responded(200), "rejected") => Finding::fail(
            CHECK,
            format!("the relay takes {event_name} and makes a dead letter of it ({id})"),
            "see `relayctl dead-letters list` for why: no_route means that no route of the secret takes this event",
        ),
        (Heard::Responded(200), _) => Finding::warn(
            CHECK,
            format!("the relay ignores {event_name}"),
            "look at RelayedEvents: it does not have this event",
        ),
        _ => unexpected(CHECK, &format!("a signed {event_name}"), &response),
    }
}

async fn wait_for_delivery(
    check: Check,
    event_name: &str,
    id: &str,
    delivery_status: impl AsyncFn(&str, &str) -> Result<SendStatus, Error>,
) -> Finding {
    let started_at = Instant::now();
    loop {
        match delivery_status(event_name, id).await {
            Ok(SendStatus::Delivered) => {
                return Finding::ok(check, format!("{event_name} was delivered to Clay as {id}"));
            }
            Ok(SendStatus::Dead) => {
                let remedy = "see `relayctl dead-letters list` for why";
                return Finding::fail(check, format!("{event_name} became a dead letter ({id})"), remedy);
            }
            Ok(SendStatus::Waiting) if started_at.elapsed() < FOLLOW_TIMEOUT => tokio::time::sleep(POLL_INTERVAL).await,
            Ok(SendStatus::Waiting) => {
                let observed = format!("{event_name} still waits after {} s ({id})", FOLLOW_TIMEOUT.as_secs());
                return Finding::warn(check, observed, "see `relayctl deliveries --state waiting` for why");
            }
            Err(error) => return Finding::from_error(check, &error),
        }
    }
}

/// `send-to-loops`: a row becomes a contact in Loops.
pub async fn check_send_to_loops(
    endpoint_checks: &EndpointChecks<'_>,
    token: Option<&SecretString>,
    address: &str,
) -> Finding {
    const CHECK: Check = Check::SendToLoops;
    let Some(token) = token else {
        return Finding::fail(CHECK, "there is no relay token", "make one with `relayctl setup --add-relay-token`");
    };
    let row = json!({"email": address}).to_string();
    let response = endpoint_checks.send_row(Method::PUT, &endpoint_checks.paste().clay_contact_url, token, &row).await;
    match response.outcome {
        Heard::Responded(200) => Finding::ok(CHECK, "Loops has taken the contact"),
        Heard::Responded(202) => Finding::warn(
            CHECK,
            "the contact is stored, because Loops had no room or did not answer",
            "see `relayctl deliveries --direction clay-to-loops` for what becomes of it",
        ),
        Heard::Responded(503) if string_field(&response, "code") == NOT_CONFIGURED => endpoint_checks
            .pending_refresh(CHECK, "a row with that address", endpoint_checks.secret_timestamps().api_key)
            .unwrap_or_else(|| unexpected(CHECK, "a row with that address", &response)),
        _ => unexpected(CHECK, "a row with that address", &response),
    }
}

/// An event that is relayed: `contact.created` where it is, else the first that is named.
fn pick_event(events: &str) -> String {
    let is_contact_created_relayed =
        events.parse::<EventSelection>().is_ok_and(|selection| selection.selects(CONTACT_CREATED));
    let first_named = events.split(',').map(str::trim).find(|name| !name.is_empty() && !name.contains('*'));
    if is_contact_created_relayed { CONTACT_CREATED } else { first_named.unwrap_or(CONTACT_CREATED) }.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn test_event_is_one_that_is_relayed() {
        for (events, expected) in [
            ("email.*,contact.*", "contact.created"),
            ("*", "contact.created"),
            ("email.*,email.opened", "email.opened"),
            ("", "contact.created"),
        ] {
            assert_eq!(pick_event(events), expected);
        }
    }
}
