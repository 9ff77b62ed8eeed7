//! Where the documents are kept: two secrets in Secrets Manager, or one file in a data folder.

use std::time::Duration;

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use relay::config::names::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_TOKEN,
};
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_sqlite::data_dir::secrets_file::{SECRETS_FILE, SecretsFile, SecretsFileError};
use serde_json::{Value, json};

use crate::aws::stack::StackOutput;
use crate::error::Error;
use crate::local::error::Error as LocalError;
use crate::local::relay::LocalRelay;
use crate::setup::clay_webhooks::ROUTES;
use crate::setup::documents::{API_KEY, RELAY_TOKENS, SIGNING_SECRETS, SecretDocuments, SecretList, set_field as set};
use crate::setup::error::SetupError;
use crate::target::StackTarget;

/// The parameter of the template, and relay-local's setting, that say where the Loops API is.
const DEFAULT_LOOPS_API_URL: &str = "https://app.loops.so/api";
/// The stage of the version of a secret that is in use.
pub(crate) const CURRENT_STAGE: &str = "AWSCURRENT";
/// How often a secret is read again that is still as it was before a write, which a copy may be for a moment.
const CONSISTENCY_RETRIES: usize = 5;
/// And how long after.
const CONSISTENCY_RETRY_DELAY: Duration = Duration::from_millis(200);

/// Where the documents are kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum SecretStore<'a> {
    /// In the secrets of a stack.
    Stack(&'a StackTarget),
    /// In a data folder.
    Local(&'a LocalRelay),
}

impl SecretStore<'_> {
    /// What the two documents are called.
    pub(crate) fn secret_names(&self) -> Result<[String; 2], Error> {
        match self {
            Self::Stack(target) => Ok([
                target.stack.output(StackOutput::LoopsToClaySecretName)?.to_owned(),
                target.stack.output(StackOutput::ClayToLoopsSecretName)?.to_owned(),
            ]),
            Self::Local(local) => {
                let file = local.data_dir.path().join(SECRETS_FILE).display().to_string();
                Ok([file.clone(), file])
            }
        }
    }

    /// Where the Loops API is.
    pub(crate) fn loops_api_url(&self) -> &str {
        match self {
            Self::Stack(target) => target.stack.parameter("LoopsApiUrl").unwrap_or(DEFAULT_LOOPS_API_URL),
            Self::Local(local) => &local.settings.shared.loops_api_url,
        }
    }

    /// Which events are relayed.
    pub(crate) fn events(&self) -> Vec<String> {
        match self {
            Self::Stack(target) => {
                let events = target.stack.parameter("RelayedEvents").unwrap_or("contact.created").split(',');
                events.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
            }
            Self::Local(local) => local.events.clone(),
        }
    }

    /// Makes what a relay would make at its start: a folder's relay token. A stack has its own.
    pub(crate) fn ensure_relay_token(&self) -> Result<(), Error> {
        if let Self::Local(local) = self
            && !local.stored_settings()?.0.contains_key(RELAY_TOKEN)
        {
            local.data_dir.relay_token().map_err(LocalError::from)?;
        }
        Ok(())
    }

    /// Reads the documents.
    pub(crate) async fn load(&self) -> Result<SecretDocuments, Error> {
        match self {
            Self::Stack(target) => {
                let [clay_name, loops_name] = self.secret_names()?;
                let (to_clay, to_loops) =
                    (current_secret(target, &clay_name).await?, current_secret(target, &loops_name).await?);
                let texts = [to_clay.expose_secret(), to_loops.expose_secret()];
                Ok(SecretDocuments::parse(texts, [&clay_name, &loops_name])?)
            }
            Self::Local(local) => Ok(load_from_dir(local, &local.stored_settings()?)?),
        }
    }

    /// Writes what has changed, and tells what that is. Each document is written as a whole.
    pub(crate) async fn save(&self, before: &SecretDocuments, after: &SecretDocuments) -> Result<Vec<String>, Error> {
        let [clay_name, loops_name] = self.secret_names()?;
        match self {
            Self::Stack(target) => {
                let mut written = Vec::new();
                let documents =
                    [(&clay_name, &before.to_clay, &after.to_clay), (&loops_name, &before.to_loops, &after.to_loops)];
                for (name, before, after) in documents {
                    if before == after {
                        continue;
                    }
                    match (put_secret(target, name, after).await, written.first()) {
                        (Ok(()), _) => written.push(name.clone()),
                        (Err(error), None) => return Err(error),
                        (Err(error), Some(written)) => {
                            let (written, missing) = (String::clone(written), name.clone());
                            return Err(SetupError::PartialWrite { written, missing, error: Box::new(error) }.into());
                        }
                    }
                }
                for (name, before, after) in documents {
                    if before != after {
                        verify_not_overwritten(target, name, before, after).await?;
                    }
                }
                Ok(written)
            }
            Self::Local(_) if before == after => Ok(Vec::new()),
            Self::Local(local) => {
                let stored = local.stored_settings()?;
                if load_from_dir(local, &stored)? != *before {
                    return Err(LocalError::from(SecretsFileError::Busy(clay_name.into())).into());
                }
                let changed = save_to_dir(local, stored.clone(), after)?;
                changed.compare_and_write(&stored, local.data_dir.path()).map_err(LocalError::from)?;
                Ok(vec![clay_name])
            }
        }
    }
}

/// Reads a secret.
pub(crate) async fn current_secret(target: &StackTarget, name: &str) -> Result<SecretString, Error> {
    secret_at_stage(target, name, CURRENT_STAGE).await
}

