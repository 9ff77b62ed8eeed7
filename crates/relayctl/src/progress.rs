//! Spinner and progress bar, on standard error and only on a terminal.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

const TICK_INTERVAL: Duration = Duration::from_millis(120);

/// A spinner with a text, for work of unknown length. Hidden if `quiet`.
pub(crate) fn spinner(quiet: bool, text: impl Into<Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, draw_target(quiet)).with_message(text);
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}

/// A bar over a number of steps. Hidden if `quiet`.
pub(crate) fn bar(quiet: bool, steps: u64, text: impl Into<Cow<'static, str>>) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(steps), draw_target(quiet)).with_message(text);
    // The template is constant. If it were wrong, the plain bar would do.
    if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}{left}") {
        bar.set_style(style.with_key("left", |state: &ProgressState, writer: &mut dyn fmt::Write| {
            // There is no estimate before the first step.
            let secs_left = state.eta().as_secs();
            if state.pos() > 0 && secs_left > 0 {
                let _ = write!(writer, ", {secs_left} s left");
            }
        }));
    }
    bar.enable_steady_tick(TICK_INTERVAL);
    bar
}

fn draw_target(quiet: bool) -> ProgressDrawTarget {
    // indicatif draws on a terminal only.
    if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() }
}
