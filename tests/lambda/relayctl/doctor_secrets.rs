//! `relayctl doctor` and the secrets: what they lack, what cannot be read, and what does not fit together.

use relay_aws::secrets::cached_secret::MIN_REFRESH_INTERVAL;
use relay_testkit::lambda_fake::Setup;
use relay_testkit::lambda_fake::operator::OperatorHarness;
use relay_testkit::lambda_fake::stack::expect_str;
use relay_testkit::mock_destination::Reply;
use relay_testkit::{EVENTUALLY_TIMEOUT, eventually_within};
use serde_json::json;

use crate::relayctl::doctor::{finds, not_well, operated};
use crate::{to_clay, to_loops};

#[tokio::test]
async fn secrets_that_are_not_filled_in_or_broken_are_named() {
    let operated = OperatorHarness::without_setup().await;
    let said = operated.doctor().await;
    for (check, part) in [
        ("secret-loops-to-clay", "no signing secret"),
        ("secret-clay-to-loops", "no Loops API key"),
        ("loops-key", "no key"),
        ("signed-webhook", "no signing secret"),
        ("forged-webhook", "not_configured"),
    ] {
        let found = said.worst_finding(check);
        assert_eq!((found.outcome.as_str(), found.observed.contains(part)), ("fail", true), "{check}: {found:?}");
    }
    let fill_in = format!("relayctl --stack {} setup", operated.name());
    assert!(said.worst_finding("secret-loops-to-clay").remedy.contains(&fill_in));
    operated.stack().put_secret("LoopsToClaySecret", &json!({"loops_signing_secrets": ["%hidden%"]})).await;
    operated.stack().put_secret("ClayToLoopsSecret", &json!("hidden")).await;
    let said = operated.doctor().await;
    for (check, part) in [("secret-loops-to-clay", "loops_signing_secrets[0]"), ("secret-clay-to-loops", "line 1")] {
        let found = said.worst_finding(check);
        assert_eq!((found.outcome.as_str(), found.observed.contains(part)), ("fail", true), "{check}: {found:?}");
    }
    for (check, secret) in [
        ("loops-key", "see secret-clay-to-loops"),
        ("signed-webhook", "see secret-loops-to-clay"),
        ("relay-token", "see secret-clay-to-loops"),
        ("clay-webhook-use", "see secret-loops-to-clay"),
    ] {
        let found = said.worst_finding(check);
        assert_eq!((found.outcome.as_str(), found.remedy.as_str()), ("warn", secret), "{check}: {found:?}");
    }
    assert!(!said.stdout.contains("hidden"), "{said:?}");
    let setup = operated.relayctl(&["setup", "--list"], "").await;
    assert_eq!((setup.code, setup.stderr.contains("is not a JSON object")), (3, true), "{setup:?}");
}

#[tokio::test]
async fn a_secret_that_was_deleted_is_told_with_what_brings_it_back() {
    let operated = operated().await;
    finds(&operated, &[]).await;
    let secrets = operated.stack().clients().secrets_manager();
    for (secret, check, needing, way) in [
        ("LoopsToClaySecret", "secret-loops-to-clay", ["signed-webhook", "clay-webhook-use"], "send-to-clay"),
        ("ClayToLoopsSecret", "secret-clay-to-loops", ["loops-key", "relay-token"], "send-to-loops"),
    ] {
        let arn = expect_str(&operated.stack().description()["secrets"][secret]["arn"]);
        secrets.delete_secret().secret_id(arn).recovery_window_in_days(7).send().await.unwrap();
        let said = finds(&operated, &[(check, "fail"), (needing[0], "warn"), (needing[1], "warn")]).await;
        let found = said.worst_finding(check);
        assert!(
            found.observed.contains("scheduled for deletion") && found.remedy.contains("restore-secret"),
            "{found:?}"
        );
        let sent = operated.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await.worst_finding(way);
        assert_eq!((sent.outcome.as_str(), sent.remedy), ("warn", format!("see {check}")));
        secrets.restore_secret().secret_id(arn).send().await.unwrap();
        finds(&operated, &[]).await;
    }
}

