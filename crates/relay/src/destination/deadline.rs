//! A timeout that holds for a frozen process, too: a response that arrived while the process was frozen is not late.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

/// How late a timer may be that nothing has held up.
const LATE_TIMER: Duration = Duration::from_millis(100);
/// How long to wait for a response that may have arrived meanwhile.
const GRACE: Duration = Duration::from_millis(500);

/// Waits for something until a deadline. A process that was frozen wakes up behind its deadline: then it first looks at what
/// has arrived.
pub async fn timeout_at_with_grace<F: Future>(deadline: Instant, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    if let Ok(output) = timeout_at(deadline, future.as_mut()).await {
        return Some(output);
    }
    if Instant::now().saturating_duration_since(deadline) < LATE_TIMER {
        return None;
    }
    timeout(GRACE, future).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn pending_future_times_out_at_the_deadline() {
        let started_at = Instant::now();
        assert_eq!(timeout_at_with_grace(started_at + LIMIT, std::future::pending::<()>()).await, None);
        assert!(started_at.elapsed() < LIMIT + LATE_TIMER);
    }

    #[tokio::test(start_paused = true)]
    async fn output_ready_after_freeze_is_returned() {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        let task = tokio::spawn(timeout_at_with_grace(Instant::now() + LIMIT, receiver));
        tokio::task::yield_now().await;
        // Both at once: the timer, and the answer, which another task has yet to read.
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::spawn(async move { sender.send("taken") });
        assert_eq!(task.await.unwrap(), Some(Ok("taken")));
    }

    #[tokio::test(start_paused = true)]
    async fn pending_future_after_freeze_gets_only_the_grace_period() {
        let started_at = Instant::now();
        let task = tokio::spawn(timeout_at_with_grace(started_at + LIMIT, std::future::pending::<()>()));
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(task.await.unwrap(), None);
        assert!(started_at.elapsed() <= Duration::from_secs(60) + GRACE + LATE_TIMER);
    }
}
