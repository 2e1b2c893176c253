//! `events --follow`: the stream, printed as it comes, for as long as it may take.

use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use super::event::{Events, tell_gap};
use super::place::Place;
use super::{Cx, Outcome, exit, show};
use crate::client::{EventQuery, EventStream, Incoming};
use crate::model::Cursor;
use crate::wire::SseFrame;
use crate::wire::tools::GapView;

/// How often a named place is moved on while events come. Whoever kills us
/// without a signal we hear is shown the last second again.
const KEEP_EVERY: Duration = Duration::from_secs(1);

pub async fn follow(asked: &Events, cx: &Cx) -> Outcome {
    let mut place = Place::new(&cx.client, asked.name.as_deref());
    let query = EventQuery {
        types: asked.types.clone(),
        subject: asked.subject.clone(),
        severity: None,
        since: Some(asked.start(cx, &mut place).await?),
        signals: true,
    };
    let stream = cx.client.events(query).await?;
    let mut follower = Follower { asked, cx, stream, printed: None };
    if asked.name.is_none() {
        // Nothing to keep: signals may end us on the spot.
        loop {
            let next = follower.stream.next().await?;
            follower.show(next)?;
        }
    }
    let outcome = follower.until_told(&mut place).await;
    follower.keep(&mut place).await?;
    outcome
}

struct Follower<'a> {
    asked: &'a Events,
    cx: &'a Cx,
    stream: EventStream,
    /// The last position that was printed.
    printed: Option<Cursor>,
}

impl Follower<'_> {
    /// Follows until a signal ends us or the reader has gone, moving the place on.
    async fn until_told(&mut self, place: &mut Place) -> Outcome {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hangup = listen(SignalKind::hangup())?;
        let mut tick = tokio::time::interval(KEEP_EVERY);
        loop {
            tokio::select! {
                next = self.stream.next() => self.show(next?)?,
                // A daemon that is away gets it a second later.
                _ = tick.tick() => drop(self.keep(place).await),
                _ = interrupt.recv() => return Ok(exit::of_signal(nix::libc::SIGINT)),
                _ = terminate.recv() => return Ok(exit::of_signal(nix::libc::SIGTERM)),
                _ = hangup.recv() => return Ok(exit::of_signal(nix::libc::SIGHUP)),
            }
        }
    }

    fn show(&mut self, next: Incoming) -> anyhow::Result<()> {
        let out = &self.cx.out;
        match next {
            Incoming::Lost(error) => {
                out.note(&format!("{error}; going on when it is there again"));
            }
            Incoming::Frame(SseFrame { id, event, data: Some(data) }) => {
                if event == "gap" {
                    if let Ok(gap) = serde_json::from_str::<GapView>(&data) {
                        tell_gap(self.cx, &gap);
                    }
                } else if self.asked.json {
                    out.json_line(&data)?;
                } else if let Ok(event) = serde_json::from_str(&data) {
                    out.print(&show::event(&event, id.as_deref(), out))?;
                }
                self.printed = id.and_then(|id| id.parse().ok()).or(self.printed);
            }
            Incoming::Frame(_) => {}
        }
        Ok(())
    }

    async fn keep(&mut self, place: &mut Place) -> anyhow::Result<()> {
        if let Some(printed) = self.printed {
            place.keep(printed).await?;
        }
        Ok(())
    }
}
