//! The chaos tests. Destinations misbehave in every way, the relay is killed, its store and services fail; afterwards
//! the items that were acknowledged are compared with those that arrived.
//!
//! While a fault lasts, a sender per contact sends its steps. Then the fault ends, and the totals are taken when
//! everything is acknowledged and no delivery waits.

pub mod count;
pub mod faulty_destination;
pub mod functions;
pub mod history;
pub mod kinds;
pub mod local;
mod order;
mod response_plan;
pub mod workload;

use std::future::Future;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::watch;

use count::Totals;
use faulty_destination::{DestinationReport, FaultyDestination};
use history::{DeadLetter, History, Item};
use kinds::{FaultScenario, RelayFault, WorkloadSize};
use workload::{SenderContext, SentItems};

/// The key of the relay at both destinations.
const KEY: &str = "key";
/// The key after a rotation.
const NEW_KEY: &str = "new-key";
/// Maximum time by which a fault is prolonged because senders have steps left.
const MAX_OVERTIME: Duration = Duration::from_secs(90);
/// Interval between polls of the waiting deliveries.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// A deployment of the relay under test.
pub trait RelayUnderTest: Sized {
    /// Name in the table.
    const NAME: &str;

    /// The scenarios that apply to it.
    fn scenarios() -> Vec<FaultScenario>;

    /// Starts it between these destinations, for this scenario.
    fn start(
        clay: &FaultyDestination,
        loops: &FaultyDestination,
        scenario: &FaultScenario,
        size: WorkloadSize,
    ) -> impl Future<Output = Self>;

    /// Where it is.
    fn base(&self) -> watch::Receiver<String>;

    /// Injects a fault, and returns when that is done. False if a fault that occurs only once was injected before.
    fn inject(
        &mut self,
        fault: RelayFault,
        random: &mut Rng,
        destinations: [&FaultyDestination; 2],
    ) -> impl Future<Output = bool>;

    /// Ends all injected faults.
    fn clear_faults(&mut self) -> impl Future<Output = ()>;

    /// Returns the number of deliveries that wait or are in flight. Advances the time that they wait for.
    fn waiting(&self) -> impl Future<Output = usize>;

    /// Returns the items that may have been in flight at a kill, to Clay and to Loops, once for each kill.
    fn in_flight_at_crashes(&self) -> [Vec<Item>; 2];

    /// Returns the dead letters, to Clay and to Loops.
    fn dead_letters(&self) -> impl Future<Output = [Vec<DeadLetter>; 2]>;

    /// Its log.
    fn log(&self) -> String;
}

/// A row of the table: a scenario in one direction.
#[derive(Debug, Clone)]
pub struct ReportRow {
    /// The deployment.
    pub relay: &'static str,
    /// The scenario.
    pub scenario: &'static str,
    /// The direction.
    pub direction: &'static str,
    /// The totals.
    pub totals: Totals,
}

