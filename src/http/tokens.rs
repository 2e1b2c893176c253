//! `/tokens`: who else may enter. Only the owner gets here.

use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::{Gate, Secret, digest};
use super::problem::Problem;
use super::reply::{self, Response};
use crate::mcp;
use crate::model::{ErrorCode, Project, Scope, Timestamp, ToolSets};
use crate::store::{Store, StoreError, TokenRow, Tx};

/// Far more than anybody keeps track of.
const MOST: usize = 1000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    name: Project,
    #[serde(default)]
    projects: Vec<Project>,
    /// Instead of naming any: every project, also those to come.
    #[serde(default)]
    all_projects: bool,
    #[serde(default)]
    read_only: bool,
    /// It may call no other tools.
    #[serde(default)]
    tools: Option<ToolSets>,
}

/// Lets everybody in who has a token in the database.
///
/// # Errors
/// If it cannot be read.
pub async fn load(store: &Store, gate: &Gate) -> Result<(), StoreError> {
    for token in store.read(|snapshot| snapshot.tokens()).await? {
        gate.admit(token.digest, token.principal());
    }
    Ok(())
}

/// `POST /tokens`: makes a token and shows it, this once.
///
/// # Errors
/// 409 if there is one of this name.
pub async fn create(store: &Store, gate: &Gate, body: &[u8]) -> Result<Response, Problem> {
    let asked: Asked =
        serde_json::from_slice(body).map_err(|error| Problem::invalid(error.to_string()))?;
    if asked.all_projects && !asked.projects.is_empty() {
        return Err(Problem::invalid("all_projects and projects exclude each other"));
    }
    let projects = match asked.all_projects {
        true => Vec::new(),
        false if asked.projects.is_empty() => vec![Project::default_project()],
        false => asked.projects,
    };
    let tools = asked.tools.unwrap_or(ToolSets::ALL);
    let scopes = scopes(asked.read_only, tools);
    let secret = Secret::generate()
        .map_err(|_| Problem::new(ErrorCode::Unavailable, "the system has no random numbers"))?;
    let row = TokenRow {
        name: asked.name,
        digest: digest(secret.reveal()),
        projects,
        scopes,
        tools,
        created: Timestamp::now(),
    };
    if store.read(|snapshot| snapshot.tokens()).await.map_err(refused)?.len() >= MOST {
        let message = "there are too many tokens; revoke some first";
        return Err(Problem::new(ErrorCode::Exhausted, message));
    }
    let kept = row.clone();
    let add = move |tx: &mut Tx<'_>| tx.add_token(&kept);
    // Before anybody can revoke it: whoever finds the row finds it let in.
    gate.admit(row.digest, row.principal());
    let added = store.write(add).await;
    if !matches!(added, Ok(true)) {
        gate.withdraw(&row.digest);
    }
    if !added.map_err(refused)? {
        let message = format!("there is a token named '{}'; revoke it first", row.name);
        return Err(Problem::new(ErrorCode::Conflict, message));
    }
    tracing::info!(name = %row.name, "made a token");
    let mut shown = view(&row);
    shown["token"] = secret.reveal().into();
    Ok(reply::json(StatusCode::CREATED, &shown))
}

/// `GET /tokens`: their names and what they may do.
///
/// # Errors
/// If the database cannot be read.
pub async fn list(store: &Store) -> Result<Response, Problem> {
    let rows = store.read(|snapshot| snapshot.tokens()).await.map_err(refused)?;
    let tokens: Vec<_> = rows.iter().map(view).collect();
    Ok(reply::json(StatusCode::OK, &json!({ "tokens": tokens })))
}

/// `DELETE /tokens/{name}`: what it opened ends at once.
///
/// # Errors
/// 404 if there is none of this name.
pub async fn revoke(store: &Store, gate: &Gate, name: &str) -> Result<Response, Problem> {
    let wanted = name.to_owned();
    let remove = move |tx: &mut Tx<'_>| tx.remove_token(&wanted);
    if !store.write(remove).await.map_err(refused)? {
        return Err(Problem::new(ErrorCode::NotFound, "there is no such token"));
    }
    gate.expel(&format!("token/{name}"));
    tracing::info!(name, "revoked a token");
    Ok(reply::whole(StatusCode::NO_CONTENT, "application/json", Bytes::new()))
}

/// What no tool of its sets needs, it may not do on other ways either: a token
/// that cannot call `execute_command` feeds no command its input.
fn scopes(read_only: bool, tools: ToolSets) -> Vec<Scope> {
    let needed = mcp::scopes_of(tools);
    let more = [Scope::Publish, Scope::Run].into_iter();
    let more = more.filter(|scope| !read_only && needed.contains(scope));
    std::iter::once(Scope::Read).chain(more).collect()
}

fn view(row: &TokenRow) -> Value {
    json!({
        "name": row.name,
        "projects": row.projects,
        "scopes": row.scopes,
        "tools": row.tools,
        "created": row.created.to_string(),
    })
}

fn refused(error: StoreError) -> Problem {
    Problem::of(error.code(), &error)
}
