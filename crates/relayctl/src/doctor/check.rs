//! The checks of `doctor`, by their names. The runbook has a section for each.

use std::fmt;

use serde::{Serialize, Serializer};

/// Where the runbook is, as the descriptions of the alarms have it.
const RUNBOOK: &str = "https://github.com/loops-clay-relay/loops-clay-relay/blob/main/docs/runbook.md";
/// Where it is in the repository.
const REPOSITORY_PATH: &str = "docs/runbook.md";

/// Makes the checks, the list of them and their names out of one list.
macro_rules! checks {
    ($($(#[$doc:meta])* $check:ident => $name:literal,)+) => {
        /// A check.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Check {
            $($(#[$doc])* $check,)+
        }

        impl Check {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$check,)+];

            /// Its name: what its line begins with.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$check => $name,)+
                }
            }
        }
    };
}

checks! {
    /// Whose account it is.
    Account => "account",
    /// The stack is deployed as a whole.
    Stack => "stack",
    /// The stack says where everything is.
    Outputs => "outputs",
    /// The functions are of this program's version.
    Versions => "versions",
    /// The secret of the direction to Clay.
    SecretLoopsToClay => "secret-loops-to-clay",
    /// The secret of the direction to Loops.
    SecretClayToLoops => "secret-clay-to-loops",
    /// Loops takes the API key.
    LoopsKey => "loops-key",
    /// The front door answers.
    Endpoint => "endpoint",
    /// The clocks agree.
    Clock => "clock",
    /// What Loops signs gets in.
    SignedWebhook => "signed-webhook",
    /// What somebody else signs does not.
    ForgedWebhook => "forged-webhook",
    /// Who has no token does not get in.
    WrongToken => "wrong-token",
    /// Who has one does.
    RelayToken => "relay-token",
    /// A row gets to Clay.
    SendToClay => "send-to-clay",
    /// A row gets to Loops.
    SendToLoops => "send-to-loops",
    /// What waits for Clay.
    ClayQueue => "clay-queue",
    /// Who takes it.
    ClayWorker => "clay-worker",
    /// What Clay will not have.
    ClayDeadLetters => "clay-dead-letters",
    /// What waits for Loops.
    LoopsQueue => "loops-queue",
    /// Who takes it.
    LoopsWorker => "loops-worker",
    /// What Loops will not have.
    LoopsDeadLetters => "loops-dead-letters",
    /// How much each Clay webhook has taken.
    ClayWebhookUsage => "clay-webhook-use",
    /// The last delivery.
    LastDelivery => "last-delivery",
    /// What the functions logged as an error.
    FunctionErrors => "function-errors",
    /// What rings.
    Alarms => "alarms",
    /// The data folder is its owner's alone.
    Folder => "folder",
    /// A relay runs on it.
    Running => "running",
    /// Which ends are real.
    Destinations => "far-ends",
    /// The store can be read.
    Store => "store",
    /// What a person has paused.
    Paused => "paused",
    /// What waits in the store.
    Waiting => "waiting",
    /// What was given up in the store.
    DeadLetters => "dead-letters",
}

impl Check {
    /// Its section of the runbook, as a link.
    #[must_use]
    pub fn runbook_url(self) -> String {
        format!("{RUNBOOK}#{}", self.anchor())
    }

    /// Its section of the runbook, as it is found in the repository.
    #[must_use]
    pub fn runbook_path(self) -> String {
        format!("{REPOSITORY_PATH}#{}", self.anchor())
    }

    /// The anchor. Alarms have sections of their own, some under the same name.
    fn anchor(self) -> String {
        format!("doctor-{}", self.name())
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl Serialize for Check {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runbook_path_and_url_share_the_same_anchor() {
        assert_eq!(Check::ClayQueue.runbook_path(), "docs/runbook.md#doctor-clay-queue");
        assert!(Check::ClayQueue.runbook_url().ends_with(&format!("/blob/main/{}", Check::ClayQueue.runbook_path())));
    }

    #[test]
    fn template_links_to_the_same_runbook() {
        assert!(include_str!("../../../../template.yaml").contains(&format!("{RUNBOOK}#clay-held")));
    }

    #[test]
    fn check_names_are_unique() {
        let names: std::collections::BTreeSet<_> = Check::ALL.iter().map(|check| check.name()).collect();
        assert_eq!(names.len(), Check::ALL.len());
    }
}
