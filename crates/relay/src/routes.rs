//! The paths of the relay's HTTP interface, and how large a request may be.

use http::Method;
use relay_core::row::RowKind;
use relay_core::token::Scope;

/// Path to which Loops sends webhooks.
pub const WEBHOOK_PATH: &str = "/webhooks/loops";
/// Path to which Clay sends contacts.
pub const CONTACT_PATH: &str = "/api/v1/contacts/update";
/// Path to which Clay sends events.
pub const EVENT_PATH: &str = "/api/v1/events/send";
/// Beginning of the paths of deliveries, before the id.
const DELIVERIES_PATH: &str = "/api/v1/deliveries/";

/// The largest request body that is read, in bytes: 256 KiB.
pub const MAX_REQUEST_BYTES: usize = 256 * 1024;

/// A call of Loops that only reads, and is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoopsRead {
    /// Loops API reference, "Find a contact".
    FindContact,
    /// Loops API reference, "Check contact suppression".
    Suppression,
    /// Loops API reference, "List mailing lists".
    Lists,
    /// Loops API reference, "List contact properties".
    Properties,
    /// Loops API reference, "List transactional emails".
    TransactionalEmails,
    /// Loops API reference, "Test your API key".
    ApiKey,
}

impl LoopsRead {
    /// The call as logs show it, in the field `row`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::FindContact => "find",
            Self::Suppression => "suppression",
            Self::Lists => "lists",
            Self::Properties => "properties",
            Self::TransactionalEmails => "emails",
            Self::ApiKey => "api_key",
        }
    }

    /// The parameters of the query that Loops knows.
    pub(crate) const fn parameters(self) -> &'static [&'static str] {
        match self {
            Self::FindContact | Self::Suppression => &["email", "userId"],
            Self::Properties => &["list"],
            Self::TransactionalEmails => &["perPage", "cursor"],
            Self::Lists | Self::ApiKey => &[],
        }
    }
}

/// What a call of the API is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApiRoute {
    /// A row to write into Loops.
    Row(RowKind),
    /// A call that is passed on.
    Read(LoopsRead),
    /// The status of the delivery with this id.
    DeliveryStatus(String),
}

/// A request that no route takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoRoute {
    /// There is nothing at its path.
    NotFound,
    /// The path takes these methods alone.
    MethodNotAllowed(&'static str),
}

/// The routes of the API but that of a delivery's status: the path, and what each method is for.
const API_ROUTES: [(&str, &str, ApiRoute); 11] = [
    (CONTACT_PATH, "PUT", ApiRoute::Row(RowKind::Contact)),
    ("/api/v1/contacts/create", "POST", ApiRoute::Row(RowKind::Create)),
    ("/api/v1/contacts/delete", "POST", ApiRoute::Row(RowKind::Delete)),
    ("/api/v1/contacts/find", "GET", ApiRoute::Read(LoopsRead::FindContact)),
    ("/api/v1/contacts/suppression", "GET", ApiRoute::Read(LoopsRead::Suppression)),
    ("/api/v1/contacts/properties", "GET", ApiRoute::Read(LoopsRead::Properties)),
    (EVENT_PATH, "POST", ApiRoute::Row(RowKind::Event)),
    ("/api/v1/transactional", "POST", ApiRoute::Row(RowKind::Email)),
    ("/api/v1/transactional", "GET", ApiRoute::Read(LoopsRead::TransactionalEmails)),
    ("/api/v1/lists", "GET", ApiRoute::Read(LoopsRead::Lists)),
    ("/api/v1/api-key", "GET", ApiRoute::Read(LoopsRead::ApiKey)),
];

impl ApiRoute {
    /// Returns the route of a request.
    pub fn find(method: &Method, path: &str) -> Result<Self, NoRoute> {
        if let Some(id) = path.strip_prefix(DELIVERIES_PATH).filter(|id| !id.is_empty() && !id.contains('/')) {
            let route = Self::DeliveryStatus(id.to_owned());
            return if method == Method::GET { Ok(route) } else { Err(NoRoute::MethodNotAllowed("GET")) };
        }
        let of_path = || API_ROUTES.iter().filter(|(known, ..)| *known == path);
        match of_path().find(|(_, known, _)| *known == method.as_str()) {
            Some((.., route)) => Ok(route.clone()),
            None => Err(match of_path().map(|(_, method, _)| *method).collect::<Vec<_>>().as_slice() {
                [] => NoRoute::NotFound,
                [method] => NoRoute::MethodNotAllowed(method),
                _ => NoRoute::MethodNotAllowed("GET, POST"),
            }),
        }
    }

    /// The scope that a caller's token needs.
    pub const fn scope(&self) -> Scope {
        match self {
            Self::Row(RowKind::Contact | RowKind::Create) => Scope::ContactsWrite,
            Self::Row(RowKind::Event) => Scope::EventsSend,
            Self::Row(RowKind::Delete) => Scope::ContactsDelete,
            Self::Row(RowKind::Email) => Scope::EmailSend,
            Self::Read(LoopsRead::FindContact | LoopsRead::Suppression) => Scope::ContactsRead,
            Self::Read(
                LoopsRead::Lists | LoopsRead::Properties | LoopsRead::TransactionalEmails | LoopsRead::ApiKey,
            ) => Scope::AccountRead,
            Self::DeliveryStatus(_) => Scope::DeliveriesRead,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_with_two_methods_has_two_routes() {
        let find = |method| ApiRoute::find(&method, "/api/v1/transactional");
        assert_eq!(find(Method::POST), Ok(ApiRoute::Row(RowKind::Email)));
        assert_eq!(find(Method::GET), Ok(ApiRoute::Read(LoopsRead::TransactionalEmails)));
        assert_eq!(find(Method::PUT), Err(NoRoute::MethodNotAllowed("GET, POST")));
    }

    #[test]
    fn delivery_is_found_by_its_whole_id_alone() {
        let find = |method, path| ApiRoute::find(&method, path);
        let status = ApiRoute::DeliveryStatus("event_1".to_owned());
        assert_eq!(find(Method::GET, "/api/v1/deliveries/event_1"), Ok(status));
        assert_eq!(find(Method::DELETE, "/api/v1/deliveries/event_1"), Err(NoRoute::MethodNotAllowed("GET")));
        for path in ["/api/v1/deliveries", "/api/v1/deliveries/", "/api/v1/deliveries/a/b", "/api/v1/campaigns", "/"] {
            assert_eq!(find(Method::GET, path), Err(NoRoute::NotFound), "{path}");
        }
    }
}
