//! The report of `setup`: what is filled in, and what to paste into Loops and Clay.

use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::token::Scope;
use relay_doctor::invocation::suggest;
use relay_doctor::urls::{EndpointUrls, fingerprint};
use serde::Serialize;

use crate::setup::clay_webhooks::{RouteSummary, WebhookSummary};
use crate::setup::documents::{SecretDocuments, SecretList, TokenGrant};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetupReport {
    /// The secrets or the file that were written; empty if nothing had to change.
    pub(crate) written: Vec<String>,
    /// The team of the Loops key that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loops_team: Option<String>,
    /// Whether a Loops key is filled in.
    pub(crate) loops_api_key: bool,
    pub(crate) signing_secrets: Vec<SecretSummary>,
    pub(crate) relay_tokens: Vec<SecretSummary>,
    pub(crate) clay_routes: Vec<RouteSummary>,
    pub(crate) paste: EndpointUrls,
    pub(crate) notes: Vec<String>,
    #[serde(skip)]
    pub(crate) is_local: bool,
    /// Whether Loops is simulated, with a generated token.
    #[serde(skip)]
    pub(crate) is_trial: bool,
}

/// A secret without its text, unless that was asked for. The position counts from 1.
#[derive(Debug, Serialize)]
pub(crate) struct SecretSummary {
    position: usize,
    fingerprint: String,
    /// The name of a relay token.
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// The scopes of a relay token.
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// Summarizes the signing secrets.
pub(crate) fn summarize_signing_secrets(documents: &SecretDocuments) -> Vec<SecretSummary> {
    documents.list(SecretList::SigningSecrets).iter().zip(1..).map(SecretSummary::new).collect()
}

/// Summarizes the relay tokens. The text of a token is in it only if `is_exposed`. Those of a trial may do everything.
pub(crate) fn summarize_relay_tokens(
    documents: &SecretDocuments,
    is_trial: bool,
    is_exposed: impl Fn(&SecretString) -> bool,
) -> Vec<SecretSummary> {
    let tokens = documents.list(SecretList::RelayTokens);
    let summarize = |((token, position), grant): ((&SecretString, usize), TokenGrant)| {
        let scopes = if is_trial { Scope::ALL } else { &grant.scopes };
        SecretSummary {
            name: grant.name,
            scopes: Some(scopes.iter().map(|scope| scope.as_str()).collect()),
            token: is_exposed(token).then(|| token.expose_secret().to_owned()),
            ..SecretSummary::new((token, position))
        }
    };
    tokens.iter().zip(1..).zip(documents.token_grants()).map(summarize).collect()
}

/// What the token of the two columns that are pasted must be able to do.
const COLUMN_SCOPES: [Scope; 2] = [Scope::ContactsWrite, Scope::EventsSend];

impl SecretSummary {
    fn has_scope(&self, scope: Scope) -> bool {
        self.scopes.iter().flatten().any(|known| *known == scope.as_str())
    }

