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
    Empty,
}

impl KeySource<'_> {
    /// A key that was set, to something or to nothing, in the environment or in the data folder.
    #[must_use]
    pub const fn from_setting(is_nonempty: bool, is_stored: bool) -> Self {
        match (is_nonempty, is_stored) {
            (true, false) => Self::Set,
            (true, true) => Self::Stored,
            (false, _) => Self::Empty,
        }
    }

    /// The same, shown only on a terminal.
    #[must_use]
    pub const fn hide_unless(self, is_terminal: bool) -> Self {
        match self {
            Self::Generated(_) if !is_terminal => Self::Hidden,
            key => key,
        }
    }

    fn describe(self, setting: &str) -> String {
        match self {
            Self::Generated(key) => format!("{key}  (generated; {setting} sets another)"),
            Self::Hidden => format!("generated, and kept in the data folder  ({setting} sets another)"),
            Self::Set => format!("as set in {setting}"),
            Self::Stored => "as kept in the data folder  (`relayctl setup --local --list` lists it)".to_owned(),
            Self::Empty => format!("none: {setting} is empty, so nobody gets in"),
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
    Empty,
}

impl DestinationSource {
    fn describe(self, setting: &str) -> String {
        match self {
            Self::Simulated(address) => format!("simulated at http://{address}  ({setting} takes you to the real one)"),
            Self::Set => format!("as set in {setting}"),
            Self::Empty => format!("none: {setting} is empty, so nothing is sent there"),
        }
    }

    /// A command that shows what is there, as far as it can be shown.
    fn inspect_command(self, path: &str) -> String {
        match self {
            Self::Simulated(address) => format!(" &&\n  curl -sS 'http://{address}{path}'"),
            Self::Set | Self::Empty => String::new(),
        }
    }
}

/// What the start found out.
#[derive(Debug)]
pub struct Banner<'a> {
    /// Where the relay listens.
    pub address: SocketAddr,
    /// The data folder.
    pub data_dir: &'a Path,
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
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let base = format!("http://{}", loopback_address(self.address));
        writeln!(out, "\nThe relay is running; its data is in {}.\n", self.data_dir.display())?;
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
            KeySource::Set | KeySource::Stored | KeySource::Hidden | KeySource::Empty => "${RELAY_TOKEN%%,*}",
        };
        let curl_command = |method: &str, path: &str, file: &str| {
            format!(
                "curl -sS -w ' %{{http_code}}\\n' -X {method} {base}{path} \\\n    -H \"Authorization: Bearer {token}\" -H 'Content-Type: application/json' -d @{file}"
            )
        };
        writeln!(out, "Try it: paste these into another terminal in the same folder.\n")?;
        let unshared_settings: Vec<&str> =
            [("RELAY_TOKEN", self.relay_token), ("LOOPS_SIGNING_SECRET", self.signing_secret)]
                .into_iter()
                .filter_map(|(setting, key)| matches!(key, KeySource::Set | KeySource::Empty).then_some(setting))
                .collect();
        if !unshared_settings.is_empty() {
            writeln!(
                out,
                "That terminal needs what this one has in {}: export it there first.\n",
                unshared_settings.join(" and ")
            )?;
        }
        if matches!(self.relay_token, KeySource::Stored | KeySource::Hidden) {
            writeln!(
                out,
                "`relayctl setup --local --list --show-token` shows the relay token: export it there as RELAY_TOKEN.\n"
            )?;
        }
        writeln!(out, "1. A signed Loops webhook becomes a row in Clay:\n")?;
        let webhook_command =
            format!("{}{} send-webhook events/loops/contact.created.json", self.env_prefix(), self.program);
        writeln!(out, "  {webhook_command}{}\n", self.clay.inspect_command("/rows?wait=1"))?;
        writeln!(out, "2. A row in Clay becomes a contact in Loops:\n")?;
        let contact_command = curl_command("PUT", CONTACT_PATH, "events/clay/contact.json");
        writeln!(out, "  {contact_command}{}\n", self.loops.inspect_command("/contacts"))?;
        writeln!(out, "3. A row in Clay becomes an event in Loops, once, however often it is sent:\n")?;
        let event_command = curl_command("POST", EVENT_PATH, "events/clay/event.json");
        writeln!(out, "  {event_command}{}\n", self.loops.inspect_command("/events"))?;
        writeln!(out, "What is waiting, delivered or dead:  {}{} deliveries", self.env_prefix(), self.program)?;
        writeln!(out, "Stop with Ctrl-C.\n")
    }

    /// The settings that another terminal must have too.
    fn env_prefix(&self) -> String {
        let mut prefix = String::new();
        let listen = loopback_address(self.address).to_string();
        if self.data_dir != Path::new(DEFAULT_DATA) {
            let _ = write!(prefix, "{RELAY_DATA}='{}' ", self.data_dir.display());
        }
        if listen != DEFAULT_LISTEN {
            let _ = write!(prefix, "{RELAY_LISTEN}={listen} ");
        }
        prefix
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

    fn banner(simulated: bool) -> String {
        let destination = |port: u16| {
            if simulated {
                DestinationSource::Simulated(SocketAddr::from(([127, 0, 0, 1], port)))
            } else {
                DestinationSource::Set
            }
        };
        Banner {
            address: SocketAddr::from(([0, 0, 0, 0], 8787)),
            data_dir: Path::new(DEFAULT_DATA),
            signing_secret: if simulated { KeySource::Generated("whsec_x") } else { KeySource::Set },
            relay_token: if simulated { KeySource::Generated("relay_x") } else { KeySource::Empty },
            clay: destination(8788),
            loops: destination(8789),
            program: "relay-local",
        }
        .render()
    }

    #[test]
    fn first_start_banner_shows_urls_keys_and_three_commands() {
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
    fn stored_keys_need_no_export_in_the_other_terminal() {
        let mut text = String::new();
        let address = SocketAddr::from(([127, 0, 0, 1], 8787));
        let (key, destination, data_dir) =
            (KeySource::from_setting(true, true), DestinationSource::Set, Path::new(DEFAULT_DATA));
        let program = "relay-local";
        let banner = Banner {
            address,
            data_dir,
            signing_secret: key,
            relay_token: key,
            clay: destination,
            loops: destination,
            program,
        };
        banner.write(&mut text).unwrap();
        assert!(
            text.contains("as kept in the data folder") && text.contains("export it there as RELAY_TOKEN"),
            "{text}"
        );
        assert!(!text.contains("That terminal needs"), "{text}");
    }

    #[test]
    fn generated_keys_are_shown_only_on_a_terminal() {
        let banner = |is_terminal| {
            let address = SocketAddr::from(([127, 0, 0, 1], 8787));
            let [signing_secret, relay_token] =
                ["whsec_x", "relay_x"].map(|key| KeySource::Generated(key).hide_unless(is_terminal));
            let (clay, loops, data_dir, program) =
                (DestinationSource::Set, DestinationSource::Set, Path::new(DEFAULT_DATA), "relay-local");
            Banner { address, data_dir, signing_secret, relay_token, clay, loops, program }.render()
        };
        assert!(banner(true).contains("Bearer relay_x") && banner(true).contains("whsec_x"));
        let text = banner(false);
        assert!(!text.contains("relay_x") && !text.contains("whsec_x"), "{text}");
        assert!(text.contains("`relayctl setup --local --list --show-token` shows the relay token"), "{text}");
        assert!(text.contains("Bearer ${RELAY_TOKEN%%,*}") && !text.contains("That terminal needs"), "{text}");
    }

    #[test]
    fn configured_secrets_are_not_shown() {
        let text = banner(false);
        assert!(text.contains("as set in LOOPS_SIGNING_SECRET") && text.contains("RELAY_TOKEN is empty"), "{text}");
        assert!(text.contains("\"Authorization: Bearer ${RELAY_TOKEN%%,*}\""), "{text}");
        assert!(text.contains("in RELAY_TOKEN and LOOPS_SIGNING_SECRET: export it there"), "{text}");
        assert!(!text.contains("simulated"), "{text}");
    }
}
