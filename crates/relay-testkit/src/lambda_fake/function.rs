//! A function: as many sandboxes as are needed, one event in each at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::{Mutex, Notify, Semaphore, watch};

use crate::lambda_fake::sandbox::{InvokeError, Sandbox};
use crate::relay_process::signal;

/// A function of the template.
#[derive(Debug, Clone)]
pub struct FunctionConfig {
    /// Its name, which is its binary's.
    pub name: String,
    /// Its environment, resolved.
    pub environment: BTreeMap<String, String>,
    /// The function's timeout.
    pub timeout: Duration,
}

/// A function that can be invoked.
#[derive(Debug)]
pub struct Function {
    config: FunctionConfig,
    binary: PathBuf,
    log: PathBuf,
    idle: Mutex<Vec<Sandbox>>,
    slots: Semaphore,
    killed: watch::Sender<bool>,
    crashed: Notify,
    /// The processes that have an event.
    busy: std::sync::Mutex<BTreeSet<u32>>,
    invocations: AtomicU64,
}

impl Function {
    /// A function of at most so many sandboxes.
    #[must_use]
    pub fn new(config: FunctionConfig, binary: PathBuf, log: PathBuf, sandboxes: usize) -> Self {
        Self {
            config,
            binary,
            log,
            idle: Mutex::new(Vec::new()),
            slots: Semaphore::new(sandboxes),
            killed: watch::Sender::new(false),
            crashed: Notify::new(),
            busy: std::sync::Mutex::default(),
            invocations: AtomicU64::new(0),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// How often it was handed an event.
    pub fn invocations(&self) -> u64 {
        self.invocations.load(Ordering::Relaxed)
    }

    /// Hands it an event.
    ///
    /// # Errors
    /// When the function fails.
    ///
    /// # Panics
    /// When a sandbox does not start.
    pub async fn invoke(&self, event: Vec<u8>) -> Result<Vec<u8>, InvokeError> {
        let _permit = self.slots.acquire().await.unwrap_or_else(|error| panic!("{error}"));
        self.invocations.fetch_add(1, Ordering::Relaxed);
        let idle = self.idle.lock().await.pop();
        let mut sandbox = match idle {
            Some(sandbox) => sandbox,
            None => Sandbox::start(self.name(), &self.binary, &self.config.environment, &self.log).await,
        };
        let pid = sandbox.id();
        self.busy().extend(pid);
        let mut killed = self.killed.subscribe();
        let crashed = self.crashed.notified();
        let response = tokio::select! {
            response = sandbox.invoke(event, self.config.timeout) => response,
            _ = killed.wait_for(|killed| *killed) => Err(InvokeError::Exited),
            () = crashed => Err(InvokeError::Exited),
        };
        self.busy().retain(|busy| Some(*busy) != pid);
        if sandbox.is_alive() && !matches!(response, Err(InvokeError::TimedOut | InvokeError::Exited)) {
            self.idle.lock().await.push(sandbox);
        }
        response.map(|response| response.to_vec())
    }

    /// Freezes every sandbox that has an event, in the middle of it; which these are.
    #[must_use]
    pub fn freeze(&self) -> BTreeSet<u32> {
        let busy = self.busy();
        busy.iter().for_each(|pid| signal(*pid, Signal::STOP));
        busy.clone()
    }

    /// Lets those go on that were frozen. One that has no event any more stays as it is.
    pub fn thaw(&self, frozen: &BTreeSet<u32>) {
        self.busy().intersection(frozen).for_each(|pid| signal(*pid, Signal::CONT));
    }

    fn busy(&self) -> std::sync::MutexGuard<'_, BTreeSet<u32>> {
        self.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Kills every sandbox, whatever it is doing; there are no others after that.
    pub async fn kill(&self) {
        let _ = self.killed.send(true);
        self.recycle().await;
    }

    /// Kills every sandbox that has an event. The next event starts a new one.
    pub fn crash(&self) {
        self.crashed.notify_waiters();
    }

    /// Ends every idle sandbox, so that the next event has a cold start.
    pub async fn recycle(&self) {
        self.idle.lock().await.clear();
    }
}
