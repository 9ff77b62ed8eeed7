//! Measures the released functions beside functions that do nothing, and checks their budgets.
//!
//! usage: bench-size BINARIES ZIPS TEMPLATE `[RUNS]`
//!
//! BINARIES holds a program for each function, ZIPS a folder for each with its `bootstrap.zip`, TEMPLATE is the
//! translated template. Every figure is the median of the runs, in which the functions alternate. Secrets, queues,
//! table and destination are local and respond at once, so the functions' own processor time is measured. `make
//! bench-size` runs it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use relay_testkit::cost::{Cost, median};
use relay_testkit::function_harness::{BARE, BARE_THREADED, FunctionHarness, HTTP_FUNCTIONS, QUEUE_FUNCTIONS};
use tempfile::TempDir;

/// The most that the zip of a function may have, in bytes.
const MAX_ZIP_BYTES: u64 = 3_500_000;
/// The most that the start may cost, in hundredths of what a bare function's costs that is written as `lambda_http`'s
/// examples are, with worker threads.
const MAX_START_PERCENT: u128 = 160;
/// Where it fails: a machine with other work moves the ratio by a tenth.
const START_FAIL_PERCENT: u128 = 176;
/// The same relative to a bare function on one thread, as the relay's functions are. A client that reads the system's
/// certificate authorities would raise it above four.
const MAX_ONE_THREAD_START_PERCENT: u128 = 250;
/// The most memory, in bytes.
const MAX_MEMORY_BYTES: u64 = 12_000_000;
/// Budgets of the first event, and of a function's own work on a later one. Exceeding them is only printed: so short a
/// time varies too much on a machine with other work.
const FIRST_EVENT_BUDGET: Duration = Duration::from_micros(1000);
const OWN_WORK_BUDGET: Duration = Duration::from_micros(150);

/// How often each function is started.
const DEFAULT_RUNS: usize = 25;
/// How many events a function gets after its first, in each run.
const EVENTS_PER_RUN: u32 = 40;

/// Measurements of one function.
#[derive(Debug)]
struct Measurements {
    function: &'static str,
    binary: PathBuf,
    zip_bytes: u64,
    start: Vec<Duration>,
    first: Vec<Duration>,
    later: Vec<Duration>,
    own: Vec<Duration>,
    memory: Vec<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runs = match arguments.get(3) {
        Some(runs) => runs.parse().ok().filter(|runs| *runs > 0),
        None => Some(DEFAULT_RUNS),
    };
    let ([binaries, zips, template, ..], Some(runs)) = (arguments.as_slice(), runs) else {
        eprintln!("usage: size BINARIES ZIPS TEMPLATE [RUNS]");
        return ExitCode::from(2);
    };
    // A program that was just linked is in small pieces of the machine's memory, one that was copied in large ones, and
    // its start then costs up to a fifth less: all of them are copied.
    let copies = TempDir::new_in(zips).unwrap_or_else(|error| panic!("{zips}: {error}"));
    // A function that does not start logs the cause here; as on Lambda, each line costs a write.
    let log = Path::new(zips).join("log");
    let harness = FunctionHarness::from_template(Path::new(template)).await;
    let functions = [BARE_THREADED, BARE].into_iter().chain(HTTP_FUNCTIONS).chain(QUEUE_FUNCTIONS);
    let mut measured: Vec<Measurements> = functions
        .map(|function| {
            let binary = copies.path().join(function);
            let original = Path::new(binaries).join(function);
            std::fs::copy(&original, &binary).unwrap_or_else(|error| panic!("{}: {error}", original.display()));
            Measurements::new(function, binary, Path::new(zips))
        })
        .collect();
    let count = measured.len();
    for run in 0..runs {
        for position in 0..count {
            // Each function comes first in some run, so that other load on the machine affects all of them.
            if let Some(function) = measured.get_mut((position + run) % count) {
                function.measure_run(&harness, &log).await;
            }
        }
    }
    report(&measured, runs)
}

impl Measurements {
    fn new(function: &'static str, binary: PathBuf, zips: &Path) -> Self {
        let zip_bytes = size_of(&zips.join(function).join("bootstrap.zip"));
        let (start, first, later, own, memory) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { function, binary, zip_bytes, start, first, later, own, memory }
    }

    fn start_in_micros(&self) -> u128 {
        median(&self.start).as_micros()
    }

