//! A dry run says what a run would send.

use http::Method;
use proptest::prelude::*;
use relay_core::idempotency::IdempotencyKey;
use relay_core::row::RowKind;

use super::*;

const KINDS: [(RowKind, &str); 5] = [
    (RowKind::Contact, "/api/v1/contacts/update"),
    (RowKind::Event, "/api/v1/events/send"),
    (RowKind::Create, "/api/v1/contacts/create"),
    (RowKind::Delete, "/api/v1/contacts/delete"),
    (RowKind::Email, "/api/v1/transactional"),
];

async fn run(handler: &Handler, kind: RowKind, path: &str, body: &str) -> Response<Bytes> {
    let request = Request::builder().method(Method::POST).uri(path).header("authorization", "Bearer token");
    handler.handle(kind, request.body(Bytes::from(body.to_owned())).unwrap()).await
}

fn open_handler() -> Handler {
    let everything = RelayTokens::from_tokens(vec![RelayToken {
        token: "token".into(),
        name: None,
        scopes: Scope::ALL.iter().copied().collect(),
    }]);
    let secrets = FakeSecrets::new(ClayToLoopsSecret { tokens: everything, ..secret("key") });
    Handler { secrets, ..handler(unlocked(), always_replying(reply_with_body(200, LOOPS_SUCCESS))) }
}

/// What a cell may hold.
fn value() -> impl Strategy<Value = Value> {
    let text = proptest::sample::select(vec![
        "",
        " ",
        "undefined",
        "true",
        "pro",
        "Zoë 😀",
        "a\u{200b}b",
        "ada@example.com",
        "Ada <ada@example.com>",
        "N/A",
        "{{Column}}",
        "{\"plan\":\"pro\",\"n\":1}",
        "cll42l54f20i1la0lfooe3z12",
    ]);
    let leaf = prop_oneof![
        4 => text.prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
    ];
    leaf.prop_recursive(2, 8, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::hash_map("[a-c]", inner, 0..3)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// A row, most of which are accepted by the call of that kind.
fn row() -> impl Strategy<Value = (RowKind, &'static str, String)> {
    let names =
        vec!["email", "userId", "plan", "subscribed", "eventProperties", "dataVariables", "addToAudience", "bio"];
    let others = proptest::collection::vec((proptest::sample::select(names), value()), 0..3);
    (proptest::sample::select(KINDS.to_vec()), others).prop_map(|((kind, path), others)| {
        let mut fields = vec![("email", json!("ada@example.com"))];
        match kind {
            RowKind::Event => fields.push(("eventName", json!("signed_up"))),
            RowKind::Email => fields.push(("transactionalId", json!("cll42l54f20i1la0lfooe3z12"))),
            RowKind::Contact | RowKind::Create | RowKind::Delete => {}
        }
        let fields = fields.into_iter().chain(others).map(|(name, value)| (name.to_owned(), value));
        (kind, path, Value::Object(fields.collect()).to_string())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn dry_run_has_the_bytes_and_the_key_of_the_run((kind, path, body) in row()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (dry, wet) = (open_handler(), open_handler());
        let tried = runtime.block_on(run(&dry, kind, &format!("{path}?dry-run=on"), &body));
        prop_assert!(dry.loops.calls().is_empty() && dry.intake.results().is_empty() && dry.intake.modes().is_empty());
        let sent = runtime.block_on(run(&wet, kind, path, &body));
        if tried.status() != 200 {
            prop_assert_eq!((tried.status(), tried.body()), (sent.status(), sent.body()));
            return Ok(());
        }
        let calls = wet.loops.calls();
        let answer = String::from_utf8(tried.body().to_vec()).unwrap();
        let would_send = format!("\"wouldSend\":{}", String::from_utf8(calls[0].body.to_vec()).unwrap());
        prop_assert!(answer.contains(&would_send), "{} lacks {}", answer, would_send);
        let json: Value = serde_json::from_str(&answer).unwrap();
        prop_assert_eq!(json["idempotencyKey"].as_str(), calls[0].kind.idempotency_key().map(IdempotencyKey::as_str));
    }
}

#[tokio::test]
async fn dry_run_of_an_event_that_was_sent_is_a_duplicate() {
    let repeats = [Admission::AlreadyDelivered, Admission::Queued, Admission::InFlight].map(|known| (known, true));
    for (known, duplicate) in repeats.into_iter().chain([(Admission::SendNow, false)]) {
        let handler = Handler { intake: unlocked().with_preview(known), ..open_handler() };
        let body = r#"{"email":"ada@example.com","eventName":"signed_up","bio":""}"#;
        let response = run(&handler, RowKind::Event, "/api/v1/events/send?dry-run=on", body).await;
        let json: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((&json["status"], &json["duplicate"]), (&json!("dry-run"), &json!(duplicate)));
        assert_eq!(json["adjusted"], json!(["bio"]));
    }
}

#[tokio::test]
async fn dry_run_is_refused_where_the_run_would_be() {
    for (known, status, code) in
        [(Admission::KeyOfOtherContact, 400, "invalid_option"), (Admission::OutcomeUnknown, 409, "outcome_unknown")]
    {
        let handler = Handler { intake: unlocked().with_preview(known), ..open_handler() };
        let body = r#"{"email":"ada@example.com","eventName":"signed_up"}"#;
        let response = run(&handler, RowKind::Event, "/api/v1/events/send?dry-run=on", body).await;
        let json: Value = serde_json::from_slice(response.body()).unwrap();
        assert_eq!((response.status().as_u16(), &json["code"]), (status, &json!(code)));
    }
}
