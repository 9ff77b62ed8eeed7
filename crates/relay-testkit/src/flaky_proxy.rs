//! A proxy between the relay and a server it calls, whose connections can be made to fail while the relay is frozen.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a connection fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disconnect {
    /// It is closed in good order.
    Closed,
    /// It is reset.
    Reset,
    /// It stays open and accepts bytes, but no response comes any more.
    Blackholed,
    /// Its packets are dropped, without a reset.
    PacketsDropped,
}

impl Disconnect {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Reset, Self::Blackholed, Self::PacketsDropped];
}

/// Time after which a response counts as read by its client.
const READ_GRACE: Duration = Duration::from_millis(300);

/// The proxy of one server.
#[derive(Debug)]
pub struct FlakyProxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: Mutex<Vec<Connection>>,
    /// Bytes of responses.
    response_bytes: AtomicUsize,
    /// How many bytes went into connections that were dead.
    blackholed_bytes: AtomicUsize,
}

#[derive(Debug)]
struct Connection {
    disconnect: watch::Sender<Option<Disconnect>>,
    last_activity: Arc<Mutex<Activity>>,
}

/// The last direction of traffic on a connection.
#[derive(Debug, Clone, Copy)]
struct Activity {
    at: Instant,
    is_response: bool,
}

impl Drop for FlakyProxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl FlakyProxy {
    /// Starts a proxy of a URL, `http://…`.
    ///
    /// # Panics
    /// When no port is free, or the URL is invalid.
    pub async fn start(url: &str) -> Self {
        let authority = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let target: SocketAddr = authority.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let shared = Arc::new(Shared::default());
        let server_shared = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (disconnect, disconnect_receiver) = watch::channel(None);
                let last_activity = Arc::new(Mutex::new(Activity { at: Instant::now(), is_response: false }));
                let connection = Connection { disconnect, last_activity: Arc::clone(&last_activity) };
                server_shared.lock().push(connection);
                tokio::spawn(forward(stream, target, disconnect_receiver, last_activity, Arc::clone(&server_shared)));
            }
        });
        Self { address, shared, server }
    }

    /// Its URL, with a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Makes every open connection fail, and returns their number. New connections work.
    pub fn disconnect(&self, kind: Disconnect) -> usize {
        self.disconnect_where(kind, |_| true)
    }

    /// Makes every idle connection fail: those whose responses have all been read.
    pub fn disconnect_idle(&self, kind: Disconnect) -> usize {
        self.disconnect_where(kind, |last| last.is_response && last.at.elapsed() > READ_GRACE)
    }

    fn disconnect_where(&self, kind: Disconnect, predicate: impl Fn(Activity) -> bool) -> usize {
        let mut connections = self.shared.lock();
        connections.retain(|connection| connection.disconnect.receiver_count() > 0);
        let is_selected = |connection: &Connection| {
            connection.disconnect.borrow().is_none()
                && predicate(*connection.last_activity.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let selected: Vec<&Connection> = connections.iter().filter(|each| is_selected(each)).collect();
        for connection in &selected {
            connection.disconnect.send_replace(Some(kind));
        }
        selected.len()
    }

    /// Returns the bytes of responses so far.
    #[must_use]
    pub fn response_bytes(&self) -> usize {
        self.shared.response_bytes.load(Ordering::Relaxed)
    }

    /// Returns the bytes that were sent into blackholed connections.
    #[must_use]
    pub fn blackholed_bytes(&self) -> usize {
        self.shared.blackholed_bytes.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn forward(
    mut client: TcpStream,
    target: SocketAddr,
    mut disconnect: watch::Receiver<Option<Disconnect>>,
    last_activity: Arc<Mutex<Activity>>,
    shared: Arc<Shared>,
) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut request_buffer, mut response_buffer) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let record_activity = |is_response| {
        *last_activity.lock().unwrap_or_else(PoisonError::into_inner) = Activity { at: Instant::now(), is_response };
    };
    let kind = loop {
        tokio::select! {
            biased;
            _ = disconnect.changed() => break *disconnect.borrow(),
            read = client.read(&mut request_buffer) => match read {
                Ok(read @ 1..) => {
                    record_activity(false);
                    if server.write_all(&request_buffer[..read]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = server.read(&mut response_buffer) => match read {
                Ok(read @ 1..) => {
                    record_activity(true);
                    if client.write_all(&response_buffer[..read]).await.is_err() {
                        return;
                    }
                    shared.response_bytes.fetch_add(read, Ordering::Relaxed);
                }
                // As the other side ended it.
                Ok(0) => return,
                Err(_) => {
                    let _ = client.set_zero_linger();
                    return;
                }
            },
        }
    };
    drop(server);
    match kind {
        None | Some(Disconnect::Closed) => {}
        Some(Disconnect::Reset) => {
            let _ = client.set_zero_linger();
        }
        Some(Disconnect::Blackholed) => {
            while let Ok(read @ 1..) = client.read(&mut request_buffer).await {
                shared.blackholed_bytes.fetch_add(read, Ordering::Relaxed);
            }
        }
        Some(Disconnect::PacketsDropped) => {
            drop_packets(&client);
            std::future::pending::<()>().await;
        }
    }
}

/// Attaches a packet filter that drops every packet ("return 0"), so that none is acknowledged.
#[cfg(target_os = "linux")]
fn drop_packets(stream: &TcpStream) {
    let drop_all_filter = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    socket2::SockRef::from(stream).attach_filter(&drop_all_filter).unwrap_or_else(|error| panic!("{error}"));
}

#[cfg(not(target_os = "linux"))]
fn drop_packets(_: &TcpStream) {
    panic!("packets are lost on Linux only: run this test there");
}
