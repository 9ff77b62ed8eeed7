//! The store of the two documents: two secrets in Secrets Manager, or one file in a data folder.

use std::time::Duration;

use aws_sdk_secretsmanager::operation::get_secret_value::GetSecretValueOutput;
use relay::config::names::{
    CLAY_WEBHOOK_AUTH_TOKEN, CLAY_WEBHOOK_URL, LOOPS_API_KEY, LOOPS_SIGNING_SECRET, RELAY_TOKEN,
};
use relay::config::secret_document::DocumentParser;
use relay::ports::secrets::LoopsToClaySecret;
use relay_core::account::DestinationKind;
use relay_core::delivery::Direction;
use relay_core::secret::{ExposeSecret, SecretString};
use relay_doctor::local_error::LocalError;
use relay_doctor::local_relay::LocalRelay;
use relay_doctor::urls::EndpointUrls;
use relay_sqlite::data_dir::config::Setting;
use relay_sqlite::data_dir::secrets_file::{SECRETS_FILE, SecretsFile, SecretsFileError};
use serde_json::{Value, json};

use crate::aws::stack::StackOutput;
use crate::error::Error;
use crate::setup::clay_webhooks::ROUTES;
use crate::setup::documents::{API_KEY, RELAY_TOKENS, SIGNING_SECRETS, SecretDocuments, SecretList};
use crate::setup::error::SetupError;
use crate::target::StackTarget;

/// Stage of the version of a secret that is in use.
pub(crate) const CURRENT_STAGE: &str = "AWSCURRENT";
/// Number of times that a secret is read again after a write while a replica still has the version before it.
const CONSISTENCY_RETRIES: usize = 5;
const CONSISTENCY_RETRY_DELAY: Duration = Duration::from_millis(200);

