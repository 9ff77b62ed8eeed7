//! The relay as one program, under faults.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use tokio::sync::watch;

use super::end::End;
use super::kinds::{Fault, Strike};
use super::{Form, KEY, NEW_KEY};
use crate::listing::Listing as _;
use crate::process::Relay;
use crate::wire::{Cut, Wire};

/// What was being sent to an end when the relay was killed, as its store has it.
const UNDER_WAY: &str = "SELECT count(*) FROM deliveries WHERE state = 'sending' AND direction = ?1";
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
    under_way: [usize; 2],
    rotated: bool,
}

impl Local {
    async fn start_again(&mut self, folder: crate::process::Folder) {
        let settings: Vec<(&str, &str)> = self.settings.iter().map(|(name, value)| (*name, value.as_str())).collect();
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

fn store(folder: &Path) -> rusqlite::Connection {
    let store = relay_local::store::open_existing(folder).ok().flatten();
    store.unwrap_or_else(|| panic!("there is no store"))
}

impl Form for Local {
    const NAME: &str = "relay-local";

    fn faults() -> Vec<Fault> {
        let mut all = Fault::of_any_form();
        all.push(Fault::relay("store full", Strike::StoreFails));
        all.push(Fault::relay_and_ends("store full, all", Strike::StoreFails));
        all.push(Fault::relay("store locked", Strike::StoreSlow));
        all.push(Fault::relay_and_ends("store locked, all", Strike::StoreSlow));
        all
    }

    async fn start(clay: &End, loops: &End) -> Self {
        let wires = [Wire::to(&clay.url("")).await, Wire::to(&loops.url("")).await];
        let [to_clay, to_loops] = &wires;
        let settings = vec![
            ("CLAY_WEBHOOK_URL", to_clay.url("/v3/sources/webhook/contacts")),
            ("CLAY_WEBHOOK_AUTH_TOKEN", KEY.to_owned()),
            ("LOOPS_API_URL", to_loops.url("/api")),
            ("LOOPS_API_KEY", KEY.to_owned()),
        ];
        let base = watch::Sender::new(String::new());
        let mut form = Self { relay: None, wires, settings, base, under_way: [0; 2], rotated: false };
        form.start_again(crate::process::Folder::new()).await;
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
                let store = store(folder.path());
                for (under_way, direction) in self.under_way.iter_mut().zip(DIRECTIONS) {
                    let found: rusqlite::Result<u32> = store.query_row(UNDER_WAY, [direction], |row| row.get(0));
                    let found = found.unwrap_or_else(|fault| panic!("{fault}"));
                    *under_way += usize::try_from(found).unwrap_or_default();
                }
                drop(store);
                self.start_again(folder).await;
            }
            Strike::Freeze => {
                tokio::time::sleep(moment / 2).await;
                self.relay().freeze();
                let cut = random.choice(Cut::ALL).unwrap_or(Cut::Closed);
                for wire in &self.wires {
                    wire.cut_idle(cut);
                }
                tokio::time::sleep(Duration::from_millis(random.u64(200..3000))).await;
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

    async fn mend(&mut self) {}

    async fn waiting(&self) -> usize {
        let deliveries = self.relay().deliveries().await;
        deliveries
            .iter()
            .filter(|delivery| !["delivered", "dead"].contains(&delivery["state"].as_str().unwrap_or("")))
            .count()
    }

    fn under_way_at_kills(&self) -> [usize; 2] {
        self.under_way
    }

    fn log(&self) -> String {
        self.relay().log()
    }
}
