//! The checks of a deployed stack.

mod account;
mod cloudwatch;
mod ledger;
mod queues;
mod stack;

use relay_doctor::check::Check;
use relay_doctor::endpoint::EndpointChecks;
use relay_doctor::finding::Finding;
use relay_doctor::live_send;
use relay_doctor::loops_key::check_loops_key;
use relay_doctor::urls::EndpointUrls;

use crate::doctor::report::{finding_from_error, finding_from_result};
use crate::doctor::secrets;
use crate::doctor::secrets::LoadedSecrets;
use crate::target::StackTarget;

/// Number of times that [`examine`] advances the progress bar.
pub(crate) const STEPS: u64 = 9;

pub(crate) async fn examine(target: &StackTarget, test_address: Option<&str>, advance: &dyn Fn()) -> Vec<Finding> {
    let account = finding_from_result(Check::Account, account::check_account(&target.session).await);
    let mut findings = vec![account, stack::check_stack(target), stack::check_outputs(target)];
    advance();
    findings.push(finding_from_result(Check::Versions, stack::check_versions(target).await));
    advance();
    let mut loaded_secrets = LoadedSecrets::default();
    findings.extend(secrets::check_secrets(target, &mut loaded_secrets).await);
    advance();
    let api_key = loaded_secrets.api_key.as_ref();
    let loops_key = check_loops_key(target.session.http(), target.loops_api_url(), api_key);
    findings.push(loaded_secrets.run_or_skip(Check::LoopsKey, Check::SecretClayToLoops, loops_key).await);
    advance();
    // A missing output is a finding already.
    if let Ok(urls) = target.urls() {
        findings.extend(examine_endpoint(target, &urls, &loaded_secrets, test_address).await);
    }
    advance();
    for checks in queues::QUEUES {
        findings.extend(checks.examine(target).await);
    }
    advance();
    match loaded_secrets.skip(Check::ClayWebhookUsage, Check::SecretLoopsToClay) {
        Some(finding) => findings.push(finding),
        None => match ledger::check_webhook_usage(target, &loaded_secrets.to_clay).await {
            Ok(usage) => findings.extend(usage),
            Err(error) => findings.push(finding_from_error(Check::ClayWebhookUsage, &error)),
        },
    }
    advance();
    findings.push(finding_from_result(Check::LastDelivery, ledger::check_last_delivery(target).await));
    advance();
    findings.push(finding_from_result(Check::FunctionErrors, cloudwatch::check_function_errors(target).await));
    findings.push(finding_from_result(Check::Alarms, cloudwatch::check_alarms(target).await));
    advance();
    findings
}

async fn examine_endpoint(
    target: &StackTarget,
    urls: &EndpointUrls,
    loaded_secrets: &LoadedSecrets,
    test_address: Option<&str>,
) -> Vec<Finding> {
    let mut endpoint_checks = EndpointChecks::new(target.session.http(), urls, loaded_secrets.timestamps);
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
    if let Some(address) = test_address {
        let events = urls.events.join(",");
        let delivery_status = async |event: &str, id: &str| {
            let state = ledger::event_state(target, &loaded_secrets.to_clay, event, id).await;
            state.map_err(|error| finding_from_error(Check::SendToClay, &error))
        };
        let secret = loaded_secrets.signing_secrets.first();
        let to_clay = live_send::check_send_to_clay(&endpoint_checks, secret, &events, address, delivery_status);
        findings.push(loaded_secrets.run_or_skip(Check::SendToClay, Check::SecretLoopsToClay, to_clay).await);
        let to_loops = live_send::check_send_to_loops(&endpoint_checks, &loaded_secrets.relay_tokens, address);
        findings.push(loaded_secrets.run_or_skip(Check::SendToLoops, Check::SecretClayToLoops, to_loops).await);
    }
    findings
}
