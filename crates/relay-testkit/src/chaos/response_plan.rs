//! What a destination does with a request, and how it writes that to the connection.

use std::time::Duration;

use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::chaos::kinds::DestinationFault;
use crate::mock_destination::{reset_on_close, write_response};

/// Where a redirect leads.
pub(super) const REDIRECT_TARGET: &str = "/elsewhere";
/// Body of a success.
pub(super) const ACCEPTED_BODY: &str = r#"{"success":true,"id":"c1"}"#;
/// Body of a 429.
pub(super) const RATE_LIMITED_BODY: &str = r#"{"message":"rate limit"}"#;
/// Interval between the bytes of a slow body.
const DRIP_INTERVAL: Duration = Duration::from_millis(150);

/// Response to one request.
pub(super) enum ResponsePlan {
    Respond(u16, Vec<(&'static str, String)>, &'static str),
    Hang,
    Drip,
    TruncatedBody(u16),
    Reset,
}

impl ResponsePlan {
    /// Lets the caller meet it; nothing where the connection is no more.
    pub(super) async fn execute(self, stream: &mut BufReader<TcpStream>) -> Option<()> {
        match self {
            Self::Respond(status, headers, body) => write_response(stream, status, &headers, body, body.len()).await,
            Self::Hang => std::future::pending().await,
            Self::Drip => drip(stream).await,
            Self::TruncatedBody(status) => {
                let _ = write_response(stream, status, &[], "{\"success\":tr", 1000).await;
                None
            }
            Self::Reset => {
                reset_on_close(stream);
                None
            }
        }
    }
}

/// What becomes of a request that it does not even read.
pub(super) fn plan_without_reading(fault: DestinationFault, random: u64) -> Option<ResponsePlan> {
    let html = vec![("Content-Type", "text/html".to_owned())];
    match fault {
        DestinationFault::RateLimited => Some(rate_limited()),
        DestinationFault::RateLimitedRetryAfter => {
            let retry_after = ("Retry-After", (1 + random % 3).to_string());
            Some(ResponsePlan::Respond(429, vec![retry_after], RATE_LIMITED_BODY))
        }
        DestinationFault::ServerError => Some(ResponsePlan::Respond(500, Vec::new(), "{}")),
        DestinationFault::Hang => Some(ResponsePlan::Hang),
        DestinationFault::Reset => Some(ResponsePlan::Reset),
        DestinationFault::HtmlError => Some(ResponsePlan::Respond(502, html, "<html><body>Bad gateway</body></html>")),
        DestinationFault::Redirect => {
            let status = [301, 302, 303, 307, 308].get(pick_index(random, 5)).copied().unwrap_or(302);
            Some(ResponsePlan::Respond(status, vec![("Location", REDIRECT_TARGET.to_owned())], ""))
        }
        DestinationFault::TruncatedBody if random.is_multiple_of(2) => Some(ResponsePlan::TruncatedBody(500)),
        DestinationFault::TruncatedBody
        | DestinationFault::SlowBody
        | DestinationFault::AcceptThenReset
        | DestinationFault::RejectSome => None,
    }
}

pub(super) const fn rate_limited() -> ResponsePlan {
    ResponsePlan::Respond(429, Vec::new(), RATE_LIMITED_BODY)
}

/// Picks an index below `count`.
pub(super) fn pick_index(random: u64, count: usize) -> usize {
    let count = u64::try_from(count).unwrap_or(u64::MAX).max(1);
    usize::try_from(random % count).unwrap_or_default()
}

/// The status at once, the body in its own time.
async fn drip(stream: &mut BufReader<TcpStream>) -> Option<()> {
    write_response(stream, 200, &[("Content-Type", "application/json".to_owned())], "", ACCEPTED_BODY.len()).await?;
    for byte in ACCEPTED_BODY.bytes() {
        tokio::time::sleep(DRIP_INTERVAL).await;
        stream.get_mut().write_all(&[byte]).await.ok()?;
        stream.get_mut().flush().await.ok()?;
    }
    Some(())
}
