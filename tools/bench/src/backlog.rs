//! A store with a long past: many settled deliveries, and many that wait. It is filled once for each version of the tables,
//! and copied for each use.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use relay::ports::clock::SystemClock;
use relay::ports::queue::Queue as _;
use relay_core::contact::ContactKey;
use relay_core::delivery::{AttemptResult, Delivery, DeliveryId, DeliveryKind, Direction};
use relay_sqlite::admin::SqliteAdmin;
use relay_sqlite::data_dir::config::ROUTE_NAME;
use relay_sqlite::{ClaimOrder, ClaimedDelivery, STORE_FILE, SqliteStore};
use rusqlite::Connection;

use crate::traffic::requests::{RequestKind, webhook_body};

/// How many deliveries are stored or settled at once.
const CONCURRENCY: usize = 256;
/// How many are stored before they are settled.
const CHUNK: u32 = 4096;

/// How many deliveries a store has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) settled: u32,
    pub(crate) waiting: u32,
}

/// Returns a data folder of that size. Its way to Clay is paused, so that what waits goes on waiting.
pub(crate) async fn filled_folder(work: &Path, size: Size) -> io::Result<PathBuf> {
    let folder = work.join(format!("backlog-{}-{}-{:016x}", size.settled, size.waiting, hash_of_tables(work)?));
    if !folder.exists() {
        let unfinished = tempfile::tempdir_in(work)?;
        fill(unfinished.path(), size).await?;
        fs::rename(unfinished.keep(), &folder)?;
    }
    Ok(folder)
}

/// Copies the store of a data folder, down to the disk, so that writing the copy does not go on during a run.
pub(crate) fn copy_store(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from.join(STORE_FILE), to.join(STORE_FILE))?;
    File::open(to.join(STORE_FILE))?.sync_all()
}

/// Tells whether a filled store has the tables that this version makes.
fn hash_of_tables(work: &Path) -> io::Result<u64> {
    let folder = tempfile::tempdir_in(work)?;
    drop(relay_sqlite::open(folder.path(), Timestamp::now()).map_err(io::Error::other)?);
    let tables: String = Connection::open(folder.path().join(STORE_FILE))
        .and_then(|store| store.query_row("SELECT group_concat(sql) FROM sqlite_schema", [], |row| row.get(0)))
        .map_err(io::Error::other)?;
    let mut hasher = DefaultHasher::new();
    tables.hash(&mut hasher);
    Ok(hasher.finish())
}

async fn fill(folder: &Path, size: Size) -> io::Result<()> {
    let opened = relay_sqlite::open(folder, Timestamp::now()).map_err(io::Error::other)?;
    let store = SqliteStore::new(opened, Arc::new(SystemClock));
    let truncation = tokio::spawn(store.clone().run_log_truncation());
    let mut settled = 0;
    while settled < size.settled {
        let chunk = CHUNK.min(size.settled - settled);
        enqueue(&store, settled..settled + chunk).await?;
        settle(&store).await?;
        settled += chunk;
        eprint!("\r{settled} of {} are settled", size.settled);
    }
    eprintln!();
    enqueue(&store, settled..settled + size.waiting).await?;
    truncation.abort();
    let admin = SqliteAdmin::open(folder).map_err(io::Error::other)?;
    admin.set_paused(Direction::LoopsToClay, true, Timestamp::now()).map_err(io::Error::other).map(drop)
}

async fn enqueue(store: &SqliteStore, numbers: std::ops::Range<u32>) -> io::Result<()> {
    stream::iter(numbers)
        .map(async |number| store.enqueue(&delivery(number)).await.map(drop).map_err(io::Error::other))
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await
}

/// Delivers all that waits.
async fn settle(store: &SqliteStore) -> io::Result<()> {
    loop {
        let claimed = store.claim(Direction::LoopsToClay, ClaimOrder::Oldest, CONCURRENCY).await;
        let claimed = claimed.map_err(io::Error::other)?;
        if claimed.is_empty() {
            return Ok(());
        }
        let finish = async |claimed: ClaimedDelivery| {
            let id = claimed.delivery.id;
            store.finish_attempt(&id, AttemptResult::Delivered.into()).await.map_err(io::Error::other)
        };
        stream::iter(claimed).map(finish).buffer_unordered(CONCURRENCY).try_collect::<()>().await?;
    }
}

fn delivery(number: u32) -> Delivery {
    let (address, webhook_id) = (format!("backlog-{number}@example.com"), format!("msg_backlog_{number}"));
    Delivery {
        id: DeliveryId::for_webhook(ROUTE_NAME, &webhook_id),
        contact: ContactKey::from_email(&address),
        received_at: Timestamp::now(),
        kind: DeliveryKind::ClayRow { route: ROUTE_NAME.to_owned(), webhook_id },
        body: webhook_body(RequestKind::Webhook, &address).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn filled_folder_has_its_size_and_is_made_once() {
        let work = tempfile::tempdir().unwrap();
        let size = Size { settled: 20, waiting: 5 };
        let folder = filled_folder(work.path(), size).await.unwrap();
        let admin = SqliteAdmin::open(&folder).unwrap();
        let summary = admin.summary().unwrap();
        assert_eq!((summary.deliveries, summary.waiting), (25, 5));
        assert!(admin.paused_since(Direction::LoopsToClay).unwrap().is_some());
        let modified = |folder: &Path| fs::metadata(folder.join(STORE_FILE)).unwrap().modified().unwrap();
        let before = modified(&folder);
        assert_eq!(modified(&filled_folder(work.path(), size).await.unwrap()), before);
    }
}
