//! Counts the instructions of a function's process with valgrind's callgrind: unlike times, they are the same on a busy
//! machine and on another processor of the same kind.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use super::FunctionHarness;
use crate::lambda_fake::sandbox::Sandbox;
use crate::{eventually_within, relay_process};

/// Longest INIT under callgrind, which takes fifty times as long, on a busy machine.
const MAX_INIT: Duration = Duration::from_secs(180);
/// Events of which the later event is the average.
const LATER_EVENTS: u32 = 5;
/// Steps of relay-core that are counted, and those before them that fill lazy values.
const STEPS: u64 = 1000;
const FEW_STEPS: u64 = 10;

/// Instructions in user mode of one sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instructions {
    /// From the program's first instruction to its first request for an event.
    pub start: u64,
    /// Of its first event.
    pub first_event: u64,
    /// Of an event after that, on average.
    pub later_event: u64,
}

/// A program that callgrind runs.
#[derive(Debug)]
struct Callgrind<'a> {
    folder: &'a Path,
    dumps: usize,
}

impl Callgrind<'_> {
    fn script(&self, program: &Path) -> PathBuf {
        let script = self.folder.join("run");
        let text = format!(
            "#!/bin/sh\nexec valgrind --quiet --tool=callgrind --callgrind-out-file='{}' '{}'\n",
            self.output().display(),
            program.display()
        );
        std::fs::write(&script, text).unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755))
            .unwrap_or_else(|error| panic!("{}: {error}", script.display()));
        script
    }

    fn output(&self) -> PathBuf {
        self.folder.join("callgrind.out")
    }

    /// Returns what was counted since the last call, once the process waits for an event.
    async fn count(&mut self, process: u32) -> u64 {
        // Frozen, it would not answer.
        relay_process::signal(process, Signal::CONT);
        wait_until_idle(process).await;
        let dump = Command::new("vgdb").args([&format!("--pid={process}"), "dump", "counted"]).output();
        let dump = dump.unwrap_or_else(|error| panic!("vgdb, which comes with valgrind: {error}"));
        assert!(dump.status.success(), "vgdb: {}", String::from_utf8_lossy(&dump.stderr));
        self.dumps += 1;
        let file = self.folder.join(format!("callgrind.out.{}", self.dumps));
        let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.trim().parse().ok());
        total.unwrap_or_else(|| panic!("{} has no total", file.display()))
    }
}

/// Waits until all threads of a process sleep, and have done nothing for a moment.
async fn wait_until_idle(process: u32) {
    eventually_within(MAX_INIT, "the function waits for an event", async || {
        let before = thread_states(process);
        tokio::time::sleep(Duration::from_millis(20)).await;
        let is_idle = before.lines().all(|state| state.starts_with('S')) && before == thread_states(process);
        is_idle.then_some(())
    })
    .await;
}

/// The state and the processor time of each thread.
fn thread_states(process: u32) -> String {
    let tasks = format!("/proc/{process}/task");
    let tasks = std::fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}"));
    let mut states = String::new();
    for task in tasks.flatten() {
        let read = |name| std::fs::read_to_string(task.path().join(name)).unwrap_or_default();
        let stat = read("stat");
        states.push_str(stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().get(..1)).unwrap_or("?"));
        states.push_str(&read("schedstat"));
    }
    states
}

impl FunctionHarness {
    /// Starts a function under callgrind, hands it its events, and returns what each phase needed.
    ///
    /// # Panics
    /// When valgrind is not installed, or the function does not do what it is for.
    pub async fn count_instructions(&self, function: &str, binary: &Path, log: &Path) -> Instructions {
        let environment = self.environment(function);
        // What only the first sandbox of a stack does is not counted: the key's account, the items of limiter and contact.
        let mut first = self.start_function(function, binary, &environment, log).await;
        self.invoke(function, &mut first).await;
        first.kill().await;
        let folder = TempDir::new().unwrap_or_else(|error| panic!("{error}"));
        let mut callgrind = Callgrind { folder: folder.path(), dumps: 0 };
        let script = callgrind.script(binary);
        let mut sandbox = Sandbox::start_within(MAX_INIT, function, &script, &environment, log).await;
        let process = sandbox.id().unwrap_or_else(|| panic!("{function} has ended"));
        let start = callgrind.count(process).await;
        self.invoke(function, &mut sandbox).await;
        let first_event = callgrind.count(process).await;
        for _ in 0..LATER_EVENTS {
            self.invoke(function, &mut sandbox).await;
        }
        let later_event = callgrind.count(process).await / u64::from(LATER_EVENTS);
        sandbox.kill().await;
        Instructions { start, first_event, later_event }
    }
}

/// Returns the instructions of one step of relay-core: the difference between many and few of them.
///
/// # Panics
/// When valgrind is not installed, or the program `core-steps` fails.
#[must_use]
pub fn count_step(core_steps: &Path, step: &str) -> u64 {
    let count = |steps: u64| {
        let mut command = Command::new("valgrind");
        command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(core_steps);
        let output = command.args([step, &steps.to_string()]).output();
        let output = output.unwrap_or_else(|error| panic!("valgrind: {error}"));
        let report = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "core-steps {step}: {report}");
        let total = report.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
        total.unwrap_or_else(|| panic!("no count in: {report}"))
    };
    (count(FEW_STEPS + STEPS) - count(FEW_STEPS)) / STEPS
}