#[derive(Debug, Clone, Copy)]
pub(crate) enum SecretStore<'a> {
    Stack(&'a StackTarget),
    Local(&'a LocalRelay),
}

impl SecretStore<'_> {
    /// Returns the names of the two secrets, which are one file in a data folder.
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

    pub(crate) fn loops_api_url(&self) -> &str {
        match self {
            Self::Stack(target) => target.loops_api_url(),
            Self::Local(local) => &local.settings.shared.loops_api_url,
        }
    }

    /// Returns how the relay parses the document of the direction to Clay.
    pub(crate) fn loops_to_clay_parser(&self) -> DocumentParser<LoopsToClaySecret> {
        match self {
            Self::Stack(target) => target.session.clients().loops_to_clay_parser(),
            Self::Local(_) => LoopsToClaySecret::parse,
        }
    }

    /// Returns the events that are relayed.
    pub(crate) fn events(&self) -> Vec<String> {
        match self {
            Self::Stack(target) => target.events(),
            Self::Local(local) => local.events.clone(),
        }
    }

    /// Returns what is pasted into Loops and Clay.
    pub(crate) fn urls(&self) -> Result<EndpointUrls, Error> {
        match self {
            Self::Stack(target) => target.urls(),
            Self::Local(local) => Ok(local.urls()),
        }
    }

    /// Generates the relay token of a data folder, as a relay does when it starts. A stack has one from its template.
    pub(crate) fn ensure_relay_token(&self) -> Result<(), Error> {
        if let Self::Local(local) = self
            && !local.stored_settings()?.0.contains_key(RELAY_TOKEN)
        {
            local.data_dir.relay_token().map_err(LocalError::from)?;
        }
        Ok(())
    }

    /// Whether these documents are of a trial: with a simulated Loops, in which the generated token may do everything.
    pub(crate) fn is_trial(&self, documents: &SecretDocuments) -> Result<bool, Error> {
        let Self::Local(local) = self else { return Ok(false) };
        let is_simulated = local.settings.destination(Direction::ClayToLoops) == DestinationKind::Simulated;
        let has_set_token = matches!(local.settings.relay_tokens, Setting::Set(_));
        let is_generated = !has_set_token && !local.stored_settings()?.0.contains_key(RELAY_TOKEN);
        Ok(is_simulated && is_generated && documents.api_key().is_none())
    }

    pub(crate) async fn load(&self) -> Result<SecretDocuments, Error> {
        match self {
            Self::Stack(target) => {
                let [clay_name, loops_name] = self.secret_names()?;
                let to_clay = secret_text(target, &clay_name, CURRENT_STAGE).await?;
                let to_loops = secret_text(target, &loops_name, CURRENT_STAGE).await?;
                let texts = [to_clay.expose_secret(), to_loops.expose_secret()];
                Ok(SecretDocuments::parse(texts, [&clay_name, &loops_name])?)
            }
            Self::Local(local) => Ok(from_file(local, &local.stored_settings()?)?),
        }
    }

    /// Writes the documents that differ, each as a whole, and returns their names. A concurrent write is an error.
    pub(crate) async fn save(&self, before: &SecretDocuments, after: &SecretDocuments) -> Result<Vec<String>, Error> {
        let [clay_name, loops_name] = self.secret_names()?;
        let target = match self {
            Self::Stack(target) => target,
            Self::Local(local) => {
                let stored = local.stored_settings()?;
                if from_file(local, &stored)? != *before {
                    return Err(LocalError::from(SecretsFileError::Busy(clay_name.into())).into());
                }
                let changed = to_file(local, stored.clone(), after)?;
                changed.compare_and_write(&stored, local.data_dir.path()).map_err(LocalError::from)?;
                return Ok(vec![clay_name]);
            }
        };
        let mut changed =
            vec![(clay_name, &before.to_clay, &after.to_clay), (loops_name, &before.to_loops, &after.to_loops)];
        changed.retain(|(_, before, after)| before != after);
        let mut written = Vec::new();
        for (name, _, after) in &changed {
            if let Err(error) = put_secret(target, name, after).await {
                return Err(match written.pop() {
                    None => error,
                    Some(written) => {
                        SetupError::PartialWrite { written, missing: name.clone(), error: Box::new(error) }.into()
                    }
                });
            }
            written.push(name.clone());
        }
        for (name, before, after) in &changed {
            verify_not_overwritten(target, name, before, after).await?;
        }
        Ok(written)
    }
}

/// Reads the version of a secret that has this stage.
pub(crate) async fn secret_version(
    target: &StackTarget,
    name: &str,
    stage: &str,
) -> Result<GetSecretValueOutput, Error> {
    let call = target.session.call("secretsmanager:GetSecretValue", name);
    let get = target.session.secrets_manager().get_secret_value().secret_id(name).version_stage(stage);
    Ok(get.send().await.map_err(|error| call.to_error(&error))?)
}

async fn secret_text(target: &StackTarget, name: &str, stage: &str) -> Result<SecretString, Error> {
    Ok(SecretString::from(secret_version(target, name, stage).await?.secret_string.unwrap_or_default()))
}

async fn put_secret(target: &StackTarget, name: &str, document: &Value) -> Result<(), Error> {
    let call = target.session.call("secretsmanager:PutSecretValue", name);
    let text = serde_json::to_string_pretty(document)?;
    let response = target.session.secrets_manager().put_secret_value().secret_id(name).secret_string(text).send().await;
    Ok(response.map(drop).map_err(|error| call.to_error(&error))?)
}

