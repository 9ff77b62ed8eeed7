use super::*;

#[test]
fn webhook_delivery_id_is_stable_per_route() {
    let id = DeliveryId::for_webhook("contacts", "msg_1");
    assert_eq!(id, DeliveryId::for_webhook("contacts", "msg_1"));
    assert_ne!(id, DeliveryId::for_webhook("contact", "smsg_1"));
    assert_ne!(id, DeliveryId::for_webhook("opens", "msg_1"));
}

#[test]
fn delivery_id_is_short_and_alphanumeric() {
    let id = DeliveryId::for_webhook("contacts", &"✓".repeat(256)).with_body_hash(&BodyHash::compute(b"x"));
    assert!(id.as_str().len() <= 80 && id.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{id}");
}

#[test]
fn conflict_id_has_128_bits_of_the_body_hash() {
    let (id, hash) = (DeliveryId::for_webhook("contacts", "msg_1"), BodyHash::compute(b"x"));
    assert_eq!(id.with_body_hash(&hash).as_str(), format!("{id}_{}", &hash.as_str()[..32]));
}

#[test]
fn delivery_for_another_account_is_another_delivery() {
    let webhook = DeliveryKind::ClayRow { route: "contacts".to_owned(), webhook_id: "msg_1".to_owned() };
    let event = DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") };
    let email = DeliveryKind::LoopsEmail { key: IdempotencyKey::random("1") };
    let without_key = [DeliveryKind::LoopsContact, DeliveryKind::LoopsCreate, DeliveryKind::LoopsDelete];
    for kind in [webhook, event, email].into_iter().chain(without_key) {
        let id = match &kind {
            DeliveryKind::ClayRow { route, webhook_id } => DeliveryId::for_webhook(route, webhook_id),
            DeliveryKind::LoopsEvent { key } | DeliveryKind::LoopsEmail { key } => DeliveryId::for_event(key),
            DeliveryKind::LoopsContact | DeliveryKind::LoopsCreate | DeliveryKind::LoopsDelete => {
                DeliveryId::random("1")
            }
        };
        let has_random_id = id == DeliveryId::random("1");
        let delivery = Delivery {
            id,
            contact: ContactKey::from_email("ada@example.com"),
            received_at: Timestamp::UNIX_EPOCH,
            kind,
            body: Bytes::from_static(b"{}"),
        };
        assert_eq!(delivery.clone().in_account(&AccountId::default()), delivery);
        let simulated = delivery.clone().in_account(&AccountId::simulated());
        assert_eq!((simulated.account(), &simulated.kind), (AccountId::simulated(), &delivery.kind));
        assert_eq!(simulated.id == delivery.id, has_random_id);
        assert_eq!(simulated.in_account(&AccountId::default()), delivery);
    }
}

#[test]
fn event_without_contact_properties_does_not_update_contact() {
    let delivery = |kind, body| Delivery {
        id: DeliveryId::random("1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: Timestamp::UNIX_EPOCH,
        kind,
        body: Bytes::from_static(body),
    };
    let event = || DeliveryKind::LoopsEvent { key: IdempotencyKey::random("1") };
    let without_properties: &[u8] = br#"{"email":"a@b.co","eventName":"signup","eventProperties":{"plan":"pro"}}"#;
    assert!(!delivery(event(), without_properties).updates_contact());
    assert!(delivery(event(), br#"{"email":"a@b.co","eventName":"signup","plan":"pro"}"#).updates_contact());
    assert!(
        delivery(event(), br#"{"email":"a@b.co","eventName":"signup","mailingLists":{"l":true}}"#).updates_contact()
    );
    assert!(delivery(DeliveryKind::LoopsContact, without_properties).updates_contact());
    assert!(delivery(event(), b"?").updates_contact());
}

#[test]
fn events_with_same_key_are_distinguished_by_content_key() {
    let event = |key, body: &'static str| Delivery {
        id: DeliveryId::for_event(&key),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: Timestamp::UNIX_EPOCH,
        kind: DeliveryKind::LoopsEvent { key },
        body: Bytes::from_static(body.as_bytes()),
    };
    let caller_key = || IdempotencyKey::from_stored("row-7".to_owned());
    let pro = event(caller_key(), r#"{"email":"a@b.co","eventName":"e","eventProperties":{"plan":"pro","n":1E5}}"#);
    let enriched = event(
        caller_key(),
        r#"{"eventProperties":{"n":100000,"plan":"pro"},"email":"A@b.co","eventName":"e","city":"x"}"#,
    );
    let free = event(caller_key(), r#"{"email":"a@b.co","eventName":"e","eventProperties":{"plan":"free"}}"#);
    assert!(pro.content_key().is_some_and(|hash| enriched.content_key() == Some(hash)));
    assert_ne!(pro.content_key(), free.content_key());
    let conflicting = free.as_conflicting_event();
    assert!(conflicting.id != pro.id && conflicting.body == free.body);
    assert!(!conflicting.conflicts_with(conflicting.content_key().as_deref()));
    assert_eq!(event(caller_key(), "?").content_key(), None);
    let contact = Delivery { kind: DeliveryKind::LoopsContact, ..pro };
    assert_eq!((contact.content_key(), contact.as_conflicting_event().kind), (None, DeliveryKind::LoopsContact));
}

#[test]
fn event_conflicts_with_another_under_its_derived_key() {
    let event = |key: IdempotencyKey, plan: &str| Delivery {
        id: DeliveryId::for_event(&key),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: Timestamp::UNIX_EPOCH,
        kind: DeliveryKind::LoopsEvent { key },
        body: format!(r#"{{"email":"a@b.co","eventName":"e","eventProperties":{plan}}}"#).into(),
    };
    let key_of = |plan| IdempotencyKey::from_stored(event(IdempotencyKey::random("1"), plan).content_key().unwrap());
    let (own, other) = (r#"{"plan":"pro"}"#, r#"{"plan":"free"}"#);
    assert!(!event(key_of(own), own).conflicts_with(None), "as an older relay stored it");
    assert!(event(key_of(own), other).conflicts_with(None));
    assert!(event(key_of(own), own).conflicts_with(event(key_of(own), other).content_key().as_deref()));
    let conflicting = event(key_of(own), own).as_conflicting_event();
    assert_ne!(conflicting.kind, event(key_of(own), own).kind, "Loops knows that key by now");
    // The private name by which serde_json marks a number.
    let marked = |number| format!(r#"{{"$serde_json::private::Number":"{number}"}}"#);
    let (first, second) = (marked(1), marked(2));
    assert!(event(key_of(own), &second).conflicts_with(event(key_of(own), &first).content_key().as_deref()));
    let mut updating = event(key_of(own), own);
    updating.body = Bytes::from_static(br#"{"$serde_json::private::Number":"1"}"#);
    assert!(updating.updates_contact());
}

#[test]
fn delivery_debug_output_hides_body() {
    let delivery = Delivery {
        id: DeliveryId::random("1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: Timestamp::UNIX_EPOCH,
        kind: DeliveryKind::LoopsContact,
        body: Bytes::from_static(b"{\"email\":\"ada@example.com\"}"),
    };
    assert!(!format!("{delivery:?}").contains("ada"));
}

#[test]
fn emails_with_same_key_are_distinguished_by_content_key() {
    let email = |key: IdempotencyKey, body: &'static str| Delivery {
        id: DeliveryId::for_event(&key),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: Timestamp::UNIX_EPOCH,
        kind: DeliveryKind::LoopsEmail { key },
        body: Bytes::from_static(body.as_bytes()),
    };
    let key = || IdempotencyKey::from_stored("row-7".to_owned());
    let receipt =
        email(key(), r#"{"transactionalId":"t","email":"a@b.co","dataVariables":{"n":5,"l":[{"b":"x","a":1}]}}"#);
    let same =
        email(key(), r#"{"email":"A@b.co","transactionalId":"t","dataVariables":{"l":[{"a":1.0,"b":"x"}],"n":"5"}}"#);
    let other = email(key(), r#"{"transactionalId":"t","email":"a@b.co","dataVariables":{"n":6}}"#);
    assert!(!same.conflicts_with(receipt.content_key().as_deref()));
    assert!(other.conflicts_with(receipt.content_key().as_deref()));
    assert_ne!(other.as_conflicting_event().kind, other.kind);
    assert!(!receipt.updates_contact());
}

#[test]
fn redacted_message_has_no_address_and_no_user_id() {
    let delivery = Delivery {
        id: DeliveryId::random("1"),
        contact: ContactKey::from_email("ada@example.com"),
        received_at: Timestamp::UNIX_EPOCH,
        kind: DeliveryKind::LoopsContact,
        body: Bytes::from_static(br#"{"email":"ada@example.com","userId":"u-77"}"#),
    };
    let message = delivery.redact_identity("ada@example.com (u-77) is blocked, as is <Bob@x.co>, since today");
    assert_eq!(message, "… (…) is blocked, as is … since today");
    assert!(delivery.redact_identity(&"word ".repeat(100)).chars().count() <= 200);
}
