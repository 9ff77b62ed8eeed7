//! A Clay that takes every row, and counts rows and connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A running Clay. It ends with the runtime.
#[derive(Debug, Clone)]
pub(crate) struct Clay {
    address: SocketAddr,
    rows: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Clay {
    /// Starts it on a free port of the loopback.
    pub(crate) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let clay = Self { address: listener.local_addr()?, rows: Arc::default(), connections: Arc::default() };
        let (rows, connections) = (Arc::clone(&clay.rows), Arc::clone(&clay.connections));
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                connections.fetch_add(1, Ordering::SeqCst);
                // A connection that breaks is the relay's to open again, which is counted.
                tokio::spawn(take_rows(connection, Arc::clone(&rows)));
            }
        });
        Ok(clay)
    }

    /// The URL of its webhook.
    pub(crate) fn webhook_url(&self) -> String {
        format!("http://{}/v3/sources/webhook/benchmark", self.address)
    }

    /// How many rows it has taken.
    pub(crate) fn rows(&self) -> usize {
        self.rows.load(Ordering::SeqCst)
    }

    /// How many connections were opened to it.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn take_rows(connection: TcpStream, rows: Arc<AtomicUsize>) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    loop {
        let (mut line, mut body_bytes) = (String::new(), 0);
        // The head ends with a blank line.
        while line != "\r\n" {
            line.clear();
            if connection.read_line(&mut line).await? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(length) = lower.strip_prefix("content-length:") {
                body_bytes = length.trim().parse().map_err(io::Error::other)?;
            }
        }
        let mut body = vec![0; body_bytes];
        connection.read_exact(&mut body).await?;
        rows.fetch_add(1, Ordering::SeqCst);
        connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").await?;
    }
}
