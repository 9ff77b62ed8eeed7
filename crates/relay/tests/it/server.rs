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
    Answer(String),
    /// It is answered with these bytes, and nothing more is ever sent.
    AnswerThenSilence(String),
    /// It is answered with these bytes, and the connection is closed.
    AnswerThenClose(String),
    /// It is answered when as many connections have one as the barrier wants.
    Together(Arc<Barrier>),
    /// The connection is reset.
    Reset,
    /// It is closed without an answer.
    Close,
    /// There is no answer.
    Silence,
}

/// A whole answer.
pub(crate) fn answer(status: u16, headers: &str, body: &str) -> Step {
    Step::Answer(text(status, headers, body, body.len()))
}

/// An answer of which only half the body comes.
pub(crate) fn half(status: u16) -> String {
    text(status, "", r#"{"success":tr"#, 1000)
}

fn text(status: u16, headers: &str, body: &str, length: usize) -> String {
    format!("HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
}

#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    requests: Vec<String>,
}

/// The server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
}

impl Server {
    /// Starts one. A connection beyond the scripts, and one whose script is at its end, answers 200.
    pub(crate) async fn start<const N: usize>(scripts: [Vec<Step>; N]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Seen::default()));
        let shared = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut scripts = scripts.into_iter();
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                tokio::spawn(serve(stream, scripts.next().unwrap_or_default(), Arc::clone(&shared)));
            }
        });
        Self { address, seen }
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
        self.seen.lock().unwrap().connections
    }

    /// The first lines of the requests that were read.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.seen.lock().unwrap().requests.clone()
    }
}

async fn serve(stream: TcpStream, script: Vec<Step>, seen: Arc<Mutex<Seen>>) {
    let mut stream = BufReader::new(stream);
    let mut script = script.into_iter();
    while let Some(line) = request(&mut stream).await {
        seen.lock().unwrap().requests.push(line);
        let (bytes, after) = match script.next().unwrap_or_else(|| answer(200, "", "{}")) {
            Step::Answer(bytes) => (bytes, None),
            Step::AnswerThenSilence(bytes) => (bytes, Some(Step::Silence)),
            Step::AnswerThenClose(bytes) => (bytes, Some(Step::Close)),
            Step::Together(barrier) => {
                barrier.wait().await;
                (text(200, "", "{}", 2), None)
            }
            end => (String::new(), Some(end)),
        };
        let written = stream.get_mut().write_all(bytes.as_bytes()).await;
        match after {
            None if written.is_ok() => {}
            // A linger of zero turns the close into a reset.
            Some(Step::Reset) => return stream.get_ref().set_zero_linger().unwrap_or_default(),
            Some(Step::Silence) => std::future::pending().await,
            _ => return,
        }
    }
}

async fn request(stream: &mut BufReader<TcpStream>) -> Option<String> {
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
