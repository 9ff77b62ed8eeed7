//! The relay's HTTP endpoints, called as Loops and Clay call them. Nothing reaches Loops or Clay: a test event is
//! answered and not forwarded, and a row without a contact is rejected.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use http::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use jiff::{SignedDuration, Timestamp};
use relay::destination::http_client::{DestinationResponse, HttpClient};
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::token::{RelayToken, Scope};
use relay_core::webhook::signature::{ID_HEADER, SIGNATURE_HEADER, SigningSecret, TIMESTAMP_HEADER};
use serde_json::Value;
use url::{Host, Url};

use crate::check::Check;
use crate::finding::Finding;
use crate::invocation::suggest;
use crate::urls::EndpointUrls;
use crate::urls::fingerprint;

const TIMEOUT: Duration = Duration::from_secs(20);
/// The event that Loops sends for "Send test" (Loops, "Webhooks": testing.testEvent).
const TEST_EVENT: &str = r#"{"eventName":"testing.testEvent","webhookSchemaVersion":"1.0.0"}"#;
/// A row that no relay forwards, because it has no contact.
const ROW_WITHOUT_CONTACT: &str = "{}";
/// The scopes of the two routes for rows.
const ROW_SCOPES: [Scope; 2] = [Scope::ContactsWrite, Scope::EventsSend];
/// The error code of a relay without a secret that the request needs.
pub const NOT_CONFIGURED: &str = "not_configured";
const UNKNOWN_SECRET_REMEDY: &str =
    "a relay-local may have others in its environment: run doctor there; on AWS, see function-errors";
const MAX_CLOCK_SKEW_SECS: i64 = 30;

/// The checks that call the relay.
#[derive(Debug)]
pub struct EndpointChecks<'a> {
    client: &'a HttpClient,
    /// The URLs that are called.
    pub urls: &'a EndpointUrls,
    /// How far the relay's clock is ahead of this machine's.
    clock_offset: SignedDuration,
    /// When the secrets were written.
    pub secret_timestamps: SecretTimestamps,
}

/// When the secrets that functions cache were written. `None` if a secret is empty, or the relay reads it at once.
#[derive(Debug, Clone, Copy, Default)]
pub struct SecretTimestamps {
    /// The signing secrets.
    pub signing_secrets: Option<Timestamp>,
    /// The relay tokens.
    pub relay_tokens: Option<Timestamp>,
    /// The Loops API key.
    pub api_key: Option<Timestamp>,
    /// How often a function reads a secret again at most, when something does not work with it.
    pub refresh_interval: Duration,
}

impl<'a> EndpointChecks<'a> {
    /// The checks of these URLs.
    pub const fn new(client: &'a HttpClient, urls: &'a EndpointUrls, secret_timestamps: SecretTimestamps) -> Self {
        Self { client, urls, clock_offset: SignedDuration::ZERO, secret_timestamps }
    }

    /// The finding for a rejection if the secret was written so recently that a function may still use its old version.
    /// A function reads a secret again when something does not work with it, at most once in
    /// [`refresh_interval`](SecretTimestamps::refresh_interval).
    pub fn pending_refresh(&self, check: Check, subject: &str, written_at: Option<Timestamp>) -> Option<Finding> {
        let age = (Timestamp::now() + self.clock_offset).duration_since(written_at?).max(SignedDuration::ZERO);
        let remaining = SignedDuration::try_from(self.secret_timestamps.refresh_interval).ok()? - age;
        remaining.is_positive().then(|| {
            check.warn(
                format!("{subject} is refused: the functions have not read the secret yet that was just written"),
                format!("run doctor again in {} s: by then they read it when they need it", remaining.as_secs() + 1),
            )
        })
    }

    /// The finding for a secret that the relay rejects.
    fn unknown_secret(&self, check: Check, subject: &str, what: &str, written_at: Option<Timestamp>) -> Finding {
        self.pending_refresh(check, subject, written_at).unwrap_or_else(|| {
            check.fail(format!("{subject} is refused: the relay does not know {what}"), UNKNOWN_SECRET_REMEDY)
        })
    }

