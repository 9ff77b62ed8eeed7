//! A dry run leaves everything as it was.

use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::http::send;
use relay_testkit::relay_process::Relay;
use serde_json::json;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousand_dry_runs_leave_store_rate_and_loops_as_they_were() {
    let relay = Relay::start_without(relay_testkit::relay_process::TempDataDir::new(), &[], &["RELAY_TOKEN"]).await;
    let token = std::fs::read_to_string(relay.folder().join("relay-token")).unwrap();
    let authorization = format!("Bearer {}", token.trim());
    let headers = [("authorization", authorization.as_str())];
    let metrics = async || send("GET", &format!("{}/metrics", relay.base()), &[], "").await.text();
    let counts = |text: String| {
        text.lines()
            .filter(|line| !line.starts_with('#') && line.contains("clay-to-loops"))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    let before = counts(metrics().await);
    for number in 0..1000 {
        let email = format!("n{}@example.com", number % 10);
        let (method, path, body) = match number % 3 {
            0 => ("PUT", "contacts/update", json!({"email": email})),
            1 => ("POST", "events/send", json!({"email": email, "eventName": "signed_up"})),
            _ => ("POST", "transactional", json!({"email": email, "transactionalId": "t1"})),
        };
        let url = format!("{}/api/v1/{path}?dry-run=on", relay.base());
        let response = send(method, &url, &headers, body.to_string()).await;
        assert_eq!((response.status, &response.json()["duplicate"]), (200, &json!(false)));
    }
    assert!(relay.deliveries().await.is_empty());
    assert_eq!(counts(metrics().await), before);
    let loops = relay.simulator_url("Loops");
    for list in ["contacts", "events", "emails"] {
        assert_eq!(send("GET", &format!("{loops}/{list}"), &[], "").await.json(), json!([]), "{list}");
    }
    // The rate has all its room.
    for number in 0..2 {
        let row = json!({"email": format!("after{number}@example.com")}).to_string();
        let response = send("PUT", &format!("{}/api/v1/contacts/update", relay.base()), &headers, row).await;
        assert_eq!(response.status, 200);
    }
}
