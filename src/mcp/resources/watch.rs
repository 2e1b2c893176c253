//! Watching named things: which of them an event touched.
//!
//! Derived from the journal like every push, so a reader that stalls costs
//! nothing: when it comes back, all it missed collapses into one notice for each
//! thing, and its cursor tells it the rest.

use crate::bus::{Bus, BusError, Delivery, EventView, Start, Subscription};
use crate::model::{Cursor, Filter, Principal};

/// Which events touch a thing.
#[derive(Clone, Debug, PartialEq)]
pub enum Topic {
    Any,
    /// Those whose topic begins so.
    Beginning(&'static str),
    Subject(String),
}

/// A set of named things and their place in the journal.
#[derive(Default)]
pub struct Watching {
    /// By subject, which the bus finds without looking at the others.
    exact: Option<Subscription>,
    broad: Option<Subscription>,
    things: Vec<(String, Topic)>,
}

impl Watching {
    /// Watches `things`, each a name and what touches it, from `start` on.
    ///
    /// # Errors
    /// [`BusError::Future`] if `start` lies after the newest event.
    pub fn new(
        bus: &Bus,
        principal: &Principal,
        things: Vec<(String, Topic)>,
        start: Start,
    ) -> Result<Self, BusError> {
        let subject = |topic: &Topic| match topic {
            Topic::Subject(subject) => Some(subject.clone()),
            Topic::Any | Topic::Beginning(_) => None,
        };
        let subjects: Vec<_> = things.iter().filter_map(|(_, topic)| subject(topic)).collect();
        let broad = things.len() > subjects.len();
        let all = Filter::default().within(principal);
        let exact = if subjects.is_empty() {
            None
        } else {
            let filter = Filter { subjects, ..all.clone() };
            Some(bus.subscribe(filter, start, false)?)
        };
        let broad = if broad { Some(bus.subscribe(all, start, false)?) } else { None };
        Ok(Self { exact, broad, things })
    }

    /// Up to where everything was told; `None` if nothing is watched.
    pub fn place(&mut self) -> Option<Cursor> {
        let exact = self.exact.as_mut().map(Subscription::cursor);
        let broad = self.broad.as_mut().map(Subscription::cursor);
        match (exact, broad) {
            (Some(one), Some(other)) => Some(if one.seq < other.seq { one } else { other }),
            (one, other) => one.or(other),
        }
    }

    /// The names of what was touched next, each once. Waits for ever if nothing
    /// is watched. Safe to cancel.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn next(&mut self) -> Result<Vec<String>, BusError> {
        loop {
            let (exactly, delivery) = tokio::select! {
                delivery = next_of(&mut self.exact) => (true, delivery?),
                delivery = next_of(&mut self.broad) => (false, delivery?),
            };
            let touched = self.touched(exactly, &delivery);
            if !touched.is_empty() {
                return Ok(touched);
            }
        }
    }

    fn touched(&self, exactly: bool, delivery: &Delivery) -> Vec<String> {
        let mine = self.things.iter().filter(|(_, topic)| {
            let by_subject = matches!(topic, Topic::Subject(_));
            by_subject == exactly
        });
        let touches = |topic: &Topic| match delivery {
            Delivery::Events(chunk) => chunk.events().any(|event| topic.admits(&event)),
            // What happened in a hole is not known: it may have touched anything.
            Delivery::Gap(_) => true,
            Delivery::Signals(_) => false,
        };
        mine.filter(|(_, topic)| touches(topic)).map(|(name, _)| name.clone()).collect()
    }
}

impl Topic {
    fn admits(&self, event: &EventView<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Beginning(beginning) => event.topic.starts_with(beginning),
            Self::Subject(subject) => event.subject == subject,
        }
    }
}

async fn next_of(subscription: &mut Option<Subscription>) -> Result<Delivery, BusError> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}
