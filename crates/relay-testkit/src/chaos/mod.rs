//! The fault suite: both ends go through everything that an end can do, the relay is killed, its store and its services
//! fail, and then it is counted what became of what was sent.
//!
//! While a fault lasts, every contact sends its steps; then the fault ends, and when everything is acknowledged and nothing
//! waits any more, what was acknowledged is compared with what was taken.

pub mod count;
pub mod end;
mod fate;
pub mod functions;
pub mod history;
pub mod kinds;
pub mod local;
mod order;
pub mod workload;

use std::future::Future;
use std::time::{Duration, Instant};

use fastrand::Rng;
use tokio::sync::watch;

use count::Count;
use end::{End, Report};
use history::{DeadLetter, History, Item};
use kinds::{Fault, Size, Strike};
use workload::{Sent, World};

/// The key by which both ends know the relay.
const KEY: &str = "key";
/// The key that takes its place where keys rotate.
const NEW_KEY: &str = "new-key";
/// How much longer a fault lasts than it should, at most, where there is still something to send.
const LONGER: Duration = Duration::from_secs(90);
/// How often it is looked whether anything still waits.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A form of the relay, and what can be done to it.
pub trait Form: Sized {
    /// What it is called.
    const NAME: &str;

    /// The faults that it goes through.
    fn faults() -> Vec<Fault>;

    /// Starts it between these ends, for this fault.
    fn start(clay: &End, loops: &End, fault: &Fault, size: Size) -> impl Future<Output = Self>;

    /// Where it is.
    fn base(&self) -> watch::Receiver<String>;

    /// Does it something: once, and comes back when that is over. False where it was done before and is done once only.
    fn strike(&mut self, strike: Strike, random: &mut Rng, ends: [&End; 2]) -> impl Future<Output = bool>;

    /// Ends everything that was done to it.
    fn mend(&mut self) -> impl Future<Output = ()>;

    /// How many deliveries wait or are under way. Where time has to pass for them, it passes.
    fn waiting(&self) -> impl Future<Output = usize>;

    /// What may have been under way when it was killed, to Clay and to Loops; an item once for each kill.
    fn under_way_at_kills(&self) -> [Vec<Item>; 2];

    /// What it keeps for a person, of what was to go to Clay and to Loops.
    fn dead_letters(&self) -> impl Future<Output = [Vec<DeadLetter>; 2]>;

    /// Its log.
    fn log(&self) -> String;
}

/// A line of the table: a fault in one direction.
#[derive(Debug, Clone)]
pub struct Line {
    /// The form of the relay.
    pub form: &'static str,
    /// The fault.
    pub fault: &'static str,
    /// The direction.
    pub direction: &'static str,
    /// What it came to.
    pub count: Count,
}

/// Goes through one fault in both directions.
pub async fn go_through<F: Form>(fault: &Fault, size: Size, seed: u64) -> [Line; 2] {
    let mut random = Rng::with_seed(seed);
    let clay = End::start(random.u64(..), fault, KEY).await;
    let loops = End::start(random.u64(..), fault, KEY).await;
    let mut form = F::start(&clay, &loops, fault, size).await;
    let (well_since, well) = watch::channel(None);
    let world = World { base: form.base(), well, size };
    let webhooks = tokio::spawn(workload::webhooks(world.clone(), random.u64(..)));
    let rows = tokio::spawn(workload::rows(world, random.u64(..)));
    let began = Instant::now();
    let mut strikes = 0;
    let all_sent = || webhooks.is_finished() && rows.is_finished();
    while began.elapsed() < size.lasting || (!all_sent() && began.elapsed() < size.lasting + LONGER) {
        match fault.strike {
            Some(strike) => strikes += usize::from(form.strike(strike, &mut random, [&clay, &loops]).await),
            None => tokio::time::sleep(LOOK_EVERY).await,
        }
    }
    for end in [&clay, &loops] {
        end.heal();
    }
    form.mend().await;
    well_since.send_replace(Some(Instant::now()));
    // The senders tire by themselves. Meanwhile time passes for what waits.
    while !all_sent() {
        form.waiting().await;
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let all_sent = Instant::now();
    let mut waiting = form.waiting().await;
    while waiting > 0 && all_sent.elapsed() < size.patience {
        tokio::time::sleep(LOOK_EVERY).await;
        waiting = form.waiting().await;
    }
    let webhooks = webhooks.await.unwrap_or_else(|fault| panic!("{fault}"));
    let rows = rows.await.unwrap_or_else(|fault| panic!("{fault}"));
    let [to_clay, to_loops] = form.under_way_at_kills();
    let [clay_letters, loops_letters] = form.dead_letters().await;
    let all = |sent, report: Report, under_way, dead_letters| {
        let (is_faulty, struck) = (fault.name != Fault::none().name, strikes + report.ailed);
        History { under_way, dead_letters, waiting, is_faulty, struck, ..history(sent, report) }
    };
    let to_clay = all(webhooks, clay.report(), to_clay, clay_letters);
    let to_loops = all(rows, loops.report(), to_loops, loops_letters);
    let line = |direction, history| {
        let line = Line { form: F::NAME, fault: fault.name, direction, count: Count::of(&history) };
        keep_log(&form, &line, &history);
        line
    };
    [line("Loops to Clay", to_clay), line("Clay to Loops", to_loops)]
}

fn history(sent: Sent, report: Report) -> History {
    let Report { came, unsaid, ailed: _, too_many, redirects_followed } = report;
    History { sent, came, unsaid, too_many, redirects_followed, ..History::default() }
}

/// Keeps the log of a relay that has failed, and what happened, where `RELAY_FAULT_LOGS` says.
fn keep_log<F: Form>(form: &F, line: &Line, history: &History) {
    let faults = line.count.faults();
    if let (false, Some(folder)) = (faults.is_empty(), std::env::var_os("RELAY_FAULT_LOGS")) {
        let name = format!("{}-{}-{}", line.form, line.fault, line.direction);
        let name: String = name.chars().map(|letter| if letter.is_alphanumeric() { letter } else { '-' }).collect();
        let folder = std::path::Path::new(&folder);
        let texts = [("log", form.log()), ("history", format!("{}\n{history}", faults.join("; ")))];
        for (kind, text) in texts {
            let file = folder.join(format!("{name}.{kind}"));
            std::fs::write(&file, text).unwrap_or_else(|fault| panic!("{}: {fault}", file.display()));
        }
    }
}

/// The table, as it is printed.
#[must_use]
pub fn table(lines: &[Line], seed: u64) -> String {
    let mut table = format!(
        "seed {seed}\n{:<12} {:<26} {:<14} {:>5} {:>5} {:>6} {:>7} {:>10} {:>8} {:>5} {:>8} {:>6} {:>9} {:>13} {:>5}\n",
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
        "events twice",
        "429s"
    );
    for Line { form, fault, direction, count } in lines {
        table.push_str(&format!(
            "{form:<12} {fault:<26} {direction:<14} {:>5} {:>5} {:>6} {:>7} {:>10} {:>8} {:>5} {:>8} {:>6} {:>9} {:>13} {:>5}",
            count.struck,
            count.sent,
            count.acknowledged,
            count.refused,
            count.delivered,
            count.unheard,
            count.lost,
            count.doubled,
            count.may_double,
            count.out_of_order,
            count.events_twice,
            count.too_many
        ));
        let faults = count.faults();
        table.push_str(&if faults.is_empty() { "\n".to_owned() } else { format!("  <- {}\n", faults.join("; ")) });
    }
    table
}