#[tokio::test]
async fn an_event_that_no_route_takes_is_named_before_and_after_it_was_sent() {
    let operated = OperatorHarness::with_setup(|_, clay| {
        let mut document = to_clay(&[clay]);
        document["clay_routes"][0]["events"] = json!(["email.*"]);
        Setup { loops_to_clay: Some(document), clay_to_loops: Some(to_loops()), ..Setup::default() }
    })
    .await;
    let said = finds(&operated, &[("secret-loops-to-clay", "fail")]).await;
    let seen = said.worst_finding("secret-loops-to-clay").observed;
    assert!(seen.contains("no route takes contact.created") && !seen.contains("email"), "{seen}");
    let said = operated.relayctl(&["doctor", "--json", "--send", "ada@example.com"], "").await;
    let found = said.worst_finding("send-to-clay");
    assert!(found.outcome == "fail" && found.observed.contains("dead letter"), "{found:?}");
    operated.wait_for_dead_letters(1, 0).await;
}

#[tokio::test]
async fn a_key_that_loops_refuses_and_a_loops_that_is_down_are_named() {
    let operated = operated().await;
    finds(&operated, &[]).await;
    operated.loops.set_default_reply(Reply::json(401, r#"{"success":false,"message":"hidden"}"#));
    finds(&operated, &[("loops-key", "fail")]).await;
    operated.loops.set_default_reply(Reply::html(503));
    finds(&operated, &[("loops-key", "warn")]).await;
    operated.loops.set_default_reply(Reply::Reset);
    finds(&operated, &[("loops-key", "fail")]).await;
}

#[tokio::test]
async fn a_signing_secret_or_token_that_the_functions_do_not_know_yet_is_named() {
    let operated = operated().await;
    // The functions have read their secrets, and once more for what was forged.
    finds(&operated, &[]).await;
    let mut documents = (to_clay(&[&operated.clay]), to_loops());
    documents.0["loops_signing_secrets"] = json!(["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw=="]);
    documents.1["relay_tokens"] = json!(["another-token"]);
    operated.stack().put_secret("LoopsToClaySecret", &documents.0).await;
    operated.stack().put_secret("ClayToLoopsSecret", &documents.1).await;
    let said = finds(&operated, &[("signed-webhook", "warn"), ("relay-token", "warn")]).await;
    let found = said.worst_finding("relay-token");
    assert!(found.observed.contains("have not read the secret yet"), "{found:?}");
    let seconds: u64 = found.remedy.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!((1..=30).contains(&seconds), "{found:?}");
}

#[tokio::test]
async fn right_after_setup_functions_that_were_asked_before_are_said_to_read_their_secrets_soon() {
    let operated = OperatorHarness::without_setup().await;
    // What is asked before anything is filled in has the functions read their secrets.
    let said = operated.doctor().await;
    assert_eq!(said.worst_finding("forged-webhook").outcome, "fail", "{said:?}");
    operated.stack().put_secret("LoopsToClaySecret", &to_clay(&[&operated.clay])).await;
    operated.stack().put_secret("ClayToLoopsSecret", &to_loops()).await;
    let said =
        finds(&operated, &[("signed-webhook", "warn"), ("forged-webhook", "warn"), ("relay-token", "warn")]).await;
    assert!(said.worst_finding("forged-webhook").remedy.contains("run doctor again in"), "{said:?}");
    let began = std::time::Instant::now();
    eventually_within(
        MIN_REFRESH_INTERVAL + EVENTUALLY_TIMEOUT,
        "functions that have read their secrets",
        async || not_well(&operated.doctor().await).is_empty().then_some(()),
    )
    .await;
    println!("well {:.1} s after the first look", began.elapsed().as_secs_f64());
}
