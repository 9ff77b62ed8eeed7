//! Where the documents are kept: two secrets in Secrets Manager, or one file in a data folder.

use std::time::Duration;

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use relay::config::names::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_TOKEN,
};
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_sqlite::data_dir::secrets_file::{STORED_SETTINGS_FILE, SecretsFile, SecretsFileError};
use serde_json::{Value, json};

use crate::aws::stack::StackOutput;
use crate::error::Error;
use crate::local::relay::LocalRelay;
use crate::setup::clay_webhooks::ROUTES;
use crate::setup::documents::{API_KEY, Documents, RELAY_TOKENS, SIGNING_SECRETS, SecretList, set_field as set};
use crate::target::StackTarget;

/// The parameter of the template, and relay-local's setting, that say where the Loops API is.
const LOOPS_API: &str = "https://app.loops.so/api";
/// The stage of the version of a secret that is in use.
pub const CURRENT: &str = "AWSCURRENT";
/// How often a secret is read again that is still as it was before a write, which a copy may be for a moment.
const CONSISTENCY_RETRIES: usize = 5;
/// And how long after.
const STALE_PAUSE: Duration = Duration::from_millis(200);

/// Why what is kept cannot be used as it is, or not be written.
#[derive(Debug, thiserror::Error)]
pub enum SecretStoreError {
    /// What is stored in a data folder is of no use.
    #[error("{error}; it is kept in {path}: put another in its place with `relayctl setup --force`")]
    StoredSetting {
        /// The file.
        path: String,
        /// What is wrong with it.
        error: relay::config::env::SettingError,
    },
    /// Two have written a secret at the same time.
    #[error(
        "somebody else wrote the secret {name} at the same time, and one of the two changes may be lost: see with `relayctl setup --list` what is there, and make again what is missing"
    )]
    ConcurrentWrite {
        /// The secret.
        name: String,
    },
}

/// Where the documents are kept.
#[derive(Debug, Clone, Copy)]
pub enum SecretStore<'a> {
    /// In the secrets of a stack.
    Stack(&'a StackTarget),
    /// In a data folder.
    Local(&'a LocalRelay),
}

impl SecretStore<'_> {
    /// What the two documents are called.
    ///
    /// # Errors
    /// When the stack does not say it.
    pub fn names(&self) -> Result<[String; 2], Error> {
        match self {
            Self::Stack(target) => Ok([
                target.stack.output(StackOutput::LoopsToClaySecretName)?.to_owned(),
                target.stack.output(StackOutput::ClayToLoopsSecretName)?.to_owned(),
            ]),
            Self::Local(local) => {
                let file = local.folder.path().join(STORED_SETTINGS_FILE).display().to_string();
                Ok([file.clone(), file])
            }
        }
    }

    /// Where the Loops API is.
    #[must_use]
    pub fn loops_api(&self) -> &str {
        match self {
            Self::Stack(target) => target.stack.parameter("LoopsApiUrl").unwrap_or(LOOPS_API),
            Self::Local(local) => &local.settings.shared.loops_api_url,
        }
    }

    /// Which events are relayed.
    #[must_use]
    pub fn events(&self) -> Vec<String> {
        match self {
            Self::Stack(target) => {
                let events = target.stack.parameter("RelayedEvents").unwrap_or("contact.created").split(',');
                events.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
            }
            Self::Local(local) => local.events.clone(),
        }
    }

    /// Makes what a relay would make at its start: a folder's relay token. A stack has its own.
    ///
    /// # Errors
    /// When it can be neither read nor written.
    pub fn generate(&self) -> Result<(), Error> {
        if let Self::Local(local) = self
            && !SecretsFile::read(local.folder.path())?.0.contains_key(RELAY_TOKEN)
        {
            local.folder.relay_token()?;
        }
        Ok(())
    }

    /// Reads the documents.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(&self) -> Result<Documents, Error> {
        match self {
            Self::Stack(target) => {
                let [clay, loops] = self.names()?;
                let (to_clay, to_loops) = (get(target, &clay).await?, get(target, &loops).await?);
                Documents::read([to_clay.expose_secret(), to_loops.expose_secret()], [&clay, &loops])
            }
            Self::Local(local) => load_from_dir(local, &SecretsFile::read(local.folder.path())?),
        }
    }

    /// Writes what has changed, and tells what that is. Each document is written as a whole.
    ///
    /// # Errors
    /// When something cannot be written; it says what was written before that. When somebody else wrote at the same time.
    pub async fn write(&self, before: &Documents, after: &Documents) -> Result<Vec<String>, Error> {
        let [clay, loops] = self.names()?;
        match self {
            Self::Stack(target) => {
                let mut written = Vec::new();
                let both = [(&clay, &before.to_clay, &after.to_clay), (&loops, &before.to_loops, &after.to_loops)];
                for (name, before, after) in both {
                    if before == after {
                        continue;
                    }
                    match (put(target, name, after).await, written.first()) {
                        (Ok(()), _) => written.push(name.clone()),
                        (Err(why), None) => return Err(why),
                        (Err(why), Some(written)) => {
                            let (written, missing) = (String::clone(written), name.clone());
                            return Err(Error::PartialWrite { written, missing, why: Box::new(why) });
                        }
                    }
                }
                for (name, before, after) in both {
                    if before != after {
                        verify_not_overwritten(target, name, before, after).await?;
                    }
                }
                Ok(written)
            }
            Self::Local(_) if before == after => Ok(Vec::new()),
            Self::Local(local) => {
                let known = SecretsFile::read(local.folder.path())?;
                if load_from_dir(local, &known)? != *before {
                    return Err(SecretsFileError::Busy { path: clay }.into());
                }
                save_to_dir(local, known.clone(), after)?.compare_and_write(&known, local.folder.path())?;
                Ok(vec![clay])
            }
        }
    }
}

