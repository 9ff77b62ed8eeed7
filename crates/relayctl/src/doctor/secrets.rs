//! The secrets: readable, well-formed, filled in, and accepted by Loops.

use jiff::Timestamp;
use relay::config::secret_document::DocumentError;
use relay::ports::secrets::{ClayToLoopsSecret, LoopsToClaySecret};
use relay_aws::secrets::cached_secret::MIN_REFRESH_INTERVAL;
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::token::RelayToken;
use relay_doctor::check::Check;
use relay_doctor::endpoint::SecretTimestamps;
use relay_doctor::finding::{Finding, list_names};
use relay_doctor::invocation::suggest;
use relay_doctor::routing::unrouted_events;

use crate::aws::stack::StackOutput;
use crate::doctor::report::finding_from_error;
use crate::error::Error;
use crate::setup::documents::{SecretDocuments, SecretList};
use crate::setup::secret_store;
use crate::target::StackTarget;

/// Parameter of the template with the events that are relayed.
const RELAYED_EVENTS: &str = "RelayedEvents";

/// The secrets' contents, for the other checks.
#[derive(Debug, Default)]
pub(crate) struct LoadedSecrets {
    pub(crate) signing_secrets: Vec<SecretString>,
    pub(crate) relay_tokens: Vec<RelayToken>,
    pub(crate) api_key: Option<SecretString>,
    pub(crate) to_clay: LoopsToClaySecret,
    pub(crate) timestamps: SecretTimestamps,
    /// Checks of the secrets that could not be read, so that their contents are not known.
    unreadable: Vec<Check>,
}

impl LoadedSecrets {
    /// The finding of a check that needs a secret which could not be read.
    pub(crate) fn skip(&self, check: Check, secret: Check) -> Option<Finding> {
        let observed = "not known: the secret could not be read";
        self.unreadable.contains(&secret).then(|| check.warn(observed, format!("see {secret}")))
    }

    /// Awaits the finding of a check that needs a secret, unless that could not be read.
    pub(crate) async fn run_or_skip(
        &self,
        check: Check,
        secret: Check,
        finding: impl Future<Output = Finding>,
    ) -> Finding {
        match self.skip(check, secret) {
            Some(skipped) => skipped,
            None => finding.await,
        }
    }

    /// Records that the secret of this finding could not be read.
    fn mark_unreadable(&mut self, finding: Finding) -> Finding {
        self.unreadable.push(finding.check);
        finding
    }
}

/// `secret-loops-to-clay`, `secret-clay-to-loops`: readable, well-formed and filled in.
pub(crate) async fn check_secrets(target: &StackTarget, loaded_secrets: &mut LoadedSecrets) -> [Finding; 2] {
    loaded_secrets.timestamps.refresh_interval = MIN_REFRESH_INTERVAL;
    let clay_finding = match load_secret(target, StackOutput::LoopsToClaySecretName).await {
        Ok((name, text, written_at)) => {
            let relayed_events = target.stack.parameter(RELAYED_EVENTS).unwrap_or_default();
            let parsed = (target.session.clients().loops_to_clay_parser())(text.expose_secret());
            let finding = check_clay_secret(&name, text.expose_secret(), parsed, relayed_events, loaded_secrets);
            loaded_secrets.timestamps.signing_secrets =
                written_at.filter(|_| !loaded_secrets.signing_secrets.is_empty());
            finding
        }
        Err(error) => loaded_secrets.mark_unreadable(finding_from_error(Check::SecretLoopsToClay, &error)),
    };
    let loops_finding = match load_secret(target, StackOutput::ClayToLoopsSecretName).await {
        Ok((name, text, written_at)) => {
            let finding = check_loops_secret(&name, text.expose_secret(), loaded_secrets);
            loaded_secrets.timestamps.relay_tokens = written_at.filter(|_| !loaded_secrets.relay_tokens.is_empty());
            loaded_secrets.timestamps.api_key = written_at.filter(|_| loaded_secrets.api_key.is_some());
            finding
        }
        Err(error) => loaded_secrets.mark_unreadable(finding_from_error(Check::SecretClayToLoops, &error)),
    };
    [clay_finding, loops_finding]
}

/// Returns the name and text of a secret, and when that text was written.
async fn load_secret(
    target: &StackTarget,
    output: StackOutput,
) -> Result<(String, SecretString, Option<Timestamp>), Error> {
    let name = target.stack.output(output)?;
    let version = secret_store::secret_version(target, name, secret_store::CURRENT_STAGE).await?;
    let written_at = version.created_date.and_then(|at| Timestamp::from_millisecond(at.to_millis().ok()?).ok());
    Ok((name.to_owned(), SecretString::from(version.secret_string.unwrap_or_default()), written_at))
}

