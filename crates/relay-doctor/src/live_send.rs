//! One row each way, for real: only with `--send`, and for the address given there.

use std::time::{Duration, Instant};

use http::Method;
use relay_core::delivery_state::DeliveryState;
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::token::{RelayToken, Scope};
use relay_core::webhook::event::CONTACT_CREATED;
use relay_core::webhook::selection::EventSelection;
use relay_core::webhook::signature::SigningSecret;
use serde_json::json;

use crate::check::Check;
use crate::endpoint::{EndpointChecks, NOT_CONFIGURED, new_id, no_signing_secret, string_field, unexpected};
use crate::finding::Finding;
use crate::invocation::suggest;

/// How long a row is followed on its way to Clay.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// Source of the contact, by which people recognise the test row.
const CONTACT_SOURCE: &str = "relayctl doctor";

/// `send-to-clay`: a signed event becomes a row in Clay. `delivery_status` reads the state of its deliveries, or
/// says why that cannot be read.
pub async fn check_send_to_clay(
    endpoint_checks: &EndpointChecks<'_>,
    secret: Option<&SecretString>,
    events: &str,
    address: &str,
    delivery_status: impl AsyncFn(&str, &str) -> Result<DeliveryState, Finding>,
) -> Finding {
    const CHECK: Check = Check::SendToClay;
    let Some(Ok(secret)) = secret.map(|secret| SigningSecret::parse(secret.expose_secret())) else {
        return no_signing_secret(CHECK);
    };
    let (id, event_name) = (new_id(), pick_event(events));
    let contact = json!({"id": "relayctl-doctor", "email": address, "source": CONTACT_SOURCE, "subscribed": false});
    let event = json!({
        "eventName": event_name, "eventTime": jiff::Timestamp::now().as_second(), "webhookSchemaVersion": "1.0.0",
        "contactIdentity": {"id": "relayctl-doctor", "email": address, "userId": null}, "contact": contact,
    });
    let response = endpoint_checks.send_webhook(&secret, &id, &event.to_string()).await;
    match (response.outcome, string_field(&response, "status").as_str()) {
        (CallOutcome::Responded(200), "queued") => wait_for_delivery(CHECK, &event_name, &id, delivery_status).await,
        (CallOutcome::Responded(200), "rejected") => CHECK.fail(
            format!("the relay takes {event_name} and makes a dead letter of it ({id})"),
            format!(
                "see {} for why: no_route means that no route of the secret takes this event",
                suggest("dead-letters list")
            ),
        ),
        (CallOutcome::Responded(200), _) => {
            CHECK.warn(format!("the relay ignores {event_name}"), "look at RelayedEvents: it does not have this event")
        }
        _ => unexpected(CHECK, &format!("a signed {event_name}"), &response),
    }
}

async fn wait_for_delivery(
    check: Check,
    event_name: &str,
    id: &str,
    delivery_status: impl AsyncFn(&str, &str) -> Result<DeliveryState, Finding>,
) -> Finding {
    let started_at = Instant::now();
    loop {
        match delivery_status(event_name, id).await {
            Ok(DeliveryState::Delivered) => {
                return check.ok(format!("{event_name} was delivered to Clay as {id}"));
            }
            Ok(DeliveryState::Dead) => {
                let remedy = format!("see {} for why", suggest("dead-letters list"));
                return check.fail(format!("{event_name} became a dead letter ({id})"), remedy);
            }
            Ok(DeliveryState::Waiting) if started_at.elapsed() < FOLLOW_TIMEOUT => {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok(DeliveryState::Waiting) => {
                let observed = format!("{event_name} still waits after {} s ({id})", FOLLOW_TIMEOUT.as_secs());
                return check.warn(observed, format!("see {} for why", suggest("deliveries --state waiting")));
            }
            Err(unreadable) => return unreadable,
        }
    }
}

/// `send-to-loops`: a row becomes a contact in Loops, with the first token that may send one.
pub async fn check_send_to_loops(
    endpoint_checks: &EndpointChecks<'_>,
    tokens: &[RelayToken],
    address: &str,
) -> Finding {
    const CHECK: Check = Check::SendToLoops;
    let Some(RelayToken { token, .. }) = tokens.iter().find(|token| token.allows(Scope::ContactsWrite)) else {
        let observed = format!("there is no relay token with the scope {}", Scope::ContactsWrite);
        return CHECK.fail(observed, format!("make one with {}", suggest("setup --add-relay-token")));
    };
    let row = json!({"email": address}).to_string();
    let response = endpoint_checks.send_row(Method::PUT, &endpoint_checks.urls.clay_contact_url, token, &row).await;
    match response.outcome {
        CallOutcome::Responded(200) => CHECK.ok("Loops has taken the contact"),
        CallOutcome::Responded(202) => CHECK.warn(
            "the contact is stored, because Loops had no room or did not answer",
            format!("see {} for what becomes of it", suggest("deliveries --direction clay-to-loops")),
        ),
        CallOutcome::Responded(503) if string_field(&response, "code") == NOT_CONFIGURED => endpoint_checks
            .pending_refresh(CHECK, "a row with that address", endpoint_checks.secret_timestamps.api_key)
            .unwrap_or_else(|| unexpected(CHECK, "a row with that address", &response)),
        _ => unexpected(CHECK, "a row with that address", &response),
    }
}

/// Returns an event that is relayed: `contact.created` if it is, else the first one named.
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
