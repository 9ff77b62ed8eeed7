//! Tests of signatures: which requests are verified, and which are not.

use std::num::NonZeroU32;

use proptest::prelude::*;

use super::*;

const SECRET: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NOW: i64 = 1_734_425_918;

/// Secret, id, timestamp, body, signature: the first is the Standard Webhooks libraries' own, the second has the
/// inputs of the test of Loops' Go client, the others were made with two independent implementations.
const VECTORS: [(&str, &str, &str, &str, &str); 4] = [
    (
        SECRET,
        "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
        "1649367553",
        r#"{"email":"test@example.com","username":"test_user"}"#,
        "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw=",
    ),
    (
        "whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==",
        "msg_1",
        "1734425918",
        r#"{"eventName":"testing.testEvent"}"#,
        "v1,UkN9D8SnmPZwKUF8X/+rzpIA9oKjBWUvizrzleESYgo=",
    ),
    (
        SECRET,
        "msg_loops_0001",
        "1734425918",
        r#"{"eventName":"testing.testEvent","eventTime":1734425918,"message":"test","webhookSchemaVersion":"1.0.0"}"#,
        "v1,UfLJe3akMBJHrYQfqe9XhYehKDFQ9LerU0n+yRKRQ5o=",
    ),
    (
        SECRET,
        "msg_loops_0002",
        "1734425918",
        r#"{"eventName":"contact.created","note":"Zoë ✓"}"#,
        "v1,Gfb1nyId4rVSdS4dj4A2xOPR0FTT62ey3vR6QvdqK6g=",
    ),
];

fn secret(text: &str) -> SigningSecret {
    SigningSecret::parse(text).unwrap()
}

/// A webhook with its body, before it is verified.
struct Request(UnverifiedWebhook, Bytes);

impl Request {
    fn verify(
        &self,
        secrets: &[SigningSecret],
        now: Timestamp,
        tolerance: Tolerance,
    ) -> Result<VerifiedWebhook, SignatureError> {
        self.0.verify(&self.1, secrets, now, tolerance)
    }
}

