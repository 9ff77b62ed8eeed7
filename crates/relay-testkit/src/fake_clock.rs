//! A clock of their own for programs under test, which can be moved while they run (libfaketime, preloaded).

use std::path::PathBuf;

use tempfile::TempDir;

/// Where Debian's package `faketime` has its library, for each kind of processor.
const LIBFAKETIME_PATHS: [&str; 2] =
    ["/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1", "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1"];

/// Whether timers move with the time of day. On Linux they stand still while a machine sleeps, and go on while a
/// process is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimerBehavior {
    /// They know nothing of a move.
    Unaffected,
    /// They move as well.
    Shifted,
}

/// The clock.
#[derive(Debug)]
pub struct FakeClock {
    folder: TempDir,
    timers: TimerBehavior,
}

impl FakeClock {
    /// Creates a clock that shows the real time.
    ///
    /// # Panics
    /// When its folder cannot be created.
    #[must_use]
    pub fn new(timers: TimerBehavior) -> Self {
        let clock = Self { folder: TempDir::new().unwrap_or_else(|error| panic!("{error}")), timers };
        clock.set_offset(0);
        clock
    }

    /// Moves it to so many seconds ahead of the time.
    ///
    /// # Panics
    /// When it cannot be moved.
    pub fn set_offset(&self, offset_secs: i64) {
        // Atomic, because libfaketime reads the file at every call.
        let new = self.folder.path().join("new");
        std::fs::write(&new, format!("{offset_secs:+}\n")).unwrap_or_else(|error| panic!("{error}"));
        std::fs::rename(new, self.file()).unwrap_or_else(|error| panic!("{error}"));
    }

    /// What a program's environment needs to go by it.
    ///
    /// # Panics
    /// When the library is not installed.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String)> {
        let library = LIBFAKETIME_PATHS.into_iter().find(|library| std::path::Path::new(library).exists());
        let library = library.unwrap_or_else(|| {
            panic!("libfaketime is missing, by which this test moves a clock: install Debian's package `faketime`")
        });
        let timers = if self.timers == TimerBehavior::Unaffected { "1" } else { "0" };
        let file = self.file().display().to_string();
        let variables = [
            ("LD_PRELOAD", library),
            ("FAKETIME_TIMESTAMP_FILE", file.as_str()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", timers),
        ];
        variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }
}
