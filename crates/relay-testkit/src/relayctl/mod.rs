//! `relayctl` as a process.

pub mod console;

use std::path::PathBuf;
use std::process::{Output, Stdio};

use serde_json::Value;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Response of a Loops that accepts the key.
pub const LOOPS_TEAM_BODY: &str = r#"{"success":true,"teamName":"Acme"}"#;

/// Output and exit code of `relayctl`.
#[derive(Debug)]
pub struct CliOutput {
    /// Its exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A finding of `doctor`: outcome, observation and remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `ok`, `warn` or `fail`.
    pub outcome: String,
    /// The observation.
    pub observed: String,
    /// What to do.
    pub remedy: String,
}

impl CliOutput {
    fn from_output(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code().unwrap_or(-1), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// Standard output as a JSON document.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// What a check of `doctor --json` found, the worst where there are several of its name.
    ///
    /// # Panics
    /// When there is no such check.
    #[must_use]
    pub fn worst_finding(&self, check: &str) -> Finding {
        let document = self.json();
        let findings = document["findings"].as_array().into_iter().flatten();
        let findings = findings.filter(|finding| finding["check"] == check);
        let rank = |finding: &&Value| ["ok", "warn", "fail"].iter().position(|known| finding["outcome"] == *known);
        let finding = findings.max_by_key(rank).unwrap_or_else(|| panic!("no {check}: {document}"));
        let string_field = |field: &str| finding[field].as_str().unwrap_or_default().to_owned();
        Finding { outcome: string_field("outcome"), observed: string_field("observed"), remedy: string_field("remedy") }
    }
}

/// The program, which is built with the workspace.
///
/// # Panics
/// When it is not there.
#[must_use]
pub fn relayctl_path() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_else(|error| panic!("{error}"));
    let mut programs = test.ancestors().skip(1).take(2).map(|folder| folder.join("relayctl"));
    programs.find(|program| program.exists()).unwrap_or_else(|| panic!("relayctl is not built: build the workspace"))
}

/// Runs the program with these variables and no others, and this standard input.
///
/// # Panics
/// When it cannot be run.
pub async fn run_relayctl(variables: &[(&str, String)], arguments: &[&str], input: &str) -> CliOutput {
    let mut command = Command::new(relayctl_path());
    command.env_clear().envs(variables.iter().map(|(name, value)| (*name, value.as_str()))).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{error}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads no input has closed it.
        let _ = stdin.write_all(input.as_bytes()).await;
    }
    CliOutput::from_output(&child.wait_with_output().await.unwrap_or_else(|error| panic!("{error}")))
}
