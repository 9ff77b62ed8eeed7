//! The relay as one program, under faults.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;

use super::{Form, KEY, NEW_KEY};
use crate::chaos::end::End;
use crate::chaos::history::{DeadLetter, Item, Kind};
use crate::chaos::kinds::{Fault, Size, Strike};
use crate::deliveries::Listing as _;
use crate::fake_clock::{Clock, Timers};
use crate::flaky_proxy::{Cut, Wire};
use crate::relay_process::Relay;

/// What is in a state towards an end, as the store has it.
const IN_STATE: &str = "SELECT kind, body, reason, status FROM deliveries WHERE state = ?1 AND direction = ?2";
/// How far its clock is set ahead, in seconds: more than anybody may hold anything, and less than webhooks may be old.
const MOVED_BY: i64 = 120;
/// The directions, as the store has them.
const DIRECTIONS: [&str; 2] = ["loops-to-clay", "clay-to-loops"];
/// Makes the store refuse everything that changes it, as a full disk does.
const FULL: &str = "CREATE TRIGGER full_insert BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'disk is full'); END;
                    CREATE TRIGGER full_update BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(ABORT, 'disk is full'); END;";
const NOT_FULL: &str = "DROP TRIGGER full_insert; DROP TRIGGER full_update;";

/// `relay-local` as a process.
#[derive(Debug)]
pub struct Local {
    relay: Option<Relay>,
    /// What is between the relay and the ends.
    wires: [Wire; 2],
    settings: Vec<(&'static str, String)>,
    base: watch::Sender<String>,
    /// Its clock, where that is moved.
    clock: Option<Clock>,
    /// How far it is ahead, in seconds.
    ahead: i64,
    size: Size,
    under_way: [Vec<Item>; 2],
    rotated: bool,
}

impl Local {
    async fn start_again(&mut self, folder: crate::relay_process::Folder) {
        let clock = self.clock.iter().flat_map(Clock::environment).collect::<Vec<_>>();
        let settings = self.settings.iter().map(|(name, value)| (*name, value.as_str()));
        let clock = clock.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<(&str, &str)> = settings.chain(clock).collect();
        let relay = Relay::start_in(folder, &settings).await;
        self.base.send_replace(relay.base().to_owned());
        self.relay = Some(relay);
    }

    fn relay(&self) -> &Relay {
        self.relay.as_ref().unwrap_or_else(|| panic!("the relay is not running"))
    }

    fn take(&mut self) -> Relay {
        self.base.send_replace(String::new());
        self.relay.take().unwrap_or_else(|| panic!("the relay is not running"))
    }

    /// Does something to its store, and undoes it after that time.
    async fn to_its_store(&self, begin: &str, end: &str, time: Duration) {
        let store = store(self.relay().folder());
        store.busy_timeout(crate::PATIENCE).unwrap_or_else(|fault| panic!("{fault}"));
        store.execute_batch(begin).unwrap_or_else(|fault| panic!("{fault}"));
        tokio::time::sleep(time).await;
        store.execute_batch(end).unwrap_or_else(|fault| panic!("{fault}"));
    }
}

/// What is in a state, towards each end, with reason and status.
fn in_state(store: &rusqlite::Connection, state: &str) -> rusqlite::Result<[Vec<DeadLetter>; 2]> {
    let mut found = [Vec::new(), Vec::new()];
    for (found, direction) in found.iter_mut().zip(DIRECTIONS) {
        let mut statement = store.prepare(IN_STATE)?;
        let rows = statement.query_map([state, direction], |row| {
            let kind = match row.get::<_, String>("kind")?.as_str() {
                "row" => Kind::Webhook,
                "event" => Kind::Event,
                _ => Kind::Contact,
            };
            let item = Item::read(kind, &row.get::<_, Vec<u8>>("body")?);
            let item = item.unwrap_or_else(|| panic!("nobody sent what is {state} in the store"));
            let reason = row.get::<_, Option<String>>("reason")?.unwrap_or_default();
            Ok(DeadLetter { item, reason, status: row.get("status")? })
        })?;
        *found = rows.collect::<rusqlite::Result<_>>()?;
    }
    Ok(found)
}

fn store(folder: &Path) -> rusqlite::Connection {
    let store = relay_sqlite::store::open_existing(folder).ok().flatten();
    store.unwrap_or_else(|| panic!("there is no store"))
}

impl Form for Local {
    const NAME: &str = "relay-local";

