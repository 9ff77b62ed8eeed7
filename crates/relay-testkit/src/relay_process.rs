//! A relay as its user has it: the program, started, stopped and killed.

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::{Builder, TempDir};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::deliveries::ListDeliveries;
use crate::webhook;

/// The bearer token of the tests.
pub const RELAY_TOKEN: &str = "relay-token-for-tests";

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    child: Child,
    folder: TempDataDir,
    settings: BTreeMap<String, String>,
    base: String,
    banner: String,
}

/// Sends a signal to a process, which may have exited already.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// A data folder that is gone after the test.
#[derive(Debug)]
pub struct TempDataDir(TempDir);

impl TempDataDir {
    /// Creates a new folder.
    ///
    /// # Panics
    /// When it cannot be created.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "making a folder is not a default")]
    pub fn new() -> Self {
        // Whatever the umask is: a relay refuses a folder that others can write to.
        let builder = Builder::new().permissions(Permissions::from_mode(0o755)).tempdir();
        Self(builder.unwrap_or_else(|error| panic!("{error}")))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

/// The program, which is built with the tests.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn relay_local_path() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    // A test is in a folder beneath the one of the programs; a program is beside it.
    let mut programs = test.ancestors().skip(1).take(2).map(|folder| folder.join("relay-local"));
    programs.find(|program| program.exists()).unwrap_or_else(|| {
        panic!("relay-local is not built beside {}: run `make test`, which builds it", test.display())
    })
}

/// The program with these settings and no others.
#[must_use]
pub fn command(settings: &BTreeMap<String, String>) -> Command {
    let mut command = Command::new(relay_local_path());
    command.env_clear().envs(settings).kill_on_drop(true).stdin(Stdio::null());
    command
}

/// Returns the settings of a relay with this destination, and the keys of the tests.
#[must_use]
pub fn settings(overrides: &[(&str, &str)]) -> BTreeMap<String, String> {
    let mut settings: BTreeMap<String, String> = [
        ("RELAY_LISTEN", "127.0.0.1:0"),
        ("RELAY_TOKEN", RELAY_TOKEN),
        ("LOOPS_SIGNING_SECRET", webhook::SIGNING_SECRET),
        ("RUST_LOG", "debug"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    settings.extend(overrides.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    settings
}

impl Relay {
    /// Name of the Loops key in error messages.
    pub const LOOPS_API_KEY: &str = "LOOPS_API_KEY";
    /// Name of the signing secrets in error messages.
    pub const LOOPS_SIGNING_SECRET: &str = "LOOPS_SIGNING_SECRET";

    /// Starts a relay in a new folder.
    pub async fn start(overrides: &[(&str, &str)]) -> Self {
        Self::start_in(TempDataDir::new(), overrides).await
    }

    /// Starts a relay in a folder. Its log is in the file `log` there.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_in(folder: TempDataDir, overrides: &[(&str, &str)]) -> Self {
        Self::start_without(folder, overrides, &[]).await
    }

    /// Starts a relay in a folder, without these keys of the tests. A destination that is not set is simulated.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_without(folder: TempDataDir, overrides: &[(&str, &str)], unset: &[&str]) -> Self {
        let mut settings = settings(overrides);
        settings.retain(|name, _| !unset.contains(&name.as_str()));
        Self::start_with(folder, settings, &["--simulate"]).await
    }

    /// Starts a relay in a folder with these settings and no others, and these arguments.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start_with(folder: TempDataDir, mut settings: BTreeMap<String, String>, arguments: &[&str]) -> Self {
        settings.insert("RELAY_DATA".to_owned(), folder.path().display().to_string());
        let log = std::fs::File::options().create(true).append(true).open(folder.path().join("log"));
        let log = log.unwrap_or_else(|error| panic!("{error}"));
        let mut child = command(&settings)
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{error}"));
        let mut lines = BufReader::new(child.stdout.take().unwrap_or_else(|| unreachable!("it is piped"))).lines();
        let mut banner = String::new();
        while let Ok(Some(line)) = lines.next_line().await {
            banner.push_str(&line);
            banner.push('\n');
            if line.starts_with("Stop with") {
                break;
            }
        }
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        let Some(base) = url_in(&banner, "Loops webhook").map(|url| url.replace("/webhooks/loops", "")) else {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            panic!("the relay did not start: {banner}{log}");
        };
        Self { child, folder, settings, base, banner }
    }

    /// Its address, as `http://…`.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Returns its startup banner.
    #[must_use]
    pub fn banner(&self) -> &str {
        &self.banner
    }

    /// Where its simulated Clay or Loops is.
    ///
    /// # Panics
    /// When it is not simulated.
    #[must_use]
    pub fn simulator_url(&self, destination: &str) -> String {
        url_in(&self.banner, &format!("  {destination}  "))
            .unwrap_or_else(|| panic!("{destination} is not simulated: {}", self.banner))
    }

    /// Its data folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Its log so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Freezes it, as a computer does that goes to sleep.
    pub fn freeze(&self) {
        self.child.id().into_iter().for_each(|id| signal(id, Signal::STOP));
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.child.id().into_iter().for_each(|id| signal(id, Signal::CONT));
    }

    /// Kills it, as a power cut does.
    pub async fn kill(mut self) -> TempDataDir {
        let _ = self.child.kill().await;
        self.folder
    }

    /// Stops it, as its user does.
    ///
    /// # Panics
    /// When it does not stop.
    pub async fn stop(mut self) -> (TempDataDir, ExitStatus) {
        let id = self.child.id().unwrap_or_else(|| panic!("it is not running"));
        let stopped = Command::new("kill").args(["-TERM", &id.to_string()]).status().await;
        assert!(stopped.is_ok_and(|status| status.success()), "it cannot be stopped");
        let status = tokio::time::timeout(crate::EVENTUALLY_TIMEOUT, self.child.wait()).await;
        let status = status.unwrap_or_else(|_| panic!("it did not stop")).unwrap_or_else(|error| panic!("{error}"));
        (self.folder, status)
    }
}

impl ListDeliveries for Relay {
    /// What `deliveries --json --all` prints, in the order of arrival.
    ///
    /// # Panics
    /// When it is not a JSON array.
    async fn deliveries(&self) -> Vec<Value> {
        let output = command(&self.settings).args(["deliveries", "--json", "--all"]).output().await;
        let output = output.unwrap_or_else(|error| panic!("{error}"));
        let mut deliveries: Vec<Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
        deliveries.reverse();
        deliveries
    }
}

fn url_in(banner: &str, line: &str) -> Option<String> {
    let line = banner.lines().find(|text| text.contains(line))?;
    line.split_whitespace().find(|part| part.starts_with("http://")).map(str::to_owned)
}
