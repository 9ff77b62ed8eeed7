//! What is counted and not timed, so that it is the same on every machine, against `budgets.toml`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::process::Command;
use tokio::time::sleep;

use crate::contender::{Programs, relay_local};
use crate::server::{Server, free_port};
use crate::traffic::clay::Clay;
use crate::traffic::load;
use crate::traffic::requests::{RequestKind, Requests};

const WEBHOOKS: usize = 1000;
const CALLERS: usize = 16;
const ROWS: usize = 100;
/// How long a count may take.
const MAX_DURATION: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The sections of `budgets.toml` that are read here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Budgets {
    relay_local: RelayLocal<u64>,
}

/// The budgets of relay-local, or what was counted.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelayLocal<T> {
    fsyncs_per_1000_webhooks_at_16_callers: T,
    connections_to_clay_per_100_rows: T,
}

impl<T: Copy> RelayLocal<T> {
    /// Returns each value with its name.
    const fn named(&self) -> [(&'static str, T); 2] {
        [
            ("fsyncs_per_1000_webhooks_at_16_callers", self.fsyncs_per_1000_webhooks_at_16_callers),
            ("connections_to_clay_per_100_rows", self.connections_to_clay_per_100_rows),
        ]
    }
}

/// Counts, prints the counts beside their budgets, and returns whether all are within.
pub(crate) async fn check(budgets: &Path, programs: &Programs, work: &Path) -> io::Result<bool> {
    let text = fs::read_to_string(budgets)?;
    let budgets: Budgets = toml::from_str(&text).map_err(|error| io::Error::other(format!("{error}")))?;
    let clay = Clay::start().await?;
    let counted = RelayLocal {
        fsyncs_per_1000_webhooks_at_16_callers: count_fsyncs(programs, work, &clay).await?,
        connections_to_clay_per_100_rows: count_connections(programs, work).await?,
    };
    let over = over_budget(&budgets.relay_local, &counted);
    for ((name, count), (_, budget)) in counted.named().into_iter().zip(budgets.relay_local.named()) {
        println!("relay-local: {name}: {count} of {budget}");
    }
    for name in &over {
        eprintln!("over the budget: relay-local, {name}");
    }
    Ok(over.is_empty())
}

/// Returns what is over its budget.
fn over_budget(budgets: &RelayLocal<u64>, counted: &RelayLocal<u64>) -> Vec<&'static str> {
    let pairs = counted.named().into_iter().zip(budgets.named());
    pairs.filter(|((_, count), (_, budget))| count > budget).map(|((name, _), _)| name).collect()
}

/// What strace adds to each write-through, so that a fast disk and a slow one give the same count: while one is under way,
/// all callers have sent their next webhook.
const SLOW_DISK: &str = "inject=fsync,fdatasync:delay_enter=20000";

/// Counts what relay-local has the disk write through while it stores webhooks. strace watches nothing else.
async fn count_fsyncs(programs: &Programs, work: &Path, clay: &Clay) -> io::Result<u64> {
    let folder = tempfile::tempdir_in(work)?;
    let (trace, port) = (folder.path().join("trace"), free_port()?);
    let relay = relay_local(programs, folder.path(), port, &clay.webhook_url());
    let mut command = Command::new("strace");
    // The relay is the child, and strace its tracer beside it, so that a signal reaches the relay.
    command.args(["-D", "-f", "-q", "--seccomp-bpf", "-e", "trace=fsync,fdatasync", "-e", SLOW_DISK, "-o"]).arg(&trace);
    command.arg(relay.as_std().get_program()).args(relay.as_std().get_args());
    command.envs(relay.as_std().get_envs().filter_map(|(name, value)| Some((name, value?))));
    let server = Server::start(command, folder.path(), port).await?;
    let requests = Requests::new(RequestKind::Webhook, WEBHOOKS)?;
    let before = fsyncs_in(&trace)?;
    load::drive(server.address(), CALLERS, &requests, RequestKind::Webhook.status(), MAX_DURATION).await?;
    let count = fsyncs_in(&trace)? - before;
    server.stop().await?;
    if count == 0 {
        return Err(io::Error::other("webhooks were stored without any fsync: they are not on the disk"));
    }
    Ok(count)
}

/// Counts the calls in what strace has written so far. One that another thread interrupts has a second line, without
/// the parenthesis.
fn fsyncs_in(trace: &PathBuf) -> io::Result<u64> {
    let lines = fs::read_to_string(trace)?;
    let count = lines.lines().filter(|line| line.contains(" fsync(") || line.contains(" fdatasync(")).count();
    u64::try_from(count).map_err(io::Error::other)
}

/// Counts the connections that relay-local opens to Clay to deliver rows.
async fn count_connections(programs: &Programs, work: &Path) -> io::Result<u64> {
    let (folder, clay, port) = (tempfile::tempdir_in(work)?, Clay::start().await?, free_port()?);
    let mut command = relay_local(programs, folder.path(), port, &clay.webhook_url());
    command.env("CLAY_RATE_PER_SECOND", "200");
    let server = Server::start(command, folder.path(), port).await?;
    let requests = Requests::new(RequestKind::Webhook, ROWS)?;
    load::drive(server.address(), CALLERS, &requests, RequestKind::Webhook.status(), MAX_DURATION).await?;
    let started_at = Instant::now();
    while clay.rows() < ROWS {
        if started_at.elapsed() > MAX_DURATION {
            return Err(io::Error::other(format!("Clay has {} of {ROWS} rows", clay.rows())));
        }
        sleep(POLL_INTERVAL).await;
    }
    server.stop().await?;
    u64::try_from(clay.connections()).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGETS: RelayLocal<u64> =
        RelayLocal { fsyncs_per_1000_webhooks_at_16_callers: 400, connections_to_clay_per_100_rows: 8 };

    #[test]
    fn count_over_its_budget_is_named() {
        let counted = RelayLocal { fsyncs_per_1000_webhooks_at_16_callers: 401, ..BUDGETS };
        assert_eq!(over_budget(&BUDGETS, &counted), ["fsyncs_per_1000_webhooks_at_16_callers"]);
        let counted = RelayLocal { connections_to_clay_per_100_rows: 9, ..BUDGETS };
        assert_eq!(over_budget(&BUDGETS, &counted), ["connections_to_clay_per_100_rows"]);
    }

    #[test]
    fn count_that_equals_its_budget_is_within() {
        assert!(over_budget(&BUDGETS, &BUDGETS).is_empty());
    }

    #[test]
    fn budgets_of_the_repository_name_every_count_and_no_other() {
        let text = include_str!("../budgets.toml");
        toml::from_str::<Budgets>(text).unwrap();
        assert!(toml::from_str::<Budgets>(&text.replace("fsyncs_per", "commits_per")).is_err());
    }

    #[test]
    fn interrupted_fsync_counts_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let lines = "12 fdatasync(5 <unfinished ...>\n13 fsync(7) = 0\n12 <... fdatasync resumed>) = 0\n";
        fs::write(file.path(), lines).unwrap();
        assert_eq!(fsyncs_in(&file.path().to_owned()).unwrap(), 2);
    }
}
