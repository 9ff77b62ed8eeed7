//! Connections that die while nobody uses them, as those of a frozen process do: closed, reset, or forgotten by something
//! on the way, which then confirms nothing and answers nothing.

use std::net::{SocketAddr, TcpStream as Socket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relay::destination::http_client::{DestinationResponse, HttpClient, build};
use relay_core::policy::response::CallOutcome;
use socket2::{SockFilter, SockRef};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::harness::now;
use crate::http_client::server::{Server, Step, respond};

/// As long as one try of a caller's row.
const TRY_TIMEOUT: Duration = Duration::from_secs(4);
/// The kernel drops what reaches a socket with this filter before TCP sees it: nothing is confirmed, nothing is reset.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// How the connections of a road end that are open.
#[derive(Debug, Clone, Copy)]
enum Disconnect {
    /// They are closed, as an end does with who is idle.
    Closed,
    /// They are reset.
    Reset,
    /// They are forgotten, as an address translator does: what is sent arrives nowhere, and nobody says so.
    SilentlyDropped,
    /// What is sent is confirmed, and goes no further, as with a proxy that hangs.
    AcknowledgedOnly,
}

/// A connection that is open: the client's end of the road, and what carries its bytes on.
type OpenConnection = (Socket, JoinHandle<()>);

/// The road to a server.
#[derive(Debug)]
struct FlakyProxy {
    address: SocketAddr,
    open: Arc<Mutex<Vec<OpenConnection>>>,
    /// What is kept open for the client's side alone.
    held_open: Mutex<Vec<Socket>>,
}

impl FlakyProxy {
    async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let client_side = stream.into_std().unwrap();
                let handle = client_side.try_clone().unwrap();
                let mut client_side = TcpStream::from_std(client_side).unwrap();
                let forwarding = tokio::spawn(async move {
                    let mut server_side = TcpStream::connect(server).await.unwrap();
                    // However it ends, it has ended.
                    let _ = copy_bidirectional(&mut client_side, &mut server_side).await;
                });
                shared.lock().unwrap().push((handle, forwarding));
            }
        });
        Self { address, open, held_open: Mutex::default() }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Ends every connection that is open; those that are opened from now on are well.
    async fn disconnect(&self, kind: Disconnect) {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        assert!(!open.is_empty(), "there is a connection to end");
        for (socket, forwarding) in open {
            match kind {
                // A linger of zero turns the close into a reset.
                Disconnect::Reset => SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap(),
                Disconnect::SilentlyDropped => SockRef::from(&socket).attach_filter(&DROP_ALL).unwrap(),
                Disconnect::Closed | Disconnect::AcknowledgedOnly => {}
            }
            forwarding.abort();
            // The socket is closed when the last who has it lets it go.
            let _ = forwarding.await;
            if matches!(kind, Disconnect::SilentlyDropped | Disconnect::AcknowledgedOnly) {
                self.held_open.lock().unwrap().push(socket);
            }
        }
    }
}

async fn post(client: &HttpClient, proxy: &FlakyProxy, timeout: Duration) -> DestinationResponse {
    send(client, &proxy.url(), b"{}".to_vec(), timeout).await
}

async fn send(client: &HttpClient, url: &str, row: Vec<u8>, timeout: Duration) -> DestinationResponse {
    client.send(client.request(http::Method::POST, url).body(row), timeout, now()).await
}

/// A client that has a connection to a server, and the road there.
async fn connected() -> (HttpClient, FlakyProxy, Server) {
    connected_to(Server::start([]).await).await
}

async fn connected_to(server: Server) -> (HttpClient, FlakyProxy, Server) {
    let (client, proxy) = (build().unwrap(), FlakyProxy::start(server.address()).await);
    assert_eq!(post(&client, &proxy, TRY_TIMEOUT).await.outcome, CallOutcome::Responded(200));
    (client, proxy, server)
}

