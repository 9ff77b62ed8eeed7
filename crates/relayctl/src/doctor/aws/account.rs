//! The AWS account.

use aws_sdk_sts::Client;
use relay_doctor::check::Check;
use relay_doctor::finding::Finding;

use crate::aws::session::Session;
use crate::error::Error;

/// `account`: AWS accepts the credentials, and names their account.
pub(crate) async fn check_account(session: &Session) -> Result<Finding, Error> {
    let call = session.call("sts:GetCallerIdentity", "this account");
    let caller = Client::new(session.clients().config())
        .get_caller_identity()
        .send()
        .await
        .map_err(|error| call.to_error(&error))?;
    let account = caller.account.unwrap_or_else(|| "unknown".to_owned());
    Ok(Check::Account.ok(format!("{account} in {}", session.region())))
}
