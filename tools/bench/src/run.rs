//! The rounds: in each, every scenario runs once at every number of callers, so that whatever else the machine does falls on
//! all of them, and ratios hold within a round.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backlog::{self, Size};
use crate::commits;
use crate::contender::{Contender, Programs};
use crate::machine::Machine;
use crate::operations::{self, Timed};
use crate::report::{CommitFigures, LoadFigures, Method, OperationFigures, Ratio, Report, Spread};
use crate::traffic::clay::Clay;
use crate::traffic::load::{self, Outcome};
use crate::traffic::requests::{RequestKind, Requests};

/// How long a server runs before it is measured: Node compiles what is used often.
const WARM_UP: Duration = Duration::from_millis(700);
const WARM_UP_SECONDS: u32 = 1;
/// How many rows a bare commit has, in turns.
const ROWS_PER_COMMIT: [u32; 3] = [1, 10, 50];
const COMMITS_DURATION: Duration = Duration::from_secs(1);

/// What is sent to whom.
#[derive(Debug)]
struct Scenario {
    name: &'static str,
    contender: Contender,
    kind: RequestKind,
    has_backlog: bool,
}

const RELAY: &str = "relay-local";
const BACKLOG: &str = "relay-local, with the backlog";
const IGNORED: &str = "relay-local, nothing stored";
const NODE: &str = "Node";
const PYTHON: &str = "Python";

const SCENARIOS: [Scenario; 6] = [
    Scenario { name: RELAY, contender: Contender::Relay, kind: RequestKind::Webhook, has_backlog: false },
    Scenario { name: NODE, contender: Contender::Node, kind: RequestKind::Webhook, has_backlog: false },
    Scenario { name: PYTHON, contender: Contender::Python, kind: RequestKind::Webhook, has_backlog: false },
    Scenario { name: IGNORED, contender: Contender::Relay, kind: RequestKind::IgnoredWebhook, has_backlog: false },
    Scenario { name: BACKLOG, contender: Contender::Relay, kind: RequestKind::Webhook, has_backlog: true },
    Scenario {
        name: "relay-local, rows answered 202",
        contender: Contender::Relay,
        kind: RequestKind::Row,
        has_backlog: false,
    },
];

/// A ratio's name, the scenarios that are compared, and the figure.
type Comparison = (&'static str, &'static str, &'static str, fn(&Sample) -> f64);

const COMPARISONS: [Comparison; 6] = [
    ("rate, × Node's", RELAY, NODE, |sample| sample.per_second),
    ("rate, × Python's", RELAY, PYTHON, |sample| sample.per_second),
    ("p99, × Node's", RELAY, NODE, |sample| sample.p99_ms),
    ("peak memory, × Node's", RELAY, NODE, |sample| sample.peak_mb),
    ("rate, × that with nothing stored", RELAY, IGNORED, |sample| sample.per_second),
    ("rate with the backlog, × that without", BACKLOG, RELAY, |sample| sample.per_second),
];

/// How much is measured.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) callers: Vec<usize>,
    pub(crate) size: Size,
}

/// What one run has shown.
#[derive(Debug)]
struct Sample {
    per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    cpu_us: f64,
    peak_mb: f64,
}

/// The samples at each number of callers of each scenario, by its position in [`SCENARIOS`], in the order of the rounds.
type Samples = BTreeMap<(usize, usize), Vec<Sample>>;

/// What every run needs.
#[derive(Debug)]
struct Bench<'a> {
    programs: &'a Programs,
    work: &'a Path,
    clay: Clay,
    backlog: PathBuf,
    size: Size,
    seconds: u32,
}

