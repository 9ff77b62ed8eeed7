//! What the console shows of deliveries, and does with them.

use std::time::Duration;

use relay_testkit::console::ConsolePage;
use relay_testkit::eventually;
use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{RELAY_TOKEN, Relay};
use relay_testkit::row::contact;
use relay_testkit::webhook::{contact_created, post};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::start;

#[tokio::test]
async fn overview_counts_what_came_and_was_refused() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let relay = start(&clay).await;
    let console = ConsolePage::open(relay.base()).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    assert_eq!(contact(relay.base(), "{}").await.status, 400);
    let overview = eventually("a row at Clay", async || {
        let overview = console.get("overview").await;
        (overview["directions"][0]["delivered"] == 1).then_some(overview)
    })
    .await;
    let direction = &overview["directions"][0];
    assert_eq!((&direction["accepted"], &direction["destination"]), (&json!(1), &json!("real")));
    assert_eq!(overview["webhooks"][0]["accepted"], 1);
    assert_eq!(
        (&overview["refusals"][0]["code"], &overview["refusals"][0]["count"]),
        (&json!("missing_field"), &json!(1))
    );
    assert_eq!(overview["lastRefusals"][0]["direction"], "clay-to-loops");
    assert_eq!(overview["minutes"].as_array().unwrap().len(), 60);
    assert!(!overview.to_string().contains("example.com"));
}

