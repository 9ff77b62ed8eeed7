//! Measures the released functions beside functions that do nothing, and beside the same job in Node and Python.
//!
//! usage: bench-functions BINARIES ZIPS TEMPLATE PEERS OUTPUT `[RUNS]`
//!
//! BINARIES holds a program for each function, ZIPS a folder for each with its `bootstrap.zip`, TEMPLATE is the
//! translated template, PEERS a folder for each handler that a user would write. Secrets, queues, table and destination
//! are local and respond at once. The functions alternate, so that other work on the machine affects all of them. The
//! figures are written to OUTPUT; `make bench-functions` runs it, and writes docs/performance.md from that.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use relay_testkit::cost::Cost;
use relay_testkit::function_harness::callgrind::{Instructions, count_step};
use relay_testkit::function_harness::{BARE, BARE_THREADED, FunctionHarness, HTTP_FUNCTIONS, QUEUE_FUNCTIONS};
use relay_testkit::webhook::SIGNING_SECRET;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

/// How often each function is started.
const DEFAULT_RUNS: usize = 25;
/// How many events a function gets after its first, in each run.
const EVENTS_PER_RUN: u32 = 40;
/// How often a function's instructions are counted: a first event may need a call more.
const COUNTS: usize = 3;
/// Folders of the handlers that a user would write. Their job is that of `loops-to-clay`.
const PEERS: [&str; 2] = ["lambda-node", "lambda-python"];
const JOB_OF_PEERS: &str = "loops-to-clay";
const CORE_STEPS: [&str; 4] = ["verify", "clean", "derive", "decide"];

/// A program that is measured.
#[derive(Debug)]
struct Subject {
    name: &'static str,
    /// The function whose events it gets.
    job: &'static str,
    program: PathBuf,
    environment: BTreeMap<String, String>,
    zip_bytes: Option<u64>,
    instructions: Option<Instructions>,
    start: Phase,
    first_event: Phase,
    later_event: Phase,
    /// Processor time of a later event that calls nobody.
    own_work: Vec<u64>,
    peak_memory: Vec<u64>,
}

/// Microseconds of each run.
#[derive(Debug, Default)]
struct Phase {
    cpu: Vec<u64>,
    wall: Vec<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runs = arguments.get(5).map_or(Some(DEFAULT_RUNS), |runs| runs.parse().ok().filter(|runs| *runs > 0));
    let ([binaries, zips, template, peers, output, ..], Some(runs)) = (arguments.as_slice(), runs) else {
        eprintln!("usage: bench-functions BINARIES ZIPS TEMPLATE PEERS OUTPUT [RUNS]");
        return ExitCode::from(2);
    };
    let (binaries, zips) = (Path::new(binaries), Path::new(zips));
    // A program that was just linked is in small pieces of the machine's memory, one that was copied in large ones, and
    // its start then costs up to a fifth less: all of them are copied.
    let copies = TempDir::new_in(zips).unwrap_or_else(|error| panic!("{}: {error}", zips.display()));
    // A function that does not start logs the cause here; as on Lambda, each line costs a write.
    let log = zips.join("log");
    let harness = FunctionHarness::from_template(Path::new(template)).await;
    let functions = [BARE_THREADED, BARE].into_iter().chain(HTTP_FUNCTIONS).chain(QUEUE_FUNCTIONS);
    let mut subjects: Vec<Subject> = functions
        .map(|function| {
            let program = copies.path().join(function);
            let original = binaries.join(function);
            std::fs::copy(&original, &program).unwrap_or_else(|error| panic!("{}: {error}", original.display()));
            let zip_bytes = Some(size_of(&zips.join(function).join("bootstrap.zip")));
            Subject { zip_bytes, ..Subject::new(function, function, program, harness.environment(function)) }
        })
        .collect();
    for subject in &mut subjects {
        subject.count_instructions(&harness, &log).await;
    }
    subjects.extend(PEERS.map(|peer| {
        let mut environment = harness.environment(JOB_OF_PEERS);
        environment.insert("LOOPS_SIGNING_SECRET".to_owned(), SIGNING_SECRET.to_owned());
        Subject::new(peer, JOB_OF_PEERS, Path::new(peers).join(peer).join("bootstrap"), environment)
    }));
    let count = subjects.len();
    for run in 0..runs {
        for position in 0..count {
            if let Some(subject) = subjects.get_mut((position + run) % count) {
                subject.measure(&harness, &log).await;
            }
        }
    }
    let steps = CORE_STEPS.map(|step| (step.to_owned(), json!(count_step(&binaries.join("core-steps"), step))));
    let report = json!({
        "processor": processor(),
        "runs": runs,
        "events_per_run": EVENTS_PER_RUN,
        "functions": subjects.iter().map(|subject| (subject.name.to_owned(), subject.to_json())).collect::<Map<_, _>>(),
        "instructions_of_steps": steps.into_iter().collect::<Map<_, _>>(),
    });
    let text = format!("{report:#}\n");
    std::fs::write(output, text).unwrap_or_else(|error| panic!("{output}: {error}"));
    ExitCode::SUCCESS
}

