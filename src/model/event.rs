//! An immutable fact, before it has a position, and a passing signal.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{Project, Timestamp, Topic, TopicError};

/// The most bytes one encoded event may have (events.md): 256 KiB.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// How much an event asks for a person's attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    Debug,
    Info,
    Notice,
    Warning,
    Error,
}

/// Why an event cannot be taken.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    #[error(transparent)]
    Topic(#[from] TopicError),
    #[error("attribute '{attribute}' {problem}")]
    Attribute { attribute: String, problem: String },
    #[error("the event has {bytes} bytes; at most {MAX_EVENT_BYTES} are taken")]
    TooLarge { bytes: usize },
}

/// An event as a component or a publisher states it. The journal adds the
/// position; the daemon has set everything that says who speaks.
#[derive(Clone, Debug, PartialEq)]
pub struct NewEvent {
    /// UUIDv7, or the publisher's own id. The same id of the same publisher in the
    /// same project is stored once.
    pub id: String,
    pub topic: Topic,
    /// What it is about, such as `task/<id>`; see the topic table.
    pub subject: String,
    pub project: Project,
    pub severity: Severity,
    pub time: Timestamp,
    pub data: Value,
    /// The verified principal that published it; `None` for fleetd's own events.
    pub publisher: Option<String>,
    /// Further CloudEvents attributes of a published event, kept as given.
    pub extensions: Map<String, Value>,
}

/// Something that passes: no id, no position, never replayed, droppable.
#[derive(Clone, Debug)]
pub struct Signal {
    pub topic: Topic,
    pub subject: String,
    pub project: Project,
    pub severity: Severity,
    pub data: Value,
}

impl Severity {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Notice, Self::Warning, Self::Error]
            .into_iter()
            .find(|severity| severity.as_str() == text)
    }
}

impl NewEvent {
    /// One of fleetd's own events, now, with the severity of its topic.
    ///
    /// # Errors
    /// If `topic` does not stand in the topic table.
    pub fn own(
        topic: &str,
        subject: impl Into<String>,
        project: Project,
        data: Value,
    ) -> Result<Self, TopicError> {
        let severity = super::topic_spec(topic).map_or(Severity::Info, |spec| spec.severity);
        Ok(Self {
            id: Uuid::now_v7().to_string(),
            topic: Topic::known(topic)?,
            subject: subject.into(),
            project,
            severity,
            time: Timestamp::now(),
            data,
            publisher: None,
            extensions: Map::new(),
        })
    }
}
