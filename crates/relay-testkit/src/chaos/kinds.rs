//! The faults: what an end does with a request, and what is done to the relay.

use std::time::Duration;

use fastrand::Rng;

/// How many of ten requests meet an ailment where nothing else is said.
const MOST: u64 = 6;
/// How long most freezes last at most.
const BRIEFLY: Duration = Duration::from_secs(3);

/// How an end answers a request under a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ailment {
    /// 429, without a word on when to come again.
    Full,
    /// 429, and when to come again.
    FullFor,
    /// 500.
    Fails,
    /// No answer.
    Hangs,
    /// It takes it and says so at once; the body of that answer comes byte by byte.
    Drips,
    /// The connection is reset before the request is read.
    Resets,
    /// The answer breaks off in the middle of its body; it has taken it where its status says so.
    BreaksOff,
    /// 502, as an edge writes it.
    Html,
    /// It leads somewhere else.
    Redirects,
    /// It takes it, and resets the connection.
    TakesThenResets,
    /// It refuses some for good, those same ones whenever they come, also when it is well again.
    Refuses,
}

impl Ailment {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::Full,
        Self::FullFor,
        Self::Fails,
        Self::Hangs,
        Self::Drips,
        Self::Resets,
        Self::BreaksOff,
        Self::Html,
        Self::Redirects,
        Self::TakesThenResets,
        Self::Refuses,
    ];

    /// What the table calls it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Full => "429",
            Self::FullFor => "429, Retry-After",
            Self::Fails => "500",
            Self::Hangs => "hangs",
            Self::Drips => "slow drip",
            Self::Resets => "resets",
            Self::BreaksOff => "half a body",
            Self::Html => "502 in HTML",
            Self::Redirects => "redirects",
            Self::TakesThenResets => "stored, then reset",
            Self::Refuses => "refuses some for good",
        }
    }
}

/// What is done to the relay while the requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strike {
    /// It is killed at random moments.
    Kill,
    /// Its store refuses to be written.
    StoreFails,
    /// Its store takes its time.
    StoreSlow,
    /// It is frozen for a while, and the connections that it has kept die meanwhile.
    Freeze,
    /// Its clock is set ahead while it sleeps, by two minutes, or back again.
    ClockMoves,
    /// The keys of both ends change.
    KeysRotate,
    /// A service that it lives on misbehaves: its name as policies have it.
    Service(&'static str),
}

/// A row of the table: what the ends do, and what is done to the relay.
#[derive(Debug, Clone)]
pub struct Fault {
    /// What the table calls it.
    pub name: &'static str,
    /// What the ends do with a request, one of these; nothing where there is none.
    pub ailments: Vec<Ailment>,
    /// How many of ten requests meet one.
    pub ailing_of_ten: u64,
    /// What is done to the relay.
    pub strike: Option<Strike>,
}

impl Fault {
    /// No fault at all.
    #[must_use]
    pub const fn none() -> Self {
        Self { name: "none", ailments: Vec::new(), ailing_of_ten: 0, strike: None }
    }

    /// Ends that have one ailment.
    #[must_use]
    pub fn ends(ailment: Ailment) -> Self {
        Self { name: ailment.name(), ailments: vec![ailment], ailing_of_ten: MOST, strike: None }
    }

    /// Ends that fail now and then, and refuse some for good: so that what is refused has often been put off before.
    #[must_use]
    pub fn ends_that_fail_and_refuse() -> Self {
        let ailments = vec![Ailment::Fails, Ailment::Refuses];
        Self { name: "500, refuses some", ailments, ailing_of_ten: 5, strike: None }
    }

    /// Ends that have them all.
    #[must_use]
    pub fn all_ailments() -> Self {
        Self { name: "all of these", ailments: Ailment::ALL.to_vec(), ailing_of_ten: MOST, strike: None }
    }

    /// Something that is done to the relay, the ends being well.
    #[must_use]
    pub const fn relay(name: &'static str, strike: Strike) -> Self {
        Self { name, ailments: Vec::new(), ailing_of_ten: 0, strike: Some(strike) }
    }

    /// Something that is done to the relay, while the ends fail now and then, before or after they have taken it: so seldom that
    /// they do not count as down.
    #[must_use]
    pub fn relay_and_failing_ends(name: &'static str, strike: Strike) -> Self {
        let ailments = vec![Ailment::Fails, Ailment::TakesThenResets];
        Self { name, ailments, ailing_of_ten: 3, strike: Some(strike) }
    }

    /// Something that is done to the relay, while the ends have every ailment as well.
    #[must_use]
    pub fn relay_and_ends(name: &'static str, strike: Strike) -> Self {
        Self { name, ailments: Ailment::ALL.to_vec(), ailing_of_ten: MOST, strike: Some(strike) }
    }

    /// Those that any form of the relay can meet.
    #[must_use]
    pub fn of_any_form() -> Vec<Self> {
        let mut all = vec![Self::none()];
        all.extend(Ailment::ALL.map(Self::ends));
        all.push(Self::ends_that_fail_and_refuse());
        all.push(Self::all_ailments());
        all.push(Self::relay("relay killed", Strike::Kill));
        all.push(Self::relay_and_ends("relay killed, all", Strike::Kill));
        all.push(Self::relay("relay frozen", Strike::Freeze));
        all.push(Self::relay_and_ends("relay frozen, all", Strike::Freeze));
        all.push(Self::relay("keys rotate", Strike::KeysRotate));
        all
    }
}

/// How much is sent, and for how long a fault lasts.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// How many contacts send webhooks, and as many others rows.
    pub contacts: u32,
    /// How many steps each has.
    pub steps: u32,
    /// For how long the fault lasts at least.
    pub lasting: Duration,
    /// The longest time for which it is frozen.
    pub frozen: Duration,
    /// The longest that is waited, after the fault, until everything is acknowledged, and then until nothing waits.
    pub patience: Duration,
}

impl Size {
    /// That of `make chaos`.
    pub const FULL: Self = Self {
        contacts: 6,
        steps: 8,
        lasting: Duration::from_secs(24),
        frozen: Duration::from_secs(20),
        patience: Duration::from_secs(180),
    };
    /// That of a test.
    pub const SHORT: Self = Self {
        contacts: 3,
        steps: 4,
        lasting: Duration::from_secs(3),
        frozen: Duration::from_secs(3),
        patience: Duration::from_secs(60),
    };

    /// For how long it is frozen this time: most often briefly.
    pub fn freeze(self, random: &mut Rng) -> Duration {
        let most = if random.u32(..4) == 0 { self.frozen } else { BRIEFLY };
        Duration::from_millis(random.u64(200..=u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(200)))
    }
}
