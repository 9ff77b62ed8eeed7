//! What is slow to read, or costs something, and is shown again and again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

/// How long a value is shown before it is read again.
const MAX_AGE: Duration = Duration::from_secs(30);

/// A value that is read at most every 30 s, however many pages ask for it.
#[derive(Debug)]
pub(super) struct Cached<T>(Mutex<Option<(Instant, Arc<T>)>>);

impl<T> Default for Cached<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Cached<T> {
    /// Returns the value, which `read` reads if it is too old.
    pub(super) async fn get(&self, read: impl Future<Output = T>) -> Arc<T> {
        let mut cached = self.0.lock().await;
        if let Some((read_at, value)) = &*cached
            && read_at.elapsed() < MAX_AGE
        {
            return Arc::clone(value);
        }
        let value = Arc::new(read.await);
        *cached = Some((Instant::now(), Arc::clone(&value)));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn value_is_read_once_for_many_pages() {
        let cached = Cached::default();
        assert_eq!(*cached.get(async { 1 }).await, 1);
        assert_eq!(*cached.get(async { 2 }).await, 1);
    }
}
