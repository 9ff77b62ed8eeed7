//! The secrets: filled in, well-formed, and taken by Loops.

use jiff::Timestamp;
use relay::destination::http_client::HttpClient;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_core::secret::SecretString;

use crate::aws::stack::StackOutput;
use crate::doctor::check::Check;
use crate::doctor::endpoint::SecretTimestamps;
use crate::doctor::finding::{Finding, list_names};
use crate::doctor::routing::unrouted_events;
use crate::error::Error;
use crate::setup::documents::{Documents, SecretList};
use crate::setup::key_check::{KeyCheck, check_key};
use crate::setup::secret_store::{self, SecretStore};
use crate::target::StackTarget;
use relay_core::secret::ExposeSecret as _;

/// The parameter of the template that says which events are relayed.
const RELAYED_EVENTS: &str = "RelayedEvents";
const FILL_IN: &str = "fill it in with `relayctl setup`";

/// What the other checks use of the secrets.
#[derive(Debug, Default)]
pub struct LoadedSecrets {
    /// The signing secrets, as texts.
    pub signing_secrets: Vec<SecretString>,
    /// The relay tokens.
    pub relay_tokens: Vec<SecretString>,
    /// The Loops key.
    pub api_key: Option<SecretString>,
    /// The routes to Clay.
    pub to_clay: LoopsToClaySecret,
    /// When they were written.
    pub written: SecretTimestamps,
    /// The checks of those secrets that could not be read: what they hold is not known.
    pub unread: Vec<Check>,
}

impl LoadedSecrets {
    /// What a check says that needs this secret, where it could not be read.
    #[must_use]
    pub fn skip(&self, check: Check, secret: Check) -> Option<Finding> {
        self.unread.contains(&secret).then(|| Finding::skipped(check, secret))
    }
}

/// `secret-loops-to-clay`, `secret-clay-to-loops`: readable, well-formed and filled in.
pub async fn secrets(target: &StackTarget, keys: &mut LoadedSecrets) -> Vec<Finding> {
    let (clay, loops) = (Check::SecretLoopsToClay, Check::SecretClayToLoops);
    let mut findings = Vec::new();
    match document(target, StackOutput::LoopsToClaySecretName).await {
        Ok((name, text, written)) => {
            let relayed = target.stack.parameter(RELAYED_EVENTS).unwrap_or_default();
            findings.push(to_clay(clay, &name, text.expose_secret(), relayed, keys));
            keys.written.signing_secrets = written.filter(|_| !keys.signing_secrets.is_empty());
        }
        Err(error) => {
            keys.unread.push(clay);
            findings.push(Finding::of(clay, &error));
        }
    }
    match document(target, StackOutput::ClayToLoopsSecretName).await {
        Ok((name, text, written)) => {
            findings.push(to_loops(loops, &name, text.expose_secret(), keys));
            keys.written.relay_tokens = written.filter(|_| !keys.relay_tokens.is_empty());
            keys.written.api_key = written.filter(|_| keys.api_key.is_some());
        }
        Err(error) => {
            keys.unread.push(loops);
            findings.push(Finding::of(loops, &error));
        }
    }
    findings
}

/// A secret's name and text, and when that text was written.
async fn document(
    target: &StackTarget,
    output: StackOutput,
) -> Result<(String, SecretString, Option<Timestamp>), Error> {
    let name = target.stack.output(output)?;
    let read = secret_store::version(target, name, secret_store::CURRENT).await?;
    let written = read.created_date.and_then(|at| Timestamp::from_millisecond(at.to_millis().ok()?).ok());
    Ok((name.to_owned(), SecretString::from(read.secret_string.unwrap_or_default()), written))
}

fn to_clay(check: Check, name: &str, text: &str, relayed: &str, keys: &mut LoadedSecrets) -> Finding {
    let secret = match LoopsToClaySecret::parse(text) {
        Ok(secret) => secret,
        Err(error) => {
            keys.unread.push(check);
            return unusable(check, name, &error);
        }
    };
    if let Ok(documents) = Documents::read([text, "{}"], [name, name]) {
        keys.signing_secrets = documents.list(SecretList::SigningSecrets);
    }
    let (secrets, routes) = (secret.signing_secrets.len(), secret.routes.len());
    let empty: Vec<String> =
        secret.routes.iter().filter(|route| route.webhooks.is_empty()).map(|route| route.name.clone()).collect();
    let lost = unrouted_events(relayed, &secret.routes);
    keys.to_clay = secret;
    if secrets == 0 {
        return Finding::fail(check, "no signing secret is filled in, so every webhook of Loops is refused", FILL_IN);
    }
    if routes == 0 || !empty.is_empty() {
        let which = if empty.is_empty() {
            "there is no route to Clay".to_owned()
        } else {
            format!("no Clay webhook is filled in for {}", empty.join(", "))
        };
        return Finding::fail(check, format!("{which}, so events wait or die"), FILL_IN);
    }
    if !lost.is_empty() {
        return Finding::fail(
            check,
            format!("no route takes {}: each becomes a dead letter (no_route)", list_names(&lost)),
            "add them to a route's events in this secret, or take them out of RelayedEvents with `make deploy`",
        );
    }
    Finding::ok(check, format!("{}, {}", pluralize(secrets, "signing secret"), pluralize(routes, "route")))
}