#[tokio::test]
async fn closed_or_reset_connection_is_replaced_and_sent_once() {
    for kind in [Disconnect::Closed, Disconnect::Reset] {
        let (client, proxy, server) = connected().await;
        proxy.disconnect(kind).await;
        assert_eq!(post(&client, &proxy, TRY_TIMEOUT).await.outcome, CallOutcome::Responded(200), "{kind:?}");
        assert_eq!((server.connections(), server.requests().len()), (2, 2), "{kind:?}");
    }
}

#[tokio::test]
async fn silently_dropped_connection_is_replaced_within_one_try() {
    let (client, proxy, server) = connected().await;
    proxy.disconnect(Disconnect::SilentlyDropped).await;
    let started_at = Instant::now();
    assert_eq!(post(&client, &proxy, TRY_TIMEOUT).await.outcome, CallOutcome::Responded(200));
    assert!(started_at.elapsed() < TRY_TIMEOUT);
    assert_eq!((server.connections(), server.requests().len()), (2, 2));
}

#[tokio::test]
async fn large_row_survives_dead_connection_and_arrives_once() {
    for kind in [Disconnect::Closed, Disconnect::Reset, Disconnect::SilentlyDropped, Disconnect::AcknowledgedOnly] {
        let (client, proxy, server) = connected().await;
        proxy.disconnect(kind).await;
        let response = send(&client, &proxy.url(), vec![b'1'; relay::routes::MAX_REQUEST_BYTES], TRY_TIMEOUT).await;
        assert_eq!(response.outcome, CallOutcome::Responded(200), "{kind:?}");
        assert_eq!((server.connections(), server.requests().len()), (2, 2), "{kind:?}");
    }
}

#[tokio::test]
async fn reconnect_and_response_share_one_timeout() {
    let server = Server::start([vec![respond(200, "", "")], vec![Step::Hang]]).await;
    let (client, proxy, server) = connected_to(server).await;
    proxy.disconnect(Disconnect::SilentlyDropped).await;
    let started_at = Instant::now();
    assert_eq!(post(&client, &proxy, TRY_TIMEOUT).await.outcome, CallOutcome::TimedOut);
    assert!(started_at.elapsed() < TRY_TIMEOUT + Duration::from_secs(1), "{:?}", started_at.elapsed());
    assert_eq!((server.connections(), server.requests().len()), (2, 2));
}

#[tokio::test]
async fn acknowledged_but_unanswered_request_is_not_resent() {
    let (client, proxy, server) = connected().await;
    proxy.disconnect(Disconnect::AcknowledgedOnly).await;
    assert_eq!(post(&client, &proxy, TRY_TIMEOUT).await.outcome, CallOutcome::TimedOut);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(
        post(&client, &proxy, TRY_TIMEOUT).await.outcome,
        CallOutcome::Responded(200),
        "nobody else waits for it"
    );
    assert_eq!((server.connections(), server.requests().len()), (2, 2));
}

#[tokio::test]
async fn timeout_shorter_than_tcp_user_timeout_is_kept() {
    let (client, proxy, server) = connected().await;
    proxy.disconnect(Disconnect::SilentlyDropped).await;
    let short = Duration::from_millis(300);
    assert_eq!(post(&client, &proxy, short).await.outcome, CallOutcome::TimedOut);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn slow_reader_of_large_row_is_not_a_dead_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // It has room for a small part of the row only, and reads nothing for longer than a confirmation is waited for.
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let row = vec![b'1'; relay::routes::MAX_REQUEST_BYTES];
    let slow_server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (mut read, mut buffer) = (0, vec![0; 65_536]);
        while read < relay::routes::MAX_REQUEST_BYTES {
            match stream.read(&mut buffer).await.unwrap() {
                0 => return false,
                count => read += count,
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        // Nobody else is to come.
        tokio::time::timeout(Duration::from_millis(200), listener.accept()).await.is_err()
    });
    let response = send(&build().unwrap(), &url, row, Duration::from_secs(10)).await;
    assert_eq!(response.outcome, CallOutcome::Responded(200));
    assert!(slow_server.await.unwrap(), "it came once, and whole");
}