impl Subject {
    fn new(name: &'static str, job: &'static str, program: PathBuf, environment: BTreeMap<String, String>) -> Self {
        let phase = Phase::default;
        Self {
            name,
            job,
            program,
            environment,
            zip_bytes: None,
            instructions: None,
            start: phase(),
            first_event: phase(),
            later_event: phase(),
            own_work: Vec::new(),
            peak_memory: Vec::new(),
        }
    }

    /// Counts a few times and keeps the count with the smallest first event.
    async fn count_instructions(&mut self, harness: &FunctionHarness, log: &Path) {
        for _ in 0..COUNTS {
            let counted = harness.count_instructions(self.name, &self.program, log).await;
            if self.instructions.is_none_or(|smallest| counted.first_event < smallest.first_event) {
                self.instructions = Some(counted);
            }
        }
    }

    async fn measure(&mut self, harness: &FunctionHarness, log: &Path) {
        let began = Instant::now();
        let mut sandbox = harness.start_function(self.name, &self.program, &self.environment, log).await;
        let start_wall = began.elapsed();
        let process = sandbox.id().unwrap_or_else(|| panic!("{} has ended", self.name));
        let started = Cost::measure_stopped(process).await;
        let began = Instant::now();
        harness.invoke(self.job, &mut sandbox).await;
        let first_wall = began.elapsed();
        let after_first = Cost::measure_stopped(process).await;
        let began = Instant::now();
        for _ in 0..EVENTS_PER_RUN {
            harness.invoke(self.job, &mut sandbox).await;
        }
        let later_wall = began.elapsed();
        let after_events = Cost::measure_stopped(process).await;
        self.start.push(started.cpu, start_wall);
        self.first_event.push(after_first.cpu - started.cpu, first_wall);
        self.later_event.push((after_events.cpu - after_first.cpu) / EVENTS_PER_RUN, later_wall / EVENTS_PER_RUN);
        self.peak_memory.push(after_events.peak_memory);
        if self.instructions.is_none() {
            return;
        }
        let mut own_events = 0;
        while own_events < EVENTS_PER_RUN && harness.invoke_self_contained(self.job, &mut sandbox).await {
            own_events += 1;
        }
        if own_events > 0 {
            let cpu = Cost::measure_stopped(process).await.cpu - after_events.cpu;
            self.own_work.push(micros(cpu / own_events));
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "zip_bytes": self.zip_bytes,
            "instructions": self.instructions.map(|counted| json!({
                "start": counted.start, "first_event": counted.first_event, "later_event": counted.later_event,
            })),
            "cpu_micros": {
                "start": spread(&self.start.cpu), "first_event": spread(&self.first_event.cpu),
                "later_event": spread(&self.later_event.cpu), "own_work": spread(&self.own_work),
            },
            "wall_micros": {
                "start": spread(&self.start.wall), "first_event": spread(&self.first_event.wall),
                "later_event": spread(&self.later_event.wall),
            },
            "peak_memory_bytes": spread(&self.peak_memory),
        })
    }
}

impl Phase {
    fn push(&mut self, cpu: Duration, wall: Duration) {
        self.cpu.push(micros(cpu));
        self.wall.push(micros(wall));
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The middle of the runs, and between what the middle eight tenths of them lie.
fn spread(values: &[u64]) -> Value {
    let mut values = values.to_vec();
    values.sort_unstable();
    let at = |tenths: usize| values.get((values.len() * tenths / 10).min(values.len().saturating_sub(1)));
    if values.is_empty() { Value::Null } else { json!({"median": at(5), "low": at(1), "high": at(9)}) }
}

fn size_of(file: &Path) -> u64 {
    std::fs::metadata(file).unwrap_or_else(|error| panic!("{}: {error}", file.display())).len()
}

/// The processor's name, as Linux gives it.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    name.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}