/// Checks that a write replaced the version that was read, and was not replaced itself: Secrets Manager accepts every write,
/// also one that does not know of the last.
async fn verify_not_overwritten(target: &StackTarget, name: &str, before: &Value, after: &Value) -> Result<(), Error> {
    let read = async |stage| {
        let text = secret_text(target, name, stage).await.ok()?;
        Some(serde_json::from_str::<Value>(text.expose_secret()).unwrap_or_default())
    };
    let mut retries = CONSISTENCY_RETRIES;
    let current = loop {
        match read(CURRENT_STAGE).await {
            // A secret that cannot be read back is no proof of another write.
            None => return Ok(()),
            Some(current) if current == *before && retries > 0 => retries -= 1,
            Some(current) => break current,
        }
        tokio::time::sleep(CONSISTENCY_RETRY_DELAY).await;
    };
    if current != *after || read("AWSPREVIOUS").await.is_some_and(|previous| previous != *before) {
        return Err(SetupError::ConcurrentWrite { name: name.to_owned() }.into());
    }
    Ok(())
}

/// Converts the comma lists of a data folder's file to the documents of a stack.
fn from_file(local: &LocalRelay, SecretsFile(stored): &SecretsFile) -> Result<SecretDocuments, LocalError> {
    let list = |name: &str| stored.get(name).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
    let signing_secrets = list(LOOPS_SIGNING_SECRET).map(|secrets| (SIGNING_SECRETS, json!(secrets)));
    let routes = list(CLAY_WEBHOOK_URL).map(|urls| {
        let tokens = list(CLAY_WEBHOOK_AUTH_TOKEN).unwrap_or_default();
        let webhooks = urls.iter().enumerate().map(|(index, url)| {
            let token = if tokens.len() == 1 { tokens.first() } else { tokens.get(index) };
            token.map_or_else(|| json!({"url": url}), |token| json!({"url": url, "auth_token": token}))
        });
        let webhooks: Vec<Value> = webhooks.collect();
        (ROUTES, json!([{"name": "default", "events": local.events, "webhooks": webhooks}]))
    });
    let api_key = stored.get(LOOPS_API_KEY).map(|key| (API_KEY, json!(key)));
    let tokens = match stored.get(RELAY_TOKEN) {
        Some(text) if text.starts_with('[') => serde_json::from_str(text).unwrap_or_default(),
        Some(text) => json!(text.split(',').map(str::trim).collect::<Vec<_>>()),
        None => local.data_dir.existing_relay_token()?.into_iter().collect(),
    };
    Ok(SecretDocuments {
        to_clay: signing_secrets.into_iter().chain(routes).collect(),
        to_loops: api_key.into_iter().chain([(RELAY_TOKENS, tokens)]).collect(),
    })
}

/// Converts the documents to the comma lists of a data folder's file.
fn to_file(
    local: &LocalRelay,
    mut stored: SecretsFile,
    documents: &SecretDocuments,
) -> Result<SecretsFile, LocalError> {
    let tokens = documents.relay_token_setting();
    // A generated token has a file of its own, and stays there while it is the only one.
    if stored.0.contains_key(RELAY_TOKEN) || tokens != local.data_dir.relay_token()? {
        stored.0.insert(RELAY_TOKEN.to_owned(), tokens);
    }
    if documents.to_clay.get(SIGNING_SECRETS).is_some() {
        let secrets = documents.list(SecretList::SigningSecrets);
        let secrets: Vec<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        stored.0.insert(LOOPS_SIGNING_SECRET.to_owned(), secrets.join(","));
    }
    let route = documents.to_clay.get(ROUTES).and_then(|routes| routes.get(0));
    if let Some(webhooks) = route.and_then(|route| route.get("webhooks")?.as_array()) {
        for (name, field) in [(CLAY_WEBHOOK_URL, "url"), (CLAY_WEBHOOK_AUTH_TOKEN, "auth_token")] {
            let texts = webhooks.iter().map(|webhook| webhook.get(field).and_then(Value::as_str).unwrap_or_default());
            stored.0.insert(name.to_owned(), texts.collect::<Vec<_>>().join(","));
        }
    }
    if let Some(key) = documents.api_key() {
        stored.0.insert(LOOPS_API_KEY.to_owned(), key.expose_secret().to_owned());
    }
    Ok(stored)
}
