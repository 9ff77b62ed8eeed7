//! `relayctl console` as a process.

use std::ops::Deref;
use std::process::{ExitStatus, Stdio};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::console::ConsolePage;
use crate::relayctl::relayctl_path;

/// A console that runs.
#[derive(Debug)]
pub struct Console {
    page: ConsolePage,
    child: Child,
}

impl Deref for Console {
    type Target = ConsolePage;

    fn deref(&self) -> &ConsolePage {
        &self.page
    }
}

impl Console {
    /// Starts one on a free port, with these variables and no others, for the relay that these options name.
    ///
    /// # Panics
    /// When it does not start.
    pub async fn start(variables: &[(&str, String)], options: &[&str]) -> Self {
        let mut command = Command::new(relayctl_path());
        command.env_clear().envs(variables.iter().map(|(name, value)| (*name, value.as_str()))).args(options);
        command.args(["console", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
        let stdout = child.stdout.take().unwrap_or_else(|| panic!("it is piped"));
        let first_line = BufReader::new(stdout).lines().next_line().await.ok().flatten().unwrap_or_default();
        let word = first_line.split(' ').find(|word| word.starts_with("http://"));
        let url = word.unwrap_or_else(|| panic!("no URL: {first_line:?}")).trim_end_matches('/').to_owned();
        Self { page: ConsolePage::open(&url).await, child }
    }

    /// Ends it as Ctrl-C does.
    ///
    /// # Panics
    /// When it does not end.
    pub async fn interrupt(mut self) -> ExitStatus {
        let id = self.child.id().unwrap_or_else(|| panic!("it has ended"));
        let signal = Command::new("kill").args(["-INT", &id.to_string()]).status().await;
        assert!(signal.is_ok_and(|status| status.success()), "no signal");
        let ended = tokio::time::timeout(crate::EVENTUALLY_TIMEOUT, self.child.wait()).await;
        ended.ok().and_then(Result::ok).unwrap_or_else(|| panic!("it goes on"))
    }
}
