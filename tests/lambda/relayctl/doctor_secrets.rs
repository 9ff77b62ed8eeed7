//! `relayctl doctor` and the secrets: missing values, unreadable documents, and values that do not match.

use relay_aws::secrets::cached_secret::MIN_REFRESH_INTERVAL;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::OperatorHarness;
use relay_testkit::lambda_fake::stack::expect_str;
use relay_testkit::mock_destination::Reply;
use relay_testkit::{EVENTUALLY_TIMEOUT, eventually_within};
use serde_json::json;

use crate::relayctl::doctor::{assert_doctor_finds, failed_checks, start_harness};
use crate::{clay_to_loops_document, loops_to_clay_document};

#[tokio::test]
async fn doctor_reports_empty_or_malformed_secrets() {
    let harness = OperatorHarness::without_setup().await;
    let output = harness.doctor().await;
    for (check, part) in [
        ("secret-loops-to-clay", "no signing secret"),
        ("secret-clay-to-loops", "no Loops API key"),
        ("loops-key", "no key"),
        ("signed-webhook", "no signing secret"),
        ("forged-webhook", "not_configured"),
    ] {
        let finding = output.worst_finding(check);
        assert_eq!((finding.outcome.as_str(), finding.observed.contains(part)), ("fail", true), "{check}: {finding:?}");
    }
    let fill_in = format!("relayctl --stack {} setup", harness.name());
    assert!(output.worst_finding("secret-loops-to-clay").remedy.contains(&fill_in));
    harness.stack().put_secret("LoopsToClaySecret", &json!({"loops_signing_secrets": ["%hidden%"]})).await;
    harness.stack().put_secret("ClayToLoopsSecret", &json!("hidden")).await;
    let output = harness.doctor().await;
    for (check, part) in [("secret-loops-to-clay", "loops_signing_secrets[0]"), ("secret-clay-to-loops", "line 1")] {
        let finding = output.worst_finding(check);
        assert_eq!((finding.outcome.as_str(), finding.observed.contains(part)), ("fail", true), "{check}: {finding:?}");
    }
    for (check, secret) in [
        ("loops-key", "see secret-clay-to-loops"),
        ("signed-webhook", "see secret-loops-to-clay"),
        ("relay-token", "see secret-clay-to-loops"),
        ("clay-webhook-use", "see secret-loops-to-clay"),
    ] {
        let finding = output.worst_finding(check);
        assert_eq!((finding.outcome.as_str(), finding.remedy.as_str()), ("warn", secret), "{check}: {finding:?}");
    }
    assert!(!output.stdout.contains("hidden"), "{output:?}");
    let setup = harness.relayctl(&["setup", "--list"], "").await;
    assert_eq!((setup.code, setup.stderr.contains("is not a JSON object")), (3, true), "{setup:?}");
}

#[tokio::test]
async fn doctor_reports_deleted_secret_with_its_remedy() {
    let harness = start_harness().await;
    assert_doctor_finds(&harness, &[]).await;
    let secrets = harness.stack().clients().secrets_manager();
    for (secret, check, dependent_checks, send_check) in [
        ("LoopsToClaySecret", "secret-loops-to-clay", ["signed-webhook", "clay-webhook-use"], "send-to-clay"),
        ("ClayToLoopsSecret", "secret-clay-to-loops", ["loops-key", "relay-token"], "send-to-loops"),
    ] {
        let arn = expect_str(&harness.stack().description()["secrets"][secret]["arn"]);
        secrets.delete_secret().secret_id(arn).recovery_window_in_days(7).send().await.unwrap();
        let output = assert_doctor_finds(
            &harness,
            &[(check, "fail"), (dependent_checks[0], "warn"), (dependent_checks[1], "warn")],
        )
        .await;
        let finding = output.worst_finding(check);
        assert!(
            finding.observed.contains("scheduled for deletion") && finding.remedy.contains("restore-secret"),
            "{finding:?}"
        );
        let send_finding =
            harness.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await.worst_finding(send_check);
        assert_eq!((send_finding.outcome.as_str(), send_finding.remedy), ("warn", format!("see {check}")));
        secrets.restore_secret().secret_id(arn).send().await.unwrap();
        assert_doctor_finds(&harness, &[]).await;
    }
}

