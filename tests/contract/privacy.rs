//! Nothing that is somebody's gets into a log, whatever happens, at the most talkative level.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::signals::{HIDDEN, after_everything, lines};

/// Every form in which a value would be found in a line in lower case, and those that are looked for as they are.
fn forms(value: &str) -> (Vec<String>, Vec<String>) {
    let percent: String = value
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect();
    // Base64 of a text that has the value somewhere: what its first and last characters are depends on what is around it.
    let encoded = |before: usize| {
        let text = [vec![b' '; before], value.as_bytes().to_vec()].concat();
        [&STANDARD, &URL_SAFE].map(|alphabet| {
            let whole = alphabet.encode(&text);
            whole.trim_end_matches('=').chars().skip(4).take(whole.len().saturating_sub(12)).collect::<String>()
        })
    };
    (vec![value.to_lowercase(), percent.to_lowercase()], (0..3).flat_map(encoded).collect())
}

/// What a log tells of what it must not, with the line.
fn told(log: &str) -> Vec<(&'static str, String)> {
    let mut told = Vec::new();
    for (what, value) in HIDDEN {
        let (in_any_case, exact) = forms(value);
        for line in log.lines() {
            let lower = line.to_lowercase();
            if in_any_case.iter().any(|form| lower.contains(form)) || exact.iter().any(|form| line.contains(form)) {
                told.push((what, line.to_owned()));
            }
        }
    }
    told
}

#[tokio::test]
async fn no_line_of_the_log_tells_whom_it_is_about_or_what_is_secret() {
    let relay = after_everything("trace").await;
    let told = told(&relay.log());
    assert!(told.is_empty(), "{told:#?}");
    // It is the log of a run in which all of this happened, every line of it one JSON object.
    let seen: BTreeSet<String> = lines(&relay)
        .iter()
        .flat_map(|line| ["outcome", "code", "reason"].map(|field| line[field].as_str().map(str::to_owned)))
        .flatten()
        .collect();
    for expected in [
        "queued",
        "ignored",
        "test",
        "rejected",
        "refused",
        "delivered",
        "duplicate",
        "retried",
        "held",
        "dead",
        "too_large",
        "missing_header",
        "malformed_header",
        "invalid_signature",
        "timestamp_out_of_range",
        "invalid_body",
        "invalid_token",
        "invalid_json",
        "invalid_field",
        "missing_field",
        "column_not_inserted",
        "value_too_long",
        "invalid_option",
        "loops_rejected",
        "loops_key_rejected",
        "clay_token_rejected",
        "clay_webhooks_exhausted",
        "clay_rejected",
        "destination_throttled",
        "destination_failed",
        "id_conflict",
    ] {
        assert!(seen.contains(expected), "{expected} did not happen: {seen:?}");
    }
}

#[test]
fn a_line_that_tells_something_is_found_in_every_form() {
    assert!(told("{\"level\":\"INFO\",\"message\":\"webhook taken\"}").is_empty());
    for (what, value) in HIDDEN {
        let partly = value.replace('@', "%40").replace('-', "%2D").replace('+', "%2B").replace('.', "%2E");
        for (form, text) in [
            ("plain", value.to_owned()),
            ("upper case", value.to_uppercase()),
            ("lower case", value.to_lowercase()),
            ("percent-encoded", partly),
            ("base64", STANDARD.encode(value)),
            ("base64 of more", STANDARD.encode(format!("{{\"email\":\"{value}\"}}"))),
            ("base64 of yet more", URL_SAFE.encode(format!("x {value}: no"))),
        ] {
            let told = told(&format!("{{\"level\":\"INFO\",\"message\":\"x {text} y\"}}"));
            assert!(told.iter().any(|(known, _)| *known == what), "{what} {form}: {text}");
        }
    }
}
