//! What a person sees when the relay starts: where it is, what is simulated, and what to try.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use relay::config::names::{RELAY_DATA, RELAY_LISTEN};
use relay::routes::{CONTACT_PATH, EVENT_PATH, WEBHOOK_PATH};
use relay_sqlite::data_dir::config::{DEFAULT_DATA, DEFAULT_LISTEN};

/// Where a key comes from.
#[derive(Debug, Clone, Copy)]
pub enum KeySource<'a> {
    /// It was generated, because none was set.
    Generated(&'a str),
    /// It was generated, and is not shown, because this is no terminal: it stays out of a log.
    Hidden,
    /// It was set.
    Set,
    /// It is kept in the data folder.
    Stored,
    /// What was set is empty: nobody gets in.
    Closed,
}

impl KeySource<'_> {
    /// A key that was set, to something or to nothing, in the environment or in the data folder.
    #[must_use]
    pub const fn of(something: bool, stored: bool) -> Self {
        match (something, stored) {
            (true, false) => Self::Set,
            (true, true) => Self::Stored,
            (false, _) => Self::Closed,
        }
    }

    /// The same, shown only on a terminal.
    #[must_use]
    pub const fn hide_unless(self, terminal: bool) -> Self {
        match self {
            Self::Generated(_) if !terminal => Self::Hidden,
            key => key,
        }
    }

    fn describe(self, setting: &str) -> String {
        match self {
            Self::Generated(key) => format!("{key}  (generated; {setting} sets another)"),
            Self::Hidden => format!("generated, and kept in the data folder  ({setting} sets another)"),
            Self::Set => format!("as set in {setting}"),
            Self::Stored => "as kept in the data folder  (`relayctl setup --local --list` lists it)".to_owned(),
            Self::Closed => format!("none: {setting} is empty, so nobody gets in"),
        }
    }
}

/// Which far end the relay talks to.
#[derive(Debug, Clone, Copy)]
pub enum DestinationSource {
    /// A simulated one, at this address.
    Simulated(SocketAddr),
    /// The one that was set.
    Set,
    /// What was set is empty: nothing is sent.
    Closed,
}

impl DestinationSource {
    fn describe(self, setting: &str) -> String {
        match self {
            Self::Simulated(address) => format!("simulated at http://{address}  ({setting} takes you to the real one)"),
            Self::Set => format!("as set in {setting}"),
            Self::Closed => format!("none: {setting} is empty, so nothing is sent there"),
        }
    }

    /// A command that shows what is there, as far as it can be shown.
    fn inspect_command(self, path: &str) -> String {
        match self {
            Self::Simulated(address) => format!(" &&\n  curl -sS 'http://{address}{path}'"),
            Self::Set | Self::Closed => String::new(),
        }
    }
}

/// What the start found out.
#[derive(Debug)]
pub struct Banner<'a> {
    /// Where the relay listens.
    pub address: SocketAddr,
    /// The data folder.
    pub data: &'a Path,
    /// What Loops signs with.
    pub signing_secret: KeySource<'a>,
    /// What Clay sends.
    pub relay_token: KeySource<'a>,
    /// Where events go.
    pub clay: DestinationSource,
    /// Where rows go.
    pub loops: DestinationSource,
    /// The program, to be called again.
    pub program: &'a str,
}

impl Banner<'_> {
    /// The text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let base = format!("http://{}", loopback_address(self.address));
        writeln!(out, "\nThe relay is running; its data is in {}.\n", self.data.display())?;
        writeln!(out, "  Loops webhook     POST {base}{WEBHOOK_PATH}")?;
        writeln!(out, "  Clay, contacts    PUT  {base}{CONTACT_PATH}")?;
        writeln!(out, "  Clay, events      POST {base}{EVENT_PATH}\n")?;
        writeln!(out, "  Relay token       {}", self.relay_token.describe("RELAY_TOKEN"))?;
        writeln!(out, "  Signing secret    {}\n", self.signing_secret.describe("LOOPS_SIGNING_SECRET"))?;
        writeln!(out, "  Loops             {}", self.loops.describe("LOOPS_API_KEY"))?;
        writeln!(out, "  Clay              {}\n", self.clay.describe("CLAY_WEBHOOK_URL"))?;
        self.write_commands(out, &base)
    }

    fn write_commands(&self, out: &mut String, base: &str) -> std::fmt::Result {
        let token = match self.relay_token {
            KeySource::Generated(token) => token,
            KeySource::Set | KeySource::Stored | KeySource::Hidden | KeySource::Closed => "${RELAY_TOKEN%%,*}",
        };
        let row = |method: &str, path: &str, file: &str| {
            format!(
                "curl -sS -w ' %{{http_code}}\\n' -X {method} {base}{path} \\\n    -H \"Authorization: Bearer {token}\" -H 'Content-Type: application/json' -d @{file}"
            )
        };
        writeln!(out, "Try it: paste these into another terminal in the same folder.\n")?;
        let set: Vec<&str> = [("RELAY_TOKEN", self.relay_token), ("LOOPS_SIGNING_SECRET", self.signing_secret)]
            .into_iter()
            .filter_map(|(setting, key)| matches!(key, KeySource::Set | KeySource::Closed).then_some(setting))
            .collect();
        if !set.is_empty() {
            writeln!(out, "That terminal needs what this one has in {}: export it there first.\n", set.join(" and "))?;
        }
        if matches!(self.relay_token, KeySource::Stored | KeySource::Hidden) {
            writeln!(
                out,
                "`relayctl setup --local --list --show-token` shows the relay token: export it there as RELAY_TOKEN.\n"
            )?;
        }
        writeln!(out, "1. A signed Loops webhook becomes a row in Clay:\n")?;
        let webhook = format!("{}{} send-webhook events/loops/contact.created.json", self.variables(), self.program);
        writeln!(out, "  {webhook}{}\n", self.clay.inspect_command("/rows?wait=1"))?;
        writeln!(out, "2. A row in Clay becomes a contact in Loops:\n")?;
        let contact = row("PUT", CONTACT_PATH, "events/clay/contact.json");
        writeln!(out, "  {contact}{}\n", self.loops.inspect_command("/contacts"))?;
        writeln!(out, "3. A row in Clay becomes an event in Loops, once, however often it is sent:\n")?;
        let event = row("POST", EVENT_PATH, "events/clay/event.json");
        writeln!(out, "  {event}{}\n", self.loops.inspect_command("/events"))?;
        writeln!(out, "What is waiting, delivered or dead:  {}{} deliveries", self.variables(), self.program)?;
        writeln!(out, "Stop with Ctrl-C.\n")
    }

    /// The settings that another terminal must have too.
    fn variables(&self) -> String {
        let mut variables = String::new();
        let listen = loopback_address(self.address).to_string();
        if self.data != Path::new(DEFAULT_DATA) {
            let _ = write!(variables, "{RELAY_DATA}='{}' ", self.data.display());
        }
        if listen != DEFAULT_LISTEN {
            let _ = write!(variables, "{RELAY_LISTEN}={listen} ");
        }
        variables
    }
}

