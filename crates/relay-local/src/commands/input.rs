//! Input of a command: a file, or standard input.

use std::io;
use std::path::PathBuf;

use crate::commands::CommandError;

/// Path of a file; `-` is standard input.
#[derive(Debug, Clone)]
pub(crate) struct Input(PathBuf);

impl From<&str> for Input {
    fn from(path: &str) -> Self {
        Self(PathBuf::from(path))
    }
}

impl Input {
    pub(crate) fn read(&self) -> Result<Vec<u8>, CommandError> {
        let bytes = if self.0.as_os_str() == "-" {
            let mut bytes = Vec::new();
            io::Read::read_to_end(&mut io::stdin().lock(), &mut bytes).map(|_| bytes)
        } else {
            std::fs::read(&self.0)
        };
        bytes.map_err(|detail| CommandError::Input { path: self.0.display().to_string(), detail })
    }
}
