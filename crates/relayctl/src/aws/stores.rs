//! What a stack stores: its ledger, queues and dead letters, and the routes in its secret.

use relay_aws::admin::dead_letters::StackDeadLetters;
use relay_aws::admin::{QueueUrls, StackAdmin};
use relay_aws::ledger::table::LedgerTable;
use relay_core::delivery::Direction;
use serde_json::Value;

use crate::aws::error::Error;
use crate::aws::stack::StackOutput;
use crate::target::StackTarget;

impl StackTarget {
    /// Returns the ledger's table.
    pub(crate) fn ledger(&self) -> Result<LedgerTable, Error> {
        let table = self.stack.output(StackOutput::LedgerTableName)?;
        Ok(LedgerTable::new(self.session.clients().dynamodb(), table.to_owned()))
    }

    /// Returns the deliveries and queues.
    pub(crate) fn admin(&self) -> Result<StackAdmin, Error> {
        Ok(StackAdmin {
            ledger: self.ledger()?,
            sqs: self.session.clients().sqs(),
            to_clay: self.queue_urls(Direction::LoopsToClay)?,
            to_loops: self.queue_urls(Direction::ClayToLoops)?,
        })
    }

    /// Returns the dead letters of one direction, or of both.
    pub(crate) fn dead_letters(&self, direction: Option<Direction>) -> Result<StackDeadLetters, Error> {
        Ok(StackDeadLetters::new(self.admin()?, direction))
    }

    fn queue_urls(&self, direction: Direction) -> Result<QueueUrls, Error> {
        let (queue, dead_letters) = StackOutput::queues(direction);
        let url = |output| self.stack.output(output).map(str::to_owned);
        Ok(QueueUrls { queue: url(queue)?, dead_letters: url(dead_letters)? })
    }

    /// Reads the names of the routes from the secret. Its other fields are dropped.
    pub(crate) async fn route_names(&self) -> Result<Vec<String>, Error> {
        let name = self.stack.output(StackOutput::LoopsToClaySecretName)?;
        let call = self.session.call("secretsmanager:GetSecretValue", name);
        let response = self.session.secrets_manager().get_secret_value().secret_id(name).send().await;
        let response = response.map_err(|error| call.to_error(&error))?;
        let document: Value = serde_json::from_str(response.secret_string().unwrap_or_default()).unwrap_or_default();
        let routes = document.get("clay_routes").and_then(Value::as_array).into_iter().flatten();
        Ok(routes.filter_map(|route| route.get("name")?.as_str().map(str::to_owned)).collect())
    }
}
