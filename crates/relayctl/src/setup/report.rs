//! What a person pastes where.

use relay::routes::{CONTACT_PATH, EVENT_PATH, WEBHOOK_PATH};
use relay_core::secret::{ExposeSecret as _, SecretString};
use serde::Serialize;

use crate::aws::stack::StackOutput;
use crate::error::Error;
use crate::setup::clay_webhooks::RouteSummary;
use crate::setup::documents::{SecretDocuments, SecretList, fingerprint};
use crate::setup::secret_store::SecretStore;

/// What setup found and did.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetupReport {
    /// The secrets or the file that were written; none, where nothing had to change.
    pub(crate) written: Vec<String>,
    /// The team of the Loops key that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) loops_team: Option<String>,
    /// Whether a Loops key is there.
    pub(crate) loops_api_key: bool,
    /// The signing secrets.
    pub(crate) signing_secrets: Vec<SecretSummary>,
    /// The relay tokens.
    pub(crate) relay_tokens: Vec<SecretSummary>,
    /// The routes to Clay.
    pub(crate) clay_routes: Vec<RouteSummary>,
    /// What to paste into Loops and Clay.
    pub(crate) paste: CopyPaste,
    /// What else a person should know.
    pub(crate) notes: Vec<String>,
    /// How this program is called for this relay.
    #[serde(skip)]
    pub(crate) command_line: String,
    /// What stands for something that is not there.
    #[serde(skip)]
    pub(crate) missing_text: MissingText,
}

/// What stands for something that is not there: a stack is closed then, a relay-local simulates or generates it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MissingText {
    loops: &'static str,
    signing_secrets: &'static str,
    relay_tokens: &'static str,
    clay: &'static str,
}

impl MissingText {
    /// The words for this relay.
    pub(crate) const fn for_store(secret_store: SecretStore<'_>) -> Self {
        match secret_store {
            SecretStore::Stack(_) => Self {
                loops: "not filled in: no row gets to Loops",
                signing_secrets: "none: every webhook is refused",
                relay_tokens: "none: every row is refused",
                clay: "not filled in: events wait or die",
            },
            SecretStore::Local(_) => Self {
                loops: "not stored: Loops is simulated",
                signing_secrets: "none stored: one is generated",
                relay_tokens: "none: one is generated, unless the route was closed",
                clay: "not stored: Clay is simulated",
            },
        }
    }
}

/// A secret as it is shown.
#[derive(Debug, Serialize)]
pub(crate) struct SecretSummary {
    /// Its position, from 1.
    pub(crate) position: usize,
    /// By what it is told from others.
    pub(crate) fingerprint: String,
    /// Itself, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
}

/// What to paste.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CopyPaste {
    /// The endpoint URL of Loops' webhook page.
    pub(crate) loops_webhook_url: String,
    /// The events to turn on there.
    pub(crate) events: Vec<String>,
    /// The URL of Clay's column for contacts (PUT).
    pub(crate) clay_contact_url: String,
    /// The URL of Clay's column for events (POST).
    pub(crate) clay_event_url: String,
}

impl CopyPaste {
    /// What is to be pasted for this relay.
    pub(crate) fn for_store(secret_store: SecretStore<'_>) -> Result<Self, Error> {
        let url = |output, path: &str| match secret_store {
            SecretStore::Stack(target) => target.stack.output(output).map(str::to_owned),
            SecretStore::Local(local) => Ok(format!("{}{path}", local.base_url())),
        };
        Ok(Self {
            loops_webhook_url: url(StackOutput::LoopsWebhookUrl, WEBHOOK_PATH)?,
            events: secret_store.events(),
            clay_contact_url: url(StackOutput::ClayContactUrl, CONTACT_PATH)?,
            clay_event_url: url(StackOutput::ClayEventUrl, EVENT_PATH)?,
        })
    }
}

/// The secrets of a list as they are shown; themselves, where `exposed` says so.
pub(crate) fn summarize_secrets(
    documents: &SecretDocuments,
    list: SecretList,
    is_exposed: impl Fn(&SecretString) -> bool,
) -> Vec<SecretSummary> {
    let secrets = documents.list(list);
    let numbered = secrets.iter().enumerate();
    numbered
        .map(|(index, secret)| SecretSummary {
            position: index + 1,
            fingerprint: fingerprint(secret.expose_secret()),
            token: is_exposed(secret).then(|| secret.expose_secret().to_owned()),
        })
        .collect()
}

impl SetupReport {
    /// The report for people.
    pub(crate) fn render(&self) -> String {
        let mut lines = vec![match self.written.as_slice() {
            [] => "Nothing was written.".to_owned(),
            written => format!("Written: {}.", written.join(", ")),
        }];
        lines.push(String::new());
        let key = match (&self.loops_team, self.loops_api_key) {
            (Some(team), _) => format!("valid, of the team {team:?}"),
            (None, true) => "filled in".to_owned(),
            (None, false) => self.missing_text.loops.to_owned(),
        };
        lines.push(format!("Loops API key     {key}"));
        lines.push(format!(
            "Signing secrets   {}",
            format_list(&self.signing_secrets, self.missing_text.signing_secrets)
        ));
        lines.push(format!("Relay tokens      {}", format_list(&self.relay_tokens, self.missing_text.relay_tokens)));
        for route in &self.clay_routes {
            let is_pool = route.webhooks.len() > 1;
            let webhooks: Vec<String> = route
                .webhooks
                .iter()
                .map(|webhook| {
                    let token = if webhook.has_token { ", with a token" } else { "" };
                    // A position says something only among several.
                    let position = if is_pool { format!("{}. ", webhook.position) } else { String::new() };
                    format!("{position}{} ({}{token})", webhook.origin, webhook.key)
                })
                .collect();
            let webhooks = if webhooks.is_empty() { self.missing_text.clay.to_owned() } else { webhooks.join(", ") };
            lines.push(format!("Clay {:<12} {webhooks}", route.name));
        }
        if self.clay_routes.is_empty() {
            lines.push(format!("Clay              {}", self.missing_text.clay));
        }
        let token = self.relay_tokens.iter().rev().find_map(|secret| secret.token.as_deref());
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
            lines.push(format!("  `{} setup --list --show-token` shows the relay token.", self.command_line));
        }
        if !self.notes.is_empty() {
            lines.push(String::new());
            lines.extend(self.notes.iter().cloned());
        }
        lines.join("\n")
    }
}

fn format_list(secrets: &[SecretSummary], if_empty: &str) -> String {
    if secrets.is_empty() {
        return if_empty.to_owned();
    }
    let entries = secrets.iter().map(|secret| match &secret.token {
        Some(token) => format!("{}. {} {token}", secret.position, secret.fingerprint),
        None => format!("{}. {}", secret.position, secret.fingerprint),
    });
    entries.collect::<Vec<_>>().join("   ")
}
