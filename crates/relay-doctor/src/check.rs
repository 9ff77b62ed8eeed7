//! The names of the checks of `doctor`. The runbook has a section for each, in this order.

use serde::Serialize;
use strum::{Display, IntoStaticStr, VariantArray};

/// URL of the runbook, as the descriptions of the alarms have it.
const RUNBOOK_URL: &str = "https://github.com/loops-clay-relay/loops-clay-relay/blob/main/docs/runbook.md";
const RUNBOOK_PATH: &str = "docs/runbook.md";

/// A check. Its name begins its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Display, IntoStaticStr, VariantArray, Serialize)]
#[serde(into = "&'static str")]
#[strum(serialize_all = "kebab-case")]
#[expect(missing_docs, reason = "the runbook has a section for each")]
pub enum Check {
    Account,
    Stack,
    Outputs,
    Versions,
    SecretLoopsToClay,
    SecretClayToLoops,
    LoopsKey,
    Endpoint,
    Clock,
    SignedWebhook,
    ForgedWebhook,
    WrongToken,
    RelayToken,
    SendToClay,
    SendToLoops,
    ClayQueue,
    ClayWorker,
    ClayDeadLetters,
    LoopsQueue,
    LoopsWorker,
    LoopsDeadLetters,
    #[strum(serialize = "clay-webhook-use")]
    ClayWebhookUsage,
    LastDelivery,
    FunctionErrors,
    Alarms,
    #[strum(serialize = "folder")]
    FolderPermissions,
    Running,
    #[strum(serialize = "far-ends")]
    Destinations,
    Store,
    Paused,
    Waiting,
    DeadLetters,
}

impl Check {
    /// Returns the URL of its section of the runbook.
    pub fn runbook_url(self) -> String {
        format!("{RUNBOOK_URL}#{}", self.anchor())
    }

    /// Returns the path of its section of the runbook in the repository.
    pub fn runbook_path(self) -> String {
        format!("{RUNBOOK_PATH}#{}", self.anchor())
    }

    /// Alarms have sections of their own, some under the same name.
    fn anchor(self) -> String {
        format!("doctor-{self}")
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
        assert!(include_str!("../../../template.yaml").contains(&format!("{RUNBOOK_URL}#clay-held")));
    }

    #[test]
    fn check_names_are_unique() {
        let names: std::collections::BTreeSet<&str> = Check::VARIANTS.iter().map(Into::into).collect();
        assert_eq!(names.len(), Check::VARIANTS.len());
    }
}
