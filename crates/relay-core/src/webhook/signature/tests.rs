//! What is taken as Loops' and what is not.

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

fn request(id: &str, timestamp: &str, signatures: &str, body: &[u8]) -> Unverified {
    let body = Bytes::copy_from_slice(body);
    Unverified::new(Some(id.as_bytes()), Some(timestamp.as_bytes()), Some(signatures.as_bytes()), body).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn verify(request: &Unverified, secrets: &[SigningSecret]) -> Result<Verified, SignatureError> {
    request.verify(secrets, at(NOW), Tolerance::Off)
}

fn signed(body: &[u8]) -> (String, Unverified) {
    let signature = secret(SECRET).sign("msg_1", "1734425918", body);
    (signature.clone(), request("msg_1", "1734425918", &signature, body))
}

#[test]
fn the_published_vectors_are_signed_byte_for_byte_and_verified() {
    for (key, id, timestamp, body, signature) in VECTORS {
        assert_eq!(secret(key).sign(id, timestamp, body.as_bytes()), signature);
        let verified = verify(&request(id, timestamp, signature, body.as_bytes()), &[secret(key)]).unwrap();
        assert_eq!(verified.body(), body.as_bytes());
        assert_eq!(verified.webhook_id(), id);
    }
}

#[test]
fn a_secret_comes_with_or_without_prefix_and_padding() {
    let signature = secret("whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==").sign("msg_1", "1734425918", b"{}");
    let request = request("msg_1", "1734425918", &signature, b"{}");
    for text in
        ["whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw", "c3VwZXItc2VjcmV0LWtleS1ieXRlcw==", "c3VwZXItc2VjcmV0LWtleS1ieXRlcw"]
    {
        assert!(verify(&request, &[secret(text)]).is_ok(), "{text}");
    }
}

#[test]
fn an_empty_or_broken_secret_is_refused() {
    for text in ["", "whsec_", "whsec_%%%", "not base64!"] {
        assert_eq!(SigningSecret::parse(text).unwrap_err(), MalformedSecret, "{text}");
    }
}

#[test]
fn any_of_several_secrets_and_any_of_several_signatures_will_do() {
    let (signature, _) = signed(b"{}");
    let several = request("msg_1", "1734425918", &format!("v1,AAAA v1a,{} {signature}", &signature[3..]), b"{}");
    assert!(verify(&several, &[secret("b3RoZXI="), secret(SECRET)]).is_ok());
}

#[test]
fn entries_that_are_not_v1_or_not_base64_match_nothing() {
    let (signature, _) = signed(b"{}");
    let bare = &signature[3..];
    for entry in [
        format!("v1a,{bare}"),
        format!("v2,{bare}"),
        bare.to_owned(),
        format!("v1{bare}"),
        "v1,%%%".into(),
        String::new(),
    ] {
        let error = verify(&request("msg_1", "1734425918", &entry, b"{}"), &[secret(SECRET)]).unwrap_err();
        assert_eq!(error, SignatureError::NoMatch, "{entry}");
    }
}

#[test]
fn without_a_secret_nothing_matches() {
    let (_, request) = signed(b"{}");
    assert_eq!(verify(&request, &[]).unwrap_err(), SignatureError::NoMatch);
}

#[test]
fn the_header_strings_are_signed_verbatim() {
    let signature = secret(SECRET).sign("msg_1", "01734425918", b"{}");
    assert!(verify(&request("msg_1", "01734425918", &signature, b"{}"), &[secret(SECRET)]).is_ok());
    assert!(verify(&request("msg_1", "1734425918", &signature, b"{}"), &[secret(SECRET)]).is_err());
}

#[test]
fn exactly_the_tolerance_passes_in_both_directions_and_a_second_more_does_not() {
    let (_, request) = signed(b"{}");
    let verify = |now, tolerance| request.verify(&[secret(SECRET)], at(now), tolerance).map(|_| ());
    let five_minutes = Tolerance::from_secs(300);
    assert_eq!(verify(NOW + 300, five_minutes), Ok(()));
    assert_eq!(verify(NOW - 300, five_minutes), Ok(()));
    assert_eq!(verify(NOW + 301, five_minutes), Err(SignatureError::OutOfRange(301)));
    assert_eq!(verify(NOW - 301, five_minutes), Err(SignatureError::OutOfRange(-301)));
    assert_eq!(verify(NOW + 1_000_000, Tolerance::from_secs(0)), Ok(()));
}

#[test]
fn a_wrong_signature_is_told_before_a_wrong_time() {
    let request = request("msg_1", "1", "v1,AAAA", b"{}");
    assert_eq!(
        request.verify(&[secret(SECRET)], at(NOW), Tolerance::from_secs(300)).unwrap_err(),
        SignatureError::NoMatch
    );
}

#[test]
fn a_missing_header_is_named() {
    let some = Some(b"1".as_slice());
    for (id, timestamp, signature, name) in
        [(None, some, some, ID_HEADER), (some, None, some, TIMESTAMP_HEADER), (some, some, None, SIGNATURE_HEADER)]
    {
        let refusal = Unverified::new(id, timestamp, signature, Bytes::new()).unwrap_err();
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::MissingHeader, Some(name)));
    }
}