    /// `endpoint`: the name resolves, and the relay answers, over TLS if the URL says so. An error if it does not answer.
    pub async fn check_endpoint(&self) -> Result<Finding, Finding> {
        const CHECK: Check = Check::Endpoint;
        let url = Url::parse(&self.urls.loops_webhook_url)
            .map_err(|_| CHECK.fail("the stack gives no URL", "deploy it again with `make deploy`"))?;
        let origin = url.origin().ascii_serialization();
        if let Some(Host::Domain(domain)) = url.host() {
            let port = url.port_or_known_default().unwrap_or(443);
            if tokio::net::lookup_host((domain, port)).await.is_err() {
                let remedy = "look at this machine's DNS, and whether the stack was deleted";
                return Err(CHECK.fail(format!("the name {domain} does not resolve"), remedy));
            }
        }
        let request = self.client.request(Method::GET, &origin);
        match self.client.send(request, TIMEOUT, Timestamp::now()).await.outcome {
            CallOutcome::Responded(_) => Ok(CHECK.ok(format!("{origin} answers"))),
            CallOutcome::CertificateUntrusted => {
                let remedy = "renew the certificate of the proxy in front, for this name; if it is right, something in between breaks TLS open: try from another network";
                Err(CHECK.fail(format!("the certificate of {origin} is not trusted"), remedy))
            }
            CallOutcome::TimedOut | CallOutcome::Unreachable | CallOutcome::ConnectionLost => {
                let remedy =
                    "look at the network; for a relay-local, start it, or set RELAY_LISTEN to where it listens";
                Err(CHECK.fail(format!("nothing answers at {origin}"), remedy))
            }
        }
    }

    /// `clock`: this machine's clock agrees with the relay's, as far as signatures need it. A tolerance of 0 accepts any.
    pub async fn check_clock(&mut self, tolerance_secs: i64) -> Finding {
        const CHECK: Check = Check::Clock;
        let started_at = Instant::now();
        let request = self.client.request(Method::GET, &self.urls.loops_webhook_url).timeout(TIMEOUT);
        let date = request.send().await.ok().and_then(|response| {
            let date = response.headers().get(DATE)?.to_str().ok()?.to_owned();
            httpdate::parse_http_date(&date).ok().and_then(|date| Timestamp::try_from(date).ok())
        });
        let Some(date) = date else {
            return CHECK.warn("the endpoint does not say its time", "look at this machine's clock yourself");
        };
        // The relay wrote the date between request and response, in whole seconds.
        let local_now = Timestamp::now() - SignedDuration::try_from(started_at.elapsed() / 2).unwrap_or_default();
        let skew_secs = date.duration_since(local_now).as_secs();
        if skew_secs.abs() <= MAX_CLOCK_SKEW_SECS {
            return CHECK.ok("this machine's clock agrees with the relay's");
        }
        self.clock_offset = SignedDuration::from_secs(skew_secs);
        let relation = if skew_secs > 0 { "behind" } else { "ahead of" };
        let observed = format!("this machine's clock is {} s {relation} the relay's", skew_secs.abs());
        let remedy = "set the clock of this machine by a time server (NTP)";
        if tolerance_secs > 0 && skew_secs.abs() > tolerance_secs {
            CHECK.fail(observed, remedy)
        } else {
            CHECK.warn(observed, remedy)
        }
    }

    /// `signed-webhook`: a test event signed with each signing secret is accepted.
    pub async fn check_signed_webhook(&self, secrets: &[SecretString]) -> Finding {
        const CHECK: Check = Check::SignedWebhook;
        if secrets.is_empty() {
            return no_signing_secret(CHECK);
        }
        for text in secrets {
            let secret_fingerprint = fingerprint(text.expose_secret());
            let Ok(secret) = SigningSecret::parse(text.expose_secret()) else {
                return CHECK.fail(
                    format!("the signing secret {secret_fingerprint} is malformed"),
                    format!("give it to {} again", suggest("setup")),
                );
            };
            let response = self.send_webhook(&secret, &new_id(), TEST_EVENT).await;
            let code = string_field(&response, "code");
            match response.outcome {
                CallOutcome::Responded(200) if string_field(&response, "status") == "test" => {}
                CallOutcome::Responded(401) if code == "timestamp_out_of_range" => {
                    return CHECK.fail(
                        "a signed test event is refused for its time",
                        "set this machine's clock by a time server",
                    );
                }
                CallOutcome::Responded(401 | 503) if code == "invalid_signature" || code == NOT_CONFIGURED => {
                    let subject = format!("a test event signed with {secret_fingerprint}");
                    return self.unknown_secret(CHECK, &subject, "that secret", self.secret_timestamps.signing_secrets);
                }
                _ => return unexpected(CHECK, "a signed test event", &response),
            }
        }
        CHECK.ok(format!("a test event is taken with {}", count_phrase(secrets.len(), "signing secret")))
    }

