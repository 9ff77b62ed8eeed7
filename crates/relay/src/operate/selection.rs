//! Which dead letters an operator means.

use relay_core::delivery::Direction;

use crate::ports::dead_letters::{DeadLetter, DeadLetterQueue};

/// Stands for dead letters without a reason, which SQS moved by itself.
pub const REASON_NONE: &str = "none";

/// What dead letters must match. What is not set matches every dead letter.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only those with these ids.
    pub ids: Vec<String>,
    /// Only those with this reason code, or without one ([`REASON_NONE`]).
    pub reason: Option<String>,
    /// Only those of this direction.
    pub direction: Option<Direction>,
}

/// The dead letters that match.
#[derive(Debug, Clone, Default)]
pub struct Selected {
    /// Those that could be read.
    pub dead_letters: Vec<DeadLetter>,
    /// Number of dead letters that cannot be read now, matching or not: they stand behind another of their contact, or somebody
    /// else has them.
    pub blocked: u64,
}

impl Selection {
    /// Whether a dead letter matches all that is set.
    pub fn matches(&self, dead_letter: &DeadLetter) -> bool {
        self.direction.is_none_or(|direction| dead_letter.direction == direction)
            && (self.ids.is_empty() || self.ids.iter().any(|id| dead_letter.id() == id.as_str()))
            && match self.reason.as_deref() {
                None => true,
                Some(REASON_NONE) => dead_letter.reason.is_none(),
                reason => dead_letter.reason.as_deref() == reason,
            }
    }

    /// Returns the first of its ids that was not found.
    pub fn missing_id(&self, selected: &Selected) -> Option<&str> {
        let was_found = |id: &str| selected.dead_letters.iter().any(|dead_letter| dead_letter.id() == id);
        self.ids.iter().map(String::as_str).find(|id| !was_found(id))
    }
}

/// Reads all dead letters that can be read, and reports to `progress` how many of how many were read. It leases them:
/// [`release`](DeadLetterQueue::release) the queue when all is done.
///
/// # Errors
/// Those of the queue.
pub async fn select<Q: DeadLetterQueue>(
    queue: &mut Q,
    selection: &Selection,
    progress: &dyn Fn(u64, u64),
) -> Result<Selected, Q::Error> {
    let total = queue.count().await?;
    let (mut dead_letters, mut read) = (Vec::new(), 0);
    loop {
        let page = queue.next_page().await?;
        if page.is_empty() {
            return Ok(Selected { dead_letters, blocked: total.saturating_sub(read) });
        }
        read += u64::try_from(page.len()).unwrap_or(u64::MAX);
        progress(read, total);
        dead_letters.extend(page.into_iter().filter(|dead_letter| selection.matches(dead_letter)));
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn dead_letter(key: &str, reason: Option<&str>, direction: Direction) -> DeadLetter {
        DeadLetter {
            key: key.to_owned(),
            direction,
            content: Err(Bytes::new()),
            reason: reason.map(str::to_owned),
            status: None,
            attempts: None,
            dead_lettered_at: None,
        }
    }

    #[test]
    fn dead_letter_is_selected_if_all_that_is_set_matches() {
        let letters = [
            dead_letter("1", Some("expired"), Direction::LoopsToClay),
            dead_letter("2", Some("expired"), Direction::ClayToLoops),
            dead_letter("3", None, Direction::ClayToLoops),
        ];
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        let reason = |reason: &str| Some(reason.to_owned());
        for (selection, expected) in [
            (Selection::default(), "123"),
            (Selection { ids: ids(&["3", "1"]), ..Selection::default() }, "13"),
            (Selection { reason: reason("expired"), ..Selection::default() }, "12"),
            (Selection { reason: reason(REASON_NONE), ..Selection::default() }, "3"),
            (Selection { direction: Some(Direction::ClayToLoops), ..Selection::default() }, "23"),
            (Selection { ids: ids(&["1", "3"]), reason: reason("expired"), direction: None }, "1"),
        ] {
            let selected = letters.iter().filter(|letter| selection.matches(letter));
            assert_eq!(selected.map(DeadLetter::id).collect::<String>(), expected, "{selection:?}");
        }
    }

    #[test]
    fn id_that_was_not_found_is_named() {
        let selection = Selection { ids: vec!["1".to_owned(), "2".to_owned()], ..Selection::default() };
        let dead_letters = vec![dead_letter("1", None, Direction::LoopsToClay)];
        assert_eq!(selection.missing_id(&Selected { dead_letters, blocked: 0 }), Some("2"));
    }
}
