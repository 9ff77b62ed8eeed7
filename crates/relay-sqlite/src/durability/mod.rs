//! How changes get to the disk, and stay there.

pub(crate) mod change;
pub(crate) mod store_files;
pub(crate) mod write_ahead_log;
pub(crate) mod writer;
