//! A destination behind TLS with an untrusted certificate.
//!
//! The functions reject it, since they bring their own list of authorities. By then everything but the check of the
//! chain has cost its time: random numbers, the key exchange, and the decryption of the certificate.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustls::ServerConfig;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The destination.
#[derive(Debug)]
pub struct TlsDestination {
    address: SocketAddr,
    rejected_handshakes: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Drop for TlsDestination {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl TlsDestination {
    /// Starts it.
    ///
    /// # Panics
    /// When there is no port, or no certificate can be made.
    pub async fn start() -> Self {
        let certified =
            rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap_or_else(|error| panic!("{error}"));
        let key = PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![certified.cert.der().clone()], key))
            .unwrap_or_else(|error| panic!("{error}"));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("{error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("{error}"));
        let rejected_handshakes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&rejected_handshakes);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let error = acceptor.accept(stream).await.err();
                let alert = error.as_ref().and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>());
                if let Some(rustls::Error::AlertReceived(_)) = alert {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { address, rejected_handshakes, server }
    }

    /// Its URL, with a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// Returns the number of handshakes that got as far as the certificate.
    #[must_use]
    pub fn rejected_handshakes(&self) -> usize {
        self.rejected_handshakes.load(Ordering::Relaxed)
    }
}