async fn secret_at_stage(target: &StackTarget, name: &str, stage: &str) -> Result<SecretString, Error> {
    Ok(SecretString::from(secret_version(target, name, stage).await?.secret_string.unwrap_or_default()))
}

/// A version of a secret.
pub(crate) async fn secret_version(
    target: &StackTarget,
    name: &str,
    stage: &str,
) -> Result<GetSecretValueOutput, Error> {
    let call = target.session.call("secretsmanager:GetSecretValue", name);
    let get = target.session.secrets_manager().get_secret_value().secret_id(name).version_stage(stage);
    Ok(get.send().await.map_err(|error| call.to_error(&error))?)
}

async fn put_secret(target: &StackTarget, name: &str, document: &Value) -> Result<(), Error> {
    let call = target.session.call("secretsmanager:PutSecretValue", name);
    let text = serde_json::to_string_pretty(document)?;
    let response = target.session.secrets_manager().put_secret_value().secret_id(name).secret_string(text).send().await;
    Ok(response.map(drop).map_err(|error| call.to_error(&error))?)
}

/// Checks that a write stands in the place of what was read, and that nothing stands in its own: Secrets Manager takes every
/// write, also one that knows nothing of the last.
async fn verify_not_overwritten(target: &StackTarget, name: &str, before: &Value, after: &Value) -> Result<(), Error> {
    let is_document = |text: &SecretString, document: &Value| {
        serde_json::from_str::<Value>(text.expose_secret()).is_ok_and(|parsed| parsed == *document)
    };
    // What cannot be read back is no proof of another's hand, and is written.
    let Ok(mut current) = current_secret(target, name).await else { return Ok(()) };
    for _ in 0..CONSISTENCY_RETRIES {
        if !is_document(&current, before) {
            break;
        }
        tokio::time::sleep(CONSISTENCY_RETRY_DELAY).await;
        let Ok(reread) = current_secret(target, name).await else { return Ok(()) };
        current = reread;
    }
    let overwrote_other = async || {
        secret_at_stage(target, name, "AWSPREVIOUS").await.is_ok_and(|previous| !is_document(&previous, before))
    };
    if is_document(&current, after) && !overwrote_other().await {
        return Ok(());
    }
    Err(SetupError::ConcurrentWrite { name: name.to_owned() }.into())
}

fn load_from_dir(local: &LocalRelay, SecretsFile(stored): &SecretsFile) -> Result<SecretDocuments, LocalError> {
    let list = |name: &str| stored.get(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let (mut to_clay, mut to_loops) = (json!({}), json!({}));
    if let Some(secrets) = list(LOOPS_SIGNING_SECRET) {
        set(&mut to_clay, SIGNING_SECRETS, json!(secrets));
    }
    if let Some(urls) = list(CLAY_WEBHOOK_URL) {
        let tokens = list(CLAY_WEBHOOK_AUTH_TOKEN).unwrap_or_default();
        let webhooks = urls.iter().enumerate().map(|(index, url)| {
            let token = if tokens.len() == 1 { tokens.first() } else { tokens.get(index) };
            token.map_or_else(|| json!({"url": url}), |token| json!({"url": url, "auth_token": token}))
        });
        let webhooks: Vec<Value> = webhooks.collect();
        let route = json!({"name": "default", "events": local.events, "webhooks": webhooks});
        set(&mut to_clay, ROUTES, json!([route]));
    }
    if let Some(key) = stored.get(LOOPS_API_KEY) {
        set(&mut to_loops, API_KEY, json!(key));
    }
    let tokens = match list(RELAY_TOKEN) {
        Some(tokens) => json!(tokens),
        None => json!(local.data_dir.existing_relay_token()?.into_iter().collect::<Vec<_>>()),
    };
    set(&mut to_loops, RELAY_TOKENS, tokens);
    Ok(SecretDocuments { to_clay, to_loops })
}

fn save_to_dir(
    local: &LocalRelay,
    mut stored: SecretsFile,
    documents: &SecretDocuments,
) -> Result<SecretsFile, LocalError> {
    let join_list = |list| {
        let secrets = documents.list(list);
        secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>().join(",")
    };
    if documents.to_clay.get(SIGNING_SECRETS).is_some() {
        stored.0.insert(LOOPS_SIGNING_SECRET.to_owned(), join_list(SecretList::SigningSecrets));
    }
    let routes = documents.to_clay.get(ROUTES).and_then(Value::as_array);
    if let Some(webhooks) = routes.and_then(|routes| routes.first()?.get("webhooks")?.as_array()) {
        let join_field = |field: &str| {
            let texts = webhooks.iter().map(|webhook| webhook.get(field).and_then(Value::as_str).unwrap_or_default());
            texts.collect::<Vec<_>>().join(",")
        };
        stored.0.insert(CLAY_WEBHOOK_URL.to_owned(), join_field("url"));
        stored.0.insert(CLAY_WEBHOOK_AUTH_TOKEN.to_owned(), join_field("auth_token"));
    }
    if let Some(key) = documents.api_key() {
        stored.0.insert(LOOPS_API_KEY.to_owned(), key.expose_secret().to_owned());
    }
    let tokens = join_list(SecretList::RelayTokens);
    // The generated one alone stays where it is.
    if stored.0.contains_key(RELAY_TOKEN) || tokens != local.data_dir.relay_token()? {
        stored.0.insert(RELAY_TOKEN.to_owned(), tokens);
    }
    Ok(stored)
}
