//! No function looks at the system's certificate authorities: it would read some two hundred files at each start.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use relay_testkit::eventually;
use relay_testkit::function_harness::{HTTP_FUNCTIONS, QUEUE_FUNCTIONS};
use tempfile::TempDir;

use crate::{binary, stage, text};

/// Where certificate authorities are, on Amazon Linux, Debian and wherever else `openssl-probe` looks on Linux.
const AUTHORITIES: [&str; 14] = [
    "/etc/ssl",
    "/etc/pki",
    "/etc/certs",
    "/etc/openssl",
    "/etc/ca-certificates",
    "/usr/lib/ssl",
    "/usr/ssl",
    "/usr/share/ssl",
    "/usr/share/ca-certificates",
    "/usr/share/pki",
    "/usr/local/ssl",
    "/usr/local/openssl",
    "/usr/local/etc/openssl",
    "/var/ssl",
];

/// A program that writes down each file that it touches.
struct Traced {
    folder: TempDir,
}

impl Traced {
    fn new(program: &Path) -> Self {
        let tracer = Command::new("strace").arg("-V").output();
        assert!(tracer.is_ok_and(|tracer| tracer.status.success()), "this needs strace: apt-get install strace");
        let folder = TempDir::new().unwrap();
        let traced = Self { folder };
        // The tracer stands aside (`-D`), so that the process that is started is the program itself. `%file` is every call
        // with a path, those that only ask whether it exists included.
        let script = format!(
            "#!/bin/sh\nexec strace -D -f -q -s 4096 -e trace=%file,open,openat,openat2 -o '{}' '{}'\n",
            traced.trace().display(),
            program.display()
        );
        std::fs::write(traced.script(), script).unwrap();
        std::fs::set_permissions(traced.script(), std::fs::Permissions::from_mode(0o755)).unwrap();
        traced
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// Every path that was touched, once the program has ended.
    async fn paths(&self) -> Vec<String> {
        let trace = eventually("the end of the trace", async || {
            let trace = std::fs::read_to_string(self.trace()).ok()?;
            trace.lines().last().is_some_and(|line| line.contains("+++ ")).then_some(trace)
        })
        .await;
        let paths: Vec<String> = trace.lines().flat_map(quoted).map(str::to_owned).collect();
        // Every program looks for its libraries: where not even that is seen, nothing is.
        assert!(paths.iter().any(|path| path == "/etc/ld.so.cache"), "the trace shows nothing: {trace}");
        paths
    }
}

/// The texts in quotes of a line of the trace.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Those of the paths under which certificate authorities are, or that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn authorities<'a>(paths: &'a [String], environment: &BTreeMap<String, String>) -> Vec<&'a String> {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(|name| environment.get(name).map(Path::new));
    let all: Vec<&Path> = AUTHORITIES.iter().map(Path::new).chain(named).collect();
    paths.iter().filter(|path| all.iter().any(|authority| Path::new(path).starts_with(authority))).collect()
}

#[tokio::test]
async fn no_function_reads_certificate_authorities_at_its_start_or_for_an_event() {
    let stage = stage().await;
    for function in HTTP_FUNCTIONS.into_iter().chain(QUEUE_FUNCTIONS) {
        let environment = stage.environment(function);
        assert!(
            environment.contains_key("SSL_CERT_FILE"),
            "the template should give {function} a file to fall back to"
        );
        let traced = Traced::new(&binary(function));
        let mut sandbox = stage.start_function(function, &traced.script(), &environment, &traced.log()).await;
        stage.invoke(function, &mut sandbox).await;
        sandbox.kill().await;
        let paths = traced.paths().await;
        let found = authorities(&paths, &environment);
        assert!(found.is_empty(), "{function} looks for certificate authorities: {found:?}");
        assert!(
            text(&traced.log()).is_empty() || !text(&traced.log()).contains("\"ERROR\""),
            "{}",
            text(&traced.log())
        );
    }
}

/// Runs what does read them, with this environment, and gives what the guard finds.
async fn found_of_a_reader(environment: &BTreeMap<String, String>) -> Vec<String> {
    let traced = Traced::new(Path::new(env!("CARGO_BIN_EXE_reads-ca-files")));
    let status =
        Command::new(traced.script()).env_clear().envs(environment).env("PATH", "/usr/bin:/bin").status().unwrap();
    assert!(status.success());
    let paths = traced.paths().await;
    authorities(&paths, environment).into_iter().cloned().collect()
}

#[tokio::test]
async fn the_guard_sees_a_program_that_reads_the_folder_of_authorities() {
    let found = found_of_a_reader(&BTreeMap::new()).await;
    assert!(!found.is_empty());
}

#[tokio::test]
async fn the_guard_sees_a_program_that_reads_the_file_that_is_named() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("authorities.pem").display().to_string();
    std::fs::write(&file, "").unwrap();
    let found = found_of_a_reader(&BTreeMap::from([("SSL_CERT_FILE".to_owned(), file.clone())])).await;
    assert!(found.contains(&file), "{found:?}");
}
