//! Retry and drop of dead letters: the dry run first, and then the same again with `apply`.

use std::collections::BTreeMap;
use std::error::Error;

use axum::Json;
use axum::extract::State;
use relay::operate::action::{Action, apply, plan};
use relay::operate::outcome::{OptionNames, Outcome};
use relay::operate::selection::{Selected, Selection, select};
use relay::ports::dead_letters::{DeadLetter, DeadLetterQueue, RedriveOptions};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::backend::ConsoleBackend;
use crate::console::{Console, Document, parse_direction, run};
use crate::error::ConsoleError;

/// Outcomes that are listed one by one. All are counted.
const MAX_LISTED: usize = 200;
/// What the page calls the options.
const OPTION_NAMES: OptionNames = OptionNames {
    even_if_older: "tick “even if older”",
    redirect: "tick “to the account that is served now”",
    even_if_sent: "tick “even if it may be sent already”",
};

/// Which dead letters, and what is allowed. Without `apply`, nothing is changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Act {
    ids: Vec<String>,
    reason: Option<String>,
    all: bool,
    direction: Option<String>,
    even_if_older: bool,
    redirect: bool,
    even_if_sent: bool,
    apply: bool,
}

/// `POST /console/api/dead-letters/retry`.
pub(crate) async fn retry<B: ConsoleBackend>(
    State(console): State<Console<B>>,
    Document(act): Document<Act>,
) -> Result<Json<Value>, ConsoleError> {
    let options =
        RedriveOptions { even_if_older: act.even_if_older, redirect: act.redirect, even_if_sent: act.even_if_sent };
    act_on(console, act, Action::Retry(options)).await
}

/// `POST /console/api/dead-letters/drop`.
pub(crate) async fn drop_them<B: ConsoleBackend>(
    State(console): State<Console<B>>,
    Document(act): Document<Act>,
) -> Result<Json<Value>, ConsoleError> {
    act_on(console, act, Action::Drop).await
}

async fn act_on<B: ConsoleBackend>(console: Console<B>, act: Act, action: Action) -> Result<Json<Value>, ConsoleError> {
    let direction = act.direction.as_deref().map(parse_direction).transpose()?;
    if !act.all && act.ids.is_empty() && act.reason.is_none() {
        return Err(ConsoleError::BadRequest("Say which dead letters: ids, a reason, or all.".to_owned()));
    }
    let selection = Selection { ids: act.ids, reason: act.reason, direction };
    run(async move || {
        let mut queue = console.backend.dead_letters(direction)?;
        let per_second = console.backend.redrives_per_second();
        let result = act_on_selected(&mut queue, &selection, action, act.apply.then_some(per_second)).await;
        // The leases end however it ended.
        queue.release().await;
        result.map(Json)
    })
    .await
}

/// Plans the action, or does it so many times a second.
async fn act_on_selected<Q: DeadLetterQueue<Error: Error + Send + Sync + 'static>>(
    queue: &mut Q,
    selection: &Selection,
    action: Action,
    per_second: Option<u32>,
) -> Result<Value, ConsoleError> {
    let selected = select(queue, selection, &|_, _| ()).await.map_err(ConsoleError::unavailable)?;
    if let Some(id) = selection.missing_id(&selected) {
        return Err(ConsoleError::NotFound(match selected.blocked {
            0 => format!("{id} is no dead letter any more."),
            _ => format!(
                "{id} cannot be read now: another dead letter of its contact goes first, or somebody else has it."
            ),
        }));
    }
    let Some(per_second) = per_second else {
        let planned = plan(queue, &selected.dead_letters, action).await.map_err(ConsoleError::unavailable)?;
        let would_change = planned.iter().filter(|(_, outcome)| outcome.is_done()).count();
        return Ok(report(&planned, &selected, false, would_change));
    };
    let applied =
        apply(queue, &selected.dead_letters, action, per_second, &|| ()).await.map_err(ConsoleError::unavailable)?;
    let report = report(&applied.outcomes, &selected, true, applied.done());
    applied.error.map_or(Ok(report), |error| Err(ConsoleError::unavailable(error)))
}

fn report(outcomes: &[(DeadLetter, Outcome)], selected: &Selected, applied: bool, changed: usize) -> Value {
    let mut by_outcome = BTreeMap::new();
    for (_, outcome) in outcomes {
        *by_outcome.entry(outcome.as_str(applied)).or_insert(0) += 1;
    }
    let listed = outcomes.iter().take(MAX_LISTED).map(|(dead_letter, outcome)| {
        json!({
            "id": dead_letter.id(),
            "direction": dead_letter.direction,
            "reason": dead_letter.reason,
            "outcome": outcome.as_str(applied),
            "sentence": outcome.describe(applied, &OPTION_NAMES),
        })
    });
    json!({
        "applied": applied,
        "total": outcomes.len(),
        "changed": changed,
        "outcomes": listed.collect::<Vec<_>>(),
        "byOutcome": by_outcome,
        "behind": selected.blocked,
    })
}
