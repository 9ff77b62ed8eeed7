//! The operations of Loops' API: what each takes from its request, and its answer.

use axum::extract::Query;
use axum::http::Uri;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::loops::error::LoopsError;
use crate::loops::state::{ReceivedCall, Team};
use crate::loops::transactional::list_published;
use crate::loops::validation::{self as rules, ContactId};

/// The body of a 200, or an error.
pub(crate) type LoopsResult = Result<Value, LoopsError>;

pub(crate) fn update(team: &mut Team, call: &ReceivedCall, _: &Uri) -> LoopsResult {
    let id = team.update(rules::parse_contact(&call.body)?)?;
    Ok(json!({"success": true, "id": id}))
}

pub(crate) fn create(team: &mut Team, call: &ReceivedCall, _: &Uri) -> LoopsResult {
    let id = team.create(rules::parse_contact(&call.body)?)?;
    Ok(json!({"success": true, "id": id}))
}

pub(crate) fn send_event(team: &mut Team, call: &ReceivedCall, _: &Uri) -> LoopsResult {
    team.send_event(call, Timestamp::now())?;
    Ok(json!({"success": true}))
}

pub(crate) fn send_email(team: &mut Team, call: &ReceivedCall, _: &Uri) -> LoopsResult {
    team.send_email(call, Timestamp::now())?;
    Ok(json!({"success": true}))
}

pub(crate) fn transactional(_: &mut Team, _: &ReceivedCall, uri: &Uri) -> LoopsResult {
    let LoopsQuery { per_page, cursor, .. } = LoopsQuery::parse(uri)?;
    list_published(per_page.as_deref(), cursor.as_deref())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoopsQuery {
    email: Option<String>,
    user_id: Option<String>,
    list: Option<String>,
    per_page: Option<String>,
    cursor: Option<String>,
}

impl LoopsQuery {
    fn parse(uri: &Uri) -> Result<Self, LoopsError> {
        let query = Query::try_from_uri(uri).map_err(|rejection| LoopsError::bad_request(rejection.body_text()))?;
        Ok(query.0)
    }

    fn contact_id(uri: &Uri) -> Result<ContactId, LoopsError> {
        let Self { email, user_id, .. } = Self::parse(uri)?;
        ContactId::new(email, user_id)
    }
}

pub(crate) fn find(team: &mut Team, _: &ReceivedCall, uri: &Uri) -> LoopsResult {
    Ok(team.find(&LoopsQuery::contact_id(uri)?))
}

pub(crate) fn delete(team: &mut Team, call: &ReceivedCall, _: &Uri) -> LoopsResult {
    team.delete(&rules::parse_delete(&call.body)?)?;
    Ok(json!({"success": true, "message": "Contact deleted."}))
}

pub(crate) fn suppression(team: &mut Team, _: &ReceivedCall, uri: &Uri) -> LoopsResult {
    team.suppression(&LoopsQuery::contact_id(uri)?)
}

pub(crate) fn remove_suppression(team: &mut Team, _: &ReceivedCall, uri: &Uri) -> LoopsResult {
    team.remove_suppression(&LoopsQuery::contact_id(uri)?)
}

pub(crate) fn properties(team: &mut Team, _: &ReceivedCall, uri: &Uri) -> LoopsResult {
    let query = LoopsQuery::parse(uri)?;
    Ok(team.properties.list(&team.contacts, query.list.as_deref() == Some("custom")))
}

pub(crate) fn create_property(team: &mut Team, call: &ReceivedCall, _: &Uri) -> LoopsResult {
    team.properties.create(rules::parse_new_property(&call.body)?)?;
    Ok(json!({"success": true}))
}

/// Returns the team's name (Loops, API reference: API key).
pub(crate) fn api_key(_: &mut Team, _: &ReceivedCall, _: &Uri) -> LoopsResult {
    Ok(json!({"success": true, "teamName": "Simulated team"}))
}

/// Returns one list of each kind, as in Loops' examples (Loops, API reference: list mailing lists).
pub(crate) fn lists(_: &mut Team, _: &ReceivedCall, _: &Uri) -> LoopsResult {
    Ok(json!([
        {
            "id": "clm2k8j4h6g0f8d6s4a2b0z8",
            "name": "Product updates",
            "description": "Monthly product news and release notes",
            "isPublic": true,
        },
        {"id": "cm06f5v0e45nf0ml5754o9cix", "name": "Beta testers", "description": null, "isPublic": false},
    ]))
}
