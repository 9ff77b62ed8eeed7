//! Destinations that fail in each of the ways, and are mended.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{AUTHORIZATION, call, create, get, start_clay, start_loops, update};
use crate::{Behavior, Clay, ClayOptions};

const LIMIT: Duration = Duration::from_secs(20);
const JSON: (&str, &str) = ("content-type", "application/json");
const WEBHOOK: &str = "POST /v3/sources/webhook/contacts";

/// Posts a row, and returns the connection on which the answer will come.
async fn post_row(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{WEBHOOK} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 2");
    stream.write_all(format!("{head}\r\nconnection: close\r\n\r\n{{}}").as_bytes()).await.unwrap();
    stream
}

/// Reads what comes until the connection is closed.
async fn read_to_end(mut stream: TcpStream) -> String {
    let mut received = String::new();
    let read = tokio::time::timeout(LIMIT, stream.read_to_string(&mut received)).await;
    // A connection that is reset is closed as well.
    let _ = read.expect("the connection to be closed");
    received
}

/// Waits until a request is under way, or none is.
async fn wait_until_hanging(clay: &Clay, idle_count: usize, expected: bool) {
    let changed = async {
        while (clay.server.behavior.receiver_count() > idle_count) != expected {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LIMIT, changed).await.expect("the request to be under way, or to end");
}

#[tokio::test]
async fn rate_limited_destination_answers_its_own_429() {
    let (clay, loops) = (start_clay(ClayOptions::default()).await, start_loops().await);
    clay.set_behavior(Behavior::RateLimited);
    loops.set_behavior(Behavior::RateLimited);
    let response = call(clay.address(), WEBHOOK, &[JSON], "{}").await;
    assert_eq!((response.status, response.header("retry-after")), (429, Some("1")));
    assert_eq!(response.json()["type"], "TooManyRequests");
    let response = update(&loops, json!({"email": "a@example.com"})).await;
    assert_eq!((response.status, response.message().as_str()), (429, "Rate limit exceeded"));
    assert_eq!((response.header("x-ratelimit-remaining"), response.header("retry-after")), (Some("0"), None));
    assert!(clay.rows().is_empty() && loops.contacts().is_empty());
    assert_eq!((clay.rejected_statuses(), loops.rejected_statuses()), (vec![429], vec![429]));
}

#[tokio::test]
async fn failing_destination_answers_500_and_stores_nothing() {
    let (clay, loops) = (start_clay(ClayOptions::default()).await, start_loops().await);
    clay.set_behavior(Behavior::Failing);
    loops.set_behavior(Behavior::Failing);
    assert_eq!(call(clay.address(), WEBHOOK, &[JSON], "{}").await.status, 500);
    assert_eq!(create(&loops, json!({"email": "a@example.com"})).await.status, 500);
    assert!(clay.rows().is_empty() && loops.contacts().is_empty());
    clay.set_behavior(Behavior::Normal);
    loops.set_behavior(Behavior::Normal);
    assert_eq!(call(clay.address(), WEBHOOK, &[JSON], "{}").await.status, 200);
    assert_eq!(create(&loops, json!({"email": "a@example.com"})).await.status, 200);
}

#[tokio::test]
async fn gone_destination_closes_the_connection_unanswered() {
    let clay = start_clay(ClayOptions::default()).await;
    clay.set_behavior(Behavior::Gone);
    assert_eq!(read_to_end(post_row(clay.address()).await).await, "");
    assert!(clay.rows().is_empty() && clay.rejected_statuses().is_empty());
    clay.set_behavior(Behavior::Normal);
    assert!(read_to_end(post_row(clay.address()).await).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn hanging_request_is_answered_by_the_next_behavior() {
    let clay = start_clay(ClayOptions::default()).await;
    let idle_count = clay.server.behavior.receiver_count();
    for (next, answer) in
        [(Behavior::Normal, "HTTP/1.1 200 "), (Behavior::Failing, "HTTP/1.1 500 "), (Behavior::Gone, "")]
    {
        clay.set_behavior(Behavior::Hanging);
        let hanging = post_row(clay.address()).await;
        wait_until_hanging(&clay, idle_count, true).await;
        clay.set_behavior(next);
        assert!(read_to_end(hanging).await.starts_with(answer), "{next:?}");
    }
    assert_eq!(clay.rows().len(), 1);
}

#[tokio::test]
async fn hanging_request_ends_with_its_client() {
    let clay = start_clay(ClayOptions::default()).await;
    let idle_count = clay.server.behavior.receiver_count();
    clay.set_behavior(Behavior::Hanging);
    let hanging = post_row(clay.address()).await;
    wait_until_hanging(&clay, idle_count, true).await;
    drop(hanging);
    wait_until_hanging(&clay, idle_count, false).await;
    clay.set_behavior(Behavior::Normal);
    assert!(clay.rows().is_empty());
}

#[tokio::test]
async fn hanging_request_ends_with_the_simulator() {
    let clay = start_clay(ClayOptions::default()).await;
    let idle_count = clay.server.behavior.receiver_count();
    clay.set_behavior(Behavior::Hanging);
    let hanging = post_row(clay.address()).await;
    wait_until_hanging(&clay, idle_count, true).await;
    drop(clay);
    assert_eq!(read_to_end(hanging).await, "");
}

#[tokio::test]
async fn what_a_destination_shows_of_itself_is_always_answered() {
    let (clay, loops) = (start_clay(ClayOptions::default()).await, start_loops().await);
    for behavior in [Behavior::RateLimited, Behavior::Failing, Behavior::Hanging, Behavior::Gone] {
        clay.set_behavior(behavior);
        loops.set_behavior(behavior);
        assert_eq!((clay.behavior(), loops.behavior()), (behavior, behavior));
        for (address, page) in [(clay.address(), "/rows"), (loops.address(), "/contacts"), (loops.address(), "/events")]
        {
            assert_eq!(call(address, &format!("GET {page}"), &[], "").await.json(), json!([]), "{behavior:?}");
        }
    }
}

#[tokio::test]
async fn only_the_latest_of_many_are_listed() {
    let (clay, loops) = (start_clay(ClayOptions::default()).await, start_loops().await);
    assert_eq!((clay.latest_rows(2), loops.audience(2).contacts.len()), ((Vec::new(), 0), 0));
    for number in 0..5 {
        call(clay.address(), WEBHOOK, &[JSON], number.to_string()).await;
        update(&loops, json!({"email": format!("n{number}@example.com")})).await;
        let event = json!({"email": "n0@example.com", "eventName": format!("n{number}")});
        call(loops.address(), "POST /api/v1/events/send", &[AUTHORIZATION], event.to_string()).await;
    }
    let (rows, total) = clay.latest_rows(2);
    let rows: Vec<String> = rows.iter().map(|row| serde_json::to_value(row).unwrap()["body"].to_string()).collect();
    assert_eq!((rows.as_slice(), total), (&["3".to_owned(), "4".to_owned()][..], 5));
    let audience = serde_json::to_value(loops.audience(2)).unwrap();
    assert_eq!(audience["contacts"].as_array().map(Vec::len), Some(2));
    assert_eq!(audience["contacts"][0]["email"], "n4@example.com");
    assert_eq!(audience["events"][0]["body"]["eventName"], "n3");
    assert_eq!(audience["emails"], json!([]));
}

#[tokio::test]
async fn contact_of_the_audience_is_one_of_the_api() {
    let loops = start_loops().await;
    loops.set_behavior(Behavior::Failing);
    let fields = json!({"email": "ada@example.com", "firstName": "Ada", "plan": "pro", "mailingLists": {"one": true}});
    let contact = loops.create_contact(fields.to_string().as_bytes()).unwrap();
    assert!(loops.create_contact(fields.to_string().as_bytes()).is_err(), "it exists");
    assert!(loops.create_contact(br#"{"email": "ada"}"#).is_err() && loops.create_contact(b"[").is_err());
    loops.set_behavior(Behavior::Normal);
    assert_eq!(get(&loops, "contacts/find?email=ada@example.com").await.json(), json!([contact]));
    assert_eq!((&contact["plan"], &contact["mailingLists"]["one"]), (&json!("pro"), &json!(true)));
}
