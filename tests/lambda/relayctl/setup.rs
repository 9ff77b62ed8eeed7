//! `relayctl setup` on a stack: filled in, checked first, merged, rotated without a gap, and nothing shown.

use relay_testkit::lambda_fake::operator::{CliOutput, OperatorHarness, run_relayctl};
use relay_testkit::mock_destination::Reply;
use relay_testkit::webhook::SIGNING_SECRET;
use serde_json::json;

/// What a person gives.
fn values(operated: &OperatorHarness) -> String {
    let url = operated.clay.url("/v3/sources/webhook/hidden");
    format!(
        "LOOPS_API_KEY=hidden-key\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}\nCLAY_WEBHOOK_URL={url}\nCLAY_WEBHOOK_AUTH_TOKEN=hidden-token\n"
    )
}

/// Nothing of what was given, and no token, is in what was said.
fn assert_hidden(said: &CliOutput, secrets: &[&str]) {
    for secret in secrets.iter().chain(&["hidden", SIGNING_SECRET]) {
        assert!(!said.stdout.contains(secret) && !said.stderr.contains(secret), "{secret} in {said:?}");
    }
}

#[tokio::test]
async fn setup_fills_in_both_secrets_and_doctor_finds_everything_well() {
    let operated = OperatorHarness::without_setup().await;
    let token = operated.document("ClayToLoopsSecret").await["relay_tokens"].as_str().unwrap().to_owned();
    let said = operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_hidden(&said, &[&token]);
    for part in
        ["the team \"Acme\"", "/webhooks/loops", "PUT   http://", "setup --list --show-token", "contact.created"]
    {
        assert!(said.stdout.contains(part), "{part} in {}", said.stdout);
    }
    let to_clay = operated.document("LoopsToClaySecret").await;
    assert_eq!(to_clay["loops_signing_secrets"], json!([SIGNING_SECRET]));
    assert_eq!(to_clay["clay_routes"][0]["name"], "contacts");
    assert_eq!(to_clay["clay_routes"][0]["webhooks"][0]["auth_token"], "hidden-token");
    let to_loops = operated.document("ClayToLoopsSecret").await;
    assert_eq!(to_loops, json!({"loops_api_key": "hidden-key", "relay_tokens": token}));
    let said = operated.relayctl(&["doctor"], "").await;
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.stdout.contains(" ok, 0 to look at, 0 broken"), "{}", said.stdout);
    assert_hidden(&said, &[&token]);
    // It has asked for the key twice, and written nothing: neither there nor at Clay.
    assert!(operated.loops.received().iter().all(|got| got.method == "GET"), "{:?}", operated.loops.received());
    assert!(operated.clay.received().is_empty());
}

#[tokio::test]
async fn setup_again_keeps_what_is_not_given() {
    let operated = OperatorHarness::without_setup().await;
    operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    let before = [operated.document("LoopsToClaySecret").await, operated.document("ClayToLoopsSecret").await];
    let said = operated.relayctl(&["setup", "--from", "-", "--json"], "LOOPS_API_KEY=hidden-other\n").await;
    assert_eq!(said.json()["written"], json!([format!("{}/clay-to-loops", operated.name())]));
    assert_eq!(operated.document("LoopsToClaySecret").await, before[0]);
    let said = operated.relayctl(&["setup", "--from", "-", "--json"], "LOOPS_API_KEY=hidden-other\n").await;
    assert_eq!(said.json()["written"], json!([]));
    let after = operated.document("ClayToLoopsSecret").await;
    assert_eq!((&after["relay_tokens"], &after["loops_api_key"]), (&before[1]["relay_tokens"], &json!("hidden-other")));
}

