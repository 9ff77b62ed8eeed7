//! What a relay token may do: each scope on each route.

use relay_core::token::Scope;
use relay_testkit::http::{Response, send};
use relay_testkit::mock_destination::MockDestination;
use serde_json::{Value, json};

use super::rows::{start_loops, start_relay};
use super::telemetry::{log_lines, wait_for_line};
use crate::Relay;

/// A route of the API, the scope that it needs, and a body that it takes.
struct ApiRoute {
    method: &'static str,
    path: &'static str,
    scope: Scope,
    body: &'static str,
}

/// Every route of the API.
const ROUTES: [ApiRoute; 11] = [
    ApiRoute {
        method: "PUT",
        path: "/api/v1/contacts/update",
        scope: Scope::ContactsWrite,
        body: r#"{"email":"ada@example.com"}"#,
    },
    ApiRoute {
        method: "POST",
        path: "/api/v1/events/send",
        scope: Scope::EventsSend,
        body: r#"{"email":"ada@example.com","eventName":"enriched"}"#,
    },
    ApiRoute {
        method: "POST",
        path: "/api/v1/contacts/create",
        scope: Scope::ContactsWrite,
        body: r#"{"email":"bob@example.com"}"#,
    },
    ApiRoute {
        method: "POST",
        path: "/api/v1/contacts/delete",
        scope: Scope::ContactsDelete,
        body: r#"{"email":"ada@example.com"}"#,
    },
    ApiRoute {
        method: "POST",
        path: "/api/v1/transactional",
        scope: Scope::EmailSend,
        body: r#"{"email":"ada@example.com","transactionalId":"t1"}"#,
    },
    ApiRoute {
        method: "GET",
        path: "/api/v1/contacts/find?email=ada@example.com",
        scope: Scope::ContactsRead,
        body: "",
    },
    ApiRoute {
        method: "GET",
        path: "/api/v1/contacts/suppression?email=ada@example.com",
        scope: Scope::ContactsRead,
        body: "",
    },
    ApiRoute { method: "GET", path: "/api/v1/lists", scope: Scope::AccountRead, body: "" },
    ApiRoute { method: "GET", path: "/api/v1/contacts/properties", scope: Scope::AccountRead, body: "" },
    ApiRoute { method: "GET", path: "/api/v1/transactional", scope: Scope::AccountRead, body: "" },
    ApiRoute { method: "GET", path: "/api/v1/api-key", scope: Scope::AccountRead, body: "" },
];

/// A token as texts are: without a name, and with what every token could do before there were scopes.
const TEXT_TOKEN: &str = "text-token-of-the-tests";

/// The token of the tests with this scope alone.
fn token_of(scope: Scope) -> String {
    format!("{scope}-token-of-the-tests")
}

/// A relay with a text as token, and a token for each scope, which has the scope's name.
async fn start() -> (Relay, MockDestination) {
    let scoped = Scope::ALL.iter().map(|scope| {
        let name = scope.as_str().replace(':', ".");
        json!({"token": token_of(*scope), "name": name, "scopes": [scope.as_str()]})
    });
    let tokens: Value = scoped.chain([json!(TEXT_TOKEN)]).collect();
    let loops = start_loops().await;
    let relay = start_relay(&loops, &[("RELAY_TOKEN", &tokens.to_string())]).await;
    (relay, loops)
}

async fn call(relay: &Relay, route: &ApiRoute, token: &str) -> Response {
    let authorization = format!("Bearer {token}");
    let headers = [("authorization", authorization.as_str()), ("content-type", "application/json")];
    send(route.method, &format!("{}{}", relay.base(), route.path), &headers, route.body).await
}

#[tokio::test]
async fn token_opens_the_routes_of_its_scope_and_no_other() {
    let (relay, loops) = start().await;
    for route in &ROUTES {
        for scope in Scope::ALL {
            let (calls, response) = (loops.received().len(), call(&relay, route, &token_of(*scope)).await);
            let what = format!("{scope} on {} {}: {response:?}", route.method, route.path);
            if *scope == route.scope {
                assert_eq!(response.status, 200, "{what}");
                continue;
            }
            response.assert_error_response(403, "missing_scope", None);
            assert!(response.text().contains(&format!("--scopes {}`", route.scope)), "{what}");
            assert_eq!(loops.received().len(), calls, "{what}");
        }
    }
}

#[tokio::test]
async fn text_token_may_do_what_it_could_before_scopes() {
    let (relay, _loops) = start().await;
    let before_scopes = ["contacts:write", "events:send", "deliveries:read"];
    for route in &ROUTES {
        let response = call(&relay, route, TEXT_TOKEN).await;
        let is_allowed = before_scopes.contains(&route.scope.as_str());
        assert_eq!(response.status != 403, is_allowed, "{} {}: {response:?}", route.method, route.path);
    }
}

#[tokio::test]
async fn log_has_the_name_of_the_token_and_not_the_token() {
    let (relay, _loops) = start().await;
    let [contact, ..] = &ROUTES;
    call(&relay, contact, &token_of(Scope::ContactsWrite)).await;
    let line = wait_for_line(&relay, &[("outcome", "delivered"), ("row", "contact")]).await;
    assert_eq!(line["token"], "contacts.write");
    call(&relay, contact, &token_of(Scope::EmailSend)).await;
    let line = wait_for_line(&relay, &[("code", "missing_scope")]).await;
    assert_eq!(line["error"], "the token email.send lacks the scope contacts:write");
    call(&relay, contact, TEXT_TOKEN).await;
    assert!(log_lines(&relay).iter().all(|line| !line.to_string().contains("-token-of-the-tests")));
}
