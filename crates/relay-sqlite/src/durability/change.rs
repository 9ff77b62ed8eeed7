//! A change of the store that waits for the connection that writes, with its caller.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use relay::ports::queue::StoreError;
use rusqlite::Transaction;
use tokio::sync::oneshot;

/// How a change is run.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct WriteOptions {
    /// Maximum wait for its turn.
    pub(crate) timeout: Option<Duration>,
    /// Whether it fails if the files are not where they were opened, before it or after the commit.
    pub(crate) checks_files: bool,
    /// Whether one statement at most changes anything, so that SQLite itself undoes it.
    pub(crate) is_one_statement: bool,
    /// Whether everything submitted before it must be committed when it runs.
    pub(crate) is_first: bool,
}

/// A change whose caller waits.
pub(crate) trait Change: fmt::Debug + Send {
    fn options(&self) -> WriteOptions;

    /// Takes it out of its caller's hands. Returns false if the caller has given up.
    fn take(&self) -> bool;

    /// Runs it. Returns false if it fails.
    fn run(&mut self, transaction: &Transaction<'_>) -> bool;

    /// Answers its caller, when it is known whether its transaction was committed.
    fn answer(self: Box<Self>, committed: Result<(), StoreError>);
}

/// A change that was submitted with this work.
pub(crate) struct Submitted<W, T> {
    options: WriteOptions,
    /// Set by whoever is first: the writer who runs it, or its caller who gives up.
    is_taken: Arc<AtomicBool>,
    work: Option<W>,
    result: Option<Result<T, StoreError>>,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<W, T> Submitted<W, T> {
    pub(crate) fn new(
        options: WriteOptions,
        is_taken: Arc<AtomicBool>,
        work: W,
        reply: oneshot::Sender<Result<T, StoreError>>,
    ) -> Self {
        Self { options, is_taken, work: Some(work), result: None, reply }
    }
}

impl<W, T> Change for Submitted<W, T>
where
    W: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send,
    T: Send,
{
    fn options(&self) -> WriteOptions {
        self.options
    }

    fn take(&self) -> bool {
        !self.is_taken.swap(true, Ordering::SeqCst)
    }

    fn run(&mut self, transaction: &Transaction<'_>) -> bool {
        let Some(work) = self.work.take() else { return false };
        // A panic here must not take the other changes with it.
        let result = catch_unwind(AssertUnwindSafe(|| work(transaction).map_err(StoreError::new)));
        let result = result.unwrap_or_else(|_| Err(StoreError::new("the change panicked")));
        self.result.insert(result).is_ok()
    }

    fn answer(self: Box<Self>, committed: Result<(), StoreError>) {
        let result = match (self.result, committed) {
            (Some(Ok(value)), Ok(())) => Ok(value),
            (Some(Err(error)), _) | (_, Err(error)) => Err(error),
            (None, Ok(())) => Err(StoreError::new("the change did not run")),
        };
        // A caller that is gone needs no answer.
        let _ = self.reply.send(result);
    }
}

impl<W, T> fmt::Debug for Submitted<W, T> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Submitted").field("options", &self.options).finish_non_exhaustive()
    }
}
