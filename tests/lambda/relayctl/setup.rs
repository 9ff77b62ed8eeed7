//! `relayctl setup` on a stack: first values, checks before writing, merging, rotation without a gap, and no secret in
//! the output.

use relay_testkit::lambda_fake::operator::OperatorHarness;
use relay_testkit::mock_destination::Reply;
use relay_testkit::relayctl::{CliOutput, run_relayctl};
use relay_testkit::webhook::SIGNING_SECRET;
use serde_json::json;

/// Input of an operator.
fn setup_input(harness: &OperatorHarness) -> String {
    let url = harness.clay.url("/v3/sources/webhook/hidden");
    format!(
        "LOOPS_API_KEY=hidden-key\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}\nCLAY_WEBHOOK_URL={url}\nCLAY_WEBHOOK_AUTH_TOKEN=hidden-token\n"
    )
}

/// Checks that no secret, and no generated token, is in the output.
fn assert_no_secrets_in(output: &CliOutput, secrets: &[&str]) {
    for secret in secrets.iter().chain(&["hidden", SIGNING_SECRET]) {
        assert!(!output.stdout.contains(secret) && !output.stderr.contains(secret), "{secret} in {output:?}");
    }
}

#[tokio::test]
async fn setup_fills_in_both_secrets_and_doctor_passes() {
    let harness = OperatorHarness::without_setup().await;
    let token = harness.document("ClayToLoopsSecret").await["relay_tokens"].as_str().unwrap().to_owned();
    let output = harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    assert_eq!(output.code, 0, "{output:?}");
    assert_no_secrets_in(&output, &[&token]);
    for part in
        ["the team \"Acme\"", "/webhooks/loops", "PUT   http://", "setup --list --show-token", "contact.created"]
    {
        assert!(output.stdout.contains(part), "{part} in {}", output.stdout);
    }
    let to_clay = harness.document("LoopsToClaySecret").await;
    assert_eq!(to_clay["loops_signing_secrets"], json!([SIGNING_SECRET]));
    assert_eq!(to_clay["clay_routes"][0]["name"], "contacts");
    assert_eq!(to_clay["clay_routes"][0]["webhooks"][0]["auth_token"], "hidden-token");
    let to_loops = harness.document("ClayToLoopsSecret").await;
    assert_eq!(to_loops, json!({"loops_api_key": "hidden-key", "relay_tokens": token}));
    let output = harness.relayctl(&["doctor"], "").await;
    assert_eq!(output.code, 0, "{output:?}");
    assert!(output.stdout.contains(" ok, 0 to look at, 0 broken"), "{}", output.stdout);
    assert_no_secrets_in(&output, &[&token]);
    // It has asked for the key twice, and written nothing: neither there nor at Clay.
    assert!(harness.loops.received().iter().all(|request| request.method == "GET"), "{:?}", harness.loops.received());
    assert!(harness.clay.received().is_empty());
}

#[tokio::test]
async fn repeated_setup_keeps_values_not_in_its_input() {
    let harness = OperatorHarness::without_setup().await;
    harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    let before = [harness.document("LoopsToClaySecret").await, harness.document("ClayToLoopsSecret").await];
    let output = harness.relayctl(&["setup", "--from", "-", "--json"], "LOOPS_API_KEY=hidden-other\n").await;
    assert_eq!(output.json()["written"], json!([format!("{}/clay-to-loops", harness.name())]));
    assert_eq!(harness.document("LoopsToClaySecret").await, before[0]);
    let output = harness.relayctl(&["setup", "--from", "-", "--json"], "LOOPS_API_KEY=hidden-other\n").await;
    assert_eq!(output.json()["written"], json!([]));
    let after = harness.document("ClayToLoopsSecret").await;
    assert_eq!((&after["relay_tokens"], &after["loops_api_key"]), (&before[1]["relay_tokens"], &json!("hidden-other")));
}

