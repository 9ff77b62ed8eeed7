//! The floor of any durable store: bare commits to the same disk, of rows as large as a webhook.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::traffic::requests::{RequestKind, webhook_body};

/// Stores rows for so long, so many in each commit, and returns how many it stored a second.
pub(crate) fn rows_per_second(folder: &Path, rows_per_commit: u32, duration: Duration) -> io::Result<f64> {
    store(&folder.join("commits.db"), rows_per_commit, duration).map_err(io::Error::other)
}

fn store(file: &Path, rows_per_commit: u32, duration: Duration) -> rusqlite::Result<f64> {
    let body = webhook_body(RequestKind::Webhook, "contact@example.com");
    let mut database = Connection::open(file)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.pragma_update(None, "synchronous", "FULL")?;
    database.execute_batch("CREATE TABLE IF NOT EXISTS webhooks (id INTEGER PRIMARY KEY, body BLOB NOT NULL)")?;
    let (started_at, mut rows) = (Instant::now(), 0);
    while started_at.elapsed() < duration {
        let transaction = database.transaction()?;
        for _ in 0..rows_per_commit {
            transaction.prepare_cached("INSERT INTO webhooks (body) VALUES (?1)")?.execute([body.as_bytes()])?;
        }
        transaction.commit()?;
        rows += rows_per_commit;
    }
    Ok(f64::from(rows) / started_at.elapsed().as_secs_f64())
}
