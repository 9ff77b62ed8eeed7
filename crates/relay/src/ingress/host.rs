//! Whether a request names this machine as its host.
//!
//! A page in a browser can have a name of its own lead to 127.0.0.1 (DNS rebinding) and read what answers there. Its requests
//! carry that name in `Host`. An address cannot be led elsewhere.

use std::net::IpAddr;

use http::Version;
use http::header::HOST;
use http::uri::Authority;

/// A request of HTTP/1.1 without `Host`, one with several, or one with something else in it (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MalformedHost;

/// Returns the host that a request names. HTTP/1.0 need not name any.
///
/// # Errors
/// [`MalformedHost`]; the answer is 400.
pub fn host_of<B>(request: &http::Request<B>) -> Result<Option<Authority>, MalformedHost> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (None, None) if request.version() == Version::HTTP_10 => return Ok(None),
        (Some(host), None) => host,
        _ => return Err(MalformedHost),
    };
    // A target with a host of its own counts before the header (RFC 9112 §3.2.2).
    let host = request.uri().authority().map_or(host.as_bytes(), |authority| authority.as_str().as_bytes());
    let is_plain = |host: &Authority| !host.as_str().contains('@');
    Authority::try_from(host).ok().filter(is_plain).map(Some).ok_or(MalformedHost)
}

/// Returns whether a host is this machine for a server that listens on an address: `localhost`, a loopback address, or that
/// address. A server that listens on all addresses does not know its own, and takes any.
pub fn is_this_machine(host: &Authority, listen: IpAddr) -> bool {
    let name = host.host();
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost")
        || address.is_ok_and(|address| address.is_loopback() || address == listen || listen.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(host: &str, listen: &str) -> bool {
        is_this_machine(&Authority::try_from(host).unwrap(), listen.parse().unwrap())
    }

    #[test]
    fn loopback_and_listen_address_are_this_machine() {
        for host in ["localhost", "LOCALHOST:8787", "127.0.0.1", "127.0.0.1:1", "127.1.2.3", "[::1]", "[::1]:8787"] {
            assert!(accepts(host, "10.0.0.5"), "{host}");
        }
        assert!(accepts("10.0.0.5:8787", "10.0.0.5") && accepts("[fd00::5]:8787", "fd00::5"));
        assert!(accepts("192.0.2.7:8787", "0.0.0.0") && accepts("[fd00::5]", "::"));
    }

    #[test]
    fn other_names_and_addresses_are_not() {
        for host in ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8787", "10.0.0.6", "localhost."]
        {
            assert!(!accepts(host, "10.0.0.5"), "{host}");
        }
        assert!(!accepts("evil.example", "0.0.0.0"));
    }

    #[test]
    fn exactly_one_well_formed_host_is_required() {
        let host = |hosts: &[&str], version| {
            let mut request = http::Request::get("/").version(version);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            host_of(&request.body(()).unwrap()).map(|host| host.map(|host| host.to_string()))
        };
        assert_eq!(host(&["relay.example:443"], Version::HTTP_11), Ok(Some("relay.example:443".to_owned())));
        assert_eq!(host(&[], Version::HTTP_10), Ok(None));
        for hosts in [&[][..], &["a.example", "a.example"], &[""], &["a b"], &["user@a.example"], &["a/b"]] {
            assert_eq!(host(hosts, Version::HTTP_11), Err(MalformedHost), "{hosts:?}");
        }
    }

    #[test]
    fn host_of_the_target_counts_before_the_header() {
        let request = http::Request::get("http://evil.example/rows").header(HOST, "localhost").body(()).unwrap();
        assert_eq!(host_of(&request).unwrap().unwrap().as_str(), "evil.example");
    }
}