    /// `forged-webhook`: a test event signed with another secret is rejected.
    pub async fn check_forged_webhook(&self) -> Finding {
        const CHECK: Check = Check::ForgedWebhook;
        let Ok(secret) = SigningSecret::parse(&format!("whsec_{}", STANDARD.encode(rand::random::<[u8; 32]>()))) else {
            return CHECK.warn("no secret could be made up", "report this");
        };
        let response = self.send_webhook(&secret, &new_id(), TEST_EVENT).await;
        match response.outcome {
            CallOutcome::Responded(401) => CHECK.ok("a forged test event is refused"),
            CallOutcome::Responded(200..=299) => CHECK.fail(
                "a forged test event is taken: anybody can add rows",
                "something in front of the relay answers for it: look at what LoopsWebhookUrl leads to",
            ),
            CallOutcome::Responded(503) if string_field(&response, "code") == NOT_CONFIGURED => self
                .pending_refresh(CHECK, "every webhook", self.secret_timestamps.signing_secrets)
                .unwrap_or_else(|| unexpected(CHECK, "a forged test event", &response)),
            _ => unexpected(CHECK, "a forged test event", &response),
        }
    }

    /// `wrong-token`: a row with another token is rejected, on both routes.
    pub async fn check_wrong_token(&self) -> Finding {
        const CHECK: Check = Check::WrongToken;
        let token = SecretString::from(format!("doctor_{}", hex::encode(rand::random::<[u8; 16]>())));
        for (method, url) in self.row_endpoints() {
            let response = self.send_row(method, url, &token, ROW_WITHOUT_CONTACT).await;
            match response.outcome {
                CallOutcome::Responded(401) => {}
                CallOutcome::Responded(200..=299 | 400) => {
                    let remedy = "something in front of the relay answers for it: look at what ClayContactUrl and ClayEventUrl lead to";
                    return CHECK.fail("a row with a made-up token gets in: anybody can write to Loops", remedy);
                }
                _ => return unexpected(CHECK, "a row with a made-up token", &response),
            }
        }
        CHECK.ok("rows with a made-up token are refused")
    }

    /// `relay-token`: each relay token is accepted on the routes that its scopes open, and on no other. The row is empty, so that it
    /// is rejected after that.
    pub async fn check_relay_token(&self, tokens: &[RelayToken]) -> Finding {
        const CHECK: Check = Check::RelayToken;
        if tokens.is_empty() {
            return CHECK.fail(
                "there is no relay token to try",
                format!("make one with {}", suggest("setup --add-relay-token")),
            );
        }
        for token in tokens {
            for ((method, url), scope) in self.row_endpoints().into_iter().zip(ROW_SCOPES) {
                let response = self.send_row(method, url, &token.token, ROW_WITHOUT_CONTACT).await;
                let subject = format!("a row with the relay token {}", fingerprint(token.token.expose_secret()));
                let expected_status = if token.allows(scope) { 400 } else { 403 };
                match response.outcome {
                    CallOutcome::Responded(status) if status == expected_status => {}
                    CallOutcome::Responded(401) => {
                        return self.unknown_secret(CHECK, &subject, "it", self.secret_timestamps.relay_tokens);
                    }
                    // A function may know the token with the scopes that it had.
                    CallOutcome::Responded(status @ (400 | 403)) => {
                        let not_read_yet = self.pending_refresh(CHECK, &subject, self.secret_timestamps.relay_tokens);
                        return not_read_yet.unwrap_or_else(|| {
                            let observed = format!("{subject} is answered with {status}, against its scope {scope}");
                            CHECK.fail(observed, UNKNOWN_SECRET_REMEDY)
                        });
                    }
                    _ => return unexpected(CHECK, "a row without a contact", &response),
                }
            }
        }
        let counted = count_phrase(tokens.len(), "relay token");
        if tokens.iter().all(|token| ROW_SCOPES.into_iter().all(|scope| token.allows(scope))) {
            CHECK.ok(format!("rows get in with {counted}"))
        } else {
            CHECK.ok(format!("rows get in where the scopes of {counted} say so, and nowhere else"))
        }
    }

