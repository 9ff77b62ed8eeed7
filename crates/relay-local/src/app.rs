//! The handlers and the workers of one relay, on the embedded store.

use std::sync::Arc;

use relay::config::env::SharedSettings;
use relay::delivery::clay::ClayDeliverer;
use relay::delivery::loops::LoopsDeliverer;
use relay::destination::account_secrets::{AccountPorts, AccountSecrets};
use relay::destination::clay::ClayClient;
use relay::destination::http_client::HttpClient;
use relay::destination::loops::{HttpLoopsClient, LoopsClient};
use relay::ingress::api::ApiHandler;
use relay::ingress::clay_row::ClayRowHandler;
use relay::ingress::delivery_status::DeliveryStatusHandler;
use relay::ingress::loops_read::LoopsReadHandler;
use relay::ingress::loops_webhook::LoopsWebhookHandler;
use relay::ingress::schema_cache::SchemaCache;
use relay::ports::clock::SharedClock;
use relay::rate_limit::limiter::LocalRateLimiter;
use relay_sqlite::SqliteStore;

use crate::reloading_secrets::ReloadingSecrets;

/// The secrets of the direction to Loops, with the account of their key.
pub type LoopsSecrets<L> = AccountSecrets<ReloadingSecrets, SqliteStore, L, LocalRateLimiter>;

/// The handlers of the routes and the workers of the two queues, between a Loops and a Clay.
#[derive(Debug)]
pub struct Relay<L = HttpLoopsClient, C = HttpClient> {
    /// Handles `POST /webhooks/loops`.
    pub webhook_handler: LoopsWebhookHandler<ReloadingSecrets, SqliteStore>,
    /// Handles the routes below `/api/v1`.
    pub api_handler: ApiHandler<LoopsSecrets<L>, L, SqliteStore, LocalRateLimiter, SqliteStore>,
    /// Posts to Clay.
    pub clay_deliverer: Arc<ClayDeliverer<ReloadingSecrets, C, SqliteStore, LocalRateLimiter, SqliteStore>>,
    /// Calls Loops.
    pub loops_deliverer: Arc<LoopsDeliverer<LoopsSecrets<L>, L, LocalRateLimiter>>,
}

impl<L: LoopsClient + Clone, C: ClayClient> Relay<L, C> {
    /// A relay between these destinations.
    pub fn with_destinations(
        loops: L,
        clay: C,
        shared: &SharedSettings,
        secrets: ReloadingSecrets,
        store: &SqliteStore,
        clock: &SharedClock,
    ) -> Self {
        let loops_limiter = Arc::new(LocalRateLimiter::new(shared.loops_rate));
        let ports = AccountPorts {
            ledger: store.clone(),
            loops: loops.clone(),
            api_url: shared.loops_api_url.clone(),
            limiter: Arc::clone(&loops_limiter),
            clock: Arc::clone(clock),
        };
        let loops_secrets = AccountSecrets::new(secrets.clone(), ports);
        Self {
            webhook_handler: LoopsWebhookHandler {
                secrets: secrets.clone(),
                queue: store.clone(),
                clock: Arc::clone(clock),
                selection: shared.relayed_events.clone(),
                tolerance: shared.signature_tolerance,
                contact_source: shared.contact_source.clone(),
            },
            api_handler: ApiHandler {
                rows: ClayRowHandler {
                    secrets: loops_secrets.clone(),
                    loops: loops.clone(),
                    intake: store.clone(),
                    limiter: Arc::clone(&loops_limiter),
                    clock: Arc::clone(clock),
                    contact_source: shared.contact_source.clone(),
                    schema: SchemaCache::new(shared.typed_properties),
                },
                reads: LoopsReadHandler {
                    secrets: loops_secrets.clone(),
                    loops: loops.clone(),
                    limiter: Arc::clone(&loops_limiter),
                    clock: Arc::clone(clock),
                },
                status: DeliveryStatusHandler {
                    secrets: loops_secrets.clone(),
                    deliveries: store.clone(),
                    clock: Arc::clone(clock),
                },
            },
            clay_deliverer: Arc::new(ClayDeliverer {
                secrets,
                clay,
                ledger: store.clone(),
                limiter: Arc::new(LocalRateLimiter::new(shared.clay_rate)),
                clock: Arc::clone(clock),
                payload: shared.clay_payload,
                queue: store.clone(),
            }),
            loops_deliverer: Arc::new(LoopsDeliverer {
                secrets: loops_secrets,
                loops,
                limiter: loops_limiter,
                clock: Arc::clone(clock),
            }),
        }
    }
}
