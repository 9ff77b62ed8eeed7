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
use crate::server::{Server, Step, answer};

/// As long as one try of a caller's row.
const A_TRY: Duration = Duration::from_secs(4);
/// The kernel drops what reaches a socket with this filter before TCP sees it: nothing is confirmed, nothing is reset.
const DROP_ALL: [SockFilter; 1] = [SockFilter::new(0x06, 0, 0, 0)];

/// How the connections of a road end that are open.
#[derive(Debug, Clone, Copy)]
enum End {
    /// They are closed, as an end does with who is idle.
    Closed,
    /// They are reset.
    Reset,
    /// They are forgotten, as an address translator does: what is sent arrives nowhere, and nobody says so.
    Forgotten,
    /// What is sent is confirmed, and goes no further, as with a proxy that hangs.
    Swallowed,
}

/// A connection that is open: the client's end of the road, and what carries its bytes on.
type Open = (Socket, JoinHandle<()>);

/// The road to a server.
#[derive(Debug)]
struct Road {
    address: SocketAddr,
    open: Arc<Mutex<Vec<Open>>>,
    /// What is kept open for the client's side alone.
    dead: Mutex<Vec<Socket>>,
}

impl Road {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(Vec::new()));
        let shared = Arc::clone(&open);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let near = stream.into_std().unwrap();
                let handle = near.try_clone().unwrap();
                let mut near = TcpStream::from_std(near).unwrap();
                let forwarding = tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.unwrap();
                    // However it ends, it has ended.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                });
                shared.lock().unwrap().push((handle, forwarding));
            }
        });
        Self { address, open, dead: Mutex::default() }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Ends every connection that is open; those that are opened from now on are well.
    async fn end(&self, how: End) {
        let open = std::mem::take(&mut *self.open.lock().unwrap());
        assert!(!open.is_empty(), "there is a connection to end");
        for (socket, forwarding) in open {
            match how {
                // A linger of zero turns the close into a reset.
                End::Reset => SockRef::from(&socket).set_linger(Some(Duration::ZERO)).unwrap(),
                End::Forgotten => SockRef::from(&socket).attach_filter(&DROP_ALL).unwrap(),
                End::Closed | End::Swallowed => {}
            }
            forwarding.abort();
            // The socket is closed when the last who has it lets it go.
            let _ = forwarding.await;
            if matches!(how, End::Forgotten | End::Swallowed) {
                self.dead.lock().unwrap().push(socket);
            }
        }
    }
}

async fn post(client: &HttpClient, road: &Road, timeout: Duration) -> DestinationResponse {
    send(client, &road.url(), b"{}".to_vec(), timeout).await
}

async fn send(client: &HttpClient, url: &str, row: Vec<u8>, timeout: Duration) -> DestinationResponse {
    client.send(client.request(http::Method::POST, url).body(row), timeout, now()).await
}

/// A client that has a connection to a server, and the road there.
async fn connected() -> (HttpClient, Road, Server) {
    connected_to(Server::start([]).await).await
}

async fn connected_to(server: Server) -> (HttpClient, Road, Server) {
    let (client, road) = (build().unwrap(), Road::to(server.address()).await);
    assert_eq!(post(&client, &road, A_TRY).await.outcome, CallOutcome::Answered(200));
    (client, road, server)
}

#[tokio::test]
async fn after_its_connection_was_closed_or_reset_a_request_is_answered_and_arrives_once() {
    for how in [End::Closed, End::Reset] {
        let (client, road, server) = connected().await;
        road.end(how).await;
        assert_eq!(post(&client, &road, A_TRY).await.outcome, CallOutcome::Answered(200), "{how:?}");
        assert_eq!((server.connections(), server.requests().len()), (2, 2), "{how:?}");
    }
}

#[tokio::test]
async fn after_its_connection_was_forgotten_on_the_way_a_request_is_answered_within_a_try_and_arrives_once() {
    let (client, road, server) = connected().await;
    road.end(End::Forgotten).await;
    let begun = Instant::now();
    assert_eq!(post(&client, &road, A_TRY).await.outcome, CallOutcome::Answered(200));
    assert!(begun.elapsed() < A_TRY);
    assert_eq!((server.connections(), server.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_large_row_is_answered_as_well_and_arrives_once() {
    for how in [End::Closed, End::Reset, End::Forgotten, End::Swallowed] {
        let (client, road, server) = connected().await;
        road.end(how).await;
        let answer = send(&client, &road.url(), vec![b'1'; relay::REQUEST_BYTES], A_TRY).await;
        assert_eq!(answer.outcome, CallOutcome::Answered(200), "{how:?}");
        assert_eq!((server.connections(), server.requests().len()), (2, 2), "{how:?}");
    }
}

#[tokio::test]
async fn the_search_for_a_connection_and_the_wait_for_an_answer_together_keep_the_time_of_a_try() {
    let server = Server::start([vec![answer(200, "", "")], vec![Step::Silence]]).await;
    let (client, road, server) = connected_to(server).await;
    road.end(End::Forgotten).await;
    let begun = Instant::now();
    assert_eq!(post(&client, &road, A_TRY).await.outcome, CallOutcome::TimedOut);
    assert!(begun.elapsed() < A_TRY + Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!((server.connections(), server.requests().len()), (2, 2));
}

#[tokio::test]
async fn what_was_confirmed_and_not_answered_may_have_arrived_and_is_not_sent_again() {
    let (client, road, server) = connected().await;
    road.end(End::Swallowed).await;
    assert_eq!(post(&client, &road, A_TRY).await.outcome, CallOutcome::TimedOut);
    assert_eq!(server.requests().len(), 1);
    assert_eq!(post(&client, &road, A_TRY).await.outcome, CallOutcome::Answered(200), "nobody else waits for it");
    assert_eq!((server.connections(), server.requests().len()), (2, 2));
}

#[tokio::test]
async fn a_time_that_is_shorter_than_the_wait_for_a_confirmation_is_kept() {
    let (client, road, server) = connected().await;
    road.end(End::Forgotten).await;
    let short = Duration::from_millis(300);
    assert_eq!(post(&client, &road, short).await.outcome, CallOutcome::TimedOut);
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn who_is_slow_in_reading_a_large_row_has_not_forgotten_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    // It has room for a small part of the row only, and reads nothing for longer than a confirmation is waited for.
    SockRef::from(&listener).set_recv_buffer_size(4096).unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let row = vec![b'1'; relay::REQUEST_BYTES];
    let slow = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::time::sleep(Duration::from_secs(3)).await;
        let (mut read, mut buffer) = (0, vec![0; 65_536]);
        while read < relay::REQUEST_BYTES {
            match stream.read(&mut buffer).await.unwrap() {
                0 => return false,
                more => read += more,
            }
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await.unwrap();
        // Nobody else is to come.
        tokio::time::timeout(Duration::from_millis(200), listener.accept()).await.is_err()
    });
    let answer = send(&build().unwrap(), &url, row, Duration::from_secs(10)).await;
    assert_eq!(answer.outcome, CallOutcome::Answered(200));
    assert!(slow.await.unwrap(), "it came once, and whole");
}
