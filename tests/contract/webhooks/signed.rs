//! `POST /webhooks/loops`: signatures, and the order of the checks.

use crate::Relay;
use relay_core::webhook::signature::SigningSecret;
use relay_testkit::deliveries::ListDeliveries as _;
use relay_testkit::eventually;
use relay_testkit::http::{Response, send};
use relay_testkit::webhook::{self, SIGNING_SECRET, contact_created, now, post, post_at};
use serde_json::json;

use super::{MAX_REQUEST_BYTES, assert_accepted, event_of_size, start_clay, start_relay};

/// A second secret, whose base64 has padding.
const PADDED_SECRET: &str = "whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==";

/// Starts a relay that forwards every event.
async fn start_relay_for_all_events(overrides: &[(&str, &str)]) -> Relay {
    let mut settings = vec![("RELAYED_EVENTS", "*")];
    settings.extend(overrides);
    start_relay(&start_clay().await, &settings).await
}

async fn post_with_headers(relay: &Relay, headers: &[(&str, &str)], body: &[u8]) -> Response {
    send("POST", &format!("{}/webhooks/loops", relay.base()), headers, body).await
}

/// Posts a webhook with these three header values.
async fn post_with_signature(relay: &Relay, id: &str, timestamp: &str, signature: &str, body: &[u8]) -> Response {
    let headers = [("webhook-id", id), ("webhook-timestamp", timestamp), ("webhook-signature", signature)];
    post_with_headers(relay, &headers, body).await
}

fn sign(secret: &str, id: &str, timestamp: &str, body: &[u8]) -> String {
    SigningSecret::parse(secret).unwrap().sign(id, timestamp, body)
}

#[tokio::test]
async fn missing_header_is_400_and_named() {
    let relay = start_relay_for_all_events(&[]).await;
    let body = contact_created("ada@example.com");
    let all = webhook::headers("msg_1", now(), &body);
    for missing in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let remaining = all.iter().filter(|(name, _)| *name != missing);
        let remaining: Vec<(&str, &str)> = remaining.map(|(name, value)| (*name, value.as_str())).collect();
        post_with_headers(&relay, &remaining, &body).await.assert_error_response(400, "missing_header", Some(missing));
    }
}

#[tokio::test]
async fn malformed_id_or_timestamp_is_400_and_named() {
    let relay = start_relay_for_all_events(&[]).await;
    let time = now().to_string();
    let long_id = "i".repeat(257);
    for (id, timestamp, expected_field) in [
        ("", time.as_str(), "webhook-id"),
        (&long_id, &time, "webhook-id"),
        ("msg_1", "", "webhook-timestamp"),
        ("msg_1", "1234567890123456", "webhook-timestamp"),
        ("msg_1", "0000001734425918", "webhook-timestamp"),
        ("msg_1", "yesterday", "webhook-timestamp"),
        ("msg_1", "-1734425918", "webhook-timestamp"),
        ("msg_1", "+1734425918", "webhook-timestamp"),
        ("msg_1", "1734425918.0", "webhook-timestamp"),
        ("msg_1", "17344 25918", "webhook-timestamp"),
        ("msg_1", "１７３４４２５９１８", "webhook-timestamp"),
        ("msg_1", "2024-12-17T08:58:38Z", "webhook-timestamp"),
    ] {
        let body = contact_created("ada@example.com");
        let signature = sign(SIGNING_SECRET, id, timestamp, &body);
        post_with_signature(&relay, id, timestamp, &signature, &body).await.assert_error_response(
            400,
            "malformed_header",
            Some(expected_field),
        );
    }
}

#[tokio::test]
async fn longest_valid_id_and_timestamp_are_accepted() {
    let relay = start_relay_for_all_events(&[]).await;
    let body = contact_created("ada@example.com");
    for id in ["i".repeat(256), "é".repeat(256), "m".to_owned()] {
        assert_accepted(&post(relay.base(), &id, &body).await, "queued");
    }
    let response = post_at(relay.base(), "msg_1", 999_999_999_999_999, &body).await;
    response.assert_error_response(401, "timestamp_out_of_range", None);
    // Header texts are signed verbatim: a leading zero is part of the signed content.
    let timestamp = format!("0{}", now());
    let signature = sign(SIGNING_SECRET, "msg_2", &timestamp, &body);
    assert_accepted(&post_with_signature(&relay, "msg_2", &timestamp, &signature, &body).await, "queued");
    post_with_signature(&relay, "msg_2", &timestamp[1..], &signature, &body).await.assert_error_response(
        401,
        "invalid_signature",
        None,
    );
}

