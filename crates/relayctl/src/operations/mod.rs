//! What an operator does with deliveries, wherever the relay keeps them: a stack in an AWS account, or a data folder.

pub mod letter_box;
pub mod local;
pub mod record;
pub mod stack;
pub mod stack_letters;

use std::future::Future;

use relay_core::contact::{ContactHashKey, ContactKey};
use relay_core::delivery::Direction;
use relay_core::delivery_state::DeliveryState;

use crate::error::Error;
use record::{DeliveryRecord, PauseResult, QueueRecord};

/// Both directions.
pub const DIRECTIONS: [Direction; 2] = [Direction::LoopsToClay, Direction::ClayToLoops];

/// Which deliveries are wanted; what is not given does not matter.
#[derive(Debug, Clone, Default)]
pub struct DeliveryQuery {
    /// Only those in this state.
    pub state: Option<DeliveryState>,
    /// Only this way.
    pub direction: Option<Direction>,
    /// Only of the contact with this hash.
    pub contact_hash: Option<String>,
    /// Only of this webhook of Loops.
    pub webhook_id: Option<String>,
    /// The routes that it may have gone; those of the secret, where none is given. Only a stack asks for them.
    pub routes: Vec<String>,
    /// At most that many, the latest.
    pub limit: Option<u32>,
}

/// What is known of deliveries, and what is done with a direction as a whole.
pub trait Admin {
    /// Deliveries in the order of their arrival.
    ///
    /// # Errors
    /// When what keeps them cannot be read.
    fn deliveries(&self, query: &DeliveryQuery) -> impl Future<Output = Result<Vec<DeliveryRecord>, Error>>;

    /// One delivery, with how often which reason occurred.
    ///
    /// # Errors
    /// When what keeps it cannot be read.
    fn delivery(&self, id: &str) -> impl Future<Output = Result<Option<DeliveryRecord>, Error>>;

    /// How the queues stand.
    ///
    /// # Errors
    /// When they cannot be asked.
    fn queues(&self) -> impl Future<Output = Result<Vec<QueueRecord>, Error>>;

    /// Pauses a direction, or ends its pause. Doing it again changes nothing.
    ///
    /// # Errors
    /// When it cannot be done; doing it again completes what was done in part.
    fn set_paused(&self, direction: Direction, paused: bool) -> impl Future<Output = Result<PauseResult, Error>>;

    /// What the names of the functions begin with whose logs tell of contacts that are on no record; nothing where all are
    /// on record.
    fn log_group_prefix(&self) -> Option<&str>;

    /// What contacts are hashed with here.
    ///
    /// # Errors
    /// When it cannot be read.
    fn contact_hash_key(&self) -> Result<Option<ContactHashKey>, Error>;
}

/// The hash of a contact that is given as an address, as a user id, or as the hash itself.
///
/// # Errors
/// When the relay has no key to hash with.
pub fn resolve_contact_hash(admin: &impl Admin, contact: &str) -> Result<String, Error> {
    let contact = contact.trim();
    if contact.len() == 16 && contact.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(contact.to_ascii_lowercase());
    }
    let key = admin.contact_hash_key()?.ok_or(Error::NoContactHashKey)?;
    let contact =
        if contact.contains('@') { ContactKey::from_email(contact) } else { ContactKey::from_user_id(contact) };
    Ok(contact.log_hash(&key))
}
