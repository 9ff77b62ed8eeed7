//! Clay and Loops as fakes: they answer what the test says, and remember what they were asked.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use relay::destination::clay::ClayClient;
use relay::destination::http_client::DestinationResponse;
use relay::destination::loops::{API_KEY_PATH, LoopsClient, PROPERTIES_PATH};
use relay_core::delivery::{Delivery, DeliveryId, DeliveryKind};
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::webhook::route::ClayWebhook;

/// An answer with this status.
pub(crate) fn reply(status: u16) -> DestinationResponse {
    DestinationResponse::without_response(CallOutcome::Responded(status))
}

/// A response with this status and a `Retry-After`.
pub(crate) fn reply_with_retry_after(status: u16, seconds: u64) -> DestinationResponse {
    DestinationResponse { retry_after: Some(Duration::from_secs(seconds)), ..reply(status) }
}

/// An answer with this status and body.
pub(crate) fn reply_with_body(status: u16, body: &'static str) -> DestinationResponse {
    DestinationResponse { body: Bytes::from_static(body.as_bytes()), ..reply(status) }
}

/// What is asked, and how often something was asked before, make the answer.
type Replies<Q> = Box<dyn Fn(&Q, usize) -> DestinationResponse + Send + Sync>;

/// A post to Clay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedPost {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) row: Bytes,
}

/// Clay.
pub(crate) struct FakeClay {
    replies: Replies<RecordedPost>,
    posts: Mutex<Vec<RecordedPost>>,
}

impl FakeClay {
    /// One that answers so.
    pub(crate) fn new(replies: impl Fn(&RecordedPost, usize) -> DestinationResponse + Send + Sync + 'static) -> Self {
        Self { replies: Box::new(replies), posts: Mutex::default() }
    }

    /// What was posted.
    pub(crate) fn posts(&self) -> Vec<RecordedPost> {
        self.posts.lock().unwrap().clone()
    }

    /// The paths that were posted to.
    pub(crate) fn posted_webhooks(&self) -> Vec<String> {
        let name = |post: RecordedPost| post.url.rsplit('/').next().unwrap_or_default().to_owned();
        self.posts().into_iter().map(name).collect()
    }
}

impl ClayClient for FakeClay {
    async fn post(&self, webhook: &ClayWebhook, _: &DeliveryId, row: Bytes, _: Duration) -> DestinationResponse {
        let token = webhook.auth_token().map(|token| token.expose_secret().to_owned());
        let post = RecordedPost { url: webhook.expose_url().to_owned(), token, row };
        let mut posts = self.posts.lock().unwrap();
        let response = (self.replies)(&post, posts.len());
        posts.push(post);
        response
    }
}

/// A call to Loops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecordedCall {
    pub(crate) kind: DeliveryKind,
    pub(crate) api_key: String,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

/// Loops.
pub(crate) struct FakeLoops {
    replies: Replies<RecordedCall>,
    hangs: bool,
    calls: Mutex<Vec<RecordedCall>>,
    schema_reply: Box<dyn Fn(usize) -> DestinationResponse + Send + Sync>,
    schema_requests: Mutex<Vec<String>>,
    team_reply: TeamReply,
    team_requests: Mutex<Vec<String>>,
    read_reply: Option<ReadReply>,
}

/// What is asked for makes the answer.
type ReadReply = Box<dyn Fn(&str) -> DestinationResponse + Send + Sync>;

/// A key, and how often a team was asked for before, make the answer.
type TeamReply = Box<dyn Fn(&str, usize) -> DestinationResponse + Send + Sync>;

impl FakeLoops {
    /// One that answers so.
    pub(crate) fn new(replies: impl Fn(&RecordedCall, usize) -> DestinationResponse + Send + Sync + 'static) -> Self {
        Self {
            replies: Box::new(replies),
            hangs: false,
            calls: Mutex::default(),
            schema_reply: Box::new(|_| reply(404)),
            schema_requests: Mutex::default(),
            team_reply: Box::new(|_, _| reply(404)),
            team_requests: Mutex::default(),
            read_reply: None,
        }
    }

    /// One that answers so to what only reads.
    pub(crate) fn with_read_reply(
        self,
        read_reply: impl Fn(&str) -> DestinationResponse + Send + Sync + 'static,
    ) -> Self {
        Self { read_reply: Some(Box::new(read_reply)), ..self }
    }

    /// One that answers so when it is asked which team a key belongs to.
    pub(crate) fn with_team_reply(
        self,
        team_reply: impl Fn(&str, usize) -> DestinationResponse + Send + Sync + 'static,
    ) -> Self {
        Self { team_reply: Box::new(team_reply), ..self }
    }

    /// The keys whose team was asked for.
    pub(crate) fn team_requests(&self) -> Vec<String> {
        self.team_requests.lock().unwrap().clone()
    }

    /// One that answers so when it is asked for its properties, for the first time and later.
    pub(crate) fn with_schema_reply(
        schema_reply: impl Fn(usize) -> DestinationResponse + Send + Sync + 'static,
    ) -> Self {
        Self { schema_reply: Box::new(schema_reply), ..Self::new(|_, _| reply_with_body(200, r#"{"success":true}"#)) }
    }

    /// The keys under which it was asked for its properties.
    pub(crate) fn schema_requests(&self) -> Vec<String> {
        self.schema_requests.lock().unwrap().clone()
    }

    /// One that never answers in time.
    pub(crate) fn never_replying() -> Self {
        Self { hangs: true, ..Self::new(|_, _| DestinationResponse::without_response(CallOutcome::TimedOut)) }
    }

    /// The calls.
    pub(crate) fn calls(&self) -> Vec<RecordedCall> {
        self.calls.lock().unwrap().clone()
    }
}

impl LoopsClient for FakeLoops {
    async fn send(&self, delivery: &Delivery, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        let call = RecordedCall {
            kind: delivery.kind.clone(),
            api_key: api_key.expose_secret().to_owned(),
            body: delivery.body.clone(),
            timeout,
        };
        if self.hangs {
            tokio::time::sleep(call.timeout).await;
        }
        let mut calls = self.calls.lock().unwrap();
        let response = (self.replies)(&call, calls.len());
        calls.push(call);
        response
    }

    async fn read(&self, path_and_query: &str, api_key: &SecretString, _: Duration) -> DestinationResponse {
        if path_and_query == PROPERTIES_PATH {
            let mut schema_requests = self.schema_requests.lock().unwrap();
            schema_requests.push(api_key.expose_secret().to_owned());
            return (self.schema_reply)(schema_requests.len() - 1);
        }
        if let Some(read_reply) = &self.read_reply {
            return read_reply(path_and_query);
        }
        assert_eq!(path_and_query, API_KEY_PATH);
        let mut team_requests = self.team_requests.lock().unwrap();
        team_requests.push(api_key.expose_secret().to_owned());
        (self.team_reply)(api_key.expose_secret(), team_requests.len() - 1)
    }
}

/// A Loops that several parts of a test share.
impl LoopsClient for &'static FakeLoops {
    async fn send(&self, delivery: &Delivery, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        (**self).send(delivery, api_key, timeout).await
    }

    async fn read(&self, path_and_query: &str, api_key: &SecretString, timeout: Duration) -> DestinationResponse {
        (**self).read(path_and_query, api_key, timeout).await
    }
}
