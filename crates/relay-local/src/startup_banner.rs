//! The text that the program prints when the relay starts: its addresses and keys, what is simulated, and commands to try.

use std::net::SocketAddr;
use std::path::Path;

use relay::config::names::{RELAY_DATA, RELAY_LISTEN};
use relay::routes::{CONTACT_PATH, EVENT_PATH, WEBHOOK_PATH};
use relay_sqlite::data_dir::config::{DEFAULT_DATA, DEFAULT_LISTEN, loopback_address};

pub(crate) enum KeySource {
    Generated(String),
    /// Generated, and not shown because standard output is no terminal: the key stays out of logs.
    Hidden,
    /// Set in the environment.
    Set,
    /// Set in the environment as a JSON list.
    SetList,
    /// Set in the data folder.
    Stored,
    /// Set to nothing: no caller is let in.
    Empty,
}

impl KeySource {
    pub(crate) fn generated(key: String, is_terminal: bool) -> Self {
        if is_terminal { Self::Generated(key) } else { Self::Hidden }
    }

    pub(crate) const fn from_setting(is_empty: bool, is_stored: bool) -> Self {
        match (is_empty, is_stored) {
            (false, false) => Self::Set,
            (false, true) => Self::Stored,
            (true, _) => Self::Empty,
        }
    }

    fn describe(&self, setting: &str) -> String {
        match self {
            Self::Generated(key) => format!("{key}  (generated; {setting} sets another)"),
            Self::Hidden => format!("generated, and kept in the data folder  ({setting} sets another)"),
            Self::Set | Self::SetList => format!("as set in {setting}"),
            Self::Stored => "as kept in the data folder  (`relayctl setup --local --list` lists it)".to_owned(),
            Self::Empty => format!("none: {setting} is empty, so nobody gets in"),
        }
    }
}

/// The Loops or the Clay that the relay calls.
#[derive(Clone, Copy)]
pub(crate) enum DestinationSource {
    Simulated(SocketAddr),
    Set,
    /// Set to nothing: nothing is sent.
    Empty,
    /// Not set, although this secret of its direction is: nothing is sent.
    HalfConfigured(&'static str),
}

impl DestinationSource {
    fn describe(self, setting: &str) -> String {
        match self {
            Self::Simulated(address) => format!("simulated at http://{address}  ({setting} takes you to the real one)"),
            Self::Set => format!("as set in {setting}"),
            Self::Empty => format!("none: {setting} is empty, so nothing is sent there"),
            Self::HalfConfigured(secret) => {
                format!("closed: {secret} is set and {setting} is not  (set it, or start with --simulate)")
            }
        }
    }

    /// A command that shows what a simulated destination has received.
    fn inspect_command(self, path: &str) -> String {
        match self {
            Self::Simulated(address) => format!(" &&\n  curl -sS 'http://{address}{path}'"),
            Self::Set | Self::Empty | Self::HalfConfigured(_) => String::new(),
        }
    }
}

/// Told where other machines can reach the relay.
const EXPOSURE_NOTICE: &str = "
Other machines can reach it, by plain HTTP, and /metrics and /healthz without a token: put a proxy with
TLS in front that passes /webhooks/loops and /api/v1/ and nothing else.
";

pub(crate) struct Banner<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) data_dir: &'a Path,
    pub(crate) signing_secret: KeySource,
    pub(crate) relay_token: KeySource,
    pub(crate) clay: DestinationSource,
    pub(crate) loops: DestinationSource,
    /// Whether the console is served.
    pub(crate) console: bool,
    /// Path of this program, as a user of the current folder would type it.
    pub(crate) program: &'a str,
}

