//! A relay on this machine: its folder, its settings, its store.

use std::os::unix::fs::PermissionsExt as _;

use relay::config::names::{LOOPS_SIGNING_SECRET, RELAY_TOKEN};
use relay::destination::http_client::HttpClient;
use relay_core::secret::{ExposeSecret as _, SecretString, is_set};
use relay_core::webhook::route::ClayRoute;
use relay_sqlite::data_dir::config::Setting;
use relay_sqlite::data_dir::secrets_file::{STORED_SETTINGS_FILE, SecretsFile};
use relay_sqlite::store::{self, DeliveryState};
use rusqlite::Connection;

use crate::doctor::check::Check;
use crate::doctor::endpoint::{EndpointChecks, SecretTimestamps};
use crate::doctor::finding::Finding;
use crate::doctor::live_send::{self, SendStatus};
use crate::doctor::secrets::loops_key;
use crate::doctor::webhook_usage;
use crate::error::Error;
use crate::local::relay::LocalRelay;
use crate::operations::DIRECTIONS;
use crate::setup::report::CopyPaste;
use crate::setup::secret_store::SecretStore;

/// Examines all of it.
///
/// # Errors
/// When the folder or what it keeps cannot be read.
pub async fn examine(
    local: &LocalRelay,
    client: &HttpClient,
    send: Option<&str>,
    step: &dyn Fn(),
) -> Result<Vec<Finding>, Error> {
    let keeping = SecretStore::Local(local);
    let paste = CopyPaste::of(keeping)?;
    let mut findings = vec![rights(local), running(local)?, far_ends(local)];
    step();
    if let Setting::Set(key) = &local.settings.loops_api_key {
        findings.push(loops_key(client, keeping, key.as_ref()).await);
        step();
    }
    // It takes them up within a second.
    let door = EndpointChecks::new(client, &paste, SecretTimestamps::default());
    let (endpoint, answers) = door.endpoint().await;
    findings.push(endpoint);
    step();
    if answers {
        findings.push(door.check_signed_webhook(&signing_secrets(local)?).await);
        findings.push(door.check_forged_webhook().await);
        findings.push(door.check_wrong_token().await);
        findings.push(door.check_relay_token(&relay_tokens(local)?).await);
        if let Some(address) = send {
            findings.extend(sent(local, &door, address).await?);
        }
        step();
    }
    match store::open_existing(local.folder.path()) {
        Ok(Some(connection)) => findings.extend(held(local, &connection)?),
        // The relay makes it before it answers.
        Ok(None) if local.is_running()? && !local.folder.path().join(store::STORE_FILE).exists() => {
            findings.push(Finding::fail(
                Check::Store,
                format!("a relay runs, and its {} is gone: what it takes now is lost when it ends", store::STORE_FILE),
                "stop it, put back a copy of the file if there is one, and start it",
            ));
        }
        Ok(None) => findings.push(Finding::ok(Check::Store, "nothing was stored yet")),
        Err(error) => findings.push(Finding::of(Check::Store, &error.into())),
    }
    step();
    Ok(findings)
}

/// `send-to-clay`, `send-to-loops`: a row each way.
async fn sent(local: &LocalRelay, door: &EndpointChecks<'_>, address: &str) -> Result<[Finding; 2], Error> {
    let delivered = async |_: &str, id: &str| match store::open_existing(local.folder.path())? {
        Some(connection) => match store::webhook_state(&connection, id)? {
            Some(DeliveryState::Delivered) => Ok(SendStatus::Delivered),
            Some(DeliveryState::Dead) => Ok(SendStatus::Dead),
            Some(DeliveryState::Waiting) | None => Ok(SendStatus::Waiting),
        },
        None => Ok(SendStatus::Waiting),
    };
    let events = local.events.join(",");
    Ok([
        live_send::to_clay(door, signing_secrets(local)?.first(), &events, address, delivered).await,
        live_send::to_loops(door, relay_tokens(local)?.first(), address).await,
    ])
}

/// `folder`: nobody else can read it.
fn rights(local: &LocalRelay) -> Finding {
    const CHECK: Check = Check::Folder;
    let path = local.folder.path();
    let open_to_others =
        |path: &std::path::Path| std::fs::metadata(path).is_ok_and(|known| known.permissions().mode() & 0o077 != 0);
    let secrets = path.join(STORED_SETTINGS_FILE);
    if open_to_others(&secrets) {
        let to_do = format!("chmod 600 {}", secrets.display());
        return Finding::fail(CHECK, format!("others can read {}", secrets.display()), to_do);
    }
    if open_to_others(path) {
        return Finding::warn(
            CHECK,
            format!("others can look into {}", path.display()),
            format!("chmod 700 {}", path.display()),
        );
    }
    Finding::ok(CHECK, format!("{} is its owner's alone", path.display()))
}

/// `running`: a relay has the folder.
fn running(local: &LocalRelay) -> Result<Finding, Error> {
    if local.is_running()? {
        return Ok(Finding::ok(Check::Running, "a relay is running on the folder"));
    }
    Ok(Finding::fail(Check::Running, "no relay is running on the folder", "start it with `relay-local` or `make run`"))
}

