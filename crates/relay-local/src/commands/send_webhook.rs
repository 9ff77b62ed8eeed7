//! `send-webhook`: posts an event as Loops does, and follows its delivery.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use http::Method;
use http::header::CONTENT_TYPE;
use relay::destination::http_client::{self, HttpClient};
use relay::ports::clock::{Clock as _, SystemClock};
use relay::routes::WEBHOOK_PATH;
use relay_core::delivery_state::DeliveryState;
use relay_core::policy::response::CallOutcome;
use relay_sqlite::admin::{self, SqliteAdmin};
use relay_sqlite::data_dir::config::{LocalSettings, loopback_address};

use super::CommandError;
use crate::commands::sign::{self, SignedHeaders};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Args)]
pub(crate) struct SendWebhookArguments {
    #[command(flatten)]
    sign: sign::SignArguments,
    /// Where to post it [default: the relay at RELAY_LISTEN]
    #[arg(long)]
    to: Option<String>,
    /// How many seconds to follow it on its way to Clay
    #[arg(long, default_value_t = 5)]
    wait: u64,
}

/// Posts the file, prints the response, and follows the delivery. It fails if the response is not a 2xx.
pub(crate) async fn run(settings: &LocalSettings, arguments: &SendWebhookArguments) -> Result<ExitCode, CommandError> {
    let signed = sign::sign(settings, &arguments.sign)?;
    let url =
        arguments.to.clone().unwrap_or_else(|| format!("http://{}{WEBHOOK_PATH}", loopback_address(settings.listen)));
    let answer = post(&http_client::build()?, &signed, &url).await;
    let (status, body) = answer.ok_or(CommandError::NoRelay(url))?;
    let mut out = io::stdout().lock();
    writeln!(out, "{status} {body}")?;
    if !(200..300).contains(&status) {
        return Ok(ExitCode::FAILURE);
    }
    if arguments.to.is_none() && body.contains("\"queued\"") {
        writeln!(out, "{}", follow(settings, signed.id(), Duration::from_secs(arguments.wait)).await?)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Posts a signed webhook. Returns the status and the body of the response, if one comes.
pub(crate) async fn post(client: &HttpClient, signed: &SignedHeaders, url: &str) -> Option<(u16, String)> {
    let mut request =
        client.request(Method::POST, url).header(CONTENT_TYPE, "application/json").body(signed.body.clone());
    for (name, value) in &signed.headers {
        request = request.header(*name, value);
    }
    let response = client.send(request, RESPONSE_TIMEOUT, SystemClock.now()).await;
    match response.outcome {
        CallOutcome::Responded(status) => Some((status, String::from_utf8_lossy(&response.body).into_owned())),
        _ => None,
    }
}

/// Polls the store until the delivery is delivered or dead, or the time is over.
async fn follow(settings: &LocalSettings, webhook_id: &str, max_wait: Duration) -> Result<&'static str, CommandError> {
    const UNKNOWN: &str = "its delivery is not in RELAY_DATA: this relay has another data folder";
    let admin = match SqliteAdmin::open(&settings.data_dir) {
        Err(admin::Error::NoStore(_)) => return Ok(UNKNOWN),
        opened => opened?,
    };
    let started_at = Instant::now();
    loop {
        return Ok(match admin.webhook_state(webhook_id)? {
            Some(DeliveryState::Delivered) => "delivered to Clay",
            Some(DeliveryState::Dead) => "kept as a dead letter: `relay-local deliveries` tells why",
            Some(DeliveryState::Waiting) | None if started_at.elapsed() < max_wait => {
                tokio::time::sleep(POLL_INTERVAL).await;
                continue;
            }
            Some(DeliveryState::Waiting) => "still waiting: `relay-local deliveries` tells why",
            None => UNKNOWN,
        });
    }
}