fn check_clay_secret(
    name: &str,
    text: &str,
    parsed: Result<LoopsToClaySecret, DocumentError>,
    relayed_events: &str,
    loaded_secrets: &mut LoadedSecrets,
) -> Finding {
    const CHECK: Check = Check::SecretLoopsToClay;
    let secret = match parsed {
        Ok(secret) => secret,
        Err(error) => return loaded_secrets.mark_unreadable(unusable_secret(CHECK, name, &error)),
    };
    if let Ok(documents) = SecretDocuments::parse([text, "{}"], [name, name]) {
        loaded_secrets.signing_secrets = documents.list(SecretList::SigningSecrets);
    }
    let (secrets, routes) = (secret.signing_secrets.len(), secret.routes.len());
    let routes_without_webhook: Vec<String> =
        secret.routes.iter().filter(|route| route.webhooks.is_empty()).map(|route| route.name.clone()).collect();
    let unrouted = unrouted_events(relayed_events, &secret.routes);
    loaded_secrets.to_clay = secret;
    if secrets == 0 {
        return CHECK.fail("no signing secret is filled in, so every webhook of Loops is refused", fill_in_remedy());
    }
    if routes == 0 || !routes_without_webhook.is_empty() {
        let problem = if routes_without_webhook.is_empty() {
            "there is no route to Clay".to_owned()
        } else {
            format!("no Clay webhook is filled in for {}", routes_without_webhook.join(", "))
        };
        return CHECK.fail(format!("{problem}, so events wait or die"), fill_in_remedy());
    }
    if !unrouted.is_empty() {
        return CHECK.fail(
            format!("no route takes {}: each becomes a dead letter (no_route)", list_names(&unrouted)),
            "add them to a route's events in this secret, or take them out of RelayedEvents with `make deploy`",
        );
    }
    CHECK.ok(format!("{}, {}", pluralize(secrets, "signing secret"), pluralize(routes, "route")))
}

fn check_loops_secret(name: &str, text: &str, loaded_secrets: &mut LoadedSecrets) -> Finding {
    const CHECK: Check = Check::SecretClayToLoops;
    let secret = match ClayToLoopsSecret::parse(text) {
        Ok(secret) => secret,
        Err(error) => return loaded_secrets.mark_unreadable(unusable_secret(CHECK, name, &error)),
    };
    loaded_secrets.relay_tokens = secret.tokens.iter().cloned().collect();
    loaded_secrets.api_key = secret.api_key;
    if loaded_secrets.relay_tokens.is_empty() {
        return CHECK.fail(
            "there is no relay token, so every row of Clay is refused",
            format!("make one with {}", suggest("setup --add-relay-token")),
        );
    }
    if loaded_secrets.api_key.is_none() {
        return CHECK.fail("no Loops API key is filled in, so no row gets to Loops", fill_in_remedy());
    }
    CHECK.ok(format!("a Loops key, {}", pluralize(loaded_secrets.relay_tokens.len(), "relay token")))
}

fn unusable_secret(check: Check, name: &str, error: &DocumentError) -> Finding {
    check.fail(
        format!("the relay cannot use {name}, because {error}"),
        "mend it in Secrets Manager, as the README shows it",
    )
}

fn fill_in_remedy() -> String {
    format!("fill it in with {}", suggest("setup"))
}

fn pluralize(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use relay_doctor::finding::Severity;

    #[test]
    fn each_missing_secret_field_is_named() {
        let mut loaded_secrets = LoadedSecrets::default();
        for (text, part) in [
            (r#"{"loops_signing_secrets": ["REPLACE"]}"#, "signing secret"),
            (r#"{"loops_signing_secrets": ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="]}"#, "no route"),
            (
                r#"{"loops_signing_secrets": ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="], "clay_routes": [{"name": "leads", "events": ["*"]}]}"#,
                "for leads",
            ),
            (
                r#"{"loops_signing_secrets": ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="], "clay_routes":
                   [{"name": "leads", "events": ["email.*"], "webhooks": [{"url": "https://a.example/hidden"}]}]}"#,
                "no route takes contact.created",
            ),
            ("hidden", "line 1"),
        ] {
            let finding = check_clay_secret(
                "name",
                text,
                LoopsToClaySecret::parse(text),
                "contact.created,email.*",
                &mut loaded_secrets,
            );
            assert_eq!(finding.severity, Severity::Fail);
            assert!(finding.observed.contains(part) && !finding.observed.contains("hidden"), "{finding:?}");
        }
        for (text, part) in
            [(r#"{"loops_api_key": "k"}"#, "relay token"), (r#"{"relay_tokens": "relay-token-of-a-test"}"#, "API key")]
        {
            assert!(check_loops_secret("name", text, &mut loaded_secrets).observed.contains(part));
        }
    }
}