    fn faults() -> Vec<Fault> {
        let mut all = Fault::of_any_form();
        all.push(Fault::relay("store full", Strike::StoreFails));
        all.push(Fault::relay_and_failing_ends("store full, ends fail", Strike::StoreFails));
        all.push(Fault::relay_and_ends("store full, all", Strike::StoreFails));
        all.push(Fault::relay("store locked", Strike::StoreSlow));
        all.push(Fault::relay_and_ends("store locked, all", Strike::StoreSlow));
        all.push(Fault::relay("clock moved", Strike::ClockMoves));
        all.push(Fault::relay_and_failing_ends("clock moved, ends fail", Strike::ClockMoves));
        all.push(Fault::relay_and_ends("clock moved, all", Strike::ClockMoves));
        all
    }

    async fn start(clay: &End, loops: &End, fault: &Fault, size: Size) -> Self {
        let wires = [Wire::to(&clay.url("")).await, Wire::to(&loops.url("")).await];
        let [to_clay, to_loops] = &wires;
        let settings = vec![
            ("CLAY_WEBHOOK_URL", to_clay.url("/v3/sources/webhook/contacts")),
            ("CLAY_WEBHOOK_AUTH_TOKEN", KEY.to_owned()),
            ("LOOPS_API_URL", to_loops.url("/api")),
            ("LOOPS_API_KEY", KEY.to_owned()),
        ];
        let base = watch::Sender::new(String::new());
        let clock = (fault.strike == Some(Strike::ClockMoves)).then(|| Clock::new(Timers::StandStill));
        let under_way = [Vec::new(), Vec::new()];
        let mut form = Self { relay: None, wires, settings, base, clock, ahead: 0, size, under_way, rotated: false };
        form.start_again(crate::relay_process::Folder::new()).await;
        form
    }

    fn base(&self) -> watch::Receiver<String> {
        self.base.subscribe()
    }

    async fn strike(&mut self, strike: Strike, random: &mut Rng, ends: [&End; 2]) -> bool {
        let moment = Duration::from_millis(random.u64(300..1800));
        match strike {
            Strike::Kill => {
                tokio::time::sleep(moment).await;
                let folder = self.take().kill().await;
                let found = in_state(&store(folder.path()), "sending").unwrap_or_else(|fault| panic!("{fault}"));
                for (under_way, found) in self.under_way.iter_mut().zip(found) {
                    under_way.extend(found.into_iter().map(|found| found.item));
                }
                self.start_again(folder).await;
            }
            Strike::Freeze => {
                tokio::time::sleep(moment / 2).await;
                self.relay().freeze();
                let cut = random.choice(Cut::ALL).unwrap_or(Cut::Closed);
                for wire in &self.wires {
                    wire.cut_idle(cut);
                }
                tokio::time::sleep(self.size.freeze(random)).await;
                self.relay().thaw();
                // As much time as it takes to find out that a connection is dead.
                tokio::time::sleep(moment * 2).await;
            }
            Strike::StoreFails => {
                self.to_its_store(FULL, NOT_FULL, moment).await;
                tokio::time::sleep(moment / 2).await;
            }
            Strike::StoreSlow => {
                self.to_its_store("BEGIN IMMEDIATE", "COMMIT", moment * 2).await;
                tokio::time::sleep(moment / 2).await;
            }
            Strike::ClockMoves => {
                tokio::time::sleep(moment / 2).await;
                self.relay().freeze();
                self.ahead = MOVED_BY - self.ahead;
                self.clock.iter().for_each(|clock| clock.set(self.ahead));
                tokio::time::sleep(moment / 4).await;
                self.relay().thaw();
                tokio::time::sleep(moment).await;
            }
            Strike::KeysRotate if !self.rotated => {
                self.rotated = true;
                tokio::time::sleep(moment / 2).await;
                for end in ends {
                    end.rotate(NEW_KEY);
                }
                tokio::time::sleep(moment).await;
                for (_, value) in self.settings.iter_mut().filter(|(_, value)| value == KEY) {
                    NEW_KEY.clone_into(value);
                }
                let (folder, _) = self.take().stop().await;
                self.start_again(folder).await;
            }
            Strike::KeysRotate => {
                tokio::time::sleep(moment).await;
                return false;
            }
            Strike::Service(service) => panic!("there is no {service} on one machine"),
        }
        true
    }

    async fn mend(&mut self) {
        // What was put off by a clock that was set back since is due.
        self.clock.iter().for_each(|clock| clock.set(MOVED_BY));
    }

    async fn waiting(&self) -> usize {
        let deliveries = self.relay().deliveries().await;
        deliveries
            .iter()
            .filter(|delivery| !["delivered", "dead"].contains(&delivery["state"].as_str().unwrap_or("")))
            .count()
    }

    fn under_way_at_kills(&self) -> [Vec<Item>; 2] {
        self.under_way.clone()
    }

    async fn dead_letters(&self) -> [Vec<DeadLetter>; 2] {
        in_state(&store(self.relay().folder()), "dead").unwrap_or_else(|fault| panic!("{fault}"))
    }

    fn log(&self) -> String {
        self.relay().log()
    }
}