/// `far-ends`: which ends are real, simulated or closed.
fn far_ends(local: &LocalRelay) -> Finding {
    let settings = &local.settings;
    let loops = match &settings.loops_api_key {
        Setting::Unset => "simulated",
        Setting::Set(Some(_)) => "set",
        Setting::Set(None) => "closed",
    };
    let clay = match &settings.clay_webhooks {
        Setting::Unset => "simulated",
        Setting::Set(webhooks) if webhooks.is_empty() => "closed",
        Setting::Set(_) => "set",
    };
    let seen = format!("Loops is {loops}, Clay is {clay}");
    if loops == "closed" || clay == "closed" {
        return Finding::fail(Check::FarEnds, seen, "what is set but empty is closed: unset it, or fill it in");
    }
    Finding::ok(Check::FarEnds, seen)
}

fn signing_secrets(local: &LocalRelay) -> Result<Vec<SecretString>, Error> {
    let stored = SecretsFile::read(local.folder.path())?;
    secrets(local, LOOPS_SIGNING_SECRET, &stored, || Ok(local.folder.signing_secret()?))
}

fn relay_tokens(local: &LocalRelay) -> Result<Vec<SecretString>, Error> {
    let stored = SecretsFile::read(local.folder.path())?;
    secrets(local, RELAY_TOKEN, &stored, || Ok(local.folder.relay_token()?))
}

/// What a setting holds: the environment's, the stored one, or the generated one.
fn secrets(
    local: &LocalRelay,
    name: &'static str,
    stored: &SecretsFile,
    generated: impl FnOnce() -> Result<String, Error>,
) -> Result<Vec<SecretString>, Error> {
    let set = if local.environment.contains(&name) { std::env::var(name).ok() } else { stored.0.get(name).cloned() };
    let text = SecretString::from(match set {
        Some(text) => text,
        None => generated()?,
    });
    let items = text.expose_secret().split(',').map(str::trim).filter(|item| is_set(item));
    Ok(items.map(SecretString::from).collect())
}

/// `paused`: the directions that a person has paused.
fn paused(connection: &Connection) -> Result<Vec<Finding>, Error> {
    let mut findings = Vec::new();
    for direction in DIRECTIONS {
        if store::paused_since(connection, direction)?.is_some() {
            let direction = direction.as_str();
            let to_do = format!("when that is meant to end, run `relayctl resume {direction}`");
            findings.push(Finding::warn(Check::Paused, format!("deliveries {direction} are paused"), to_do));
        }
    }
    Ok(findings)
}

/// `store`, `waiting`, `dead-letters`, `clay-webhook-use`, `last-delivery`: what the store holds.
fn held(local: &LocalRelay, connection: &Connection) -> Result<Vec<Finding>, Error> {
    let counts = store::counts(connection)?;
    let of = |state| counts.iter().filter(move |count| count.state == state);
    let total = |state| of(state).map(|count| count.deliveries).sum::<u64>();
    let mut findings = vec![Finding::ok(
        Check::Store,
        match counts.iter().map(|count| count.deliveries).sum::<u64>() {
            1 => "1 delivery is known".to_owned(),
            known => format!("{known} deliveries are known"),
        },
    )];
    findings.extend(paused(connection)?);
    findings.push(match of(DeliveryState::Waiting).map(|count| count.oldest).min() {
        Some(oldest) => {
            let age = jiff::Timestamp::now().duration_since(oldest).as_secs();
            let seen = format!("{} waiting, the oldest for {age} s", total(DeliveryState::Waiting));
            if age > 1800 {
                Finding::warn(Check::Waiting, seen, "see `relayctl deliveries --state waiting` for why")
            } else {
                Finding::ok(Check::Waiting, seen)
            }
        }
        None => Finding::ok(Check::Waiting, "nothing waits"),
    });
    findings.push(match total(DeliveryState::Dead) {
        0 => Finding::ok(Check::DeadLetters, "none"),
        number => Finding::warn(
            Check::DeadLetters,
            format!("{number} could not be delivered"),
            "see `relayctl dead-letters list` for why, mend that, and retry them",
        ),
    });
    if let Setting::Set(webhooks) = &local.settings.clay_webhooks {
        let uses: Result<Vec<_>, _> =
            webhooks.iter().map(|webhook| store::webhook_use(connection, &webhook.fingerprint())).collect();
        let events = local.settings.shared.relayed_events.clone();
        let route = ClayRoute { name: "default".to_owned(), events, webhooks: webhooks.clone() };
        findings.extend(webhook_usage::findings_for(&route, &uses?));
    }
    findings.push(match store::last_delivered(connection)? {
        Some(at) => Finding::ok(Check::LastDelivery, format!("at {at}")),
        None => Finding::ok(Check::LastDelivery, "none is on record yet"),
    });
    Ok(findings)
}