#[test]
fn a_malformed_header_is_named() {
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
        let refusal =
            Unverified::new(Some(id.as_bytes()), Some(timestamp.as_bytes()), Some(b"v1,"), Bytes::new()).unwrap_err();
        assert_eq!((refusal.code(), refusal.field()), (ErrorCode::MalformedHeader, Some(name)), "{id} {timestamp}");
    }
    let longest = "é".repeat(256);
    assert!(Unverified::new(Some(longest.as_bytes()), Some(b"999999999999999"), Some(b""), Bytes::new()).is_ok());
}

#[test]
fn printing_a_secret_tells_nothing() {
    assert_eq!(format!("{:?}", secret(SECRET)), "SigningSecret([redacted])");
}

proptest! {
    #[test]
    fn what_is_signed_is_verified(key in prop::collection::vec(any::<u8>(), 1..64), id in "[!-~]{1,40}", timestamp in 0u64..999_999_999_999_999, body in prop::collection::vec(any::<u8>(), 0..200)) {
        let key = SigningSecret(key);
        let timestamp = timestamp.to_string();
        let signature = key.sign(&id, &timestamp, &body);
        prop_assert!(verify(&request(&id, &timestamp, &signature, &body), &[key]).is_ok());
    }

    #[test]
    fn any_changed_byte_of_the_body_is_refused(body in prop::collection::vec(any::<u8>(), 1..200), at in any::<prop::sample::Index>(), flip in 1u8..) {
        let (signature, _) = signed(&body);
        let mut changed = body.clone();
        changed[at.index(body.len())] ^= flip;
        prop_assert!(verify(&request("msg_1", "1734425918", &signature, &changed), &[secret(SECRET)]).is_err());
    }

    #[test]
    fn any_changed_character_of_the_signature_is_refused(at in 0usize..46, with in "[A-Za-z0-9+/,=]") {
        let (signature, _) = signed(b"body");
        let mut changed: Vec<char> = signature.chars().collect();
        changed[at] = with.chars().next().unwrap();
        let changed: String = changed.into_iter().collect();
        prop_assume!(changed != signature);
        prop_assert!(verify(&request("msg_1", "1734425918", &changed, b"body"), &[secret(SECRET)]).is_err());
    }

    #[test]
    fn any_headers_are_answered(id in prop::option::of(prop::collection::vec(any::<u8>(), 0..300)), timestamp in prop::option::of("[ -~]{0,20}"), signatures in prop::option::of(prop::collection::vec(any::<u8>(), 0..200))) {
        if let Ok(request) = Unverified::new(id.as_deref(), timestamp.as_deref().map(str::as_bytes), signatures.as_deref(), Bytes::from_static(b"{}")) {
            prop_assert!(request.verify(&[secret(SECRET)], at(NOW), Tolerance::from_secs(300)).is_err());
        }
    }
}
