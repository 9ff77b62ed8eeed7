//! What a person sees when the relay starts: where it is, what is simulated, and what to try.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use crate::server::{CONTACT_PATH, EVENT_PATH, WEBHOOK_PATH};
use crate::settings::{DEFAULT_DATA, DEFAULT_LISTEN, RELAY_DATA, RELAY_LISTEN};

/// What the start found out.
#[derive(Debug)]
pub struct Banner<'a> {
    /// Where the relay listens.
    pub address: SocketAddr,
    /// The data folder.
    pub data: &'a Path,
    /// The generated signing secret, if it was not set.
    pub generated_signing_secret: Option<&'a str>,
    /// The generated relay token, if it was not set.
    pub generated_relay_token: Option<&'a str>,
    /// Where the simulated Clay is, if it is simulated.
    pub simulated_clay: Option<SocketAddr>,
    /// Where the simulated Loops is, if it is simulated.
    pub simulated_loops: Option<SocketAddr>,
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
        let base = format!("http://{}", reachable(self.address));
        writeln!(out, "\nThe relay is running; its data is in {}.\n", self.data.display())?;
        writeln!(out, "  Loops webhook     POST {base}{WEBHOOK_PATH}")?;
        writeln!(out, "  Clay, contacts    PUT  {base}{CONTACT_PATH}")?;
        writeln!(out, "  Clay, events      POST {base}{EVENT_PATH}\n")?;
        let of_setting = |generated: Option<&str>, setting: &str| {
            generated.map_or_else(
                || format!("as set in {setting}"),
                |made| format!("{made}  (generated; {setting} sets another)"),
            )
        };
        writeln!(out, "  Relay token       {}", of_setting(self.generated_relay_token, "RELAY_TOKEN"))?;
        writeln!(out, "  Signing secret    {}\n", of_setting(self.generated_signing_secret, "LOOPS_SIGNING_SECRET"))?;
        let side = |simulated: Option<SocketAddr>, setting: &str| match simulated {
            Some(address) => format!("simulated at http://{address}  ({setting} takes you to the real one)"),
            None => format!("as set in {setting}"),
        };
        writeln!(out, "  Loops             {}", side(self.simulated_loops, "LOOPS_API_KEY"))?;
        writeln!(out, "  Clay              {}\n", side(self.simulated_clay, "CLAY_WEBHOOK_URL"))?;
        self.write_commands(out, &base)
    }

    fn write_commands(&self, out: &mut String, base: &str) -> std::fmt::Result {
        let token = self.generated_relay_token.unwrap_or("$RELAY_TOKEN");
        let show = |address: Option<SocketAddr>, path: &str| {
            address.map_or_else(String::new, |address| format!(" &&\n  curl -sS 'http://{address}{path}'"))
        };
        let row = |method: &str, path: &str, file: &str| {
            format!(
                "curl -sS -w ' %{{http_code}}\\n' -X {method} {base}{path} \\\n    -H 'Authorization: Bearer {token}' -H 'Content-Type: application/json' -d @{file}"
            )
        };
        writeln!(out, "Try it: paste these into another terminal in the same folder.\n")?;
        writeln!(out, "1. A signed Loops webhook becomes a row in Clay:\n")?;
        let webhook = format!("{}{} send-webhook events/loops/contact.created.json", self.variables(), self.program);
        writeln!(out, "  {webhook}{}\n", show(self.simulated_clay, "/rows?wait=1"))?;
        writeln!(out, "2. A row in Clay becomes a contact in Loops:\n")?;
        let contact = row("PUT", CONTACT_PATH, "events/clay/contact.json");
        writeln!(out, "  {contact}{}\n", show(self.simulated_loops, "/contacts"))?;
        writeln!(out, "3. A row in Clay becomes an event in Loops, once, however often it is sent:\n")?;
        let event = row("POST", EVENT_PATH, "events/clay/event.json");
        writeln!(out, "  {event}{}\n", show(self.simulated_loops, "/events"))?;
        writeln!(out, "What is waiting, delivered or dead:  {}{} deliveries", self.variables(), self.program)?;
        writeln!(out, "Stop with Ctrl-C.\n")
    }

    /// The settings that another terminal must have too.
    fn variables(&self) -> String {
        let mut variables = String::new();
        let listen = reachable(self.address).to_string();
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
pub fn reachable(address: SocketAddr) -> SocketAddr {
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
        let end = |port: u16| simulated.then(|| SocketAddr::from(([127, 0, 0, 1], port)));
        Banner {
            address: SocketAddr::from(([0, 0, 0, 0], 8787)),
            data: Path::new(DEFAULT_DATA),
            generated_signing_secret: simulated.then_some("whsec_x"),
            generated_relay_token: simulated.then_some("relay_x"),
            simulated_clay: end(8788),
            simulated_loops: end(8789),
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
    fn what_was_set_is_not_shown() {
        let text = banner(false);
        assert!(text.contains("as set in RELAY_TOKEN") && text.contains("Bearer $RELAY_TOKEN"), "{text}");
        assert!(!text.contains("simulated"), "{text}");
    }
}
