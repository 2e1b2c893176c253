//! What the roster tells the world of a member.

use serde_json::{Map, Value, json};

use crate::model::{EventError, Member, NewEvent, Project};

/// An event about `member`. Of a member that is every project's, the default
/// project hears.
///
/// # Errors
/// If the event cannot be made.
fn about(topic: &str, member: &Member, more: Value) -> Result<NewEvent, EventError> {
    let mut data = Map::new();
    data.insert(String::from("member_id"), json!(member.id));
    data.insert(String::from("member"), json!(member.name));
    if let Value::Object(more) = more {
        data.extend(more);
    }
    let project = member.project.clone().unwrap_or_else(Project::default_project);
    Ok(NewEvent::own(topic, member.subject(), project, Value::Object(data))?)
}

pub fn registered(member: &Member) -> Result<NewEvent, EventError> {
    let more = json!({
        "type": member.place.as_str(),
        "host": member.remote().map(|remote| &remote.host),
        "os": member.facts.os,
        "work_folder": member.work_folder,
        "fingerprint": member.facts.fingerprint,
    });
    about("member.registered", member, more)
}

pub fn updated(old: &Member, new: &Member, changed: &[&str]) -> Result<NewEvent, EventError> {
    let previous = (old.name != new.name).then_some(&old.name);
    about("member.updated", new, json!({ "changed": changed, "previous_name": previous }))
}

pub fn removed(member: &Member) -> Result<NewEvent, EventError> {
    about("member.removed", member, Value::Null)
}

pub fn online(old: &Member, new: &Member) -> Result<NewEvent, EventError> {
    let offline = new.reachable.since.millis_since(old.reachable.since);
    let more = json!({ "since": new.reachable.since, "offline_ms": offline });
    about("member.online", new, more)
}

pub fn offline(new: &Member, cause: &str) -> Result<NewEvent, EventError> {
    let more = json!({
        "since": new.reachable.since,
        "cause": cause,
        "reason": new.reachable.reason,
    });
    about("member.offline", new, more)
}

pub fn rebooted(member: &Member) -> Result<NewEvent, EventError> {
    about("member.rebooted", member, Value::Null)
}

pub fn hostkey_changed(
    member: &Member,
    known: &str,
    offered: &str,
) -> Result<NewEvent, EventError> {
    about("member.hostkey_changed", member, json!({ "known": known, "offered": offered }))
}
