//! `PUT /api/v1/contacts/update` and `POST /api/v1/events/send`: a row of a Clay table becomes a Loops contact or event.
//!
//! Where Loops has room, the row is answered with Loops' own answer; where it has none, the row is stored, and answered
//! with 202. Every request is one of the [`Ending`]s, and one place turns that into the answer.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use relay_core::delivery::{Cargo, Delivery, DeliveryId};
use relay_core::error::{Code, Refusal};
use relay_core::idempotency::{self, IdempotencyKey};
use relay_core::policy::retry;
use relay_core::row::{Kind, Row, RowOptions};
use relay_core::secret::SecretString;
use tokio::time::{Duration, Instant};
use tracing::error;

use crate::REQUEST_BYTES;
use crate::destination::loops::LoopsApi;
use crate::ingress::row_outcome::{About, Ending, LoopsAnswer};
use crate::ingress::schema_cache::{PropertyList, PropertyReader};
use crate::ingress::sync_send::{Direct, DirectAttempt};
use crate::ports::clock::Ambient;
use crate::ports::queue::{Admission, DirectEnd, DirectLane, StoreFault, Wish};
use crate::ports::secrets::{ClayToLoopsSecret, SecretField, SecretSource};
use crate::rate_limit::limiter::{Pace, Turn};
use crate::telemetry::event::Tally;

/// The time in which a row is answered: below what Clay's column waits, and below a gateway's 30 s.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often a caller whose twin is being sent asks again.
const BUSY_STEP: Duration = Duration::from_millis(50);

/// The handler of both routes.
#[derive(Debug, Clone)]
pub struct ClayToLoops<S, L, D, P, A> {
    /// The relay tokens and the Loops key.
    pub secrets: S,
    /// The Loops API.
    pub loops: L,
    /// The lane past the queue, and the queue.
    pub lane: D,
    /// The pace of calls to Loops, shared with the worker.
    pub pace: P,
    /// Time and chance.
    pub ambient: A,
    /// The `source` that is written into contacts that carry none, if it is set.
    pub contact_source: Option<String>,
    /// What is known of the account's properties.
    pub properties: PropertyList,
}

/// A request that may be sent: authenticated, read and clean.
struct Wanted {
    delivery: Delivery,
    wish: Wish,
    api_key: SecretString,
    /// The fields that were left out or cut.
    adjusted: Vec<String>,
}

