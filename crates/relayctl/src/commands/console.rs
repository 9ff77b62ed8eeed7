//! `console`: serves the page that shows the relay, on this machine alone.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use clap::Args;
use relay_console::guard::Access;
use relay_console::router::routes;
use serde_json::json;
use tokio::net::TcpListener;

use crate::console::backend::Backend;
use crate::error::{Error, UsageError};
use crate::exit::ExitStatus;
use crate::output::Output;
use crate::target::Options;

/// Beside the port of a relay on this machine.
const DEFAULT_LISTEN: &str = "127.0.0.1:8790";

#[derive(Debug, Clone, Args)]
pub(crate) struct ConsoleArguments {
    /// The address and port of this machine that the page is served on
    #[arg(long, value_name = "ADDRESS", default_value = DEFAULT_LISTEN)]
    listen: SocketAddr,
}

/// Serves the page until Ctrl-C.
pub(crate) async fn run(options: &Options, arguments: &ConsoleArguments, output: Output) -> Result<ExitStatus, Error> {
    let address = arguments.listen;
    if !address.ip().is_loopback() {
        return Err(UsageError::ConsoleNotLoopback { address }.into());
    }
    let backend = Arc::new(Backend::new(options.target().await?));
    let cannot_listen = |error: std::io::Error| UsageError::ConsoleCannotListen { address, kind: error.kind() };
    let listener = TcpListener::bind(address).await.map_err(cannot_listen)?;
    let url = format!("http://{}/", listener.local_addr().map_err(cannot_listen)?);
    output.print_json(&json!({"url": url}))?;
    output.print(format!("The console is at {url} until Ctrl-C."))?;
    let routes = routes(backend, Access::ThisMachine, Router::new());
    tokio::select! {
        ended = axum::serve(listener, routes) => ended.map_err(cannot_listen)?,
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(ExitStatus::Ok)
}