#[tokio::test]
async fn missing_secret_is_503_and_named_in_the_log_alone() {
    for secret in ["", " , ", "REPLACE-with-the-secret"] {
        let relay = start_relay_for_all_events(&[("LOOPS_SIGNING_SECRET", secret)]).await;
        let body = contact_created("ada@example.com");
        for response in [
            post(relay.base(), "msg_1", &body).await,
            post_with_signature(&relay, "msg_1", &now().to_string(), "v1,AAAA", &body).await,
        ] {
            response.assert_error_response(503, "not_configured", None);
            assert!(response.headers["retry-after"].parse::<u32>().is_ok_and(|seconds| seconds > 0));
            assert!(!response.text().contains(Relay::LOOPS_SIGNING_SECRET), "{}", response.text());
        }
        let is_named =
            |log: &str| log.contains("no signing secret is set") && log.contains(Relay::LOOPS_SIGNING_SECRET);
        eventually("the name in the log", async || is_named(&relay.log()).then_some(())).await;
        assert!(relay.deliveries().await.is_empty());
    }
}

#[tokio::test]
async fn signature_matching_no_v1_is_401() {
    let relay = start_relay_for_all_events(&[]).await;
    let body = contact_created("ada@example.com");
    let time = now().to_string();
    let valid = sign(SIGNING_SECRET, "msg_1", &time, &body);
    let base64 = valid.trim_start_matches("v1,");
    for (signature, label) in [
        (String::new(), "an empty header"),
        (format!("v1a,{base64}"), "only v1a"),
        (format!("v2,{base64}"), "another version"),
        (format!("V1,{base64}"), "another case"),
        (base64.to_owned(), "no version"),
        (format!("v1{base64}"), "no comma"),
        (format!("v1:{base64}"), "no comma but a colon"),
        ("v1,".to_owned(), "an empty signature"),
        ("v1,%%%".to_owned(), "not base64"),
        (format!("v1,{}", &base64[..20]), "half a signature"),
        (format!("{valid}AAAA"), "more than a signature"),
        (valid.to_lowercase(), "another case of base64"),
        (sign(PADDED_SECRET, "msg_1", &time, &body), "another key"),
        (sign(SIGNING_SECRET, "msg_2", &time, &body), "another id"),
        (sign(SIGNING_SECRET, "msg_1", "1", &body), "another time"),
        (sign(SIGNING_SECRET, "msg_1", &time, b"{}"), "another body"),
    ] {
        let response = post_with_signature(&relay, "msg_1", &time, &signature, &body).await;
        assert_eq!(response.status_and_code(), (401, "invalid_signature".to_owned()), "{label}");
        response.assert_error_response(401, "invalid_signature", None);
    }
    assert!(relay.deliveries().await.is_empty());
    assert_accepted(&post_with_signature(&relay, "msg_1", &time, &valid, &body).await, "queued");
}

#[tokio::test]
async fn one_valid_signature_of_several_is_enough() {
    let relay = start_relay_for_all_events(&[]).await;
    let body = contact_created("ada@example.com");
    let time = now().to_string();
    let valid = sign(SIGNING_SECRET, "msg_1", &time, &body);
    let other = sign(PADDED_SECRET, "msg_1", &time, &body);
    for signatures in [
        format!("{other} {valid}"),
        format!("{valid} {other}"),
        format!("v1a,AAAA v1 nonsense v1,%%% {valid}"),
        format!(" {valid}  {other} "),
        valid.trim_end_matches('=').to_owned(),
    ] {
        let response = post_with_signature(&relay, "msg_1", &time, &signatures, &body).await;
        assert_eq!(response.status, 200, "{signatures}: {}", response.text());
    }
}

#[tokio::test]
async fn any_configured_secret_verifies_in_either_form() {
    let body = contact_created("ada@example.com");
    for secrets in [
        format!("{PADDED_SECRET},{SIGNING_SECRET}"),
        format!(" {SIGNING_SECRET} , {PADDED_SECRET} "),
        format!("c3VwZXItc2VjcmV0LWtleS1ieXRlcw,{}", SIGNING_SECRET.trim_start_matches("whsec_")),
        format!("{},,{SIGNING_SECRET},REPLACE-me", PADDED_SECRET.trim_end_matches('=')),
    ] {
        let relay = start_relay_for_all_events(&[("LOOPS_SIGNING_SECRET", &secrets)]).await;
        for (number, secret) in [SIGNING_SECRET, PADDED_SECRET].into_iter().enumerate() {
            let (id, time) = (format!("msg_{number}"), now().to_string());
            let response = post_with_signature(&relay, &id, &time, &sign(secret, &id, &time, &body), &body).await;
            assert_eq!(response.status, 200, "{secrets}: {}", response.text());
        }
        let time = now().to_string();
        let forged = sign("whsec_b3RoZXItc2VjcmV0LWtleS1ieXRlcw==", "msg_3", &time, &body);
        post_with_signature(&relay, "msg_3", &time, &forged, &body).await.assert_error_response(
            401,
            "invalid_signature",
            None,
        );
    }
}

