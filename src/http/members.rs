//! `/members/{id}/hostkey`: which host key a member shows, and trusting it.
//!
//! No tool does this: who is at the other end is for a person to say, and a
//! model must not be talked into it.

use http::StatusCode;
use serde::Deserialize;
use serde_json::json;

use super::problem::Problem;
use super::reply::{self, Response};
use crate::fleet::{Fleet, FleetError};
use crate::model::Principal;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    /// `SHA256:…` of the key that the person saw.
    fingerprint: String,
}

/// `GET`: the key that is trusted and the one that is shown now.
///
/// # Errors
/// 404 if there is no such member.
pub async fn host_key(
    fleet: &Fleet,
    principal: &Principal,
    member: &str,
) -> Result<Response, Problem> {
    let handle = fleet.roster().resolve(principal, Some(member), None).map_err(refused)?;
    let offered = fleet.roster().offered_key(&handle).await.map_err(refused)?;
    let member = handle.member();
    let shown = json!({
        "member_id": member.id,
        "name": member.name,
        "trusted": member.facts.fingerprint,
        "algorithm": offered.algorithm,
        "offered": offered.fingerprint,
    });
    Ok(reply::json(StatusCode::OK, &shown))
}

/// `POST`: trusts the key of this fingerprint, if it is the one that is shown.
///
/// # Errors
/// 404 if there is no such member; the reason if it shows another key.
pub async fn trust(
    fleet: &Fleet,
    principal: &Principal,
    member: &str,
    body: &[u8],
) -> Result<Response, Problem> {
    let asked: Asked =
        serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))?;
    let handle = fleet.roster().resolve(principal, Some(member), None).map_err(refused)?;
    let key = fleet.roster().trust(&handle, &asked.fingerprint).await.map_err(refused)?;
    let member = handle.member();
    tracing::info!(member = %member.name, fingerprint = %key.fingerprint, "trusted a host key");
    let shown = json!({
        "member_id": member.id,
        "name": member.name,
        "algorithm": key.algorithm,
        "trusted": key.fingerprint,
    });
    Ok(reply::json(StatusCode::OK, &shown))
}

fn refused(error: FleetError) -> Problem {
    Problem::of(error.code(), &error)
}
