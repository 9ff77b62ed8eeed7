//! What the page of a console asks for.

use serde_json::{Value, json};

use crate::http::{Response, send};

/// A console, as its page has opened it.
#[derive(Debug)]
pub struct ConsolePage {
    base: String,
    token: String,
}

impl ConsolePage {
    /// Opens the page at a URL without a slash at its end.
    ///
    /// # Panics
    /// When there is no page, or no token of 128 bits in it.
    pub async fn open(base: &str) -> Self {
        let page = send("GET", &format!("{base}/"), &[], "").await.text();
        let after_name = page.split("name=\"console-token\" content=\"").nth(1);
        let token = after_name.and_then(|text| text.split('"').next()).unwrap_or_else(|| panic!("{page}")).to_owned();
        assert_eq!(token.len(), 32);
        Self { base: base.to_owned(), token }
    }

    /// The token of the page.
    #[must_use]
    pub fn token(&self) -> &str {
        &self.token
    }

    /// What the page reads.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn get(&self, path: &str) -> Value {
        let response = send("GET", &format!("{}/console/api/{path}", self.base), &[], "").await;
        assert_eq!(response.status, 200, "{path}: {}", response.text());
        response.json()
    }

    /// What the page does.
    pub async fn post(&self, path: &str, document: Value) -> Response {
        let headers = [("content-type", "application/json"), ("x-console-token", self.token.as_str())];
        send("POST", &format!("{}/console/api/{path}", self.base), &headers, document.to_string()).await
    }

    /// The dry run of a retry of one dead letter, and then the retry.
    ///
    /// # Panics
    /// When the dry run does something else than look, or the retry than send.
    pub async fn retry(&self, id: &str, sent_so_far: impl Fn() -> usize) {
        let before = sent_so_far();
        let dry_run = self.post("dead-letters/retry", json!({"ids": [id]})).await.json();
        assert_eq!(
            (&dry_run["applied"], &dry_run["byOutcome"]),
            (&json!(false), &json!({"would_send": 1})),
            "{dry_run}"
        );
        assert_eq!(sent_so_far(), before, "a dry run sends nothing");
        let done = self.post("dead-letters/retry", json!({"ids": [id], "apply": true})).await.json();
        assert_eq!((&done["changed"], &done["byOutcome"]), (&json!(1), &json!({"sent": 1})), "{done}");
    }
}
