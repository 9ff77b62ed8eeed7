//! The open connections, and what all requests together may hold.
//!
//! A caller whose request is complete is answered. All others, however slow, cost a connection and perhaps a part of a body:
//! when there is no room for a new one, the oldest of them gives way. A burst waits for room: the system queues connections
//! that are not accepted yet.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::Instant;

/// Maximum number of connections, if the system's limit of open files allows them.
const MAX_CONNECTIONS: usize = 512;
/// Open files that are left to the store, the log, the sockets that are listened on and the workers' calls.
const RESERVED_FILES: usize = 64;
/// Maximum of the bodies of all requests together, in bytes.
const MAX_BODY_BYTES: usize = 32 * 1024 * 1024;
/// Time in which a connection does not give way: an honest request arrives faster.
const MIN_INCOMPLETE_TIME: Duration = Duration::from_secs(2);
/// Interval in which a connection that may give way is looked for.
const ROOM_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum wait for the room of a body.
const ROOM_TIMEOUT: Duration = Duration::from_secs(5);

/// The open connections.
#[derive(Debug)]
pub(crate) struct Connections {
    open: Mutex<Open>,
    slots: Arc<Semaphore>,
    max: u32,
    body_bytes: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
}

#[derive(Debug, Default)]
struct Open {
    last_id: u64,
    by_id: HashMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    stage: Stage,
    since: Instant,
    /// What is reserved for the body that is being read, in bytes.
    reserved_bytes: usize,
    close: Arc<Notify>,
}

/// How far a connection's request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No head has arrived yet, or no other one since the last response.
    Idle,
    /// The head is there and the body is not.
    Reading,
    /// The request is complete, and its response is not written.
    Handling,
}

/// One open connection.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    id: u64,
    close: Arc<Notify>,
    connections: Arc<Connections>,
}

impl Connections {
    /// Returns an empty set for a relay that stops when `stop` is true.
    pub(crate) fn new(stop: watch::Receiver<bool>) -> Arc<Self> {
        let max = max_connections(getrlimit(Resource::Nofile).current);
        Arc::new(Self {
            open: Mutex::default(),
            slots: Arc::new(Semaphore::new(max)),
            max: u32::try_from(max).unwrap_or(u32::MAX),
            body_bytes: Arc::new(Semaphore::new(MAX_BODY_BYTES)),
            stop,
        })
    }

