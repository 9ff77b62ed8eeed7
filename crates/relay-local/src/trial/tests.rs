//! The routes of the trial between real simulators and a stub of the relay.

use std::sync::Mutex;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::StatusCode;
use relay::ports::secrets::ClayToLoopsSecret;
use relay_core::account::{AccountId, KeyAccount};
use relay_core::token::RelayTokens;
use relay_core::webhook::route::{ClayRoute, ClayWebhook};
use relay_core::webhook::signature::{ID_HEADER, SIGNATURE_HEADER, SigningSecret, TIMESTAMP_HEADER, UnverifiedWebhook};
use relay_simulator::{ClayOptions, LoopsOptions};
use serde_json::json;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::*;
use crate::reloading_secrets::Secrets;

const TOKEN: &str = "relay-token-of-a-test";
const SECRET: &str = "whsec_c3VwZXItc2VjcmV0LWtleS1ieXRlcw==";
const CONTACTS: &str = "/console/api/trial/contacts";
const CALL: &str = "/console/api/trial/call";
const DESTINATION: &str = "/console/api/trial/destination";

/// Which destinations are real.
#[derive(Default)]
struct Real {
    clay: bool,
    loops: bool,
}

fn secrets(real: &Real) -> ReloadingSecrets {
    let account = |is_real| if is_real { AccountId::default() } else { AccountId::simulated() };
    let webhooks = vec![ClayWebhook::new("https://api.clay.com/v3/sources/webhook/x", None).unwrap()];
    let events = relay_core::webhook::selection::EventSelection::default();
    let routes = vec![ClayRoute { name: "default".to_owned(), events, webhooks }];
    ReloadingSecrets::from(Secrets {
        loops_to_clay: Arc::new(LoopsToClaySecret {
            signing_secrets: vec![SigningSecret::parse(SECRET).unwrap()],
            routes,
            account: account(real.clay),
        }),
        clay_to_loops: Arc::new(ClayToLoopsSecret {
            api_key: Some("simulated".into()),
            tokens: RelayTokens::new([TOKEN]),
            account: KeyAccount::known(account(real.loops)),
        }),
    })
}

type Received = Arc<Mutex<Vec<(http::request::Parts, Bytes)>>>;

struct Setup {
    app: Router,
    trial: Arc<Trial>,
    /// What the stub of the relay got.
    received: Received,
    _folder: tempfile::TempDir,
}

