//! What a process has cost so far, as Linux counts it: processor time and memory, never the clock on the wall.

use std::path::PathBuf;
use std::time::Duration;

use crate::eventually;

/// What a process has cost so far.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// Processor time of all its threads, in the program and in the kernel.
    pub cpu: Duration,
    /// Peak memory (`VmHWM`), in bytes.
    pub peak_memory: u64,
}

impl Cost {
    /// Reads it, once the process stands still: a process that still runs has no sum yet.
    ///
    /// # Panics
    /// When there is no such process, or it does not stop.
    pub async fn measure_stopped(pid: u32) -> Self {
        let stat = PathBuf::from(format!("/proc/{pid}/stat"));
        eventually("the process stands still", async || {
            let text = std::fs::read_to_string(&stat).ok()?;
            // The state is what follows the name, which is in parentheses and may hold any.
            let state = text.rsplit_once(')')?.1.trim_start().chars().next()?;
            (state == 'T' || state == 't').then_some(())
        })
        .await;
        Self { cpu: cpu_time(pid), peak_memory: peak_memory_bytes(pid) }
    }
}

/// The sum over the threads. One that has ended is not in it, but none of the relay's ends within a few seconds.
fn cpu_time(pid: u32) -> Duration {
    let tasks = format!("/proc/{pid}/task");
    let tasks = std::fs::read_dir(&tasks).unwrap_or_else(|error| panic!("{tasks}: {error}"));
    let nanoseconds = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(nanoseconds.sum())
}

fn peak_memory_bytes(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let kilobytes =
        text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    let kilobytes: u64 = kilobytes.unwrap_or_else(|| panic!("{path} has no peak"));
    kilobytes * 1024
}

/// The value in the middle.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn median<T: Copy + Ord>(values: &[T]) -> T {
    let mut values = values.to_vec();
    values.sort_unstable();
    *values.get(values.len() / 2).unwrap_or_else(|| panic!("there are no values"))
}
