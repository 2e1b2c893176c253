//! Watching named things: which of them an event touched.
//!
//! Derived from the journal like every push, so a reader that stalls costs
//! nothing: when it comes back, all it missed collapses into one notice for each
//! thing, and its cursor tells it the rest.

use std::time::Duration;

use tokio::time::timeout;

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
    exact: Option<Half>,
    broad: Option<Half>,
}

/// Things that one subscription tells of.
struct Half {
    bus: Bus,
    filter: Filter,
    subscription: Subscription,
    things: Vec<(String, Topic)>,
    /// Which of them were touched and are still to be told.
    touched: Vec<bool>,
    /// Told when the reader has come this far: what is there already is one notice.
    until: u64,
    /// Up to here everything was told.
    told: Cursor,
}

/// Pause after which it is looked whether nothing more is there.
const LOOK: Duration = Duration::from_millis(50);

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
        let (exact, broad): (Vec<_>, Vec<_>) =
            things.into_iter().partition(|(_, topic)| subject(topic).is_some());
        let all = Filter::default().within(principal);
        let subjects = exact.iter().filter_map(|(_, topic)| subject(topic)).collect();
        let by_subject = Filter { subjects, ..all.clone() };
        Ok(Self {
            exact: Half::new(bus, by_subject, exact, start)?,
            broad: Half::new(bus, all, broad, start)?,
        })
    }

    /// Up to where everything was told; `None` if nothing is watched.
    pub fn place(&mut self) -> Option<Cursor> {
        let exact = self.exact.as_mut().map(Half::place);
        let broad = self.broad.as_mut().map(Half::place);
        match (exact, broad) {
            (Some(one), Some(other)) => Some(if one.seq < other.seq { one } else { other }),
            (one, other) => one.or(other),
        }
    }

    /// The names of what was touched next, each once, however much touched it
    /// meanwhile. Waits for ever if nothing is watched. Safe to cancel.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn next(&mut self) -> Result<Vec<String>, BusError> {
        tokio::select! {
            touched = next_of(&mut self.exact) => touched,
            touched = next_of(&mut self.broad) => touched,
        }
    }
}

impl Half {
    /// `None` if there is nothing to watch.
    fn new(
        bus: &Bus,
        filter: Filter,
        things: Vec<(String, Topic)>,
        start: Start,
    ) -> Result<Option<Self>, BusError> {
        if things.is_empty() {
            return Ok(None);
        }
        let mut subscription = bus.subscribe(filter.clone(), start, false)?;
        let (told, touched) = (subscription.cursor(), vec![false; things.len()]);
        let bus = bus.clone();
        Ok(Some(Self { bus, filter, subscription, things, touched, until: 0, told }))
    }

    fn place(&mut self) -> Cursor {
        if self.is_touched() { self.told } else { self.subscription.cursor() }
    }

    fn is_touched(&self) -> bool {
        self.touched.contains(&true)
    }

    async fn next(&mut self) -> Result<Vec<String>, BusError> {
        loop {
            if !self.is_touched() {
                let delivery = self.subscription.next().await?;
                self.until = self.bus.head().seq;
                self.note(&delivery);
            } else if self.is_there()? {
                return Ok(self.tell());
            } else if let Ok(delivery) = timeout(LOOK, self.subscription.next()).await {
                self.note(&delivery?);
            }
        }
    }

    fn note(&mut self, delivery: &Delivery) {
        for ((_, topic), touched) in self.things.iter().zip(&mut self.touched) {
            *touched |= match delivery {
                Delivery::Events(chunk) => chunk.events().any(|event| topic.admits(&event)),
                // What happened in a hole is not known: it may have touched anything.
                Delivery::Gap(_) => true,
                Delivery::Signals(_) => false,
            };
        }
    }

    /// Whether there is nothing more to find in what was there.
    fn is_there(&mut self) -> Result<bool, BusError> {
        if self.subscription.cursor().seq >= self.until {
            return Ok(true);
        }
        let all = !self.touched.contains(&false);
        if all {
            // Nothing between here and now can say more than will be told.
            self.subscription = self.bus.subscribe(self.filter.clone(), Start::Now, false)?;
        }
        Ok(all)
    }

    fn tell(&mut self) -> Vec<String> {
        self.told = self.subscription.cursor();
        let touched = self.touched.iter_mut().map(std::mem::take);
        let named = self.things.iter().zip(touched);
        named.filter(|(_, touched)| *touched).map(|((name, _), _)| name.clone()).collect()
    }
}

async fn next_of(half: &mut Option<Half>) -> Result<Vec<String>, BusError> {
    match half {
        Some(half) => half.next().await,
        None => std::future::pending().await,
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
