//! The one-machine relay, under faults.

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use serde_json::json;
use tokio::sync::watch;

use super::{KEY, NEW_KEY, RelayUnderTest, workload};
use crate::chaos::faulty_destination::FaultyDestination;
use crate::chaos::history::{DeadLetter, Item, ItemKind};
use crate::chaos::kinds::{FaultScenario, RelayFault, WorkloadSize};
use crate::deliveries::ListDeliveries as _;
use crate::fake_clock::{FakeClock, TimerBehavior};
use crate::flaky_proxy::{Disconnect, FlakyProxy};
use crate::relay_process::Relay;

/// Deliveries of a direction in a state.
const SELECT_BY_STATE: &str = "SELECT kind, body, reason, status FROM deliveries WHERE state = ?1 AND direction = ?2";
/// How far the clock is set ahead, in seconds: longer than any lease, and less than the signature tolerance.
const CLOCK_JUMP_SECS: i64 = 120;
/// The directions, as the store has them.
const DIRECTIONS: [&str; 2] = ["loops-to-clay", "clay-to-loops"];
/// Makes the store refuse everything that changes it, as a full disk does.
const FILL_STORE_SQL: &str = "CREATE TRIGGER full_insert BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'disk is full'); END;
                    CREATE TRIGGER full_update BEFORE UPDATE ON deliveries BEGIN SELECT RAISE(ABORT, 'disk is full'); END;";
const UNFILL_STORE_SQL: &str = "DROP TRIGGER full_insert; DROP TRIGGER full_update;";