#[tokio::test]
async fn what_is_wrong_is_told_in_a_sentence_and_nothing_is_written() {
    let operated = OperatorHarness::without_setup().await;
    let before = [operated.document("LoopsToClaySecret").await, operated.document("ClayToLoopsSecret").await];
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
        let said = operated.relayctl(&["setup", "--from", "-"], input).await;
        assert_eq!(said.code, code, "{said:?}");
        assert!(said.stderr.contains(part) && said.stderr.lines().count() == 1 && said.stderr.len() <= 320, "{said:?}");
        assert_hidden(&said, &[]);
    }
    operated.loops.set_default_reply(Reply::json(401, r#"{"success":false,"message":"Invalid API key"}"#));
    let said = operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    assert_eq!(said.code, 2);
    assert!(said.stderr.contains("Loops refuses this API key, so nothing was written"), "{said:?}");
    operated.loops.set_default_reply(Reply::status(503));
    let said = operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    assert_eq!(said.code, 3);
    assert!(said.stderr.contains("503") && said.stderr.contains("nothing was written"), "{said:?}");
    let said = operated.relayctl(&["setup", "--from", "/no/such/file"], "").await;
    assert_eq!((said.code, said.stderr.contains("/no/such/file")), (2, true), "{said:?}");
    assert_eq!(operated.document("LoopsToClaySecret").await, before[0]);
    assert_eq!(operated.document("ClayToLoopsSecret").await, before[1]);
    assert!(!operated.permission_proxy.calls().contains(&"PutSecretValue".to_owned()));
}

#[tokio::test]
async fn a_second_write_that_fails_is_told_and_completed_by_running_again() {
    let operated = OperatorHarness::without_setup().await;
    operated.permission_proxy.deny("PutSecretValue", "AccessDeniedException");
    let said = operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    assert_eq!(said.code, 3);
    assert!(said.stderr.contains("may not do secretsmanager:PutSecretValue"), "{said:?}");
    assert_hidden(&said, &[]);
    operated.permission_proxy.allow_all();
    // The first write goes through, the second does not.
    operated.permission_proxy.deny_after("PutSecretValue", "AccessDeniedException", 1);
    let said = operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    let name = operated.name();
    assert_eq!(said.code, 3);
    let part = format!("{name}/loops-to-clay is written, {name}/clay-to-loops is not");
    assert!(said.stderr.contains(&part) && said.stderr.len() <= 320, "{said:?}");
    operated.permission_proxy.allow_all();
    let said = operated.relayctl(&["setup", "--from", "-", "--json"], &values(&operated)).await;
    assert_eq!(said.json()["written"], json!([format!("{name}/clay-to-loops")]));
}

#[tokio::test]
async fn tokens_and_secrets_are_rotated_without_a_gap() {
    let operated = OperatorHarness::without_setup().await;
    operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    let first = operated.document("ClayToLoopsSecret").await["relay_tokens"].as_str().unwrap().to_owned();
    let said = operated.relayctl(&["setup", "--add-relay-token", "--json"], "").await;
    let tokens = operated.document("ClayToLoopsSecret").await["relay_tokens"].clone();
    assert_eq!((tokens.as_array().unwrap().len(), tokens[0].as_str()), (2, Some(first.as_str())));
    assert_hidden(&said, &[&first, tokens[1].as_str().unwrap()]);
    let doctor = operated.doctor().await;
    assert_eq!(doctor.worst_finding("relay-token").observed, "rows get in with each of 2 relay tokens", "{doctor:?}");
    // Shown where it is asked for.
    let shown = operated.relayctl(&["setup", "--list", "--show-token", "--json"], "").await.json();
    assert_eq!(shown["relayTokens"][1]["token"], tokens[1]);
    let fingerprint = shown["relayTokens"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert_eq!(operated.relayctl(&["setup", "--retire-relay-token", &fingerprint], "").await.code, 0);
    assert_eq!(operated.document("ClayToLoopsSecret").await["relay_tokens"], json!([tokens[1]]));
    let last = operated.relayctl(&["setup", "--retire-relay-token", "1"], "").await;
    assert_eq!((last.code, last.stderr.contains("--force")), (1, true), "{last:?}");
    let added = "LOOPS_SIGNING_SECRET=whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==\n";
    assert_eq!(operated.relayctl(&["setup", "--add-signing-secret", "--from", "-"], added).await.code, 0);
    assert_eq!(operated.document("LoopsToClaySecret").await["loops_signing_secrets"].as_array().unwrap().len(), 2);
    assert_eq!(operated.relayctl(&["setup", "--retire-signing-secret", "1"], "").await.code, 0);
    let none = operated.relayctl(&["setup", "--retire-signing-secret", "7"], "").await;
    assert_eq!((none.code, none.stderr.contains("no signing secret number 7")), (2, true), "{none:?}");
}

#[tokio::test]
async fn a_change_that_another_setup_overwrites_or_that_overwrites_anothers_is_told() {
    let operated = OperatorHarness::without_setup().await;
    for after in [true, false] {
        operated.permission_proxy.write_concurrently(&format!(r#"{{"relay_tokens": ["other-{after}"]}}"#), after);
        let said = operated.relayctl(&["setup", "--add-relay-token"], "").await;
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.stderr.contains("somebody else wrote the secret") && said.stderr.len() <= 320, "{said:?}");
        assert!(said.stderr.lines().count() == 1 && said.stdout.is_empty(), "{said:?}");
    }
    assert_eq!(operated.relayctl(&["setup", "--add-relay-token"], "").await.code, 0);
}

#[tokio::test]
async fn a_pool_of_a_stack_is_added_to_and_taken_from_and_not_thrown_away() {
    let operated = OperatorHarness::without_setup().await;
    operated.relayctl(&["setup", "--from", "-"], &values(&operated)).await;
    let pool = async || operated.document("LoopsToClaySecret").await["clay_routes"][0]["webhooks"].clone();
    let first = pool().await[0].clone();
    let second = json!({"url": "https://api.clay.com/hidden-second", "auth_token": "hidden-second-token"});
    let given = "CLAY_WEBHOOK_URL=https://api.clay.com/hidden-second\nCLAY_WEBHOOK_AUTH_TOKEN=hidden-second-token\n";
    let refused = operated.relayctl(&["setup", "--from", "-"], given).await;
    assert_eq!((refused.code, refused.stderr.contains("1 of the 1 Clay webhooks")), (2, true), "{refused:?}");
    assert_eq!(pool().await, json!([first]));
    let said = operated.relayctl(&["setup", "--add-clay-webhook", "--from", "-"], given).await;
    assert!(said.code == 0 && said.stdout.contains("2. https://api.clay.com ("), "{said:?}");
    assert_hidden(&said, &[]);
    assert_eq!(pool().await, json!([first, second]));
    let again = operated.relayctl(&["setup", "--add-clay-webhook", "--from", "-"], given).await;
    assert_eq!((again.code, again.stderr.contains("already, as number 2")), (2, true), "{again:?}");
    let listed = operated.relayctl(&["setup", "--list", "--json"], "").await.json();
    let key = listed["clayRoutes"][0]["webhooks"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(operated.relayctl(&["setup", "--retire-clay-webhook", &key], "").await.code, 0);
    assert_eq!(pool().await, json!([second]));
    let last = operated.relayctl(&["setup", "--retire-clay-webhook", "1"], "").await;
    assert_eq!((last.code, last.stderr.contains("--force")), (1, true), "{last:?}");
}

#[tokio::test]
async fn without_a_stack_credentials_or_a_terminal_it_says_what_to_do() {
    let operated = OperatorHarness::without_setup().await;
    let cases: [(&[&str], &[&str], i32, &str); 4] = [
        (&["--stack", "no-such-stack"], &[], 3, "there is no stack no-such-stack in us-east-1"),
        (&[], &[], 2, "no stack is named"),
        (&["--stack", "x"], &["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"], 3, "no AWS credentials"),
        (&["--stack", "x"], &["AWS_REGION"], 3, "no AWS region"),
    ];
    for (arguments, without, code, part) in cases {
        let variables: Vec<_> = operated.variables().into_iter().filter(|(name, _)| !without.contains(name)).collect();
        for command in ["setup", "doctor"] {
            let said = run_relayctl(&variables, &[arguments, &[command]].concat(), "").await;
            assert_eq!(said.code, code, "{said:?}");
            assert!(said.stderr.contains(part) && said.stderr.lines().count() == 1, "{said:?}");
            let said = run_relayctl(&variables, &[arguments, &["--json", command]].concat(), "").await;
            assert!(said.json()["error"].as_str().unwrap().contains(part), "{said:?}");
        }
    }
    for (code, part) in [
        ("AccessDenied", "may not do cloudformation:DescribeStacks"),
        ("ExpiredToken", "have expired"),
        ("InvalidClientTokenId", "does not accept the credentials"),
        ("Throttling", "less often"),
    ] {
        operated.permission_proxy.deny("DescribeStacks", code);
        let said = operated.relayctl(&["doctor"], "").await;
        assert_eq!(said.code, 3, "{said:?}");
        assert!(said.stderr.contains(part) && !said.stderr.contains("hidden words"), "{said:?}");
    }
    operated.permission_proxy.allow_all();
    let mut variables = operated.variables();
    variables[0].1 = "http://127.0.0.1:9".to_owned();
    let said = run_relayctl(&variables, &["--stack", "x", "doctor"], "").await;
    assert_eq!((said.code, said.stderr.contains("AWS cannot be reached")), (3, true), "{said:?}");
}
