//! A time limit that a frozen process keeps as well: what has come while nobody looked is not too late.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};

/// How late a timer may be that nothing has held up.
const LATE_TIMER: Duration = Duration::from_millis(100);
/// How long what may have come meanwhile is waited for.
const GRACE: Duration = Duration::from_millis(500);

/// Waits for something until a deadline. A process that was frozen wakes up behind its deadline: then it first looks at what
/// has arrived.
pub async fn timeout_at_with_grace<F: Future>(deadline: Instant, work: F) -> Option<F::Output> {
    let mut work = pin!(work);
    if let Ok(done) = timeout_at(deadline, work.as_mut()).await {
        return Some(done);
    }
    if Instant::now().saturating_duration_since(deadline) < LATE_TIMER {
        return None;
    }
    timeout(GRACE, work).await.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(4);

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_in_time_is_not_waited_for() {
        let begun = Instant::now();
        assert_eq!(timeout_at_with_grace(begun + LIMIT, std::future::pending::<()>()).await, None);
        assert!(begun.elapsed() < LIMIT + LATE_TIMER);
    }

    #[tokio::test(start_paused = true)]
    async fn what_came_while_the_process_was_frozen_is_not_too_late() {
        let (send, answer) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(timeout_at_with_grace(Instant::now() + LIMIT, answer));
        tokio::task::yield_now().await;
        // Both at once: the timer, and the answer, which another task has yet to read.
        tokio::time::advance(Duration::from_secs(60)).await;
        tokio::spawn(async move { send.send("taken") });
        assert_eq!(waiting.await.unwrap(), Some(Ok("taken")));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_freeze_what_has_not_come_is_waited_for_a_moment_only() {
        let begun = Instant::now();
        let waiting = tokio::spawn(timeout_at_with_grace(begun + LIMIT, std::future::pending::<()>()));
        tokio::task::yield_now().await;
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(waiting.await.unwrap(), None);
        assert!(begun.elapsed() <= Duration::from_secs(60) + GRACE + LATE_TIMER);
    }
}
