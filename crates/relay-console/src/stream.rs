//! `GET /console/api/stream`: the overview, as it changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Sse;
use axum::response::sse::Event;
use futures_util::stream::{self, Stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep, sleep_until};

use crate::backend::ConsoleBackend;
use crate::console::{Console, run};
use crate::error::ConsoleError;

/// Least time between two documents.
const MIN_INTERVAL: Duration = Duration::from_millis(250);
/// Greatest time between two: ages and rates change without an event.
const MAX_INTERVAL: Duration = Duration::from_secs(5);

/// What is known between two documents of a stream.
struct Follower<B> {
    console: Console<B>,
    changes: watch::Receiver<u64>,
    sent_at: Option<Instant>,
    _room: OwnedSemaphorePermit,
}

pub(crate) async fn stream<B: ConsoleBackend>(
    State(console): State<Console<B>>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, ConsoleError> {
    let room = Arc::clone(&console.streams).try_acquire_owned().ok();
    let (Some(changes), Some(room)) = (console.backend.changes(), room) else {
        return Err(ConsoleError::NotFound("This page has to poll.".to_owned()));
    };
    let follower = Follower { console, changes, sent_at: None, _room: room };
    Ok(Sse::new(stream::unfold(follower, |mut follower| async {
        let event = follower.next().await?;
        Some((Ok(event), follower))
    })))
}

impl<B: ConsoleBackend> Follower<B> {
    /// Returns the next document. None if the relay ends, or cannot be read: the page then asks anew, and shows the error.
    async fn next(&mut self) -> Option<Event> {
        if let Some(sent_at) = self.sent_at {
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = sleep(MAX_INTERVAL) => {}
            }
            sleep_until(sent_at + MIN_INTERVAL).await;
        }
        self.changes.mark_unchanged();
        let console = self.console.clone();
        let overview = run(async move || console.backend.overview().await).await.ok()?;
        self.sent_at = Some(Instant::now());
        Event::default().event("overview").json_data(overview).ok()
    }
}