    /// Waits until there is room for one more connection. The oldest one whose request is not complete gives way. Returns
    /// nothing only if the semaphore is closed, which nobody does.
    pub(crate) async fn acquire_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.acquire(&self.slots, 1, |_| true).await
    }

    /// Waits for permits. Meanwhile the oldest connections that `may_close` selects give way.
    async fn acquire(
        &self,
        room: &Arc<Semaphore>,
        count: u32,
        may_close: impl Fn(&Entry) -> bool,
    ) -> Option<OwnedSemaphorePermit> {
        let acquired = Arc::clone(room).acquire_many_owned(count);
        tokio::pin!(acquired);
        loop {
            let make_room = async {
                self.close_oldest(&may_close);
                tokio::time::sleep(ROOM_POLL_INTERVAL).await;
            };
            tokio::select! {
                biased;
                permit = &mut acquired => return permit.ok(),
                () = make_room => {}
            }
        }
    }

    /// Waits until every connection is closed.
    pub(crate) async fn wait_until_closed(&self) {
        let _ = self.slots.acquire_many(self.max).await;
    }

    /// Adds a connection, which has sent nothing yet.
    pub(crate) fn open(self: &Arc<Self>) -> Connection {
        let close = Arc::new(Notify::new());
        let mut open = self.lock();
        open.last_id += 1;
        let id = open.last_id;
        let entry = Entry { stage: Stage::Idle, since: Instant::now(), reserved_bytes: 0, close: Arc::clone(&close) };
        open.by_id.insert(id, entry);
        drop(open);
        Connection { id, close, connections: Arc::clone(self) }
    }

    /// Closes every connection that has not sent the head of a request.
    pub(crate) fn close_idle(&self) {
        let open = self.lock();
        open.by_id.values().filter(|entry| entry.stage == Stage::Idle).for_each(|entry| entry.close.notify_one());
    }

    /// Waits until the relay is stopping.
    pub(crate) async fn stopping(&self) {
        // A sender that is gone is a stop as well.
        let _ = self.stop.clone().wait_for(|stop| *stop).await;
    }

    /// Closes the oldest connection that has had no complete request for a while, of those that `which` selects.
    fn close_oldest(&self, which: impl Fn(&Entry) -> bool) {
        let mut open = self.lock();
        let is_closable = |entry: &Entry| {
            entry.stage != Stage::Handling && entry.since.elapsed() >= MIN_INCOMPLETE_TIME && which(entry)
        };
        let closable = open.by_id.iter().filter(|(_, entry)| is_closable(entry));
        let oldest = closable.min_by_key(|(id, entry)| (entry.since, **id)).map(|(id, _)| *id);
        if let Some(entry) = oldest.and_then(|id| open.by_id.remove(&id)) {
            entry.close.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// Records how far the request is.
    pub(crate) fn set_stage(&self, stage: Stage) {
        // One that gives way is not there any more.
        if let Some(entry) = self.connections.lock().by_id.get_mut(&self.id) {
            (entry.stage, entry.since, entry.reserved_bytes) = (stage, Instant::now(), 0);
        }
    }

    /// Reserves room for a body, and waits for it. The oldest bodies that are not complete give way. Returns nothing if there is
    /// none in time.
    pub(crate) async fn reserve(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let wanted = u32::try_from(bytes).ok()?;
        let connections = &self.connections;
        let room = connections.acquire(&connections.body_bytes, wanted, |entry| entry.reserved_bytes > 0);
        let permit = tokio::time::timeout(ROOM_TIMEOUT, room).await.ok()??;
        if let Some(entry) = self.connections.lock().by_id.get_mut(&self.id) {
            entry.reserved_bytes = bytes;
        }
        Some(permit)
    }

    /// Whether no connection may be opened before another one is closed.
    pub(crate) fn is_full(&self) -> bool {
        self.connections.slots.available_permits() == 0
    }

    /// Waits until this connection has to give way.
    pub(crate) async fn told_to_close(&self) {
        self.close.notified().await;
    }

    /// Waits until the relay is stopping.
    pub(crate) async fn stopping(&self) {
        self.connections.stopping().await;
    }

    /// Removes the connection, which is closed.
    pub(crate) fn closed(&self) {
        self.connections.lock().by_id.remove(&self.id);
    }
}

/// Returns how many connections a limit of open files allows. A request that is handled may open another one, to a
/// destination.
fn max_connections(open_files: Option<u64>) -> usize {
    let open_files = open_files.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
    (open_files.saturating_sub(RESERVED_FILES) / 2).clamp(1, MAX_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connections() -> Arc<Connections> {
        Connections::new(watch::channel(false).1)
    }

    fn is_told_to_close(connection: &Connection) -> bool {
        !connection.connections.lock().by_id.contains_key(&connection.id)
    }

    #[test]
    fn half_of_the_open_files_are_for_connections() {
        for (open_files, connections) in [(Some(1024), 480), (Some(256), 96), (Some(20), 1), (None, 512)] {
            assert_eq!(max_connections(open_files), connections, "{open_files:?}");
        }
    }

    async fn acquire_all_slots(connections: &Arc<Connections>) -> Vec<OwnedSemaphorePermit> {
        let mut slots = Vec::new();
        for _ in 0..connections.max {
            slots.push(connections.acquire_slot().await.unwrap());
        }
        slots
    }

    #[tokio::test(start_paused = true)]
    async fn connection_of_a_burst_waits_and_closes_no_other() {
        let connections = connections();
        let mut slots = acquire_all_slots(&connections).await;
        let arriving = connections.open();
        tokio::time::timeout(Duration::from_secs(1), connections.acquire_slot()).await.unwrap_err();
        assert!(!is_told_to_close(&arriving));
        slots.pop();
        let _slot = connections.acquire_slot().await;
        assert!(!is_told_to_close(&arriving));
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_incomplete_connection_gives_way_to_a_new_one() {
        let connections = connections();
        let mut slots = acquire_all_slots(&connections).await;
        let [handling, silent] = [(); 2].map(|()| connections.open());
        handling.set_stage(Stage::Handling);
        tokio::time::advance(Duration::from_secs(1)).await;
        let newer = connections.open();
        let (slot, ()) = tokio::join!(connections.acquire_slot(), async {
            silent.told_to_close().await;
            slots.pop();
        });
        drop(slot);
        assert_eq!([&handling, &newer, &silent].map(is_told_to_close), [false, false, true]);
    }

    #[tokio::test(start_paused = true)]
    async fn oldest_incomplete_body_gives_way_to_a_new_one() {
        let connections = connections();
        let [complete, slow, slower] = [(); 3].map(|()| connections.open());
        let held = complete.reserve(MAX_BODY_BYTES - 2000).await.unwrap();
        complete.set_stage(Stage::Handling);
        let slow_held = slow.reserve(1000).await.unwrap();
        let slower_held = slower.reserve(1000).await.unwrap();
        let (honest, ()) = tokio::join!(async { connections.open().reserve(500).await }, async {
            slow.told_to_close().await;
            drop(slow_held);
        });
        assert!(honest.is_some());
        assert_eq!([&complete, &slow, &slower].map(is_told_to_close), [false, true, false]);
        drop((held, slower_held));
    }

    #[tokio::test(start_paused = true)]
    async fn body_is_refused_while_complete_ones_hold_all_the_room() {
        let connections = connections();
        let complete = connections.open();
        let held = complete.reserve(MAX_BODY_BYTES).await;
        complete.set_stage(Stage::Handling);
        assert!(held.is_some() && connections.open().reserve(1).await.is_none());
    }
}
