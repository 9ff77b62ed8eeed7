//! The simulators over real sockets, by a client of a few lines that hides nothing.

mod accepts_clean_rows;
mod clay;
mod events;
mod loops_account;
mod loops_contacts;
mod loops_events;

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

/// A team without a rate limit worth the name, for tests about something else.
async fn start_loops() -> Loops {
    let options = LoopsOptions { per_second: 10_000, ..LoopsOptions::default() };
    Loops::start(listener().await, options).await.expect("an address")
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Answer {
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

/// One request on a connection of its own. `line` is the method and the target.
async fn call(to: SocketAddr, line: &str, headers: &[(&str, &str)], body: impl AsRef<[u8]>) -> Answer {
    let body = body.as_ref();
    let mut request =
        format!("{line} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut request = format!("{request}\r\n").into_bytes();
    request.extend_from_slice(body);
    let answer = tokio::task::spawn_blocking(move || exchange(to, &request)).await;
    parse(&answer.expect("no panic").expect("an answer"))
}

fn exchange(to: SocketAddr, request: &[u8]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(to)?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    stream.write_all(request)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn parse(answer: &str) -> Answer {
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
    let headers =
        lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name.to_lowercase(), value.to_owned()));
    Answer { status: status.parse().expect("a number"), headers: headers.collect(), body: body.to_owned() }
}

/// What a simulated team wants to see.
const KEY: (&str, &str) = ("authorization", "Bearer simulated");

async fn get(loops: &Loops, target: &str) -> Answer {
    call(loops.address(), &format!("GET /api/v1/{target}"), &[KEY], "").await
}

async fn update(loops: &Loops, body: Value) -> Answer {
    call(loops.address(), "PUT /api/v1/contacts/update", &[KEY], body.to_string()).await
}

async fn create(loops: &Loops, body: Value) -> Answer {
    call(loops.address(), "POST /api/v1/contacts/create", &[KEY], body.to_string()).await
}

async fn send(loops: &Loops, body: Value, idempotency_key: Option<&str>) -> Answer {
    let mut headers = vec![KEY];
    headers.extend(idempotency_key.map(|key| ("idempotency-key", key)));
    call(loops.address(), "POST /api/v1/events/send", &headers, body.to_string()).await
}

#[tokio::test]
async fn a_dropped_simulator_takes_no_more_connections() {
    let clay = start_clay(ClayOptions::default()).await;
    let address = clay.address();
    assert_eq!(call(address, "GET /", &[], "").await.status, 200);
    drop(clay);
    let gone = async {
        while TcpStream::connect(address).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the port to be closed");
}

#[test]
fn options_print_no_secret() {
    let clay = ClayOptions { auth_token: Some("clay-token".to_owned()), ..ClayOptions::default() };
    let loops = LoopsOptions { api_key: "loops-key".to_owned(), ..LoopsOptions::default() };
    let printed = format!("{clay:?} {loops:?}");
    assert!(!printed.contains("clay-token") && !printed.contains("loops-key"), "{printed}");
}
