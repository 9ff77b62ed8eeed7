//! What the page shows of the simulated destinations.

use relay_simulator::{Audience, Behavior, ClayRow};
use serde::Serialize;

use super::Trial;

/// The most contacts, events, e-mails and rows that the page gets, of each.
const MAX_ITEMS: usize = 200;

/// Both destinations. One that is not simulated has nothing.
#[derive(Debug, Serialize)]
pub(super) struct TrialView {
    loops: LoopsView,
    clay: ClayView,
}

#[derive(Debug, Default, Serialize)]
struct LoopsView {
    simulated: bool,
    behavior: Behavior,
    #[serde(flatten)]
    audience: Audience,
}

#[derive(Debug, Default, Serialize)]
struct ClayView {
    simulated: bool,
    behavior: Behavior,
    /// The latest, the oldest first.
    rows: Vec<ClayRow>,
    /// The number of all rows.
    total: usize,
}

impl Trial {
    /// Both destinations as they are now.
    pub(super) fn view(&self) -> TrialView {
        let loops = self.loops().map(|loops| LoopsView {
            simulated: true,
            behavior: loops.behavior(),
            audience: loops.audience(MAX_ITEMS),
        });
        let clay = self.clay().map(|clay| {
            let (rows, total) = clay.latest_rows(MAX_ITEMS);
            ClayView { simulated: true, behavior: clay.behavior(), rows, total }
        });
        TrialView { loops: loops.unwrap_or_default(), clay: clay.unwrap_or_default() }
    }
}