    fn row_endpoints(&self) -> [(Method, &str); 2] {
        [(Method::PUT, &self.urls.clay_contact_url), (Method::POST, &self.urls.clay_event_url)]
    }

    /// Sends an event as Loops does.
    pub async fn send_webhook(&self, secret: &SigningSecret, id: &str, event: &str) -> DestinationResponse {
        let now = Timestamp::now();
        let time = now.checked_add(self.clock_offset).unwrap_or(now).as_second().to_string();
        let signature = secret.sign(id, &time, event.as_bytes());
        let request = self.client.request(Method::POST, &self.urls.loops_webhook_url);
        let request = request
            .header(CONTENT_TYPE, "application/json")
            .header(ID_HEADER, id)
            .header(TIMESTAMP_HEADER, time)
            .header(SIGNATURE_HEADER, signature)
            .body(event.to_owned());
        self.client.send(request, TIMEOUT, now).await
    }

    /// Sends a row as Clay does.
    pub async fn send_row(&self, method: Method, url: &str, token: &SecretString, row: &str) -> DestinationResponse {
        let request = self.client.request(method, url).header(CONTENT_TYPE, "application/json");
        let request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose_secret())).body(row.to_owned());
        self.client.send(request, TIMEOUT, Timestamp::now()).await
    }
}

/// A `webhook-id` that Loops would not use.
pub fn new_id() -> String {
    format!("msg_doctor_{}", hex::encode(rand::random::<[u8; 12]>()))
}

/// The finding of a relay without a signing secret.
pub fn no_signing_secret(check: Check) -> Finding {
    check.fail("there is no signing secret to sign with", format!("fill it in with {}", suggest("setup")))
}

/// The finding for a response that no check expects.
pub fn unexpected(check: Check, subject: &str, response: &DestinationResponse) -> Finding {
    let code = string_field(response, "code");
    let code_suffix = if code.is_empty() { String::new() } else { format!(" ({code})") };
    let CallOutcome::Responded(status) = response.outcome else {
        return check.fail(format!("{subject} is answered with nothing"), "run doctor again, and see function-errors");
    };
    let remedy = match status {
        404 => "no such route is there: deploy the stack again with `make deploy`",
        429 => "it asks to come back later: run doctor again in a minute",
        502 | 503 if !code.is_empty() => {
            "the relay says that a secret is missing or a service fails: see the other findings"
        }
        _ => "see function-errors, and the log of the function",
    };
    check.fail(format!("{subject} is answered with {status}{code_suffix}"), remedy)
}

/// Returns a field of a response, reduced to the characters of a code.
pub fn string_field(response: &DestinationResponse, field: &str) -> String {
    let body: Value = serde_json::from_slice(&response.body).unwrap_or_default();
    let text = body.get(field).and_then(Value::as_str).unwrap_or_default();
    text.chars().filter(|ch| ch.is_ascii_lowercase() || *ch == '_').take(40).collect()
}

fn count_phrase(count: usize, what: &str) -> String {
    if count == 1 { format!("the {what}") } else { format!("each of {count} {what}s") }
}

#[cfg(test)]
mod tests {
    use relay::destination::http_client;
    use relay_testkit::function_harness::tls::TlsDestination;

    use super::*;

    #[tokio::test]
    async fn endpoint_with_untrusted_certificate_is_told_as_that() {
        let (server, client) = (TlsDestination::start().await, http_client::build().unwrap());
        let [loops_webhook_url, clay_contact_url, clay_event_url] = ["/a", "/b", "/c"].map(|path| server.url(path));
        let urls = EndpointUrls { loops_webhook_url, events: Vec::new(), clay_contact_url, clay_event_url };
        let checks = EndpointChecks::new(&client, &urls, SecretTimestamps::default());
        let finding = format!("{:?}", checks.check_endpoint().await.unwrap_err());
        assert!(finding.contains("is not trusted") && finding.contains("renew the certificate"), "{finding}");
    }
}
