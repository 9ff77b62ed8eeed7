//! What an operator does, timed: start and stop, listings, metrics and doctor; and how fast a queue drains.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relay_core::delivery::Direction;
use relay_sqlite::admin::SqliteAdmin;
use tokio::process::Command;
use tokio::time::sleep;

use crate::contender::{Contender, Programs, relay_local};
use crate::server::{Server, free_port};
use crate::traffic::clay::Clay;
use crate::traffic::load;
use crate::traffic::requests::{RequestKind, Requests};

/// How many rows are drained, and how long that may take.
const ROWS: usize = 1000;
const MAX_DURATION: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// One operation, its unit, and what it took.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timed {
    pub(crate) operation: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) value: f64,
}

/// Measures every operation on this data folder, always in the same order.
pub(crate) async fn measure(programs: &Programs, folder: &Path, clay: &Clay) -> io::Result<Vec<Timed>> {
    let started_at = Instant::now();
    let server = Contender::Relay.start(programs, folder, &clay.webhook_url()).await?;
    load::get(server.address(), "/healthz").await?;
    let mut timed = vec![took("start, until `/healthz` answers", started_at)];
    let asked_at = Instant::now();
    load::get(server.address(), "/metrics").await?;
    timed.push(took("`/metrics`", asked_at));
    let commands: [(&str, &str, Vec<OsString>); 3] = [
        ("`relay-local deliveries`", "relay-local", vec!["deliveries".into()]),
        ("`relay-local deliveries --json`", "relay-local", vec!["deliveries".into(), "--json".into()]),
        ("`relayctl doctor --local`", "relayctl", vec![data_dir_option(folder), "doctor".into()]),
    ];
    for (name, program, arguments) in commands {
        let mut command = Command::new(programs.programs.join(program));
        let relay = relay_local(programs, folder, server.address().port(), &clay.webhook_url());
        let settings = relay.as_std().get_envs().filter_map(|(name, value)| Some((name, value?)));
        command.args(arguments).env_clear().envs(settings);
        timed.push(time_command(name, command).await?);
    }
    let peak_mb = server.peak_memory()? as f64 / 1e6;
    timed.push(Timed { operation: "peak memory of the relay until then", unit: "MB", value: peak_mb });
    let stopped_at = Instant::now();
    server.stop().await?;
    timed.push(took("stop", stopped_at));
    let value = rows_drained_per_second(programs, folder, clay).await?;
    timed.push(Timed { operation: "drain at the highest rate", unit: "rows a second", value });
    Ok(timed)
}

/// Starts a relay with the highest rate, has it store rows while its way to Clay is paused, and ends the pause.
async fn rows_drained_per_second(programs: &Programs, folder: &Path, clay: &Clay) -> io::Result<f64> {
    let port = free_port()?;
    let mut command = relay_local(programs, folder, port, &clay.webhook_url());
    command.env("CLAY_RATE_PER_SECOND", "1000");
    let server = Server::start(command, folder, port).await?;
    let set_paused = |paused| {
        let admin = SqliteAdmin::open(folder).map_err(io::Error::other)?;
        admin.set_paused(Direction::LoopsToClay, paused, Timestamp::now()).map_err(io::Error::other)
    };
    set_paused(true)?;
    let requests = Requests::new(RequestKind::Webhook, ROWS)?;
    load::drive(server.address(), 16, &requests, RequestKind::Webhook.status(), MAX_DURATION).await?;
    let before = clay.rows();
    set_paused(false)?;
    let (mut started_at, resumed_at) = (None, Instant::now());
    while clay.rows() < before + ROWS {
        if clay.rows() == before {
            // The worker looks for work a few times a second.
            started_at = Some(Instant::now());
        }
        if resumed_at.elapsed() > MAX_DURATION {
            return Err(io::Error::other(format!("{} of {ROWS} rows are delivered", clay.rows() - before)));
        }
        sleep(POLL_INTERVAL).await;
    }
    let elapsed = started_at.unwrap_or(resumed_at).elapsed();
    server.stop().await?;
    Ok(ROWS as f64 / elapsed.as_secs_f64())
}

/// Runs a command to its end. Whatever it finds, it must have printed something.
async fn time_command(name: &'static str, mut command: Command) -> io::Result<Timed> {
    let started_at = Instant::now();
    let output = command.output().await?;
    let timed = took(name, started_at);
    if output.stdout.is_empty() {
        return Err(io::Error::other(format!("{name}: {}", String::from_utf8_lossy(&output.stderr))));
    }
    Ok(timed)
}

fn took(operation: &'static str, started_at: Instant) -> Timed {
    Timed { operation, unit: "ms", value: started_at.elapsed().as_secs_f64() * 1e3 }
}

fn data_dir_option(folder: &Path) -> OsString {
    let mut option = OsString::from("--local=");
    option.push(folder);
    option
}
