//! A destination with scripted replies, which records its requests.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// Where Loops lists the properties of contacts. A relay asks for them in its own time.
const PROPERTIES_PATH: &str = "/v1/contacts/properties";
/// Where Loops names the team of a key. A relay asks for it once for each key.
const API_KEY_PATH: &str = "/v1/api-key";

/// Reply to one request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A response with status, headers and body.
    Respond(u16, Vec<(&'static str, String)>, String),
    /// No response.
    Hang,
    /// A reset of the connection before any response.
    Reset,
    /// A response with this status, whose body ends in the middle.
    TruncatedBody(u16),
    /// A 200, as soon as it is let through.
    Gated(Arc<Semaphore>),
    /// A 200, after which the connection dies silently, as a pooled one does in a frozen process.
    RespondThenReset,
}

impl Reply {
    /// Returns a JSON response.
    #[must_use]
    pub fn json(status: u16, body: &str) -> Self {
        Self::Respond(status, vec![("Content-Type", "application/json".to_owned())], body.to_owned())
    }

    /// Returns a response without a body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Respond(status, Vec::new(), String::new())
    }

    /// An HTML page, as an edge makes it.
    #[must_use]
    pub fn html(status: u16) -> Self {
        let page = "<html><body>Bad gateway</body></html>";
        Self::Respond(status, vec![("Content-Type", "text/html".to_owned())], page.to_owned())
    }

    /// Returns the reply with one more header.
    #[must_use]
    pub fn with_header(self, name: &'static str, value: &str) -> Self {
        match self {
            Self::Respond(status, mut headers, body) => {
                headers.push((name, value.to_owned()));
                Self::Respond(status, headers, body)
            }
            other => other,
        }
    }
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct ReceivedRequest {
    /// The method.
    pub method: String,
    /// The path.
    pub path: String,
    /// The headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
    /// When.
    pub received_at: Instant,
}

impl ReceivedRequest {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header, empty where there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

#[derive(Debug)]
struct Script {
    replies: VecDeque<Reply>,
    default_reply: Reply,
    received: Vec<ReceivedRequest>,
    /// Reply to requests for Loops' contact properties, and those requests.
    properties_reply: Reply,
    property_requests: Vec<ReceivedRequest>,
    /// Replies to requests for the team of a key, the reply after those, and the requests.
    team_replies: VecDeque<Reply>,
    team_reply: Reply,
    team_requests: Vec<ReceivedRequest>,
}

/// The destination.
#[derive(Debug)]
pub struct MockDestination {
    address: SocketAddr,
    script: Arc<Mutex<Script>>,
    connections: Arc<AtomicU64>,
    server: JoinHandle<()>,
}

/// The address of a destination that is down: connections to it are refused.
#[derive(Debug)]
pub struct UnusedPort {
    address: SocketAddr,
    socket: TcpSocket,
}

impl UnusedPort {
    /// Reserves an address: the port is bound, and not listened on.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "taking a port is not a default")]
    pub fn new() -> Self {
        let socket = TcpSocket::new_v4().unwrap_or_else(|error| panic!("{error}"));
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap_or_else(|error| panic!("{error}"));
        let address = socket.local_addr().unwrap_or_else(|error| panic!("{error}"));
        Self { address, socket }
    }

    /// Its URL, with a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Starts listening: every request gets `default_reply`.
    ///
    /// # Panics
    /// When it cannot listen.
    #[must_use]
    pub fn listen(self, default_reply: Reply) -> MockDestination {
        MockDestination::from_listener(self.socket.listen(64).unwrap_or_else(|error| panic!("{error}")), default_reply)
    }
}

impl Drop for MockDestination {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl MockDestination {
    /// Starts a destination that replies to everything with `default_reply`.
    ///
    /// # Panics
    /// When no port is free.
    pub async fn start(default_reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("{error}"));
        Self::from_listener(listener, default_reply)
    }

    fn from_listener(listener: TcpListener, default_reply: Reply) -> Self {
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let team_reply = match &default_reply {
            Reply::Respond(200, ..) => default_reply.clone(),
            _ => Reply::status(404),
        };
        let script = Arc::new(Mutex::new(Script {
            replies: VecDeque::new(),
            default_reply,
            received: Vec::new(),
            properties_reply: Reply::json(200, "[]"),
            property_requests: Vec::new(),
            team_replies: VecDeque::new(),
            team_reply,
            team_requests: Vec::new(),
        }));
        let shared = Arc::clone(&script);
        let connections = Arc::new(AtomicU64::new(0));
        let accepted = Arc::clone(&connections);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                accepted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(serve(stream, Arc::clone(&shared)));
            }
        });
        Self { address, script, connections, server }
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// Its URL, with a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Enqueues the replies to the next requests.
    pub fn enqueue_replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.lock().replies.extend(replies);
    }

    /// Sets the reply to all other requests.
    pub fn set_default_reply(&self, reply: Reply) {
        self.lock().default_reply = reply;
    }

    /// Returns the requests so far.
    #[must_use]
    pub fn received(&self) -> Vec<ReceivedRequest> {
        self.lock().received.clone()
    }

    /// Sets the reply to requests for Loops' contact properties, which is not part of the script.
    pub fn set_properties_reply(&self, reply: Reply) {
        self.lock().properties_reply = reply;
    }

    /// Returns the calls for Loops' contact properties so far. They are not among the [received](Self::received)
    /// requests.
    #[must_use]
    pub fn property_requests(&self) -> Vec<ReceivedRequest> {
        self.lock().property_requests.clone()
    }

    /// Enqueues the replies to the next requests for the team of a key, which are not part of the script.
    pub fn enqueue_team_replies(&self, replies: impl IntoIterator<Item = Reply>) {
        self.lock().team_replies.extend(replies);
    }

    /// Sets the reply to all other requests for the team of a key. At first it is the default reply, or a 404 if that is
    /// an error.
    pub fn set_team_reply(&self, reply: Reply) {
        self.lock().team_reply = reply;
    }

    /// Returns the requests for the team of a key so far. They are not among the [received](Self::received) requests.
    #[must_use]
    pub fn team_requests(&self) -> Vec<ReceivedRequest> {
        self.lock().team_requests.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Script> {
        self.script.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn serve(stream: TcpStream, script: Arc<Mutex<Script>>) {
    let mut stream = BufReader::new(stream);
    while let Some(received) = read_request(&mut stream).await {
        if received.method == "HEAD" {
            // A client that only opens a connection.
            if write_response(&mut stream, 200, &[], "", 0).await.is_none() {
                return;
            }
            continue;
        }
        if received.method == "GET" && [PROPERTIES_PATH, API_KEY_PATH].iter().any(|path| received.path.ends_with(path))
        {
            let reply = {
                let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
                if received.path.ends_with(PROPERTIES_PATH) {
                    script.property_requests.push(received);
                    script.properties_reply.clone()
                } else {
                    script.team_requests.push(received);
                    script.team_replies.pop_front().unwrap_or_else(|| script.team_reply.clone())
                }
            };
            // The connection ends with it, so that the first scripted call uses a new one, as without this request.
            match reply.with_header("Connection", "close") {
                Reply::Respond(status, headers, body) => {
                    let _ = write_response(&mut stream, status, &headers, &body, body.len()).await;
                }
                Reply::Hang => std::future::pending().await,
                _ => reset_on_close(&stream),
            }
            return;
        }
        let reply = {
            let mut script = script.lock().unwrap_or_else(PoisonError::into_inner);
            script.received.push(received);
            script.replies.pop_front().unwrap_or_else(|| script.default_reply.clone())
        };
        let written = match reply {
            Reply::Respond(status, headers, body) => {
                write_response(&mut stream, status, &headers, &body, body.len()).await
            }
            Reply::Gated(gate) => {
                let _permit = gate.acquire().await;
                write_response(&mut stream, 200, &[], "{}", 2).await
            }
            Reply::Hang => std::future::pending().await,
            Reply::Reset => return reset_on_close(&stream),
            Reply::TruncatedBody(status) => {
                let _ = write_response(&mut stream, status, &[], "{\"success\":tr", 1000).await;
                return;
            }
            Reply::RespondThenReset => {
                let _ = write_response(&mut stream, 200, &[], "{}", 2).await;
                // The next request on this connection stays unread: it is reset.
                let _ = stream.fill_buf().await;
                return reset_on_close(&stream);
            }
        };
        if written.is_none() {
            return;
        }
    }
}

/// Makes the end of a connection a reset.
pub(crate) fn reset_on_close(stream: &BufReader<TcpStream>) {
    // A linger of zero turns the close into a reset.
    let _ = stream.get_ref().set_zero_linger();
}

/// Writes a response with this `Content-Length`; `None` if the connection is gone.
pub(crate) async fn write_response(
    stream: &mut BufReader<TcpStream>,
    status: u16,
    headers: &[(&str, String)],
    body: &str,
    length: usize,
) -> Option<()> {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("HTTP/1.1 {status} Status\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
    stream.get_mut().write_all(text.as_bytes()).await.ok()?;
    stream.get_mut().flush().await.ok()
}

/// Reads a request; nothing where there is no other.
pub(crate) async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<ReceivedRequest> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|read| *read > 0)?;
    let mut parts = line.split_whitespace();
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else {
            break;
        };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    Some(ReceivedRequest { method, path, headers, body, received_at: Instant::now() })
}
