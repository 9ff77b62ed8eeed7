//! `relayctl console` on a data folder.

use relay_testkit::eventually;
use relay_testkit::mock_destination::Reply;
use relay_testkit::relayctl::console::Console;
use relay_testkit::relayctl::run_relayctl;
use relay_testkit::webhook::{contact_created, post};
use serde_json::json;

use crate::relayctl::operations::OperatorHarness;

async fn start_console(harness: &OperatorHarness) -> Console {
    let local = format!("--local={}", harness.relay.folder().display());
    Console::start(&[], &[&local]).await
}

#[tokio::test]
async fn console_of_a_folder_shows_flow_and_retries_a_dead_letter() {
    let harness = OperatorHarness::start().await;
    harness.create_three_dead_letters().await;
    let console = start_console(&harness).await;
    let overview = console.get("overview").await;
    assert_eq!(
        (&overview["pollSeconds"], &overview["minutes"], &overview["trial"]),
        (&json!(2), &json!(null), &json!(false))
    );
    let counts = |index: usize| overview["directions"][index]["deadLetters"].clone();
    assert_eq!((counts(0), counts(1)), (json!(2), json!(1)), "{overview}");
    let rejected = console.get("deliveries?state=dead&reason=clay_rejected").await;
    let id = rejected["deliveries"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!((&rejected["deliveries"][0]["status"], &rejected["deliveries"][1]), (&json!(400), &json!(null)));
    let body = console.post(&format!("deliveries/{id}/body"), json!({})).await.json();
    assert!(body["body"].as_str().unwrap().contains("ada@example.com"), "{body}");
    let calls = harness.clay.received().len();
    console.retry(&id, || harness.clay.received().len()).await;
    eventually("its call", async || (harness.clay.received().len() == calls + 1).then_some(())).await;
    assert!(console.interrupt().await.success());
}

#[tokio::test]
async fn console_of_a_folder_pauses_and_shows_what_to_connect() {
    let harness = OperatorHarness::start().await;
    harness.loops.set_properties_reply(Reply::json(
        200,
        r#"[{"key":"plan","label":"Plan","type":"string"},{"key":"__internal","label":"x","type":"string"}]"#,
    ));
    // What is not stored in the folder comes from the environment, as for the relay.
    let local = format!("--local={}", harness.relay.folder().display());
    let variables = [("LOOPS_API_URL", harness.loops.url("/api")), ("LOOPS_API_KEY", "key".to_owned())];
    let console = Console::start(&variables, &[&local]).await;
    let pause = async |paused: bool| {
        console.post("pause", json!({"direction": "loops-to-clay", "paused": paused})).await.json()["changed"].clone()
    };
    assert_eq!((pause(true).await, pause(true).await), (json!(true), json!(false)));
    assert_eq!(post(harness.relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let to_clay = console.get("overview").await["directions"][0].clone();
    assert_eq!(
        (&to_clay["paused"], &to_clay["waiting"], &to_clay["destination"]),
        (&json!(true), &json!(1), &json!("real"))
    );
    assert!(to_clay["oldestSeconds"].is_number(), "{to_clay}");
    assert_eq!(pause(false).await, true);
    eventually("its row", async || (harness.clay.received().len() == 1).then_some(())).await;
    let connect = console.get("connect").await;
    assert_eq!(connect["properties"], json!([{"key": "plan", "label": "Plan", "kind": "string"}]), "{connect}");
    assert!(connect["clayContactUrl"].as_str().unwrap().ends_with("/api/v1/contacts/update"), "{connect}");
    assert!(connect["relayTokenHint"].as_str().unwrap().contains("relayctl --local="), "{connect}");
    let findings = console.post("doctor", json!({})).await.json()["findings"].clone();
    assert!(findings.as_array().unwrap().iter().any(|finding| finding["check"] == "running"), "{findings}");
}

#[tokio::test]
async fn console_listens_on_this_machine_only() {
    let harness = OperatorHarness::start().await;
    let local = format!("--local={}", harness.relay.folder().display());
    for address in ["0.0.0.0:0", "192.0.2.1:8790"] {
        let output = run_relayctl(&[], &[&local, "console", "--listen", address], "").await;
        assert!(output.code == 2 && output.stderr.contains("loopback address"), "{output:?}");
    }
}
