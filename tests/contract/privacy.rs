//! No personal data or secret is logged, whatever happens, at the most verbose level.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};

use super::telemetry::{PRIVATE_VALUES, log_lines, run_every_outcome};

/// Returns the encodings of a value that are searched in lower-cased lines, and those that are searched verbatim.
fn encodings(value: &str) -> (Vec<String>, Vec<String>) {
    let percent: String = value
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect();
    // Base64 of a text that contains the value: the first and last characters depend on what is around it.
    let encoded = |prefix_len: usize| {
        let text = [vec![b' '; prefix_len], value.as_bytes().to_vec()].concat();
        [&STANDARD, &URL_SAFE].map(|alphabet| {
            let whole = alphabet.encode(&text);
            whole.trim_end_matches('=').chars().skip(4).take(whole.len().saturating_sub(12)).collect::<String>()
        })
    };
    (vec![value.to_lowercase(), percent.to_lowercase()], (0..3).flat_map(encoded).collect())
}

/// Returns the private values in a log, each with its line.
fn find_leaks(log: &str) -> Vec<(&'static str, String)> {
    let mut leaks = Vec::new();
    for (label, value) in PRIVATE_VALUES {
        let (case_insensitive, exact) = encodings(value);
        for line in log.lines() {
            let lower = line.to_lowercase();
            if case_insensitive.iter().any(|encoding| lower.contains(encoding))
                || exact.iter().any(|form| line.contains(form))
            {
                leaks.push((label, line.to_owned()));
            }
        }
    }
    leaks
}

#[tokio::test]
async fn log_contains_no_personal_data_or_secrets() {
    let relay = run_every_outcome("trace").await;
    let leaks = find_leaks(&relay.log());
    assert!(leaks.is_empty(), "{leaks:#?}");
    // It is the log of a run in which all of this happened, every line of it one JSON object.
    let logged_values: BTreeSet<String> = log_lines(&relay)
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
        assert!(logged_values.contains(expected), "{expected} did not happen: {logged_values:?}");
    }
}

#[test]
fn leak_check_finds_a_value_in_every_encoding() {
    assert!(find_leaks("{\"level\":\"INFO\",\"message\":\"webhook taken\"}").is_empty());
    for (label, value) in PRIVATE_VALUES {
        let percent_encoded = value.replace('@', "%40").replace('-', "%2D").replace('+', "%2B").replace('.', "%2E");
        for (encoding, text) in [
            ("plain", value.to_owned()),
            ("upper case", value.to_uppercase()),
            ("lower case", value.to_lowercase()),
            ("percent-encoded", percent_encoded),
            ("base64", STANDARD.encode(value)),
            ("base64 of more", STANDARD.encode(format!("{{\"email\":\"{value}\"}}"))),
            ("base64 of yet more", URL_SAFE.encode(format!("x {value}: no"))),
        ] {
            let leaks = find_leaks(&format!("{{\"level\":\"INFO\",\"message\":\"x {text} y\"}}"));
            assert!(leaks.iter().any(|(found_label, _)| *found_label == label), "{label} {encoding}: {text}");
        }
    }
}
