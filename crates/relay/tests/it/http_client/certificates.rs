//! Certificates that the client does not trust, each on a TLS server of its own.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use relay::destination::http_client::{build, build_with_roots};
use relay_core::policy::response::CallOutcome;
use rustls::pki_types::CertificateDer;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::harness::now;

const TIMEOUT: Duration = Duration::from_secs(20);

/// Who signed the server's certificate.
enum Signer<'a> {
    Itself,
    Authority(&'a CertifiedIssuer<'a, KeyPair>),
}

fn authority() -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn valid_for(name: &str) -> CertificateParams {
    CertificateParams::new([name.to_owned()]).unwrap()
}

/// Starts a server that answers 200 over TLS, and returns its URL.
async fn start_server(params: CertificateParams, signer: Signer<'_>) -> String {
    let key = KeyPair::generate().unwrap();
    let certificate = match signer {
        Signer::Itself => params.self_signed(&key).unwrap(),
        Signer::Authority(authority) => params.signed_by(&key, authority).unwrap(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let (chain, key) = (vec![certificate.der().clone()], key.serialize_der().try_into().unwrap());
    let config = config.with_no_client_auth().with_single_cert(chain, key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://127.0.0.1:{}/hook", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").await;
        }
    });
    url
}

async fn outcome_trusting(root: Option<CertificateDer<'static>>, url: &str) -> CallOutcome {
    let client = match root {
        None => build().unwrap(),
        Some(root) => {
            let mut roots = RootCertStore::empty();
            roots.add(root).unwrap();
            build_with_roots(roots).unwrap()
        }
    };
    client.send(client.request(http::Method::POST, url).body("{}"), TIMEOUT, now()).await.outcome
}

#[tokio::test]
async fn certificate_of_a_trusted_authority_is_accepted() {
    let authority = authority();
    let url = start_server(valid_for("127.0.0.1"), Signer::Authority(&authority)).await;
    assert_eq!(outcome_trusting(Some(authority.as_ref().der().clone()), &url).await, CallOutcome::Responded(200));
}

#[tokio::test]
async fn self_signed_certificate_is_untrusted() {
    let url = start_server(valid_for("127.0.0.1"), Signer::Itself).await;
    assert_eq!(outcome_trusting(None, &url).await, CallOutcome::CertificateUntrusted);
}

#[tokio::test]
async fn certificate_of_a_private_authority_is_untrusted() {
    let url = start_server(valid_for("127.0.0.1"), Signer::Authority(&authority())).await;
    assert_eq!(outcome_trusting(None, &url).await, CallOutcome::CertificateUntrusted);
}

#[tokio::test]
async fn certificate_with_another_name_is_untrusted() {
    let authority = authority();
    let url = start_server(valid_for("clay.example"), Signer::Authority(&authority)).await;
    assert_eq!(outcome_trusting(Some(authority.as_ref().der().clone()), &url).await, CallOutcome::CertificateUntrusted);
}

#[tokio::test]
async fn certificate_outside_its_time_is_untrusted() {
    let authority = authority();
    for (from, until) in [(2020, 2021), (4000, 4001)] {
        let mut params = valid_for("127.0.0.1");
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
        let url = start_server(params, Signer::Authority(&authority)).await;
        let outcome = outcome_trusting(Some(authority.as_ref().der().clone()), &url).await;
        assert_eq!(outcome, CallOutcome::CertificateUntrusted, "{from}");
    }
}

#[tokio::test]
async fn broken_handshake_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    assert_eq!(outcome_trusting(None, &url).await, CallOutcome::Unreachable);
}