    async fn measure_run(&mut self, harness: &FunctionHarness, log: &Path) {
        let environment = harness.environment(self.function);
        let mut sandbox = harness.start_function(self.function, &self.binary, &environment, log).await;
        let process = sandbox.id().unwrap_or_else(|| panic!("{} has ended", self.function));
        let started = Cost::measure_stopped(process).await;
        harness.invoke(self.function, &mut sandbox).await;
        let after_first = Cost::measure_stopped(process).await;
        for _ in 0..EVENTS_PER_RUN {
            harness.invoke(self.function, &mut sandbox).await;
        }
        let after_events = Cost::measure_stopped(process).await;
        let mut self_contained = 0;
        while self_contained < EVENTS_PER_RUN && harness.invoke_self_contained(self.function, &mut sandbox).await {
            self_contained += 1;
        }
        if self_contained > 0 {
            self.own.push((Cost::measure_stopped(process).await.cpu - after_events.cpu) / self_contained);
        }
        self.start.push(started.cpu);
        self.first.push(after_first.cpu - started.cpu);
        self.later.push((after_events.cpu - after_first.cpu) / EVENTS_PER_RUN);
        self.memory.push(after_events.peak_memory);
    }
}

fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).len()
}

/// Prints the table, and the exceeded budgets.
fn report(measured: &[Measurements], runs: usize) -> ExitCode {
    println!(
        "Median of {runs} starts each, in turns, {EVENTS_PER_RUN} events after the first; MB are 1,000,000 bytes.\n"
    );
    println!(
        "| function | zip MB | binary MB | start, CPU ms | × bare | × bare on one thread | first event, CPU ms | later event, \
         CPU ms | of it its own work | peak MB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|");
    let start_of =
        |name| measured.iter().find(|each| each.function == name).map_or(1, Measurements::start_in_micros).max(1);
    let (threaded, on_one_thread) = (start_of(BARE_THREADED), start_of(BARE));
    let (mut over, mut warnings) = (Vec::new(), Vec::new());
    for each in measured {
        let (first, later, memory) = (median(&each.first), median(&each.later), median(&each.memory));
        let own = (!each.own.is_empty()).then(|| median(&each.own));
        let share = each.start_in_micros() * 100 / threaded;
        let share_on_one_thread = each.start_in_micros() * 100 / on_one_thread;
        println!(
            "| `{}` | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
            each.function,
            megabytes(each.zip_bytes),
            megabytes(size_of(&each.binary)),
            milliseconds(median(&each.start)),
            format_ratio(share),
            format_ratio(share_on_one_thread),
            milliseconds(first),
            milliseconds(later),
            own.map_or_else(|| "–".to_owned(), milliseconds),
            megabytes(memory),
        );
        if [BARE, BARE_THREADED].contains(&each.function) {
            continue;
        }
        let budgets = [
            (
                each.zip_bytes > MAX_ZIP_BYTES,
                format!("zip: {} MB of {} MB", megabytes(each.zip_bytes), megabytes(MAX_ZIP_BYTES)),
            ),
            (
                share > START_FAIL_PERCENT,
                format!("start: {} × a bare function's of {}", format_ratio(share), format_ratio(MAX_START_PERCENT)),
            ),
            (
                share_on_one_thread > MAX_ONE_THREAD_START_PERCENT,
                format!(
                    "start: {} × that of a bare function on one thread of {}",
                    format_ratio(share_on_one_thread),
                    format_ratio(MAX_ONE_THREAD_START_PERCENT)
                ),
            ),
            (
                memory > MAX_MEMORY_BYTES,
                format!("peak memory: {} MB of {} MB", megabytes(memory), megabytes(MAX_MEMORY_BYTES)),
            ),
        ];
        over.extend(
            budgets.into_iter().filter(|(over, _)| *over).map(|(_, text)| format!("{}, {text}", each.function)),
        );
        if share > MAX_START_PERCENT {
            warnings.push(format!(
                "{}, start: {} × a bare function's is more than it should be",
                each.function,
                format_ratio(share)
            ));
        }
        if first > FIRST_EVENT_BUDGET {
            warnings.push(format!(
                "{}, first event: {} ms is more than it should be",
                each.function,
                milliseconds(first)
            ));
        }
        if let Some(own) = own.filter(|own| *own > OWN_WORK_BUDGET) {
            warnings.push(format!("{}, own work: {} ms is more than it should be", each.function, milliseconds(own)));
        }
    }
    println!();
    for warning in &warnings {
        eprintln!("note: {warning}");
    }
    for over in &over {
        eprintln!("over the budget: {over}");
    }
    if over.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn format_ratio(hundredths: u128) -> String {
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn megabytes(bytes: u64) -> String {
    let hundredths = (bytes + 5000) / 10_000;
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}

fn milliseconds(time: Duration) -> String {
    let micros = time.as_micros();
    format!("{}.{:03}", micros / 1000, micros % 1000)
}
