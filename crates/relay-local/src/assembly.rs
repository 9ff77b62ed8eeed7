//! The handlers and the workers, put together on the embedded store.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use relay::ambient::Ambient;
use relay::answer::{self, Caller};
use relay::clay_api::{ClayApi, HttpClay};
use relay::clay_delivery::ClayDelivery;
use relay::clay_to_loops::ClayToLoops;
use relay::http_client::HttpClient;
use relay::loops_api::{HttpLoops, LoopsApi};
use relay::loops_delivery::LoopsDelivery;
use relay::loops_to_clay::{LoopsToClay, LoopsToClaySettings};
use relay::pace::ProcessPace;
use relay::property_list::{PropertyList, PropertyReader};
use relay::rerouting::Rerouting;
use relay::secrets::{ClayToLoopsSecret, LoopsToClaySecret, SecretField, Settled};
use relay::settings::SharedSettings;
use relay_core::refusal::Code;
use relay_core::row::Kind;

use crate::settings;
use crate::store::SqliteStore;

/// Time and chance, shared.
pub type SharedAmbient = Arc<dyn Ambient>;
type Loops = HttpLoops<SharedAmbient>;
type Clay = HttpClay<SharedAmbient>;
type Pace = Arc<ProcessPace>;
/// The worker that posts to Clay.
pub type ToClay<C = Clay> = Rerouting<Settled<LoopsToClaySecret>, C, SqliteStore, Pace, SharedAmbient, SqliteStore>;
/// What reads the list of contact properties.
pub type LocalProperties<L = Loops> = PropertyReader<Settled<ClayToLoopsSecret>, L, Pace, SharedAmbient>;

/// What the two directions need to know.
#[derive(Debug)]
pub struct Keys {
    /// Signing secrets and routes.
    pub loops_to_clay: LoopsToClaySecret,
    /// Loops key and relay tokens.
    pub clay_to_loops: ClayToLoopsSecret,
}

/// The three routes and the two workers, between a Loops and a Clay.
pub struct Relay<L = Loops, C = Clay> {
    webhooks: LoopsToClay<Settled<LoopsToClaySecret>, SqliteStore, SharedAmbient>,
    rows: ClayToLoops<Settled<ClayToLoopsSecret>, L, SqliteStore, Pace, SharedAmbient>,
    /// The worker that posts to Clay.
    pub clay_delivery: Arc<ToClay<C>>,
    /// The worker that calls Loops.
    pub loops_delivery: Arc<LoopsDelivery<Settled<ClayToLoopsSecret>, L, Pace, SharedAmbient>>,
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
        keys: Keys,
        store: &SqliteStore,
        client: &HttpClient,
        ambient: &SharedAmbient,
    ) -> Self {
        let loops = HttpLoops::new(client.clone(), &shared.loops_api_url, Arc::clone(ambient));
        let clay = HttpClay::new(client.clone(), Arc::clone(ambient));
        Self::between(loops, clay, shared, keys, store, ambient)
    }
}

impl<L: LoopsApi + Clone, C: ClayApi> Relay<L, C> {
    /// Puts the relay together between these ends.
    #[must_use]
    pub fn between(
        loops: L,
        clay: C,
        shared: &SharedSettings,
        keys: Keys,
        store: &SqliteStore,
        ambient: &SharedAmbient,
    ) -> Self {
        let to_clay = Settled::new(keys.loops_to_clay, setting_of);
        let to_loops = Settled::new(keys.clay_to_loops, setting_of);
        let loops_pace = Arc::new(ProcessPace::new(shared.loops_rate));
        Self {
            webhooks: LoopsToClay {
                secrets: to_clay.clone(),
                queue: store.clone(),
                ambient: Arc::clone(ambient),
                settings: LoopsToClaySettings {
                    selection: shared.relayed_events.clone(),
                    tolerance: shared.signature_tolerance,
                    contact_source: shared.contact_source.clone(),
                },
            },
            rows: ClayToLoops {
                secrets: to_loops.clone(),
                loops: loops.clone(),
                lane: store.clone(),
                pace: Arc::clone(&loops_pace),
                ambient: Arc::clone(ambient),
                contact_source: shared.contact_source.clone(),
                properties: PropertyList::of(shared.typed_properties),
            },
            clay_delivery: Arc::new(Rerouting {
                clay: ClayDelivery {
                    secrets: to_clay,
                    clay,
                    ledger: store.clone(),
                    pace: Arc::new(ProcessPace::new(shared.clay_rate)),
                    ambient: Arc::clone(ambient),
                    payload: shared.clay_payload,
                },
                queue: store.clone(),
            }),
            loops_delivery: Arc::new(LoopsDelivery {
                secrets: to_loops,
                loops,
                pace: loops_pace,
                ambient: Arc::clone(ambient),
            }),
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
        answer::refused_unhandled(caller, code, response, &self.rows.ambient.unique())
    }

    /// Answers one of the two routes for rows.
    pub async fn row(&self, kind: Kind, request: Request<Bytes>) -> Response<Bytes> {
        self.rows.handle(kind, request).await
    }
}

const fn setting_of(field: SecretField) -> &'static str {
    match field {
        SecretField::SigningSecrets => settings::LOOPS_SIGNING_SECRET,
        SecretField::ClayRoutes => settings::CLAY_WEBHOOK_URL,
        SecretField::LoopsApiKey => settings::LOOPS_API_KEY,
        SecretField::RelayTokens => settings::RELAY_TOKEN,
    }
}
