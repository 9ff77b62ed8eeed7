//! The function behind `POST /webhooks/loops`.

use lambda_runtime::Error;
use relay::ingress::loops_webhook::LoopsWebhookHandler;
use relay::ingress::response::Caller;

use crate::functions::setup::{Setup, WEBHOOK_VARIABLES};
use crate::lambda::http_function;
use crate::lambda::init::warm_up;
use crate::secrets::cached_secret::SecretUser;

/// Verifies webhooks of Loops and enqueues them for Clay.
///
/// # Errors
/// When a setting is wrong or the runtime fails.
pub async fn run() -> Result<(), Error> {
    let Setup { shared, client, clock, secrets, queue, .. } =
        Setup::from_env(&WEBHOOK_VARIABLES, SecretUser::HttpFunction)?;
    warm_up(&secrets, &client, &[queue.url()]).await;
    let handler = LoopsWebhookHandler {
        secrets,
        queue: queue.connect_eagerly(),
        clock,
        selection: shared.relayed_events,
        tolerance: shared.signature_tolerance,
        contact_source: shared.contact_source,
    };
    http_function::serve(Caller::Loops, |request| handler.handle(request)).await
}
