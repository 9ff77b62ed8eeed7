//! The load: callers that each keep one connection, and send the next request as soon as the last one is answered.
//!
//! One thread drives all of them with bytes that are ready to be sent, so that a second core is left to the server.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::traffic::requests::Requests;

/// What a run has shown.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// How long each answer took, the shortest first.
    pub(crate) latencies: Vec<Duration>,
}

impl Outcome {
    /// Answers a second.
    pub(crate) fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this percentage of the answers did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.latencies.len() * percent).div_ceil(100).max(1);
        self.latencies.get(rank - 1).copied().unwrap_or_default()
    }
}

/// Sends requests until the time is over or none is left. Every answer must have the expected status.
pub(crate) async fn drive(
    address: SocketAddr,
    callers: usize,
    requests: &Requests,
    expected_status: u16,
    duration: Duration,
) -> io::Result<Outcome> {
    let mut connections = Vec::new();
    for _ in 0..callers {
        let connection = TcpStream::connect(address).await?;
        connection.set_nodelay(true)?;
        connections.push(connection);
    }
    let started_at = Instant::now();
    let until = started_at + duration;
    let calls = connections.into_iter().map(|connection| call(connection, requests, expected_status, until));
    let mut latencies = try_join_all(calls).await?.concat();
    let elapsed = started_at.elapsed();
    latencies.sort_unstable();
    Ok(Outcome { elapsed, latencies })
}

/// Asks for a path. The answer must be 200.
pub(crate) async fn get(address: SocketAddr, path: &str) -> io::Result<()> {
    let mut connection = TcpStream::connect(address).await?;
    connection.write_all(format!("GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").as_bytes()).await?;
    match receive(&mut connection, &mut Vec::new()).await? {
        200 => Ok(()),
        status => Err(io::Error::other(format!("{path} is answered {status}"))),
    }
}

/// One caller. Returns how long each answer took.
async fn call(
    mut connection: TcpStream,
    requests: &Requests,
    expected_status: u16,
    until: Instant,
) -> io::Result<Vec<Duration>> {
    let (mut latencies, mut response) = (Vec::new(), Vec::with_capacity(4096));
    while Instant::now() < until
        && let Some(request) = requests.take()
    {
        let sent_at = Instant::now();
        connection.write_all(request).await?;
        let status = receive(&mut connection, &mut response).await?;
        latencies.push(sent_at.elapsed());
        if status != expected_status {
            return Err(io::Error::other(format!("not {expected_status}: {}", String::from_utf8_lossy(&response))));
        }
    }
    Ok(latencies)
}

/// Reads one response, and returns its status.
async fn receive(connection: &mut TcpStream, response: &mut Vec<u8>) -> io::Result<u16> {
    response.clear();
    loop {
        if connection.read_buf(response).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(status) = status_if_complete(response)? {
            return Ok(status);
        }
    }
}

/// Returns the status of a response if all of it is there. It must say how long its body is.
fn status_if_complete(response: &[u8]) -> io::Result<Option<u16>> {
    const BLANK_LINE: &[u8] = b"\r\n\r\n";
    let Some(head_end) = response.windows(BLANK_LINE.len()).position(|bytes| bytes == BLANK_LINE) else {
        return Ok(None);
    };
    let head = String::from_utf8_lossy(&response[..head_end]);
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let body_bytes = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    let (Some(status), Some(body_bytes)) = (status, body_bytes) else {
        return Err(io::Error::other(format!("this response has no status or no length: {head}")));
    };
    Ok((response.len() >= head_end + BLANK_LINE.len() + body_bytes).then_some(status))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_is_complete_once_its_body_is() {
        let response = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\n{}";
        assert_eq!(status_if_complete(response).unwrap(), Some(202));
        for cut in 0..response.len() {
            assert_eq!(status_if_complete(&response[..cut]).unwrap(), None);
        }
        assert!(status_if_complete(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
    }

    #[test]
    fn percentile_is_the_latency_that_so_many_did_not_exceed() {
        let latencies = (1..=200).map(Duration::from_millis).collect();
        let outcome = Outcome { elapsed: Duration::from_secs(2), latencies };
        assert_eq!(outcome.percentile(50), Duration::from_millis(100));
        assert_eq!(outcome.percentile(99), Duration::from_millis(198));
        assert!((outcome.per_second() - 100.0).abs() < f64::EPSILON);
    }
}