#[tokio::test]
async fn doctor_reports_event_without_route_before_and_after_send() {
    let harness = OperatorHarness::with_setup(|_, clay| {
        let mut document = loops_to_clay_document(&[clay]);
        document["clay_routes"][0]["events"] = json!(["email.*"]);
        Setup { loops_to_clay: Some(document), clay_to_loops: Some(clay_to_loops_document()), ..Setup::default() }
    })
    .await;
    let output = assert_doctor_finds(&harness, &[("secret-loops-to-clay", "fail")]).await;
    let observed = output.worst_finding("secret-loops-to-clay").observed;
    assert!(observed.contains("no route takes contact.created") && !observed.contains("email"), "{observed}");
    let output = harness.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await;
    let finding = output.worst_finding("send-to-clay");
    assert!(finding.outcome == "fail" && finding.observed.contains("dead letter"), "{finding:?}");
    harness.wait_for_dead_letters(1, 0).await;
}

#[tokio::test]
async fn doctor_reports_rejected_loops_key_and_loops_outage() {
    let harness = start_harness().await;
    assert_doctor_finds(&harness, &[]).await;
    harness.loops.set_team_reply(Reply::json(401, r#"{"success":false,"message":"hidden"}"#));
    assert_doctor_finds(&harness, &[("loops-key", "fail")]).await;
    harness.loops.set_team_reply(Reply::html(503));
    assert_doctor_finds(&harness, &[("loops-key", "warn")]).await;
    harness.loops.set_team_reply(Reply::Reset);
    assert_doctor_finds(&harness, &[("loops-key", "fail")]).await;
}

#[tokio::test]
async fn doctor_warns_of_secrets_not_yet_read_by_functions() {
    let harness = start_harness().await;
    // The functions have read their secrets, and once more because of the forged request.
    assert_doctor_finds(&harness, &[]).await;
    let mut documents = (loops_to_clay_document(&[&harness.clay]), clay_to_loops_document());
    documents.0["loops_signing_secrets"] = json!(["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="]);
    documents.1["relay_tokens"] = json!(["another-token-for-tests"]);
    harness.stack().put_secret("LoopsToClaySecret", &documents.0).await;
    harness.stack().put_secret("ClayToLoopsSecret", &documents.1).await;
    let output = assert_doctor_finds(&harness, &[("signed-webhook", "warn"), ("relay-token", "warn")]).await;
    let finding = output.worst_finding("relay-token");
    assert!(finding.observed.contains("have not read the secret yet"), "{finding:?}");
    let seconds: u64 = finding.remedy.split_whitespace().find_map(|part| part.parse().ok()).unwrap();
    assert!((1..=30).contains(&seconds), "{finding:?}");
}

#[tokio::test]
async fn doctor_after_setup_warns_until_functions_reread_secrets() {
    let harness = OperatorHarness::without_setup().await;
    // The requests before the setup make the functions read their secrets.
    let output = harness.doctor().await;
    assert_eq!(output.worst_finding("forged-webhook").outcome, "fail", "{output:?}");
    harness.stack().put_secret("LoopsToClaySecret", &loops_to_clay_document(&[&harness.clay])).await;
    harness.stack().put_secret("ClayToLoopsSecret", &clay_to_loops_document()).await;
    let output = assert_doctor_finds(
        &harness,
        &[("signed-webhook", "warn"), ("forged-webhook", "warn"), ("relay-token", "warn")],
    )
    .await;
    assert!(output.worst_finding("forged-webhook").remedy.contains("run doctor again in"), "{output:?}");
    let started_at = std::time::Instant::now();
    eventually_within(
        MIN_REFRESH_INTERVAL + EVENTUALLY_TIMEOUT,
        "functions that have read their secrets",
        async || failed_checks(&harness.doctor().await).is_empty().then_some(()),
    )
    .await;
    println!("well {:.1} s after the first look", started_at.elapsed().as_secs_f64());
}
