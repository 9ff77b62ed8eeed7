//! `relayctl console` on a stack whose functions are running.

use relay_testkit::eventually;
use relay_testkit::lambda_fake::operator::OperatorHarness;
use relay_testkit::relayctl::console::Console;
use relay_testkit::webhook::{contact_created, post};
use serde_json::{Value, json};

use crate::relayctl::operations::{start_harness, wait_until_drained};

async fn start_console(harness: &OperatorHarness) -> Console {
    Console::start(&harness.variables(), &["--stack", harness.name()]).await
}

#[tokio::test]
async fn console_of_a_stack_shows_flow_and_retries_a_dead_letter() {
    let harness = start_harness().await;
    harness.create_three_dead_letters().await;
    let console = start_console(&harness).await;
    let overview = console.get("overview").await;
    assert_eq!(overview["pollSeconds"], 10, "{overview}");
    assert_eq!(overview["minutes"].as_array().map(Vec::len), Some(60), "{overview}");
    let facts = |index: usize| ["destination", "deadLetters"].map(|name| overview["directions"][index][name].clone());
    assert_eq!((facts(0), facts(1)), ([json!("real"), json!(2)], [json!("real"), json!(1)]), "{overview}");
    assert_eq!(overview["webhooks"].as_array().map(Vec::len), Some(1), "{overview}");
    let rejected = console.get("deliveries?state=dead&reason=clay_rejected").await;
    let ids: Vec<&Value> = rejected["deliveries"].as_array().unwrap().iter().map(|delivery| &delivery["id"]).collect();
    let [Value::String(id)] = ids.as_slice() else { panic!("{rejected}") };
    let story = console.get(&format!("deliveries/{id}")).await;
    assert_eq!(story["bodyStored"], true, "{story}");
    let body = console.post(&format!("deliveries/{id}/body"), json!({})).await.json();
    assert!(body["body"].as_str().unwrap().contains("ada@example.com"), "{body}");
    let calls = harness.clay.received().len();
    console.retry(id, || harness.clay.received().len()).await;
    harness.wait_for_dead_letters(1, 1).await;
    wait_until_drained(&harness, "ClayQueue").await;
    assert_eq!(harness.clay.received().len(), calls + 1);
    assert!(console.interrupt().await.success());
}

#[tokio::test]
async fn console_of_a_stack_pauses_and_shows_what_to_connect() {
    let harness = start_harness().await;
    harness.fake_stack.respect_disabled_mappings();
    let console = start_console(&harness).await;
    let pause = async |paused: bool| {
        console.post("pause", json!({"direction": "loops-to-clay", "paused": paused})).await.json()["changed"].clone()
    };
    assert_eq!(pause(true).await, true);
    assert_eq!(post(&harness.fake_stack.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let to_clay = console.get("overview").await["directions"][0].clone();
    assert_eq!((&to_clay["paused"], &to_clay["waiting"], &to_clay["held"]), (&json!(true), &json!(1), &json!(null)));
    assert_eq!(pause(false).await, true);
    eventually("its row", async || (harness.clay.received().len() == 1).then_some(())).await;
    let connect = console.get("connect").await;
    assert!(connect["relayTokenHint"].as_str().unwrap().contains("--stack"), "{connect}");
    let done = connect["steps"].as_array().unwrap().iter().map(|step| (step["name"].clone(), step["done"].clone()));
    let done: Vec<_> = done.filter(|(name, _)| name != "loops-key").collect();
    assert_eq!(done, ["loops-webhook", "clay-webhook", "relay-token"].map(|name| (json!(name), json!(true))));
}

#[tokio::test]
async fn console_without_cloudwatch_shows_the_rest() {
    let harness = start_harness().await;
    harness.permission_proxy.deny("GetMetricStatistics", "AccessDenied");
    let overview = start_console(&harness).await.get("overview").await;
    assert_eq!((&overview["minutes"], &overview["countedSince"]), (&json!(null), &json!(null)), "{overview}");
    assert_eq!(overview["directions"][0]["accepted"], json!(null));
    assert_eq!(overview["directions"][0]["waiting"], 0);
}
