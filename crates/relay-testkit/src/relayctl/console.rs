//! `relayctl console` as a process, and what its page asks for.

use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::http::{self, Response};
use crate::relayctl::relayctl_path;

/// A console that runs.
#[derive(Debug)]
pub struct Console {
    url: String,
    page_token: String,
    child: Child,
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
        let page = http::send("GET", &format!("{url}/"), &[], "").await.text();
        let after_name = page.split("name=\"console-token\" content=\"").nth(1);
        let page_token =
            after_name.and_then(|text| text.split('"').next()).unwrap_or_else(|| panic!("{page}")).to_owned();
        Self { url, page_token, child }
    }

    /// What the page reads.
    pub async fn get(&self, path: &str) -> Response {
        http::send("GET", &format!("{}/console/api/{path}", self.url), &[], "").await
    }

    /// What the page does.
    pub async fn post(&self, path: &str, document: &Value) -> Response {
        let headers = [("content-type", "application/json"), ("x-console-token", self.page_token.as_str())];
        http::send("POST", &format!("{}/console/api/{path}", self.url), &headers, document.to_string()).await
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
