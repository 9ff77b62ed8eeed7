//! `doctor`: examines everything, from the credentials to the last delivery. It writes nothing at Loops or Clay,
//! unless `--send` asks for it.

use clap::Args;
use relay_core::row::{Row, RowKind, RowOptions};
use serde_json::json;

use crate::doctor::aws::queues::QUEUES;
use crate::doctor::aws::{account, cloudwatch, ledger, queues, stack};
use crate::doctor::check::Check;
use crate::doctor::endpoint::EndpointChecks;
use crate::doctor::finding::{Finding, Report};
use crate::doctor::secrets::LoadedSecrets;
use crate::doctor::{live_send, local, secrets};
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::local::relay::LocalRelay;
use crate::output::Output;
use crate::progress;
use crate::setup::report::CopyPaste;
use crate::setup::secret_store::SecretStore;
use crate::target::{Options, StackTarget, Target};

/// How many steps the examination of a stack has, for the bar.
const STACK_STEPS: u64 = 9;
/// How many that of a folder has.
const LOCAL_STEPS: u64 = 5;

/// What `doctor` is told.
#[derive(Debug, Clone, Args)]
pub struct DoctorArguments {
    /// Also send one row each way for this address: a signed event to Clay, and a contact to Loops (both stay there)
    #[arg(long, value_name = "ADDRESS", value_parser = address)]
    pub send: Option<String>,
}

/// An address, as it is typed: one that the relay takes in a row.
fn address(text: &str) -> Result<String, String> {
    let row = Row::clean(RowKind::Contact, json!({"email": text}).to_string().as_bytes(), RowOptions::default());
    let address = row.ok().and_then(|row| row.email().map(str::to_owned));
    address.ok_or_else(|| "this is no e-mail address; nothing was sent".to_owned())
}

/// Examines the relay.
///
/// # Errors
/// When nothing says which relay, or nothing can be asked about it.
pub async fn run(options: &Options, arguments: &DoctorArguments, output: Output) -> Result<ExitStatus, Error> {
    let target = options.target().await?;
    let (steps, relay) = match &target {
        Target::Stack(target) => {
            (STACK_STEPS, format!("The stack {} in {}", target.stack.name, target.session.region()))
        }
        Target::Local(folder) => (LOCAL_STEPS, format!("The relay of {}", folder.path().display())),
    };
    let bar = progress::bar(output.is_json(), steps, "examining");
    let step = || bar.inc(1);
    let findings = match target {
        Target::Stack(target) => examine(&target, arguments, &step).await,
        Target::Local(folder) => {
            let client = relay::destination::http_client::build()?;
            let send = arguments.send.as_deref();
            local::examine(&LocalRelay::read(folder)?, &client, send, &step).await?
        }
    };
    bar.finish_and_clear();
    let examination = Report::new(relay, findings).addressed(options);
    output.print_json(&examination)?;
    output.print(examination.text(output))?;
    Ok(examination.ending())
}

async fn examine(target: &StackTarget, arguments: &DoctorArguments, step: &dyn Fn()) -> Vec<Finding> {
    let mut findings = vec![account::account(&target.session).await, stack::stack(target), stack::outputs(target)];
    step();
    findings.push(stack::versions(target).await);
    step();
    let mut keys = LoadedSecrets::default();
    findings.extend(secrets::secrets(target, &mut keys).await);
    step();
    findings.push(match keys.skip(Check::LoopsKey, Check::SecretClayToLoops) {
        Some(finding) => finding,
        None => secrets::loops_key(target.session.http(), SecretStore::Stack(target), keys.api_key.as_ref()).await,
    });
    step();
    // Where an output is missing, that is said already.
    if let Ok(paste) = CopyPaste::of(SecretStore::Stack(target)) {
        findings.extend(door(target, &paste, &keys, arguments).await);
    }
    step();
    for way in QUEUES {
        findings.push(queues::queue(target, way).await);
        findings.push(queues::worker(target, way).await);
        findings.push(queues::dead_letters(target, way).await);
    }
    step();
    match keys.skip(Check::ClayWebhookUse, Check::SecretLoopsToClay) {
        Some(finding) => findings.push(finding),
        None => findings.extend(ledger::webhook_uses(target, &keys.to_clay).await),
    }
    step();
    findings.push(ledger::last_delivery(target).await);
    step();
    findings.push(cloudwatch::errors(target).await);
    findings.push(cloudwatch::alarms(target).await);
    step();
    findings
}

async fn door(
    target: &StackTarget,
    paste: &CopyPaste,
    keys: &LoadedSecrets,
    arguments: &DoctorArguments,
) -> Vec<Finding> {
    let mut door = EndpointChecks::new(target.session.http(), paste, keys.written);
    let (endpoint, answers) = door.endpoint().await;
    if !answers {
        return vec![endpoint];
    }
    let tolerance = target.stack.parameter("SignatureToleranceSeconds").and_then(|text| text.parse().ok());
    let clock = door.clock(tolerance.unwrap_or(300)).await;
    let no_secret = |check| keys.skip(check, Check::SecretLoopsToClay);
    let no_token = |check| keys.skip(check, Check::SecretClayToLoops);
    let signed = match no_secret(Check::SignedWebhook) {
        Some(finding) => finding,
        None => door.check_signed_webhook(&keys.signing_secrets).await,
    };
    let (forged, wrong_token) = (door.check_forged_webhook().await, door.check_wrong_token().await);
    let right_token = match no_token(Check::RelayToken) {
        Some(finding) => finding,
        None => door.check_relay_token(&keys.relay_tokens).await,
    };
    let mut findings = vec![endpoint, clock, signed, forged, wrong_token, right_token];
    if let Some(address) = &arguments.send {
        let events = paste.events.join(",");
        let delivered = async |event: &str, id: &str| ledger::delivered(target, &keys.to_clay, event, id).await;
        findings.push(match no_secret(Check::SendToClay) {
            Some(finding) => finding,
            None => live_send::to_clay(&door, keys.signing_secrets.first(), &events, address, delivered).await,
        });
        findings.push(match no_token(Check::SendToLoops) {
            Some(finding) => finding,
            None => live_send::to_loops(&door, keys.relay_tokens.first(), address).await,
        });
    }
    findings
}
