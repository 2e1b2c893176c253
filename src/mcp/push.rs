//! The session's own stream: fleet events, pushed from the journal.
//!
//! A stream is a subscription and a place; it owns no queue and no task. While
//! its reader stalls, nothing is made for it, and it goes on from its place.
//!
//! One event reaches exactly one stream of a session: the newest. An older one
//! ends when a newer opens, since a client that reconnects often leaves a dead
//! connection behind, and two live ones would have to share.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::frames::{self, Form};
use super::resources::{Uri, Watching};
use super::revision::Revision;
use super::session::Nonce;
use super::sessions::{Control, Level, Sessions};
use super::shares::Share;
use crate::bus::{Bus, BusError, Delivery, Gap, Start, Subscription};
use crate::model::{Cursor, Filter, Principal, Severity};

/// Silence after which a comment shows that the stream lives. It is promised
/// within 15 s, on a busy machine too.
pub const KEEP_ALIVE: Duration = Duration::from_secs(14);

/// Where a stream reads from and whom it obeys.
pub struct Push {
    pub bus: Bus,
    pub principal: Arc<Principal>,
    pub revision: Revision,
    pub sessions: Arc<Sessions>,
    pub session: Nonce,
    /// The stream's number in its session, and what the session says.
    pub number: u64,
    pub control: watch::Receiver<Control>,
    pub closing: CancellationToken,
    pub form: Form,
    /// What its reader wants to hear of.
    pub filter: Filter,
    /// Counts the stream while it is open.
    pub _permit: Share,
}

struct Running {
    push: Push,
    subscription: Subscription,
    level: Level,
    watching: Watching,
    /// What `watching` was made from.
    watched: Arc<Vec<String>>,
    /// The reader is being told what was touched; it has it when it asks for more.
    telling: bool,
    keep_alive: Interval,
    /// The last place that the reader was told.
    told: Cursor,
    /// Nothing was delivered yet of what followed the reader's own place.
    resuming: bool,
    first: Option<Bytes>,
}

enum Turn {
    Deliver(Delivery),
    /// These resources were changed.
    Updated(Vec<String>),
    KeepAlive,
    Obey,
    End,
}

impl Push {
    /// Opens the stream after `last`, or with what happens from now on.
    ///
    /// # Errors
    /// [`BusError::Future`] if `last` lies after the newest event.
    pub fn open(
        self,
        last: Option<Cursor>,
    ) -> Result<impl Stream<Item = Bytes> + Send + 'static, BusError> {
        // Only looked at: a change since the stream got its number is still obeyed.
        let control = self.control.borrow().clone();
        let level = control.level;
        let start = last.map_or(Start::Now, Start::After);
        let mut subscription = self.subscribe(level, start)?;
        let place = last.or(control.watched_since).unwrap_or_else(|| self.bus.head());
        let watching = self.watch(&control.watched, place)?;
        // A resumed reader knows its place; it may even lie in another epoch.
        let told = last.unwrap_or_else(|| subscription.cursor());
        let mut first = Vec::from(frames::OPEN);
        if last.is_none() && self.has_bookmarks() {
            frames::push_priming(&mut first, told, self.number);
        }
        let mut keep_alive = tokio::time::interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let first = Some(Bytes::from(first));
        let resuming = last.is_some();
        let running = Running {
            push: self,
            subscription,
            level,
            watching,
            watched: control.watched,
            telling: false,
            keep_alive,
            told,
            resuming,
            first,
        };
        Ok(stream::unfold(running, |mut running| async move {
            let bytes = running.next().await?;
            Some((bytes, running))
        }))
    }

    /// Before 2025-11-25 clients take an id with empty data for a message.
    fn has_bookmarks(&self) -> bool {
        self.form == Form::Resumable && self.revision >= Revision::V2025_11_25
    }

    fn subscribe(&self, level: Level, start: Start) -> Result<Subscription, BusError> {
        let severity = match level {
            Level::From(severity) => severity,
            Level::Nothing => Severity::Error,
        };
        let filter = Filter { severity: Some(severity), ..self.filter.clone() };
        self.bus.subscribe(filter.within(&self.principal), start, severity == Severity::Debug)
    }

    fn watch(&self, uris: &[String], place: Cursor) -> Result<Watching, BusError> {
        let things =
            uris.iter().filter_map(|uri| Some((uri.clone(), Uri::parse(uri)?.noun.topic())));
        Watching::new(&self.bus, &self.principal, things.collect(), Start::After(place))
    }
}

