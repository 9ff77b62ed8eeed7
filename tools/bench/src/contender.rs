//! Who takes part: relay-local, and the same job as a user would write it in Node and in Python.

use std::io;
use std::path::{Path, PathBuf};

use relay_sqlite::admin::SqliteAdmin;
use rusqlite::Connection;
use tokio::process::Command;

use crate::server::{Server, free_port};
use crate::traffic::requests::{RELAY_TOKEN, SIGNING_SECRET};

/// The peers' file in their folder.
const PEER_DATABASE: &str = "webhooks.db";

/// Where the programs are.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Programs {
    /// The folder of relay-local and relayctl
    #[arg(long)]
    pub(crate) programs: PathBuf,
    /// The folder of the peers
    #[arg(long, default_value = "tools/bench/peers")]
    pub(crate) peers: PathBuf,
    /// uvicorn, in the environment with the Python peer's packages
    #[arg(long, default_value = ".venv-bench/bin/uvicorn")]
    pub(crate) uvicorn: PathBuf,
}

/// A program that takes signed webhooks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contender {
    Relay,
    Node,
    Python,
}

impl Contender {
    /// Starts it with its data in this folder. `clay_url` is where relay-local delivers to.
    pub(crate) async fn start(self, programs: &Programs, folder: &Path, clay_url: &str) -> io::Result<Server> {
        let port = free_port()?;
        let mut command = match self {
            Self::Relay => return Server::start(relay_local(programs, folder, port, clay_url), folder, port).await,
            Self::Node => {
                let mut command = Command::new("node");
                command.arg(programs.peers.join("node/server.js"));
                command.env("NODE_ENV", "production").env("PORT", port.to_string());
                command
            }
            Self::Python => {
                let mut command = Command::new(&programs.uvicorn);
                command.arg("--app-dir").arg(programs.peers.join("python")).args(["--port", &port.to_string()]);
                command.args(["--no-access-log", "--log-level", "warning", "server:app"]);
                command
            }
        };
        command.env("DATABASE", folder.join(PEER_DATABASE)).env("SIGNING_SECRET", SIGNING_SECRET);
        Server::start(command, folder, port).await
    }

    /// Returns how many webhooks or rows are in its folder.
    pub(crate) fn count_stored(self, folder: &Path) -> io::Result<usize> {
        let count: i64 = match self {
            Self::Relay => {
                SqliteAdmin::open(folder).and_then(|admin| admin.summary()).map_err(io::Error::other)?.deliveries.into()
            }
            Self::Node | Self::Python => Connection::open(folder.join(PEER_DATABASE))
                .and_then(|database| database.query_row("SELECT count(*) FROM webhooks", [], |row| row.get(0)))
                .map_err(io::Error::other)?,
        };
        usize::try_from(count).map_err(io::Error::other)
    }
}

/// relay-local with its default rates. Loops is simulated, and refusals and errors are logged alone, because the peers log
/// nothing.
pub(crate) fn relay_local(programs: &Programs, folder: &Path, port: u16, clay_url: &str) -> Command {
    let mut command = Command::new(programs.programs.join("relay-local"));
    command.arg("--simulate").env_clear().envs([
        ("RELAY_LISTEN", format!("127.0.0.1:{port}")),
        ("RELAY_DATA", folder.display().to_string()),
        ("LOOPS_SIGNING_SECRET", SIGNING_SECRET.to_owned()),
        ("RELAY_TOKEN", RELAY_TOKEN.to_owned()),
        ("CLAY_WEBHOOK_URL", clay_url.to_owned()),
        ("RUST_LOG", "warn".to_owned()),
    ]);
    command
}