fn request(id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> Request {
    let head = UnverifiedWebhook::new(Some(id.as_bytes()), Some(timestamp.as_bytes()), Some(signatures.as_bytes()));
    Request(head.unwrap(), Bytes::copy_from_slice(body))
}

fn unix_time(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn verify(request: &Request, secrets: &[SigningSecret]) -> Result<VerifiedWebhook, SignatureError> {
    request.verify(secrets, unix_time(NOW), None)
}

fn signed(body: &[u8]) -> (String, Request) {
    let signature = secret(SECRET).sign("msg_1", "1734425918", body);
    (signature.clone(), request("msg_1", "1734425918", &signature, body))
}

#[test]
fn published_vectors_are_signed_and_verified_exactly() {
    for (key, id, timestamp, body, signature) in VECTORS {
        assert_eq!(secret(key).sign(id, timestamp, body.as_bytes()), signature);
        let verified = verify(&request(id, timestamp, signature, body.as_bytes()), &[secret(key)]).unwrap();
        assert_eq!(verified.body(), body.as_bytes());
        assert_eq!(verified.webhook_id(), id);
    }
}

#[test]
fn secret_prefix_and_padding_are_optional() {
    let signature = secret("whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==").sign("msg_1", "1734425918", b"{}");
    let request = request("msg_1", "1734425918", &signature, b"{}");
    for text in
        ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw", "c3VwZXItc2VjcmV0LWtleS1ieXRlcw==", "c3VwZXItc2VjcmV0LWtleS1ieXRlcw"]
    {
        assert!(verify(&request, &[secret(text)]).is_ok(), "{text}");
    }
}

#[test]
fn empty_short_or_malformed_secret_is_rejected() {
    for text in ["whsec_%%%", "not base64!"] {
        assert_eq!(SigningSecret::parse(text).unwrap_err(), SigningSecretError::NotBase64, "{text}");
    }
    // Nothing, one byte, and fifteen.
    for text in ["", "whsec_", "AA", "whsec_AAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(SigningSecret::parse(text).unwrap_err(), SigningSecretError::TooShort, "{text}");
    }
    assert!(SigningSecret::parse("whsec_AAAAAAAAAAAAAAAAAAAAAA==").is_ok(), "sixteen bytes");
}

#[test]
fn any_secret_matching_any_signature_verifies() {
    let (signature, _) = signed(b"{}");
    let webhook = request("msg_1", "1734425918", &format!("v1,AAAA v1a,{} {signature}", &signature[3..]), b"{}");
    assert!(verify(&webhook, &[secret("b3RoZXItc2VjcmV0LWtleS1ieXRlcw=="), secret(SECRET)]).is_ok());
}

#[test]
fn non_v1_or_non_base64_signatures_match_nothing() {
    let (signature, _) = signed(b"{}");
    let encoded = &signature[3..];
    for entry in [
        format!("v1a,{encoded}"),
        format!("v2,{encoded}"),
        encoded.to_owned(),
        format!("v1{encoded}"),
        "v1,%%%".into(),
        String::new(),
    ] {
        let error = verify(&request("msg_1", "1734425918", &entry, b"{}"), &[secret(SECRET)]).unwrap_err();
        assert_eq!(error, SignatureError::NoMatch, "{entry}");
    }
}

#[test]
fn verification_without_secrets_fails() {
    let (_, request) = signed(b"{}");
    assert_eq!(verify(&request, &[]).unwrap_err(), SignatureError::NoMatch);
}

#[test]
fn header_strings_are_signed_verbatim() {
    let signature = secret(SECRET).sign("msg_1", "01734425918", b"{}");
    assert!(verify(&request("msg_1", "01734425918", &signature, b"{}"), &[secret(SECRET)]).is_ok());
    assert!(verify(&request("msg_1", "1734425918", &signature, b"{}"), &[secret(SECRET)]).is_err());
}

#[test]
fn timestamp_tolerance_is_inclusive_in_both_directions() {
    let (_, request) = signed(b"{}");
    let verify = |now, tolerance| request.verify(&[secret(SECRET)], unix_time(now), tolerance).map(|_| ());
    let five_minutes = NonZeroU32::new(300);
    assert_eq!(verify(NOW + 300, five_minutes), Ok(()));
    assert_eq!(verify(NOW - 300, five_minutes), Ok(()));
    assert_eq!(verify(NOW + 301, five_minutes), Err(SignatureError::TimestampOutOfRange(301)));
    assert_eq!(verify(NOW - 301, five_minutes), Err(SignatureError::TimestampOutOfRange(-301)));
    assert_eq!(verify(NOW + 1_000_000, NonZeroU32::new(0)), Ok(()));
}

#[test]
fn signature_mismatch_is_reported_before_stale_timestamp() {
    let request = request("msg_1", "1", "v1,AAAA", b"{}");
    assert_eq!(
        request.verify(&[secret(SECRET)], unix_time(NOW), NonZeroU32::new(300)).unwrap_err(),
        SignatureError::NoMatch
    );
}

#[test]
fn missing_header_error_names_header() {
    let value = Some(b"1".as_slice());
    for (id, timestamp, signature, name) in [
        (None, value, value, ID_HEADER),
        (value, None, value, TIMESTAMP_HEADER),
        (value, value, None, SIGNATURE_HEADER),
    ] {
        let error = UnverifiedWebhook::new(id, timestamp, signature).unwrap_err();
        assert_eq!((error.code(), error.field()), (ErrorCode::MissingHeader, Some(name)));
    }
}

#[test]
fn malformed_header_error_names_header() {
    let long_id = "i".repeat(257);
    let cases: [(&str, &str, &str); 6] = [
        ("", "1", ID_HEADER),
        (&long_id, "1", ID_HEADER),
        ("id", "", TIMESTAMP_HEADER),
        ("id", "1234567890123456", TIMESTAMP_HEADER),
        ("id", "-1", TIMESTAMP_HEADER),
        ("id", "1.5", TIMESTAMP_HEADER),
    ];
    for (id, timestamp, name) in cases {
        let error = UnverifiedWebhook::new(Some(id.as_bytes()), Some(timestamp.as_bytes()), Some(b"v1,")).unwrap_err();
        assert_eq!((error.code(), error.field()), (ErrorCode::MalformedHeader, Some(name)), "{id} {timestamp}");
    }
    let max_length_id = "é".repeat(256);
    assert!(UnverifiedWebhook::new(Some(max_length_id.as_bytes()), Some(b"999999999999999"), Some(b"")).is_ok());
}

#[test]
fn signing_secret_debug_output_is_redacted() {
    assert_eq!(format!("{:?}", secret(SECRET)), "SigningSecret(SecretBox<[u8]>([REDACTED]))");
}

proptest! {
    #[test]
    fn signed_message_verifies(key in prop::collection::vec(any::<u8>(), 1..64), id in "[!-~]{1,40}", timestamp in 0u64..999_999_999_999_999, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = SigningSecret(key.into());
        let timestamp = timestamp.to_string();
        let signature = key.sign(&id, &timestamp, &body);
        prop_assert!(verify(&request(&id, &timestamp, &signature, &body), &[key]).is_ok());
    }

    #[test]
    fn changed_body_byte_is_rejected(body in prop::collection::vec(any::<u8>(), 1..200), position in any::<prop::sample::Index>(), flip in 1u8..) {
        let (signature, _) = signed(&body);
        let mut changed = body.clone();
        changed[position.index(body.len())] ^= flip;
        prop_assert!(verify(&request("msg_1", "1734425918", &signature, &changed), &[secret(SECRET)]).is_err());
    }

    #[test]
    fn changed_signature_character_is_rejected(position in 0usize..46, replacement in "[A-Za-z0-9+/,=]") {
        let (signature, _) = signed(b"body");
        let mut changed: Vec<char> = signature.chars().collect();
        changed[position] = replacement.chars().next().unwrap();
        let changed: String = changed.into_iter().collect();
        prop_assume!(changed != signature);
        prop_assert!(verify(&request("msg_1", "1734425918", &changed, b"body"), &[secret(SECRET)]).is_err());
    }

    #[test]
    fn arbitrary_headers_never_verify(id in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)), timestamp in prop::option::of("[ -~]{0,20}"), signatures in prop::option::of(prop::collection::vec(any::<u8>(), 0..200))) {
        if let Ok(request) = UnverifiedWebhook::new(id.as_deref(), timestamp.as_deref().map(str::as_bytes), signatures.as_deref()) {
            let body = Bytes::from_static(b"{}");
            prop_assert!(request.verify(&body, &[secret(SECRET)], unix_time(NOW), NonZeroU32::new(300)).is_err());
        }
    }
}
