//! `doctor`: examines everything, from the credentials to the last delivery. It writes nothing to Loops or Clay unless
//! `--send` is given.

use clap::Args;
use relay_core::row::{Row, RowKind, RowOptions};
use relay_doctor::local;
use relay_doctor::local_relay::LocalRelay;
use serde_json::json;

use crate::doctor::aws;
use crate::doctor::report::Report;
use crate::error::Error;
use crate::exit::ExitStatus;
use crate::output::Output;
use crate::progress;
use crate::target::{Options, Target};

#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArguments {
    /// Also send one row each way for this address: a signed event to Clay, and a contact to Loops (both stay there)
    #[arg(long, value_name = "ADDRESS", value_parser = parse_address)]
    pub(crate) send: Option<String>,
}

/// Accepts the addresses that the relay accepts in a row.
fn parse_address(text: &str) -> Result<String, String> {
    let row = Row::clean(RowKind::Contact, json!({"email": text}).to_string().as_bytes(), RowOptions::default(), None);
    let address = row.ok().and_then(|row| row.email().map(str::to_owned));
    address.ok_or_else(|| "this is no e-mail address; nothing was sent".to_owned())
}

pub(crate) async fn run(options: &Options, arguments: &DoctorArguments, output: Output) -> Result<ExitStatus, Error> {
    let target = options.target().await?;
    let (steps, target_name) = match &target {
        Target::Stack(_) => (aws::STEPS, target.title()),
        Target::Local(_) => (local::STEPS, target.title()),
    };
    let bar = progress::bar(output.is_json(), steps, "examining");
    let advance = || bar.inc(1);
    let findings = match target {
        Target::Stack(target) => aws::examine(&target, arguments.send.as_deref(), &advance).await,
        Target::Local(data_dir) => {
            let client = relay::destination::http_client::build()?;
            let send = arguments.send.as_deref();
            local::examine_local(&LocalRelay::open(data_dir)?, &client, send, &advance).await?
        }
    };
    bar.finish_and_clear();
    let report = Report::new(target_name, findings);
    output.print_json(&report)?;
    output.print(report.render(output))?;
    Ok(report.exit_status())
}
