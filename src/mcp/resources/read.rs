//! Reading a resource.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Noun, Uri};
use crate::bus::Start;
use crate::fleet::FleetError;
use crate::mcp::page::{self, Page};
use crate::mcp::tools::{Deps, Failure};
use crate::model::{Member, Principal, TaskId};
use crate::wire::tools::TaskView;

/// Tasks and events that one content shows at most.
const MOST_TASKS: usize = 100;
const MOST_EVENTS: usize = 100;

/// Why a resource was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("there is no resource '{0}'; resources/list and its templates show what there is")]
    Missing(String),
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// The content of `uri` as JSON.
///
/// # Errors
/// [`ReadError::Missing`] if there is no such resource for `principal`, a bad
/// cursor, or why it could not be read.
pub async fn read(deps: &Arc<Deps>, principal: &Principal, uri: &str) -> Result<Value, ReadError> {
    let missing = || ReadError::Missing(uri.chars().take(256).collect());
    let parsed = Uri::parse(uri).ok_or_else(missing)?;
    // Read before the state: what happens in between is told again, never lost.
    let head = deps.bus.head();
    let mut content = Map::new();
    match &parsed.noun {
        Noun::Events => {}
        Noun::Tasks => {
            let tasks =
                deps.fleet.tasks(principal, &[], MOST_TASKS).await.map_err(Failure::from)?;
            content.insert(String::from("tasks"), views(tasks.iter().map(TaskView::from))?);
        }
        Noun::Task(id) => {
            let task = task(deps, principal, *id).await?.ok_or_else(missing)?;
            content.insert(String::from("task"), view(&task)?);
        }
        Noun::Members => {
            let members = members(deps, principal);
            content.insert(String::from("members"), members.into());
        }
        Noun::Member(name) => {
            let members = members(deps, principal);
            let found = members.into_iter().find(|member| member["name"] == name.as_str());
            content.insert(String::from("member"), found.ok_or_else(missing)?);
        }
    }
    let cursor = match history(deps, principal, &parsed).await? {
        Some(page) => {
            let cursor = page.cursor;
            append(&mut content, page);
            cursor
        }
        None => head,
    };
    content.insert(String::from("cursor"), cursor.to_string().into());
    Ok(content.into())
}

/// The events to show with it, if any.
async fn history(deps: &Deps, principal: &Principal, uri: &Uri) -> Result<Option<Page>, Failure> {
    let filter = uri.noun.filter(principal);
    let place = match Start::parse(uri.since.as_deref())? {
        Start::Now => None,
        start => Some(deps.bus.place(start)?),
    };
    match place {
        Some(place) => page::after(&deps.bus, place, &filter, MOST_EVENTS).await.map(Some),
        None if uri.noun == Noun::Events => {
            page::newest(&deps.bus, &filter, MOST_EVENTS).await.map(Some)
        }
        None => Ok(None),
    }
}

fn append(content: &mut Map<String, Value>, page: Page) {
    content.insert(String::from("events"), Vec::from(page.events).into());
    content.insert(String::from("more"), page.more.into());
    if let Some((from, to, reason)) = page.gap {
        let gap = json!({ "from": from, "to": to, "reason": reason });
        content.insert(String::from("gap"), gap);
    }
}

async fn task(deps: &Deps, principal: &Principal, id: TaskId) -> Result<Option<TaskView>, Failure> {
    match deps.fleet.task(principal, id).await {
        Ok(task) => Ok(Some(TaskView::from(&task))),
        Err(FleetError::NoTask(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// How busy a member is, and whether it has just now fallen silent, is not told
/// here: it changes without an event, and a watched resource must not change unseen.
fn members(deps: &Deps, principal: &Principal) -> Vec<Value> {
    let handles = deps.fleet.roster().list(principal);
    let view = |member: Arc<Member>| {
        json!({
            "member_id": member.id,
            "name": member.name,
            "type": member.place.as_str(),
            "state": if member.reachable.online { "online" } else { "offline" },
            "since": member.reachable.since.to_string(),
            "reason": member.reachable.reason,
            "host": member.remote().map(|remote| &remote.host),
            "os": member.facts.os,
            "work_folder": member.work_folder,
            "llm_provider": member.provider,
            "category": member.category,
            "tags": member.tags,
        })
    };
    handles.iter().map(|handle| view(handle.member())).collect()
}

fn view(task: &TaskView) -> Result<Value, Failure> {
    serde_json::to_value(task).map_err(Failure::Encode)
}

fn views(tasks: impl Iterator<Item = TaskView>) -> Result<Value, Failure> {
    serde_json::to_value(tasks.collect::<Vec<_>>()).map_err(Failure::Encode)
}