#[tokio::test]
async fn invalid_setup_input_is_rejected_and_writes_nothing() {
    let harness = OperatorHarness::without_setup().await;
    let before = [harness.document("LoopsToClaySecret").await, harness.document("ClayToLoopsSecret").await];
    let secret = "LOOPS_API_KEY=hidden-key\nLOOPS_SIGNING_SECRET=";
    for (input, code, part) in [
        ("hidden", 2, "line 1"),
        ("RELAY_TOKEN=hidden", 2, "RELAY_TOKEN"),
        ("LOOPS_SIGNING_SECRET=%hidden%", 2, "LOOPS_SIGNING_SECRET"),
        ("CLAY_WEBHOOK_URL=http://hidden.example/x", 2, "CLAY_WEBHOOK_URL"),
        ("LOOPS_API_KEY=hidden\u{e9}", 2, "LOOPS_API_KEY"),
        ("CLAY_WEBHOOK_URL=https://a.example/hidden\nCLAY_WEBHOOK_AUTH_TOKEN=hidden,hidden", 2, "2 Clay tokens"),
        (&format!("{secret}hidden-%"), 2, "LOOPS_SIGNING_SECRET"),
    ] {
        let output = harness.relayctl(&["setup", "--from", "-"], input).await;
        assert_eq!(output.code, code, "{output:?}");
        assert!(
            output.stderr.contains(part) && output.stderr.lines().count() == 1 && output.stderr.len() <= 320,
            "{output:?}"
        );
        assert_no_secrets_in(&output, &[]);
    }
    harness.loops.set_team_reply(Reply::json(401, r#"{"success":false,"message":"Invalid API key"}"#));
    let output = harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    assert_eq!(output.code, 2);
    assert!(output.stderr.contains("Loops refuses this API key, so nothing was written"), "{output:?}");
    harness.loops.set_team_reply(Reply::status(503));
    let output = harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    assert_eq!(output.code, 3);
    assert!(output.stderr.contains("503") && output.stderr.contains("nothing was written"), "{output:?}");
    let output = harness.relayctl(&["setup", "--from", "/no/such/file"], "").await;
    assert_eq!((output.code, output.stderr.contains("/no/such/file")), (2, true), "{output:?}");
    assert_eq!(harness.document("LoopsToClaySecret").await, before[0]);
    assert_eq!(harness.document("ClayToLoopsSecret").await, before[1]);
    assert!(!harness.permission_proxy.calls().contains(&"PutSecretValue".to_owned()));
}

#[tokio::test]
async fn failed_second_write_is_reported_and_completed_by_rerun() {
    let harness = OperatorHarness::without_setup().await;
    harness.permission_proxy.deny("PutSecretValue", "AccessDeniedException");
    let output = harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    assert_eq!(output.code, 3);
    assert!(output.stderr.contains("may not do secretsmanager:PutSecretValue"), "{output:?}");
    assert_no_secrets_in(&output, &[]);
    harness.permission_proxy.allow_all();
    // The first write succeeds, the second is denied.
    harness.permission_proxy.deny_after("PutSecretValue", "AccessDeniedException", 1);
    let output = harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    let name = harness.name();
    assert_eq!(output.code, 3);
    let part = format!("{name}/loops-to-clay is written, {name}/clay-to-loops is not");
    assert!(output.stderr.contains(&part) && output.stderr.len() <= 320, "{output:?}");
    harness.permission_proxy.allow_all();
    let output = harness.relayctl(&["setup", "--from", "-", "--json"], &setup_input(&harness)).await;
    assert_eq!(output.json()["written"], json!([format!("{name}/clay-to-loops")]));
}

#[tokio::test]
async fn tokens_and_secrets_rotate_without_downtime() {
    let harness = OperatorHarness::without_setup().await;
    harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    let first = harness.document("ClayToLoopsSecret").await["relay_tokens"].as_str().unwrap().to_owned();
    let output = harness.relayctl(&["setup", "--add-relay-token", "--json"], "").await;
    let tokens = harness.document("ClayToLoopsSecret").await["relay_tokens"].clone();
    assert_eq!((tokens.as_array().unwrap().len(), tokens[0].as_str()), (2, Some(first.as_str())));
    assert_no_secrets_in(&output, &[&first, tokens[1].as_str().unwrap()]);
    let doctor = harness.doctor().await;
    assert_eq!(doctor.worst_finding("relay-token").observed, "rows get in with each of 2 relay tokens", "{doctor:?}");
    // Printed on request.
    let listed = harness.relayctl(&["setup", "--list", "--show-token", "--json"], "").await.json();
    assert_eq!(listed["relayTokens"][1]["token"], tokens[1]);
    let fingerprint = listed["relayTokens"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(harness.relayctl(&["setup", "--retire-relay-token", &fingerprint], "").await.code, 0);
    assert_eq!(harness.document("ClayToLoopsSecret").await["relay_tokens"], json!([tokens[1]]));
    let last_retired = harness.relayctl(&["setup", "--retire-relay-token", "1"], "").await;
    assert_eq!((last_retired.code, last_retired.stderr.contains("--force")), (1, true), "{last_retired:?}");
    let input = "LOOPS_SIGNING_SECRET=whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==\n";
    assert_eq!(harness.relayctl(&["setup", "--add-signing-secret", "--from", "-"], input).await.code, 0);
    assert_eq!(harness.document("LoopsToClaySecret").await["loops_signing_secrets"].as_array().unwrap().len(), 2);
    assert_eq!(harness.relayctl(&["setup", "--retire-signing-secret", "1"], "").await.code, 0);
    let unknown_number = harness.relayctl(&["setup", "--retire-signing-secret", "7"], "").await;
    assert_eq!(
        (unknown_number.code, unknown_number.stderr.contains("no signing secret number 7")),
        (2, true),
        "{unknown_number:?}"
    );
}

#[tokio::test]
async fn setup_reports_a_concurrent_secret_write() {
    let harness = OperatorHarness::without_setup().await;
    for after in [true, false] {
        harness
            .permission_proxy
            .write_concurrently(&format!(r#"{{"relay_tokens": ["other-token-of-the-tests-{after}"]}}"#), after);
        let output = harness.relayctl(&["setup", "--add-relay-token"], "").await;
        assert_eq!(output.code, 3, "{output:?}");
        assert!(output.stderr.contains("somebody else wrote the secret") && output.stderr.len() <= 320, "{output:?}");
        assert!(output.stderr.lines().count() == 1 && output.stdout.is_empty(), "{output:?}");
    }
    assert_eq!(harness.relayctl(&["setup", "--add-relay-token"], "").await.code, 0);
}

#[tokio::test]
async fn pool_shrinks_only_with_retire_or_force() {
    let harness = OperatorHarness::without_setup().await;
    harness.relayctl(&["setup", "--from", "-"], &setup_input(&harness)).await;
    let pool = async || harness.document("LoopsToClaySecret").await["clay_routes"][0]["webhooks"].clone();
    let first = pool().await[0].clone();
    let second = json!({"url": "https://api.clay.com/hidden-second", "auth_token": "hidden-second-token"});
    let input = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-second\nCLAY_WEBHOOK_AUTH_TOKEN=hidden-second-token\n";
    let rejected = harness.relayctl(&["setup", "--from", "-"], input).await;
    assert_eq!((rejected.code, rejected.stderr.contains("1 of the 1 Clay webhooks")), (2, true), "{rejected:?}");
    assert_eq!(pool().await, json!([first]));
    let output = harness.relayctl(&["setup", "--add-clay-webhook", "--from", "-"], input).await;
    assert!(output.code == 0 && output.stdout.contains("2. https://api.clay.com ("), "{output:?}");
    assert_no_secrets_in(&output, &[]);
    assert_eq!(pool().await, json!([first, second]));
    let repeated = harness.relayctl(&["setup", "--add-clay-webhook", "--from", "-"], input).await;
    assert_eq!((repeated.code, repeated.stderr.contains("already, as number 2")), (2, true), "{repeated:?}");
    let listed = harness.relayctl(&["setup", "--list", "--json"], "").await.json();
    let key = listed["clayRoutes"][0]["webhooks"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(harness.relayctl(&["setup", "--retire-clay-webhook", &key], "").await.code, 0);
    assert_eq!(pool().await, json!([second]));
    let last_retired = harness.relayctl(&["setup", "--retire-clay-webhook", "1"], "").await;
    assert_eq!((last_retired.code, last_retired.stderr.contains("--force")), (1, true), "{last_retired:?}");
}

#[tokio::test]
async fn missing_stack_credentials_or_region_gets_a_remedy() {
    let harness = OperatorHarness::without_setup().await;
    let cases: [(&[&str], &[&str], i32, &str); 4] = [
        (&["--stack", "no-such-stack"], &[], 3, "there is no stack no-such-stack in us-east-1"),
        (&[], &[], 2, "no stack is named"),
        (&["--stack", "x"], &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], 3, "no AWS credentials"),
        (&["--stack", "x"], &["AWS_REGION"], 3, "no AWS region"),
    ];
    for (arguments, removed_variables, code, part) in cases {
        let variables: Vec<_> =
            harness.variables().into_iter().filter(|(name, _)| !removed_variables.contains(name)).collect();
        for command in ["setup", "doctor"] {
            let output = run_relayctl(&variables, &[arguments, &[command]].concat(), "").await;
            assert_eq!(output.code, code, "{output:?}");
            assert!(output.stderr.contains(part) && output.stderr.lines().count() == 1, "{output:?}");
            let output = run_relayctl(&variables, &[arguments, &["--json", command]].concat(), "").await;
            assert!(output.json()["error"].as_str().unwrap().contains(part), "{output:?}");
        }
    }
    for (code, part) in [
        ("AccessDenied", "may not do cloudformation:DescribeStacks"),
        ("ExpiredToken", "have expired"),
        ("InvalidClientTokenId", "does not accept the credentials"),
        ("Throttling", "less often"),
    ] {
        harness.permission_proxy.deny("DescribeStacks", code);
        let output = harness.relayctl(&["doctor"], "").await;
        assert_eq!(output.code, 3, "{output:?}");
        assert!(output.stderr.contains(part) && !output.stderr.contains("hidden words"), "{output:?}");
    }
    harness.permission_proxy.allow_all();
    let mut variables = harness.variables();
    variables[0].1 = "http://127.0.0.1:9".to_owned();
    let output = run_relayctl(&variables, &["--stack", "x", "doctor"], "").await;
    assert_eq!((output.code, output.stderr.contains("AWS cannot be reached")), (3, true), "{output:?}");
}
