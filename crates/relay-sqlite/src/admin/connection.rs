//! Opening a store for an operator.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::schema::{OpenError, open_existing};

/// Why an operator's command cannot use the store.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The folder has no store: no relay has run on it.
    #[error("{} has no store yet: start the relay first, or set RELAY_DATA to where it keeps its data", .0.display())]
    NoStore(PathBuf),
    /// A statement failed.
    #[error("the store cannot be read ({0}): try again, or look into RELAY_DATA")]
    Database(#[from] rusqlite::Error),
}

/// Opens the store of a data folder.
pub(super) fn open(dir: &Path) -> Result<Connection, Error> {
    open_existing(dir)?.ok_or_else(|| Error::NoStore(dir.to_owned()))
}
