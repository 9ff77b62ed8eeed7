//! Which events are relayed, and by which routes.

use std::str::FromStr;

use crate::webhook::event::KNOWN_EVENTS;

/// A name (`contact.created`), every name with a prefix (`email.*`), or everything (`*`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventPattern {
    /// This very name.
    Name(String),
    /// Every name that starts with this text, its dot included.
    Prefix(String),
    /// Every name.
    Everything,
}

/// A text that is no event pattern, or one that no event can match.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no event name, prefix.* or *")]
pub struct MalformedPattern(String);

impl EventPattern {
    fn matches(&self, event: &str) -> bool {
        match self {
            Self::Name(name) => name == event,
            Self::Prefix(prefix) => event.starts_with(prefix),
            Self::Everything => true,
        }
    }

    /// Whether only the case of a letter keeps the pattern from matching a documented event.
    fn is_known_but_for_case(&self) -> bool {
        let matches_in_any_case = |event: &&str| match self {
            Self::Name(name) => name.eq_ignore_ascii_case(event),
            Self::Prefix(prefix) => event.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
            Self::Everything => true,
        };
        let mut known = KNOWN_EVENTS.iter().filter(|event| matches_in_any_case(event)).peekable();
        known.peek().is_some() && !known.any(|event| self.matches(event))
    }
}

impl FromStr for EventPattern {
    type Err = MalformedPattern;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text == "*" {
            return Ok(Self::Everything);
        }
        let prefix = text.strip_suffix(".*");
        let pattern = prefix.map_or_else(|| Self::Name(text.to_owned()), |prefix| Self::Prefix(format!("{prefix}.")));
        if is_event_name(prefix.unwrap_or(text)) && !pattern.is_known_but_for_case() {
            Ok(pattern)
        } else {
            Err(MalformedPattern(text.to_owned()))
        }
    }
}

/// Whether a text has the form of all names in Loops' documentation: words of letters, digits, `-` and `_` with single dots
/// between them.
fn is_event_name(text: &str) -> bool {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split('.').all(is_word)
}

impl std::fmt::Display for EventPattern {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
            Self::Everything => f.write_str("*"),
        }
    }
}

/// A list of patterns. An empty list selects nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventSelection(pub Vec<EventPattern>);

impl EventSelection {
    /// Whether any pattern matches an event of this name.
    pub fn selects(&self, event: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(event))
    }

    /// The patterns that match none of the events that Loops documents: most likely misspelt.
    pub fn unrecognized_patterns(&self) -> impl Iterator<Item = &EventPattern> {
        self.0.iter().filter(|pattern| !KNOWN_EVENTS.iter().any(|event| pattern.matches(event)))
    }
}

impl FromStr for EventSelection {
    type Err = MalformedPattern;

    /// Parses a comma-separated list, without regard to spaces around patterns and to empty items.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let patterns = text.split(',').filter(|pattern| !pattern.trim().is_empty());
        patterns.map(str::parse).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(text: &str) -> EventSelection {
        text.parse().unwrap()
    }

    #[test]
    fn name_pattern_matches_only_itself() {
        assert!(selection("contact.created").selects("contact.created"));
        assert!(!selection("contact.created").selects("contact.created2"));
        assert!(!selection("contact.created").selects("Contact.created"));
    }

    #[test]
    fn prefix_pattern_matches_names_with_prefix_and_dot() {
        let selection = selection("email.*");
        assert!(selection.selects("email.opened"));
        assert!(!selection.selects("email"));
        assert!(!selection.selects("emails.opened"));
        assert!(!selection.selects("campaign.email.sent"));
    }

    #[test]
    fn star_matches_everything_and_empty_list_nothing() {
        assert!(selection("*").selects("anything"));
        assert!(!selection(" , ").selects("anything"));
    }

    #[test]
    fn spaces_around_patterns_are_ignored() {
        let selection = selection(" contact.created , contact.mailingList.* ");
        assert!(selection.selects("contact.mailingList.subscribed") && selection.selects("contact.created"));
    }

    #[test]
    fn misplaced_star_or_inner_space_is_rejected() {
        for text in ["*.created", "contact*", "a.*.b", "a b", ".*", "**"] {
            assert!(text.parse::<EventSelection>().is_err(), "{text}");
        }
    }

    #[test]
    fn pattern_that_no_event_can_match_is_rejected() {
        for text in [
            "\"contact.created\"",
            "'*'",
            "“email.*”",
            "contact.created;email.*",
            "contact.",
            ".created",
            "contact..created",
            "contact.**",
            "contact.*.",
            "contact.created # new ones",
            "contact/created",
            "cóntact.created",
            "contact.\u{200b}created",
            "\u{feff}contact.created",
            "Contact.Created",
            "CONTACT.*",
            "contact.mailinglist.*",
            "email.softbounced",
        ] {
            assert!(text.parse::<EventSelection>().is_err(), "{text}");
        }
    }

    #[test]
    fn well_formed_pattern_of_an_unknown_event_is_accepted() {
        for text in ["contact.reborn", "workflow.*", "form2.sub-mitted.by_hand", "ping", "contact.createdAgain"] {
            assert!(text.parse::<EventSelection>().is_ok(), "{text}");
        }
    }

    #[test]
    fn pattern_matching_no_documented_event_is_unrecognized() {
        let unrecognized: Vec<String> =
            selection("contact.craeted,email.*,*").unrecognized_patterns().map(ToString::to_string).collect();
        assert_eq!(unrecognized, ["contact.craeted"]);
    }
}
