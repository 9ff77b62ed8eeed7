//! What an end that ails does with a request, and how that looks on the wire.

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::chaos::kinds::Ailment;
use crate::mock_destination::{reset, write};

/// Where a redirect leads.
pub(super) const ELSEWHERE: &str = "/elsewhere";
/// What both answer when they take something.
pub(super) const TAKEN: &str = r#"{"success":true,"id":"c1"}"#;
/// What both answer when they have no room.
pub(super) const FULL: &str = r#"{"message":"rate limit"}"#;
/// How often a byte of a dripping answer comes.
const DRIP_EVERY: Duration = Duration::from_millis(150);

/// What is done with a request.
pub(super) enum Fate {
    Answer(u16, Vec<(&'static str, String)>, &'static str),
    Hang,
    Drip,
    BreakOff(u16),
    Reset,
}

impl Fate {
    /// Lets the caller meet it; nothing where the connection is no more.
    pub(super) async fn meet(self, stream: &mut BufReader<TcpStream>) -> Option<()> {
        match self {
            Self::Answer(status, headers, body) => write(stream, status, &headers, body, body.len()).await,
            Self::Hang => std::future::pending().await,
            Self::Drip => drip(stream).await,
            Self::BreakOff(status) => {
                let _ = write(stream, status, &[], "{\"success\":tr", 1000).await;
                None
            }
            Self::Reset => {
                reset(stream);
                None
            }
        }
    }
}

/// What becomes of a request that it does not even read.
pub(super) fn without_reading(ailment: Ailment, chance: u64) -> Option<Fate> {
    let html = vec![("Content-Type", "text/html".to_owned())];
    match ailment {
        Ailment::Full => Some(full()),
        Ailment::FullFor => {
            let after = ("Retry-After", (1 + chance % 3).to_string());
            Some(Fate::Answer(429, vec![after], FULL))
        }
        Ailment::Fails => Some(Fate::Answer(500, Vec::new(), "{}")),
        Ailment::Hangs => Some(Fate::Hang),
        Ailment::Resets => Some(Fate::Reset),
        Ailment::Html => Some(Fate::Answer(502, html, "<html><body>Bad gateway</body></html>")),
        Ailment::Redirects => {
            let status = [301, 302, 303, 307, 308].get(pick(chance, 5)).copied().unwrap_or(302);
            Some(Fate::Answer(status, vec![("Location", ELSEWHERE.to_owned())], ""))
        }
        Ailment::BreaksOff if chance.is_multiple_of(2) => Some(Fate::BreakOff(500)),
        Ailment::BreaksOff | Ailment::Drips | Ailment::TakesThenResets | Ailment::Refuses => None,
    }
}

pub(super) const fn full() -> Fate {
    Fate::Answer(429, Vec::new(), FULL)
}

/// One of so many, by chance.
pub(super) fn pick(chance: u64, of: usize) -> usize {
    let of = u64::try_from(of).unwrap_or(u64::MAX).max(1);
    usize::try_from(chance % of).unwrap_or_default()
}

/// The status at once, the body in its own time.
async fn drip(stream: &mut BufReader<TcpStream>) -> Option<()> {
    write(stream, 200, &[("Content-Type", "application/json".to_owned())], "", TAKEN.len()).await?;
    for byte in TAKEN.bytes() {
        tokio::time::sleep(DRIP_EVERY).await;
        stream.get_mut().write_all(&[byte]).await.ok()?;
        stream.get_mut().flush().await.ok()?;
    }
    Some(())
}
