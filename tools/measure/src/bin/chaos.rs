//! The fault suite: goes through every fault with both forms of the relay, and prints one table.
//!
//! usage: faults [--seed N] [--only WORDS] [relay-local|functions]
//!
//! `make chaos` runs it. The seed of a run is printed; the same seed brings the same faults and the same rows, but not the
//! same timing. It ends with 1 where something was lost, processed twice, out of order, or doubled without need.

use std::process::ExitCode;

use futures_util::stream::{self, StreamExt as _};
use relay_testkit::chaos::functions::Functions;
use relay_testkit::chaos::kinds::Size;
use relay_testkit::chaos::local::Local;
use relay_testkit::chaos::{Form, Line, go_through, table};

/// How many faults are gone through side by side.
const AT_ONCE: usize = 4;

struct Wanted {
    seed: u64,
    only: String,
    form: String,
}

fn wanted() -> Option<Wanted> {
    let mut wanted = Wanted { seed: rand::random(), only: String::new(), form: String::new() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--seed" => wanted.seed = arguments.next()?.parse().ok()?,
            "--only" => wanted.only = arguments.next()?,
            Local::NAME | Functions::NAME => wanted.form = argument,
            _ => return None,
        }
    }
    Some(wanted)
}

async fn go<F: Form>(wanted: &Wanted) -> Vec<Line> {
    if !wanted.form.is_empty() && wanted.form != F::NAME {
        return Vec::new();
    }
    let faults = F::faults().into_iter().enumerate().filter(|(_, fault)| fault.name.contains(&wanted.only));
    let lines = faults.map(|(place, fault)| async move {
        let seed = wanted.seed.wrapping_add(u64::try_from(place).unwrap_or_default());
        let lines = go_through::<F>(&fault, Size::FULL, seed).await;
        eprintln!("{}: {}: done", F::NAME, fault.name);
        lines
    });
    stream::iter(lines).buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().flatten().collect()
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let Some(wanted) = wanted() else {
        eprintln!("usage: faults [--seed N] [--only WORDS] [relay-local|functions]");
        return ExitCode::from(2);
    };
    let mut lines = go::<Local>(&wanted).await;
    lines.extend(go::<Functions>(&wanted).await);
    print!("{}", table(&lines, wanted.seed));
    let well = !lines.is_empty() && lines.iter().all(|line| line.count.faults().is_empty());
    if well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
