//! The handlers and the workers, put together on the embedded store.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use relay::config::env::SharedSettings;
use relay::delivery::clay::ClayDelivery;
use relay::delivery::loops::LoopsDelivery;
use relay::delivery::reroute::Rerouting;
use relay::destination::clay::{ClayApi, HttpClay};
use relay::destination::http_client::HttpClient;
use relay::destination::loops::{HttpLoops, LoopsApi};
use relay::ingress::clay_row::ClayToLoops;
use relay::ingress::loops_webhook::{LoopsToClay, LoopsToClaySettings};
use relay::ingress::response::{self, Caller};
use relay::ingress::schema_cache::{PropertyList, PropertyReader};
use relay::ports::clock::Ambient;
use relay::rate_limit::limiter::ProcessPace;
use relay_core::error::Code;
use relay_core::row::Kind;

use crate::reloading_secrets::KeptSecrets;
use relay_sqlite::store::SqliteStore;

/// Time and chance, shared.
pub type SharedAmbient = Arc<dyn Ambient>;
type Loops = HttpLoops<SharedAmbient>;
type Clay = HttpClay<SharedAmbient>;
type Pace = Arc<ProcessPace>;
/// The worker that posts to Clay.
pub type ToClay<C = Clay> = Rerouting<KeptSecrets, C, SqliteStore, Pace, SharedAmbient, SqliteStore>;
/// What reads the list of contact properties.
pub type LocalProperties<L = Loops> = PropertyReader<KeptSecrets, L, Pace, SharedAmbient>;

/// The three routes and the two workers, between a Loops and a Clay.
pub struct Relay<L = Loops, C = Clay> {
    webhooks: LoopsToClay<KeptSecrets, SqliteStore, SharedAmbient>,
    rows: ClayToLoops<KeptSecrets, L, SqliteStore, Pace, SharedAmbient>,
    /// The worker that posts to Clay.
    pub clay_delivery: Arc<ToClay<C>>,
    /// The worker that calls Loops.
    pub loops_delivery: Arc<LoopsDelivery<KeptSecrets, L, Pace, SharedAmbient>>,
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
        secrets: KeptSecrets,
        store: &SqliteStore,
        client: &HttpClient,
        ambient: &SharedAmbient,
    ) -> Self {
        let loops = HttpLoops::new(client.clone(), &shared.loops_api_url, Arc::clone(ambient));
        let clay = HttpClay::new(client.clone(), Arc::clone(ambient));
        Self::between(loops, clay, shared, secrets, store, ambient)
    }
}

impl<L: LoopsApi + Clone, C: ClayApi> Relay<L, C> {
    /// Puts the relay together between these ends.
    #[must_use]
    pub fn between(
        loops: L,
        clay: C,
        shared: &SharedSettings,
        secrets: KeptSecrets,
        store: &SqliteStore,
        ambient: &SharedAmbient,
    ) -> Self {
        let loops_pace = Arc::new(ProcessPace::new(shared.loops_rate));
        Self {
            webhooks: LoopsToClay {
                secrets: secrets.clone(),
                queue: store.clone(),
                ambient: Arc::clone(ambient),
                settings: LoopsToClaySettings {
                    selection: shared.relayed_events.clone(),
                    tolerance: shared.signature_tolerance,
                    contact_source: shared.contact_source.clone(),
                },
            },
            rows: ClayToLoops {
                secrets: secrets.clone(),
                loops: loops.clone(),
                lane: store.clone(),
                pace: Arc::clone(&loops_pace),
                ambient: Arc::clone(ambient),
                contact_source: shared.contact_source.clone(),
                properties: PropertyList::of(shared.typed_properties),
            },
            clay_delivery: Arc::new(Rerouting {
                clay: ClayDelivery {
                    secrets: secrets.clone(),
                    clay,
                    ledger: store.clone(),
                    pace: Arc::new(ProcessPace::new(shared.clay_rate)),
                    ambient: Arc::clone(ambient),
                    payload: shared.clay_payload,
                },
                queue: store.clone(),
            }),
            loops_delivery: Arc::new(LoopsDelivery { secrets, loops, pace: loops_pace, ambient: Arc::clone(ambient) }),
        }
    }

    /// Answers `POST /webhooks/loops`.
    pub async fn webhook(&self, request: Request<Bytes>) -> Response<Bytes> {
        self.webhooks.handle(request).await
    }

    /// What reads the list of contact properties for the rows.
    pub fn property_reader(&self) -> LocalProperties<L> {
        self.rows.property_reader()
    }

    /// A refusal that no handler has made: it gets an id like any other, and is told.
    pub fn refused(&self, caller: Caller, code: Code, response: Response<Bytes>) -> Response<Bytes> {
        response::refused_unhandled(caller, code, response, &self.rows.ambient.unique())
    }

    /// Answers one of the two routes for rows.
    pub async fn row(&self, kind: Kind, request: Request<Bytes>) -> Response<Bytes> {
        self.rows.handle(kind, request).await
    }
}