/// `relay-local` as a process.
#[derive(Debug)]
pub struct LocalUnderTest {
    relay: Option<Relay>,
    /// Proxies between the relay and the destinations.
    proxies: [FlakyProxy; 2],
    settings: Vec<(&'static str, String)>,
    base: watch::Sender<String>,
    /// Its clock, where that is moved.
    clock: Option<FakeClock>,
    /// How far it is ahead, in seconds.
    clock_offset_secs: i64,
    size: WorkloadSize,
    in_flight_at_crash: [Vec<Item>; 2],
    keys_rotated: bool,
}

impl LocalUnderTest {
    async fn restart(&mut self, folder: crate::relay_process::TempDataDir) {
        let clock = self.clock.iter().flat_map(FakeClock::environment).collect::<Vec<_>>();
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

    fn take_relay(&mut self) -> Relay {
        self.base.send_replace(String::new());
        self.relay.take().unwrap_or_else(|| panic!("the relay is not running"))
    }

    /// Does something to its store, and undoes it after that time.
    async fn disturb_store(&self, begin_sql: &str, end_sql: &str, duration: Duration) {
        let store = open_store(self.relay().folder());
        store.busy_timeout(crate::EVENTUALLY_TIMEOUT).unwrap_or_else(|error| panic!("{error}"));
        store.execute_batch(begin_sql).unwrap_or_else(|error| panic!("{error}"));
        tokio::time::sleep(duration).await;
        store.execute_batch(end_sql).unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Returns the deliveries in a state, for each destination, with reason and status.
fn deliveries_in_state(store: &rusqlite::Connection, state: &str) -> rusqlite::Result<[Vec<DeadLetter>; 2]> {
    let mut found = [Vec::new(), Vec::new()];
    for (found, direction) in found.iter_mut().zip(DIRECTIONS) {
        let mut statement = store.prepare(SELECT_BY_STATE)?;
        let rows = statement.query_map([state, direction], |row| {
            let kind = match row.get::<_, String>("kind")?.as_str() {
                "row" => ItemKind::Webhook,
                "event" => ItemKind::Event,
                "email" => ItemKind::Email,
                _ => ItemKind::Contact,
            };
            let item = Item::parse_body(kind, &row.get::<_, Vec<u8>>("body")?);
            let item = item.unwrap_or_else(|| panic!("a delivery in state {state} was never sent"));
            let reason = row.get::<_, Option<String>>("reason")?.unwrap_or_default();
            Ok(DeadLetter { item, reason, status: row.get("status")? })
        })?;
        *found = rows.collect::<rusqlite::Result<_>>()?;
    }
    Ok(found)
}

fn open_store(folder: &Path) -> rusqlite::Connection {
    let store = relay_sqlite::open_existing(folder).ok().flatten();
    store.unwrap_or_else(|| panic!("there is no store"))
}

impl RelayUnderTest for LocalUnderTest {
    const NAME: &str = "relay-local";

    fn scenarios() -> Vec<FaultScenario> {
        let mut all = FaultScenario::common();
        all.push(FaultScenario::relay("store full", RelayFault::StoreUnwritable));
        all.push(FaultScenario::relay_with_failing_destinations(
            "store full, destinations fail",
            RelayFault::StoreUnwritable,
        ));
        all.push(FaultScenario::relay_with_faulty_destinations("store full, all", RelayFault::StoreUnwritable));
        all.push(FaultScenario::relay("store locked", RelayFault::StoreSlow));
        all.push(FaultScenario::relay_with_faulty_destinations("store locked, all", RelayFault::StoreSlow));
        all.push(FaultScenario::relay("clock moved", RelayFault::ClockJump));
        all.push(FaultScenario::relay_with_failing_destinations(
            "clock moved, destinations fail",
            RelayFault::ClockJump,
        ));
        all.push(FaultScenario::relay_with_faulty_destinations("clock moved, all", RelayFault::ClockJump));
        all
    }

    async fn start(
        clay: &FaultyDestination,
        loops: &FaultyDestination,
        scenario: &FaultScenario,
        size: WorkloadSize,
    ) -> Self {
        let proxies = [FlakyProxy::start(&clay.url("")).await, FlakyProxy::start(&loops.url("")).await];
        let [to_clay, to_loops] = &proxies;
        let settings = vec![
            ("CLAY_WEBHOOK_URL", to_clay.url("/v3/sources/webhook/contacts")),
            ("CLAY_WEBHOOK_AUTH_TOKEN", KEY.to_owned()),
            ("LOOPS_API_URL", to_loops.url("/api")),
            ("LOOPS_API_KEY", KEY.to_owned()),
            ("RELAY_TOKEN", json!([workload::relay_token()]).to_string()),
        ];
        let base = watch::Sender::new(String::new());
        let clock =
            (scenario.relay_fault == Some(RelayFault::ClockJump)).then(|| FakeClock::new(TimerBehavior::Unaffected));
        let in_flight_at_crash = [Vec::new(), Vec::new()];
        let mut under_test = Self {
            relay: None,
            proxies,
            settings,
            base,
            clock,
            clock_offset_secs: 0,
            size,
            in_flight_at_crash,
            keys_rotated: false,
        };
        under_test.restart(crate::relay_process::TempDataDir::new()).await;
        under_test
    }

    fn base(&self) -> watch::Receiver<String> {
        self.base.subscribe()
    }

    async fn inject(&mut self, fault: RelayFault, random: &mut Rng, destinations: [&FaultyDestination; 2]) -> bool {
        let delay = Duration::from_millis(random.u64(300..1800));
        match fault {
            RelayFault::Kill => {
                tokio::time::sleep(delay).await;
                let folder = self.take_relay().kill().await;
                let found = deliveries_in_state(&open_store(folder.path()), "sending")
                    .unwrap_or_else(|error| panic!("{error}"));
                for (in_flight, found) in self.in_flight_at_crash.iter_mut().zip(found) {
                    in_flight.extend(found.into_iter().map(|found| found.item));
                }
                self.restart(folder).await;
            }
            RelayFault::Freeze => {
                tokio::time::sleep(delay / 2).await;
                self.relay().freeze();
                let disconnect = random.choice(Disconnect::ALL).unwrap_or(Disconnect::Closed);
                for proxy in &self.proxies {
                    proxy.disconnect_idle(disconnect);
                }
                tokio::time::sleep(self.size.freeze_duration(random)).await;
                self.relay().thaw();
                // Twice the delay, so that the clients notice the dead connections.
                tokio::time::sleep(delay * 2).await;
            }
            RelayFault::StoreUnwritable => {
                self.disturb_store(FILL_STORE_SQL, UNFILL_STORE_SQL, delay).await;
                tokio::time::sleep(delay / 2).await;
            }
            RelayFault::StoreSlow => {
                self.disturb_store("BEGIN IMMEDIATE", "COMMIT", delay * 2).await;
                tokio::time::sleep(delay / 2).await;
            }
            RelayFault::ClockJump => {
                tokio::time::sleep(delay / 2).await;
                self.relay().freeze();
                self.clock_offset_secs = CLOCK_JUMP_SECS - self.clock_offset_secs;
                self.clock.iter().for_each(|clock| clock.set_offset(self.clock_offset_secs));
                tokio::time::sleep(delay / 4).await;
                self.relay().thaw();
                tokio::time::sleep(delay).await;
            }
            RelayFault::KeyRotation if !self.keys_rotated => {
                self.keys_rotated = true;
                tokio::time::sleep(delay / 2).await;
                for destination in destinations {
                    destination.rotate_key(NEW_KEY);
                }
                tokio::time::sleep(delay).await;
                for (_, value) in self.settings.iter_mut().filter(|(_, value)| value == KEY) {
                    NEW_KEY.clone_into(value);
                }
                let (folder, _) = self.take_relay().stop().await;
                self.restart(folder).await;
            }
            RelayFault::KeyRotation => {
                tokio::time::sleep(delay).await;
                return false;
            }
            RelayFault::ServiceOutage(service) => panic!("there is no {service} on one machine"),
        }
        true
    }

    async fn clear_faults(&mut self) {
        // The clock may have been set back after a deferral: deferred deliveries become due.
        self.clock.iter().for_each(|clock| clock.set_offset(CLOCK_JUMP_SECS));
    }

    async fn waiting(&self) -> usize {
        let deliveries = self.relay().deliveries().await;
        deliveries
            .iter()
            .filter(|delivery| !["delivered", "dead"].contains(&delivery["state"].as_str().unwrap_or("")))
            .count()
    }

    fn in_flight_at_crashes(&self) -> [Vec<Item>; 2] {
        self.in_flight_at_crash.clone()
    }

    async fn dead_letters(&self) -> [Vec<DeadLetter>; 2] {
        deliveries_in_state(&open_store(self.relay().folder()), "dead").unwrap_or_else(|error| panic!("{error}"))
    }

    fn log(&self) -> String {
        self.relay().log()
    }
}
