//! The faults of the destinations and of the relay.

use std::time::Duration;

use fastrand::Rng;

/// Faulty requests of ten, unless a scenario has another number.
const DEFAULT_FAULTS_PER_TEN: u64 = 6;
/// How long most freezes last at most.
const MAX_SHORT_FREEZE: Duration = Duration::from_secs(3);

/// How a destination responds under a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DestinationFault {
    /// 429 without `Retry-After`.
    RateLimited,
    /// 429 with `Retry-After`.
    RateLimitedRetryAfter,
    /// 500.
    ServerError,
    /// No response.
    Hang,
    /// It accepts and sends the status at once; the body follows byte by byte.
    SlowBody,
    /// The connection is reset before the request is read.
    Reset,
    /// The response ends in the middle of its body; a 200 means that it accepted.
    TruncatedBody,
    /// 502, as an edge writes it.
    HtmlError,
    /// It leads somewhere else.
    Redirect,
    /// It accepts, and resets the connection.
    AcceptThenReset,
    /// It rejects some items for good, and goes on doing so after the fault.
    RejectSome,
}

impl DestinationFault {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::RateLimited,
        Self::RateLimitedRetryAfter,
        Self::ServerError,
        Self::Hang,
        Self::SlowBody,
        Self::Reset,
        Self::TruncatedBody,
        Self::HtmlError,
        Self::Redirect,
        Self::AcceptThenReset,
        Self::RejectSome,
    ];

    /// What the table calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RateLimited => "429",
            Self::RateLimitedRetryAfter => "429, Retry-After",
            Self::ServerError => "500",
            Self::Hang => "hangs",
            Self::SlowBody => "slow drip",
            Self::Reset => "resets",
            Self::TruncatedBody => "half a body",
            Self::HtmlError => "502 in HTML",
            Self::Redirect => "redirects",
            Self::AcceptThenReset => "stored, then reset",
            Self::RejectSome => "refuses some for good",
        }
    }
}

/// A fault of the relay or of its surroundings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayFault {
    /// It is killed at random moments.
    Kill,
    /// Its store refuses to be written.
    StoreUnwritable,
    /// The store responds late.
    StoreSlow,
    /// The relay is frozen for a while, and its pooled connections die meanwhile.
    Freeze,
    /// Its clock is set ahead while it sleeps, by two minutes, or back again.
    ClockJump,
    /// The keys of both destinations change.
    KeyRotation,
    /// A service that it lives on misbehaves: its name as policies have it.
    ServiceOutage(&'static str),
}

/// A scenario: the faults of the destinations and of the relay.
#[derive(Debug, Clone)]
pub struct FaultScenario {
    /// What the table calls it.
    pub name: &'static str,
    /// The faults of both destinations, one of which applies to a faulty request.
    pub destination_faults: Vec<DestinationFault>,
    /// How many of ten requests meet one.
    pub faults_per_ten: u64,
    /// The fault of the relay.
    pub relay_fault: Option<RelayFault>,
}

impl FaultScenario {
    /// Returns the scenario without faults.
    #[must_use]
    pub const fn none() -> Self {
        Self { name: "none", destination_faults: Vec::new(), faults_per_ten: 0, relay_fault: None }
    }

    /// Returns a scenario with one destination fault.
    #[must_use]
    pub fn destination(fault: DestinationFault) -> Self {
        Self {
            name: fault.name(),
            destination_faults: vec![fault],
            faults_per_ten: DEFAULT_FAULTS_PER_TEN,
            relay_fault: None,
        }
    }

    /// Returns a scenario in which destinations fail now and then and reject some items for good, often after a
    /// deferral.
    #[must_use]
    pub fn failing_and_rejecting_destination() -> Self {
        let destination_faults = vec![DestinationFault::ServerError, DestinationFault::RejectSome];
        Self { name: "500, refuses some", destination_faults, faults_per_ten: 5, relay_fault: None }
    }

    /// Returns a scenario with all destination faults.
    #[must_use]
    pub fn all_destination_faults() -> Self {
        Self {
            name: "all of these",
            destination_faults: DestinationFault::ALL.to_vec(),
            faults_per_ten: DEFAULT_FAULTS_PER_TEN,
            relay_fault: None,
        }
    }

    /// Returns a scenario with one relay fault.
    #[must_use]
    pub const fn relay(name: &'static str, fault: RelayFault) -> Self {
        Self { name, destination_faults: Vec::new(), faults_per_ten: 0, relay_fault: Some(fault) }
    }

    /// Returns a scenario with a relay fault and destinations that fail, before or after accepting, too seldom to open
    /// the circuit breaker.
    #[must_use]
    pub fn relay_with_failing_destinations(name: &'static str, fault: RelayFault) -> Self {
        let destination_faults = vec![DestinationFault::ServerError, DestinationFault::AcceptThenReset];
        Self { name, destination_faults, faults_per_ten: 3, relay_fault: Some(fault) }
    }

    /// Returns a scenario with a relay fault and all destination faults.
    #[must_use]
    pub fn relay_with_faulty_destinations(name: &'static str, fault: RelayFault) -> Self {
        Self {
            name,
            destination_faults: DestinationFault::ALL.to_vec(),
            faults_per_ten: DEFAULT_FAULTS_PER_TEN,
            relay_fault: Some(fault),
        }
    }

    /// Returns the scenarios that apply to every deployment.
    #[must_use]
    pub fn common() -> Vec<Self> {
        let mut scenarios = vec![Self::none()];
        scenarios.extend(DestinationFault::ALL.map(Self::destination));
        scenarios.push(Self::failing_and_rejecting_destination());
        scenarios.push(Self::all_destination_faults());
        scenarios.push(Self::relay("relay killed", RelayFault::Kill));
        scenarios.push(Self::relay_with_faulty_destinations("relay killed, all", RelayFault::Kill));
        scenarios.push(Self::relay("relay frozen", RelayFault::Freeze));
        scenarios.push(Self::relay_with_faulty_destinations("relay frozen, all", RelayFault::Freeze));
        scenarios.push(Self::relay("keys rotate", RelayFault::KeyRotation));
        scenarios
    }
}

/// Amount of work, and duration of the fault.
#[derive(Debug, Clone, Copy)]
pub struct WorkloadSize {
    /// How many contacts send webhooks, and as many others rows.
    pub contacts: u32,
    /// How many steps each has.
    pub steps: u32,
    /// Minimum duration of the fault.
    pub fault_duration: Duration,
    /// The longest time for which it is frozen.
    pub max_freeze: Duration,
    /// Maximum wait, after the fault, until everything is acknowledged, and then until nothing waits.
    pub timeout: Duration,
}

impl WorkloadSize {
    /// That of `make chaos`.
    pub const FULL: Self = Self {
        contacts: 6,
        steps: 8,
        fault_duration: Duration::from_secs(24),
        max_freeze: Duration::from_secs(20),
        timeout: Duration::from_secs(180),
    };
    /// That of a test.
    pub const SHORT: Self = Self {
        contacts: 3,
        steps: 4,
        fault_duration: Duration::from_secs(3),
        max_freeze: Duration::from_secs(3),
        timeout: Duration::from_secs(60),
    };

    /// For how long it is frozen this time: most often briefly.
    pub fn freeze_duration(self, random: &mut Rng) -> Duration {
        let max = if random.u32(..4) == 0 { self.max_freeze } else { MAX_SHORT_FREEZE };
        Duration::from_millis(random.u64(200..=u64::try_from(max.as_millis()).unwrap_or(u64::MAX).max(200)))
    }
}
