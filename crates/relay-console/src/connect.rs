//! What *Connect* shows: the contact properties of the account, and the steps of the set-up.

use std::time::Duration;

use relay::destination::loops::{LoopsClient, PROPERTIES_PATH};
use relay_core::policy::response::CallOutcome;
use relay_core::secret::SecretString;
use serde::Deserialize;

use crate::view::{Property, Step};

const TIMEOUT: Duration = Duration::from_secs(10);

/// The contact properties of the account whose Loops key the relay has, or what Loops says to the key.
#[derive(Debug)]
pub enum Properties {
    /// There is no key, or it is not known here.
    NoKey,
    /// The properties of the key's account.
    Known(Vec<Property>),
    /// Loops does not accept the key.
    Refused,
    /// Loops did not answer, or with something else.
    Unknown,
}

/// A property in Loops' list (Loops API reference, "List contact properties").
#[derive(Debug, Deserialize)]
struct ListedProperty {
    key: String,
    label: String,
    #[serde(rename = "type")]
    kind: String,
}

impl Properties {
    /// Asks Loops.
    pub async fn read(loops: &impl LoopsClient, key: Option<&SecretString>) -> Self {
        let Some(key) = key else { return Self::NoKey };
        let response = loops.read(PROPERTIES_PATH, key, TIMEOUT).await;
        match response.outcome {
            CallOutcome::Responded(200) => serde_json::from_slice(&response.body).map_or(Self::Unknown, Self::known),
            CallOutcome::Responded(401) => Self::Refused,
            _ => Self::Unknown,
        }
    }

    /// Leaves out what Loops keeps for itself.
    fn known(listed: Vec<ListedProperty>) -> Self {
        let is_settable = |property: &ListedProperty| !property.key.starts_with("__") && property.key != "createdAt";
        let properties = listed.into_iter().filter(is_settable);
        Self::Known(properties.map(|ListedProperty { key, label, kind }| Property { key, label, kind }).collect())
    }

    /// Returns the properties. Empty if they are not known.
    pub fn list(&self) -> Vec<Property> {
        if let Self::Known(properties) = self { properties.clone() } else { Vec::new() }
    }
}

/// What is set of a relay.
#[derive(Debug, Clone, Copy)]
pub struct SetUp {
    /// Whether there is a signing secret.
    pub signing_secret: bool,
    /// Whether a webhook has come. None if that is not known.
    pub webhook_received: Option<bool>,
    /// Number of Clay webhooks.
    pub clay_webhooks: usize,
    /// Whether there is a relay token.
    pub relay_token: bool,
    /// Whether a row has come. None if that is not known.
    pub row_received: Option<bool>,
}

/// Returns the steps in the order in which a relay is set up. `suggest` returns a command of relayctl with these arguments, for the
/// relay that is shown.
pub fn steps(set_up: SetUp, properties: &Properties, suggest: &dyn Fn(&str) -> String) -> Vec<Step> {
    let SetUp { signing_secret, webhook_received, clay_webhooks, relay_token, row_received } = set_up;
    let fill_in = suggest("setup");
    let loops_webhook = match (signing_secret, webhook_received) {
        (false, _) => (false, format!("Store the signing secret that Loops shows, with {fill_in}.")),
        (true, Some(true)) => (true, "The signing secret is stored, and Loops has sent webhooks.".to_owned()),
        (true, Some(false)) => (
            false,
            "A signing secret is there, and no webhook has come: paste the URL in Loops under Settings, Webhooks."
                .to_owned(),
        ),
        (true, None) => (true, "The signing secret is stored.".to_owned()),
    };
    let clay_webhook = match clay_webhooks {
        0 => (false, format!("Make a webhook in Clay, and store its URL with {fill_in}.")),
        1 => (true, "A webhook of Clay takes the rows.".to_owned()),
        count => (true, format!("{count} webhooks of Clay take the rows.")),
    };
    let loops_key = match properties {
        Properties::Known(_) => (true, "Loops accepts the key.".to_owned()),
        Properties::NoKey => (false, format!("Make a key in Loops under Settings, API, and store it with {fill_in}.")),
        Properties::Refused => {
            (false, format!("Loops refuses the key: make a new one under Settings, API, and store it with {fill_in}."))
        }
        Properties::Unknown => (true, "A key is stored; Loops did not say now whether it is valid.".to_owned()),
    };
    let relay_token = match (relay_token, row_received) {
        (false, _) => (false, format!("Make a relay token with {}.", suggest("setup --add-relay-token"))),
        (true, Some(true)) => (true, "Rows have come with the relay token.".to_owned()),
        (true, Some(false)) => (
            false,
            "A relay token is there, and no row has come: add the column below in Clay, and run one row.".to_owned(),
        ),
        (true, None) => (true, "Clay's columns need the relay token in the header Authorization.".to_owned()),
    };
    let named = [
        ("loops-webhook", loops_webhook),
        ("clay-webhook", clay_webhook),
        ("loops-key", loops_key),
        ("relay-token", relay_token),
    ];
    named.into_iter().map(|(name, (done, sentence))| Step { name, done, sentence }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suggest(arguments: &str) -> String {
        format!("`relayctl {arguments}`")
    }

    #[test]
    fn what_is_missing_is_a_step_that_names_its_command() {
        let set_up = SetUp {
            signing_secret: false,
            webhook_received: None,
            clay_webhooks: 0,
            relay_token: false,
            row_received: None,
        };
        let missing = steps(set_up, &Properties::NoKey, &suggest);
        assert!(missing.iter().all(|step| !step.done && step.sentence.contains("relayctl setup")), "{missing:?}");
        let set_up = SetUp { signing_secret: true, clay_webhooks: 2, relay_token: true, ..set_up };
        assert!(steps(set_up, &Properties::Known(Vec::new()), &suggest).iter().all(|step| step.done));
    }

    #[test]
    fn neither_is_connected_until_something_has_come() {
        let set_up = |received| SetUp {
            signing_secret: true,
            webhook_received: Some(received),
            clay_webhooks: 1,
            relay_token: true,
            row_received: Some(received),
        };
        for received in [false, true] {
            let steps = steps(set_up(received), &Properties::Refused, &suggest);
            let done: Vec<_> = steps.iter().filter(|step| step.done).map(|step| step.name).collect();
            assert_eq!(done.contains(&"loops-webhook") && done.contains(&"relay-token"), received, "{done:?}");
        }
    }
}
