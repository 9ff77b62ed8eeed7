//! `relayctl --local` on a data folder.

mod cli;
mod console;
mod doctor;
mod operations;
mod setup;
mod terminal;
mod tokens;

use std::os::unix::fs::PermissionsExt as _;

use relay_testkit::mock_destination::{MockDestination, Reply};
use relay_testkit::relay_process::{Relay, TempDataDir};
use relay_testkit::relayctl::{CliOutput, LOOPS_TEAM_BODY, run_relayctl};
use relay_testkit::webhook::SIGNING_SECRET;

/// The program on a folder, with the environment of a terminal that sets nothing but this.
async fn relayctl(
    folder: &std::path::Path,
    variables: &[(&'static str, String)],
    arguments: &[&str],
    input: &str,
) -> CliOutput {
    let local = format!("--local={}", folder.display());
    run_relayctl(variables, &[&[local.as_str()], arguments].concat(), input).await
}

/// Where a running relay listens, for the program.
fn listen_variables(relay: &Relay) -> Vec<(&'static str, String)> {
    vec![("RELAY_LISTEN", relay.base().trim_start_matches("http://").to_owned())]
}

/// A folder that is its owner's alone, as relay-local makes it.
fn private_data_dir() -> TempDataDir {
    let folder = TempDataDir::new();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

async fn start_destinations() -> (MockDestination, MockDestination) {
    (
        MockDestination::start(Reply::json(200, LOOPS_TEAM_BODY)).await,
        MockDestination::start(Reply::json(200, "{}")).await,
    )
}

fn setup_input(clay: &MockDestination) -> String {
    let url = clay.url("/v3/sources/webhook/hidden");
    format!(
        "LOOPS_API_KEY=hidden-key\nLOOPS_SIGNING_SECRET={SIGNING_SECRET}\nCLAY_WEBHOOK_URL={url}\nCLAY_WEBHOOK_AUTH_TOKEN=hidden-token\n"
    )
}
