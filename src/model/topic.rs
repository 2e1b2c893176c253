//! The one table of what fleetd tells the world.

mod table;

use std::fmt;
use std::sync::Arc;

pub use table::{TOPICS, TopicSpec};

/// A dotted event type, such as `task.completed`: at most 128 characters,
/// 2 to 8 segments of `a-z 0-9 _`, each beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Topic(Arc<str>);

/// Why a text is not a topic.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    #[error("'{0}' is not a topic; write dotted words of a-z 0-9 _, like custom.deploy_done")]
    Malformed(String),
    #[error(
        "topic '{topic}' is not one that clients may publish; use custom.{topic} or another name under custom."
    )]
    Reserved { topic: String },
}

/// The row of `name`, if fleetd produces that topic.
pub fn topic_spec(name: &str) -> Option<&'static TopicSpec> {
    TOPICS.iter().find(|spec| spec.name == name)
}

impl Topic {
    /// A topic that a component publishes; it has to stand in [`TOPICS`].
    pub fn known(name: &str) -> Result<Self, TopicError> {
        match topic_spec(name) {
            Some(spec) => Ok(Self(Arc::from(spec.name))),
            None => Err(TopicError::Malformed(short(name))),
        }
    }

    /// A topic from outside: well formed and under `custom.`.
    pub fn custom(name: &str) -> Result<Self, TopicError> {
        let topic = Self::parse(name)?;
        if name.starts_with("custom.") {
            Ok(topic)
        } else {
            Err(TopicError::Reserved { topic: short(name) })
        }
    }

    /// Checks the form only.
    pub fn parse(name: &str) -> Result<Self, TopicError> {
        let segment = |s: &str| {
            s.starts_with(|c: char| c.is_ascii_lowercase())
                && s.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        };
        let segments = name.split('.').count();
        if name.len() <= 128 && (2..=8).contains(&segments) && name.split('.').all(segment) {
            Ok(Self(Arc::from(name)))
        } else {
            Err(TopicError::Malformed(short(name)))
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn short(text: &str) -> String {
    text.chars().take(128).collect()
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_well_formed_and_stands_once() {
        for (at, spec) in TOPICS.iter().enumerate() {
            assert!(Topic::parse(spec.name).is_ok(), "{}", spec.name);
            assert!(TOPICS[..at].iter().all(|other| other.name != spec.name), "{}", spec.name);
        }
    }

    #[test]
    fn only_custom_topics_come_from_outside() {
        assert!(Topic::custom("custom.deploy_done").is_ok());
        assert!(matches!(Topic::custom("task.completed"), Err(TopicError::Reserved { .. })));
        for bad in
            ["custom", "custom.", "custom..a", "custom.A", "custom.a\nb", "custom.é", "custom.1"]
        {
            assert!(Topic::custom(bad).is_err(), "{bad} must be refused");
        }
    }
}
