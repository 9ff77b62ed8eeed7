//! A limit for the log lines of refused requests, because anybody can cause them. Metrics count every one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use relay_core::error::ErrorCode;
use tracing::warn;

/// Maximum number of lines with one code in a window: a flood of wrong tokens must not hide that the store is full.
const MAX_LINES: u32 = 10;
/// A window begins with its first line.
const WINDOW: Duration = Duration::from_secs(1);

/// How many requests were refused in the window, by code.
#[derive(Debug, Clone, Default)]
pub(crate) struct RefusalLines(Arc<Mutex<BTreeMap<ErrorCode, u32>>>);

impl RefusalLines {
    /// Returns whether a refusal gets a line of its own. If it does not, a line at the end of the window counts it.
    pub(crate) fn admit(&self, code: ErrorCode) -> bool {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if refused.is_empty() {
            let lines = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(WINDOW).await;
                lines.close_window();
            });
        }
        let count = refused.entry(code).or_default();
        *count = count.saturating_add(1);
        *count <= MAX_LINES
    }

    fn close_window(&self) {
        let refused = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (code, folded) in refused.into_iter().map(|(code, count)| (code, count.saturating_sub(MAX_LINES))) {
            if folded > 0 {
                warn!(code = code.as_str(), folded, "more requests were refused than have lines here: see /metrics");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_code_has_a_limited_number_of_lines_a_second() {
        let lines = RefusalLines::default();
        for _ in 0..3 {
            assert_eq!((0..100).filter(|_| lines.admit(ErrorCode::InvalidToken)).count(), 10);
            assert!(lines.admit(ErrorCode::Unavailable));
            tokio::time::sleep(WINDOW * 2).await;
        }
    }
}
