//! A secret whose document, or whose service, fails.

use std::collections::BTreeMap;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use relay::config::env::EnvReader;
use relay::ports::clock::SystemClock;
use relay::ports::secrets::ClayToLoopsSecret;
use relay::telemetry::event::set_sink;
use serde_json::json;

use super::*;
use crate::sdk::clients::AwsClients;

const TTL: Duration = Duration::from_secs(300);

/// A Secrets Manager with one answer, and the number of calls.
#[derive(Debug, Clone)]
struct FakeSecretsManager {
    answer: Arc<StdMutex<(u16, String)>>,
    calls: Arc<AtomicUsize>,
}

impl FakeSecretsManager {
    fn set_document(&self, document: &str) {
        *self.answer.lock().unwrap() = (200, json!({"SecretString": document}).to_string());
    }

    fn set_error(&self, status: u16, code: &str) {
        *self.answer.lock().unwrap() = (status, json!({"__type": code}).to_string());
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

impl HttpClient for FakeSecretsManager {
    fn http_connector(&self, _: &HttpConnectorSettings, _: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for FakeSecretsManager {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let (status, body) = self.answer.lock().unwrap().clone();
        HttpConnectorFuture::ready(Ok(HttpResponse::new(status.try_into().unwrap(), SdkBody::from(body))))
    }
}

/// A secret with the token `t`, which was read.
async fn read_secret() -> (CachedSecret<ClayToLoopsSecret>, FakeSecretsManager) {
    let service = FakeSecretsManager { answer: Arc::default(), calls: Arc::default() };
    service.set_document(r#"{"relay_tokens": ["token-of-the-tests"]}"#);
    let variables = [("AWS_REGION", "eu-west-1"), ("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret")];
    let variables: BTreeMap<_, _> = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    let http_client = relay::destination::http_client::build().unwrap();
    let clients = AwsClients::from_env(&mut EnvReader::new(&variables), http_client).with_http_client(service.clone());
    let secret = CachedSecret::new(
        clients.secrets_manager(),
        "arn:aws:secretsmanager:eu-west-1:1:secret:stack/clay-to-loops-AbCdEf".to_owned(),
        Direction::ClayToLoops,
        ClayToLoopsSecret::parse,
        SecretUser::HttpFunction,
        TTL,
        Arc::new(SystemClock),
    );
    assert!(secret.current().await.unwrap().tokens.authorize(Some(b"Bearer token-of-the-tests")).is_some());
    (secret, service)
}

async fn advance(time: Duration) {
    tokio::time::advance(time).await;
}

#[tokio::test(start_paused = true)]
async fn unusable_document_closes_what_it_opened() {
    for document in [r#"{"relay_tokens": ["other-token-of-the-tests"],}"#, r#"{"relay_tokens": 7}"#, "", "[]"] {
        let (secret, service) = read_secret().await;
        service.set_document(document);
        advance(2 * TTL).await;
        assert!(secret.current().await.is_err(), "{document}");
        assert!(secret.refresh().await.is_err(), "{document}");
        service.set_document(r#"{"relay_tokens": ["new-token-of-the-tests"]}"#);
        advance(FAILURE_RETRY).await;
        let corrected = secret.current().await.unwrap();
        assert!(
            corrected.tokens.authorize(Some(b"Bearer new-token-of-the-tests")).is_some()
                && corrected.tokens.authorize(Some(b"Bearer token-of-the-tests")).is_none()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn deleted_secret_closes_what_it_opened() {
    for code in ["ResourceNotFoundException", "InvalidRequestException"] {
        let (secret, service) = read_secret().await;
        service.set_error(400, code);
        advance(2 * TTL).await;
        assert!(secret.current().await.is_err(), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn unreachable_secret_serves_on_for_an_hour() {
    for (status, code) in [(500, "InternalServiceError"), (400, "AccessDeniedException"), (400, "ThrottlingException")]
    {
        let (secret, service) = read_secret().await;
        service.set_error(status, code);
        for _ in 0..6 {
            advance(MAX_STALE / 6).await;
            assert!(secret.current().await.is_ok(), "{code}");
        }
        advance(2 * TTL).await;
        assert!(secret.current().await.is_err(), "{code}");
        service.set_document(r#"{"relay_tokens": ["token-of-the-tests"]}"#);
        assert!(secret.current().await.is_ok(), "it is asked again at once: {code}");
    }
}

#[tokio::test(start_paused = true)]
async fn unusable_document_is_read_twice_a_minute_at_most() {
    let (secret, service) = read_secret().await;
    service.set_document("?");
    advance(2 * TTL).await;
    for _ in 0..60 {
        assert!(secret.current().await.is_err() && secret.refresh().await.is_err());
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(service.calls(), 1 + 2);
}

#[tokio::test(start_paused = true)]
async fn each_failed_read_is_an_event_with_its_cause() {
    // Other tests emit events as well.
    static ERRORS: StdMutex<Vec<(EventOutcome, String)>> = StdMutex::new(Vec::new());
    let (secret, service) = read_secret().await;
    set_sink(|event| ERRORS.lock().unwrap().push((event.outcome, event.error.unwrap_or_default().to_owned())));
    service.set_document("\n\n\n{\"hidden");
    advance(2 * TTL).await;
    assert!(secret.current().await.is_err());
    let errors = ERRORS.lock().unwrap().clone();
    let (outcome, error) = errors.iter().find(|(_, error)| error.contains("line 4,")).unwrap();
    assert_eq!(*outcome, EventOutcome::SecretUnreadable);
    assert!(error.starts_with("the secret stack/clay-to-loops: it cannot be used (it is not the JSON"), "{error}");
    assert!(error.ends_with("; what it opens is closed") && !error.contains("hidden"), "{error}");
}