    fn new((secret, position): (&SecretString, usize)) -> Self {
        Self { position, fingerprint: fingerprint(secret.expose_secret()), name: None, scopes: None, token: None }
    }
}

impl SetupReport {
    /// Renders the report for a terminal.
    pub(crate) fn render(&self) -> String {
        // A stack is closed without a secret. relay-local generates the secret, and simulates the destination unless the
        // secret of its direction is set.
        let [no_key, no_signing_secret, no_relay_token, no_webhook] = if self.is_local {
            [
                if self.is_trial || self.relay_tokens.is_empty() {
                    "not stored: Loops is simulated"
                } else {
                    "not stored: Loops is closed, because a relay token is"
                },
                "none stored: one is generated",
                "none: one is generated, unless the route was closed",
                if self.signing_secrets.is_empty() {
                    "not stored: Clay is simulated"
                } else {
                    "not stored: Clay is closed, because a signing secret is"
                },
            ]
        } else {
            [
                "not filled in: no row gets to Loops",
                "none: every webhook is refused",
                "none: every row is refused",
                "not filled in: events wait or die",
            ]
        };
        let written = match self.written.as_slice() {
            [] => "Nothing was written.".to_owned(),
            written => format!("Written: {}.", written.join(", ")),
        };
        let key = match (&self.loops_team, self.loops_api_key) {
            (Some(team), _) => format!("valid, of the team {team:?}"),
            (None, true) => "filled in".to_owned(),
            (None, false) => no_key.to_owned(),
        };
        let mut lines = vec![
            written,
            String::new(),
            format!("Loops API key     {key}"),
            format!("Signing secrets   {}", format_secrets(&self.signing_secrets, no_signing_secret)),
            format!("Relay tokens      {}", format_tokens(&self.relay_tokens, no_relay_token)),
        ];
        for route in &self.clay_routes {
            lines.push(format!("Clay {:<12} {}", route.name, format_webhooks(&route.webhooks, no_webhook)));
        }
        if self.clay_routes.is_empty() {
            lines.push(format!("Clay              {no_webhook}"));
        }
        let opens_both = |secret: &&SecretSummary| COLUMN_SCOPES.iter().all(|scope| secret.has_scope(*scope));
        let token = self.relay_tokens.iter().rev().filter(opens_both).find_map(|secret| secret.token.as_deref());
        lines.extend([
            String::new(),
            "In Loops, under Settings, Webhooks:".to_owned(),
            format!("  Endpoint URL  {}", self.paste.loops_webhook_url),
            format!("  Events        {}", self.paste.events.join(", ")),
            String::new(),
            "In Clay, in an HTTP API column:".to_owned(),
            format!("  Contacts  PUT   {}", self.paste.clay_contact_url),
            format!("  Events    POST  {}", self.paste.clay_event_url),
            format!("  Header    Authorization: Bearer {}", token.unwrap_or("<relay token>")),
            "  Header    Content-Type: application/json".to_owned(),
        ]);
        if token.is_none() {
            lines.push(format!("  {} shows the relay token.", suggest("setup --list --show-token")));
        }
        if !self.notes.is_empty() {
            lines.push(String::new());
            lines.extend_from_slice(&self.notes);
        }
        lines.join("\n")
    }
}

fn format_secrets(secrets: &[SecretSummary], if_empty: &str) -> String {
    let entries = secrets.iter().map(|secret| format!("{}. {}", secret.position, secret.fingerprint));
    join_or(if_empty, entries, "   ")
}

/// Formats the relay tokens, each on a line.
fn format_tokens(tokens: &[SecretSummary], if_empty: &str) -> String {
    let entries = tokens.iter().map(|secret| {
        let SecretSummary { position, fingerprint, name, scopes, token } = secret;
        let scopes = scopes.iter().flatten().copied().collect::<Vec<_>>().join(", ");
        let parts = [name.as_deref(), token.as_deref(), Some(&*scopes)];
        format!("{position}. {fingerprint} {}", parts.into_iter().flatten().collect::<Vec<_>>().join("  "))
    });
    join_or(if_empty, entries, "\n                  ")
}

fn format_webhooks(webhooks: &[WebhookSummary], if_empty: &str) -> String {
    let entries = webhooks.iter().map(|webhook| {
        let token = if webhook.has_token { ", with a token" } else { "" };
        // A position says something only among several.
        let position = if webhooks.len() > 1 { format!("{}. ", webhook.position) } else { String::new() };
        format!("{position}{} ({}{token})", webhook.origin, webhook.key)
    });
    join_or(if_empty, entries, ", ")
}

fn join_or(if_empty: &str, entries: impl Iterator<Item = String>, separator: &str) -> String {
    let entries: Vec<String> = entries.collect();
    if entries.is_empty() { if_empty.to_owned() } else { entries.join(separator) }
}
