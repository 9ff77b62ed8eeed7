//! Relayed events that no route selects: each of them becomes a dead letter.

use relay_core::webhook::event::KNOWN_EVENTS;
use relay_core::webhook::route::ClayRoute;
use relay_core::webhook::selection::EventSelection;

/// Returns the events of `RelayedEvents` that no route selects: events that Loops documents by name, others as they are
/// written. None if `relayed` is no selection, which the template does not accept.
pub fn unrouted_events(relayed: &str, routes: &[ClayRoute]) -> Vec<String> {
    let Ok(relayed) = relayed.parse::<EventSelection>() else { return Vec::new() };
    let is_routed = |event: &str| routes.iter().any(|route| route.events.selects(event));
    let known = KNOWN_EVENTS
        .iter()
        .filter(|event| relayed.selects(event) && !is_routed(event))
        .map(|event| (*event).to_owned());
    // A prefix without its star stands for the events that begin with it.
    let unknown = relayed
        .unrecognized_patterns()
        .map(ToString::to_string)
        .filter(|pattern| !is_routed(pattern.trim_end_matches('*')));
    known.chain(unknown).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unrouted(relayed: &str, routes: &[&str]) -> Vec<String> {
        let route = |events: &&str| ClayRoute {
            name: "contacts".to_owned(),
            events: events.parse().unwrap(),
            webhooks: Vec::new(),
        };
        unrouted_events(relayed, &routes.iter().map(route).collect::<Vec<_>>())
    }

    #[test]
    fn event_matched_by_name_prefix_or_star_is_routed() {
        for (relayed, routes) in [
            ("contact.created", &["contact.*"][..]),
            ("contact.created, contact.deleted", &["contact.created", "contact.deleted"]),
            ("*", &["*"]),
            ("mine.own.*", &["mine.*"]),
            ("", &[]),
        ] {
            assert_eq!(unrouted(relayed, routes), Vec::<String>::new(), "{relayed}");
        }
    }

    #[test]
    fn unrouted_events_are_named() {
        assert_eq!(unrouted("contact.created,email.opened", &["email.*"]), ["contact.created"]);
        assert_eq!(unrouted("contact.created,mine,own.*", &["contact.*", "own.one"]), ["mine", "own.*"]);
        assert_eq!(unrouted("*", &[]).len(), KNOWN_EVENTS.len());
    }
}
