//! The handlers and the workers, put together on the embedded store.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use relay::config::env::SharedSettings;
use relay::delivery::clay::ClayDeliverer;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::clay::{ClayClient, HttpClayClient};
use relay::destination::http_client::HttpClient;
use relay::destination::loops::{HttpLoopsClient, LoopsClient};
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::loops_webhook::{LoopsWebhookHandler, LoopsWebhookSettings};
use relay::ingress::response::{self, Caller};
use relay::ingress::schema_cache::{SchemaCache, SchemaRefresher};
use relay::ports::clock::Clock;
use relay::rate_limit::limiter::LocalRateLimiter;
use relay_core::error::ErrorCode;
use relay_core::row::RowKind;

use crate::reloading_secrets::ReloadingSecrets;
use relay_sqlite::store::SqliteStore;

/// Time and chance, shared.
pub type SharedClock = Arc<dyn Clock>;
type Loops = HttpLoopsClient<SharedClock>;
type Clay = HttpClayClient<SharedClock>;
type Pace = Arc<LocalRateLimiter>;
/// The worker that posts to Clay.
pub type LocalClayDeliverer<C = Clay> = ClayDeliverer<ReloadingSecrets, C, SqliteStore, Pace, SharedClock, SqliteStore>;
/// What reads the list of contact properties.
pub type LocalProperties<L = Loops> = SchemaRefresher<ReloadingSecrets, L, Pace, SharedClock>;

/// The three routes and the two workers, between a Loops and a Clay.
pub struct Relay<L = Loops, C = Clay> {
    webhooks: LoopsWebhookHandler<ReloadingSecrets, SqliteStore, SharedClock>,
    rows: ClayRowHandler<ReloadingSecrets, L, SqliteStore, Pace, SharedClock>,
    /// The worker that posts to Clay.
    pub clay_delivery: Arc<LocalClayDeliverer<C>>,
    /// The worker that calls Loops.
    pub loops_delivery: Arc<LoopsDeliverer<ReloadingSecrets, L, Pace, SharedClock>>,
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
        ambient: &SharedClock,
    ) -> Self {
        let loops = HttpLoopsClient::new(client.clone(), &shared.loops_api_url, Arc::clone(ambient));
        let clay = HttpClayClient::new(client.clone(), Arc::clone(ambient));
        Self::with_destinations(loops, clay, shared, secrets, store, ambient)
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
        ambient: &SharedClock,
    ) -> Self {
        let loops_pace = Arc::new(LocalRateLimiter::new(shared.loops_rate));
        Self {
            webhooks: LoopsWebhookHandler {
                secrets: secrets.clone(),
                queue: store.clone(),
                clock: Arc::clone(ambient),
                settings: LoopsWebhookSettings {
                    selection: shared.relayed_events.clone(),
                    tolerance: shared.signature_tolerance,
                    contact_source: shared.contact_source.clone(),
                },
            },
            rows: ClayRowHandler {
                secrets: secrets.clone(),
                loops: loops.clone(),
                fast_path: store.clone(),
                limiter: Arc::clone(&loops_pace),
                clock: Arc::clone(ambient),
                contact_source: shared.contact_source.clone(),
                schema: SchemaCache::new(shared.typed_properties),
            },
            clay_delivery: Arc::new(ClayDeliverer {
                secrets: secrets.clone(),
                deliverer: clay,
                ledger: store.clone(),
                limiter: Arc::new(LocalRateLimiter::new(shared.clay_rate)),
                clock: Arc::clone(ambient),
                payload: shared.clay_payload,
                queue: store.clone(),
            }),
            loops_delivery: Arc::new(LoopsDeliverer {
                secrets,
                loops,
                limiter: loops_pace,
                clock: Arc::clone(ambient),
            }),
        }
    }

    /// Answers `POST /webhooks/loops`.
    pub async fn handle_webhook(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.webhooks.handle(request).await
    }

    /// What reads the list of contact properties for the rows.
    pub fn property_reader(&self) -> LocalProperties<L> {
        self.rows.schema_refresher()
    }

    /// A refusal that no handler has made: it gets an id like any other, and is told.
    pub fn unhandled_error(&self, caller: Caller, code: ErrorCode, response: Response<Bytes>) -> Response<Bytes> {
        response::unhandled_error(caller, code, response, &self.rows.clock.new_id())
    }

    /// Answers one of the two routes for rows.
    pub async fn handle_row(&self, kind: RowKind, request: Request<Bytes>) -> Response<Bytes> {
        self.rows.handle(kind, request).await
    }
}