impl<S, L, D, P, A> ClayToLoops<S, L, D, P, A>
where
    S: SecretSource<ClayToLoopsSecret>,
    L: LoopsApi,
    D: DirectLane,
    P: Pace,
    A: Ambient,
{
    /// Answers one request of the route for that kind of row.
    pub async fn handle(&self, kind: Kind, request: Request<Bytes>) -> Response<Bytes> {
        let (begun, mut tally) = (Instant::now(), Tally::default());
        let deadline = begun + ANSWER_WITHIN;
        let (about, ending) = match self.read(kind, request).await {
            Ok(mut wanted) => {
                let id = wanted.delivery.id.clone();
                let adjusted = std::mem::take(&mut wanted.adjusted);
                let contact = Some(wanted.delivery.contact.clone());
                let about = About { id, contact, adjusted, later: wanted.wish == Wish::Later };
                (about, self.send(wanted, deadline, &mut tally).await)
            }
            Err(refusal) => (About::no_delivery(&self.ambient.unique()), Ending::Refused(refusal)),
        };
        ending.tell(kind, &about, begun.elapsed(), tally);
        ending.answer(&about)
    }

    async fn read(&self, kind: Kind, request: Request<Bytes>) -> Result<Wanted, Refusal> {
        let (parts, body) = request.into_parts();
        let secret = self.authenticate(&parts.headers).await?;
        if body.len() > REQUEST_BYTES {
            return Err(Refusal::new(
                Code::TooLarge,
                "The row is larger than 256 KiB: take columns out of the body of the HTTP API column.",
            ));
        }
        let options = RowOptions::from_query(parts.uri.query().unwrap_or_default())?;
        let given_key = match kind {
            Kind::Contact => None,
            Kind::Event => {
                let keys = parts.headers.get_all(idempotency::HEADER).iter();
                IdempotencyKey::given_once(keys.map(http::HeaderValue::as_bytes))?
            }
        };
        let mut row = self.clean(kind, &body, options)?;
        if let Some(source) = &self.contact_source {
            row.add_source(source);
        }
        let api_key = match secret.api_key.clone() {
            Some(api_key) => Some(api_key),
            // It may have been filled in a moment ago.
            None => self.secrets.reread().await.ok().and_then(|secret| secret.api_key.clone()),
        };
        let Some(api_key) = api_key else {
            let name = self.secrets.name_of(SecretField::LoopsApiKey);
            let message = format!("The relay has no Loops API key: put one into {name}, then run the row again.");
            return Err(Refusal::new(Code::NotConfigured, message));
        };
        let wish = if wants_async(&parts.headers) { Wish::Later } else { Wish::Direct };
        let delivery = self.delivery(&row, options, given_key);
        Ok(Wanted { delivery, wish, api_key, adjusted: row.adjusted().to_vec() })
    }

    fn clean(&self, kind: Kind, body: &[u8], options: RowOptions) -> Result<Row, Refusal> {
        let properties = self.properties.look(self.ambient.now());
        let cleaned = Row::clean_for(kind, body, options, properties.as_deref());
        if cleaned.as_ref().is_err_and(Refusal::rests_on_properties) {
            self.properties.doubt(self.ambient.now());
        }
        cleaned
    }

    async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<ClayToLoopsSecret>, Refusal> {
        let unreadable =
            |_| Refusal::new(Code::Unavailable, "The relay's tokens cannot be read now: run the row again later.");
        let authorization = headers.get(http::header::AUTHORIZATION).map(http::HeaderValue::as_bytes);
        let mut secret = self.secrets.current().await.map_err(unreadable)?;
        if !secret.tokens.admit(authorization) {
            // It may be a token that was set a moment ago.
            secret = self.secrets.reread().await.map_err(unreadable)?;
        }
        if secret.tokens.admit(authorization) {
            return Ok(secret);
        }
        let name = self.secrets.name_of(SecretField::RelayTokens);
        let message = if secret.tokens.is_empty() {
            format!("The relay has no token yet, so it is closed: put one into {name}.")
        } else {
            format!(
                "The relay's token is missing or wrong: send the header Authorization with Bearer and a token of {name}."
            )
        };
        Err(Refusal::new(Code::InvalidToken, message))
    }

    fn delivery(&self, row: &Row, options: RowOptions, given_key: Option<IdempotencyKey>) -> Delivery {
        let (id, cargo) = match row.kind() {
            Kind::Contact => (DeliveryId::unique(&self.ambient.unique()), Cargo::LoopsContact),
            Kind::Event => {
                let key = given_key.unwrap_or_else(|| self.event_key(row, options));
                (DeliveryId::of_event(&key), Cargo::LoopsEvent { key })
            }
        };
        let received_at = self.ambient.now();
        Delivery { id, contact: row.contact(), received_at, cargo, body: row.to_body().into() }
    }

    fn event_key(&self, row: &Row, options: RowOptions) -> IdempotencyKey {
        if !options.dedupe {
            return IdempotencyKey::unique(&self.ambient.unique());
        }
        let name = row.event_name().unwrap_or_default();
        IdempotencyKey::derived(name, row.email(), row.user_id(), row.event_properties())
    }

    async fn send(&self, wanted: Wanted, deadline: Instant, tally: &mut Tally) -> Ending {
        let Wanted { delivery, wish, api_key, adjusted: _ } = wanted;
        // Room is asked for first: a row that finds none is stored in one step. The turn is waited for only after the row
        // has its place in the lane, so that no other of its contact gets past it meanwhile.
        let preferred = wish == Wish::Later;
        let turn = if preferred { None } else { self.pace.try_take().await };
        let wish = if turn.is_some() { Wish::Direct } else { Wish::Later };
        let (admission, turn) = match self.admit(&delivery, wish, deadline).await {
            Ok(admission) => (admission, turn),
            Err(fault) => {
                error!(delivery.id = %delivery.id, fault = %fault, "the store cannot be written");
                // To have it stored was a wish; to have it delivered is as good.
                let turn = if preferred { self.pace.try_take().await } else { turn };
                match self.admit_unstored(&delivery, turn.is_some()).await {
                    Some(admission) => (admission, turn),
                    None => return Ending::unavailable("The row cannot be stored"),
                }
            }
        };
        match admission {
            Admission::Queued => Ending::Queued,
            Admission::DeliveredBefore => delivered_before(&delivery),
            Admission::Busy => Ending::unavailable("The same row is being sent right now"),
            Admission::Direct => {
                let _guard = self.lane.guard(&delivery);
                // Only who has a turn wishes to be admitted; who is admitted all the same sends at once.
                let turn = turn.unwrap_or_else(|| Turn::from(Instant::now()));
                self.send_directly(&delivery, turn, api_key, deadline, tally).await
            }
        }
    }

    async fn admit(&self, delivery: &Delivery, wish: Wish, deadline: Instant) -> Result<Admission, StoreFault> {
        loop {
            match self.lane.admit(delivery, wish).await? {
                Admission::Busy if Instant::now() < deadline => tokio::time::sleep(BUSY_STEP).await,
                admission => return Ok(admission),
            }
        }
    }

    fn direct(&self) -> Direct<'_, S, L, P, A> {
        Direct { secrets: &self.secrets, loops: &self.loops, pace: &self.pace, ambient: &self.ambient }
    }

    async fn send_directly(
        &self,
        delivery: &Delivery,
        turn: Turn,
        api_key: SecretString,
        deadline: Instant,
        tally: &mut Tally,
    ) -> Ending {
        let attempt = self.direct().attempt(delivery, turn, api_key, deadline, tally).await;
        let end = match &attempt {
            DirectAttempt::Answered(_) | DirectAttempt::Duplicate => DirectEnd::Delivered,
            DirectAttempt::Refused { .. } | DirectAttempt::KeyRejected(_) => DirectEnd::Refused,
            DirectAttempt::Failed { attempts, asked, reason } => {
                let wait = retry::wait(*attempts, *asked, self.ambient.chance());
                DirectEnd::Postponed {
                    attempts: *attempts,
                    at: retry::after(self.ambient.now(), wait),
                    reason: *reason,
                    firm: retry::is_firm(*asked, *reason),
                }
            }
        };
        let settled = self.lane.settle_direct(delivery, end).await;
        if let Err(fault) = &settled {
            error!(delivery.id = %delivery.id, fault = %fault, "direct delivery not recorded");
        }
        ending_of(attempt, settled.is_ok())
    }

    /// The store cannot be written. Loops may still take the row, if nothing of its contact waits, and nothing newer can get
    /// past it meanwhile; and it may be stored all the same, because only the answer to that was lost.
    async fn admit_unstored(&self, delivery: &Delivery, has_turn: bool) -> Option<Admission> {
        if !has_turn {
            return None;
        }
        match self.lane.admit_unstored(delivery).await {
            Ok(Admission::Busy) => None,
            Ok(admission) => Some(admission),
            Err(fault) => {
                error!(delivery.id = %delivery.id, fault = %fault, "row neither sent nor stored");
                None
            }
        }
    }
}

