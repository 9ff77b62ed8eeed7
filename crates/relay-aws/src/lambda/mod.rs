//! What Lambda asks of a function: HTTP events, SQS batches, start-up, configuration and telemetry.

use std::future::Future;
use std::process::ExitCode;

pub(crate) mod attempt;
pub mod batch;
pub mod contact_order;
pub(crate) mod emf;
pub(crate) mod http_function;
pub(crate) mod init;
pub mod queue_function;
pub(crate) mod telemetry;
pub(crate) mod time_budget;
pub mod worker;

/// Runs a function until its sandbox ends.
pub async fn run_function<F>(run: impl FnOnce() -> F) -> ExitCode
where
    F: Future<Output = Result<(), lambda_runtime::Error>>,
{
    telemetry::init();
    init::exit_code(run().await)
}
