//! Clay and Loops as fakes: they answer what the test says, and remember what they were asked.

use std::sync::Mutex;
use std::time::Duration;

use bytes::Bytes;
use relay::destination::clay::ClayClient;
use relay::destination::http_client::DestinationResponse;
use relay::destination::loops::{LoopsApi, LoopsCall};
use relay_core::delivery::{DeliveryId, DeliveryKind};
use relay_core::policy::response::CallOutcome;
use relay_core::secret::{ExposeSecret as _, SecretString};
use relay_core::webhook::route::ClayWebhook;

/// An answer with this status.
pub(crate) fn status(status: u16) -> DestinationResponse {
    DestinationResponse::without_response(CallOutcome::Answered(status))
}

/// An answer with this status, after which the far end wants to be left alone for that long.
pub(crate) fn asking(answered: u16, seconds: u64) -> DestinationResponse {
    DestinationResponse { retry_after: Some(Duration::from_secs(seconds)), ..status(answered) }
}

/// An answer with this status and body.
pub(crate) fn saying(answered: u16, body: &'static str) -> DestinationResponse {
    DestinationResponse { body: Bytes::from_static(body.as_bytes()), ..status(answered) }
}

/// What is asked, and how often something was asked before, make the answer.
type Answers<Q> = Box<dyn Fn(&Q, usize) -> DestinationResponse + Send + Sync>;

/// A post to Clay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Post {
    pub(crate) url: String,
    pub(crate) token: Option<String>,
    pub(crate) row: Bytes,
}

/// Clay.
pub(crate) struct FakeClay {
    answers: Answers<Post>,
    posts: Mutex<Vec<Post>>,
}

impl FakeClay {
    /// One that answers so.
    pub(crate) fn new(answers: impl Fn(&Post, usize) -> DestinationResponse + Send + Sync + 'static) -> Self {
        Self { answers: Box::new(answers), posts: Mutex::default() }
    }

    /// What was posted.
    pub(crate) fn posts(&self) -> Vec<Post> {
        self.posts.lock().unwrap().clone()
    }

    /// The paths that were posted to.
    pub(crate) fn asked(&self) -> Vec<String> {
        let name = |post: Post| post.url.rsplit('/').next().unwrap_or_default().to_owned();
        self.posts().into_iter().map(name).collect()
    }
}

impl ClayClient for FakeClay {
    async fn post(&self, webhook: &ClayWebhook, _: &DeliveryId, row: Bytes, _: Duration) -> DestinationResponse {
        let token = webhook.auth_token().map(|token| token.expose_secret().to_owned());
        let post = Post { url: webhook.expose_url().to_owned(), token, row };
        let mut posts = self.posts.lock().unwrap();
        let answer = (self.answers)(&post, posts.len());
        posts.push(post);
        answer
    }
}

/// A call to Loops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) cargo: DeliveryKind,
    pub(crate) api_key: String,
    pub(crate) body: Bytes,
    pub(crate) timeout: Duration,
}

/// Loops.
pub(crate) struct FakeLoops {
    answers: Answers<Call>,
    slow: bool,
    calls: Mutex<Vec<Call>>,
    list: Box<dyn Fn(usize) -> DestinationResponse + Send + Sync>,
    lists: Mutex<Vec<String>>,
}

impl FakeLoops {
    /// One that answers so.
    pub(crate) fn new(answers: impl Fn(&Call, usize) -> DestinationResponse + Send + Sync + 'static) -> Self {
        Self {
            answers: Box::new(answers),
            slow: false,
            calls: Mutex::default(),
            list: Box::new(|_| status(404)),
            lists: Mutex::default(),
        }
    }

    /// One that answers so when it is asked for its properties, for the first time and later.
    pub(crate) fn listing(list: impl Fn(usize) -> DestinationResponse + Send + Sync + 'static) -> Self {
        Self { list: Box::new(list), ..Self::new(|_, _| saying(200, r#"{"success":true}"#)) }
    }

    /// The keys under which it was asked for its properties.
    pub(crate) fn lists(&self) -> Vec<String> {
        self.lists.lock().unwrap().clone()
    }

    /// One that never answers in time.
    pub(crate) fn hanging() -> Self {
        Self { slow: true, ..Self::new(|_, _| DestinationResponse::without_response(CallOutcome::TimedOut)) }
    }

    /// The calls.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }
}

impl LoopsApi for FakeLoops {
    async fn call(&self, call: LoopsCall<'_>) -> DestinationResponse {
        let call = Call {
            cargo: call.cargo.clone(),
            api_key: call.api_key.expose_secret().to_owned(),
            body: call.body.clone(),
            timeout: call.timeout,
        };
        if self.slow {
            tokio::time::sleep(call.timeout).await;
        }
        let mut calls = self.calls.lock().unwrap();
        let answer = (self.answers)(&call, calls.len());
        calls.push(call);
        answer
    }

    async fn properties(&self, api_key: &SecretString, _: Duration) -> DestinationResponse {
        let mut lists = self.lists.lock().unwrap();
        lists.push(api_key.expose_secret().to_owned());
        (self.list)(lists.len() - 1)
    }
}
