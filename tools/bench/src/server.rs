//! A server under test: a process, started in a folder of its own, and what it costs.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

/// How long a server may take to start or to stop.
const MAX_WAIT: Duration = Duration::from_secs(60);
const POLL_INTERVAL: Duration = Duration::from_millis(2);
/// Clock ticks a second in `/proc/PID/stat`, the same on every Linux (proc(5), `sysconf(_SC_CLK_TCK)`).
const TICKS_PER_SECOND: u64 = 100;

/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pid: u32,
    address: SocketAddr,
}

/// Returns a port that is free now.
pub(crate) fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

impl Server {
    /// Starts a program that will listen on this port of the loopback, and waits until it does. What it prints is in the
    /// file `log` of the folder.
    pub(crate) async fn start(mut command: Command, folder: &Path, port: u16) -> io::Result<Self> {
        let log = File::options().create(true).append(true).open(folder.join("log"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", command.as_std().get_program().display())))?;
        let pid = child.id().ok_or_else(|| io::Error::other("the server has ended"))?;
        let mut server = Self { child, pid, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) };
        let listening = async {
            while TcpStream::connect(server.address).await.is_err() {
                if server.child.try_wait()?.is_some() {
                    return Err(io::Error::other(format!("the server has ended: see {}/log", folder.display())));
                }
                sleep(POLL_INTERVAL).await;
            }
            Ok(())
        };
        timeout(MAX_WAIT, listening).await??;
        Ok(server)
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Processor time of all its threads so far, in the program and in the kernel (proc(5): `utime` and `stime`).
    pub(crate) fn cpu_time(&self) -> io::Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        // What follows the name, which is in parentheses and may hold any: the state is the third field of all.
        let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND))
    }

    /// Its peak memory so far, in bytes (proc(5): `VmHWM`).
    pub(crate) fn peak_memory(&self) -> io::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        peak.map(|kibibytes: u64| kibibytes * 1024).ok_or_else(|| io::Error::other("the peak memory is not known"))
    }

    /// Stops it as its user does, and waits until it has ended.
    pub(crate) async fn stop(mut self) -> io::Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        kill_process(pid.ok_or_else(|| io::Error::other("no such process"))?, Signal::TERM)?;
        timeout(MAX_WAIT, self.child.wait()).await??;
        Ok(())
    }
}
