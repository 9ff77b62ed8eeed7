//! What is between the relay and somebody whom it calls: connections go through it, and die as told while the relay does not
//! look.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How a connection dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It is closed in good order.
    Closed,
    /// It is reset.
    Reset,
    /// It stays open, takes what is sent to it, and answers nothing any more.
    Swallowed,
    /// It is forgotten: what is sent to it gets lost on its way, and nobody says so.
    Lost,
}

impl Cut {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Reset, Self::Swallowed, Self::Lost];
}

/// After what time an answer has been read by whoever waited for it.
const READ_BY_THEN: Duration = Duration::from_millis(300);

/// The wire to one place.
#[derive(Debug)]
pub struct Wire {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Shared {
    connections: Mutex<Vec<Connection>>,
    /// How many bytes were answered.
    answered: AtomicUsize,
    /// How many bytes went into connections that were dead.
    swallowed: AtomicUsize,
}

#[derive(Debug)]
struct Connection {
    cut: watch::Sender<Option<Cut>>,
    last: Arc<Mutex<Last>>,
}

/// What was last to be seen on a connection.
#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    is_answer: bool,
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Wire {
    /// A wire to a place, `http://…`.
    ///
    /// # Panics
    /// When there is no port, or the place is none.
    pub async fn to(url: &str) -> Self {
        let place = url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let place: SocketAddr = place.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let shared = Arc::new(Shared::default());
        let of_server = Arc::clone(&shared);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (cut, told) = watch::channel(None);
                let last = Arc::new(Mutex::new(Last { at: Instant::now(), is_answer: false }));
                let connection = Connection { cut, last: Arc::clone(&last) };
                of_server.lock().push(connection);
                tokio::spawn(carry(stream, place, told, last, Arc::clone(&of_server)));
            }
        });
        Self { address, shared, server }
    }

    /// Its URL, with a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Lets every connection that is there die; how many there were. Those to come are well.
    pub fn cut(&self, cut: Cut) -> usize {
        self.cut_where(cut, |_| true)
    }

    /// The same for those on which nothing is under way: everything was answered, and long enough ago to have been read.
    pub fn cut_idle(&self, cut: Cut) -> usize {
        self.cut_where(cut, |last| last.is_answer && last.at.elapsed() > READ_BY_THEN)
    }

    fn cut_where(&self, cut: Cut, may: impl Fn(Last) -> bool) -> usize {
        let mut connections = self.shared.lock();
        connections.retain(|connection| connection.cut.receiver_count() > 0);
        let is_chosen = |connection: &Connection| {
            connection.cut.borrow().is_none() && may(*connection.last.lock().unwrap_or_else(PoisonError::into_inner))
        };
        let chosen: Vec<&Connection> = connections.iter().filter(|each| is_chosen(each)).collect();
        for connection in &chosen {
            connection.cut.send_replace(Some(cut));
        }
        chosen.len()
    }

    /// How many bytes were answered so far.
    #[must_use]
    pub fn answered(&self) -> usize {
        self.shared.answered.load(Ordering::Relaxed)
    }

    /// How many bytes were sent into connections that answer nothing any more.
    #[must_use]
    pub fn swallowed(&self) -> usize {
        self.shared.swallowed.load(Ordering::Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Connection>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn carry(
    mut near: TcpStream,
    place: SocketAddr,
    mut told: watch::Receiver<Option<Cut>>,
    last: Arc<Mutex<Last>>,
    shared: Arc<Shared>,
) {
    let Ok(mut far) = TcpStream::connect(place).await else { return };
    let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    let note = |is_answer| {
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Last { at: Instant::now(), is_answer };
    };
    let cut = loop {
        tokio::select! {
            biased;
            _ = told.changed() => break *told.borrow(),
            read = near.read(&mut asked) => match read {
                Ok(read @ 1..) => {
                    note(false);
                    if far.write_all(&asked[..read]).await.is_err() {
                        return;
                    }
                }
                _ => return,
            },
            read = far.read(&mut answered) => match read {
                Ok(read @ 1..) => {
                    note(true);
                    if near.write_all(&answered[..read]).await.is_err() {
                        return;
                    }
                    shared.answered.fetch_add(read, Ordering::Relaxed);
                }
                // As the other side ended it.
                Ok(0) => return,
                Err(_) => {
                    let _ = near.set_zero_linger();
                    return;
                }
            },
        }
    };
    drop(far);
    match cut {
        None | Some(Cut::Closed) => {}
        Some(Cut::Reset) => {
            let _ = near.set_zero_linger();
        }
        Some(Cut::Swallowed) => {
            while let Ok(read @ 1..) = near.read(&mut asked).await {
                shared.swallowed.fetch_add(read, Ordering::Relaxed);
            }
        }
        Some(Cut::Lost) => {
            lose_what_comes(&near);
            std::future::pending::<()>().await;
        }
    }
}

/// A program of the kernel's packet filter keeps nothing of a packet ("return 0"), also not to confirm it.
#[cfg(target_os = "linux")]
fn lose_what_comes(stream: &TcpStream) {
    let keep_nothing = [socket2::SockFilter::new(0x06, 0, 0, 0)];
    socket2::SockRef::from(stream).attach_filter(&keep_nothing).unwrap_or_else(|error| panic!("{error}"));
}

#[cfg(not(target_os = "linux"))]
fn lose_what_comes(_: &TcpStream) {
    panic!("packets are lost on Linux only: run this test there");
}
