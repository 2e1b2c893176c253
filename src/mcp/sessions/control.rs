//! What a session's stream has to follow, and calls that can be cancelled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::mcp::resources::{MOST_WATCHED, Uri};
use crate::model::{Cursor, Severity};
use crate::wire::wake;

/// The least severe event that a session's stream carries (`logging/setLevel`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    From(Severity),
    /// critical, alert, emergency: nothing in a fleet is that severe.
    Nothing,
}

/// What a session's stream has to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Control {
    pub level: Level,
    /// Position of the newest event when the level was set.
    pub level_since: u64,
    /// URIs of the resources that are watched, and up to where they were told: at
    /// first the newest event when the first of them was watched.
    pub watched: Arc<Vec<String>>,
    pub watched_since: Option<Cursor>,
    /// How whoever speaks in the session can be woken (`wire::wake`).
    pub wake: Arc<BTreeMap<String, String>>,
    /// The number of the newest stream; older ones end.
    pub stream: u64,
    /// The session was ended.
    pub ended: bool,
}

/// A call that can be cancelled by name.
#[derive(Debug, Default)]
pub struct Cancel {
    /// Ends the call.
    pub token: CancellationToken,
    /// It was asked for by `notifications/cancelled`; a lost connection does not ask.
    asked: AtomicBool,
}

/// The part of it that outlives the daemon, as it is stored.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Settings {
    /// None is the default.
    level: Option<String>,
    watched: Vec<String>,
    watched_since: Option<Cursor>,
}

impl Level {
    /// A level by its syslog name (2025-11-25, logging).
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "critical" | "alert" | "emergency" => Some(Self::Nothing),
            _ => Severity::parse(name).map(Self::From),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::From(severity) => severity.as_str(),
            Self::Nothing => "emergency",
        }
    }
}

impl Default for Level {
    fn default() -> Self {
        Self::From(Severity::Info)
    }
}

impl Control {
    /// The client asked for something that it would miss if it were forgotten.
    pub fn is_asked_for(&self) -> bool {
        self.level != Level::default() || !self.watched.is_empty()
    }

    /// Something has to outlive the daemon.
    pub fn is_kept(&self) -> bool {
        self.is_asked_for() || !self.wake.is_empty()
    }

    /// What is stored of it, as JSON.
    pub fn settings(&self) -> String {
        let level = Some(self.level).filter(|level| *level != Level::default());
        let settings = Settings {
            level: level.map(|level| level.as_str().to_owned()),
            watched: self.watched.to_vec(),
            watched_since: self.watched_since,
        };
        // Texts and numbers always encode.
        serde_json::to_string(&settings).unwrap_or_default()
    }

    /// What was stored, as far as it can be understood. A resource that cannot
    /// be named any more is not watched.
    pub fn stored(settings: &str, mut wake: BTreeMap<String, String>) -> Self {
        let settings: Settings = serde_json::from_str(settings).unwrap_or_default();
        let mut watched = settings.watched;
        watched.retain(|uri| Uri::parse(uri).is_some());
        watched.truncate(MOST_WATCHED);
        wake.retain(|_, value| wake::is_address(value));
        Self {
            level: settings.level.and_then(|name| Level::parse(&name)).unwrap_or_default(),
            watched: Arc::new(watched),
            watched_since: settings.watched_since,
            wake: Arc::new(wake),
            ..Self::default()
        }
    }
}

impl Cancel {
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Release);
        self.token.cancel();
    }

    pub fn was_asked(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Epoch;

    #[test]
    fn what_is_stored_is_read_back_and_nonsense_is_nothing() {
        let control = Control {
            level: Level::Nothing,
            watched: Arc::new(vec![String::from("fleet://tasks")]),
            watched_since: Some(Cursor { epoch: Epoch(7), seq: 3 }),
            ..Control::default()
        };
        assert_eq!(Control::stored(&control.settings(), BTreeMap::new()), control);
        let bad = BTreeMap::from([(String::from("client"), String::from("a b"))]);
        assert_eq!(Control::stored("nonsense", bad.clone()), Control::default());
        let odd = r#"{"level":"loud","watched":["http://x"],"more":1}"#;
        assert_eq!(Control::stored(odd, bad), Control::default());
    }
}