#[tokio::test]
async fn stream_sends_the_overview_after_each_change() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let relay = start(&clay).await;
    let mut stream = TcpStream::connect(relay.base().trim_start_matches("http://")).await.unwrap();
    stream.write_all(b"GET /console/api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut read_until = async |part: &str| {
        while !seen.contains(part) {
            let mut bytes = [0; 16 * 1024];
            let read = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut bytes)).await.unwrap().unwrap();
            assert!(read > 0, "the stream ended: {seen}");
            seen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        }
    };
    read_until(r#""accepted":0"#).await;
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    read_until(r#""accepted":1"#).await;
}

#[tokio::test]
async fn page_polls_where_many_pages_stream() {
    let relay = Relay::start(&[]).await;
    let open = async || {
        let mut stream = TcpStream::connect(relay.base().trim_start_matches("http://")).await.unwrap();
        stream.write_all(b"GET /console/api/stream HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).await.unwrap();
        (stream, String::from_utf8_lossy(&status).into_owned())
    };
    let mut streams = Vec::new();
    for _ in 0..16 {
        streams.push(open().await);
    }
    assert!(streams.iter().all(|(_, status)| status == "HTTP/1.1 200"));
    assert_eq!(open().await.1, "HTTP/1.1 404");
    streams.pop();
    eventually("room for a stream", async || (open().await.1 == "HTTP/1.1 200").then_some(())).await;
}

#[tokio::test]
async fn deliveries_are_paged_by_key_and_found_by_contact() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let relay = start(&clay).await;
    let console = ConsolePage::open(relay.base()).await;
    for number in 0..5 {
        let event = contact_created(&format!("n{number}@example.com"));
        assert_eq!(post(relay.base(), &format!("msg_{number}"), &event).await.status, 200);
    }
    let (mut webhook_ids, mut after) = (Vec::new(), String::new());
    loop {
        let page = console.get(&format!("deliveries?limit=2&after={after}")).await;
        let records = page["deliveries"].as_array().unwrap();
        assert!(records.len() <= 2, "{page}");
        webhook_ids.extend(records.iter().map(|record| record["webhookId"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        next.clone_into(&mut after);
    }
    assert_eq!(webhook_ids, ["msg_4", "msg_3", "msg_2", "msg_1", "msg_0"]);
    let found = console.post("contact", json!({"contact": " N3@example.com "})).await.json();
    let hash = found["contact"].as_str().unwrap();
    let page = console.get(&format!("deliveries?contact={hash}")).await;
    assert_eq!(
        (page["deliveries"].as_array().unwrap().len(), &page["deliveries"][0]["webhookId"]),
        (1, &json!("msg_3"))
    );
    let page = console.get("deliveries?id=msg_2").await;
    assert_eq!(page["deliveries"][0]["webhookId"], "msg_2");
}

#[tokio::test]
async fn paused_direction_waits_until_it_is_resumed() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let relay = start(&clay).await;
    let console = ConsolePage::open(relay.base()).await;
    let pause =
        async |paused| console.post("pause", json!({"direction": "loops-to-clay", "paused": paused})).await.json();
    assert_eq!(pause(true).await, json!({"changed": true}));
    assert_eq!(pause(true).await, json!({"changed": false}));
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let overview = console.get("overview").await;
    assert_eq!(
        (&overview["directions"][0]["paused"], &overview["directions"][0]["waiting"]),
        (&json!(true), &json!(1))
    );
    pause(false).await;
    eventually("the row at Clay", async || (clay.received().len() == 1).then_some(())).await;
}

#[tokio::test]
async fn dead_letter_is_shown_tried_and_retried() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let relay = start(&clay).await;
    let console = ConsolePage::open(relay.base()).await;
    clay.enqueue_replies([Reply::status(400)]);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let id = eventually("a dead letter", async || {
        let page = console.get("deliveries?state=dead&reason=clay_rejected").await;
        page["deliveries"][0]["id"].as_str().map(str::to_owned)
    })
    .await;
    let story = console.get(&format!("deliveries/{id}")).await;
    assert!(story["nextStep"].as_str().unwrap().contains("retry it"), "{story}");
    assert_eq!((&story["bodyStored"], &story["delivery"]["status"]), (&json!(true), &json!(400)));
    assert!(!story.to_string().contains("ada@example.com"), "{story}");
    let body = console.post(&format!("deliveries/{id}/body"), json!({})).await.json();
    assert!(body["body"].as_str().unwrap().contains("ada@example.com"));
    console.retry(&id, || clay.received().len()).await;
    eventually("the row at Clay", async || (clay.received().len() == 2).then_some(())).await;
    let again = console.post("dead-letters/retry", json!({"ids": [id]})).await;
    assert_eq!(again.status, 404, "{}", again.text());
}

#[tokio::test]
async fn dead_letter_is_dropped_only_when_it_is_said() {
    let clay = MockDestination::start(Reply::status(200)).await;
    let relay = start(&clay).await;
    let console = ConsolePage::open(relay.base()).await;
    clay.enqueue_replies([Reply::status(400)]);
    assert_eq!(post(relay.base(), "msg_1", &contact_created("ada@example.com")).await.status, 200);
    let dead_letters = async || console.get("overview").await["directions"][0]["deadLetters"].clone();
    eventually("a dead letter", async || (dead_letters().await == 1).then_some(())).await;
    assert_eq!(console.post("dead-letters/drop", json!({})).await.status, 400);
    let dry_run = console.post("dead-letters/drop", json!({"all": true})).await.json();
    assert_eq!((&dry_run["byOutcome"], dead_letters().await), (&json!({"would_drop": 1}), json!(1)));
    assert_eq!(console.post("dead-letters/drop", json!({"all": true, "apply": true})).await.json()["changed"], 1);
    assert_eq!(dead_letters().await, 0);
}

#[tokio::test]
async fn connect_has_what_to_paste_and_no_secret() {
    let relay = Relay::start(&[]).await;
    let console = ConsolePage::open(relay.base()).await;
    let connect = console.get("connect").await;
    assert_eq!(connect["clayContactUrl"], format!("{}/api/v1/contacts/update", relay.base()));
    let properties = connect["properties"].as_array().unwrap();
    assert!(properties.iter().any(|property| property["key"] == "firstName" && property["kind"] == "string"));
    assert!(!connect.to_string().contains(RELAY_TOKEN));
    let findings = console.post("doctor", json!({})).await.json();
    assert!(findings["findings"].as_array().unwrap().iter().all(|finding| finding["outcome"] != "fail"), "{findings}");
}
