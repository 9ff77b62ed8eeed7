//! No function reads the system's certificate authorities, which would be some two hundred files at each start.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use relay_testkit::eventually;
use relay_testkit::function_harness::{HTTP_FUNCTIONS, QUEUE_FUNCTIONS};
use tempfile::TempDir;

use crate::{function_binary, load_harness, read_file};

/// Paths of certificate authorities on Amazon Linux, on Debian, and those that `openssl-probe` tries on Linux.
const CA_PATHS: [&str; 14] = [
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
struct TracedProgram {
    folder: TempDir,
}

impl TracedProgram {
    fn new(program: &Path) -> Self {
        let tracer = Command::new("strace").arg("-V").output();
        assert!(tracer.is_ok_and(|tracer| tracer.status.success()), "this needs strace: apt-get install strace");
        let folder = TempDir::new().unwrap();
        let traced = Self { folder };
        // The tracer stands aside (`-D`), so that the process that is started is the program itself. `%file` is every
        // call with a path, those that only ask whether it exists included.
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
        // Every program loads its libraries: a trace without that has recorded nothing.
        assert!(paths.iter().any(|path| path == "/etc/ld.so.cache"), "the trace shows nothing: {trace}");
        paths
    }
}

/// The texts in quotes of a line of the trace.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('"').skip(1).step_by(2)
}

/// Those of the paths under which certificate authorities are, or that `SSL_CERT_FILE` and `SSL_CERT_DIR` name.
fn ca_paths_among<'a>(paths: &'a [String], environment: &BTreeMap<String, String>) -> Vec<&'a String> {
    let named = ["SSL_CERT_FILE", "SSL_CERT_DIR"].into_iter().filter_map(|name| environment.get(name).map(Path::new));
    let ca_paths: Vec<&Path> = CA_PATHS.iter().map(Path::new).chain(named).collect();
    paths.iter().filter(|path| ca_paths.iter().any(|ca_path| Path::new(path).starts_with(ca_path))).collect()
}

#[tokio::test]
async fn functions_read_no_ca_files_at_start_or_on_an_event() {
    let harness = load_harness().await;
    for function in HTTP_FUNCTIONS.into_iter().chain(QUEUE_FUNCTIONS) {
        let environment = harness.environment(function);
        assert!(
            environment.contains_key("SSL_CERT_FILE"),
            "the template should give {function} a file to fall back to"
        );
        let traced = TracedProgram::new(&function_binary(function));
        let mut sandbox = harness.start_function(function, &traced.script(), &environment, &traced.log()).await;
        harness.invoke(function, &mut sandbox).await;
        sandbox.kill().await;
        let paths = traced.paths().await;
        let found = ca_paths_among(&paths, &environment);
        assert!(found.is_empty(), "{function} looks for certificate authorities: {found:?}");
        assert!(
            read_file(&traced.log()).is_empty() || !read_file(&traced.log()).contains("\"ERROR\""),
            "{}",
            read_file(&traced.log())
        );
    }
}

/// Runs a helper that does read them, in this environment, and returns the paths that the guard finds.
async fn ca_paths_read_by_helper(environment: &BTreeMap<String, String>) -> Vec<String> {
    let traced = TracedProgram::new(Path::new(env!("CARGO_BIN_EXE_reads-ca-files")));
    let status =
        Command::new(traced.script()).env_clear().envs(environment).env("PATH", "/usr/bin:/bin").status().unwrap();
    assert!(status.success());
    let paths = traced.paths().await;
    ca_paths_among(&paths, environment).into_iter().cloned().collect()
}

#[tokio::test]
async fn guard_detects_a_program_that_reads_the_ca_folder() {
    let found = ca_paths_read_by_helper(&BTreeMap::new()).await;
    assert!(!found.is_empty());
}

#[tokio::test]
async fn guard_detects_a_program_that_reads_the_named_ca_file() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("authorities.pem").display().to_string();
    std::fs::write(&file, "").unwrap();
    let found = ca_paths_read_by_helper(&BTreeMap::from([("SSL_CERT_FILE".to_owned(), file.clone())])).await;
    assert!(found.contains(&file), "{found:?}");
}