#[tokio::test]
async fn signatures_of_other_libraries_are_accepted() {
    let secrets = format!("{SIGNING_SECRET},{PADDED_SECRET}");
    let relay =
        start_relay_for_all_events(&[("LOOPS_SIGNING_SECRET", &secrets), ("SIGNATURE_TOLERANCE_SECONDS", "0")]).await;
    for (id, time, body, signature, status) in [
        (
            "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
            "1649367553",
            r#"{"email":"test@example.com","username":"test_user"}"#,
            "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
            400,
        ),
        (
            "msg_1",
            "1734425918",
            r#"{"eventName":"testing.testEvent"}"#,
            "v1,UkN9D8SnmPZwKUF8X/+rzpIA9oKjBWUvizrzleESYgo=",
            200,
        ),
        (
            "msg_loops_0002",
            "1734425918",
            r#"{"eventName":"contact.created","note":"Zoë ✓"}"#,
            "v1,Gfb1nyId4rVSdS4dj4A2xOPR0FTT62ey3vR6QvdqK6g=",
            200,
        ),
    ] {
        let response = post_with_signature(&relay, id, time, signature, body.as_bytes()).await;
        assert_eq!(response.status, status, "{}", response.text());
    }
}

#[tokio::test]
async fn timestamp_out_of_tolerance_is_401() {
    let body = contact_created("ada@example.com");
    for (tolerance, accepted, rejected) in [
        (None, &[-290, -200, 0, 200, 290][..], &[-400, 400, -310, 310, 100_000_000][..]),
        (Some("20"), &[-10, 10], &[-200, 200, -30, 30]),
        (Some("0"), &[-400, 400, -1_700_000_000, 100_000_000_000], &[]),
    ] {
        let setting = tolerance.map(|tolerance| ("SIGNATURE_TOLERANCE_SECONDS", tolerance));
        let relay = start_relay_for_all_events(setting.as_slice()).await;
        for offset_secs in rejected {
            let response = post_at(relay.base(), "msg_1", now() + offset_secs, &body).await;
            response.assert_error_response(401, "timestamp_out_of_range", None);
        }
        assert!(relay.deliveries().await.is_empty());
        for offset_secs in accepted {
            assert_accepted(&post_at(relay.base(), "msg_1", now() + offset_secs, &body).await, "queued");
        }
    }
}

#[tokio::test]
async fn size_is_checked_before_headers_and_headers_before_secret() {
    let large = event_of_size("contact.created", "", MAX_REQUEST_BYTES + 1);
    let small = contact_created("ada@example.com");
    for secret in [SIGNING_SECRET, ""] {
        let relay = start_relay_for_all_events(&[("LOOPS_SIGNING_SECRET", secret)]).await;
        post_with_headers(&relay, &[], &large).await.assert_error_response(413, "too_large", None);
        post_with_signature(&relay, "", "soon", "", &large).await.assert_error_response(413, "too_large", None);
        let missing =
            post_with_headers(&relay, &[("webhook-id", "msg_1"), ("webhook-signature", "v1,AAAA")], &small).await;
        missing.assert_error_response(400, "missing_header", Some("webhook-timestamp"));
        let malformed = post_with_signature(&relay, "msg_1", "soon", "v1,AAAA", &small).await;
        malformed.assert_error_response(400, "malformed_header", Some("webhook-timestamp"));
    }
    let without_secret = start_relay_for_all_events(&[("LOOPS_SIGNING_SECRET", "")]).await;
    post_with_signature(&without_secret, "msg_1", "1", "v1,AAAA", b"no event").await.assert_error_response(
        503,
        "not_configured",
        None,
    );
}

#[tokio::test]
async fn signature_is_checked_before_time_body_and_row_size() {
    let relay = start_relay_for_all_events(&[]).await;
    let no_event = json!({"note": "x".repeat(110_000)}).to_string().into_bytes();
    post_with_signature(&relay, "msg_1", "1", "v1,AAAA", &no_event).await.assert_error_response(
        401,
        "invalid_signature",
        None,
    );
    let time = now().to_string();
    post_with_signature(&relay, "msg_1", &time, "v1,AAAA", &no_event).await.assert_error_response(
        401,
        "invalid_signature",
        None,
    );
    post_at(relay.base(), "msg_1", 1, &no_event).await.assert_error_response(401, "timestamp_out_of_range", None);
    let large = event_of_size("contact.created", "", 110_000);
    post_at(relay.base(), "msg_1", 1, &large).await.assert_error_response(401, "timestamp_out_of_range", None);
    post(relay.base(), "msg_1", &no_event).await.assert_error_response(400, "invalid_body", None);
    assert!(relay.deliveries().await.is_empty());
    assert_accepted(&post(relay.base(), "msg_1", &large).await, "rejected");
}