async fn answer(received: Received, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    received.lock().unwrap().push((parts, body));
    let headers = [("x-relay-delivery-id", "event_1"), ("retry-after", "2"), ("x-other", "hidden")];
    (StatusCode::ACCEPTED, headers, r#"{"success":true,"price":1.10}"#).into_response()
}

async fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn start(real: Real) -> Setup {
    let received = Received::default();
    let (stub, stub_received) = (listener().await, Arc::clone(&received));
    let relay_address = stub.local_addr().unwrap();
    let stub_routes = Router::new().fallback(move |request| answer(Arc::clone(&stub_received), request));
    tokio::spawn(async move { axum::serve(stub, stub_routes).await });
    let simulators = Simulators {
        clay: Some(Clay::start(listener().await, ClayOptions::default()).await.unwrap()),
        loops: Some(Loops::start(listener().await, LoopsOptions::default()).await.unwrap()),
    };
    let folder = tempfile::tempdir().unwrap();
    let opened = relay_sqlite::open(folder.path(), Timestamp::now()).unwrap();
    let store = SqliteStore::new(opened, Arc::new(SystemClock));
    let trial = Arc::new(Trial::new(simulators, relay_address, secrets(&real), store).unwrap());
    Setup { app: routes(Arc::clone(&trial)), trial, received, _folder: folder }
}

impl Setup {
    /// Sends a request, and returns the status and the JSON of the answer, which has no secret.
    async fn send(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        let response = self.app.clone().oneshot(request.body(Body::from(body.to_string())).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let body = String::from_utf8(to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap();
        assert!(!body.contains(TOKEN) && !body.contains(SECRET), "{body}");
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.send("POST", path, body).await
    }

    async fn view(&self) -> Value {
        let (status, view) = self.send("GET", "/console/api/trial", &Value::Null).await;
        assert_eq!(status, 200);
        view
    }

    /// Checks that a request is refused with a sentence, and that nobody was called.
    async fn assert_refused(&self, status: u16, path: &str, body: &Value) -> String {
        let (answered, answer) = self.post(path, body).await;
        assert_eq!((answered, &answer["success"]), (status, &json!(false)), "{body}: {answer}");
        assert!(self.received.lock().unwrap().is_empty(), "{body}");
        answer["message"].as_str().unwrap().to_owned()
    }
}

#[tokio::test]
async fn created_contact_is_told_to_the_relay_signed() {
    let setup = start(Real::default()).await;
    let fields = json!({"email": "ada@example.com", "firstName": "<img onerror>", "plan": "pro"});
    let (status, answer) = setup.post(CONTACTS, &fields).await;
    assert_eq!((status, &answer["status"], &answer["body"]["success"]), (200, &json!(202), &json!(true)));
    let (parts, body) = setup.received.lock().unwrap().pop().unwrap();
    assert_eq!((parts.method.as_str(), parts.uri.path()), ("POST", "/webhooks/loops"));
    let [id, time, signature] = [ID_HEADER, TIMESTAMP_HEADER, SIGNATURE_HEADER].map(|name| &parts.headers[name]);
    let unverified =
        UnverifiedWebhook::new(Some(id.as_bytes()), Some(time.as_bytes()), Some(signature.as_bytes())).unwrap();
    let secrets = [SigningSecret::parse(SECRET).unwrap()];
    let tolerance = std::num::NonZeroU32::new(300);
    unverified.verify(&body, &secrets, Timestamp::now(), tolerance).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["eventName"], &body["contact"]["plan"]), (&json!("contact.created"), &json!("pro")));
    assert_eq!(setup.view().await["loops"]["contacts"], json!([body["contact"]]));
}

#[tokio::test]
async fn contact_that_loops_does_not_take_gets_its_error() {
    let setup = start(Real::default()).await;
    let message = setup.assert_refused(400, CONTACTS, &json!({"email": "ada"})).await;
    assert_eq!(message, "Invalid email address.");
    setup.post(CONTACTS, &json!({"email": "ada@example.com"})).await;
    setup.received.lock().unwrap().clear();
    setup.assert_refused(400, CONTACTS, &json!({"email": "ada@example.com"})).await;
    assert_eq!(setup.view().await["loops"]["contacts"].as_array().map(Vec::len), Some(1));
}

#[tokio::test]
async fn call_has_a_token_and_shows_the_answer() {
    let setup = start(Real::default()).await;
    let call = json!({"method": "PUT", "path": "/api/v1/contacts/update?dry-run=on", "body": "{\"a\":"});
    let (status, answer) = setup.post(CALL, &call).await;
    assert_eq!((status, &answer["status"]), (200, &json!(202)));
    assert_eq!(answer["body"], r#"{"success":true,"price":1.10}"#);
    let headers = answer["headers"].as_object().unwrap();
    assert_eq!((&headers["x-relay-delivery-id"], &headers["retry-after"]), (&json!("event_1"), &json!("2")));
    assert!(headers.contains_key("content-type") && headers.len() == 3, "{headers:?}");
    let (parts, body) = setup.received.lock().unwrap().pop().unwrap();
    assert_eq!((parts.method.as_str(), parts.uri.to_string()), ("PUT", "/api/v1/contacts/update?dry-run=on".into()));
    assert_eq!(parts.headers["authorization"], format!("Bearer {TOKEN}"));
    assert_eq!(body, r#"{"a":"#);
}

#[tokio::test]
async fn call_to_another_path_or_host_is_refused() {
    let setup = start(Real::default()).await;
    for path in ["/metrics", "/api/v1/../../metrics", "@evil.example/api/v1/", "http://evil.example/api/v1/lists"] {
        setup.assert_refused(400, CALL, &json!({"method": "GET", "path": path})).await;
    }
    setup.assert_refused(400, CALL, &json!({"method": "TRACE", "path": "/api/v1/lists"})).await;
}

#[tokio::test]
async fn behavior_of_a_destination_is_changed_and_shown() {
    let setup = start(Real::default()).await;
    let fails = json!({"destination": "clay", "behavior": "rate_limited"});
    assert_eq!(setup.post(DESTINATION, &fails).await, (200, json!({"changed": true})));
    assert_eq!(setup.post(DESTINATION, &fails).await, (200, json!({"changed": false})));
    let view = setup.view().await;
    assert_eq!((&view["clay"]["behavior"], &view["loops"]["behavior"]), (&json!("rate_limited"), &json!("normal")));
    assert_eq!((&view["clay"]["rows"], &view["clay"]["total"]), (&json!([]), &json!(0)));
    for wrong in
        [json!({"destination": "clay", "behavior": "slow"}), json!({"destination": "relay", "behavior": "gone"})]
    {
        setup.assert_refused(400, DESTINATION, &wrong).await;
    }
}

#[tokio::test]
async fn real_destination_is_left_alone() {
    let call = json!({"method": "PUT", "path": "/api/v1/contacts/update", "body": "{}"});
    let contact = json!({"email": "ada@example.com"});
    let setup = start(Real { clay: true, loops: false }).await;
    assert!(setup.assert_refused(400, CONTACTS, &contact).await.contains("Clay is real"));
    let gone = json!({"destination": "clay", "behavior": "gone"});
    assert!(setup.assert_refused(400, DESTINATION, &gone).await.contains("Clay is not simulated"));
    let view = setup.view().await;
    assert_eq!((&view["clay"]["simulated"], &view["loops"]["simulated"]), (&json!(false), &json!(true)));
    assert_eq!(view["loops"]["contacts"], json!([]));
    let setup = start(Real { clay: false, loops: true }).await;
    assert!(setup.assert_refused(400, CALL, &call).await.contains("Loops is real"));
    assert!(setup.assert_refused(400, CONTACTS, &contact).await.contains("Loops is not simulated"));
}

#[tokio::test]
async fn trial_without_a_simulated_destination_is_over() {
    let setup = start(Real { clay: true, loops: true }).await;
    assert!(!setup.trial.is_simulated());
    assert_eq!(setup.send("GET", "/console/api/trial", &Value::Null).await.0, 404);
    for path in [CONTACTS, CALL, DESTINATION] {
        setup.assert_refused(404, path, &json!({})).await;
    }
}
