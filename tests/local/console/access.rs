//! Whom the console lets in, and what it leaves behind.

use relay_testkit::console::ConsolePage;
use relay_testkit::http::send;
use relay_testkit::relay_process::{RELAY_TOKEN, Relay, TempDataDir, settings};
use serde_json::json;

#[tokio::test]
async fn page_and_its_files_come_with_a_strict_policy() {
    let relay = Relay::start(&[]).await;
    let page = send("GET", relay.base(), &[], "").await;
    assert!(page.headers["content-type"].starts_with("text/html"));
    for path in ["/", "/console/app.js", "/console/base.css", "/console/api/overview"] {
        let response = send("GET", &format!("{}{path}", relay.base()), &[], "").await;
        let policy = &response.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; script-src 'self';") && !policy.contains("unsafe"), "{policy}");
        assert_eq!((response.status, response.headers["cache-control"].as_str()), (200, "no-store"), "{path}");
        assert!(!response.headers.contains_key("set-cookie") && !response.text().contains(RELAY_TOKEN), "{path}");
    }
    assert_eq!(send("GET", &format!("{}/console/none.js", relay.base()), &[], "").await.status, 404);
}

#[tokio::test]
async fn strangers_and_pages_of_others_are_refused() {
    let relay = Relay::start(&[]).await;
    let console = ConsolePage::open(relay.base()).await;
    let overview = format!("{}/console/api/overview", relay.base());
    for (header, value, status) in [
        ("host", "evil.example", 421),
        ("x-forwarded-for", "192.0.2.7", 421),
        ("origin", "http://evil.example", 403),
        ("origin", "null", 403),
        ("sec-fetch-site", "cross-site", 403),
    ] {
        assert_eq!(send("GET", &overview, &[(header, value)], "").await.status, status, "{header}: {value}");
    }
    let pause = format!("{}/console/api/pause", relay.base());
    let body = json!({"direction": "loops-to-clay", "paused": true}).to_string();
    for token in [None, Some("0".repeat(32))] {
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(token.as_deref().map(|token| ("x-console-token", token)));
        assert_eq!(send("POST", &pause, &headers, body.clone()).await.status, 403);
    }
    let form = [("x-console-token", console.token()), ("content-type", "text/plain")];
    assert_eq!(send("POST", &pause, &form, body).await.status, 400);
    assert_eq!(console.get("overview").await["directions"][0]["paused"], false);
}

#[tokio::test]
async fn console_that_is_off_is_not_there() {
    let relay = Relay::start(&[("RELAY_CONSOLE", "off")]).await;
    for path in ["/", "/console/app.js", "/console/api/overview", "/console/api/trial"] {
        assert_eq!(send("GET", &format!("{}{path}", relay.base()), &[], "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn public_relay_has_no_console_unless_it_is_on() {
    let relay = Relay::start(&[("RELAY_LISTEN", "0.0.0.0:0")]).await;
    assert_eq!(send("GET", relay.base(), &[], "").await.status, 404);
}

#[tokio::test]
async fn public_console_asks_for_the_relay_token() {
    let narrow_token = "token-that-only-reads-lists";
    let tokens = json!([RELAY_TOKEN, {"token": narrow_token, "name": "lists", "scopes": ["account:read"]}]).to_string();
    let all = [("RELAY_LISTEN", "0.0.0.0:0"), ("RELAY_CONSOLE", "on"), ("RELAY_TOKEN", tokens.as_str())];
    let relay = Relay::start(&all).await;
    assert_eq!(send("GET", relay.base(), &[], "").await.status, 200);
    for path in ["overview", "stream", "deliveries", "connect", "trial"] {
        let url = format!("{}/console/api/{path}", relay.base());
        assert_eq!(send("GET", &url, &[], "").await.status, 401, "{path}");
        for token in ["wrong", narrow_token] {
            let authorization = format!("Bearer {token}");
            assert_eq!(send("GET", &url, &[("authorization", &authorization)], "").await.status, 401, "{path}");
        }
    }
    let url = format!("{}/console/api/overview", relay.base());
    let authorization = format!("Bearer {RELAY_TOKEN}");
    assert_eq!(send("GET", &url, &[("authorization", &authorization)], "").await.status, 200);
}

#[tokio::test]
async fn console_leaves_nothing_in_the_log() {
    let relay = Relay::start_with(TempDataDir::new(), settings(&[]), &["--simulate"]).await;
    let console = ConsolePage::open(relay.base()).await;
    let before = relay.log();
    console.post("contact", json!({"contact": "ada@example.com"})).await;
    console.get("deliveries?id=clay_1").await;
    console.post("pause", json!({"direction": "sideways", "paused": true})).await;
    send("GET", &format!("{}/console/api/overview", relay.base()), &[("host", "evil.example")], "").await;
    assert_eq!(relay.log(), before);
}
