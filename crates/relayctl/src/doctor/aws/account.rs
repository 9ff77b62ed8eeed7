//! Whose account it is.

use crate::aws::session::Session;
use crate::doctor::check::Check;
use crate::doctor::finding::Finding;

/// `account`: the credentials are good, and for this account.
pub async fn check_account(session: &Session) -> Finding {
    let call = session.call("sts:GetCallerIdentity", "this account");
    match session.sts().get_caller_identity().send().await {
        Ok(caller) => {
            let account = caller.account.unwrap_or_else(|| "unknown".to_owned());
            Finding::ok(Check::Account, format!("{account} in {}", session.region()))
        }
        Err(error) => Finding::from_error(Check::Account, &call.to_error(&error).into()),
    }
}