/// Runs a scenario in both directions.
pub async fn run_scenario<F: RelayUnderTest>(
    scenario: &FaultScenario,
    size: WorkloadSize,
    seed: u64,
) -> [ReportRow; 2] {
    let mut random = Rng::with_seed(seed);
    let clay = FaultyDestination::start(random.u64(..), scenario, KEY).await;
    let loops = FaultyDestination::start(random.u64(..), scenario, KEY).await;
    let mut relay = F::start(&clay, &loops, scenario, size).await;
    let (healthy_since_sender, healthy_since) = watch::channel(None);
    let context = SenderContext { base: relay.base(), healthy_since, size };
    let webhooks = tokio::spawn(workload::send_webhooks(context.clone(), random.u64(..)));
    let rows = tokio::spawn(workload::send_rows(context, random.u64(..)));
    let began = Instant::now();
    let mut injected_faults = 0;
    let all_sent = || webhooks.is_finished() && rows.is_finished();
    while began.elapsed() < size.fault_duration || (!all_sent() && began.elapsed() < size.fault_duration + MAX_OVERTIME)
    {
        match scenario.relay_fault {
            Some(relay_fault) => {
                injected_faults += usize::from(relay.inject(relay_fault, &mut random, [&clay, &loops]).await)
            }
            None => tokio::time::sleep(POLL_INTERVAL).await,
        }
    }
    for destination in [&clay, &loops] {
        destination.clear_faults();
    }
    relay.clear_faults().await;
    healthy_since_sender.send_replace(Some(Instant::now()));
    // The senders tire by themselves. Meanwhile time passes for what waits.
    while !all_sent() {
        relay.waiting().await;
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    let all_sent = Instant::now();
    let mut waiting = relay.waiting().await;
    while waiting > 0 && all_sent.elapsed() < size.timeout {
        tokio::time::sleep(POLL_INTERVAL).await;
        waiting = relay.waiting().await;
    }
    let webhooks = webhooks.await.unwrap_or_else(|error| panic!("{error}"));
    let rows = rows.await.unwrap_or_else(|error| panic!("{error}"));
    let [to_clay, to_loops] = relay.in_flight_at_crashes();
    let [clay_dead_letters, loops_dead_letters] = relay.dead_letters().await;
    let assemble = |sent, report: DestinationReport, in_flight_at_crash, dead_letters| {
        let (is_faulty, faults_hit) =
            (scenario.name != FaultScenario::none().name, injected_faults + report.faults_hit);
        History { in_flight_at_crash, dead_letters, waiting, is_faulty, faults_hit, ..base_history(sent, report) }
    };
    let to_clay = assemble(webhooks, clay.report(), to_clay, clay_dead_letters);
    let to_loops = assemble(rows, loops.report(), to_loops, loops_dead_letters);
    let report_row = |direction, history| {
        let row =
            ReportRow { relay: F::NAME, scenario: scenario.name, direction, totals: Totals::from_history(&history) };
        save_failure_log(&relay, &row, &history);
        row
    };
    [report_row("Loops to Clay", to_clay), report_row("Clay to Loops", to_loops)]
}

fn base_history(sent: SentItems, report: DestinationReport) -> History {
    let DestinationReport { received, accepted_silently, faults_hit: _, rate_limit_violations, redirects_followed } =
        report;
    History { sent, received, accepted_silently, rate_limit_violations, redirects_followed, ..History::default() }
}

/// Writes log and history of a failed run to the folder in `RELAY_FAULT_LOGS`.
fn save_failure_log<F: RelayUnderTest>(relay: &F, row: &ReportRow, history: &History) {
    let violations = row.totals.violations();
    if let (false, Some(folder)) = (violations.is_empty(), std::env::var_os("RELAY_FAULT_LOGS")) {
        let name = format!("{}-{}-{}", row.relay, row.scenario, row.direction);
        let name: String =
            name.chars().map(|character| if character.is_alphanumeric() { character } else { '-' }).collect();
        let folder = std::path::Path::new(&folder);
        let texts = [("log", relay.log()), ("history", format!("{}\n{history}", violations.join("; ")))];
        for (kind, text) in texts {
            let file = folder.join(format!("{name}.{kind}"));
            std::fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        }
    }
}

/// The table, as it is printed.
#[must_use]
pub fn format_table(rows: &[ReportRow], seed: u64) -> String {
    let mut table = format!(
        "seed {seed}\n{:<12} {:<32} {:<14} {:>5} {:>5} {:>6} {:>7} {:>10} {:>8} {:>5} {:>8} {:>6} {:>9} {:>13} {:>5}\n",
        "form",
        "fault",
        "direction",
        "met",
        "sent",
        "acked",
        "refused",
        "delivered",
        "unheard",
        "lost",
        "doubled",
        "(most)",
        "disorder",
        "sent twice",
        "429s"
    );
    for ReportRow { relay, scenario, direction, totals } in rows {
        table.push_str(&format!(
            "{relay:<12} {scenario:<32} {direction:<14} {:>5} {:>5} {:>6} {:>7} {:>10} {:>8} {:>5} {:>8} {:>6} {:>9} {:>13} {:>5}",
            totals.faults_hit,
            totals.sent,
            totals.acknowledged,
            totals.rejected,
            totals.delivered,
            totals.unacknowledged,
            totals.lost,
            totals.duplicated,
            totals.allowed_duplicates,
            totals.out_of_order,
            totals.processed_twice,
            totals.rate_limit_violations
        ));
        let violations = totals.violations();
        table.push_str(&if violations.is_empty() {
            "\n".to_owned()
        } else {
            format!("  <- {}\n", violations.join("; "))
        });
    }
    table
}
