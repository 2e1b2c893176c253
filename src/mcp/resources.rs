//! Resources: what the fleet is, under names that can be watched.
//!
//! Every content holds the cursor it was read at, and with `?since=CURSOR` also
//! the events about it that followed. So a lost notification is harmless: who
//! reads again by its last cursor has missed nothing.

mod read;
mod watch;

use rmcp::model::{Resource, ResourceTemplate};

use super::tools::Deps;
use crate::fleet::FleetError;
use crate::model::{Filter, Pattern, Principal, TaskId};

pub use read::{ReadError, read};
pub use watch::{Topic, Watching};

/// Resources that one session, or one `subscriptions/listen`, watches at most.
pub const MOST_WATCHED: usize = 64;

const MIME: &str = "application/json";

/// A resource by its URI.
#[derive(Clone, Debug, PartialEq)]
pub struct Uri {
    pub noun: Noun,
    /// Show the events that followed this cursor, too.
    pub since: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Noun {
    Events,
    Tasks,
    Task(TaskId),
    Members,
    Member(String),
}

impl Uri {
    /// Reads `fleet://…`. `None` if nothing can have that name.
    pub fn parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix("fleet://").filter(|rest| rest.len() <= 256)?;
        let (path, since) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query.strip_prefix("since=")?)),
            None => (rest, None),
        };
        let noun = match path.split_once('/') {
            None => match path {
                "events" => Noun::Events,
                "tasks" => Noun::Tasks,
                "members" => Noun::Members,
                _ => return None,
            },
            Some(("tasks", id)) => Noun::Task(id.parse().ok()?),
            Some(("members", name)) if !name.is_empty() => Noun::Member(name.to_owned()),
            Some(_) => return None,
        };
        Some(Self { noun, since: since.map(str::to_owned) })
    }
}

impl Noun {
    /// The events that change it.
    pub fn topic(&self) -> Topic {
        match self {
            Self::Events => Topic::Any,
            Self::Tasks => Topic::Beginning("task."),
            Self::Members => Topic::Beginning("member."),
            Self::Task(id) => Topic::Subject(id.subject()),
            Self::Member(name) => Topic::Subject(format!("member/{name}")),
        }
    }

    /// The same as a filter, for reading them back.
    fn filter(&self, principal: &Principal) -> Filter {
        let pattern = |text: &str| text.parse::<Pattern>().into_iter().collect();
        let (types, subjects) = match self.topic() {
            Topic::Any => (Vec::new(), Vec::new()),
            Topic::Beginning(beginning) => (pattern(&format!("{beginning}>")), Vec::new()),
            Topic::Subject(subject) => (Vec::new(), vec![subject]),
        };
        Filter { types, subjects, ..Filter::default() }.within(principal)
    }
}

/// Whether there is such a resource for `principal`.
///
/// # Errors
/// If the store cannot be read.
pub async fn exists(deps: &Deps, principal: &Principal, uri: &str) -> Result<bool, FleetError> {
    let Some(uri) = Uri::parse(uri) else { return Ok(false) };
    Ok(match uri.noun {
        Noun::Events | Noun::Tasks | Noun::Members => true,
        Noun::Task(id) => match deps.fleet.task(principal, id).await {
            Ok(_) => true,
            Err(FleetError::NoTask(_)) => false,
            Err(error) => return Err(error),
        },
        Noun::Member(name) => {
            let members = deps.fleet.roster().list(principal);
            members.iter().any(|handle| handle.member().name.as_str() == name)
        }
    })
}

/// The resources that are always there. Those of single tasks and members have
/// templates: there are too many to list, and they come and go.
pub fn list() -> Vec<Resource> {
    let resource = |name: &str, title: &str, description: &str| {
        Resource::new(format!("fleet://{name}"), name)
            .with_title(title)
            .with_description(description)
            .with_mime_type(MIME)
    };
    vec![
        resource("events", "Events", "The newest events of the fleet, oldest first."),
        resource("tasks", "Tasks", "The newest tasks, running or ended."),
        resource("members", "Members", "The members of the fleet and whether they are online."),
    ]
}

pub fn templates() -> Vec<ResourceTemplate> {
    let template = |uri: &str, name: &str, title: &str, description: &str| {
        ResourceTemplate::new(uri, name)
            .with_title(title)
            .with_description(description)
            .with_mime_type(MIME)
    };
    vec![
        template(
            "fleet://events{?since}",
            "events-since",
            "Events since a cursor",
            "Events that followed the cursor of an earlier answer.",
        ),
        template(
            "fleet://tasks/{id}{?since}",
            "task",
            "A task",
            "State of one task; with since also its events that followed that cursor.",
        ),
        template(
            "fleet://members/{name}{?since}",
            "member",
            "A member",
            "State of one member; with since also its events that followed that cursor.",
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read() {
        let id = TaskId::random();
        let parse = |text: &str| Uri::parse(text).map(|uri| (uri.noun, uri.since));
        assert_eq!(parse("fleet://events"), Some((Noun::Events, None)));
        let since = Some(String::from("00000001:7"));
        assert_eq!(parse("fleet://tasks?since=00000001:7"), Some((Noun::Tasks, since)));
        assert_eq!(parse(&format!("fleet://tasks/{id}")), Some((Noun::Task(id), None)));
        let member = Noun::Member(String::from("local"));
        assert_eq!(parse("fleet://members/local"), Some((member, None)));
        for bad in [
            "",
            "events",
            "fleet://",
            "fleet://event",
            "fleet://tasks/",
            "fleet://tasks/1",
            "fleet://members/",
            "fleet://events?until=1",
            "Fleet://events",
            "http://events",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_changes_a_resource_is_what_is_read_back_with_it() {
        let filter = Noun::Tasks.filter(&Principal::owner());
        assert_eq!(filter.types[0].as_str(), "task.>");
        let one = Noun::Member(String::from("local")).filter(&Principal::owner());
        assert_eq!(one.subjects, ["member/local"]);
    }
}