/// What was delivered before; a contact only where its storing was not answered, and a worker has been faster.
fn delivered_before(delivery: &Delivery) -> Ending {
    match delivery.cargo {
        Cargo::LoopsEvent { .. } => Ending::Duplicate,
        Cargo::LoopsContact | Cargo::ClayRow { .. } => {
            Ending::Delivered(LoopsAnswer { status: StatusCode::OK, body: Bytes::new() })
        }
    }
}

/// How a row ends that was tried; `kept` where it is stored should it have failed.
fn ending_of(attempt: DirectAttempt, kept: bool) -> Ending {
    match attempt {
        DirectAttempt::Answered(answer) => Ending::Delivered(answer),
        DirectAttempt::Duplicate => Ending::Duplicate,
        DirectAttempt::Refused { status, message } => Ending::LoopsRejected { status, message },
        DirectAttempt::KeyRejected(refusal) => Ending::Refused(refusal),
        DirectAttempt::Failed { .. } if kept => Ending::Queued,
        DirectAttempt::Failed { .. } => Ending::unavailable("Loops has no room and the row cannot be stored"),
    }
}

impl<S: Clone, L: Clone, D, P: Clone, A: Clone> ClayToLoops<S, L, D, P, A> {
    /// What reads the list of properties for this handler.
    #[must_use]
    pub fn property_reader(&self) -> PropertyReader<S, L, P, A> {
        PropertyReader {
            list: self.properties.clone(),
            secrets: self.secrets.clone(),
            loops: self.loops.clone(),
            pace: self.pace.clone(),
            ambient: self.ambient.clone(),
        }
    }
}

/// Whether the caller asks for an answer at once (RFC 7240 §4.1). Preferences that are not known are not minded (§2), and
/// what stands behind a `;` is a parameter of the preference before it.
fn wants_async(headers: &HeaderMap) -> bool {
    headers
        .get_all("prefer")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next())
        .any(|preference| preference.trim().eq_ignore_ascii_case("respond-async"))
}
