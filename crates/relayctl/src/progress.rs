//! What is shown while something takes longer: on standard error, and only where that is a terminal.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// How often what is shown moves.
const TICK_INTERVAL: Duration = Duration::from_millis(120);

/// A spinner with a text, for steps that nobody can count; silent where `quiet`.
#[must_use]
pub fn spinner(quiet: bool, text: impl Into<Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, draw_target(quiet)).with_message(text);
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}

/// A bar over so many steps; silent where `quiet`.
#[must_use]
pub fn bar(quiet: bool, steps: u64, text: impl Into<Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), draw_target(quiet)).with_message(text);
    // The template is fixed; should it ever be wrong, the plain bar serves.
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}{left}") {
        bar.set_style(style.with_key("left", |state: &ProgressState, writer: &mut dyn fmt::Write| {
            // Before the first step nobody knows, and in the end it is nothing.
            let secs_left = state.eta().as_secs();
            if state.pos() > 0 && secs_left > 0 {
                // A line that cannot be written is not shown, and that is all.
                let _ = write!(writer, ", {secs_left} s left");
            }
        }));
    }
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}

fn draw_target(quiet: bool) -> ProgressDrawTarget {
    // Drawn on a terminal only: indicatif looks for itself.
    if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
}
