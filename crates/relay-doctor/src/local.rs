//! Checks of a relay on this machine: its folder, its settings, its store.

use std::os::unix::fs::PermissionsExt as _;

use relay::config::names::LOOPS_SIGNING_SECRET;
use relay::destination::http_client::HttpClient;
use relay_core::account::{DestinationKind, ServedAccounts};
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;
use relay_core::secret::{ExposeSecret as _, SecretString, is_set};
use relay_core::token::RelayToken;
use relay_core::webhook::route::ClayRoute;
use relay_sqlite::STORE_FILE;
use relay_sqlite::admin::{self, SqliteAdmin};
use relay_sqlite::data_dir::config::{ROUTE_NAME, Setting};
use relay_sqlite::data_dir::secrets_file::SECRETS_FILE;

use crate::check::Check;
use crate::endpoint::{EndpointChecks, SecretTimestamps};
use crate::finding::Finding;
use crate::invocation::suggest;
use crate::live_send;
use crate::local_error::LocalError;
use crate::local_relay::LocalRelay;
use crate::loops_key::check_loops_key;
use crate::webhook_usage;

/// Greatest number of times that [`examine_local`] advances the progress.
pub const STEPS: u64 = 5;
/// Age of the oldest waiting delivery from which on the operator should look, in seconds.
const MAX_WAIT_SECS: i64 = 1800;

/// Examines a relay on this machine: from outside, or in its own process. Nothing reaches Loops or Clay but a check of the key,
/// unless there is an address to send a row each way for.
///
/// # Errors
/// [`LocalError`] if the folder cannot be read.
pub async fn examine_local(
    local: &LocalRelay,
    client: &HttpClient,
    test_address: Option<&str>,
    advance: &dyn Fn(),
) -> Result<Vec<Finding>, LocalError> {
    let urls = local.urls();
    let mut findings = vec![check_permissions(local), check_running(local), check_destinations(local)];
    advance();
    if let Setting::Set(key) = &local.settings.loops_api_key {
        findings.push(check_loops_key(client, &local.settings.shared.loops_api_url, key.as_ref()).await);
        advance();
    }
    // A relay-local reads changed secrets within a second, so their age does not matter.
    let endpoint_checks = EndpointChecks::new(client, &urls, SecretTimestamps::default());
    let endpoint = endpoint_checks.check_endpoint().await;
    let responds = endpoint.is_ok();
    findings.push(endpoint.unwrap_or_else(|no_response| no_response));
    advance();
    if responds {
        findings.push(endpoint_checks.check_signed_webhook(&signing_secrets(local)?).await);
        findings.push(endpoint_checks.check_forged_webhook().await);
        findings.push(endpoint_checks.check_wrong_token().await);
        findings.push(endpoint_checks.check_relay_token(&relay_tokens(local)?).await);
        if let Some(address) = test_address {
            findings.extend(check_live_send(local, &endpoint_checks, address).await?);
        }
        advance();
    }
    match SqliteAdmin::open(local.data_dir.path()) {
        Ok(admin) => findings.extend(check_store(local, &admin)?),
        // A relay creates the file before it answers.
        Err(admin::Error::NoStore(dir)) if local.is_running() && !dir.join(STORE_FILE).exists() => {
            findings.push(Check::Store.fail(
                format!(
                    "a relay runs, and its {STORE_FILE} is gone: it takes nothing, and what waits is lost when it ends"
                ),
                "wait until nothing waits, stop it, put back a copy of the file if there is one, and start it",
            ));
        }
        Err(admin::Error::NoStore(_)) => findings.push(Check::Store.ok("nothing was stored yet")),
        Err(error) => findings.push(LocalError::from(error).to_finding(Check::Store)),
    }
    advance();
    Ok(findings)
}