/// Reads a secret.
///
/// # Errors
/// When it cannot be read.
pub async fn get(target: &StackTarget, name: &str) -> Result<SecretString, Error> {
    text(target, name, CURRENT).await
}

async fn text(target: &StackTarget, name: &str, stage: &str) -> Result<SecretString, Error> {
    Ok(SecretString::from(version(target, name, stage).await?.secret_string.unwrap_or_default()))
}

/// A version of a secret.
///
/// # Errors
/// When it cannot be read.
pub async fn version(target: &StackTarget, name: &str, stage: &str) -> Result<GetSecretValueOutput, Error> {
    let call = target.session.call("secretsmanager:GetSecretValue", name);
    let get = target.session.secrets_manager().get_secret_value().secret_id(name).version_stage(stage);
    get.send().await.map_err(|error| call.to_error(&error))
}

async fn put(target: &StackTarget, name: &str, document: &Value) -> Result<(), Error> {
    let call = target.session.call("secretsmanager:PutSecretValue", name);
    let text = serde_json::to_string_pretty(document)?;
    let answer = target.session.secrets_manager().put_secret_value().secret_id(name).secret_string(text).send().await;
    answer.map(drop).map_err(|error| call.to_error(&error))
}

/// Checks that a write stands in the place of what was read, and that nothing stands in its own: Secrets Manager takes every
/// write, also one that knows nothing of the last.
async fn verify_not_overwritten(target: &StackTarget, name: &str, before: &Value, after: &Value) -> Result<(), Error> {
    let is = |text: &SecretString, document: &Value| {
        serde_json::from_str::<Value>(text.expose_secret()).is_ok_and(|read| read == *document)
    };
    // What cannot be read back is no proof of another's hand, and is written.
    let Ok(mut current) = get(target, name).await else { return Ok(()) };
    for _ in 0..CONSISTENCY_RETRIES {
        if !is(&current, before) {
            break;
        }
        tokio::time::sleep(STALE_PAUSE).await;
        let Ok(again) = get(target, name).await else { return Ok(()) };
        current = again;
    }
    let over_another = async || text(target, name, "AWSPREVIOUS").await.is_ok_and(|previous| !is(&previous, before));
    if is(&current, after) && !over_another().await {
        return Ok(());
    }
    Err(SecretStoreError::ConcurrentWrite { name: name.to_owned() }.into())
}

fn load_from_dir(local: &LocalRelay, SecretsFile(stored): &SecretsFile) -> Result<Documents, Error> {
    let list = |name: &str| stored.get(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let (mut to_clay, mut to_loops) = (json!({}), json!({}));
    if let Some(secrets) = list(LOOPS_SIGNING_SECRET) {
        set(&mut to_clay, SIGNING_SECRETS, json!(secrets));
    }
    if let Some(urls) = list(CLAY_WEBHOOK_URL) {
        let tokens = list(CLAY_WEBHOOK_AUTH_TOKEN).unwrap_or_default();
        let webhooks = urls.iter().enumerate().map(|(place, url)| {
            let token = if tokens.len() == 1 { tokens.first() } else { tokens.get(place) };
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
        None => json!(local.folder.existing_relay_token()?.into_iter().collect::<Vec<_>>()),
    };
    set(&mut to_loops, RELAY_TOKENS, tokens);
    Ok(Documents { to_clay, to_loops })
}

fn save_to_dir(local: &LocalRelay, mut stored: SecretsFile, documents: &Documents) -> Result<SecretsFile, Error> {
    let joined = |list| {
        let secrets = documents.list(list);
        secrets.iter().map(|secret| secret.expose_secret().to_owned()).collect::<Vec<_>>().join(",")
    };
    if documents.to_clay.get(SIGNING_SECRETS).is_some() {
        stored.0.insert(LOOPS_SIGNING_SECRET.to_owned(), joined(SecretList::SigningSecrets));
    }
    let routes = documents.to_clay.get(ROUTES).and_then(Value::as_array);
    if let Some(webhooks) = routes.and_then(|routes| routes.first()?.get("webhooks")?.as_array()) {
        let all = |field: &str| {
            let texts = webhooks.iter().map(|webhook| webhook.get(field).and_then(Value::as_str).unwrap_or_default());
            texts.collect::<Vec<_>>().join(",")
        };
        stored.0.insert(CLAY_WEBHOOK_URL.to_owned(), all("url"));
        stored.0.insert(CLAY_WEBHOOK_AUTH_TOKEN.to_owned(), all("auth_token"));
    }
    if let Some(key) = documents.api_key() {
        stored.0.insert(LOOPS_API_KEY.to_owned(), key.expose_secret().to_owned());
    }
    let tokens = joined(SecretList::RelayTokens);
    // The generated one alone stays where it is.
    if stored.0.contains_key(RELAY_TOKEN) || tokens != local.folder.relay_token()? {
        stored.0.insert(RELAY_TOKEN.to_owned(), tokens);
    }
    Ok(stored)
}