fn to_loops(check: Check, name: &str, text: &str, keys: &mut LoadedSecrets) -> Finding {
    let secret = match ClayToLoopsSecret::parse(text) {
        Ok(secret) => secret,
        Err(error) => {
            keys.unread.push(check);
            return unusable(check, name, &error);
        }
    };
    if let Ok(documents) = Documents::read(["{}", text], [name, name]) {
        keys.relay_tokens = documents.list(SecretList::RelayTokens);
    }
    keys.api_key = secret.api_key;
    if keys.relay_tokens.is_empty() {
        return Finding::fail(
            check,
            "there is no relay token, so every row of Clay is refused",
            "make one with `relayctl setup --add-relay-token`",
        );
    }
    if keys.api_key.is_none() {
        return Finding::fail(check, "no Loops API key is filled in, so no row gets to Loops", FILL_IN);
    }
    Finding::ok(check, format!("a Loops key, {}", pluralize(keys.relay_tokens.len(), "relay token")))
}

fn unusable(check: Check, name: &str, error: &relay::config::secret_document::DocumentError) -> Finding {
    Finding::fail(
        check,
        format!("the relay cannot use {name}, because {error}"),
        "mend it in Secrets Manager, as the README shows it",
    )
}

/// `loops-key`: Loops takes the key, and says whose it is.
pub async fn loops_key(client: &HttpClient, keeping: SecretStore<'_>, key: Option<&SecretString>) -> Finding {
    let Some(key) = key else {
        return Finding::fail(Check::LoopsKey, "there is no key to ask Loops with", FILL_IN);
    };
    match check_key(client, keeping.loops_api(), key).await {
        KeyCheck::Valid(team) => Finding::ok(Check::LoopsKey, format!("valid, of the team {team:?}")),
        KeyCheck::Refused => Finding::fail(
            Check::LoopsKey,
            "Loops refuses the API key",
            "make a new one in Loops under Settings, API, and give it to `relayctl setup`",
        ),
        KeyCheck::Unclear(status) => Finding::warn(
            Check::LoopsKey,
            format!("Loops answered {status} and did not say whether the key is valid"),
            "run doctor again in a minute, and look at the status page of Loops",
        ),
        KeyCheck::NoAnswer => Finding::fail(
            Check::LoopsKey,
            "Loops did not answer from here",
            "look at this machine's network and at LoopsApiUrl, and run doctor again",
        ),
    }
}

fn pluralize(number: usize, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::finding::Severity;

    #[test]
    fn each_place_that_is_not_filled_in_is_named() {
        let mut keys = LoadedSecrets::default();
        for (text, part) in [
            (r#"{"loops_signing_secrets": ["REPLACE"]}"#, "signing secret"),
            (r#"{"loops_signing_secrets": ["whsec_c2VjcmV0"]}"#, "no route"),
            (
                r#"{"loops_signing_secrets": ["whsec_c2VjcmV0"], "clay_routes": [{"name": "leads", "events": ["*"]}]}"#,
                "for leads",
            ),
            (
                r#"{"loops_signing_secrets": ["whsec_c2VjcmV0"], "clay_routes":
                   [{"name": "leads", "events": ["email.*"], "webhooks": [{"url": "https://a.example/hidden"}]}]}"#,
                "no route takes contact.created",
            ),
            ("hidden", "line 1"),
        ] {
            let finding = to_clay(Check::SecretLoopsToClay, "name", text, "contact.created,email.*", &mut keys);
            assert_eq!(finding.outcome, Severity::Fail);
            assert!(finding.observed.contains(part) && !finding.observed.contains("hidden"), "{finding:?}");
        }
        for (text, part) in [(r#"{"loops_api_key": "k"}"#, "relay token"), (r#"{"relay_tokens": "t"}"#, "API key")] {
            assert!(to_loops(Check::SecretClayToLoops, "name", text, &mut keys).observed.contains(part));
        }
    }
}