impl Banner<'_> {
    pub(crate) fn render(&self) -> String {
        let (clay, loops) = (self.clay, self.loops);
        let base = format!("http://{}", loopback_address(self.address));
        let program = format!("{}{}", self.env_prefix(), self.program);
        let token = match &self.relay_token {
            KeySource::Generated(token) => token,
            KeySource::SetList => "<a token of RELAY_TOKEN>",
            KeySource::Set | KeySource::Stored | KeySource::Hidden | KeySource::Empty => "${RELAY_TOKEN%%,*}",
        };
        let curl = "curl -sS -w ' %{http_code}\\n'";
        let headers = format!("-H \"Authorization: Bearer {token}\" -H 'Content-Type: application/json'");
        format!(
            "
The relay is running; its data is in {data_dir}.
{exposure}{console}
  Loops webhook     POST {base}{WEBHOOK_PATH}
  Clay, contacts    PUT  {base}{CONTACT_PATH}
  Clay, events      POST {base}{EVENT_PATH}

  Relay token       {relay_token}
  Signing secret    {signing_secret}

  Loops             {loops_source}
  Clay              {clay_source}

Try it: paste these into another terminal in the same folder.

{exports}1. A signed Loops webhook becomes a row in Clay:

  {program} send-webhook events/loops/contact.created.json{inspect_rows}

2. A row in Clay becomes a contact in Loops:

  {curl} -X PUT {base}{CONTACT_PATH} \\
    {headers} -d @events/clay/contact.json{inspect_contacts}

3. A row in Clay becomes an event in Loops, once, however often it is sent:

  {curl} -X POST {base}{EVENT_PATH} \\
    {headers} -d @events/clay/event.json{inspect_events}

With ?dry-run=on behind the path a row says what it would send, and sends nothing. docs/contract.md has
the other calls below /api/v1.

What is waiting, delivered or dead:  {program} deliveries
Stop with Ctrl-C.

",
            data_dir = self.data_dir.display(),
            console = if self.console { format!("\n  See it at         {base}/\n") } else { String::new() },
            exposure = if self.address.ip().is_loopback() { "" } else { EXPOSURE_NOTICE },
            relay_token = self.relay_token.describe("RELAY_TOKEN"),
            signing_secret = self.signing_secret.describe("LOOPS_SIGNING_SECRET"),
            loops_source = loops.describe("LOOPS_API_KEY"),
            clay_source = clay.describe("CLAY_WEBHOOK_URL"),
            exports = self.exports(),
            inspect_rows = clay.inspect_command("/rows?wait=1"),
            inspect_contacts = loops.inspect_command("/contacts"),
            inspect_events = loops.inspect_command("/events"),
        )
    }

    /// Settings that another terminal lacks, and how to export them there.
    fn exports(&self) -> String {
        let keys = [("RELAY_TOKEN", &self.relay_token), ("LOOPS_SIGNING_SECRET", &self.signing_secret)];
        let unshared: Vec<&str> = keys
            .into_iter()
            .filter_map(|(setting, key)| matches!(key, KeySource::Set | KeySource::Empty).then_some(setting))
            .collect();
        let mut exports = String::new();
        if !unshared.is_empty() {
            let unshared = unshared.join(" and ");
            exports += &format!("That terminal needs what this one has in {unshared}: export it there first.\n\n");
        }
        if matches!(self.relay_token, KeySource::Stored | KeySource::Hidden) {
            exports += "`relayctl setup --local --list --show-token` shows the relay token: export it there as RELAY_TOKEN.\n\n";
        }
        exports
    }

    /// Settings that another terminal must have too, before a command.
    fn env_prefix(&self) -> String {
        let mut prefix = String::new();
        let listen = loopback_address(self.address).to_string();
        if self.data_dir != Path::new(DEFAULT_DATA) {
            prefix += &format!("{RELAY_DATA}='{}' ", self.data_dir.display());
        }
        if listen != DEFAULT_LISTEN {
            prefix += &format!("{RELAY_LISTEN}={listen} ");
        }
        prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(simulated: bool) -> String {
        parts(simulated).render()
    }

    fn parts(simulated: bool) -> Banner<'static> {
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
            signing_secret: if simulated { KeySource::Generated("whsec_x".to_owned()) } else { KeySource::Set },
            relay_token: if simulated { KeySource::Generated("relay_x".to_owned()) } else { KeySource::Empty },
            clay: destination(8788),
            loops: destination(8789),
            console: true,
            program: "relay-local",
        }
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
            "?dry-run=on",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn address_that_other_machines_can_reach_is_told() {
        // The banner's address is that of every interface.
        assert!(banner(true).contains("Other machines can reach it"));
        let local = Banner { address: SocketAddr::from(([127, 0, 0, 1], 8787)), ..parts(true) }.render();
        assert!(!local.contains("Other machines"), "{local}");
    }

    #[test]
    fn stored_keys_need_no_export_in_the_other_terminal() {
        let text = Banner {
            address: SocketAddr::from(([127, 0, 0, 1], 8787)),
            data_dir: Path::new(DEFAULT_DATA),
            signing_secret: KeySource::from_setting(false, true),
            relay_token: KeySource::from_setting(false, true),
            clay: DestinationSource::Set,
            loops: DestinationSource::Set,
            console: true,
            program: "relay-local",
        }
        .render();
        assert!(
            text.contains("as kept in the data folder") && text.contains("export it there as RELAY_TOKEN"),
            "{text}"
        );
        assert!(!text.contains("That terminal needs"), "{text}");
    }

    #[test]
    fn generated_keys_are_shown_only_on_a_terminal() {
        let banner = |is_terminal| {
            let [signing_secret, relay_token] =
                ["whsec_x", "relay_x"].map(|key| KeySource::generated(key.to_owned(), is_terminal));
            let address = SocketAddr::from(([127, 0, 0, 1], 8787));
            let (clay, loops) = (DestinationSource::Set, DestinationSource::Set);
            let (data_dir, program) = (Path::new(DEFAULT_DATA), "relay-local");
            Banner { address, data_dir, signing_secret, relay_token, clay, loops, console: true, program }.render()
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