/// `send-to-clay`, `send-to-loops`: one row each way.
async fn check_live_send(
    local: &LocalRelay,
    endpoint_checks: &EndpointChecks<'_>,
    address: &str,
) -> Result<[Finding; 2], LocalError> {
    let delivery_status = async |_: &str, webhook_id: &str| {
        let state = match SqliteAdmin::open(local.data_dir.path()) {
            Err(admin::Error::NoStore(_)) => Ok(None),
            opened => opened.and_then(|admin| admin.webhook_state(webhook_id)),
        };
        let state = state.map_err(|error| LocalError::from(error).to_finding(Check::SendToClay));
        Ok(state?.unwrap_or(DeliveryState::Waiting))
    };
    let (events, secrets, tokens) = (local.events.join(","), signing_secrets(local)?, relay_tokens(local)?);
    Ok([
        live_send::check_send_to_clay(endpoint_checks, secrets.first(), &events, address, delivery_status).await,
        live_send::check_send_to_loops(endpoint_checks, &tokens, address).await,
    ])
}

/// `folder`: no other user of this machine can read it.
fn check_permissions(local: &LocalRelay) -> Finding {
    const CHECK: Check = Check::FolderPermissions;
    let path = local.data_dir.path();
    let has_any = |path: &std::path::Path, bits: u32| {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & bits != 0)
    };
    let is_accessible_to_others = |path: &std::path::Path| has_any(path, 0o077);
    if has_any(path, 0o022) {
        let observed = format!("others can write to {}, so relay-local does not start on it", path.display());
        return CHECK.fail(observed, format!("look through it, and close it: chmod go-w {}", path.display()));
    }
    let secrets_file = path.join(SECRETS_FILE);
    if is_accessible_to_others(&secrets_file) {
        let remedy = format!("chmod 600 {}", secrets_file.display());
        return CHECK.fail(format!("others can read {}", secrets_file.display()), remedy);
    }
    if is_accessible_to_others(path) {
        return CHECK.warn(format!("others can look into {}", path.display()), format!("chmod 700 {}", path.display()));
    }
    CHECK.ok(format!("{} is its owner's alone", path.display()))
}

/// `running`: a relay runs on the folder.
fn check_running(local: &LocalRelay) -> Finding {
    if local.is_running() {
        return Check::Running.ok("a relay is running on the folder");
    }
    Check::Running.fail("no relay is running on the folder", "start it with `relay-local` or `make run`")
}

/// Returns what a destination is to the relay of the folder, which closes one that is set in part.
pub fn destination_kind(local: &LocalRelay, direction: Direction) -> DestinationKind {
    let mut settings = local.settings.clone();
    let accounts = SqliteAdmin::open(local.data_dir.path()).and_then(|admin| admin.accounts()).unwrap_or_default();
    // A relay that was started with --simulate has recorded that.
    if !accounts.current(direction).is_simulated() {
        settings.close_half_configured();
    }
    settings.destination(direction)
}

/// `far-ends`: which destinations are real, simulated or closed.
fn check_destinations(local: &LocalRelay) -> Finding {
    let half_configured = local.settings.clone().close_half_configured();
    let accounts = SqliteAdmin::open(local.data_dir.path()).and_then(|admin| admin.accounts()).unwrap_or_default();
    let is_half_configured = |direction| {
        // A relay that was started with --simulate has recorded that.
        half_configured.iter().any(|half| half.direction == direction) && !accounts.current(direction).is_simulated()
    };
    let describe = |direction| match destination_kind(local, direction) {
        DestinationKind::Simulated => "simulated",
        DestinationKind::Closed => "closed",
        DestinationKind::Real => "set",
    };
    let (loops, clay) = (describe(Direction::ClayToLoops), describe(Direction::LoopsToClay));
    let observed = format!("Loops is {loops}, Clay is {clay}");
    if let Some(half) = half_configured.iter().find(|half| is_half_configured(half.direction)) {
        let remedy = format!("{} is set, so set {} too, or start the relay with --simulate", half.set, half.missing);
        return Check::Destinations.fail(observed, remedy);
    }
    if loops == "closed" || clay == "closed" {
        return Check::Destinations.fail(observed, "what is set but empty is closed: unset it, or fill it in");
    }
    Check::Destinations.ok(observed)
}

/// Returns which account of each destination the store serves.
fn describe_accounts(accounts: &ServedAccounts) -> String {
    let describe = |direction| match accounts.current(direction).label() {
        None => "the first account".to_owned(),
        Some(_) if accounts.current(direction).is_simulated() => "the simulator".to_owned(),
        Some(account) => format!("account {account}"),
    };
    let (loops, clay) = (describe(Direction::ClayToLoops), describe(Direction::LoopsToClay));
    format!("it serves {loops} of Loops and {clay} of Clay")
}

