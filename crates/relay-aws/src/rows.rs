//! The handler behind both routes for rows, put together on AWS.

use std::collections::BTreeMap;

use relay::ambient::System;
use relay::clay_to_loops::ClayToLoops;
use relay::http_client::HttpClient;
use relay::loops_api::HttpLoops;
use relay::secrets::ClayToLoopsSecret;
use relay::settings::SettingFault;

use crate::lane::AwsLane;
use crate::ledger::Ledger;
use crate::loops_pace::LoopsPace;
use crate::managed_secret::ManagedSecret;
use crate::queue::SqsQueue;
use crate::settings::{
    CLAY_TO_LOOPS_SECRET_ARN, FunctionSettings, LEDGER_TABLE, LOOPS_DEAD_LETTER_URL, LOOPS_QUEUE_URL,
};
use crate::table::LedgerTable;

/// The handler of both functions.
pub type Rows = ClayToLoops<
    ManagedSecret<ClayToLoopsSecret, System>,
    HttpLoops<System>,
    AwsLane<System>,
    LoopsPace<System>,
    System,
>;

/// The handler, and the places that its first event will be sent to: Loops, and the ledger.
///
/// # Errors
/// Every fault of the settings.
pub fn handler(
    variables: &BTreeMap<String, String>,
    client: &HttpClient,
) -> Result<(Rows, [String; 2]), Vec<SettingFault>> {
    let needed = [CLAY_TO_LOOPS_SECRET_ARN, LOOPS_QUEUE_URL, LOOPS_DEAD_LETTER_URL, LEDGER_TABLE];
    let FunctionSettings { shared, account, needed } = FunctionSettings::read(variables, client, needed)?;
    let [secret, queue, dead_letters, table] = needed;
    let table = LedgerTable::new(account.dynamodb(), table);
    let handler = ClayToLoops {
        secrets: ManagedSecret::new(account.secrets_manager(), secret, shared.secret_ttl, System),
        loops: HttpLoops::new(client.clone(), &shared.loops_api_url, System),
        lane: AwsLane::new(SqsQueue::new(account.clone(), queue, dead_letters), Ledger::new(table.clone()), System),
        pace: LoopsPace::new(table, shared.loops_rate, System),
        ambient: System,
        contact_source: shared.contact_source,
    };
    Ok((handler, [shared.loops_api_url, account.dynamodb_origin()]))
}
