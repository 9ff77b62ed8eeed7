//! `send-webhook`: what Loops does with an event, and what becomes of it.

use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use clap::Args;
use http::Method;
use http::header::CONTENT_TYPE;
use relay::destination::http_client;
use relay::ports::clock::{Clock as _, SystemClock};
use relay_core::delivery_state::DeliveryState;
use relay_core::policy::response::CallOutcome;

use super::{CommandError, CommandStatus};
use crate::commands::sign::{self, SignedHeaders};
use crate::startup_banner::loopback_address;
use relay::routes::WEBHOOK_PATH;
use relay_sqlite::admin::{self, SqliteAdmin};
use relay_sqlite::data_dir::config::LocalSettings;

/// How long the relay may take to answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(15);
/// How often the store is asked what became of it.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// What `send-webhook` is told.
#[derive(Debug, Clone, Args)]
pub struct SendWebhookArguments {
    /// What is signed, and with which headers
    #[command(flatten)]
    pub sign: sign::SignArguments,
    /// Where to post it [default: the relay at RELAY_LISTEN]
    #[arg(long)]
    pub to: Option<String>,
    /// How many seconds to follow it on its way to Clay
    #[arg(long, default_value_t = 5)]
    pub wait: u64,
}

/// Posts the file, prints the answer, and follows the delivery.
///
/// # Errors
/// When there is nothing to sign or to sign with, or no relay answers.
pub async fn run(settings: &LocalSettings, arguments: &SendWebhookArguments) -> Result<CommandStatus, CommandError> {
    let signed = sign::sign(settings, &arguments.sign)?;
    let url =
        arguments.to.clone().unwrap_or_else(|| format!("http://{}{WEBHOOK_PATH}", loopback_address(settings.listen)));
    let (status, body) = post(&signed, &url).await?;
    let mut out = io::stdout().lock();
    writeln!(out, "{status} {body}")?;
    if !(200..300).contains(&status) {
        return Ok(CommandStatus::Rejected);
    }
    if arguments.to.is_none() && body.contains("\"queued\"") {
        writeln!(out, "{}", follow(settings, signed.id(), Duration::from_secs(arguments.wait)).await?)?;
    }
    Ok(CommandStatus::Succeeded)
}

async fn post(signed: &SignedHeaders, url: &str) -> Result<(u16, String), CommandError> {
    let client = http_client::build()?;
    let mut request =
        client.request(Method::POST, url).header(CONTENT_TYPE, "application/json").body(signed.body.clone());
    for (name, value) in &signed.headers {
        request = request.header(*name, value);
    }
    let response = client.send(request, RESPONSE_TIMEOUT, SystemClock.now()).await;
    match response.outcome {
        CallOutcome::Responded(status) => Ok((status, String::from_utf8_lossy(&response.body).into_owned())),
        _ => Err(CommandError::NoRelay { url: url.to_owned() }),
    }
}

async fn follow(settings: &LocalSettings, webhook_id: &str, max_wait: Duration) -> Result<String, CommandError> {
    let admin = match SqliteAdmin::open(&settings.data_dir) {
        Err(admin::Error::NoStore(_)) => {
            return Ok("its delivery is not in RELAY_DATA: this relay has another data folder".to_owned());
        }
        opened => opened?,
    };
    let started_at = Instant::now();
    loop {
        let state = admin.webhook_state(webhook_id)?;
        match state {
            Some(DeliveryState::Delivered) => return Ok("delivered to Clay".to_owned()),
            Some(DeliveryState::Dead) => {
                return Ok("kept as a dead letter: `relay-local deliveries` tells why".to_owned());
            }
            Some(DeliveryState::Waiting) | None if started_at.elapsed() < max_wait => {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Some(DeliveryState::Waiting) => return Ok("still waiting: `relay-local deliveries` tells why".to_owned()),
            None => return Ok("its delivery is not in RELAY_DATA: this relay has another data folder".to_owned()),
        }
    }
}
