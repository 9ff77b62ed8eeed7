//! Who may open the page, and what a browser may do with it.
//!
//! A page of somebody else can make a browser send requests to this machine, under a name of its own that leads here (DNS
//! rebinding) or across origins. It cannot read the page, and so never has the page's token.

use std::fmt;
use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, FORWARDED, HOST, HeaderName, ORIGIN, REFERRER_POLICY, VIA,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderValue, Method, Version};
use relay::ingress::host::{host_of, is_this_machine};
use subtle::ConstantTimeEq as _;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::console::PageToken;
use crate::error::{ConsoleError, Refused};

/// Header of the page's token.
const PAGE_TOKEN: HeaderName = HeaderName::from_static("x-console-token");
/// Where a browser says which page a request comes from (Fetch Metadata Request Headers).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What every answer has. Scripts, styles and images come from this server alone, and nothing is kept.
const HEADERS: [(HeaderName, &str); 6] = [
    (
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; \
         form-action 'none'; frame-ancestors 'none'",
    ),
    (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (CACHE_CONTROL, "no-store"),
];

/// Tells whether the value of `Authorization` opens the console.
pub type TokenCheck = Arc<dyn Fn(Option<HeaderValue>) -> Pin<Box<dyn Future<Output = bool> + Send>> + Send + Sync>;

/// Who may use a console.
#[derive(Clone)]
pub enum Access {
    /// Programs of this machine: the console listens on a loopback address.
    ThisMachine,
    /// Who has a relay token: other machines can reach the console.
    RelayToken(TokenCheck),
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ThisMachine => "ThisMachine",
            Self::RelayToken(_) => "RelayToken",
        })
    }
}

/// Adds the headers of every answer.
pub(crate) fn with_headers(routes: Router) -> Router {
    HEADERS.into_iter().fold(routes, |routes, (name, value)| {
        routes.route_layer(SetResponseHeaderLayer::overriding(name, HeaderValue::from_static(value)))
    })
}

/// Middleware of all routes: it refuses what comes under another name, through a proxy, or from another page.
pub(crate) async fn require_own_page(State(access): State<Access>, request: Request, next: Next) -> Response {
    match check_source(&access, &request) {
        Ok(()) => next.run(request).await,
        Err(refused) => ConsoleError::from(refused).into_response(),
    }
}

/// Middleware of what the page asks for: it refuses a stranger, and a change without the page's token.
pub(crate) async fn require_token(
    State((access, token)): State<(Access, PageToken)>,
    request: Request,
    next: Next,
) -> Response {
    if let Access::RelayToken(is_allowed) = &access {
        let mut values = request.headers().get_all(AUTHORIZATION).iter();
        let authorization = values.next().filter(|_| values.next().is_none()).cloned();
        if !is_allowed(authorization).await {
            return ConsoleError::from(Refused::NoRelayToken).into_response();
        }
    }
    let sent = request.headers().get(PAGE_TOKEN).map(HeaderValue::as_bytes).unwrap_or_default();
    if request.method() != Method::GET && !bool::from(sent.ct_eq(token.as_str().as_bytes())) {
        return ConsoleError::from(Refused::NoPageToken).into_response();
    }
    next.run(request).await
}

fn check_source<B>(access: &Access, request: &http::Request<B>) -> Result<(), Refused> {
    let host = host_of(request).map_err(|_| Refused::MalformedHost)?;
    if matches!(access, Access::ThisMachine) {
        // A browser speaks HTTP/1.1; a proxy that hides itself may speak 1.0.
        if request.version() == Version::HTTP_10 || request.headers().keys().any(is_of_a_proxy) {
            return Err(Refused::Forwarded);
        }
        if !host.is_some_and(|host| is_this_machine(&host, IpAddr::V4(Ipv4Addr::LOCALHOST))) {
            return Err(Refused::OtherHost);
        }
    }
    if is_same_origin(request.headers()) { Ok(()) } else { Err(Refused::OtherOrigin) }
}

fn is_of_a_proxy(name: &HeaderName) -> bool {
    *name == FORWARDED || *name == VIA || name.as_str().starts_with("x-forwarded-") || name == "x-real-ip"
}

/// Whether a request comes from the page itself, as far as the browser says. A program need not say anything.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let is_own = |origin: &HeaderValue| {
        let origin = origin.to_str().unwrap_or_default();
        ["http://", "https://"].iter().any(|scheme| origin.strip_prefix(scheme) == Some(host))
    };
    let is_own_site = |site: &HeaderValue| site == "same-origin" || site == "none";
    headers.get_all(ORIGIN).iter().all(is_own) && headers.get_all(SEC_FETCH_SITE).iter().all(is_own_site)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&str, &str)]) -> Result<(), Refused> {
        check_as(&Access::ThisMachine, Version::HTTP_11, headers)
    }

    fn check_as(access: &Access, version: Version, headers: &[(&str, &str)]) -> Result<(), Refused> {
        let request = headers
            .iter()
            .fold(http::Request::get("/").version(version), |request, (name, value)| request.header(*name, *value));
        check_source(access, &request.body(()).unwrap())
    }

    const OWN_HOST: (&str, &str) = ("host", "127.0.0.1:8787");

    #[test]
    fn page_of_this_machine_is_let_in() {
        assert_eq!(check(&[OWN_HOST]), Ok(()));
        assert_eq!(check(&[("host", "localhost:8787"), ("origin", "http://localhost:8787")]), Ok(()));
        assert_eq!(check(&[OWN_HOST, ("sec-fetch-site", "none")]), Ok(()));
    }

    #[test]
    fn name_that_leads_to_this_machine_is_refused() {
        for host in ["evil.example", "127.0.0.1.evil.example", "192.0.2.7", "localhost.evil.example:8787"] {
            assert_eq!(check(&[("host", host)]), Err(Refused::OtherHost), "{host}");
        }
        assert_eq!(check(&[]), Err(Refused::MalformedHost));
        assert_eq!(check(&[OWN_HOST, OWN_HOST]), Err(Refused::MalformedHost));
    }

    #[test]
    fn request_that_a_proxy_passes_on_is_refused() {
        for name in ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"] {
            assert_eq!(check(&[OWN_HOST, (name, "192.0.2.7")]), Err(Refused::Forwarded), "{name}");
        }
        assert_eq!(check_as(&Access::ThisMachine, Version::HTTP_10, &[OWN_HOST]), Err(Refused::Forwarded));
    }

    #[test]
    fn request_of_another_origin_is_refused() {
        for header in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:8788"),
            ("origin", "http://127.0.0.1:87870"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(check(&[OWN_HOST, header]), Err(Refused::OtherOrigin), "{header:?}");
        }
    }

    #[test]
    fn console_with_a_token_stands_behind_a_proxy() {
        let access = Access::RelayToken(Arc::new(|_| Box::pin(async { true })));
        let headers = [("host", "relay.example.com"), ("x-forwarded-for", "192.0.2.7")];
        assert_eq!(check_as(&access, Version::HTTP_11, &headers), Ok(()));
        let headers = [headers[0], ("origin", "https://evil.example")];
        assert_eq!(check_as(&access, Version::HTTP_11, &headers), Err(Refused::OtherOrigin));
    }
}
