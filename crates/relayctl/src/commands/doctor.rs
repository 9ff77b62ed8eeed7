//! `doctor`: examines everything, from the credentials to the last delivery. It writes nothing to Loops or Clay unless
//! `--send` is given.

use clap::Args;
use relay_core::row::{Row, RowKind, RowOptions};
use serde_json::json;

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

const STACK_STEPS: u64 = 9;
const LOCAL_STEPS: u64 = 5;

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArguments {
    /// Also send one row each way for this address: a signed event to Clay, and a contact to Loops (both stay there)
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) send: Option<String>,
}

/// Accepts the addresses that the relay accepts in a row.
fn parse_address(text: &str) -> Result<String, String> {
    let row = Row::clean(RowKind::Contact, json!({"email": text}).to_string().as_bytes(), RowOptions::default(), None);
    let address = row.ok().and_then(|row| row.email().map(str::to_owned));
    address.ok_or_else(|| "this is no e-mail address; nothing was sent".to_owned())
}

pub(crate) async fn run(options: &Options, arguments: &DoctorArguments, output: Output) -> Result<ExitStatus, Error> {
    let target = options.target().await?;
    let (steps, target_name) = match &target {
        Target::Stack(target) => {
            (STACK_STEPS, format!("The stack {} in {}", target.stack.name, target.session.region()))
        }
        Target::Local(data_dir) => (LOCAL_STEPS, format!("The relay of {}", data_dir.path().display())),
    };
    let bar = progress::bar(output.is_json(), steps, "examining");
    let step = || bar.inc(1);
    let findings = match target {
        Target::Stack(target) => examine_stack(&target, arguments, &step).await,
        Target::Local(data_dir) => {
            let client = relay::destination::http_client::build()?;
            let send = arguments.send.as_deref();
            local::examine(&LocalRelay::open(data_dir)?, &client, send, &step).await?
        }
    };
    bar.finish_and_clear();
    let report = Report::new(target_name, findings);
    output.print_json(&report)?;
    output.print(report.render(output))?;
    Ok(report.exit_status())
}

async fn examine_stack(target: &StackTarget, arguments: &DoctorArguments, step: &dyn Fn()) -> Vec<Finding> {
    let account = Finding::from_result(Check::Account, account::check_account(&target.session).await);
    let mut findings = vec![account, stack::check_stack(target), stack::check_outputs(target)];
    step();
    findings.push(Finding::from_result(Check::Versions, stack::check_versions(target).await));
    step();
    let mut loaded_secrets = LoadedSecrets::default();
    findings.extend(secrets::check_secrets(target, &mut loaded_secrets).await);
    step();
    let api_key = loaded_secrets.api_key.as_ref();
    let loops_key = secrets::check_loops_key(target.session.http(), SecretStore::Stack(target), api_key);
    findings.push(loaded_secrets.run_or_skip(Check::LoopsKey, Check::SecretClayToLoops, loops_key).await);
    step();
    // A missing output is a finding already.
    if let Ok(paste) = CopyPaste::for_store(SecretStore::Stack(target)) {
        findings.extend(examine_endpoint(target, &paste, &loaded_secrets, arguments).await);
    }
    step();
    for checks in queues::QUEUES {
        findings.extend(checks.examine(target).await);
    }
    step();
    match loaded_secrets.skip(Check::ClayWebhookUsage, Check::SecretLoopsToClay) {
        Some(finding) => findings.push(finding),
        None => match ledger::check_webhook_usage(target, &loaded_secrets.to_clay).await {
            Ok(usage) => findings.extend(usage),
            Err(error) => findings.push(Finding::from_error(Check::ClayWebhookUsage, &error)),
        },
    }
    step();
    findings.push(Finding::from_result(Check::LastDelivery, ledger::check_last_delivery(target).await));
    step();
    findings.push(Finding::from_result(Check::FunctionErrors, cloudwatch::check_function_errors(target).await));
    findings.push(Finding::from_result(Check::Alarms, cloudwatch::check_alarms(target).await));
    step();
    findings
}

async fn examine_endpoint(
    target: &StackTarget,
    paste: &CopyPaste,
    loaded_secrets: &LoadedSecrets,
    arguments: &DoctorArguments,
) -> Vec<Finding> {
    let mut endpoint_checks = EndpointChecks::new(target.session.http(), paste, loaded_secrets.timestamps);
    let endpoint = match endpoint_checks.check_endpoint().await {
        Ok(endpoint) => endpoint,
        Err(no_response) => return vec![no_response],
    };
    let tolerance = target.stack.parameter("SignatureToleranceSeconds").and_then(|text| text.parse().ok());
    let clock = endpoint_checks.check_clock(tolerance.unwrap_or(300)).await;
    let signed = endpoint_checks.check_signed_webhook(&loaded_secrets.signing_secrets);
    let relay_token = endpoint_checks.check_relay_token(&loaded_secrets.relay_tokens);
    let mut findings = vec![
        endpoint,
        clock,
        loaded_secrets.run_or_skip(Check::SignedWebhook, Check::SecretLoopsToClay, signed).await,
        endpoint_checks.check_forged_webhook().await,
        endpoint_checks.check_wrong_token().await,
        loaded_secrets.run_or_skip(Check::RelayToken, Check::SecretClayToLoops, relay_token).await,
    ];
    if let Some(address) = &arguments.send {
        let events = paste.events.join(",");
        let delivery_status =
            async |event: &str, id: &str| ledger::event_state(target, &loaded_secrets.to_clay, event, id).await;
        let secret = loaded_secrets.signing_secrets.first();
        let to_clay = live_send::check_send_to_clay(&endpoint_checks, secret, &events, address, delivery_status);
        findings.push(loaded_secrets.run_or_skip(Check::SendToClay, Check::SecretLoopsToClay, to_clay).await);
        let token = loaded_secrets.relay_tokens.first();
        let to_loops = live_send::check_send_to_loops(&endpoint_checks, token, address);
        findings.push(loaded_secrets.run_or_skip(Check::SendToLoops, Check::SecretClayToLoops, to_loops).await);
    }
    findings
}
