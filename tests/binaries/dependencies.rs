//! The dependencies of the functions: one TLS stack, one HTTP stack, and no C code but ring's.
//!
//! Dependencies of tests and of build scripts are not linked into a function, and are ignored.

use std::process::Command;

use relay_testkit::function_harness::{HTTP_FUNCTIONS, QUEUE_FUNCTIONS};

/// What the functions are built for.
const TARGETS: [&str; 2] = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"];

/// What must not be in a function, as `name` or `name version` begin.
const FORBIDDEN_PACKAGES: [(&str, &str); 9] = [
    ("aws-lc-rs v", "it gathers entropy from the processor's jitter; ring does not"),
    ("aws-lc-sys v", "it is the library under aws-lc-rs"),
    ("aws-lc-fips-sys v", "it is the library under aws-lc-rs"),
    ("openssl-sys v", "it is a second TLS stack, which reads the system's certificate authorities"),
    ("native-tls v", "it is a second TLS stack, which reads the system's certificate authorities"),
    ("hyper v0.14", "it is a second HTTP stack, which the SDK's default features bring along"),
    ("rustls v0.21", "it is a second TLS stack, which the SDK's default features bring along"),
    ("aws-smithy-http-client v", "it is the SDK's own HTTP client; the SDK is given the relay's"),
    ("aws-config v", "it looks for credentials in places that a function does not have"),
];

fn cargo_tree(arguments: &[&str]) -> Vec<String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(["tree", "--locked", "--offline", "--edges", "normal", "--prefix", "none"]);
    for function in HTTP_FUNCTIONS.into_iter().chain(QUEUE_FUNCTIONS) {
        command.args(["--package", function]);
    }
    let output = command.args(arguments).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut packages: Vec<String> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        // `name v1.2.3 (source) (*)`; the star marks a package that was listed before.
        .map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" "))
        .filter(|package| !package.is_empty())
        .collect();
    packages.sort();
    packages.dedup();
    packages
}

/// Returns the packages that depend on this one directly.
fn dependents_of(package: &str, target: &str) -> Vec<String> {
    let mut packages = cargo_tree(&["--target", target, "--invert", package, "--depth", "1"]);
    packages.retain(|dependent| !dependent.starts_with(&format!("{package} v")));
    packages.iter().map(|package| package.split(' ').next().unwrap().to_owned()).collect()
}

#[test]
fn functions_have_one_tls_stack_and_one_http_stack() {
    for target in TARGETS {
        let packages = cargo_tree(&["--target", target]);
        // Where these are not seen, nothing is.
        for expected in ["ring v", "rustls v0.23", "hyper v1", "webpki-roots v", "clay-delivery v"] {
            assert!(packages.iter().any(|package| package.starts_with(expected)), "no {expected}: {packages:?}");
        }
        for (forbidden, reason) in FORBIDDEN_PACKAGES {
            let found: Vec<&String> = packages.iter().filter(|package| package.starts_with(forbidden)).collect();
            assert!(found.is_empty(), "{target}: {found:?} is in a function, but {reason}");
        }
    }
}

/// reqwest's TLS feature depends on them. It never calls them with a finished configuration, which the check of the
/// certificate authorities proves; this test proves that no other package can.
#[test]
fn only_reqwest_depends_on_crates_that_read_ca_files() {
    for target in TARGETS {
        assert_eq!(dependents_of("openssl-probe", target), ["rustls-native-certs"]);
        assert_eq!(dependents_of("rustls-native-certs", target), ["rustls-platform-verifier"]);
        assert_eq!(dependents_of("rustls-platform-verifier", target), ["reqwest"]);
    }
}
