//! A server on loopback whose every connection has its own script, and that counts its connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;

/// What a connection does with its next request.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// It is answered with these bytes.
    Respond(String),
    /// It is answered with these bytes, and nothing more is ever sent.
    RespondThenHang(String),
    /// It is answered with these bytes, and the connection is closed.
    RespondThenClose(String),
    /// It is answered when as many connections have one as the barrier wants.
    RespondTogether(Arc<Barrier>),
    /// The connection is reset.
    Reset,
    /// It is closed without an answer.
    Close,
    /// There is no answer.
    Hang,
}

/// A whole answer.
pub(crate) fn respond(status: u16, headers: &str, body: &str) -> Step {
    Step::Respond(http_response(status, headers, body, body.len()))
}

/// An answer of which only half the body comes.
pub(crate) fn truncated_response(status: u16) -> String {
    http_response(status, "", r#"{"success":tr"#, 1000)
}

fn http_response(status: u16, headers: &str, body: &str, length: usize) -> String {
    format!("HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

#[derive(Debug, Default)]
struct Observed {
    connections: usize,
    requests: Vec<String>,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    observed: Arc<Mutex<Observed>>,
}

impl Server {
    /// Starts one. A connection beyond the scripts, and one whose script is at its end, answers 200.
    pub(crate) async fn start<const N: usize>(scripts: [Vec<Step>; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let observed = Arc::new(Mutex::new(Observed::default()));
        let shared = Arc::clone(&observed);
        tokio::spawn(async move {
            let mut scripts = scripts.into_iter();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, scripts.next().unwrap_or_default(), Arc::clone(&shared)));
            }
        });
        Self { address, observed }
    }

    /// Its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Where it listens.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections were opened.
    pub(crate) fn connections(&self) -> usize {
        self.observed.lock().unwrap().connections
    }

    /// The first lines of the requests that were read.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.observed.lock().unwrap().requests.clone()
    }
}

async fn serve(stream: TcpStream, script: Vec<Step>, observed: Arc<Mutex<Observed>>) {
    let mut stream = BufReader::new(stream);
    let mut script = script.into_iter();
    while let Some(line) = read_request(&mut stream).await {
        observed.lock().unwrap().requests.push(line);
        let (bytes, then) = match script.next().unwrap_or_else(|| respond(200, "", "{}")) {
            Step::Respond(bytes) => (bytes, None),
            Step::RespondThenHang(bytes) => (bytes, Some(Step::Hang)),
            Step::RespondThenClose(bytes) => (bytes, Some(Step::Close)),
            Step::RespondTogether(barrier) => {
                barrier.wait().await;
                (http_response(200, "", "{}", 2), None)
            }
            step => (String::new(), Some(step)),
        };
        let written = stream.get_mut().write_all(bytes.as_bytes()).await;
        match then {
            None if written.is_ok() => {}
            // A linger of zero turns the close into a reset.
            Some(Step::Reset) => return stream.get_ref().set_zero_linger().unwrap_or_default(),
            Some(Step::Hang) => std::future::pending().await,
            _ => return,
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<String> {
    let (mut head, mut length) = (Vec::new(), 0);
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
        let line = line.trim_end().to_owned();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        head.push(line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    head.into_iter().next()
}
