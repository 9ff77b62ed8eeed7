//! What a token may do.

use std::collections::BTreeSet;

use strum::{Display, EnumString, IntoStaticStr, VariantArray};

/// What a token may do. Each API route needs one scope.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Display, EnumString, IntoStaticStr, VariantArray,
)]
pub enum Scope {
    /// Create and update contacts.
    #[strum(serialize = "contacts:write")]
    ContactsWrite,
    /// Send events.
    #[strum(serialize = "events:send")]
    EventsSend,
    /// Find contacts, and read whether they are suppressed.
    #[strum(serialize = "contacts:read")]
    ContactsRead,
    /// Delete contacts.
    #[strum(serialize = "contacts:delete")]
    ContactsDelete,
    /// Send transactional e-mails.
    #[strum(serialize = "email:send")]
    EmailSend,
    /// Ask what became of a delivery.
    #[strum(serialize = "deliveries:read")]
    DeliveriesRead,
    /// Read the account's lists, properties, transactional e-mails and team.
    #[strum(serialize = "account:read")]
    AccountRead,
}

impl Scope {
    /// All scopes, in the order in which they are declared.
    pub const ALL: &'static [Self] = Self::VARIANTS;
    /// The scopes of a token that is written without any. Tokens that are older than scopes have these, so this list must not grow.
    pub const DEFAULT: [Self; 3] = [Self::ContactsWrite, Self::EventsSend, Self::DeliveriesRead];

    /// The scope as documents and messages write it.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// What a relay token may do.
pub type Scopes = BTreeSet<Scope>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scope_is_parsed_from_its_own_text_alone() {
        for scope in Scope::ALL {
            assert_eq!(scope.as_str().parse(), Ok(*scope));
        }
        for text in ["", "*", "contacts", "Contacts:Write", "contacts:write ", "contacts:*"] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }
}
