//! The operator's ports on either store, with the errors that a console shows.

use bytes::Bytes;
use relay::ports::admin::{Admin, DeliveryPage, DeliveryQuery, DeliveryRecord, PageKey, QueueStatus};
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions, RedriveOutcome};
use relay_aws::admin::StackAdmin;
use relay_aws::admin::dead_letters::StackDeadLetters;
use relay_console::error::ConsoleError;
use relay_core::delivery::DeliveryId;
use relay_sqlite::admin::{SqliteAdmin, SqliteDeadLetters};

use crate::error::Error;

/// The error that a page shows: what happened, and what to do.
pub(super) fn to_console_error(error: impl Into<Error>) -> ConsoleError {
    ConsoleError::Unavailable { message: error.into().to_string(), source: None }
}

/// The deliveries of a relay.
#[derive(Debug)]
pub(crate) enum AnyAdmin {
    Local(Box<SqliteAdmin>),
    Stack(Box<StackAdmin>),
}

/// The dead letters of a relay.
#[derive(Debug)]
pub(crate) enum AnyDeadLetters {
    Local(Box<SqliteDeadLetters>),
    Stack(Box<StackDeadLetters>),
}

/// Calls a method of the store that it is.
macro_rules! on_store {
    ($store:expr, $method:ident($($argument:expr),*)) => {
        match $store {
            Self::Local(store) => store.$method($($argument),*).await.map_err(to_console_error),
            Self::Stack(store) => store.$method($($argument),*).await.map_err(to_console_error),
        }
    };
}

impl Admin for AnyAdmin {
    type Error = ConsoleError;

    async fn latest_deliveries(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        progress: &dyn Fn(usize),
    ) -> Result<Vec<DeliveryRecord>, ConsoleError> {
        on_store!(self, latest_deliveries(query, limit, progress))
    }

    async fn deliveries_page(
        &self,
        query: &DeliveryQuery,
        limit: u32,
        key: Option<&PageKey>,
    ) -> Result<DeliveryPage, ConsoleError> {
        on_store!(self, deliveries_page(query, limit, key))
    }

    async fn delivery(&self, id: &DeliveryId) -> Result<Option<DeliveryRecord>, ConsoleError> {
        on_store!(self, delivery(id))
    }

    async fn body(&self, id: &DeliveryId) -> Result<Option<Bytes>, ConsoleError> {
        on_store!(self, body(id))
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>, ConsoleError> {
        on_store!(self, queues())
    }
}

impl DeadLetterQueue for AnyDeadLetters {
    type Error = ConsoleError;

    async fn next_page(&mut self) -> Result<Vec<DeadLetter>, ConsoleError> {
        on_store!(self, next_page())
    }

    async fn plan_redrive(
        &self,
        dead_letter: &DeadLetter,
        options: RedriveOptions,
    ) -> Result<RedriveOutcome, ConsoleError> {
        on_store!(self, plan_redrive(dead_letter, options))
    }

    async fn redrive(
        &mut self,
        dead_letter: &DeadLetter,
        options: RedriveOptions,
    ) -> Result<RedriveOutcome, ConsoleError> {
        on_store!(self, redrive(dead_letter, options))
    }

    async fn delete(&mut self, dead_letter: &DeadLetter) -> Result<bool, ConsoleError> {
        on_store!(self, delete(dead_letter))
    }

    async fn release(&mut self) {
        match self {
            Self::Local(store) => store.release().await,
            Self::Stack(store) => store.release().await,
        }
    }

    async fn count(&self) -> Result<u64, ConsoleError> {
        on_store!(self, count())
    }
}
