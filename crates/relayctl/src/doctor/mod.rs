//! What `doctor` adds to the checks of `relay_doctor`: those of a stack (`aws::examine`), and the report.

pub(crate) mod aws;
pub(crate) mod report;
pub(crate) mod secrets;
