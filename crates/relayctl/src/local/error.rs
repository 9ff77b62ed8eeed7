//! The exit code of an error of a relay on this machine.

use relay_doctor::local_error::LocalError;

use crate::exit::ExitStatus;
use crate::explain::{Explain, Explanation};

impl Explain for LocalError {
    fn explain(&self) -> Explanation {
        let exit_status = if matches!(self, Self::Setting(_)) { ExitStatus::Usage } else { ExitStatus::Unavailable };
        let (problem, remedy) = self.parts();
        Explanation { exit_status, problem, remedy }
    }
}