impl Running {
    /// The next bytes; `None` when the stream is over.
    async fn next(&mut self) -> Option<Bytes> {
        if let Some(first) = self.first.take().filter(|first| !first.is_empty()) {
            return Some(first);
        }
        if std::mem::take(&mut self.telling)
            && let Some(place) = self.watching.place()
        {
            self.push.sessions.told(&self.push.session, self.push.number, place);
        }
        loop {
            let turn = tokio::select! {
                biased;
                () = self.push.closing.cancelled() => Turn::End,
                changed = self.push.control.changed() => match changed {
                    Ok(()) => Turn::Obey,
                    Err(_) => Turn::End,
                },
                delivery = self.subscription.next() => delivery.map_or_else(
                    |error| {
                        tracing::warn!(%error, "a session's stream ends; its reader can resume");
                        Turn::End
                    },
                    Turn::Deliver,
                ),
                updated = self.watching.next() => updated.map_or(Turn::End, Turn::Updated),
                _ = self.keep_alive.tick() => Turn::KeepAlive,
            };
            let bytes = match turn {
                Turn::End => return None,
                Turn::Obey => {
                    self.obey()?;
                    continue;
                }
                Turn::KeepAlive => self.keep_alive(),
                Turn::Updated(uris) => {
                    self.telling = true;
                    let mut out = Vec::new();
                    for uri in uris {
                        frames::push_message(&mut out, &frames::updated(&uri));
                    }
                    out
                }
                Turn::Deliver(delivery) => self.encode(&delivery),
            };
            if !bytes.is_empty() {
                self.keep_alive.reset();
                return Some(bytes.into());
            }
        }
    }

    /// Follows the session: `None` if this stream is over.
    fn obey(&mut self) -> Option<()> {
        let control = self.push.control.borrow_and_update().clone();
        if control.ended || control.stream != self.push.number {
            return None;
        }
        if control.level != self.level {
            let start = Start::After(self.place_of_change(control.level_since));
            self.subscription = self.push.subscribe(control.level, start).ok()?;
            self.level = control.level;
        }
        if control.watched != self.watched {
            // What is added is watched from here on; what was there goes on.
            let since = || control.watched_since.unwrap_or_else(|| self.push.bus.head());
            let place = self.watching.place().unwrap_or_else(since);
            self.watching = self.push.watch(&control.watched, place).ok()?;
            self.watched = control.watched;
        }
        Some(())
    }

    /// Where the new level begins: where the head was when it was set, even if
    /// that is noticed late, but never before what was delivered.
    fn place_of_change(&mut self, since: u64) -> Cursor {
        if self.resuming {
            // A gap may be still to tell; the same place leads to it again.
            return self.told;
        }
        let at = self.subscription.cursor();
        Cursor { seq: at.seq.min(since).max(self.told.seq), ..at }
    }

    fn keep_alive(&mut self) -> Vec<u8> {
        let mut out = Vec::from(frames::KEEP_ALIVE);
        let at = self.subscription.cursor();
        if at != self.told && self.push.has_bookmarks() {
            frames::push_bookmark(&mut out, at);
            self.told = at;
            self.resuming = false;
        }
        out
    }

    fn encode(&mut self, delivery: &Delivery) -> Vec<u8> {
        let (mut out, form) = (Vec::new(), self.push.form);
        self.resuming &= matches!(delivery, Delivery::Signals(_));
        match delivery {
            Delivery::Events(chunk) => {
                for event in chunk.events() {
                    self.told = event.cursor;
                    if self.level != Level::Nothing {
                        let (level, topic) = (event.severity, event.topic);
                        frames::push_log(&mut out, form, event.cursor, level, topic, &event.body);
                    }
                }
            }
            Delivery::Gap(gap) => self.push_gap(&mut out, gap),
            Delivery::Signals(signals) => {
                for signal in signals {
                    let (topic, body) = (signal.topic(), signal.body());
                    frames::push_signal(&mut out, Severity::Debug, topic, &body);
                }
            }
        }
        out
    }

    /// A hole is told like an event, whatever the level: silence would be a lie.
    fn push_gap(&mut self, out: &mut Vec<u8>, gap: &Gap) {
        let body = serde_json::json!({
            "from": gap.from,
            "to": gap.to,
            "reason": gap.reason,
            "meaning": "events between these cursors are no longer held",
        });
        let body = body.to_string();
        frames::push_log(out, self.push.form, gap.to, Severity::Warning, "gap", body.as_bytes());
        self.told = gap.to;
    }
}