/// Measures everything.
pub(crate) async fn run(programs: &Programs, work: &Path, plan: &Plan) -> io::Result<Report> {
    let machine = Machine::describe(work, programs)?;
    eprintln!("the store with the backlog");
    let backlog = backlog::filled_folder(work, plan.size).await?;
    let clay = Clay::start().await?;
    let bench = Bench { programs, work, clay, backlog, size: plan.size, seconds: plan.seconds };
    let mut samples = Samples::new();
    let mut commits: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    let mut operations: Vec<Vec<(Timed, Timed)>> = Vec::new();
    for round in 0..plan.rounds as usize {
        eprintln!("round {} of {}", round + 1, plan.rounds);
        for callers in &plan.callers {
            for position in 0..SCENARIOS.len() {
                // Each scenario comes first in some round.
                let index = (position + round) % SCENARIOS.len();
                let scenario = &SCENARIOS[index];
                let sample = bench
                    .measure(scenario, *callers)
                    .await
                    .map_err(|error| io::Error::other(format!("{} with {callers} callers: {error}", scenario.name)))?;
                samples.entry((*callers, index)).or_default().push(sample);
            }
        }
        let folder = tempfile::tempdir_in(work)?;
        for rows in ROWS_PER_COMMIT {
            let rate = commits::rows_per_second(folder.path(), rows, COMMITS_DURATION)?;
            commits.entry(rows).or_default().push(rate);
        }
        operations.push(bench.compare_operations().await?);
    }
    Ok(Report {
        machine,
        method: Method {
            rounds: plan.rounds,
            seconds: plan.seconds,
            settled: plan.size.settled,
            waiting: plan.size.waiting,
        },
        load: load_figures(&samples),
        ratios: ratios(&samples, &plan.callers),
        commits: commits
            .into_iter()
            .map(|(rows_per_commit, rates)| CommitFigures { rows_per_commit, rows_per_second: Spread::of(rates) })
            .collect(),
        operations: operation_figures(&operations),
    })
}

impl Bench<'_> {
    /// Runs one scenario on a store of its own. Every answer must be the right one, and everything that was taken must be in
    /// the store afterwards.
    async fn measure(&self, scenario: &Scenario, callers: usize) -> io::Result<Sample> {
        let folder = tempfile::tempdir_in(self.work)?;
        if scenario.has_backlog {
            backlog::copy_store(&self.backlog, folder.path())?;
        }
        let server = scenario.contender.start(self.programs, folder.path(), &self.clay.webhook_url()).await?;
        let (kind, status) = (scenario.kind, scenario.kind.status());
        let warm_up = Requests::for_seconds(kind, WARM_UP_SECONDS)?;
        load::drive(server.address(), callers, &warm_up, status, WARM_UP).await?;
        let requests = Requests::for_seconds(kind, self.seconds)?;
        let cpu_before = server.cpu_time()?;
        let duration = Duration::from_secs(self.seconds.into());
        let outcome = load::drive(server.address(), callers, &requests, status, duration).await?;
        let sample = Sample::new(&outcome, server.cpu_time()? - cpu_before, server.peak_memory()?);
        server.stop().await?;
        if kind != RequestKind::IgnoredWebhook {
            let before = if scenario.has_backlog { self.size.settled + self.size.waiting } else { 0 };
            let expected = before as usize + warm_up.taken() + requests.taken();
            let stored = scenario.contender.count_stored(folder.path())?;
            if stored != expected {
                return Err(io::Error::other(format!("{expected} should be stored, and {stored} are")));
            }
        }
        Ok(sample)
    }

    /// Measures each operation on an empty store and on the one with the backlog.
    async fn compare_operations(&self) -> io::Result<Vec<(Timed, Timed)>> {
        let (empty, full) = (tempfile::tempdir_in(self.work)?, tempfile::tempdir_in(self.work)?);
        backlog::copy_store(&self.backlog, full.path())?;
        let on_empty = operations::measure(self.programs, empty.path(), &self.clay).await?;
        let on_full = operations::measure(self.programs, full.path(), &self.clay).await?;
        Ok(on_empty.into_iter().zip(on_full).collect())
    }
}

