//! The handlers and the workers, put together on the embedded store.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use relay::config::env::SharedSettings;
use relay::delivery::clay::ClayDeliverer;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::clay::ClayClient;
use relay::destination::http_client::HttpClient;
use relay::destination::loops::{HttpLoopsClient, LoopsClient};
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::loops_webhook::LoopsWebhookHandler;
use relay::ingress::response::{self, Caller};
use relay::ingress::schema_cache::{SchemaCache, SchemaRefresher};
use relay::ports::clock::SharedClock;
use relay::rate_limit::limiter::LocalRateLimiter;
use relay_core::error::ErrorCode;
use relay_core::row::RowKind;

use crate::reloading_secrets::ReloadingSecrets;
use relay_sqlite::store::SqliteStore;

/// The worker that posts to Clay.
pub type LocalClayDeliverer<C = HttpClient> =
    ClayDeliverer<ReloadingSecrets, C, SqliteStore, LocalRateLimiter, SqliteStore>;
/// What reads the list of contact properties.
pub type LocalSchemaRefresher<L = HttpLoopsClient> = SchemaRefresher<ReloadingSecrets, L, LocalRateLimiter>;

/// The three routes and the two workers, between a Loops and a Clay.
pub struct Relay<L = HttpLoopsClient, C = HttpClient> {
    webhook_handler: LoopsWebhookHandler<ReloadingSecrets, SqliteStore>,
    row_handler: ClayRowHandler<ReloadingSecrets, L, SqliteStore, LocalRateLimiter>,
    /// The worker that posts to Clay.
    pub clay_deliverer: Arc<LocalClayDeliverer<C>>,
    /// The worker that calls Loops.
    pub loops_deliverer: Arc<LoopsDeliverer<ReloadingSecrets, L, LocalRateLimiter>>,
}

impl<L, C> std::fmt::Debug for Relay<L, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay")
    }
}

impl Relay {
    /// Puts the relay together; it calls both ends by this client.
    #[must_use]
    pub fn new(
        shared: &SharedSettings,
        secrets: ReloadingSecrets,
        store: &SqliteStore,
        client: &HttpClient,
        clock: &SharedClock,
    ) -> Self {
        let loops = HttpLoopsClient::new(client.clone(), &shared.loops_api_url);
        let clay = client.clone();
        Self::with_destinations(loops, clay, shared, secrets, store, clock)
    }
}

impl<L: LoopsClient + Clone, C: ClayClient> Relay<L, C> {
    /// Puts the relay together between these ends.
    #[must_use]
    pub fn with_destinations(
        loops: L,
        clay: C,
        shared: &SharedSettings,
        secrets: ReloadingSecrets,
        store: &SqliteStore,
        clock: &SharedClock,
    ) -> Self {
        let loops_limiter = Arc::new(LocalRateLimiter::new(shared.loops_rate));
        Self {
            webhook_handler: LoopsWebhookHandler {
                secrets: secrets.clone(),
                queue: store.clone(),
                clock: Arc::clone(clock),
                selection: shared.relayed_events.clone(),
                tolerance: shared.signature_tolerance,
                contact_source: shared.contact_source.clone(),
            },
            row_handler: ClayRowHandler {
                secrets: secrets.clone(),
                loops: loops.clone(),
                fast_path: store.clone(),
                limiter: Arc::clone(&loops_limiter),
                clock: Arc::clone(clock),
                contact_source: shared.contact_source.clone(),
                schema: SchemaCache::new(shared.typed_properties),
            },
            clay_deliverer: Arc::new(ClayDeliverer {
                secrets: secrets.clone(),
                deliverer: clay,
                ledger: store.clone(),
                limiter: Arc::new(LocalRateLimiter::new(shared.clay_rate)),
                clock: Arc::clone(clock),
                payload: shared.clay_payload,
                queue: store.clone(),
            }),
            loops_deliverer: Arc::new(LoopsDeliverer {
                secrets,
                loops,
                limiter: loops_limiter,
                clock: Arc::clone(clock),
            }),
        }
    }

    /// Answers `POST /webhooks/loops`.
    pub async fn handle_webhook(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.webhook_handler.handle(request).await
    }

    /// What reads the list of contact properties for the rows.
    pub fn schema_refresher(&self) -> LocalSchemaRefresher<L> {
        self.row_handler.schema_refresher()
    }

    /// A refusal that no handler has made: it gets an id like any other, and is told.
    pub fn unhandled_error(&self, caller: Caller, code: ErrorCode, response: Response<Bytes>) -> Response<Bytes> {
        response::unhandled_error(caller, code, response, &self.row_handler.clock.new_id())
    }

    /// Answers one of the two routes for rows.
    pub async fn handle_row(&self, kind: RowKind, request: Request<Bytes>) -> Response<Bytes> {
        self.row_handler.handle(kind, request).await
    }
}
