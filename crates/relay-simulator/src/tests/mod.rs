//! The simulators over real sockets, called by a minimal HTTP client.

mod accepts_clean_rows;
mod behavior;
mod clay;
mod events;
mod loops_account;
mod loops_contacts;
mod loops_emails;
mod loops_events;
mod loops_webhook;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpListener;

use super::{Clay, ClayOptions, Loops, LoopsOptions};

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

async fn start_clay(options: ClayOptions) -> Clay {
    Clay::start(listener().await, options).await.expect("an address")
}

/// Starts a team whose rate limit no test reaches.
async fn start_loops() -> Loops {
    let options = LoopsOptions { per_second: 10_000, ..LoopsOptions::default() };
    Loops::start(listener().await, options).await.expect("an address")
}

#[derive(Debug)]
struct HttpResponse {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl HttpResponse {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("a JSON body")
    }

    fn message(&self) -> String {
        let body = self.json();
        assert_eq!(body["success"], false);
        body["message"].as_str().expect("a message").to_owned()
    }
}

/// Sends one request on a connection of its own. `request_line` is the method and the target.
async fn call(
    address: SocketAddr,
    request_line: &str,
    headers: &[(&str, &str)],
    body: impl AsRef<[u8]>,
) -> HttpResponse {
    let body = body.as_ref();
    let mut request = format!(
        "{request_line} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut request = format!("{request}\r\n").into_bytes();
    request.extend_from_slice(body);
    let response = tokio::task::spawn_blocking(move || exchange(address, &request)).await;
    parse(&response.expect("no panic").expect("a response"))
}

fn exchange(address: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}

fn parse(response: &str) -> HttpResponse {
    let (head, body) = response.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    HttpResponse { status: status.parse().expect("a number"), headers: headers.collect(), body: body.to_owned() }
}

/// The header with the API key of a simulated team.
const AUTHORIZATION: (&str, &str) = ("authorization", "Bearer simulated");

async fn get(loops: &Loops, target: &str) -> HttpResponse {
    call(loops.address(), &format!("GET /api/v1/{target}"), &[AUTHORIZATION], "").await
}

async fn update(loops: &Loops, body: Value) -> HttpResponse {
    call(loops.address(), "PUT /api/v1/contacts/update", &[AUTHORIZATION], body.to_string()).await
}

async fn create(loops: &Loops, body: Value) -> HttpResponse {
    call(loops.address(), "POST /api/v1/contacts/create", &[AUTHORIZATION], body.to_string()).await
}

async fn send(loops: &Loops, body: Value, idempotency_key: Option<&str>) -> HttpResponse {
    let mut headers = vec![AUTHORIZATION];
    headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
    call(loops.address(), "POST /api/v1/events/send", &headers, body.to_string()).await
}

#[tokio::test]
async fn dropped_simulator_closes_its_port() {
    let clay = start_clay(ClayOptions::default()).await;
    let address = clay.address();
    assert_eq!(call(address, "GET /", &[], "").await.status, 200);
    drop(clay);
    let port_closed = async {
        while TcpStream::connect(address).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), port_closed).await.expect("the port to be closed");
}

#[tokio::test]
async fn request_for_another_host_is_421() {
    let (clay, loops) = (start_clay(ClayOptions::default()).await, start_loops().await);
    for (address, targets) in [
        (clay.address(), &["GET /rows", "POST /v3/sources/webhook/contacts"][..]),
        (loops.address(), &["GET /contacts", "GET /events", "GET /api/v1/api-key"]),
    ] {
        for target in targets {
            for (host, status) in [("Host: evil.example\r\n", "421"), ("", "400"), ("Host: a\r\nHost: a\r\n", "400")] {
                let request = format!("{target} HTTP/1.1\r\n{host}connection: close\r\ncontent-length: 0\r\n\r\n");
                let exchanged = tokio::task::spawn_blocking(move || exchange(address, request.as_bytes())).await;
                let response = exchanged.expect("no panic").expect("a response");
                assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{target} {host}: {response}");
            }
        }
    }
    assert_eq!(call(loops.address(), "GET /contacts", &[], "").await.status, 200);
}

#[test]
fn options_debug_output_has_no_secrets() {
    let clay = ClayOptions { auth_token: Some("clay-token".into()), ..ClayOptions::default() };
    let loops = LoopsOptions { api_key: "loops-key".into(), ..LoopsOptions::default() };
    let printed = format!("{clay:?} {loops:?}");
    assert!(!printed.contains("clay-token") && !printed.contains("loops-key"), "{printed}");
}