impl Sample {
    fn new(outcome: &Outcome, cpu: Duration, peak_memory: u64) -> Self {
        Self {
            per_second: outcome.per_second(),
            p50_ms: outcome.percentile(50).as_secs_f64() * 1e3,
            p99_ms: outcome.percentile(99).as_secs_f64() * 1e3,
            cpu_us: cpu.as_secs_f64() * 1e6 / outcome.latencies.len() as f64,
            peak_mb: peak_memory as f64 / 1e6,
        }
    }
}

fn load_figures(samples: &Samples) -> Vec<LoadFigures> {
    let figures = samples.iter().map(|((callers, index), samples)| {
        let spread = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        LoadFigures {
            scenario: SCENARIOS[*index].name.to_owned(),
            callers: *callers,
            per_second: spread(|sample| sample.per_second),
            p50_ms: spread(|sample| sample.p50_ms),
            p99_ms: spread(|sample| sample.p99_ms),
            cpu_us: spread(|sample| sample.cpu_us),
            peak_mb: spread(|sample| sample.peak_mb),
        }
    });
    figures.collect()
}

/// Returns the figures of each operation, on an empty store and on the other one, from those of all rounds.
fn operation_figures(rounds: &[Vec<(Timed, Timed)>]) -> Vec<OperationFigures> {
    let operations = rounds.first().into_iter().flatten().enumerate();
    let figures = operations.map(|(index, (first, _))| {
        let rounds = || rounds.iter().filter_map(|round| round.get(index));
        OperationFigures {
            operation: first.operation.to_owned(),
            unit: first.unit.to_owned(),
            empty: Spread::of(rounds().map(|(empty, _)| empty.value)),
            backlog: Spread::of(rounds().map(|(_, backlog)| backlog.value)),
        }
    });
    figures.collect()
}

/// Returns the ratios of each round.
fn ratios(samples: &Samples, callers: &[usize]) -> Vec<Ratio> {
    let of = |callers: usize, scenario: &str| {
        let index = SCENARIOS.iter().position(|each| each.name == scenario);
        index.and_then(|index| samples.get(&(callers, index))).map_or(&[][..], Vec::as_slice)
    };
    let ratio = |what: &str, callers: usize, one: &[Sample], other: &[Sample], figure: fn(&Sample) -> f64| {
        let rounds = one.iter().zip(other).map(|(one, other)| figure(one) / figure(other));
        Ratio { what: what.to_owned(), callers, ratio: Spread::of(rounds) }
    };
    let mut ratios = Vec::new();
    for (what, scenario, other, figure) in COMPARISONS {
        ratios.extend(callers.iter().map(|&count| ratio(what, count, of(count, scenario), of(count, other), figure)));
    }
    ratios.extend(callers.iter().zip(callers.iter().skip(1)).map(|(&fewer, &more)| {
        ratio("rate, × that with the next fewer callers", more, of(more, RELAY), of(fewer, RELAY), |sample| {
            sample.per_second
        })
    }));
    ratios
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(per_second: f64) -> Sample {
        Sample { per_second, p50_ms: 1.0, p99_ms: 2.0, cpu_us: 3.0, peak_mb: 4.0 }
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        let samples: Samples = [
            ((1, 0), vec![sample(10.0), sample(40.0)]),
            ((1, 1), vec![sample(5.0), sample(10.0)]),
            ((16, 0), vec![sample(20.0), sample(60.0)]),
        ]
        .into();
        let ratios = ratios(&samples, &[1, 16]);
        let find = |what: &str, callers| {
            ratios.iter().find(|ratio| ratio.what == what && ratio.callers == callers).unwrap().ratio
        };
        assert_eq!(find("rate, × Node's", 1), Spread { median: 4.0, min: 2.0, max: 4.0 });
        assert_eq!(find("rate, × that with the next fewer callers", 16), Spread { median: 2.0, min: 1.5, max: 2.0 });
    }
}