/// The address under which this machine reaches a listener.
#[must_use]
pub fn loopback_address(address: SocketAddr) -> SocketAddr {
    let mut address = address;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(fresh: bool) -> String {
        let end = |port: u16| {
            if fresh {
                DestinationSource::Simulated(SocketAddr::from(([127, 0, 0, 1], port)))
            } else {
                DestinationSource::Set
            }
        };
        Banner {
            address: SocketAddr::from(([0, 0, 0, 0], 8787)),
            data: Path::new(DEFAULT_DATA),
            signing_secret: if fresh { KeySource::Generated("whsec_x") } else { KeySource::Set },
            relay_token: if fresh { KeySource::Generated("relay_x") } else { KeySource::Closed },
            clay: end(8788),
            loops: end(8789),
            program: "relay-local",
        }
        .text()
    }

    #[test]
    fn a_first_start_shows_urls_keys_simulated_ends_and_three_commands() {
        let text = banner(true);
        for part in [
            "POST http://127.0.0.1:8787/webhooks/loops",
            "PUT  http://127.0.0.1:8787/api/v1/contacts/update",
            "POST http://127.0.0.1:8787/api/v1/events/send",
            "relay_x",
            "whsec_x",
            "simulated at http://127.0.0.1:8788",
            "send-webhook events/loops/contact.created.json",
            "-d @events/clay/contact.json",
            "-d @events/clay/event.json",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn what_is_kept_in_the_folder_need_not_be_set_elsewhere() {
        let mut text = String::new();
        let address = SocketAddr::from(([127, 0, 0, 1], 8787));
        let (key, ends, data) = (KeySource::of(true, true), DestinationSource::Set, Path::new(DEFAULT_DATA));
        let program = "relay-local";
        let banner = Banner { address, data, signing_secret: key, relay_token: key, clay: ends, loops: ends, program };
        banner.write(&mut text).unwrap();
        assert!(
            text.contains("as kept in the data folder") && text.contains("export it there as RELAY_TOKEN"),
            "{text}"
        );
        assert!(!text.contains("That terminal needs"), "{text}");
    }

    #[test]
    fn what_is_generated_is_shown_on_a_terminal_alone() {
        let banner = |terminal| {
            let address = SocketAddr::from(([127, 0, 0, 1], 8787));
            let [signing_secret, relay_token] =
                ["whsec_x", "relay_x"].map(|key| KeySource::Generated(key).hide_unless(terminal));
            let (clay, loops, data, program) =
                (DestinationSource::Set, DestinationSource::Set, Path::new(DEFAULT_DATA), "relay-local");
            Banner { address, data, signing_secret, relay_token, clay, loops, program }.text()
        };
        assert!(banner(true).contains("Bearer relay_x") && banner(true).contains("whsec_x"));
        let text = banner(false);
        assert!(!text.contains("relay_x") && !text.contains("whsec_x"), "{text}");
        assert!(text.contains("`relayctl setup --local --list --show-token` shows the relay token"), "{text}");
        assert!(text.contains("Bearer ${RELAY_TOKEN%%,*}") && !text.contains("That terminal needs"), "{text}");
    }

    #[test]
    fn what_was_set_is_not_shown() {
        let text = banner(false);
        assert!(text.contains("as set in LOOPS_SIGNING_SECRET") && text.contains("RELAY_TOKEN is empty"), "{text}");
        assert!(text.contains("\"Authorization: Bearer ${RELAY_TOKEN%%,*}\""), "{text}");
        assert!(text.contains("in RELAY_TOKEN and LOOPS_SIGNING_SECRET: export it there"), "{text}");
        assert!(!text.contains("simulated"), "{text}");
    }
}