/// Returns the signing secrets as they are written: in the environment, stored, or generated.
fn signing_secrets(local: &LocalRelay) -> Result<Vec<SecretString>, LocalError> {
    let stored = local.stored_settings()?;
    let value = if local.env_overrides.contains(&LOOPS_SIGNING_SECRET) {
        std::env::var(LOOPS_SIGNING_SECRET).ok()
    } else {
        stored.0.get(LOOPS_SIGNING_SECRET).cloned()
    };
    let text = SecretString::from(value.map_or_else(|| local.data_dir.signing_secret(), Ok)?);
    let items = text.expose_secret().split(',').map(str::trim).filter(|item| is_set(item));
    Ok(items.map(SecretString::from).collect())
}

/// Returns the relay tokens. A generated one has the default scopes at least.
fn relay_tokens(local: &LocalRelay) -> Result<Vec<RelayToken>, LocalError> {
    match &local.settings.relay_tokens {
        Setting::Set(tokens) => Ok(tokens.iter().cloned().collect()),
        Setting::Unset => Ok(RelayToken::from_text(&local.data_dir.relay_token()?).into_iter().collect()),
    }
}

/// `paused`: the directions that an operator has paused.
fn check_paused(admin: &SqliteAdmin) -> Result<Vec<Finding>, LocalError> {
    let mut findings = Vec::new();
    for direction in Direction::ALL {
        if admin.paused_since(direction)?.is_some() {
            let direction = direction.as_str();
            let remedy = format!("when that is meant to end, run {}", suggest(format_args!("resume {direction}")));
            findings.push(Check::Paused.warn(format!("deliveries {direction} are paused"), remedy));
        }
    }
    Ok(findings)
}

/// `store`, `paused`, `waiting`, `dead-letters`, `clay-webhook-use`, `last-delivery`: the contents of the store.
fn check_store(local: &LocalRelay, admin: &SqliteAdmin) -> Result<Vec<Finding>, LocalError> {
    let summary = admin.summary()?;
    let known = match summary.deliveries {
        1 => "1 delivery is known".to_owned(),
        total => format!("{total} deliveries are known"),
    };
    let mut findings = vec![Check::Store.ok(format!("{known}; {}", describe_accounts(&admin.accounts()?)))];
    findings.extend(check_paused(admin)?);
    findings.push(match summary.oldest_waiting_at {
        Some(oldest) => {
            let age = jiff::Timestamp::now().duration_since(oldest).as_secs();
            let observed = format!("{} waiting, the oldest for {age} s", summary.waiting);
            if age > MAX_WAIT_SECS {
                Check::Waiting.warn(observed, format!("see {} for why", suggest("deliveries --state waiting")))
            } else {
                Check::Waiting.ok(observed)
            }
        }
        None => Check::Waiting.ok("nothing waits"),
    });
    findings.push(match summary.dead_letters {
        0 => Check::DeadLetters.ok("none"),
        count => Check::DeadLetters.warn(
            match summary.other_destination {
                0 => format!("{count} could not be delivered"),
                other => {
                    format!("{count} could not be delivered, {other} of them because they are for another account")
                }
            },
            format!("see {} for why, mend that, and retry them", suggest("dead-letters list")),
        ),
    });
    if let Setting::Set(webhooks) = &local.settings.clay_webhooks {
        let usages: Result<Vec<_>, _> =
            webhooks.iter().map(|webhook| admin.webhook_usage(&webhook.fingerprint())).collect();
        let events = local.settings.shared.relayed_events.clone();
        let route = ClayRoute { name: ROUTE_NAME.to_owned(), events, webhooks: webhooks.clone() };
        findings.extend(webhook_usage::findings_for(&route, &usages?));
    }
    let last_delivered = summary.last_delivered_at.map(|at| format!("at {at}"));
    findings.push(Check::LastDelivery.ok(last_delivered.unwrap_or_else(|| "none is on record yet".to_owned())));
    Ok(findings)
}
